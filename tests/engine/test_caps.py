"""Caps on calls, time and money: never passed, resumable, and nothing of what they paid for is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aidb
from aidb.testing import FakeModel
from tests.engine.storing import check_quiet, check_storage, rows

N = 100
ASK = "SELECT count(*), sum(y) FROM v"
RIGHT = [(N, sum(range(N)))]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in flight when a cap is reached is waited for, however busy the machine."""
    monkeypatch.setattr("aidb.exec.run.GRACE", 60.0)


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
        yield con


def put(con: aidb.Connection, name: str = "m", view: str = "v", **more: Any) -> FakeModel:
    model = FakeModel(name, {"y": "INTEGER"}, lambda x: x, **{"batch_size": 7, **more})
    con.register(model)
    con.execute(f"CREATE VIRTUAL TABLE {view} AS {name}(t.x)")
    return model


@pytest.mark.parametrize("concurrency", [1, 6])
@pytest.mark.parametrize("cap", [1, 7, 50, 99])
def test_calls_are_exactly_as_many_as_allowed(con: aidb.Connection, cap: int, concurrency: int) -> None:
    model = put(con, concurrency=concurrency, batch_size=3, delay=0.001)
    con.execute(f"SET aidb.max_calls = {cap}")
    done = 0
    while done + cap < N:
        with pytest.raises(aidb.BudgetExceeded, match=f"aidb.max_calls = {cap}") as e:
            con.execute(ASK)
        done += cap
        assert model.items == done
        assert e.value.report is not None
        assert e.value.report.calls == {"m": cap}
        assert check_storage(con) == {"m": done}
        if cap == 1:
            break
    con.execute("RESET aidb.max_calls")
    cur = con.execute(ASK)
    assert cur.fetchall() == RIGHT
    assert cur.report.calls == {"m": N - done}
    check_quiet(con)


def test_a_cap_that_is_just_enough_is_no_error(con: aidb.Connection) -> None:
    put(con)
    con.execute(f"SET aidb.max_calls = {N}")
    assert rows(con, ASK) == RIGHT
    con.execute("SET aidb.max_calls = 0")
    assert rows(con, ASK) == RIGHT, "what is stored needs no calls"


def test_a_cap_counts_all_models_and_pilots(con: aidb.Connection) -> None:
    one, two = put(con, "one", "a"), put(con, "two", "b")
    con.execute("SET aidb.max_calls = 90")
    with pytest.raises(aidb.BudgetExceeded) as e:
        con.execute("SELECT sum(a.y + b.y) FROM a JOIN b USING (id)")
    assert one.items + two.items == 90
    assert e.value.report is not None
    assert e.value.report.calls == {"one": one.items, "two": two.items}
    assert sum(check_storage(con).values()) == 90
    con.execute("RESET aidb.max_calls")
    assert rows(con, "SELECT sum(a.y + b.y) FROM a JOIN b USING (id)") == [(2 * sum(range(N)),)]
    assert one.items == two.items == N


def test_money(con: aidb.Connection) -> None:
    model = put(con, price_per_call=0.1)
    con.execute("SET aidb.max_cost = 3")
    with pytest.raises(aidb.BudgetExceeded, match=r"aidb\.max_cost = 3") as e:
        con.execute(ASK)
    assert model.items == 30
    assert e.value.report is not None
    assert e.value.report.cost == pytest.approx(3)
    con.execute("RESET aidb.max_cost")
    cur = con.execute(ASK)
    assert cur.fetchall() == RIGHT
    assert cur.report.cost == pytest.approx(7)


def test_seconds(con: aidb.Connection) -> None:
    model = put(con, batch_size=1, delay=0.02)
    con.execute("SET aidb.max_seconds = 0.3")
    began = time.monotonic()
    with pytest.raises(aidb.BudgetExceeded, match=r"aidb\.max_seconds") as e:
        con.execute(ASK)
    assert 0.3 <= time.monotonic() - began < 1.5
    assert e.value.report is not None
    check_quiet(con)
    assert 0 < check_storage(con)["m"] == model.items < N
    model.delay = 0
    con.execute("RESET aidb.max_seconds")
    assert rows(con, ASK) == RIGHT
    assert model.items == N
    con.execute("SET aidb.max_seconds = 0")
    assert rows(con, ASK) == RIGHT, "what is stored needs no time"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO copy SELECT id, y FROM v",
        "CREATE TABLE other AS SELECT id, y FROM v",
        "COPY (SELECT id, y FROM v) TO '{folder}/x.csv'",
        "UPDATE copy SET y = (SELECT max(y) FROM v)",
    ],
)
def test_a_cap_within_a_statement_that_writes(con: aidb.Connection, sql: str, tmp_path: Path) -> None:
    model = put(con)
    con.execute("CREATE TABLE copy (id BIGINT, y INTEGER)")
    con.execute("SET aidb.max_calls = 40")
    text = sql.format(folder=tmp_path)
    with pytest.raises(aidb.BudgetExceeded) as e:
        con.execute(text)
    assert e.value.report is not None
    assert e.value.report.calls == {"m": 40}
    assert rows(con, "SELECT count(*) FROM copy") == [(0,)]
    assert not (tmp_path / "x.csv").exists()
    con.execute("SET aidb.max_calls = 60")
    cur = con.execute(text)
    assert cur.report.calls == {"m": 60}
    assert model.items == N
    if text.startswith("INSERT"):
        assert rows(con, "SELECT count(*), sum(y) FROM copy") == RIGHT


def test_a_file_is_paid_for_as_a_whole() -> None:
    """A model that follows a file can't stop in the middle of it: the cap is looked at where a file begins."""
    from tests.engine.trackers import Counter, Films

    with aidb.connect() as con:
        con.register_connector(Films({"a": 10, "b": 10, "c": 10}))
        con.execute("CREATE BLOB TABLE film FROM 'films:*' USING films")
        tracker = Counter("follow")
        con.register(tracker)
        con.execute("CREATE VIRTUAL TABLE track AS follow(film.frame)")
        con.execute("SET aidb.max_calls = 25")
        with pytest.raises(aidb.BudgetExceeded, match="too little for the 10 items of films:c") as e:
            con.execute("SELECT count(*) FROM track")
        assert e.value.report is not None
        assert e.value.report.calls == {"follow": 20}
        assert check_storage(con) == {"follow": 20}
        cur = con.execute("SELECT count(*) FROM track")
        assert cur.fetchall() == [(30,)]
        assert cur.report.calls == {"follow": 10}
        check_quiet(con)
