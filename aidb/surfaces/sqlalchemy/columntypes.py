"""DuckDB's types as SQLAlchemy's, from their text and back to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL
from sqlalchemy.types import TypeEngine

from aidb.spi.content import CONTENT_SQL


class Interval(INTERVAL):  # type: ignore[misc, unused-ignore]
    """DuckDB's INTERVAL, a `datetime.timedelta` in Python."""

    @classmethod
    def adapt_emulated_to_native(cls, interval: types.Interval, **kw: Any) -> Interval:  # type: ignore[override]
        """What stands for SQLAlchemy's own Interval."""
        return cls(precision=interval.second_precision)

    def literal_processor(self, dialect: Any) -> Callable[[timedelta], str]:
        """As it is written in SQL."""
        return lambda value: f"INTERVAL '{value.days} days {value.seconds * 10**6 + value.microseconds} microseconds'"


class OtherInteger(types.Integer):
    """An integer type of DuckDB that SQLAlchemy has no name for: TINYINT, HUGEINT and the unsigned ones."""

    __visit_name__ = "duckdb_integer"

    def __init__(self, name: str = "HUGEINT") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"OtherInteger({self.name!r})"


class Other(types.UserDefinedType[Any]):
    """Any other type of DuckDB, by its text; values are as the driver gives them."""

    cache_ok = True

    def __init__(self, text: str = "VARCHAR") -> None:
        self.text = text

    def get_col_spec(self, **_: Any) -> str:
        """The text of the type in DDL."""
        return self.text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


class Content(Other):
    """A reference to a picture, frame, document or sound; rows hold an `aidb.handles.Handle`."""

    def __init__(self, text: str = CONTENT_SQL) -> None:
        super().__init__(text)


_PLAIN: dict[str, Callable[[], TypeEngine[Any]]] = {
    "BOOLEAN": types.BOOLEAN,
    "SMALLINT": types.SMALLINT,
    "INTEGER": types.INTEGER,
    "BIGINT": types.BIGINT,
    "FLOAT": types.REAL,
    "DOUBLE": types.DOUBLE,
    "VARCHAR": types.VARCHAR,
    "BLOB": types.BLOB,
    "DATE": types.DATE,
    "TIME": types.TIME,
    "TIME_NS": types.TIME,
    "TIME WITH TIME ZONE": lambda: types.TIME(timezone=True),
    "TIMESTAMP": types.TIMESTAMP,
    "TIMESTAMP_S": types.TIMESTAMP,
    "TIMESTAMP_MS": types.TIMESTAMP,
    "TIMESTAMP_NS": types.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": lambda: types.TIMESTAMP(timezone=True),
    "TIMESTAMPTZ_NS": lambda: types.TIMESTAMP(timezone=True),
    "INTERVAL": Interval,
    "UUID": types.UUID,
    "JSON": types.JSON,
    "NULL": types.NullType,
}
_INTEGERS = {"TINYINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT", "BIGNUM"}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_LIST = re.compile(r"(.*)\[\d*\]", re.DOTALL)
_STRING = re.compile(r"'((?:[^']|'')*)'")


def sqlalchemy_type(text: str) -> TypeEngine[Any]:
    """The SQLAlchemy type for a type as DuckDB writes it.

    >>> sqlalchemy_type("DECIMAL(9,2)"), sqlalchemy_type("INTEGER[]"), sqlalchemy_type("HUGEINT")
    (DECIMAL(precision=9, scale=2), ARRAY(INTEGER()), OtherInteger('HUGEINT'))
    """
    if text in _PLAIN:
        return _PLAIN[text]()
    if text in _INTEGERS:
        return OtherInteger(text)
    if text == CONTENT_SQL:
        return Content()
    if found := _DECIMAL.fullmatch(text):
        return types.DECIMAL(int(found[1]), int(found[2]))
    if found := _LIST.fullmatch(text):
        inner, dimensions = found[1], 1
        while found := _LIST.fullmatch(inner):
            inner, dimensions = found[1], dimensions + 1
        return ARRAY(sqlalchemy_type(inner), dimensions=dimensions if dimensions > 1 else None)
    if text.startswith("ENUM("):
        return types.Enum(*(v.replace("''", "'") for v in _STRING.findall(text)))
    return Other(text)
