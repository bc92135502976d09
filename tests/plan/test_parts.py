"""Texts of a query for some of its units: what they count, what they sum up, and how the result is named and sorted."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from aidb.errors import NotSupportedError
from aidb.plan.naming import default_name
from aidb.plan.nodes import expression_of, parse
from aidb.plan.parts import Aggregate, Parts
from aidb.plan.units import Units
from tests.plan.test_units import RELATIONS

SETUP = """
CREATE TABLE frames AS SELECT i AS frame_id, i % 3 AS cam, i AS ts, i % 2 AS dark FROM range(6) t(i);
CREATE TABLE box AS SELECT frame_id, j AS box_id, 10 * frame_id + j AS x, ['bus', 'car'][1 + j % 2] AS cls
  FROM frames, range(3) r(j) WHERE j < frame_id % 4;
CREATE TABLE mood AS SELECT frame_id, nullif(frame_id % 4, 2) AS mood FROM frames;
CREATE TABLE notes AS SELECT 1 AS frame_id, 'bus' AS cls, 5 AS w;
CREATE TABLE chosen (__k0 BIGINT);
INSERT INTO chosen VALUES (1), (3)
"""


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute(SETUP)
        yield con


def parts(sql: str) -> Parts:
    return Parts(Units.of(sql, RELATIONS), RELATIONS.aggregates)


def names(con: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    return [d[0] for d in con.execute(sql).description]


# ---- rows


def test_rows_of_some_units_and_of_all_others(con: duckdb.DuckDBPyConnection) -> None:
    made = parts("SELECT b.x FROM frames f JOIN box b USING (frame_id) ORDER BY x DESC LIMIT 3")
    assert con.execute(made.rows(only="chosen")).fetchall() == [(32,), (31,), (30,)]
    assert con.execute(made.rows(without="chosen")).fetchall() == [(50,), (21,), (20,)]
    assert len(con.execute(made.rows(only="chosen", tail=False)).fetchall()) == 4


def test_further_columns_and_the_key(con: duckdb.DuckDBPyConnection) -> None:
    made = parts("SELECT * FROM (SELECT x FROM box WHERE x > 30)")
    text = made.rows(only="chosen", more=("TRUE AS seen", *made.keys))
    assert names(con, text) == ["x", "seen", "__u0"]
    assert sorted(con.execute(text).fetchall()) == [(31, True, 3), (32, True, 3)]


def test_the_key_is_whichever_is_there_where_joins_leave_some_out(con: duckdb.DuckDBPyConnection) -> None:
    made = parts("SELECT m.mood FROM box b FULL JOIN mood m ON b.frame_id = m.frame_id AND b.x > 20")
    found = con.execute(made.counts(only="chosen")).fetchall()
    assert sorted(found) == [(1, 2), (3, 3)]


def test_what_was_added_stays_out_of_every_star(con: duckdb.DuckDBPyConnection) -> None:
    sql = "WITH c AS (SELECT x FROM box) SELECT *, t.* FROM (SELECT * FROM c UNION ALL SELECT x + 1 FROM c) t"
    text = parts(sql).rows(without="chosen")
    assert names(con, text) == names(con, sql) == ["x", "x"]
    with pytest.raises(NotSupportedError, match="t does not show frame_id: select it there"):
        parts("SELECT t FROM (SELECT x FROM box) t")


def test_rows_that_sum_up_many_units_are_no_rows_of_items() -> None:
    made = parts("SELECT cls, count(*) FROM box GROUP BY cls")
    with pytest.raises(NotSupportedError, match="write ERROR TARGET instead, or GROUP BY the key"):
        made.rows(only="chosen")
    assert parts("SELECT frame_id, count(*) FROM box GROUP BY frame_id").rows(only="chosen")


# ---- counts


@pytest.mark.parametrize(
    ("sql", "counts"),
    [
        ("SELECT cls FROM box", {1: 1, 3: 3}),
        ("SELECT DISTINCT cls FROM box", {1: 1, 3: 3}),  # equal rows of two units are one: these are before that
        ("SELECT DISTINCT frame_id, cls FROM box", {1: 1, 3: 2}),
        ("SELECT DISTINCT ON (frame_id) cls FROM box ORDER BY frame_id, x LIMIT 1", {1: 1, 3: 1}),
        ("SELECT frame_id, count(*) AS n FROM box GROUP BY frame_id HAVING n > 1", {3: 1}),
        (
            "SELECT m.frame_id, count(*) FROM box b JOIN mood m ON b.frame_id = m.frame_id GROUP BY m.frame_id",
            {1: 1, 3: 1},
        ),
        ("SELECT frame_id, cls, max(x) AS m FROM box GROUP BY ALL", {1: 1, 3: 2}),
        ("SELECT x, row_number() OVER (PARTITION BY frame_id ORDER BY x) AS r FROM box QUALIFY r < 3", {1: 1, 3: 2}),
        ("SELECT unnest([x, x]) FROM box", {1: 2, 3: 6}),
        ("SELECT x + 1 AS y FROM box WHERE y > 31 LIMIT 1", {3: 2}),
        ("SELECT x + 1 AS y, y + 1 AS z FROM box WHERE z > 32", {3: 2}),
        ("SELECT cls, count(*) FROM box GROUP BY cls", {1: 1, 3: 3}),  # the rows that are summed up
        ("SELECT sum(x) FROM box HAVING count(*) > 100", {1: 1, 3: 3}),
        ("SELECT x FROM box UNION ALL SELECT mood FROM mood WHERE mood > 1", {1: 1, 3: 4}),
    ],
)
def test_counts(con: duckdb.DuckDBPyConnection, sql: str, counts: dict[int, int]) -> None:
    assert dict(con.execute(parts(sql).counts(only="chosen")).fetchall()) == counts


def test_counts_ask_for_no_column_that_the_number_does_not_depend_on() -> None:
    assert "cls" not in parts("SELECT cls, x AS y FROM box WHERE x > 3").counts(only="chosen")


# ---- shares


def shares_sum_up_to(con: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[object, ...]]:
    """The answer from the shares of each unit."""
    shares = parts(sql).shares(without="nobody")
    con.execute("CREATE OR REPLACE TEMP TABLE nobody (__k0 BIGINT)")
    groups = [f"__g{n}" for n in range(len(shares.groups))]
    values = []
    for kind, n in shares.outputs:
        if kind == "group":
            values.append(f"__g{n}")
            continue
        a = shares.aggregates[n]
        values.append(f"sum(__s{a.place}) / sum(__s{a.place + 1})" if a.kind == "avg" else f"sum(__s{a.place})")
    tail = f" GROUP BY {', '.join(groups)}" if groups else ""
    return con.execute(f"SELECT {', '.join(values)} FROM ({shares.sql}){tail} ORDER BY ALL").fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*), sum(x), avg(x), count(mood) FROM box JOIN mood USING (frame_id)",
        "SELECT cls, avg(x) FROM box GROUP BY cls",
        "SELECT b.cls, count(*) AS n, b.cls AS again FROM box b GROUP BY CLS",
        "SELECT x % 2 AS odd, count(*) FROM box GROUP BY odd",
        "SELECT upper(cls), sum(x) FILTER (WHERE x > 20) FROM box GROUP BY 1",
        "SELECT sum(x + 1), cam, cls FROM box b JOIN frames f USING (frame_id) GROUP BY ALL",
        "SELECT frame_id, count(*) FROM box FULL JOIN mood USING (frame_id) GROUP BY frame_id",
        "SELECT count_if(x > 10), count() FROM (SELECT x FROM box)",
        "SELECT avg(n) FROM (SELECT count(*) AS n FROM box GROUP BY frame_id)",
        "SELECT mood, count(*) FROM frames f LEFT JOIN mood m USING (frame_id) "
        "WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id) GROUP BY mood",
    ],
)
def test_shares(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    assert shares_sum_up_to(con, sql) == con.execute(f"SELECT * FROM ({sql}) ORDER BY ALL").fetchall()
    shares = parts(sql).shares(only="chosen")
    found = [shares.groups[n] if kind == "group" else shares.aggregates[n].name for kind, n in shares.outputs]
    assert found == names(con, sql)


def test_an_average_has_two_columns() -> None:
    shares = parts("SELECT avg(x) AS a, count(*) FROM box").shares(only="chosen")
    assert shares.aggregates == (Aggregate("a", "avg", 0), Aggregate("count_star()", "count", 2))
    assert (shares.columns, shares.groups, shares.outputs) == (3, (), (("aggregate", 0), ("aggregate", 1)))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT max(x) FROM box", "MAX(x) can't be estimated"),
        ("SELECT count(DISTINCT cls) FROM box", "COUNT(DISTINCT cls) can't be estimated"),
        ("SELECT sum(DISTINCT x) FROM box", "SUM(DISTINCT x) can't be estimated"),
        ("SELECT sum(x) / count(*) FROM box", "each alone"),
        ("SELECT sum(x) OVER (PARTITION BY frame_id) FROM box", "each alone"),
        ("SELECT cls, count(*) FROM box GROUP BY cls HAVING count(*) > 1", "HAVING can't be decided on estimates"),
        ("SELECT DISTINCT count(*) FROM box GROUP BY cls", "DISTINCT can't be decided on estimates"),
        ("SELECT cls, count(*) FROM box GROUP BY ROLLUP (cls)", "ask for one GROUP BY at a time"),
        ("SELECT cls, x, count(*) FROM box GROUP BY cls, CUBE (x)", "ask for one GROUP BY at a time"),
        ("SELECT x FROM box", "x can't be estimated"),
        ("SELECT *, count(*) FROM box GROUP BY ALL", "write out the columns that * stands for"),
    ],
)
def test_what_is_no_sum_over_units(sql: str, words: str) -> None:
    with pytest.raises(NotSupportedError) as caught:
        parts(sql).shares(only="chosen")
    assert words in str(caught.value)


# ---- the tail, for a result that is not DuckDB's own


@pytest.mark.parametrize(
    ("sql", "tail"),
    [
        ("SELECT cls, count(*) FROM box GROUP BY cls", ""),
        ("SELECT cls, count(*) FROM box GROUP BY cls ORDER BY count(*) DESC LIMIT 3", "ORDER BY 2 DESC LIMIT 3"),
        ("SELECT b.cls, count(*) FROM box b GROUP BY cls ORDER BY b.cls OFFSET 1", "ORDER BY 1 OFFSET 1"),
        ("SELECT cls, count(*) AS n FROM box GROUP BY 1 ORDER BY n, 1", "ORDER BY n, 1"),
        ("SELECT cls AS c, sum(x) AS s FROM box GROUP BY ALL ORDER BY -s, ALL", "ORDER BY -s, ALL"),
        ("SELECT x FROM box UNION SELECT mood FROM mood ORDER BY x LIMIT 2", "ORDER BY x LIMIT 2"),
    ],
)
def test_the_tail_names_columns_of_the_result(sql: str, tail: str) -> None:
    assert parts(sql).tail() == tail


def test_the_result_can_not_be_sorted_by_what_it_does_not_show() -> None:
    with pytest.raises(NotSupportedError, match=r"ORDER BY SUM\(x\): the result can be sorted by its own columns only"):
        parts("SELECT cls, count(*) FROM box GROUP BY cls ORDER BY sum(x)").tail()
    with pytest.raises(NotSupportedError, match=r"ORDER BY SUM\(x\)"):
        parts("SELECT cls, count(*) FROM box GROUP BY cls ORDER BY sum(x)").shares(only="chosen")


@pytest.mark.parametrize(
    "expression",
    [
        "count(*)", "COUNT( * )", "count()", "avg(X)", "SUM(b.x)", "sum(x + 1)", "sum(x * 2.5) FILTER (x > 1)",
        "count(x) FILTER (WHERE cls IS NOT NULL AND x <> 3)", "avg(-x)", "sum(x::DOUBLE)", "sum(abs(x - 1))",
        'sum("x")', "count_star()", "mean(x)", "count_if(x > 1)", "avg(x // 2 % 3)", "sum((x))", "avg(-1)",
    ],
)  # fmt: skip
def test_names_are_duckdbs_own(con: duckdb.DuckDBPyConnection, expression: str) -> None:
    sql = f"SELECT {expression} FROM box AS b"
    assert default_name(expression_of(parse(sql).expressions[0])) == names(con, sql)[0]
