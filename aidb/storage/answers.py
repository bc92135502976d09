"""Answers of models: each batch written with its ledger, its call and its errors in one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa

from aidb.catalog.definitions import FillDefinition
from aidb.catalog.names import quoted
from aidb.storage.schema import INTERNAL
from aidb.storage.translated import translated

ROW = "_row"


@dataclass(frozen=True)
class Failure:
    """An item that could not be read or answered: its place in the batch, how often it was tried, and why it failed."""

    row: int
    attempts: int
    message: str


@dataclass(frozen=True)
class AnsweredBatch:
    """What a model said to one batch.

    keys: the items, columns as `FillDefinition.keys`. rows: validated outputs; for rows="many" with ``_row`` (place of
    the item in the batch), else one row for each item that did not fail, in order. failures: by place in the batch.
    again: items that failed are not done: the next query that needs them asks again.
    """

    fill: FillDefinition
    keys: pa.Table
    rows: pa.Table
    failures: tuple[Failure, ...]
    started: datetime
    seconds: float
    device: str
    again: bool = False


class AnswerWriter:
    """Writes batches on a connection of its own; one thread at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._db = connection
        self._troubled: set[int] | None = None

    def write(self, batches: Sequence[AnsweredBatch]) -> None:
        """Store several batches, all or none."""
        with translated():
            self._db.begin()
            try:
                for batch in batches:
                    self._write(batch)
                self._db.commit()
            except BaseException:
                # A COMMIT that failed (a full disk) has ended the transaction already.
                with suppress(duckdb.Error):
                    self._db.rollback()
                raise

    def log(self, sql: str, report: str, started: datetime) -> None:
        """Keep a query's text and its report."""
        with translated():
            self._db.execute(
                f"INSERT INTO {INTERNAL}.queries (started, text, report) VALUES (?, ?, ?)", [started, sql, report]
            )

    def _write(self, batch: AnsweredBatch) -> None:
        fill = batch.fill
        table, n = answer_table(batch), batch.keys.num_rows
        row = self._db.execute(
            f"INSERT INTO {INTERNAL}.calls VALUES (nextval('{INTERNAL}.call_ids'), ?, ?, ?, ?, ?, ?, ?) "
            "RETURNING call_id",
            [fill.id, batch.started, batch.seconds, n, table.num_rows, len(batch.failures), batch.device],
        ).fetchall()
        call = int(row[0][0])
        if fill.sequential:
            self._forget(batch)
        if table.num_rows:
            self._insert(fill.rows, table)
        failed = np.zeros(n, bool)
        failed[[f.row for f in batch.failures]] = True
        ledger = batch.keys.append_column("_call", pa.repeat(pa.scalar(call, pa.int64()), n))
        ledger = ledger.append_column("_failed", pa.array(failed))
        self._insert(fill.ledger, ledger.filter(pa.array(~failed)) if batch.again else ledger)
        if self._troubled is None:
            rows = self._db.execute(f"SELECT DISTINCT fill FROM {INTERNAL}.errors").fetchall()
            self._troubled = {int(fill) for (fill,) in rows}
        if fill.id in self._troubled:
            self._settle(batch, failed)
        if batch.failures:
            self._record(batch, call)

    def _forget(self, batch: AnsweredBatch) -> None:
        """A file is answered as a whole, so that what was known of its items gives way (after RETRY FAILED)."""
        now = batch.keys.column_names
        stored = self._db.sql(f"FROM {batch.fill.ledger}").columns  # the same columns, perhaps called otherwise
        same = " AND ".join(f"a.{quoted(s)} = k.{quoted(n)}" for s, n in zip(stored, now, strict=False))
        self._db.register("aidb_again", batch.keys)
        try:
            for table in (batch.fill.rows, batch.fill.ledger):
                self._db.execute(f"DELETE FROM {table} a USING aidb_again k WHERE {same}")
        finally:
            self._db.unregister("aidb_again")

    def _insert(self, name: str, table: pa.Table) -> None:
        self._db.register("aidb_answers", table)
        try:
            self._db.execute(f"INSERT INTO {name} SELECT * FROM aidb_answers")
        finally:
            self._db.unregister("aidb_answers")

    def _settle(self, batch: AnsweredBatch, failed: np.ndarray) -> None:
        """Items that have an answer now are errors no more."""
        answered = batch.keys.filter(pa.array(~failed))
        parts = [f"{error_key(n)} IS NOT DISTINCT FROM k.{quoted(n)}::VARCHAR" for n in answered.column_names]
        self._db.register("aidb_answered", answered)
        try:
            self._db.execute(
                f"DELETE FROM {INTERNAL}.errors e WHERE e.fill = {batch.fill.id} AND EXISTS "
                f"(SELECT 1 FROM aidb_answered k WHERE {' AND '.join(parts)})"
            )
        finally:
            self._db.unregister("aidb_answered")

    def _record(self, batch: AnsweredBatch, call: int) -> None:
        assert self._troubled is not None
        self._troubled.add(batch.fill.id)
        names = [name for name, _ in batch.fill.keys]
        for failure in batch.failures:
            key = {name: batch.keys.column(name)[failure.row].as_py() for name in names}
            item = json.dumps(key, default=str, ensure_ascii=False)
            before = self._db.execute(
                f"DELETE FROM {INTERNAL}.errors WHERE fill = ? AND item = ? RETURNING attempts", [batch.fill.id, item]
            ).fetchall()
            attempts = failure.attempts + sum(n for (n,) in before)
            self._db.execute(
                f"INSERT INTO {INTERNAL}.errors VALUES (?, ?, ?, ?, ?, now()::TIMESTAMP)",
                [batch.fill.id, item, attempts, failure.message[:2000], call],
            )


def answer_table(batch: AnsweredBatch) -> pa.Table:
    """Rows as they are stored: keys, the ordinal within the item if there is one, outputs."""
    fill, rows = batch.fill, batch.rows
    if ROW in rows.column_names:
        place = rows.column(ROW).combine_chunks().to_numpy(zero_copy_only=False)
        keys = batch.keys.take(pa.array(place))
        rows = rows.drop_columns([ROW])
        if fill.ordinal:
            # Rows come sorted by item, so the number within the item is the distance to the item's first row.
            first = np.searchsorted(place, place, side="left")
            keys = keys.append_column(fill.ordinal, pa.array(np.arange(len(place)) - first))
    elif batch.failures:
        bad = {f.row for f in batch.failures}
        keys = batch.keys.take(pa.array([i for i in range(batch.keys.num_rows) if i not in bad], pa.int64()))
    else:
        keys = batch.keys
    columns = [*keys.columns, *rows.columns]
    return pa.Table.from_arrays(columns, names=[*keys.column_names, *rows.column_names])


def retry_failed(db: duckdb.DuckDBPyConnection, fills: Sequence[FillDefinition]) -> int:
    """Forget that items failed, so that the next query tries them again; how many there were."""
    count = 0
    for fill in fills:
        count += len(db.execute(f"DELETE FROM {fill.ledger} WHERE _failed RETURNING 1").fetchall())
    return count


def error_key(name: str) -> str:
    """SQL of a key column's value, as text, in a row ``e`` of the table of errors."""
    inner = name.replace('"', '\\"').replace("'", "''")
    return f"(e.item::JSON->>'$.\"{inner}\"')"


def seconds_per_item(db: duckdb.DuckDBPyConnection, fill: FillDefinition) -> float | None:
    """What an item cost on average in the last batches, or None before the first."""
    row = db.execute(
        f"SELECT sum(seconds) / nullif(sum(items), 0) FROM (FROM {INTERNAL}.calls WHERE fill = ? "
        "ORDER BY call_id DESC LIMIT 50)",
        [fill.id],
    ).fetchall()
    return None if row[0][0] is None else float(row[0][0])
