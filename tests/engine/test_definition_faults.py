"""A definition that fails half-way leaves the catalog, the file and the answers as they were; repeated, it succeeds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import aidb
from aidb.testing import FakeModel, MemoryConnector

SETUP = """
CREATE BLOB TABLE docs FROM 'memory:*' USING memory;
CREATE VIRTUAL TABLE word AS words(docs.text);
CREATE VIRTUAL TABLE ending AS rhyme(word.word);
CREATE TABLE reviews AS FROM (VALUES (1, 'red'), (2, 'blue')) v(id, body);
CREATE BLOB TABLE review AS FROM reviews KEY (id);
ALTER TABLE reviews ADD VIRTUAL COLUMN ending AS rhyme(body);
SELECT count(*) FROM ending;
SELECT ending FROM reviews;
"""
STATEMENTS = [
    "CREATE BLOB TABLE more FROM 'memory:*' USING memory",
    "CREATE OR REPLACE BLOB TABLE docs FROM 'memory:item-1' USING memory",
    "CREATE OR REPLACE BLOB TABLE review AS SELECT id, body, id * 2 AS twice FROM reviews KEY (id)",
    "CREATE VIRTUAL TABLE again (a, b) AS words(docs.text)",
    "CREATE OR REPLACE VIRTUAL TABLE word (word, n) AS words(docs.text)",
    "CREATE MODEL paint USING color",
    "ALTER TABLE review ADD VIRTUAL COLUMN last AS rhyme(body)",
    "ALTER TABLE other ADD VIRTUAL COLUMN last AS rhyme(body)",
    "ALTER TABLE reviews DROP COLUMN ending",
    "ALTER TABLE reviews ADD COLUMN stars INTEGER",
    "DROP TABLE reviews",
    "DROP BLOB TABLE docs CASCADE",
    "DROP MODEL rhyme CASCADE",
    "DROP VIRTUAL TABLE ending",
    "DROP STALE",
    "RETRY FAILED",
    "REFRESH BLOB TABLE docs",
]


class Faulty:
    """A DuckDB connection whose n-th statement fails; 0 never does."""

    def __init__(self, real: duckdb.DuckDBPyConnection) -> None:
        self.real = real
        self.left = 0
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def execute(self, sql: str, *args: Any) -> Any:
        self._count(sql)
        return self.real.execute(sql, *args)

    def sql(self, sql: str, *args: Any, **named: Any) -> Any:
        self._count(sql)
        return self.real.sql(sql, *args, **named)

    def _count(self, sql: str) -> None:
        if sql == "ROLLBACK" or not self.left:
            return
        self.left -= 1
        if self.left == 0:
            self.failed = True
            raise duckdb.OperationalError("the disk fails here")


def words(text: str) -> list[tuple[str, int]]:
    return [(w, len(w)) for w in text.split()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[aidb.Connection, Faulty, MemoryConnector]]:
    con = aidb.connect(tmp_path / "x.db")
    memory = MemoryConnector(["red wine", "blue jay", "tea"], content="text")
    con.register_connector(memory)
    con.register(FakeModel("words", {"word": "VARCHAR", "letters": "INTEGER"}, words, rows="many"))
    con.register(FakeModel("rhyme", {"rhyme": "VARCHAR"}, lambda word: word[-2:]))
    con.execute("SET threads = 1; CREATE TABLE other AS SELECT 'x' AS body")
    con.execute(SETUP)
    faulty = Faulty(con.engine.database.user)
    con.engine.database.user = faulty  # type: ignore[assignment]
    con.engine.registry.store._connection = faulty  # type: ignore[assignment]
    yield con, faulty, memory
    faulty.left = 0
    con.close()


def state(con: aidb.Connection) -> dict[str, Any]:
    """Everything that is stored, and what the connection believes it is."""
    db, registry = con.engine.database, con.engine.registry
    tables = db.query(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT temporary ORDER BY ALL"
    ).to_pylist()
    views = db.query("SELECT view_name, sql FROM duckdb_views() WHERE NOT internal ORDER BY ALL")
    found: dict[str, Any] = {"views": views.to_pylist()}
    for table in tables:
        name = f'"{table["schema_name"]}"."{table["table_name"]}"'
        rows = db.query(f"SELECT * FROM {name}").to_pylist()
        found[name] = sorted(map(str, rows))
    found["models"] = dict(registry.models)
    found["blobs"] = (dict(registry.blobs), dict(registry.dropped))
    found["virtual"] = (dict(registry.virtual), sorted(map(str, registry.columns)))
    found["fills"] = dict(registry.fills)
    return found


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_definition_happens_whole_or_not_at_all(
    world: tuple[aidb.Connection, Faulty, MemoryConnector], sql: str
) -> None:
    con, faulty, memory = world
    if sql.startswith("REFRESH"):
        memory.replace("item-0", "rose")
        memory.remove("item-1")
        memory.add("item-9", "new")
    before = state(con)
    n = 0
    while n < 600:
        n += 1 + n // 8  # each of the first statements, and of those that follow a sample all the way
        faulty.left, faulty.failed = n, False
        try:
            con.execute(sql)
        except aidb.Error:
            assert faulty.failed, sql
            faulty.left = 0
            assert state(con) == before, f"{sql}: statement {n}"
            assert not con.engine.database.in_transaction()
            continue
        if not faulty.failed:
            break
        before = state(con)  # a planner that can't look something up does without; what was declared stands
    else:
        raise AssertionError(f"{sql} never came to its end")
    faulty.left = 0
    assert n > 1
    reopened = type(con.engine.registry)(con.engine.database, con.engine.pool)
    assert reopened.virtual == con.engine.registry.virtual
    assert reopened.blobs == con.engine.registry.blobs
    assert reopened.models == con.engine.registry.models
    assert sorted(map(str, reopened.columns)) == sorted(map(str, con.engine.registry.columns))
    assert reopened.fills == con.engine.registry.fills


def test_a_listing_that_fails_leaves_the_items(world: tuple[aidb.Connection, Faulty, MemoryConnector]) -> None:
    con, _, memory = world
    before = state(con)
    memory.list_error = "the server is gone"
    for sql in ("REFRESH BLOB TABLE docs", "CREATE OR REPLACE BLOB TABLE docs FROM 'memory:*' USING memory"):
        with pytest.raises(aidb.SourceError, match="the server is gone"):
            con.execute(sql)
        assert state(con) == before


def test_a_listing_may_be_interrupted(world: tuple[aidb.Connection, Faulty, MemoryConnector]) -> None:
    con, _, memory = world
    before = state(con)
    listed = memory._batches

    def slowly(rows: Any) -> Any:
        for batch in listed(rows):
            con.interrupt()
            yield batch

    memory._batches = slowly  # type: ignore[method-assign]
    with pytest.raises(aidb.Interrupted):
        con.execute("REFRESH BLOB TABLE docs")
    assert state(con) == before
