"""Messages of the Open Inference Protocol v2: a JSON object, and tensors inside of it or in binary behind it.

In binary (the protocol's *binary tensor data* extension) a body begins with the JSON, whose length a header gives; the
tensors' bytes follow in the order in which the JSON names them: little-endian, row by row, and for ``BYTES`` each
element after its length in four bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The HTTP header with the length of the JSON part, in bytes, where binary tensors follow it."""
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""The protocol's names of numbers -> numpy's. Beside them there is ``BYTES``, for texts and files."""
_MAX_DIMENSIONS = 16


class Malformed(ValueError):
    """A message that breaks the protocol; says what and where."""


@dataclass(frozen=True)
class Tensor:
    """A named array as it travels.

    data: an array of ``shape`` for numbers; for ``BYTES`` a flat list of bytes. parameters: what else is said about it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: np.ndarray | list[bytes]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_numbers(cls, name: str, array: np.ndarray, parameters: Mapping[str, Any] | None = None) -> Tensor:
        """A tensor of an array of numbers or truth values."""
        datatype = datatype_of(array.dtype)
        return cls(name, datatype, array.shape, array.astype(DTYPES[datatype], copy=False), parameters or {})

    @classmethod
    def of_bytes(cls, name: str, values: Iterable[bytes], parameters: Mapping[str, Any] | None = None) -> Tensor:
        """A tensor ``BYTES [n]``."""
        listed = list(values)
        return cls(name, "BYTES", (len(listed),), listed, parameters or {})


def datatype_of(dtype: np.dtype) -> str:
    """The protocol's name of a numpy type; raises `Malformed` for one that has none."""
    for name, known in DTYPES.items():
        if known == dtype.newbyteorder("<"):
            return name
    raise Malformed(f"arrays of {dtype} can't travel: the protocol has no such type")


def read_message(body: bytes, header_length: str | None, what: str) -> tuple[dict[str, Any], list[Tensor]]:
    """The JSON object of a body, and the tensors of its list ``what`` (``inputs`` or ``outputs``).

    header_length: value of the header `HEADER_LENGTH`, if it was there. Raises `Malformed`.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdigit() or int(header_length) > len(body):
            raise Malformed(f"{HEADER_LENGTH} is {header_length!r}, and the body has {len(body)} bytes")
        length = int(header_length)
    try:
        message = json.loads(body[:length])
    except (ValueError, RecursionError) as e:
        raise Malformed(f"the message is not JSON: {e}") from None
    if not isinstance(message, dict) or not isinstance(message.get(what), list):
        raise Malformed(f'expected an object with a list "{what}"')
    binary = _Binary(memoryview(body)[length:])
    tensors = [_tensor(entry, what, binary) for entry in message[what]]
    if binary.left:
        raise Malformed(f"{binary.left} bytes of binary data are left over")
    if len({t.name for t in tensors}) < len(tensors):
        raise Malformed(f'two entries of "{what}" have one name')
    return message, tensors


def write_message(
    message: Mapping[str, Any], what: str, tensors: Sequence[Tensor], *, binary: bool | frozenset[str] = True
) -> tuple[bytes, int | None]:
    """A body with tensors as the list ``what``, and the value of `HEADER_LENGTH` (None: leave the header out).

    binary: all tensors, none, or those of these names.
    """
    entries, parts = [], []
    for tensor in tensors:
        entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        parameters = dict(tensor.parameters)
        if binary is True or (binary and tensor.name in binary):
            data = _to_binary(tensor)
            parameters["binary_data_size"] = sum(map(len, data))
            parts += data
        else:
            entry["data"] = _to_json(tensor)
        if parameters:
            entry["parameters"] = parameters
        entries.append(entry)
    head = json.dumps({**message, what: entries}, ensure_ascii=False, separators=(",", ":")).encode()
    return b"".join([head, *parts]), len(head) if parts or binary else None


class _Binary:
    """The bytes after the JSON, taken from the left."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: object, name: str) -> memoryview:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= self.left:
            raise Malformed(f"tensor {name!r}: binary_data_size is {size!r}, and {self.left} bytes are left")
        self._at += size
        return self._data[self._at - size : self._at]


def _tensor(entry: Any, what: str, binary: _Binary) -> Tensor:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Malformed(f'each of "{what}" must be an object with a name')
    name: str = entry["name"]
    datatype: Any = entry.get("datatype")
    shape: Any = entry.get("shape")
    if datatype != "BYTES" and datatype not in DTYPES:
        raise Malformed(f"tensor {name!r}: unknown datatype {datatype!r}; there is BYTES, {', '.join(DTYPES)}")
    whole = isinstance(shape, list) and all(isinstance(d, int) and not isinstance(d, bool) and d >= 0 for d in shape)
    if not whole or not 1 <= len(shape) <= _MAX_DIMENSIONS:
        raise Malformed(f"tensor {name!r}: shape must be a list of whole numbers, and is {shape!r}")
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Malformed(f"tensor {name!r}: parameters must be an object")
    count = math.prod(shape)
    if "binary_data_size" in parameters:
        raw = binary.take(parameters["binary_data_size"], name)
        data = _elements(raw, count, name) if datatype == "BYTES" else _numbers(raw, datatype, count, name)
        parameters = {k: v for k, v in parameters.items() if k != "binary_data_size"}
    elif "data" in entry:
        data = _from_json(entry["data"], datatype, count, name)
    else:
        raise Malformed(f"tensor {name!r} has neither data nor binary_data_size")
    return Tensor(name, datatype, tuple(shape), data if isinstance(data, list) else data.reshape(shape), parameters)


def _numbers(raw: memoryview, datatype: str, count: int, name: str) -> np.ndarray:
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise Malformed(
            f"tensor {name!r}: {count} elements of {datatype} take {count * dtype.itemsize} bytes, not {len(raw)}"
        )
    return np.frombuffer(raw, dtype)


def _elements(raw: memoryview, count: int, name: str) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at + 4 <= len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        at += 4
        if size > len(raw) - at:
            raise Malformed(f"tensor {name!r}: element {len(found)} claims {size} bytes, and {len(raw) - at} are left")
        found.append(bytes(raw[at : at + size]))
        at += size
    if at != len(raw) or len(found) != count:
        raise Malformed(f"tensor {name!r}: its shape asks for {count} elements, and the data has {len(found)}")
    return found


def _from_json(data: Any, datatype: str, count: int, name: str) -> np.ndarray | list[bytes]:
    flat: list[Any] = []
    if not isinstance(data, list):
        raise Malformed(f"tensor {name!r}: data must be a list")
    _flatten(data, flat, name)
    if len(flat) != count:
        raise Malformed(f"tensor {name!r}: its shape asks for {count} elements, and data has {len(flat)}")
    if datatype == "BYTES":
        if not all(isinstance(v, str) for v in flat):
            raise Malformed(f"tensor {name!r}: elements of BYTES must be texts (or be sent in binary)")
        return [v.encode("utf-8", "surrogatepass") for v in flat]
    kinds: tuple[type, ...] = (bool,) if datatype == "BOOL" else (int, float) if datatype.startswith("FP") else (int,)
    for i, value in enumerate(flat):
        if not isinstance(value, kinds) or (isinstance(value, bool) and datatype != "BOOL"):
            raise Malformed(f"tensor {name!r}: element {i} is {value!r}, no {datatype}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, DTYPES[datatype])
    except OverflowError:
        raise Malformed(f"tensor {name!r}: a value is too large for {datatype}") from None


def _flatten(data: list[Any], flat: list[Any], name: str) -> None:
    """Row by row: the protocol allows nested lists and flat ones."""
    if data and not isinstance(data[0], list):
        flat += data
        return
    for part in data:
        if not isinstance(part, list):
            raise Malformed(f"tensor {name!r}: data mixes lists and values")
        _flatten(part, flat, name)


def _to_binary(tensor: Tensor) -> list[bytes]:
    if isinstance(tensor.data, list):
        return [part for value in tensor.data for part in (len(value).to_bytes(4, "little"), value)]
    return [np.ascontiguousarray(tensor.data, DTYPES[tensor.datatype]).tobytes()]


def _to_json(tensor: Tensor) -> list[Any]:
    """A flat list. What JSON can't say (a file's bytes, NaN) goes as Python writes it: such things belong in binary."""
    if isinstance(tensor.data, list):
        return [value.decode("utf-8", "replace") for value in tensor.data]
    return tensor.data.ravel().tolist()
