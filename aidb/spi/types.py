"""DuckDB's type names and Arrow's types: what a column that was declared as ``DECIMAL(9, 2)`` looks like in Arrow."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import pyarrow as pa

from aidb.errors import ProgrammingError

T = TypeVar("T")

_SIMPLE: dict[str, pa.DataType] = {
    name: type_
    for names, type_ in (
        ("BOOLEAN BOOL LOGICAL", pa.bool_()),
        ("TINYINT INT1", pa.int8()),
        ("SMALLINT INT2 INT16 SHORT", pa.int16()),
        ("INTEGER INT INT4 INT32 SIGNED", pa.int32()),
        ("BIGINT INT8 INT64 LONG", pa.int64()),
        ("UTINYINT UINT8", pa.uint8()),
        ("USMALLINT UINT16", pa.uint16()),
        ("UINTEGER UINT32", pa.uint32()),
        ("UBIGINT UINT64", pa.uint64()),
        ("HUGEINT INT128 UHUGEINT UINT128", pa.decimal128(38, 0)),  # Arrow has no integer of this width
        ("FLOAT REAL FLOAT4", pa.float32()),
        ("DOUBLE FLOAT8", pa.float64()),
        ("VARCHAR TEXT STRING CHAR BPCHAR NVARCHAR JSON UUID GUID", pa.string()),
        ("BLOB BYTEA BINARY VARBINARY", pa.binary()),
        ("DATE", pa.date32()),
        ("TIME", pa.time64("us")),
        ("TIMESTAMP DATETIME TIMESTAMP_US", pa.timestamp("us")),
        ("TIMESTAMP_S", pa.timestamp("s")),
        ("TIMESTAMP_MS", pa.timestamp("ms")),
        ("TIMESTAMP_NS", pa.timestamp("ns")),
        ("TIMESTAMPTZ", pa.timestamp("us", tz="UTC")),
        ("INTERVAL", pa.month_day_nano_interval()),
    )
    for name in names.split()
}
_BACK = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.date64(): "DATE",
    pa.month_day_nano_interval(): "INTERVAL",
    pa.null(): "VARCHAR",
}
_TOKEN = re.compile(r'\s*("(?:[^"]|"")*"|\'(?:[^\']|\'\')*\'|\w+|[()\[\],])')


@lru_cache(maxsize=1024)
def arrow_type(name: str) -> pa.DataType:
    """The Arrow type in which values of this DuckDB type travel; raises `ProgrammingError` for what is not a type.

    JSON, UUID, ENUM and BIT travel as strings, HUGEINT as ``DECIMAL(38, 0)``.

    >>> arrow_type("FLOAT[384]")
    FixedSizeListType(fixed_size_list<item: float>[384])
    >>> arrow_type("STRUCT(x INTEGER, tags VARCHAR[])")
    StructType(struct<x: int32, tags: list<item: string>>)
    """
    text, tokens, at = name.rstrip(), [], 0
    while at < len(text):  # strict: a type's name ends up in DDL, so nothing may hide between tokens
        if not (token := _TOKEN.match(text, at)):
            raise _unknown(name)
        tokens.append(token[1])
        at = token.end()
    reader = _Reader(name, tokens)
    type_ = reader.type()
    if reader.peek():
        raise _unknown(name)
    return type_


def duckdb_type(type_: pa.DataType) -> str:
    """The DuckDB type that a column of this Arrow type becomes; raises `ProgrammingError` if there is none.

    >>> duckdb_type(pa.list_(pa.int64(), 3))
    'BIGINT[3]'
    """
    if isinstance(type_, pa.BaseExtensionType):
        return {"arrow.uuid": "UUID", "arrow.json": "JSON"}.get(type_.extension_name) or duckdb_type(type_.storage_type)
    t = pa.types
    if type_ in _BACK:
        return _BACK[type_]
    if t.is_string(type_) or t.is_large_string(type_) or t.is_string_view(type_):
        return "VARCHAR"
    if t.is_binary(type_) or t.is_large_binary(type_) or t.is_binary_view(type_) or t.is_fixed_size_binary(type_):
        return "BLOB"
    if t.is_dictionary(type_) or t.is_run_end_encoded(type_):
        return duckdb_type(type_.value_type)
    if t.is_timestamp(type_):
        return (
            "TIMESTAMPTZ"
            if type_.tz
            else {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP"}.get(type_.unit, "TIMESTAMP_NS")
        )
    if t.is_time(type_):
        return "TIME"
    if t.is_decimal(type_) and type_.precision <= 38:
        return f"DECIMAL({type_.precision}, {type_.scale})"
    if t.is_fixed_size_list(type_):
        return f"{duckdb_type(type_.value_type)}[{type_.list_size}]"
    if t.is_list(type_) or t.is_large_list(type_):
        return f"{duckdb_type(type_.value_type)}[]"
    if t.is_struct(type_) and type_.num_fields:
        fields = (type_.field(i) for i in range(type_.num_fields))
        return f"STRUCT({', '.join(f'{_quoted(f.name)} {duckdb_type(f.type)}' for f in fields)})"
    if t.is_map(type_):
        return f"MAP({duckdb_type(type_.key_type)}, {duckdb_type(type_.item_type)})"
    raise ProgrammingError(f"a column of the Arrow type {type_} has no DuckDB type")


class _Reader:
    """Recursive descent over the tokens of one type name."""

    def __init__(self, name: str, tokens: list[str]) -> None:
        self.name, self.tokens, self.at = name, tokens, 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def expect(self, token: str) -> None:
        if self.next() != token:
            raise _unknown(self.name)

    def type(self) -> pa.DataType:
        word = self.next().upper()
        if word in ("STRUCT", "ROW"):
            type_ = pa.struct(self.arguments(lambda: (_unquoted(self.next()), self.type())))
        elif word == "MAP":
            pair = self.arguments(self.type)
            if len(pair) != 2:
                raise _unknown(self.name)
            type_ = pa.map_(*pair)
        elif word == "ENUM":
            self.arguments(self.next)
            type_ = pa.string()
        elif word in ("DECIMAL", "NUMERIC", "DEC"):
            type_ = self.decimal(self.numbers())
        elif word in ("BIT", "BITSTRING"):
            type_ = pa.string()
        elif word in _SIMPLE:
            type_ = self.zoned(word)
            self.numbers()  # VARCHAR(20): DuckDB ignores the length, so do we
        else:
            raise _unknown(self.name)
        while self.peek() == "[":
            self.next()
            size = self.next()
            if size == "]":
                type_ = pa.list_(type_)
            elif size.isdigit() and int(size) > 0:
                type_ = pa.list_(type_, int(size))
                self.expect("]")
            else:
                raise _unknown(self.name)
        return type_

    def zoned(self, word: str) -> pa.DataType:
        if word in ("TIMESTAMP", "TIME") and self.peek().upper() in ("WITH", "WITHOUT"):
            zone = self.next().upper() == "WITH"
            if self.next().upper() != "TIME" or self.next().upper() != "ZONE" or (zone and word == "TIME"):
                raise _unknown(self.name)
            return _SIMPLE["TIMESTAMPTZ" if zone else word]
        return _SIMPLE[word]

    def decimal(self, numbers: list[str]) -> pa.DataType:
        if len(numbers) > 2 or not all(n.isdigit() for n in numbers):
            raise _unknown(self.name)
        precision = int(numbers[0]) if numbers else 18
        scale = int(numbers[1]) if len(numbers) == 2 else 0 if numbers else 3
        if not 1 <= precision <= 38 or scale > precision:
            raise _unknown(self.name)
        return pa.decimal128(precision, scale)

    def numbers(self) -> list[str]:
        return self.arguments(self.next) if self.peek() == "(" else []

    def arguments(self, one: Callable[[], T]) -> list[T]:
        self.expect("(")
        found = [one()]
        while self.peek() == ",":
            self.next()
            found.append(one())
        self.expect(")")
        return found


def _unknown(name: str) -> ProgrammingError:
    return ProgrammingError(f"{name!r} is not a DuckDB type that a model can use; such are BIGINT, DOUBLE, FLOAT[384]")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else '"' + name.replace('"', '""') + '"'


def _unquoted(token: str) -> str:
    if not re.fullmatch(r"\w+|\".+\"", token, re.DOTALL):
        raise ProgrammingError(f"{token!r} can't be the name of a field of a STRUCT")
    return token[1:-1].replace('""', '"') if token.startswith('"') else token
