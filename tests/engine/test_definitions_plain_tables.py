"""A plain table with virtual columns is written like any other: the same statements, the same rows as without them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import duckdb
import pytest

import aidb
from aidb.testing import FakeModel

TABLE = '"my ""Reviews"""'


def score(body: str | None) -> int | None:
    return None if body is None else len(body)


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.register(FakeModel("score", {"score": "INTEGER"}, score))
        con.execute(f'CREATE TABLE {TABLE} (id INTEGER, body VARCHAR, "the stars" INTEGER DEFAULT 3)')
        con.execute(f"INSERT INTO {TABLE} VALUES (1, 'a', 1), (2, NULL, 2), (3, 'ccc', 3)")
        con.execute(f"ALTER TABLE {TABLE} ADD VIRTUAL COLUMN points AS score(body)")
        yield con


WRITES = [
    "INSERT INTO {t} VALUES (4, 'dd', 4)",
    "INSERT INTO main.{t} (id, \"the stars\") VALUES (4, 5)",
    "insert into {t} (body) select body || 'x' from {t} where id = 1",
    "INSERT INTO {t} BY NAME SELECT 9 AS id, 'by name' AS body",
    "INSERT INTO {t} DEFAULT VALUES",
    "WITH more AS (SELECT 7 AS id, 'cte' AS body) INSERT INTO {t} (id, body) SELECT id, body FROM more",
    "UPDATE {t} SET body = upper(body), id = id + 10 WHERE body LIKE 'c%'",
    "UPDATE {t} SET (id, body) = (5, 'pair') WHERE {t}.id = 1",
    "UPDATE {t} AS r SET body = o.body FROM {t} o WHERE r.id = o.id + 2",
    "UPDATE /* of all */ {t} SET \"the stars\" = 0 -- every one",
    "DELETE FROM {t} WHERE id = 2",
    "DELETE FROM {t} AS d USING (SELECT 3 AS id) x WHERE d.id = x.id",
    "DELETE FROM {t} WHERE {t}.\"the stars\" > 1 AND EXISTS (SELECT 1 FROM {t} o WHERE o.id < {t}.id)",
    "TRUNCATE {t}",
    "MERGE INTO {t} USING (VALUES (1, 'merged'), (8, 'new')) v(id, body) ON {t}.id = v.id "
    "WHEN MATCHED THEN UPDATE SET body = v.body WHEN NOT MATCHED THEN INSERT (id, body) VALUES (v.id, v.body)",
    "ALTER TABLE {t} ADD COLUMN extra VARCHAR DEFAULT 'e'",
    "ALTER TABLE {t} DROP COLUMN \"the stars\"",
    "ALTER TABLE {t} RENAME COLUMN id TO number",
    "ALTER TABLE {t} ALTER COLUMN id SET DATA TYPE BIGINT",
    "CREATE OR REPLACE TABLE {t} AS SELECT range AS id, 'made ' || range AS body FROM range(3)",
]  # fmt: skip


@pytest.mark.parametrize("sql", WRITES)
def test_a_write_does_what_it_does_without_virtual_columns(con: aidb.Connection, sql: str) -> None:
    plain = duckdb.connect(config={"threads": 1})
    plain.execute(f'CREATE TABLE {TABLE} (id INTEGER, body VARCHAR, "the stars" INTEGER DEFAULT 3)')
    plain.execute(f"INSERT INTO {TABLE} VALUES (1, 'a', 1), (2, NULL, 2), (3, 'ccc', 3)")
    plain.execute(sql.format(t=TABLE))
    cursor = con.execute(sql.format(t=TABLE))
    want = plain.execute(f"SELECT * FROM {TABLE} ORDER BY ALL")
    names = [d[0] for d in want.description]
    rows = want.fetchall()
    got = con.execute(f"SELECT * FROM {TABLE} ORDER BY ALL")
    assert [d[0] for d in got.description or ()] == [*names, "points"]
    assert got.fetchall() == [(*row, score(row[names.index("body")])) for row in rows]
    assert cursor.description is None


CONDITIONS = [
    ("DELETE FROM {t} WHERE points = 3", {1, 2}),
    ("DELETE FROM {t} AS r WHERE r.points > 0 OR r.id = 2 RETURNING r.id", set()),
    ("DELETE FROM {t} WHERE points IS NULL", {1, 3}),
    ("UPDATE {t} SET id = 2 WHERE points = 3", {1, 2}),
    ("UPDATE {t} r SET id = r.id + 100 WHERE POINTS = 1 AND r.body = 'a'", {101, 2, 3}),
]


@pytest.mark.parametrize(("sql", "left"), CONDITIONS)
def test_a_condition_may_read_a_virtual_column(con: aidb.Connection, sql: str, left: set[int]) -> None:
    con.execute(sql.format(t=TABLE))
    assert {row[0] for row in con.execute(f"SELECT id FROM {TABLE}").fetchall()} == left


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE {t} SET points = 1",
        "UPDATE {t} SET id = 1, (body, points) = ('a', 1)",
        "INSERT INTO {t} (id, points) VALUES (1, 1)",
        "UPDATE {t} SET body = points WHERE id = 1",
        "UPDATE {t} SET body = 'x' FROM (SELECT 1 AS k) v WHERE points = v.k",
        "DELETE FROM {t} WHERE id = 1 RETURNING points",
        "MERGE INTO {t} USING (SELECT 1 AS k) v ON points = v.k WHEN MATCHED THEN DELETE",
        "DROP VIEW {t}",
        "CREATE VIEW {t} AS SELECT 1",
        "CREATE TEMP TABLE {t} (a INTEGER)",
        "ALTER TABLE {t} RENAME TO other",
        "ALTER TABLE {t} DROP COLUMN body",
        "ALTER TABLE {t} RENAME COLUMN body TO text",
        "ALTER TABLE {t} ADD COLUMN points INTEGER",
        "ALTER TABLE {t} DROP VIRTUAL COLUMN nothing",
        "CREATE OR REPLACE TABLE {t} AS SELECT 1 AS id",
        "CREATE OR REPLACE TABLE {t} AS SELECT * FROM {t}",
        'DROP TABLE "my ""Reviews""__stored"',
        "CREATE BLOB TABLE {t} AS SELECT 1 AS id KEY (id)",
        "CREATE VIRTUAL TABLE {t} AS score(body)",
    ],
)
def test_what_can_not_be_written_is_refused_and_changes_nothing(con: aidb.Connection, sql: str) -> None:
    before = con.execute(f"SELECT * FROM {TABLE}").fetchall()
    with pytest.raises((aidb.ProgrammingError, aidb.NotSupportedError)) as caught:
        con.execute(sql.format(t=TABLE))
    assert "__stored" not in str(caught.value) or "DROP TABLE" in sql
    assert con.execute(f"SELECT * FROM {TABLE}").fetchall() == before


def test_random_writes_leave_what_plain_duckdb_has() -> None:
    rng = Random(5)
    plain = duckdb.connect(config={"threads": 1})
    with aidb.connect() as con:
        model = FakeModel("score", {"score": "INTEGER"}, score)
        con.register(model)
        con.execute("SET threads = 1")
        for db in (plain, con):
            db.execute("CREATE TABLE t (a INTEGER, body VARCHAR)")
        con.execute("ALTER TABLE t ADD VIRTUAL COLUMN points AS score(body)")
        plain.execute("CREATE VIEW v AS SELECT *, length(body)::INTEGER AS points FROM t")
        for _ in range(80):
            a, text = rng.randint(0, 5), rng.choice(["NULL", "'x'", "'yy'", "'zzz'"])
            statement, same = rng.choice(
                [
                    (f"INSERT INTO t VALUES ({a}, {text})", None),
                    (f"INSERT INTO t SELECT a + 1, body FROM t WHERE a = {a}", None),
                    (f"UPDATE t SET body = {text} WHERE a = {a}", None),
                    (f"DELETE FROM t WHERE a = {a} AND body = {text}", None),
                    (f"DELETE FROM t WHERE points = {a}", f"DELETE FROM t WHERE length(body) = {a}"),
                    (f"UPDATE t SET a = 9 WHERE points < 2 AND a > {a}", f"UPDATE t SET a = 9 WHERE len(body) < 2 AND a > {a}"),
                    ("BEGIN; INSERT INTO t VALUES (1, 'x'); ROLLBACK", None),
                ]
            )  # fmt: skip
            con.execute(statement)
            plain.execute(same or statement)
            want = plain.execute("SELECT * FROM v WHERE points IS DISTINCT FROM 1 ORDER BY ALL").fetchall()
            assert con.execute("SELECT * FROM t WHERE points IS DISTINCT FROM 1 ORDER BY ALL").fetchall() == want
        assert len(model.seen) == len(set(model.seen)) <= 4  # each value is asked about once, whatever is written


def test_equal_values_are_shared_by_tables(tmp_path: Path) -> None:
    with aidb.connect(tmp_path / "x.db") as con:
        model = FakeModel("score", {"score": "INTEGER"}, score)
        con.register(model)
        con.execute("CREATE TABLE t AS SELECT 'one' AS body; CREATE TABLE u AS SELECT 'one' AS text")
        con.execute("ALTER TABLE t ADD VIRTUAL COLUMN points AS score(body)")
        con.execute("ALTER TABLE u ADD VIRTUAL COLUMN value AS score(text)")
        assert con.execute("SELECT points, value, score(text) FROM t, u").fetchall() == [(3, 3, 3)]
        assert model.items == 1
        con.execute("DROP TABLE t; CREATE TABLE t AS SELECT 'one' AS b UNION ALL SELECT 'three'")
        assert sorted(con.execute("SELECT score(b) FROM t").fetchall()) == [(3,), (5,)]
        assert model.items == 2


def test_in_a_transaction_what_needs_no_model_works(con: aidb.Connection) -> None:
    con.execute(f"SELECT * FROM {TABLE}")
    con.execute("BEGIN")
    con.execute(f"INSERT INTO {TABLE} VALUES (5, 'ccc', 1)")
    assert con.execute(f"SELECT sum(points) FROM {TABLE}").fetchall() == [(7,)]
    con.execute(f"UPDATE {TABLE} SET body = 'unknown' WHERE id = 5")
    with pytest.raises(aidb.OperationalError, match="transaction"):
        con.execute(f"SELECT sum(points) FROM {TABLE}")
    con.execute("ROLLBACK")
    assert con.execute(f"SELECT sum(points) FROM {TABLE}").fetchall() == [(4,)]


def test_what_a_write_would_cost_is_told_before(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE seen AS SELECT 1 AS id, 0 AS n")
    told = con.explain(f"INSERT INTO seen SELECT id, points FROM {TABLE} WHERE id < 3")
    assert told.calls == {"score": 2}  # a NULL is asked about too
    for sql in (
        f"UPDATE seen SET n = points FROM {TABLE} t WHERE t.id = seen.id",
        f"DELETE FROM seen USING {TABLE} t WHERE t.points = seen.n",
        f"DELETE FROM {TABLE} WHERE points > 1",
    ):
        told = con.explain(sql)
        assert told.calls == {"score": 3}
        assert told.notes == ("every item of what it reads is asked, whatever its conditions say",)
    assert con.execute("SELECT count(*) FROM aidb.calls").fetchone() == (0,)
    with pytest.raises(aidb.ProgrammingError, match="only a query can be explained"):
        con.explain("DELETE FROM seen")
