"""What the inputs of a hosted model take, what a request gives for them, and the batch that comes of it.

A picture travels as a file (``BYTES``, any format that Pillow reads) or as pixels (``UINT8 [n, H, W, 3]``). What an
input of the form ``any`` holds is told by the tensor's parameter ``aidb_form`` or ``aidb_type``, else by its datatype:
``UINT8`` of four dimensions are pictures, ``BYTES`` is text, numbers are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from aidb.errors import ProgrammingError, UnknownName
from aidb.protocol.columns import FORM, TYPE, VALID, from_tensor, natural_type, wire_type
from aidb.protocol.tensors import Malformed, Tensor
from aidb.spi import ModelSpec, Values, arrow_type

Kind = Literal["file", "pixels", "bytes", "text", "column"]
_FORMS = ("any", "image", "encoded", "text", "audio", "value")
Decoder = Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class Argument:
    """One input: its name, its form (see `aidb.spi.Input`) and, of a plain column, its DuckDB type if it has one."""

    name: str
    form: str
    type: str | None = None

    def describe(self) -> dict[str, Any]:
        """Its entry in the model's metadata."""
        parameters: dict[str, Any] = {FORM: self.form}
        datatype, shape = "BYTES", [-1]
        if self.form == "value":
            datatype = "FP64"
            if self.type is not None:
                datatype, shape = wire_type(arrow_type(self.type))
                parameters[TYPE] = self.type
        return {"name": self.name, "datatype": datatype, "shape": shape, "parameters": parameters}


@dataclass(frozen=True)
class Given:
    """What a request gives for one input. kind: how the tensor is to be read; type: of a column."""

    kind: Kind
    type: str | None
    tensor: Tensor
    valid: Tensor | None = None

    @property
    def sort(self) -> tuple[str, str | None]:
        """Requests whose inputs are of the same sorts can share a batch."""
        return ("image" if self.kind in ("file", "pixels") else self.kind), self.type


def arguments_of(name: str, spec: ModelSpec, pinned: Mapping[str, str]) -> tuple[tuple[Argument, ...], bool]:
    """The inputs of a model, those that it leaves open settled by ``pinned``; and whether any number of others may follow."""
    found = []
    rest = dict(pinned)
    for given in spec.inputs:
        what = rest.pop(given.name, None)
        if what is None:
            found.append(Argument(given.name, given.form, given.type))
        elif given.form != "any" and (given.form != "value" or given.type is not None):
            raise ProgrammingError(f"model {name}: the input {given.name} is {given.type or given.form}, not {what}")
        else:
            found.append(_pinned(name, given.name, what))
    if rest and not spec.variadic:
        raise UnknownName.of(f"input of model {name}", next(iter(rest)), [i.name for i in spec.inputs])
    return (*found, *(_pinned(name, n, w) for n, w in rest.items())), spec.variadic and not rest


def match(arguments: Sequence[Argument], variadic: bool, tensors: Sequence[Tensor]) -> tuple[list[Given], int]:
    """A request's tensors in the order of the inputs, and the number of items. Raises `Malformed`."""
    by_name = {t.name: t for t in tensors}
    order = list(arguments)
    known = {a.name for a in arguments}
    for tensor in tensors:
        if tensor.name not in known and not tensor.name.startswith(VALID):
            if not variadic:
                raise Malformed(
                    f"there is no input {tensor.name!r}; the inputs are {', '.join(a.name for a in arguments)}"
                )
            order.append(Argument(tensor.name, "any"))
    found = []
    for argument in order:
        if argument.name not in by_name:
            raise Malformed(f"the input {argument.name!r} is missing")
        found.append(_given(argument, by_name[argument.name], by_name.get(VALID + argument.name)))
    stray = [n for n in by_name if n.startswith(VALID) and n.removeprefix(VALID) not in {a.name for a in order}]
    if stray:
        raise Malformed(f"{stray[0]!r} belongs to no input")
    counts = {g.tensor.name: g.tensor.shape[0] for g in found}
    if len(set(counts.values())) != 1:
        raise Malformed(f"the first dimension is the number of items, and must be the same everywhere: {counts}")
    n = next(iter(counts.values()))
    if not n:
        raise Malformed("there are no items")
    return found, n


class TooLarge(Exception):
    """A request's pictures have more pixels together than are decoded at a time; in smaller parts it would do."""


def read(given: Given, decode: Decoder) -> tuple[Values | None, dict[int, str]]:
    """One input of a request, decoded; if items of it can't be, None and why, by place.

    Raises `Malformed`, and `TooLarge` as ``decode`` does.
    """
    data = given.tensor.data
    if given.kind == "column":
        return from_tensor(given.tensor, given.valid, given.type or "VARCHAR"), {}
    if given.kind == "pixels":
        return list(np.asarray(data)), {}
    assert isinstance(data, list)
    if given.kind == "bytes":
        return data, {}
    found: list[Any] = []
    wrong: dict[int, str] = {}
    for i, value in enumerate(data):
        try:
            found.append(value.decode("utf-8") if given.kind == "text" else decode(value))
        except TooLarge:
            raise
        except Exception as e:
            # Damaged files make decoders raise anything; it is this item's fault alone.
            wrong[i] = f"{given.tensor.name}: {e or type(e).__name__}"
    return (None, wrong) if wrong else (found, {})


def join(parts: Sequence[Sequence[Values]]) -> list[Values]:
    """Inputs of several requests as those of one batch."""
    if len(parts) == 1:
        return list(parts[0])
    joined: list[Values] = []
    for column in zip(*parts, strict=True):
        if isinstance(column[0], list):
            joined.append([value for part in column for value in part])
        else:
            joined.append(pa.concat_arrays(column))
    return joined


def _pinned(model: str, name: str, what: str) -> Argument:
    if what in _FORMS:
        return Argument(name, what)
    try:
        wire_type(arrow_type(what))
    except ProgrammingError as e:
        raise ProgrammingError(f"model {model}, input {name}: {what!r} is no form ({', '.join(_FORMS)}): {e}") from None
    return Argument(name, "value", what)


def _given(argument: Argument, tensor: Tensor, valid: Tensor | None) -> Given:
    form, type_ = argument.form, argument.type
    if form in ("any", "value") and type_ is None:
        form, type_ = _told(form, tensor)
    kind: Kind = "column"
    if form == "image":
        pixels = tensor.datatype == "UINT8" and len(tensor.shape) == 4 and tensor.shape[3] == 3
        kind = "pixels" if pixels else "file"
        if not pixels and tensor.datatype != "BYTES":
            raise Malformed(
                f"the input {tensor.name!r} takes pictures: BYTES [n] with files, or UINT8 [n, height, width, 3]"
            )
        if pixels and 0 in tensor.shape:
            raise Malformed(f"the input {tensor.name!r}: a picture has no pixels")
    elif form in ("encoded", "audio"):
        kind = "bytes"
    elif form == "text":
        kind = "text"
    if kind not in ("column", "pixels"):
        if tensor.datatype != "BYTES" or len(tensor.data) != tensor.shape[0]:
            raise Malformed(
                f"the input {tensor.name!r} takes BYTES with one element an item, not {tensor.datatype} {list(tensor.shape)}"
            )
        if valid is not None:
            raise Malformed(f"the input {tensor.name!r} is content, and can't be NULL")
    return Given(kind, type_ if kind == "column" else None, tensor, valid)


def _told(form: str, tensor: Tensor) -> tuple[str, str | None]:
    """Form and type of what an open input got."""
    said = tensor.parameters
    if TYPE in said:
        try:
            arrow_type(str(said[TYPE]))
        except ProgrammingError as e:
            raise Malformed(f"tensor {tensor.name!r}: {e}") from None
        return "value", str(said[TYPE])
    if form == "any" and FORM in said:
        if said[FORM] not in _FORMS[1:]:
            raise Malformed(f"tensor {tensor.name!r}: {FORM} is {said[FORM]!r}; there is {', '.join(_FORMS[1:])}")
        form = str(said[FORM])
    if form == "any" and tensor.datatype == "UINT8" and len(tensor.shape) == 4:
        return "image", None
    if form in ("any", "value"):
        return "value", natural_type(tensor.datatype, tensor.shape)
    return form, None
