"""`executemany` of an INSERT: lists of values in place of a statement for each row."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from aidb.parameters import Parameters
from aidb.sql.many import ManyRows

CHUNK = 20_000
"""Rows that one statement inserts."""

_SAFE_INTEGER = 2**53
_DIGITS = 38
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
            "UHUGEINT", "FLOAT", "DOUBLE")  # fmt: skip
_SCALARS = {bool, int, float, str, bytes, decimal.Decimal, datetime.datetime, datetime.date, datetime.time,
            datetime.timedelta, uuid.UUID}  # fmt: skip

Values = tuple[Any, ...]


def values_of(many: ManyRows, sets: Sequence[Parameters]) -> list[Values]:
    """The values of each set in the order of the statement's lists."""
    names = [str(n).lower() for n in many.names]
    places = [i if n is None else int(n) - 1 if n.isdigit() else -1 for i, n in enumerate(many.names)]
    rows: list[Values] = []
    for given in sets:
        if isinstance(given, Mapping):
            folded = {str(k).lower(): v for k, v in given.items()}
            rows.append(tuple(folded[n] for n in names))
        else:
            assert given is not None
            rows.append(tuple(given[i] for i in places))
    return rows


def runs(rows: Sequence[Values], types: Callable[[], Sequence[str] | None]) -> Iterator[list[Values]] | None:
    """Rows in runs whose columns can be lists without a change of any value; None if they can't be lists.

    types: DuckDB's types of the columns that the values go to, or None; asked only where numbers of several kinds meet.
    """
    columns = list(zip(*rows, strict=True))
    kinds = [{type(v) for v in column} - {type(None)} for column in columns]
    if any(not kind <= _SCALARS for kind in kinds):
        return None
    mixed = [i for i, column in enumerate(columns) if len({_form(v) for v in column if v is not None}) > 1]
    if mixed and (known := types()) is not None:
        # DuckDB makes one type of a list's numbers: a column of text would show 1.0 where 1 was given.
        mixed = [i for i in mixed if not (_is_number(known[i]) and _fit_together(columns[i], kinds[i]))]
    return _cut(rows, mixed)


def lists(many: ManyRows, rows: Sequence[Values]) -> Parameters:
    """The parameters that insert these rows."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if any(name is not None for name in many.names):
        return {str(name): column for name, column in zip(many.names, columns, strict=True)}
    return columns


def _cut(rows: Sequence[Values], mixed: Sequence[int]) -> Iterator[list[Values]]:
    for _, group in groupby(rows, key=lambda row: [_form(row[i]) for i in mixed]):
        run = list(group)
        for start in range(0, len(run), CHUNK):
            yield run[start : start + CHUNK]


def _form(value: object) -> object:
    """What the values of a list must have in common, so that DuckDB gives them the type that each had alone."""
    if isinstance(value, decimal.Decimal):
        return decimal.Decimal, value.as_tuple().exponent
    if isinstance(value, datetime.datetime | datetime.time):
        return type(value), value.tzinfo is not None
    return type(value)


def _is_number(type_: str) -> bool:
    return type_ in _NUMBERS or (type_.startswith("DECIMAL(") and type_.endswith(")"))


def _fit_together(column: Sequence[Any], kinds: set[type]) -> bool:
    """Have these numbers a common type that holds each of them as it is?"""
    values = [v for v in column if v is not None]
    if kinds <= {int, float}:
        return all(isinstance(v, float) or abs(v) <= _SAFE_INTEGER for v in values)
    if not kinds <= {int, decimal.Decimal}:
        return False
    exact = [decimal.Decimal(v) for v in values]
    if not all(v.is_finite() for v in exact):
        return False
    scale = max(max(-int(v.as_tuple().exponent), 0) for v in exact)
    return max(v.adjusted() for v in exact) + 1 + scale <= _DIGITS
