"""``$name`` in a notebook's SQL: the Python variable of that name, as a value, or as a relation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from aidb.catalog.names import quoted
from aidb.cursor import Cursor
from aidb.errors import DataError, ProgrammingError, UnknownName
from aidb.handles import Handle
from aidb.spi import CONTENT_TYPE
from aidb.sql.tokens import Token, scan

_LASTING = frozenset({"VIEW", "MACRO", "FUNCTION"})


@dataclass(frozen=True)
class Given:
    """A statement with its values. relations: name that stands in the statement, quoted -> rows."""

    sql: str
    parameters: Mapping[str, Any] | None
    relations: Mapping[str, pa.Table]


def given(sql: str, variables: Mapping[str, Any]) -> Given:
    """Find the values of a statement's ``$names`` among some variables.

    What only looks like a name (within a string, ``$$text$$``, ``x[:2]``, ``{'a': 1}``) is left alone. A DataFrame, an
    Arrow table or a result of ours is a relation: ``$df`` becomes ``"$df"``, the name of a table for this statement.
    Raises `UnknownName` for a name that is no variable, `ProgrammingError` for what can't be a value here.
    """
    tokens = scan(sql) if "$" in sql or "?" in sql else []
    if not tokens or tokens[0].key in ("PREPARE", "EXECUTE"):
        return Given(sql, None, {})
    values: dict[str, Any] = {}
    relations: dict[str, pa.Table] = {}
    parts: list[str] = []
    at = 0
    for token in tokens:
        if token.kind != "parameter":
            continue
        name = sql[token.start + 1 : token.end]
        if not name.isidentifier():
            written = sql[token.start : token.end]
            raise ProgrammingError(f"{written} has no value in a notebook: write $name for the variable of that name")
        value = _value(name, variables)
        if _is_relation(value):
            _refuse_lasting(tokens, name)
            written = quoted(f"${name}")
            relations[written] = _table(name, value)
            parts += [sql[at : token.start], written]
            at = token.end
        else:
            values[name] = _plain(value)
    if len({written.lower() for written in relations}) < len(relations):
        raise ProgrammingError(
            "two relations whose names differ in upper and lower case alone can't be told apart in SQL"
        )
    return Given("".join([*parts, sql[at:]]), values or None, relations)


def _value(name: str, variables: Mapping[str, Any]) -> Any:
    if name not in variables:
        raise UnknownName.of("variable", name, [n for n in variables if not n.startswith("_")])
    return variables[name]


def _is_relation(value: Any) -> bool:
    """Has it rows and named columns?"""
    if isinstance(value, Cursor | pa.Table | pa.RecordBatch | pa.RecordBatchReader):
        return True
    kind = type(value)
    return kind.__name__ in ("DataFrame", "LazyFrame") and kind.__module__.split(".")[0] in ("pandas", "polars")


def _table(name: str, value: Any) -> pa.Table:
    try:
        if isinstance(value, Cursor):
            return value.arrow()
        if isinstance(value, pa.Table):
            return value
        if isinstance(value, pa.RecordBatch):
            return pa.Table.from_batches([value])
        if isinstance(value, pa.RecordBatchReader):
            return value.read_all()
        if type(value).__name__ == "LazyFrame":
            value = value.collect()
        if type(value).__module__.startswith("polars"):
            plain = [column for column in value.columns if str(value[column].dtype) != "Object"]
            table: pa.Table = value.select(plain).to_arrow()
            return _restored(table, {c: value[c].to_list() for c in value.columns if c not in plain}, value.columns)
        return _of_pandas(value)
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise DataError(f"${name} can't become a table: {str(e).splitlines()[0]}") from e


def _of_pandas(frame: Any) -> pa.Table:
    """A DataFrame without its index, which is none of its columns; handles become references again."""
    content = {
        name: frame[name].tolist()
        for name in frame.columns
        if frame[name].dtype == object and any(isinstance(v, Handle) for v in frame[name].head(100))
    }
    table = pa.Table.from_pandas(frame.drop(columns=list(content)), preserve_index=False)
    return _restored(table, content, [str(name) for name in frame.columns])


def _restored(table: pa.Table, content: Mapping[str, list[Any]], order: list[str]) -> pa.Table:
    for name, handles in content.items():
        references = [asdict(h.ref) if isinstance(h, Handle) else None for h in handles]
        table = table.append_column(str(name), pa.array(references, CONTENT_TYPE))
    return table.select(order) if content else table


def _refuse_lasting(tokens: list[Token], name: str) -> None:
    """What lasts can't be made of what is gone after the statement."""
    keys = [token.key for token in tokens[:6]]
    if keys[:1] == ["CREATE"] and ("BLOB" in keys or _LASTING & set(keys)):
        raise ProgrammingError(
            f"${name} is there for one statement only, and this definition lasts: CREATE TABLE {name} AS FROM ${name} first, "
            "and use that table"
        )


def _plain(value: Any) -> Any:
    """The values that SQL's own types hold; the others are refused by their name where the statement runs."""
    if isinstance(value, Handle):
        return asdict(value.ref)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, range | set | frozenset):
        return list(value)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # numpy's scalars and arrays, a Series
        return value.tolist()
    return value
