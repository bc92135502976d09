"""Columns as tensors, and back: what the Open Inference Protocol doesn't know (NULL, dates, lists, pictures) put in its terms.

A column of n rows is a tensor whose first dimension is n. Numbers and truth values travel as such, an array of fixed
length (``FLOAT[384]``) as further dimensions, texts and bytes as ``BYTES``; dates, times and decimals as ``BYTES`` with
their text, lists and structs as ``BYTES`` with JSON. NULL: a second tensor `VALID` + name (``BOOL [n]``), which is there
only if the column has a NULL; in the column itself there is then 0, NaN or nothing.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from aidb.errors import ProgrammingError
from aidb.protocol.tensors import DTYPES, Malformed, Tensor, datatype_of
from aidb.spi.types import arrow_type, duckdb_type

VALID = "_valid."
"""What the name of a tensor begins with that says which rows of a column are not NULL."""
ROW = "_row"
"""Name of the tensor (``INT64``) that says which item, 0-based in the request, each output row belongs to."""
TYPE, FORM = "aidb_type", "aidb_form"
"""Parameters of a tensor, in metadata and in messages: the DuckDB type of the column; what an input takes or holds."""


def wire_type(type_: pa.DataType) -> tuple[str, list[int]]:
    """Datatype and shape, -1 for the rows, in which a column of this Arrow type travels; `ProgrammingError` if none.

    >>> wire_type(pa.list_(pa.float32(), 4))
    ('FP32', [-1, 4])
    """
    shape, inner = [-1], type_
    while pa.types.is_fixed_size_list(inner):
        shape.append(inner.list_size)
        inner = inner.value_type
    number = _number(inner)
    if number is not None:
        return datatype_of(number), shape
    _check_travels(type_)
    return "BYTES", [-1]


def to_tensors(name: str, column: pa.Array, parameters: dict[str, object] | None = None) -> list[Tensor]:
    """A column as a tensor, and a second one if it has NULLs."""
    found = Tensor(name, *_written(column), parameters or {})
    if not column.null_count:
        return [found]
    valid = np.asarray(column.is_valid())
    return [found, Tensor.of_numbers(VALID + name, valid)]


def from_tensor(tensor: Tensor, valid: Tensor | None, type_: str) -> pa.Array:
    """The column of this DuckDB type that a tensor carries; raises `Malformed`, naming the tensor."""
    target = arrow_type(type_)
    rows = tensor.shape[0]
    mask = None
    if valid is not None:
        if valid.datatype != "BOOL" or valid.shape != (rows,) or isinstance(valid.data, list):
            raise Malformed(f"tensor {valid.name!r} must be BOOL [{rows}]")
        mask = ~valid.data
    try:
        return _read(tensor, mask, target)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as e:
        if isinstance(e, Malformed):
            raise
        raise Malformed(f"tensor {tensor.name!r} can't be read as {type_}: {e}") from None


def natural_type(datatype: str, shape: Sequence[int]) -> str:
    """The DuckDB type of a column that another server declares in the protocol's terms; ``shape`` with its rows.

    >>> natural_type("FP32", [-1, 1000]), natural_type("BYTES", [-1]), natural_type("INT64", [-1, 1])
    ('FLOAT[1000]', 'VARCHAR', 'BIGINT')
    """
    if datatype == "BYTES":
        type_ = "VARCHAR"
    elif datatype in DTYPES:
        type_ = duckdb_type(pa.from_numpy_dtype(DTYPES[datatype]))
    elif datatype == "BF16":
        raise ProgrammingError("the datatype BF16 is not understood; let the server give FP32")
    else:
        raise ProgrammingError(f"unknown datatype {datatype!r}")
    inner = [d for d in shape[1:] if d != 1]
    for size in reversed(inner):
        type_ += f"[{size}]" if size > 0 else "[]"
    return type_


def _number(type_: pa.DataType) -> np.dtype | None:
    if pa.types.is_boolean(type_):
        return np.dtype(np.bool_)
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        number: np.dtype = np.dtype(type_.to_pandas_dtype())
        return number
    return None


def _check_travels(type_: pa.DataType) -> None:
    t = pa.types
    if t.is_string(type_) or t.is_binary(type_) or t.is_decimal(type_) or t.is_date(type_) or t.is_time(type_):
        return
    if t.is_timestamp(type_) or _is_json(type_):
        return
    raise ProgrammingError(f"a column of the type {duckdb_type(type_)} can't travel to another process")


def _is_json(type_: pa.DataType) -> bool:
    t = pa.types
    if t.is_list(type_) or t.is_fixed_size_list(type_):
        return _is_json(type_.value_type)
    if t.is_struct(type_):
        return all(_is_json(type_.field(i).type) for i in range(type_.num_fields))
    return bool(t.is_string(type_) or t.is_null(type_)) or _number(type_) is not None


def _written(column: pa.Array) -> tuple[str, tuple[int, ...], np.ndarray | list[bytes]]:
    datatype, shape = wire_type(column.type)
    n, t = len(column), pa.types
    if datatype != "BYTES":
        return datatype, (n, *shape[1:]), _array(column, (n, *shape[1:]))
    if t.is_binary(column.type):
        values = [v or b"" for v in column.to_pylist()]
    elif t.is_nested(column.type):
        values = [json.dumps(v, ensure_ascii=False).encode() for v in column.to_pylist()]
    else:
        texts = column if t.is_string(column.type) else column.cast(pa.string())
        values = [(v or "").encode("utf-8", "surrogatepass") for v in texts.to_pylist()]
    return datatype, (n,), values


def _array(column: pa.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers, 0 or NaN where there is NULL."""
    if column.null_count and pa.types.is_fixed_size_list(column.type):
        blank = np.zeros(shape[1:], _number(_innermost(column.type)))
        rows = [blank if v is None else v for v in column.to_pylist()]
        return np.array(rows, blank.dtype).reshape(shape)
    while pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    if pa.types.is_boolean(column.type):
        return np.asarray(column.fill_null(False)).astype(np.bool_).reshape(shape)
    if column.null_count:
        column = column.fill_null(float("nan") if pa.types.is_floating(column.type) else 0)
    return np.asarray(column).reshape(shape)


def _innermost(type_: pa.DataType) -> pa.DataType:
    while pa.types.is_fixed_size_list(type_):
        type_ = type_.value_type
    return type_


def _read(tensor: Tensor, mask: np.ndarray | None, target: pa.DataType) -> pa.Array:
    if isinstance(tensor.data, list):
        return _from_bytes(tensor, tensor.data, mask, target)
    rows, inner = tensor.shape[0], target
    sizes = []
    while pa.types.is_fixed_size_list(inner) or pa.types.is_list(inner):
        sizes.append(inner.list_size if pa.types.is_fixed_size_list(inner) else None)
        inner = inner.value_type
    data = tensor.data
    given = tuple(d for d in data.shape[1:] if d != 1) if len(data.shape) - 1 != len(sizes) else data.shape[1:]
    if len(given) != len(sizes) or any(s is not None and s != d for s, d in zip(sizes, given, strict=True)):
        raise Malformed(f"tensor {tensor.name!r} has the shape {list(tensor.shape)}, which is no column of {target}")
    if not sizes:
        found = pa.array(data.reshape(rows), mask=mask)
        return found if found.type == target else found.cast(target)
    found = pa.array(np.ascontiguousarray(data).reshape(-1))
    found = found if found.type == inner else found.cast(inner)
    for level in range(len(sizes) - 1, -1, -1):
        width, outer = given[level], level == 0
        type_ = target
        for _ in range(level):
            type_ = type_.value_type
        gone = pa.array(mask) if outer and mask is not None else None
        if sizes[level] is not None:
            found = pa.FixedSizeListArray.from_arrays(found, type=type_, mask=gone)
        else:
            count = rows * int(np.prod(given[:level], dtype=np.int64))
            offsets = np.arange(count + 1, dtype=np.int32) * width
            found = pa.ListArray.from_arrays(offsets, found, type=type_, mask=gone)
    return found


def _from_bytes(tensor: Tensor, data: list[bytes], mask: np.ndarray | None, target: pa.DataType) -> pa.Array:
    rows = tensor.shape[0]
    if len(data) != rows:
        if not pa.types.is_list(target) and not pa.types.is_fixed_size_list(target):
            raise Malformed(
                f"tensor {tensor.name!r} has the shape {list(tensor.shape)}; one element a row was expected"
            )
        width = len(data) // max(rows, 1)
        texts = [v.decode("utf-8", "replace") for v in data]
        return pa.array([texts[i * width : (i + 1) * width] for i in range(rows)], target)
    kept = data if mask is None else [None if gone else v for v, gone in zip(data, mask.tolist(), strict=True)]
    if pa.types.is_binary(target):
        return pa.array(kept, target)
    if pa.types.is_nested(target):
        return pa.array([None if v is None else json.loads(v) for v in kept], target)
    decoded = [None if v is None else v.decode("utf-8", "replace") for v in kept]
    if pa.types.is_time(target):  # Arrow has no such cast
        return pa.array([None if v is None else datetime.time.fromisoformat(v) for v in decoded], target)
    texts = pa.array(decoded, pa.string())
    return texts if pa.types.is_string(target) else texts.cast(target)
