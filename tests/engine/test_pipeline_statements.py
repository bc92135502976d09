"""Statements around a query: whatever reads a virtual table finds the answers there, and asks for no more than it must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aidb
from aidb.testing import FakeModel
from tests.engine.storing import check_storage, rows

SOME = "SELECT id, y FROM v WHERE id < 5"
ALL = 20
FIVE = [(5, 100)]


@pytest.fixture
def model() -> FakeModel:
    return FakeModel("m", {"y": "INTEGER"}, lambda x: x * 10, batch_size=4)


@pytest.fixture
def con(model: FakeModel) -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({ALL}) KEY (id)")
        con.register(model)
        con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
        con.execute("CREATE TABLE p (id BIGINT, y INTEGER)")
        con.execute("CREATE TABLE q (id BIGINT PRIMARY KEY, y INTEGER)")
        con.execute(f"CREATE TABLE full_ AS SELECT range AS id, 0::INTEGER AS y FROM range({ALL})")
        yield con


P, F = "SELECT count(*), sum(y) FROM p", "SELECT count(*), sum(y) FROM full_"
Z, CSV = "SELECT count(*), sum(y) FROM z", "SELECT count(*), sum(y) FROM '{d}/a.csv'"

CASES: list[tuple[Any, str, Any, int]] = [
    # a statement (with parameters), a query about what it did, that query's answer, calls at most
    (f"INSERT INTO p {SOME}", P, FIVE, 5),
    (("INSERT INTO p SELECT id, y FROM v WHERE id < ? AND y >= ?", [5, 10]), P, [(4, 100)], 5),
    (("INSERT INTO p SELECT id, y FROM v WHERE id < $1 AND y >= $2", [5, 10]), P, [(4, 100)], 5),
    (("INSERT INTO p SELECT id, y FROM v WHERE id < $n", {"n": 5}), P, FIVE, 5),
    (
        ("INSERT INTO q SELECT id, y FROM v WHERE id < ? ON CONFLICT DO UPDATE SET y = ?", [5, 7]),
        "SELECT count(*), sum(y) FROM q",
        FIVE,
        5,
    ),
    (f"INSERT INTO p BY NAME {SOME}", P, FIVE, 5),
    ("INSERT INTO p WITH c AS (SELECT id, y FROM v WHERE id < 5) SELECT * FROM c", P, FIVE, 5),
    ("WITH c AS (SELECT id, y FROM v WHERE id < 5) INSERT INTO p SELECT * FROM c", P, FIVE, ALL),
    ("INSERT INTO p SELECT id, m(x) FROM t WHERE id < 5", P, FIVE, 5),
    (("INSERT INTO p SELECT id, m(x) FROM t WHERE id < ?", [5]), P, FIVE, 5),
    ("INSERT INTO p VALUES (1, (SELECT max(y) FROM v))", P, [(1, 190)], ALL),
    ("INSERT INTO p SELECT id, y FROM v LIMIT 3", "SELECT count(*) FROM p", [(3,)], 16),
    (f"INSERT INTO p {SOME} RETURNING y + 1", P, FIVE, 5),
    (f"CREATE TABLE z AS {SOME}", Z, FIVE, 5),
    (f"CREATE TABLE z AS ({SOME})", Z, FIVE, 5),
    (("CREATE TABLE z AS SELECT id, y FROM v WHERE id < ?", [5]), Z, FIVE, 5),
    (f"CREATE OR REPLACE TEMP TABLE z AS {SOME}", Z, FIVE, 5),
    (f"CREATE TABLE z AS {SOME} WITH NO DATA", Z, [(0, None)], 0),
    ("CREATE TABLE z AS FROM v", Z, [(ALL, 1900)], ALL),
    (f"COPY ({SOME}) TO '{{d}}/a.csv'", CSV, FIVE, 5),
    (("COPY (SELECT id, y FROM v WHERE id < ?) TO '{d}/a.csv'", [5]), CSV, FIVE, 5),
    ("COPY v TO '{d}/a.csv'", CSV, [(ALL, 1900)], ALL),
    (f"CREATE VIEW z AS {SOME}", Z, FIVE, 5),
    (f"CREATE TEMP VIEW z AS {SOME}", Z, FIVE, 5),
    ("CREATE MACRO mm(n) AS (SELECT sum(y) FROM v WHERE id < n)", "SELECT 5, mm(5)", FIVE, ALL),
    ("CREATE MACRO z(n) AS TABLE SELECT * FROM v WHERE id < n", "SELECT count(*), sum(y) FROM z(5)", FIVE, ALL),
    ("UPDATE full_ SET y = (SELECT y FROM v WHERE v.id = full_.id) WHERE id < 5", F, [(ALL, 100)], ALL),
    ("UPDATE full_ SET y = v.y FROM v WHERE v.id = full_.id AND v.id < 5", F, [(ALL, 100)], ALL),
    (("UPDATE full_ AS f SET y = v.y + ? FROM v WHERE v.id = f.id AND v.id < ?", [1, 5]), F, [(ALL, 105)], ALL),
    ("DELETE FROM full_ WHERE id IN (SELECT id FROM v WHERE y >= 50)", F, [(5, 0)], ALL),
    ("DELETE FROM full_ USING v WHERE full_.id = v.id AND v.y >= 50", F, [(5, 0)], ALL),
    ("MERGE INTO full_ USING v ON full_.id = v.id WHEN MATCHED THEN UPDATE SET y = v.y", F, [(ALL, 1900)], ALL),
    ("SET VARIABLE s = (SELECT sum(y) FROM v)", "SELECT getvariable('s')", [(1900,)], ALL),
    ("CREATE TYPE e AS ENUM (SELECT y::VARCHAR FROM v)", "SELECT len(enum_range(NULL::e))", [(ALL,)], ALL),
    ("CREATE TEMP TABLE z AS SELECT 3 AS id", "SELECT y FROM v JOIN z USING (id)", [(30,)], 1),
    ("CREATE TEMP VIEW z AS SELECT 3 AS id", "SELECT y FROM v JOIN z USING (id)", [(30,)], 1),
    (f"EXPLAIN INSERT INTO p {SOME}", P, [(0, None)], 0),
    ("EXPLAIN DELETE FROM full_ WHERE id IN (SELECT id FROM v)", F, [(ALL, 0)], 0),
    ("INSERT INTO p SELECT 1, 2 WHERE 'aidb_internal' = 'v'", P, [(0, None)], 0),
]


@pytest.mark.parametrize(("statement", "query", "answer", "calls"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_reads_what_models_fill(
    con: aidb.Connection, model: FakeModel, tmp_path: Path, statement: Any, query: str, answer: Any, calls: int
) -> None:
    text, parameters = statement if isinstance(statement, tuple) else (statement, None)
    con.execute(text.replace("{d}", str(tmp_path)), parameters)
    assert rows(con, query.replace("{d}", str(tmp_path))) == answer
    assert model.items <= calls
    check_storage(con)


@pytest.mark.parametrize(
    ("before", "query"),
    [
        ("CREATE TABLE other.z AS SELECT 3 AS id", "SELECT y FROM v JOIN other.z USING (id)"),
        ("CREATE TABLE other.v AS SELECT 3 AS id", "SELECT v.y FROM v JOIN other.v AS o USING (id)"),
        ("CREATE TABLE s.v AS SELECT 3 AS id", "SELECT v.y FROM main.v JOIN s.v AS o USING (id)"),
        ("CREATE TABLE s.v AS SELECT 30 AS y", "SELECT y FROM s.v"),
    ],
)
def test_tables_elsewhere(con: aidb.Connection, before: str, query: str) -> None:
    con.execute("ATTACH ':memory:' AS other; CREATE SCHEMA s")
    con.execute(before)
    assert rows(con, query) == [(30,)]


def test_early_stop_chooses_among_rows_with_answers(con: aidb.Connection, model: FakeModel) -> None:
    """A virtual column is NULL until it is answered, but no row may be written with such a NULL."""
    con.execute("CREATE TABLE words (w VARCHAR)")
    con.execute("INSERT INTO words SELECT 'w' || range FROM range(500)")
    con.register(FakeModel("size", {"n": "INTEGER"}, len, batch_size=8))
    con.execute("ALTER TABLE words ADD VIRTUAL COLUMN n AS size(w)")
    con.execute("CREATE TABLE out (w VARCHAR, n INTEGER, o INTEGER)")
    cur = con.execute("INSERT INTO out SELECT w, n, ? FROM words WHERE n >= ? LIMIT 5 OFFSET 2", [9, 2])
    assert rows(con, "SELECT count(*), count(n), min(o), max(o) FROM out") == [(5, 5, 9, 9)]
    assert cur.report.calls["size"] < 100


def test_transactions(con: aidb.Connection, model: FakeModel) -> None:
    con.execute("BEGIN")
    with pytest.raises(aidb.OperationalError, match="inside a transaction"):
        con.execute("SELECT sum(y) FROM v")
    con.execute("ROLLBACK")
    assert model.items == 0
    rows(con, "SELECT sum(y) FROM v")
    con.execute("BEGIN; INSERT INTO p SELECT id, y FROM v")
    assert rows(con, "SELECT sum(p.y), sum(v.y) FROM p JOIN v USING (id)") == [(1900, 1900)]
    con.execute("ROLLBACK")
    assert rows(con, P) == [(0, None)]
    assert rows(con, "SELECT sum(y) FROM v") == [(1900,)]
    assert model.items == ALL


def test_executemany_and_scripts(con: aidb.Connection, model: FakeModel) -> None:
    con.executemany("INSERT INTO p SELECT id, y FROM v WHERE id = ?", [[1], [2], [3]])
    assert rows(con, P) == [(3, 60)]
    assert model.items == 3
    script = "CREATE TABLE z (y INT); INSERT INTO z SELECT y FROM v WHERE id < 5; SELECT count(*), sum(y) FROM z"
    assert rows(con, script) == FIVE
    assert model.items == 5


def test_system_tables_in_joins(con: aidb.Connection, model: FakeModel) -> None:
    rows(con, "SELECT sum(y) FROM v WHERE id < 5")
    asked = "SELECT sum(c.items), any_value(c.model), (SELECT sum(y) FROM v WHERE id < 5) FROM aidb.calls c"
    assert rows(con, asked) == [(5, "m", 100)]
    assert rows(con, "SELECT mo.name, sum(y) FROM aidb.models mo, v WHERE v.id < 5 GROUP BY 1") == [("m", 100)]
    assert model.items == 5


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("INSERT INTO v VALUES (1, 2)", "v is a virtual table"),
        ("DROP VIEW v", "DROP VIRTUAL TABLE v"),
        ("DELETE FROM aidb.calls", "kept by AIDB"),
        ("DROP SCHEMA aidb_internal CASCADE", "kept by AIDB"),
        ("PREPARE s AS SELECT sum(y) FROM v", "PREPARE can't read"),
        ("CREATE VIEW w AS SELECT m(x) FROM t", "a view can't call a model"),
    ],
)
def test_what_can_not_be(con: aidb.Connection, model: FakeModel, sql: str, says: str) -> None:
    with pytest.raises(aidb.DatabaseError, match=says):
        con.execute(sql)
    assert model.items == 0
    assert rows(con, "SELECT sum(y) FROM v") == [(1900,)]
