"""What a statement gave: run once, kept by DuckDB, handed out as Arrow or as Python's own objects."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa

from aidb.catalog.names import quoted
from aidb.spi.content import CONTENT_SQL
from aidb.storage.translated import translated

if TYPE_CHECKING:
    from aidb.storage.database import Database

CHUNK = 65_536
_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)")
_NOT_FINITE = re.compile(r"nan|inf|NaN|Infinity")
_IN_JSON = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


class Answer:
    """Rows with (name, DuckDB type) of each column, or none and the number of rows that were changed (-1: unknown)."""

    def __init__(
        self,
        columns: tuple[tuple[str, str], ...] = (),
        rows: int = -1,
        relation: duckdb.DuckDBPyRelation | None = None,
        database: Database | None = None,
        table: pa.Table | None = None,
    ) -> None:
        self.columns, self._count = columns, rows
        self._relation, self._table = relation, table
        self._lock = database.lock if database is not None else threading.RLock()

    @property
    def rows(self) -> int:
        """How many rows it has, or were changed; -1 if that is not known."""
        return self._count

    @property
    def has_rows(self) -> bool:
        """Was it a query (perhaps with an empty result)?"""
        return self._relation is not None or self._table is not None

    def hurry(self) -> None:
        """All rows are wanted, none sooner than the others: for answers that are still being found."""

    @cached_property
    def table(self) -> pa.Table:
        """All rows as Arrow."""
        if self._table is not None:
            return self._table
        assert self._relation is not None
        with self._lock, translated():
            return self._relation.to_arrow_table()

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """All rows as Arrow, so many at a time, each batch made when it is asked for."""
        relation = self._relation
        if relation is None:
            return pa.RecordBatchReader.from_batches(self.table.schema, iter(self.table.to_batches(rows)))

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, self.rows, rows):
                with self._lock, translated():
                    part = relation.limit(rows, start).to_arrow_table()
                yield from part.combine_chunks().to_batches()

        with self._lock, translated():
            schema = relation.limit(0).to_arrow_table().schema
        return pa.RecordBatchReader.from_batches(schema, batches())

    def tuples(self) -> Iterator[tuple[Any, ...]]:
        """All rows as Python sees them: an int for HUGEINT, a timedelta for INTERVAL, a dict for MAP."""
        if self._relation is None:
            return zip(*(c.to_pylist() for c in self.table.columns), strict=True)
        return _Fetching(self._relation, "*", self.rows, self._lock)

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """All rows as text; None is NULL.

        form: ``sql``, as a cast to VARCHAR gives it, which a cast reads back; ``json``, where NaN and the infinities, for
        which there is no word, are strings; ``shown``, like sql, but a content reference is ``<image bus.jpg>``.
        """
        if self._relation is None:
            write = partial(json.dumps, ensure_ascii=False) if form == "json" else str
            return (tuple(None if value is None else write(value) for value in row) for row in self.tuples())
        names = [quoted(name) for name in self._relation.columns]
        types = [type_ for _, type_ in self.columns]
        if form != "json":
            shown = [
                _shown(n) if form == "shown" and t == CONTENT_SQL else f"{n}::VARCHAR"
                for n, t in zip(names, types, strict=True)
            ]
            return _Fetching(self._relation, ", ".join(shown), self.rows, self._lock)
        # What JSON makes of a FLOAT are the digits of a DOUBLE that it is not; the text of a number is JSON already.
        how = [f"{n}::VARCHAR" if is_number(t) else f"to_json({n})::VARCHAR" for n, t in zip(names, types, strict=True)]
        fractions = [i for i, t in enumerate(types) if "FLOAT" in t or "DOUBLE" in t]

        def written(row: tuple[Any, ...]) -> tuple[Any, ...]:
            if not any(row[i] is not None and _NOT_FINITE.search(row[i]) for i in fractions):
                return row
            return tuple(_finite(v) if i in fractions else v for i, v in enumerate(row))

        return map(written, _Fetching(self._relation, ", ".join(how), self.rows, self._lock))


class _Fetching:
    """The rows of what DuckDB keeps, chunk by chunk. After an interrupt it goes on where it was; a generator would be over."""

    def __init__(self, relation: duckdb.DuckDBPyRelation, columns: str, rows: int, lock: threading.RLock) -> None:
        self._relation, self._columns, self._rows, self._lock = relation, columns, rows, lock
        self._start = 0
        self._now: Iterator[tuple[Any, ...]] = iter(())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        while True:
            for row in self._now:
                return row
            if self._start >= self._rows:
                raise StopIteration
            with self._lock, translated():
                part = self._relation if self._rows <= CHUNK else self._relation.limit(CHUNK, self._start)
                chunk = (part if self._columns == "*" else part.project(self._columns)).fetchall()
            self._start += CHUNK
            self._now = iter(chunk)


def _shown(content: str) -> str:
    """SQL of a content reference in the words of its handle, with the file's name alone."""
    file, at = f"regexp_extract({content}.uri, '[^/]*$')", f"coalesce(' at ' || {content}.pos, '')"
    return f"CASE WHEN {content} IS NOT NULL THEN '<' || {content}.media || ' ' || {file} || {at} || '>' END"


def is_number(type_: str) -> bool:
    """Are the values of a DuckDB type, as `Answer.columns` names it, single numbers?"""
    return _NUMBER.fullmatch(type_) is not None


def _finite(text: str | None) -> str | None:
    """JSON, or the text of a number, with NaN and the infinities as strings."""
    if text is None or not _NOT_FINITE.search(text):
        return text
    return _IN_JSON.get(text) or json.dumps(json.loads(text, parse_constant=str), ensure_ascii=False)
