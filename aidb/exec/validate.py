"""The one place where a model's answer is checked and given the types that were declared for it.

A model may answer with nearly anything that looks like columns (`aidb.spi.Columns`). Past this point there is an Arrow
table of exactly the declared columns, or a `ModelError` that names the model, the column and the first bad row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from aidb.errors import ModelError
from aidb.spi import Columns, ModelSpec, arrow_type

ROW = "_row"
"""Name of the column by which a ``rows="many"`` model says which item (0-based in the batch) a row belongs to."""


class _Misfit(Exception):
    """What is wrong with one column, without its name."""


def validate(model: str, spec: ModelSpec, columns: Columns, n: int) -> pa.Table:
    """The answer of ``model`` for a batch of ``n`` items as a table of ``spec.outputs``, in order, with their types.

    With ``rows="many"`` there is one more, last column: int64 ``_row``, ascending; the model's order of rows within an
    item is kept. Lists, numpy and torch arrays (2-D for list outputs), pandas and Arrow columns are accepted. Types
    widen and narrow only where no value changes its meaning: whole floats may become integers, text never becomes a
    number. NaN stays NaN in a floating column.

    Raises `ModelError` for a missing or extra column, a wrong length, a value that does not fit, a bad ``_row``.
    """
    many = spec.rows == "many"
    given = _named(model, columns)
    _check_names(model, spec, list(given), many)
    rows = _row_numbers(model, given[ROW], n) if many else None
    length = n if rows is None else len(rows)
    arrays = []
    for output in spec.outputs:
        try:
            array = column(given[output.name], output.type)
        except _Misfit as e:
            raise _error(model, output.name, f"is declared as {output.type}, but {e}") from e
        if len(array) != length:
            expected = f"{ROW} has {length}" if many else f"the batch has {n} item{'s' * (n != 1)}"
            raise _error(model, output.name, f"has {len(array)} value{'s' * (len(array) != 1)}, but {expected}")
        arrays.append(array)
    names = [o.name for o in spec.outputs]
    if rows is None:
        return pa.Table.from_arrays(arrays, names=names)
    table = pa.Table.from_arrays([*arrays, pa.array(rows)], names=[*names, ROW])
    if np.any(rows[1:] < rows[:-1]):
        table = table.take(pa.array(np.argsort(rows, kind="stable")))
    return table


def column(values: Any, type_: str) -> pa.Array:
    """One column of an answer as an Arrow array of this DuckDB type; see `validate` for what fits."""
    target = arrow_type(type_)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values if values.type == target else _cast(values, target)
    if type(values).__module__.split(".")[0] == "pandas":
        return _from_pandas(values, target)
    if hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_c_stream__"):  # polars and the like
        return _foreign(values, target)
    values = _as_numpy(values)
    if isinstance(values, np.ndarray):
        return _from_numpy(values, target)
    if isinstance(values, (str, bytes, bytearray, Mapping, set, frozenset)) or not isinstance(values, Iterable):
        raise _Misfit(f"the model gave one {type(values).__name__}, not a list or an array of values")
    return _from_list(list(values), target)


def _error(model: str, name: str, what: str) -> ModelError:
    return ModelError(f"model {model}: column {name!r} {what}", model=model)


def _named(model: str, columns: Columns) -> dict[str, Any]:
    """The columns by name, whatever carries them."""
    if isinstance(columns, Mapping):
        return dict(columns)
    if isinstance(columns, (pa.Table, pa.RecordBatch)):
        names: Sequence[str] = columns.schema.names
    elif hasattr(columns, "columns") and hasattr(columns, "__getitem__"):  # a pandas or polars DataFrame
        names = [str(c) for c in columns.columns]
    else:
        raise ModelError(
            f"model {model}: the answer is a {type(columns).__name__}; give a dict of columns, a RecordBatch or a Table",
            model=model,
        )
    for name in names:
        if names.count(name) > 1:
            raise _error(model, name, "comes twice")
    return {name: columns[name] for name in names}


def _check_names(model: str, spec: ModelSpec, given: list[str], many: bool) -> None:
    declared = [o.name for o in spec.outputs]
    if ROW in declared:
        raise _error(model, ROW, "can't be an output: the name is reserved for the number of the item")
    wanted = [*declared, ROW] if many else declared
    for name in wanted:
        if name not in given:
            why = ": it says which item (0-based in the batch) each row belongs to" if name == ROW else ""
            raise _error(model, name, f"is missing{why}; the answer has {_listed(given)}")
    for name in given:
        if name not in wanted:
            hint = ' (declare rows="many" to give it)' if name == ROW else ""
            raise _error(model, str(name), f"was not declared{hint}; the outputs are {_listed(declared)}")


def _listed(names: list[str]) -> str:
    return ", ".join(repr(n) for n in names) or "no columns"


def _row_numbers(model: str, values: Any, n: int) -> np.ndarray:
    try:
        array = column(values, "BIGINT")
        if pa.types.is_floating(getattr(values, "type", pa.null())) or (
            isinstance(values, np.ndarray) and values.size and values.dtype.kind not in "iu"
        ):
            raise _Misfit(f"the model gave {getattr(values, 'dtype', None) or values.type}")
    except _Misfit as e:
        raise _error(model, ROW, f"must hold integers, but {e}") from e
    if array.null_count:
        raise _error(model, ROW, f"is NULL at row {_first(np.asarray(array.is_null()))}")
    rows: np.ndarray = array.to_numpy(zero_copy_only=False)
    if rows.size and (int(rows.min()) < 0 or int(rows.max()) >= n):
        at = _first((rows < 0) | (rows >= n))
        raise _error(model, ROW, f"is {rows[at]} at row {at}, but the batch has items 0 to {n - 1}")
    return rows


def _first(mask: np.ndarray) -> int:
    return int(np.argmax(mask))


def _as_numpy(values: Any) -> Any:
    """Tensors (torch, jax, tensorflow) as numpy arrays; the rest unchanged."""
    if isinstance(values, (np.ndarray, list, tuple)):
        return values
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if not hasattr(values, "numpy"):
            return values
        try:
            return values.numpy()
        except TypeError:  # bfloat16 has no numpy counterpart
            return values.float().numpy()
    if hasattr(values, "__array__") and not isinstance(values, (str, bytes, np.generic)):
        return np.asarray(values)
    return values


def _from_pandas(values: Any, target: pa.DataType) -> pa.Array:
    """NaN is a value in a column of floats, and pandas' way to say NULL in every other one."""
    if isinstance(values.dtype, np.dtype) and values.dtype.kind == "f":
        return _from_numpy(values.to_numpy(), target)
    try:
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return _from_list(list(values), target)
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return found if found.type == target else _cast(found, target)


def _foreign(values: Any, target: pa.DataType) -> pa.Array:
    found = pa.chunked_array(values) if hasattr(values, "__arrow_c_stream__") else pa.array(values)
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return found if found.type == target else _cast(found, target)


def _from_numpy(values: np.ndarray, target: pa.DataType) -> pa.Array:
    if values.ndim == 0:
        raise _Misfit(f"the model gave one {values.dtype}, not an array of values")
    if values.dtype.kind == "O":
        return _from_list(values.tolist(), target)
    if values.ndim == 1:
        found = pa.array(values)
        return found if found.type == target else _cast(found, target)
    if not (pa.types.is_fixed_size_list(target) or pa.types.is_list(target)):
        raise _Misfit(f"the model gave an array of shape {values.shape}; one dimension was expected")
    n, width = values.shape[:2]
    if pa.types.is_fixed_size_list(target) and width != target.list_size:
        raise _Misfit(f"the model gave an array of shape {values.shape}: {width} values an item")
    inner = _from_numpy(np.ascontiguousarray(values).reshape(n * width, *values.shape[2:]), target.value_type)
    if pa.types.is_fixed_size_list(target):
        return pa.FixedSizeListArray.from_arrays(inner, type=target)
    return (
        pa.ListArray.from_arrays(
            np.arange(0, n * width + 1, max(width, 1), dtype=np.int32)[: n + 1], inner, type=target
        )
        if width
        else pa.array([[]] * n, target)
    )


def _from_list(values: list[Any], target: pa.DataType) -> pa.Array:
    loose = _is_loose(target)
    try:
        if not loose:
            return pa.array(values, type=target)
        return _cast(pa.array(values), target)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass  # the values may need unwrapping, or a cast that this conversion does not do
    except _Misfit:
        if not loose:
            raise
    plain = [_plain(v, target) for v in values]
    try:
        return _cast(pa.array(plain), target)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, _Misfit) as e:
        raise _Misfit(_first_misfit(plain, target, e)) from e


def _first_misfit(values: list[Any], target: pa.DataType, error: Exception) -> str:
    """Which value does not fit; found one at a time, only once the whole failed."""
    for i, value in enumerate(values):
        try:
            _cast(pa.array([value]), target)
        except (pa.ArrowException, TypeError, ValueError, OverflowError, _Misfit) as e:
            return f"row {i} is {_short(value)}" + (f": {e}" if isinstance(e, _Misfit) and "row" not in str(e) else "")
    return f"the values don't go together: {error}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: Any, target: pa.DataType) -> Any:
    """A Python value of what numpy, torch or a caller wrapped."""
    value = _as_numpy(value)
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist() if not isinstance(value, np.datetime64) else value.item()
    elif isinstance(value, (pa.Array, pa.ChunkedArray)):
        value = value.to_pylist()
    elif isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, (list, tuple)) and (pa.types.is_list(target) or pa.types.is_fixed_size_list(target)):
        return [_plain(v, target.value_type) for v in value]
    if pa.types.is_string(target) and type(value).__module__ == "uuid":
        return str(value)
    if pa.types.is_string(target) and isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)  # for a JSON output
    return value


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast without loss of meaning, or `_Misfit`."""
    if isinstance(array, pa.ExtensionArray):
        if array.type.extension_name == "arrow.uuid":
            array = pa.array([None if v is None else str(v) for v in array.to_pylist()], pa.string())
        else:
            array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type == target:
        return array
    if not _fits(array.type, target):
        raise _Misfit(f"the model gave {array.type}" + _example(array))
    import pyarrow.compute as pc  # a tenth of a second to load: only for those who need it

    source = array.type
    options = pc.CastOptions(
        target_type=target,
        # A large integer in a floating column is rounded as everywhere; into an integer column nothing is cut off.
        allow_float_truncate=bool(pa.types.is_integer(source) and pa.types.is_floating(target)),
        allow_time_truncate=bool(pa.types.is_timestamp(source) and pa.types.is_timestamp(target)),
    )
    try:
        return array.cast(options=options)
    except pa.ArrowException as e:
        raise _Misfit(f"the model gave {array.type} and {_bad_value(array, options) or e}") from e


def _example(array: pa.Array) -> str:
    valid = array.drop_null()
    return f" (such as {_short(valid[0].as_py())})" if len(valid) else ""


def _bad_value(array: pa.Array, options: Any) -> str:
    """The first value that the cast refuses, by halving."""
    low, high = 0, len(array)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            array.slice(low, middle - low).cast(options=options)
            low = middle
        except pa.ArrowException:
            high = middle
    return f"row {low} is {_short(array[low].as_py())}" if len(array) else ""


def _fits(source: pa.DataType, target: pa.DataType) -> bool:
    """May values of this Arrow type stand in a column of that one?"""
    t = pa.types
    if source == target or t.is_null(source):
        return True
    if t.is_boolean(target):
        return bool(t.is_boolean(source))
    if t.is_integer(target) or t.is_floating(target):
        return bool(t.is_integer(source) or t.is_floating(source) or t.is_decimal(source) or t.is_boolean(source))
    if t.is_decimal(target):
        return bool(t.is_integer(source) or t.is_floating(source) or t.is_decimal(source) or _is_text(source))
    if t.is_string(target):
        return _is_text(source)
    if t.is_binary(target):
        return bool(t.is_large_binary(source) or t.is_binary_view(source) or t.is_fixed_size_binary(source))
    if t.is_time(target):
        return bool(t.is_time(source) or _is_text(source))
    if t.is_date(target) or t.is_timestamp(target):
        return bool(t.is_date(source) or t.is_timestamp(source) or _is_text(source))
    if t.is_list(target) or t.is_fixed_size_list(target):
        listed = t.is_list(source) or t.is_large_list(source) or t.is_fixed_size_list(source)
        return bool(listed) and _fits(source.value_type, target.value_type)
    if t.is_struct(target) and t.is_struct(source):
        wanted = {target.field(i).name: target.field(i).type for i in range(target.num_fields)}
        found = (source.field(i) for i in range(source.num_fields))
        return all(f.name in wanted and _fits(f.type, wanted[f.name]) for f in found)
    if t.is_map(target) and t.is_map(source):
        return _fits(source.key_type, target.key_type) and _fits(source.item_type, target.item_type)
    return False


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _is_loose(type_: pa.DataType) -> bool:
    """Does Arrow's own conversion of Python values let too much pass: 1.5 into 1, 5 into a date, an unknown field?"""
    if pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_):
        return _is_loose(type_.value_type)
    return bool(pa.types.is_struct(type_) or pa.types.is_temporal(type_) or pa.types.is_integer(type_))
