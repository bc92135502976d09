"""``threadsafety`` is 2: threads share a connection, each with cursors of its own; who may stop what, and progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import aidb
from aidb.exec.control import Progress
from aidb.testing import FailingModel, FakeModel
from tests.engine.storing import check_quiet, check_storage, rows

N = 60
SOON = 10
"""Seconds after which a thread that should have ended never will."""


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
        yield con


def put(con: aidb.Connection, **more: Any) -> FakeModel:
    model = FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=5, **more)
    con.register(model)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    return model


def put_slow(con: aidb.Connection) -> tuple[FailingModel, threading.Event]:
    """A model whose first call hangs until the event."""
    gate = threading.Event()
    slow = FailingModel(FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=5), hang=gate)
    con.register(slow)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    return slow, gate


class Thread(threading.Thread):
    """A thread that keeps what it was told, or what went wrong."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work, self.result, self.error = work, None, None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as e:
            self.error = e

    def end(self) -> Any:
        """What the work gave, or its exception."""
        self.join(SOON)
        assert not self.is_alive()
        return self.result if self.error is None else self.error


def test_threads_share_a_connection(con: aidb.Connection) -> None:
    assert aidb.threadsafety == 2
    model = put(con)
    con.execute("CREATE TABLE p (thread INT, a INT)")
    together = threading.Barrier(4)

    def work(thread: int) -> list[Any]:
        together.wait()
        found: list[Any] = []
        for n in range(4):
            cursor = con.execute("SELECT count(*), sum(y) FROM v WHERE id < ?", [14 * (n + 1)])
            con.executemany("INSERT INTO p VALUES (?, ?)", [(thread, n), (thread, -n)])
            found += cursor.fetchall()
            found += con.execute("SELECT $a || $b", {"a": str(thread), "b": "x" * n}).fetchall()
        return found

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(4)))
    for thread, found in enumerate(results):
        below = [min(14 * (n + 1), N) for n in range(4)]
        assert found[::2] == [(b, b * (b - 1) // 2) for b in below]
        assert found[1::2] == [(f"{thread}{'x' * n}",) for n in range(4)]
    assert rows(con, "SELECT thread, count(*), sum(a) FROM p GROUP BY 1 ORDER BY 1") == [(n, 8, 0) for n in range(4)]
    assert (model.items, sorted(set(model.seen))) == (56, [(n,) for n in range(56)])
    assert check_storage(con) == {"m": 56}


def test_rows_are_fetched_while_another_thread_executes(con: aidb.Connection) -> None:
    cursor = con.execute("FROM range(200_000)")
    slow, gate = put_slow(con)
    other = Thread(lambda: con.execute("SELECT sum(y) FROM v").fetchall())
    slow.entered.wait()
    assert sum(n for (n,) in cursor) == 19_999_900_000
    gate.set()
    assert other.end() == [(1770,)]


def test_cancel_stops_only_its_own_cursor(con: aidb.Connection) -> None:
    slow, gate = put_slow(con)
    first, second, third = con.cursor(), con.cursor(), con.cursor()
    running = Thread(lambda: first.execute("SELECT sum(y) FROM v").fetchall())
    slow.entered.wait()
    waiting = Thread(lambda: second.execute("SELECT 2").fetchall())
    while second not in con._waiting:
        pass
    third.cancel()  # runs nothing
    second.cancel()  # waits for its turn
    assert (running.is_alive(), waiting.is_alive()) == (True, True)
    first.cancel()
    assert isinstance(running.end(), aidb.Interrupted)
    assert str(waiting.end()) == "cancelled before it began"
    gate.set()
    first.cancel()  # has ended
    assert [c.execute("SELECT count(*) FROM v").fetchall() for c in (first, second, third)] == [[(N,)]] * 3
    assert slow.items == N
    check_quiet(con)


def test_cancel_stops_duckdb_too(con: aidb.Connection) -> None:
    cursor = con.cursor()
    sql = "SELECT count(*) FROM range(10_000_000) a, range(100_000) b WHERE a.range % 7 = b.range % 11"
    long = Thread(lambda: cursor.execute(sql))
    while con._owner is not cursor:
        pass
    while long.is_alive():  # DuckDB loses an interrupt that comes before it has begun
        cursor.cancel()
        long.join(0.02)
    assert isinstance(long.end(), aidb.Interrupted)
    assert rows(con, "SELECT 1") == [(1,)]


def test_closing_from_another_thread_stops_what_runs(con: aidb.Connection) -> None:
    slow, gate = put_slow(con)
    running = Thread(lambda: con.execute("SELECT sum(y) FROM v").fetchall())
    slow.entered.wait()
    waiting = Thread(lambda: con.execute("SELECT 1").fetchall())
    while not con._waiting:
        pass
    closing = Thread(con.close)
    assert isinstance(running.end(), aidb.Interrupted)
    gate.set()
    assert closing.end() is None
    assert isinstance(waiting.end(), aidb.InterfaceError)
    with pytest.raises(aidb.InterfaceError, match="closed"):
        con.execute("SELECT 1")


def test_interrupting_an_idle_connection_does_nothing(con: aidb.Connection) -> None:
    con.interrupt()
    assert rows(con, "SELECT 1") == [(1,)]


# ---- progress
def test_progress_of_a_connection_and_of_one_statement() -> None:
    told: dict[str, list[Progress]] = {"all": [], "one": []}
    with aidb.connect(progress=told["all"].append) as con:
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
        put(con)
        con.execute("SELECT sum(y) FROM v WHERE id < 20", progress=told["one"].append)
        assert told["all"] == []
        assert (told["one"][-1].model, told["one"][-1].done) == ("m", 20)
        before = len(told["one"])
        con.cursor().execute("SELECT sum(y) FROM v")
        assert (told["all"][-1].model, told["all"][-1].done, told["all"][-1].total) == ("m", 40, 40)
        assert len(told["one"]) == before


def test_a_progress_callback_that_raises_ends_its_statement_and_keeps_the_work(con: aidb.Connection) -> None:
    model = put(con)

    def tell(progress: Progress) -> None:
        raise ValueError("the window is gone")

    with pytest.raises(ValueError, match="the window is gone"):
        con.execute("SELECT sum(y) FROM v", progress=tell)
    assert rows(con, "SELECT sum(y) FROM v") == [(1770,)]
    assert model.items == N
    check_quiet(con)
