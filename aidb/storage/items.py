"""The items of blob tables: listed once, listed again by REFRESH, and what a change of them means for stored answers.

An item keeps its key as long as its identity (file, file and pts, the KEY column) is the same, also across a REFRESH
that finds it gone and another that finds it back. Answers about a changed or vanished item move to a stale table, with
the version of what they were computed from; they move back if that version returns, so nothing is paid for twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from aidb.catalog.definitions import BlobTable, FillDefinition
from aidb.catalog.names import listed, quoted
from aidb.errors import IntegrityError

CONTENT_ID = "content_id"
STAGING = "temp.aidb_staging"
SEEN = "temp.aidb_seen"


@dataclass(frozen=True)
class Dependent:
    """A fill whose answers rest on a blob table: by which of its keys, and on which of the table's columns.

    columns: plain columns whose values the answers rest on; content: do they rest on the content as well?
    """

    fill: FillDefinition
    key: str
    columns: tuple[str, ...]
    content: bool

    def version(self, alias: str) -> str:
        """SQL digest of what the answers were computed from, for a row of items."""
        parts = [f"{alias}._content"] if self.content else []
        parts += [f"{alias}.{quoted(c)}" for c in self.columns]
        return parts[0] if parts == [f"{alias}._content"] else f"md5(ROW({', '.join(parts) or '0'})::VARCHAR)"


@dataclass(frozen=True)
class Changes:
    """How many items a listing found, and how many of them were new, had changed, or were gone since the last one."""

    items: int
    new: int
    changed: int
    gone: int


def stage_batches(db: duckdb.DuckDBPyConnection, table: BlobTable, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a connector's listing to the staging table."""
    columns = ", ".join(f"{quoted(name)} {type_}" for name, type_ in table.columns)
    db.execute(f"CREATE OR REPLACE TEMP TABLE {STAGING} ({columns}, _content VARCHAR, _copy BIGINT, _n BIGINT)")
    start = 0
    names = listed(name for name, _ in table.columns)
    for batch in batches:
        if not batch.num_rows:
            continue
        numbered = batch.append_column("_n", pa.array(range(start, start + batch.num_rows), pa.int64()))
        db.register("aidb_batch", pa.Table.from_batches([numbered]))
        db.execute(f"INSERT INTO {STAGING} SELECT {names}, {CONTENT_ID}, 0, _n FROM aidb_batch")
        db.unregister("aidb_batch")
        start += batch.num_rows


def stage_query(db: duckdb.DuckDBPyConnection, query: str) -> tuple[tuple[str, str], ...]:
    """Run the query of CREATE BLOB TABLE ... AS into the staging table; (name, type) of its columns."""
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE {STAGING} AS SELECT *, row_number() OVER (PARTITION BY _content) AS _copy, "
        f"row_number() OVER () AS _n FROM (SELECT q.*, md5(q::VARCHAR) AS _content FROM ({query}\n) AS q)"
    )
    described = db.execute(f"DESCRIBE {STAGING}").fetchall()
    return tuple((row[0], row[1]) for row in described if row[0] not in ("_content", "_copy", "_n"))


def create(db: duckdb.DuckDBPyConnection, table: BlobTable) -> None:
    """Make the empty table of items, and the one of keys that were given out before."""
    own = [(n, t) for n, t in table.columns if n.lower() != table.key.lower()]
    columns = "".join(f", {quoted(name)} {type_}" for name, type_ in own)
    hidden = "_content VARCHAR, _copy BIGINT"
    db.execute(f"CREATE TABLE {table.items} ({quoted(table.key)} {table.key_type}{columns}, {hidden})")
    db.execute(f"CREATE TABLE {table.items}_gone AS FROM {table.items}")


def merge(db: duckdb.DuckDBPyConnection, table: BlobTable, dependents: Sequence[Dependent]) -> Changes:
    """Make the items what the staging table lists; keys stay, answers that no longer hold become stale.

    Part of the caller's transaction. Raises `IntegrityError` for keys that are NULL or not unique.
    """
    _check_identity(db, table)
    key = quoted(table.key)
    own = [name for name, _ in table.columns if name.lower() != table.key.lower()]
    same_item = _matches(table, "s", "i")
    columns = listed(own, "s.") + (", " if own else "")
    before = f"(SELECT * FROM {table.items} UNION ALL SELECT * FROM {table.items}_gone)"
    assigned = table.key.lower() not in (name.lower() for name, _ in table.columns)
    if assigned:
        given = (
            f"coalesce(i.{key}, (SELECT coalesce(max({key}), -1) FROM {before}) "
            f"+ row_number() OVER (PARTITION BY i.{key} IS NULL ORDER BY s._n))"
        )
    else:
        given = f"s.{key}"
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE {SEEN} AS SELECT {given} AS {key}, {columns}s._content, s._copy, "
        f"i.{key} IS NULL AS _new FROM {STAGING} s LEFT JOIN {before} i ON {same_item}"
    )
    changes = _count(db, table)
    for dependent in dependents:
        _move_answers(db, table, dependent)
    visible = f"{key}, {listed(own)}{', ' if own else ''}_content, _copy"
    db.execute(
        f"INSERT INTO {table.items}_gone SELECT {visible} FROM {table.items} i WHERE NOT EXISTS {_in_seen(key, 'i')}"
    )
    db.execute(f"DELETE FROM {table.items}_gone i WHERE EXISTS {_in_seen(key, 'i')}")
    db.execute(f"DELETE FROM {table.items}")
    db.execute(f"INSERT INTO {table.items} SELECT {visible} FROM {SEEN} ORDER BY {key}")
    db.execute(f"DROP TABLE {SEEN}; DROP TABLE {STAGING}")
    return changes


def drop(db: duckdb.DuckDBPyConnection, table: BlobTable) -> None:
    """Remove the items for good."""
    db.execute(f"DROP TABLE IF EXISTS {table.items}; DROP TABLE IF EXISTS {table.items}_gone")


def _matches(table: BlobTable, left: str, right: str) -> str:
    return " AND ".join(f"{left}.{quoted(c)} IS NOT DISTINCT FROM {right}.{quoted(c)}" for c in table.identity)


def _in_seen(key: str, alias: str) -> str:
    return f"(SELECT 1 FROM {SEEN} z WHERE z.{key} = {alias}.{key})"


def _check_identity(db: duckdb.DuckDBPyConnection, table: BlobTable) -> None:
    columns = listed(table.identity)
    found = db.execute(
        f"SELECT {columns}, count(*) AS n FROM {STAGING} GROUP BY ALL HAVING n > 1 OR "
        f"({' OR '.join(f'{quoted(c)} IS NULL' for c in table.identity[:1])}) LIMIT 1"
    ).fetchall()
    if not found:
        return
    (row,) = found
    shown = ", ".join(f"{c} = {v!r}" for c, v in zip(table.identity, row[:-1], strict=True))
    what = f"stands {row[-1]} times" if row[-1] > 1 else "is NULL"
    raise IntegrityError(
        f"{table.name}: a key must be unique and not NULL, but {shown} {what}; "
        "choose another KEY, or make the query DISTINCT"
    )


def _count(db: duckdb.DuckDBPyConnection, table: BlobTable) -> Changes:
    key = quoted(table.key)
    row = db.execute(
        f"SELECT count(*), count(*) FILTER (i.{key} IS NULL), "
        f"count(*) FILTER (i.{key} IS NOT NULL AND i._content IS DISTINCT FROM s._content), "
        f"(SELECT count(*) FROM {table.items} i WHERE NOT EXISTS {_in_seen(key, 'i')}) "
        f"FROM {SEEN} s LEFT JOIN {table.items} i USING ({key})"
    ).fetchall()
    return Changes(*row[0])


def _move_answers(db: duckdb.DuckDBPyConnection, table: BlobTable, dependent: Dependent) -> None:
    """Answers about changed and vanished items go to the stale tables; those whose version is back return."""
    fill, key = dependent.fill, quoted(table.key)
    old, new = dependent.version("i"), dependent.version("s")
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE temp.aidb_moved AS SELECT i.{key} AS k, {old} AS v FROM {table.items} i "
        f"LEFT JOIN {SEEN} s ON s.{key} = i.{key} WHERE s.{key} IS NULL OR {old} IS DISTINCT FROM {new}"
    )
    for live in (fill.rows, fill.ledger):
        stale = stale_name(live)
        db.execute(f"CREATE TABLE IF NOT EXISTS {stale} AS SELECT *, NULL::VARCHAR AS _version FROM {live} LIMIT 0")
        here = f"{live}.{quoted(dependent.key)}"
        db.execute(
            f"INSERT INTO {stale} SELECT l.*, m.v FROM {live} l JOIN temp.aidb_moved m ON l.{quoted(dependent.key)} = m.k"
        )
        db.execute(f"DELETE FROM {live} WHERE {here} IN (SELECT k FROM temp.aidb_moved)")
        # An item whose version is back, and that has no live answer, gets its stale answers again.
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE temp.aidb_back AS SELECT DISTINCT s.{key} AS k, {new} AS v FROM {SEEN} s "
            f"JOIN {stale} o ON o.{quoted(dependent.key)} = s.{key} AND o._version = {new} "
            f"WHERE s.{key} IN (SELECT k FROM temp.aidb_moved) OR s.{key} NOT IN (SELECT {key} FROM {table.items})"
        )
        db.execute(
            f"INSERT INTO {live} SELECT o.* EXCLUDE (_version) FROM {stale} o "
            f"JOIN temp.aidb_back b ON o.{quoted(dependent.key)} = b.k AND o._version = b.v"
        )
        db.execute(
            f"DELETE FROM {stale} o WHERE EXISTS (SELECT 1 FROM temp.aidb_back b "
            f"WHERE o.{quoted(dependent.key)} = b.k AND o._version = b.v)"
        )
    db.execute("DROP TABLE temp.aidb_moved; DROP TABLE temp.aidb_back")


def stale_name(live: str) -> str:
    """SQL name of the table that keeps what was once in ``live``."""
    return f"{live}_stale"
