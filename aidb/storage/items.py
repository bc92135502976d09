"""The items of blob tables: listed once, listed again by REFRESH, and what a change of them means for stored answers.

An item keeps its key as long as its identity (file, file and pts, the KEY column) is the same, also across a REFRESH
that finds it gone and another that finds it back. Answers about a changed or vanished item move to a stale table, with
the version of what they were computed from; they move back if that version returns, so nothing is paid for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from aidb.catalog.definitions import BlobTable, FillDefinition
from aidb.catalog.names import listed, quoted
from aidb.errors import IntegrityError, ProgrammingError
from aidb.spi.content import CONTENT_SQL
from aidb.storage.answers import error_key
from aidb.storage.schema import INTERNAL

CONTENT_ID = "content_id"
STAGING = "temp.aidb_staging"
SEEN = "temp.aidb_seen"
TURNED = "temp.aidb_turned"
TURNS = "temp.aidb_turns"
CHUNK = 1 << 16
"""Rows of a listing that are written at a time."""


@dataclass(frozen=True)
class Dependent:
    """A fill whose answers rest on a blob table, and what it rests on of every table.

    own: (key, columns, content) of the table that changes: the fill's key column, plain columns, and whether content
    counts. others: items table -> the same, for other tables that the fill rests on as well (a model over pairs).
    """

    fill: FillDefinition
    table: int
    rests: tuple[tuple[str, str, tuple[str, ...], bool], ...]

    @classmethod
    def of(cls, fill: FillDefinition, table: BlobTable, there: Mapping[int, BlobTable]) -> Dependent:
        """The dependent for a fill; ``there`` are all blob tables that still have items, dropped ones included."""
        rests = tuple((there[n].items, key, columns, deep) for n, key, columns, deep in fill.rests if n in there)
        return cls(fill, [n for n, *_ in fill.rests if n in there].index(table.id), rests)

    @property
    def key(self) -> str:
        """The fill's key column that names the item."""
        return self.rests[self.table][1]


@dataclass(frozen=True)
class Changes:
    """How many items a listing found, and how many of them were new, had changed, or were gone since the last one."""

    items: int
    new: int
    changed: int
    gone: int


def stage_batches(
    db: duckdb.DuckDBPyConnection,
    table: BlobTable,
    batches: Iterable[pa.RecordBatch],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write a connector's listing to the staging table. check: called now and then, raises to stop."""
    columns = ", ".join(f"{quoted(name)} {type_}" for name, type_ in table.columns)
    db.execute(f"CREATE OR REPLACE TEMP TABLE {STAGING} ({columns}, _content VARCHAR, _copy BIGINT, _n BIGINT)")
    waiting: list[pa.RecordBatch] = []
    written = rows = 0
    for batch in batches:
        check()
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= CHUNK:
            written += _write(db, table, waiting, written)
            waiting, rows = [], 0
    _write(db, table, waiting, written)


def _write(db: duckdb.DuckDBPyConnection, table: BlobTable, batches: list[pa.RecordBatch], start: int) -> int:
    if not batches:
        return 0
    part = pa.Table.from_batches(batches)
    part = part.append_column("_n", pa.array(range(start, start + part.num_rows), pa.int64()))
    db.register("aidb_batch", part)
    try:
        names = listed(name for name, _ in table.columns)
        db.execute(f"INSERT INTO {STAGING} SELECT {names}, {CONTENT_ID}, 0, _n FROM aidb_batch")
    finally:
        db.unregister("aidb_batch")
    return int(part.num_rows)


def stage_query(
    db: duckdb.DuckDBPyConnection, query: str, key: str | None, tables: Iterable[BlobTable]
) -> tuple[tuple[str, str], ...]:
    """Run the query of CREATE BLOB TABLE ... AS into the staging table; (name, type) of its columns.

    With a key, the content of an item is what its content columns refer to, by the content ids of the tables that list
    them; without one, it is the whole row, which is then all that can tell an item from another.
    """
    described = db.execute(f"DESCRIBE SELECT * FROM ({query}\n)").fetchall()
    columns = tuple((str(row[0]), str(row[1])) for row in described)
    _check_names(columns)
    content = [n for n, t in columns if t == CONTENT_SQL]
    ids = [f"c{n}.id" for n in range(len(content))]
    source = f"({query}\n) AS q"
    if content:
        parts = [
            f"SELECT {quoted(t.content)} AS ref, _content FROM {t.items}" for t in tables if t.content and t.connector
        ]
        known = " UNION ALL ".join(parts) or "SELECT NULL AS ref, NULL AS _content WHERE FALSE"
        listed_as = f"(SELECT ref, any_value(_content) AS id FROM ({known}) GROUP BY ref)"
        source += "".join(f" LEFT JOIN {listed_as} c{n} ON c{n}.ref = q.{quoted(c)}" for n, c in enumerate(content))
    if key is not None:
        what = f"md5(concat_ws(chr(0), {', '.join(ids)}))" if ids else "NULL::VARCHAR"
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE {STAGING} AS SELECT q.*, {what} AS _content, 0::BIGINT AS _copy, "
            f"row_number() OVER () AS _n FROM {source}"
        )
    else:
        what = f"md5(concat_ws(chr(0), {', '.join(['q::VARCHAR', *ids])}))"
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE {STAGING} AS SELECT *, row_number() OVER (PARTITION BY _content) AS _copy, "
            f"row_number() OVER () AS _n FROM (SELECT q.*, {what} AS _content FROM {source})"
        )
    return columns


def _check_names(columns: Sequence[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for name, _ in columns:
        if name.lower() in seen:
            raise ProgrammingError(f"the query has two columns {name!r}: give one another name with AS")
        if name.lower() in ("_content", "_copy", "_n"):
            raise ProgrammingError(
                f"the query's column {name!r} begins with an underscore, as AIDB's own do: rename it"
            )
        seen.add(name.lower())


def create(db: duckdb.DuckDBPyConnection, table: BlobTable) -> None:
    """Make the empty table of items, and the one of keys that were given out before."""
    own = "".join(f", {quoted(name)} {type_}" for name, type_ in _own(table))
    columns = f"{quoted(table.key)} {table.key_type}{own}, _content VARCHAR, _copy BIGINT"
    db.execute(f"CREATE TABLE {table.items} ({columns}); CREATE TABLE {table.items}_gone ({columns})")


def drop(db: duckdb.DuckDBPyConnection, table: BlobTable) -> None:
    """Remove the items for good."""
    db.execute(f"DROP TABLE IF EXISTS {table.items}; DROP TABLE IF EXISTS {table.items}_gone")


def merge(
    db: duckdb.DuckDBPyConnection, before: BlobTable, table: BlobTable, dependents: Sequence[Dependent]
) -> Changes:
    """Make the items what the staging table lists; keys stay, answers that no longer hold become stale.

    before: the definition by which the items were listed last: of the same id, key and identity, perhaps of other
    columns. Part of the caller's transaction. Raises `IntegrityError` for keys that are NULL or not unique.
    """
    _check_identity(db, table)
    if count(db, before.items) == count(db, f"{before.items}_gone") == 0:
        if before.columns != table.columns:
            drop(db, before)
            create(db, table)
        return _fill(db, table)
    _see(db, before, table)
    changes = _compare(db, before, table)
    if changes.new or changes.changed or changes.gone or before.columns != table.columns:
        stale_tables = _stale_tables(db) if dependents else set()
        for dependent in dependents:
            _move_answers(db, before, table, dependent, stale_tables)
        _store(db, before, table, changes)
    db.execute(f"DROP TABLE {SEEN}; DROP TABLE {STAGING}; DROP TABLE {TURNED}")
    return changes


def _fill(db: duckdb.DuckDBPyConnection, table: BlobTable) -> Changes:
    """The first listing: there is nothing to compare it with."""
    key = quoted(table.key) if _is_given(table) else "_n - min(_n) OVER ()"
    names = "".join(f", {quoted(n)}" for n, _ in _own(table))
    order = quoted(table.key) if _is_given(table) else "_n"
    db.execute(f"INSERT INTO {table.items} SELECT {key}{names}, _content, _copy FROM {STAGING} ORDER BY {order}")
    db.execute(f"DROP TABLE {STAGING}")
    items = count(db, table.items)
    return Changes(items, items, 0, 0)


def _see(db: duckdb.DuckDBPyConnection, before: BlobTable, table: BlobTable) -> None:
    """The new listing with the keys of items that were listed before, and new keys for the others."""
    key = quoted(table.key)
    own = "".join(f"s.{quoted(n)}, " for n, _ in _own(table))
    shown = f"{key}, {listed(dict.fromkeys(c for c in table.identity if c.lower() != table.key.lower()))}"
    earlier = " UNION ALL ".join(
        f"SELECT {shown.rstrip(', ')} FROM {t}" for t in (before.items, f"{before.items}_gone")
    )
    on = " AND ".join(f"s.{quoted(c)} IS NOT DISTINCT FROM i.{quoted(c)}" for c in table.identity)
    given = f"s.{key}"
    if not _is_given(table):
        given = (
            f"coalesce(i.{key}, (SELECT coalesce(max({key}), -1) FROM ({earlier})) "
            f"+ row_number() OVER (PARTITION BY i.{key} IS NULL ORDER BY s._n))"
        )
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE {SEEN} AS SELECT {given} AS {key}, {own}s._content, s._copy "
        f"FROM {STAGING} s LEFT JOIN ({earlier}) i ON {on}"
    )


def _compare(db: duckdb.DuckDBPyConnection, before: BlobTable, table: BlobTable) -> Changes:
    """Write down which keys are new, changed and gone."""
    key = quoted(table.key)
    old = {n.lower(): t for n, t in _own(before)}
    both = [n for n, t in _own(table) if old.get(n.lower()) == t]
    differs = " OR ".join(f"i.{c} IS DISTINCT FROM s.{c}" for c in [*map(quoted, both), "_content"])
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE {TURNED} AS SELECT coalesce(s.{key}, i.{key}) AS k, "
        f"CASE WHEN i.{key} IS NULL THEN 'new' WHEN s.{key} IS NULL THEN 'gone' ELSE 'changed' END AS how "
        f"FROM {SEEN} s FULL JOIN {before.items} i ON s.{key} = i.{key} "
        f"WHERE s.{key} IS NULL OR i.{key} IS NULL OR {differs}"
    )
    found = dict(db.execute(f"SELECT how, count(*) FROM {TURNED} GROUP BY how").fetchall())
    return Changes(count(db, SEEN), *(found.get(how, 0) for how in ("new", "changed", "gone")))


def _store(db: duckdb.DuckDBPyConnection, before: BlobTable, table: BlobTable, changes: Changes) -> None:
    """The new listing takes the place of the old one."""
    key = quoted(table.key)
    names = ", ".join([key, *(quoted(n) for n, _ in _own(table)), "_content", "_copy"])
    turned = f"SELECT k FROM {TURNED} WHERE how ="
    if before.columns != table.columns:
        # Of what is gone only the key and what it is found by again are needed.
        same = ["NULL" if (n, t) not in before.columns else quoted(n) for n, t in _own(table)]
        old = ", ".join([key, *same, "_content", "_copy"])
        for name in (table.items, f"{table.items}_gone"):
            db.execute(f"ALTER TABLE {name} RENAME TO aidb_old_items")
            db.execute(f"CREATE TABLE {name} AS SELECT {names} FROM {SEEN} LIMIT 0")
            db.execute(f"INSERT INTO {name} BY POSITION SELECT {old} FROM {INTERNAL}.aidb_old_items")
            db.execute(f"DROP TABLE {INTERNAL}.aidb_old_items")
    gone = f"{table.items}_gone"
    db.execute(f"INSERT INTO {gone} SELECT {names} FROM {table.items} WHERE {key} IN ({turned} 'gone')")
    db.execute(f"DELETE FROM {gone} WHERE {key} IN ({turned} 'new')")
    if not changes.changed and not changes.gone and not _is_given(table) and before.columns == table.columns:
        db.execute(
            f"INSERT INTO {table.items} SELECT {names} FROM {SEEN} WHERE {key} IN ({turned} 'new') ORDER BY {key}"
        )
        return
    db.execute(f"DELETE FROM {table.items}; INSERT INTO {table.items} SELECT {names} FROM {SEEN} ORDER BY {key}")


def _own(table: BlobTable) -> list[tuple[str, str]]:
    """(name, type) of the columns beside the key."""
    return [(n, t) for n, t in table.columns if n.lower() != table.key.lower()]


def _is_given(table: BlobTable) -> bool:
    """Is the key a column of the listing, rather than a number that the engine assigns?"""
    return table.key.lower() in (n.lower() for n, _ in table.columns)


def count(db: duckdb.DuckDBPyConnection, table: str) -> int:
    """Rows of a table that is there."""
    return int(db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def _check_identity(db: duckdb.DuckDBPyConnection, table: BlobTable) -> None:
    """What identifies an item must be there, and must identify one."""
    columns = listed(table.identity)
    missing = " OR ".join(f"{quoted(c)} IS NULL" for c in table.identity)
    found = db.execute(
        f"SELECT {columns}, count(*) AS n FROM {STAGING} GROUP BY ALL HAVING n > 1 OR {missing} LIMIT 1"
    ).fetchall()
    if not found:
        return
    (row,) = found
    shown = ", ".join(f"{c} = {v!r}" for c, v in zip(table.identity, row[:-1], strict=True))
    what = "is NULL" if any(v is None for v in row[:-1]) else f"stands {row[-1]} times"
    raise IntegrityError(
        f"{table.name}: a key must be unique and not NULL, but {shown} {what}; "
        f"choose another KEY{', or make the query DISTINCT' if table.query is not None else ''}"
    )


# ---- answers
def _version(columns: Sequence[str], content: bool, alias: str, there: Iterable[str] | None = None) -> str:
    """SQL digest of what of an item answers were computed from; NULL if it has no such columns now."""
    if there is not None and not {c.lower() for c in columns} <= {c.lower() for c in there}:
        return "NULL"
    parts = [f"{alias}._content"] if content else []
    parts += [f"{alias}.{quoted(c)}" for c in columns]
    return f"md5(ROW({', '.join(parts) or '0'})::VARCHAR)"


def _move_answers(
    db: duckdb.DuckDBPyConnection, before: BlobTable, table: BlobTable, dependent: Dependent, stale_tables: set[str]
) -> None:
    """Answers about changed and vanished items go to the stale tables; those whose version is back return."""
    fill, own, key = dependent.fill, quoted(dependent.key), quoted(table.key)
    if not count(db, fill.ledger) and stale_name(fill.ledger) not in stale_tables:
        return
    _, _, columns, content = dependent.rests[dependent.table]
    old = _version(columns, content, "i", [n for n, _ in before.columns])
    new = _version(columns, content, "s", [n for n, _ in table.columns])
    same_type = {n.lower() for n, t in before.columns if (n, t) in table.columns}
    kept = {c.lower() for c in columns} <= same_type | {table.key.lower()}
    keys = TURNED if kept else f"(SELECT {key} AS k FROM {SEEN} UNION SELECT {key} FROM {before.items})"
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE {TURNS} AS SELECT t.k, i.{key} IS NOT NULL AS had, "
        f"CASE WHEN i.{key} IS NOT NULL THEN {old} END AS v, CASE WHEN s.{key} IS NOT NULL THEN {new} END AS w "
        f"FROM {keys} t LEFT JOIN {before.items} i ON i.{key} = t.k LEFT JOIN {SEEN} s ON s.{key} = t.k"
    )
    db.execute(f"DELETE FROM {TURNS} WHERE had AND v IS NOT DISTINCT FROM w")
    joins = "".join(
        f" LEFT JOIN {items} o{n} ON o{n}.{quoted(name)} = a.{quoted(name)}"
        for n, (items, name, _, _) in enumerate(dependent.rests)
        if n != dependent.table
    )
    _forget_errors(db, dependent)
    for live, sound in ((fill.rows, "TRUE"), (fill.ledger, "NOT a._failed")):
        stale = stale_name(live)
        db.execute(f"CREATE TABLE IF NOT EXISTS {stale} AS SELECT *, NULL::VARCHAR AS _version FROM {live} LIMIT 0")
        # Of a failure nothing is worth keeping: the item may be read the next time.
        db.execute(
            f"INSERT INTO {stale} SELECT a.*, {_combined(dependent, 'm.v')} FROM {live} a "
            f"JOIN {TURNS} m ON a.{own} = m.k{joins} WHERE m.had AND {sound}"
        )
        db.execute(f"DELETE FROM {live} WHERE {own} IN (SELECT k FROM {TURNS} WHERE had)")
        if not count(db, stale):
            continue
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE temp.aidb_back AS SELECT a.rowid AS r FROM {stale} a "
            f"JOIN {TURNS} m ON a.{own} = m.k{joins} WHERE m.w IS NOT NULL AND a._version = {_combined(dependent, 'm.w')}"
        )
        back = "rowid IN (SELECT r FROM temp.aidb_back)"
        db.execute(f"INSERT INTO {live} SELECT * EXCLUDE (_version) FROM {stale} WHERE {back}")
        db.execute(f"DELETE FROM {stale} WHERE {back}; DROP TABLE temp.aidb_back")
    db.execute(f"DROP TABLE {TURNS}")


def _combined(dependent: Dependent, own: str) -> str:
    """SQL of the version of everything that an answer rests on; ``own`` is that of the table that changes."""
    parts = [
        own if n == dependent.table else _version(columns, deep, f"o{n}")
        for n, (_, _, columns, deep) in enumerate(dependent.rests)
    ]
    return own if len(parts) == 1 else f"md5(ROW({', '.join(parts)})::VARCHAR)"


def _forget_errors(db: duckdb.DuckDBPyConnection, dependent: Dependent) -> None:
    """What went wrong with an item as it was says nothing of it as it is."""
    db.execute(
        f"DELETE FROM {INTERNAL}.errors e WHERE e.fill = {dependent.fill.id} AND {error_key(dependent.key)} "
        f"IN (SELECT k::VARCHAR FROM {TURNS} WHERE had)"
    )


def drop_stale(db: duckdb.DuckDBPyConnection, fill: FillDefinition) -> int:
    """Remove the answers that became stale with their items; how many rows there were."""
    rows = count_rows(db, stale_name(fill.rows))
    for live in (fill.rows, fill.ledger):
        db.execute(f"DROP TABLE IF EXISTS {stale_name(live)}")
    return rows


def count_rows(db: duckdb.DuckDBPyConnection, table: str) -> int:
    """Rows of one of our tables, 0 if it is not there."""
    there = db.execute(
        "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ? AND database_name = current_database()",
        table.split("."),
    ).fetchall()
    return count(db, table) if there else 0


def stale_name(live: str) -> str:
    """SQL name of the table that keeps what was once in ``live``."""
    return f"{live}_stale"


def _stale_tables(db: duckdb.DuckDBPyConnection) -> set[str]:
    rows = db.execute(
        "SELECT table_name FROM duckdb_tables() WHERE schema_name = ? AND database_name = current_database() "
        "AND table_name LIKE '%\\_stale' ESCAPE '\\'",
        [INTERNAL],
    ).fetchall()
    return {f"{INTERNAL}.{name}" for (name,) in rows}
