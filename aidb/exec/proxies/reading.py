"""Values of expressions for some items of a table, as numpy arrays, by exact queries in the user's dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aidb.catalog.names import quoted
from aidb.errors import ProgrammingError
from aidb.storage.database import Database

Exact: TypeAlias = Callable[[str], pa.Table]
"""Answers a query in full, running the models that it needs."""
Floats: TypeAlias = npt.NDArray[np.float64]
Vectors: TypeAlias = npt.NDArray[np.float32]

VALUES = "__aidb_values"


class Place(NamedTuple):
    """Whose values are read. table: its name in SQL, alias: what the expressions call it; null_safe: keys may be NULL."""

    table: str
    keys: tuple[str, ...]
    null_safe: bool = False
    alias: str | None = None


def query(place: Place, expressions: Sequence[str], among: str) -> str:
    """The query behind `read`: keys ``__k0``.. and values ``__v0``.. of the items in the table of keys ``among``."""
    alias = quoted(place.alias or place.table)
    same = "IS NOT DISTINCT FROM" if place.null_safe else "="
    on = " AND ".join(f"__aidb_o.__k{n} {same} {alias}.{quoted(k)}" for n, k in enumerate(place.keys))
    keys = [f"{alias}.{quoted(k)} AS __k{n}" for n, k in enumerate(place.keys)]
    values = [f"({e}\n) AS __v{n}" for n, e in enumerate(expressions)]
    return (
        f"SELECT {', '.join([*keys, *values])} FROM {quoted(place.table)} AS {alias} "
        f"WHERE EXISTS (SELECT 1 FROM {among} AS __aidb_o WHERE {on})"
    )


def kinds(place: Place, expressions: Sequence[str], among: str, exact: Exact) -> list[pa.ChunkedArray]:
    """A column for each expression, of its type and without rows: what is of the wrong type should cost no model call."""
    return list(exact(f"SELECT * FROM ({query(place, expressions, among)}) AS __aidb_t WHERE false").columns)[
        -len(expressions) :
    ]


def read(
    database: Database, place: Place, expressions: Sequence[str], among: str, exact: Exact, *, many: str = "max"
) -> list[pa.ChunkedArray]:
    """A column for each expression, a row for each item of ``among`` in the order of its ``__row``; NULL where there is none.

    among: a temporary table with the columns ``__row`` and ``__k0``... many: the aggregate where rows share a key.
    """
    found = exact(query(place, expressions, among))
    same = "IS NOT DISTINCT FROM" if place.null_safe else "="
    on = " AND ".join(f"o.__k{n} {same} v.__k{n}" for n in range(len(place.keys)))
    shared = place.null_safe  # values that a model saw name an item there, and several rows may have them
    values = ", ".join(f"{many}(v.__v{n}) AS __v{n}" if shared else f"v.__v{n}" for n in range(len(expressions)))
    tail = " GROUP BY o.__row" if shared else ""
    database.keep(
        VALUES,
        f"SELECT o.__row, {values} FROM {among} o LEFT JOIN aidb_values v ON {on}{tail}",
        aidb_values=found,
    )
    rows = database.query(f"SELECT * EXCLUDE (__row) FROM {VALUES} ORDER BY __row")
    database.execute(f"DROP TABLE {VALUES}")
    return list(rows.columns)


def numbers(column: pa.ChunkedArray, said: str, what: str = "the proxy") -> Floats:
    """A column as floats, NULL as NaN. said, what: the expression and its role, for the error when it is no number."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not is_number(kind):
        raise ProgrammingError(f"{what} must be a number for each item, and {said} is {kind}")
    values: Floats = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    return values


def is_number(kind: pa.DataType) -> bool:
    """Integers, floats and decimals."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def vectors(columns: Sequence[pa.ChunkedArray], said: Sequence[str]) -> Vectors:
    """Embeddings, (n, d): one column of lists of d numbers each, or several columns of numbers; NaN where there is none.

    Raises `ProgrammingError` for anything else.
    """
    kinds = [c.type for c in columns]
    if len(columns) == 1 and _is_list(kinds[0]):
        return _of_lists(columns[0], said[0])
    if any(_is_list(k) for k in kinds):
        raise ProgrammingError(f"an embedding is one column of lists, or columns of numbers, not {', '.join(said)}")
    return np.stack(
        [numbers(c, s, "an embedding").astype(np.float32) for c, s in zip(columns, said, strict=True)], axis=1
    )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _of_lists(column: pa.ChunkedArray, said: str) -> Vectors:
    if not is_number(column.type.value_type):
        raise ProgrammingError(f"an embedding is a list of numbers, and {said} is {column.type}")
    sizes = pc.unique(pc.drop_null(pc.list_value_length(column))).to_pylist()
    if len(sizes) > 1:
        raise ProgrammingError(
            f"embeddings have one length, and {said} has lists of {min(sizes)} to {max(sizes)} numbers"
        )
    width = sizes[0] if sizes else 0
    found = np.full((len(column), width), np.nan, dtype=np.float32)
    there = pc.is_valid(column).to_numpy()
    if width and there.any():
        flat = pc.list_flatten(column.filter(pa.array(there)))
        found[there] = pc.fill_null(flat.cast(pa.float32()), float("nan")).to_numpy().reshape(-1, width)
    return found
