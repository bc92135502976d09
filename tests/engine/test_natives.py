"""DuckDB's macros and aggregate functions, known without asking again for what no statement can have changed."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import aidb


def macros(con: aidb.Connection) -> set[str]:
    """Those that the next statement would be planned with, which are those that there are."""
    known = set(con.engine.registry.natives.macros())
    there = con.execute(
        "SELECT lower(function_name) FROM duckdb_functions() WHERE NOT internal AND function_type LIKE '%macro%'"
    )
    assert known == {name for (name,) in there.fetchall()}
    return known


def test_macros_are_known_whatever_makes_or_removes_them() -> None:
    with aidb.connect() as con:
        assert macros(con) == set()
        for statement, left in (
            ("CREATE MACRO twice(x) AS x * 2", {"twice"}),
            ("CREATE TABLE t AS SELECT 1 AS a", {"twice"}),
            ("BEGIN; CREATE FUNCTION thrice(x) AS x * 3", {"twice", "thrice"}),
            ("ROLLBACK", {"twice"}),
            ("CREATE OR REPLACE TEMP MACRO rows(x) AS TABLE SELECT x", {"twice", "rows"}),
            ("DROP MACRO twice", {"rows"}),
            ("CREATE SCHEMA s; CREATE MACRO s.inner(x) AS x", {"rows", "inner"}),
            ("DROP SCHEMA s CASCADE", {"rows"}),
            ("ATTACH ':memory:' AS one; CREATE MACRO one.main.there(x) AS x", {"rows", "there"}),
            ("ATTACH ':memory:' AS two; COPY FROM DATABASE one TO two; DETACH one", {"rows", "there"}),
            ("DETACH two", {"rows"}),
        ):
            con.execute(statement)
            assert macros(con) == left, statement


def test_a_new_database_asks_for_no_list_of_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    with aidb.connect() as con:
        con.execute("SELECT 1")
        con.engine.registry.natives.aggregates()
    with aidb.connect() as con:
        natives = con.engine.registry.natives
        monkeypatch.setattr(natives, "_read_functions", lambda: pytest.fail("listed"))
        con.execute("CREATE BLOB TABLE b AS SELECT range AS id FROM range(3) KEY (id); CREATE VIEW v AS FROM b")
        assert con.execute("SELECT sum(id) FROM v").fetchall() == [(3,)]
        assert {"sum", "count_star"} <= natives.aggregates()


def test_a_file_that_was_there_before_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(str(path)) as old:
        old.execute("CREATE MACRO before(x) AS x")
    with aidb.connect(path) as con:
        assert macros(con) == {"before"}
        with aidb.connect(path) as other:
            other.execute("CREATE MACRO beside(x) AS x")
        con.execute("SELECT 1")
        con.engine.registry.catch_up()
        assert macros(con) == {"before", "beside"}
