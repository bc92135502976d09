"""What a statement gave: run once, kept by DuckDB, handed out as Arrow or as Python's own objects."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    from aidb.storage.database import Database

CHUNK = 65_536
_AS_TEXT = {"sql": "COLUMNS(*)::VARCHAR", "json": "to_json(COLUMNS(*))::VARCHAR"}


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
        self.columns, self.rows = columns, rows
        self._relation, self._table = relation, table
        self._lock = database.lock if database is not None else threading.RLock()

    @property
    def has_rows(self) -> bool:
        """Was it a query (perhaps with an empty result)?"""
        return self._relation is not None or self._table is not None

    @cached_property
    def table(self) -> pa.Table:
        """All rows as Arrow."""
        if self._table is not None:
            return self._table
        assert self._relation is not None
        with self._lock:
            return self._relation.to_arrow_table()

    def tuples(self) -> Iterator[tuple[Any, ...]]:
        """All rows as Python sees them: an int for HUGEINT, a timedelta for INTERVAL, a dict for MAP."""
        if self._relation is None:
            yield from zip(*(c.to_pylist() for c in self.table.columns), strict=True)
        else:
            yield from self._fetched(self._relation, "*")

    def texts(self, form: Literal["sql", "json"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """All rows as text: as a cast to VARCHAR gives it, which a cast reads back, or as JSON. None is NULL.

        JSON has no word for NaN and the infinities: they are ``NaN``, ``Infinity`` and ``-Infinity`` here too.
        """
        if self._relation is None:
            write = str if form == "sql" else partial(json.dumps, ensure_ascii=False)
            for row in self.tuples():
                yield tuple(None if value is None else write(value) for value in row)
        else:
            yield from self._fetched(self._relation, _AS_TEXT[form])

    def _fetched(self, relation: duckdb.DuckDBPyRelation, columns: str) -> Iterator[tuple[Any, ...]]:
        for start in range(0, self.rows, CHUNK):
            with self._lock:
                part = relation if self.rows <= CHUNK else relation.limit(CHUNK, start)
                chunk = (part if columns == "*" else part.project(columns)).fetchall()
            yield from chunk
