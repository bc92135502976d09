"""PEP 249's constructors and type objects."""

from __future__ import annotations

import datetime
import time

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802  PEP 249 fixes the name
    """The local date of a time in seconds since the epoch."""
    return datetime.date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802
    """The local time of day of a time in seconds since the epoch."""
    return datetime.time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802
    """The local date and time of a time in seconds since the epoch."""
    return datetime.datetime(*time.localtime(ticks)[:6])


class TypeObject:
    """Equal to every DuckDB type name of its family, as PEP 249 wants of type objects.

    >>> NUMBER == "BIGINT", STRING == "BIGINT"
    (True, False)
    """

    def __init__(self, *prefixes: str) -> None:
        self._prefixes = prefixes

    def __eq__(self, other: object) -> bool:
        return other is self or (isinstance(other, str) and other.upper().startswith(self._prefixes))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._prefixes)


STRING = TypeObject("VARCHAR", "CHAR", "TEXT", "ENUM", "JSON", "UUID")
BINARY = TypeObject("BLOB", "BIT")
NUMBER = TypeObject(
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN",
)  # fmt: skip
DATETIME = TypeObject("DATE", "TIME", "INTERVAL")
ROWID = TypeObject("ROWID")
