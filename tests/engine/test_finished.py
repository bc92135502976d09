"""A finished fill is asked about no more; whatever may bring new items, or take answers away, is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import aidb
from aidb.connection import Connection
from aidb.errors import OperationalError
from aidb.testing import FakeModel

COUNT = "SELECT count(*) FROM v WHERE y > 2"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "finished.aidb"


@pytest.fixture
def con(path: Path) -> Iterator[Connection]:
    with aidb.connect(path) as con:
        con.execute("CREATE TABLE source AS SELECT range AS id FROM range(5)")
        con.execute("CREATE BLOB TABLE items AS SELECT id FROM source KEY (id)")
        con.register(FakeModel("m", {"y": "BIGINT"}, lambda x: x))
        con.execute("CREATE VIRTUAL TABLE v AS m(items.id)")
        yield con


def candidates(con: Connection, sql: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many queries for items a statement asks."""
    asked = []
    query = con.engine.database.query

    def spy(text: str, *args: object) -> object:
        if "aidb_internal" in text:
            asked.append(text)
        return query(text, *args)

    with monkeypatch.context() as patch:
        patch.setattr(con.engine.database, "query", spy)
        con.execute(sql)
    return len(asked)


def test_a_finished_fill_is_not_asked_about(con: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    assert candidates(con, COUNT, monkeypatch) > 0
    assert candidates(con, COUNT, monkeypatch) == 0
    cursor = con.execute(COUNT)
    assert cursor.fetchall() == [(2,)]
    assert cursor.report.calls == {"m": 0}
    assert cursor.report.cached == {"m": 5}


def test_as_many_answers_as_items_are_not_enough(con: Connection, path: Path) -> None:
    """Answers about other items, which only hands in our tables can bring, don't pass for those that are missing."""
    con.execute("SELECT count(*) FROM v WHERE id < 4")
    ledger, answers = con.execute("SELECT ledger, answers FROM aidb.virtual_tables").fetchone() or ("", "")
    con.engine.database.execute(f"INSERT INTO {ledger} SELECT 99, _call, false FROM {ledger} LIMIT 1")
    con.engine.database.execute(f"INSERT INTO {answers} VALUES (99, 0)")
    cursor = con.execute(COUNT)
    assert cursor.fetchall() == [(2,)]
    assert cursor.report.calls == {"m": 1}


def test_an_unfinished_fill_is(con: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    con.execute("SELECT count(*) FROM v WHERE id < 3")
    assert candidates(con, COUNT, monkeypatch) > 0


def test_new_items_are_noticed(con: Connection) -> None:
    con.execute(COUNT)
    con.execute(COUNT)
    con.execute("INSERT INTO source VALUES (7)")
    assert con.execute(COUNT).fetchall() == [(2,)]
    con.execute("REFRESH BLOB TABLE items")
    cursor = con.execute(COUNT)
    assert cursor.fetchall() == [(3,)]
    assert cursor.report.calls == {"m": 1}


def test_new_items_of_another_connection_are_noticed(con: Connection, path: Path) -> None:
    con.execute(COUNT)
    con.execute(COUNT)
    with aidb.connect(path) as other:
        other.execute("INSERT INTO source VALUES (7)")
        other.execute("REFRESH BLOB TABLE items")
    assert con.execute(COUNT).fetchall() == [(3,)]


def test_failed_items_are_retried(con: Connection) -> None:
    broken = {4}

    def answer(x: int) -> int:
        if x in broken:
            raise ValueError("not now")
        return x

    con.register(FakeModel("sick", {"y": "BIGINT"}, answer, version="2"))
    con.execute("CREATE VIRTUAL TABLE w AS sick(items.id)")
    for _ in range(2):
        assert con.execute("SELECT count(*) FROM w WHERE y > 2").fetchall() == [(1,)]
    broken.clear()
    con.execute("RETRY FAILED")
    assert con.execute("SELECT count(*) FROM w WHERE y > 2").fetchall() == [(2,)]


def test_rows_of_an_unfinished_parent_are_items(con: Connection) -> None:
    con.register(FakeModel("many", {"z": "BIGINT"}, lambda x: [x, x + 10], rows="many"))
    con.register(FakeModel("child", {"s": "BIGINT"}, lambda z: z * 2, inputs=("z",)))
    con.execute("CREATE VIRTUAL TABLE p AS many(items.id)")
    con.execute("CREATE VIRTUAL TABLE c AS child(p.z)")
    for _ in range(2):  # all rows of the parent that are there have been seen by the child
        assert con.execute("SELECT count(*) FROM c WHERE id < 2").fetchall() == [(4,)]
    assert con.execute("SELECT count(*) FROM c").fetchall() == [(10,)]
    cursor = con.execute("SELECT count(*) FROM c JOIN v USING (id)")
    assert cursor.fetchall() == [(10,)]
    assert cursor.report.calls == {"m": 5, "many": 0, "child": 0}


def test_rows_of_a_plain_table_come_and_go(con: Connection) -> None:
    con.execute("ALTER TABLE source ADD VIRTUAL COLUMN y AS m(id)")
    for _ in range(2):
        assert con.execute("SELECT count(*) FROM source WHERE y > 2").fetchall() == [(2,)]
    con.execute("INSERT INTO source VALUES (9)")
    assert con.execute("SELECT count(*) FROM source WHERE y > 2").fetchall() == [(3,)]


def test_a_transaction_that_began_before_sees_what_was_there(con: Connection, path: Path) -> None:
    with aidb.connect(path) as other:
        other.register(FakeModel("m", {"y": "BIGINT"}, lambda x: x))
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM source")
        con.execute(COUNT)
        con.execute(COUNT)
        with pytest.raises(OperationalError, match="transaction"):
            other.execute(COUNT)
        other.execute("ROLLBACK")
        assert other.execute(COUNT).fetchall() == [(2,)]


def test_early_stop_over_finished_fills_gives_enough_rows(con: Connection) -> None:
    con.execute(COUNT)
    for _ in range(2):
        assert con.execute("SELECT y FROM v WHERE y > 1 ORDER BY id LIMIT 2").fetchall() == [(2,), (3,)]
        assert len(con.execute("SELECT y FROM v LIMIT 3").fetchall()) == 3
