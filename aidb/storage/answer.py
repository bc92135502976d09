"""What a statement gave: run once, kept by DuckDB, handed out as Arrow or as Python's own objects."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    from aidb.storage.database import Database

CHUNK = 65_536


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
            return
        for start in range(0, self.rows, CHUNK):
            with self._lock:
                part = self._relation if self.rows <= CHUNK else self._relation.limit(CHUNK, start)
                chunk = part.fetchall()
            yield from chunk
