"""Stopping at any moment: at once, with finished work kept, and batches in flight stored when they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import aidb
from aidb.spi import Input, ServiceError
from aidb.testing import FailingModel, FakeModel, MemoryConnector
from tests.engine.storing import check_quiet, check_storage, rows

N = 60
ASK = "SELECT count(*), sum(y) FROM v"
RIGHT = [(N, sum(range(N)))]
SOON = 1.5
"""Seconds: it is to be within one, and a busy machine is slow."""


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
        yield con


def model(**more: Any) -> FakeModel:
    return FakeModel("m", {"y": "INTEGER"}, lambda x: x, **{"batch_size": 5, **more})


def put(con: aidb.Connection, what: Any) -> None:
    con.register(what)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")


def interrupted(con: aidb.Connection, sql: str, when: Callable[[], Any]) -> float:
    """Run a query that is interrupted from another thread after ``when()``; seconds from then on."""
    began: list[float] = []

    def stop() -> None:
        when()
        began.append(time.monotonic())
        con.interrupt()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(aidb.Interrupted):
        con.execute(sql)
    ended = time.monotonic()
    thread.join()
    return ended - began[0]


def test_during_a_batch_that_takes_long(con: aidb.Connection) -> None:
    gate = threading.Event()
    slow = FailingModel(model(), hang=gate)
    put(con, slow)
    assert interrupted(con, ASK, slow.entered.wait) < SOON
    assert slow.items == 0
    assert rows(con, "SELECT 1") == [(1,)], "other statements go on meanwhile"
    waiting = threading.Timer(0.2, gate.set)
    waiting.start()
    assert rows(con, ASK) == RIGHT, "the next statement waits for the batch in flight"
    assert slow.items == N
    assert check_storage(con) == {"m": N}
    check_quiet(con)


def test_again_while_waiting_for_the_batch_in_flight(con: aidb.Connection) -> None:
    gate = threading.Event()
    slow = FailingModel(model(), hang=gate)
    put(con, slow)
    interrupted(con, ASK, slow.entered.wait)
    assert interrupted(con, ASK, lambda: time.sleep(0.1)) < SOON
    gate.set()
    assert rows(con, ASK) == RIGHT
    assert slow.items == N


def test_closing_waits_for_the_batch_in_flight(tmp_path: Path) -> None:
    gate = threading.Event()
    slow = FailingModel(model(), hang=gate)
    with aidb.connect(tmp_path / "a.db") as con:
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
        put(con, slow)
        interrupted(con, ASK, slow.entered.wait)
        threading.Timer(0.1, gate.set).start()
    assert slow.items > 0
    with aidb.connect(tmp_path / "a.db") as con:
        assert check_storage(con) == {"m": slow.items}


def test_many_in_flight_are_all_kept(con: aidb.Connection) -> None:
    gate = threading.Event()
    slow = FailingModel(model(batch_size=2, concurrency=8), hang=gate)
    put(con, slow)
    assert interrupted(con, ASK, lambda: _until(lambda: slow.calls >= 1)) < SOON
    gate.set()
    assert rows(con, ASK) == RIGHT
    assert slow.items == N
    check_quiet(con)


def _until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_while_a_service_is_waited_for(con: aidb.Connection) -> None:
    class Busy(FailingModel):
        def _fail(self, call: int, inputs: Any) -> None:
            self.entered.set()
            raise ServiceError("busy", after=60)

    busy = Busy(model(retries=5))
    put(con, busy)
    assert interrupted(con, ASK, busy.entered.wait) < SOON
    check_quiet(con)


def test_during_decoding(con: aidb.Connection) -> None:
    gate, entered = threading.Event(), threading.Event()

    class Slow(MemoryConnector):
        def read(self, refs: Any, *, encoded: bool = False) -> Iterator[Any]:
            for ref in refs:
                entered.set()
                gate.wait()
                yield from super().read([ref], encoded=encoded)

    con.register_connector(Slow([np.full((2, 2, 3), i, np.uint8) for i in range(20)]))
    con.execute("CREATE BLOB TABLE p FROM 'memory:*' USING memory")
    con.register(FakeModel("light", {"y": "INTEGER"}, lambda a: int(a[0, 0, 0]), inputs=[Input("image", "image")]))
    con.execute("CREATE VIRTUAL TABLE w AS light(p.content)")
    assert interrupted(con, "SELECT sum(y) FROM w", entered.wait) < SOON
    gate.set()
    assert rows(con, "SELECT sum(y) FROM w") == [(sum(range(20)),)]
    check_quiet(con)


LONG = "SELECT count(*) FROM range(300000) a, range(300000) b WHERE (a.range * b.range) % 7 = {n}"


@pytest.mark.parametrize("sql", [LONG.format(n=1), "CREATE TABLE z AS " + LONG.format(n=1)])
def test_during_a_query_of_duckdb(con: aidb.Connection, sql: str) -> None:
    assert interrupted(con, sql, lambda: time.sleep(0.1)) < SOON
    assert rows(con, "SELECT 1") == [(1,)]


def test_during_the_query_that_finds_the_items(con: aidb.Connection) -> None:
    put(con, model())
    sql = f"SELECT sum(y) FROM v WHERE id = ({LONG.format(n=1)})"
    assert interrupted(con, sql, lambda: time.sleep(0.2)) < SOON
    check_quiet(con)


def test_between_two_queries_of_ours(con: aidb.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's own exception never reaches the user, whichever small query the interrupt meets."""
    for name in ("m", "n"):
        con.register(FakeModel(name, {"y": "INTEGER"}, lambda x: x))

    def stopped(*_: object) -> None:
        raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")

    monkeypatch.setattr("aidb.exec.registry.seconds_per_item", stopped)
    with pytest.raises(aidb.Interrupted):
        con.execute("SELECT count(*) FROM t WHERE m(x) > 3 AND n(x) > 5")


def test_while_rows_are_fetched(con: aidb.Connection) -> None:
    """None of them is lost: the next fetch begins where the one before did."""
    n = 2_000_000
    cursor = con.execute(f"SELECT range AS n, range::VARCHAR AS text FROM range({n})")
    first = cursor.fetchmany(3)
    is_over = threading.Event()

    def press() -> None:
        while not is_over.wait(0.002):
            con.interrupt()

    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(aidb.Interrupted):
            cursor.fetchall()
    finally:
        is_over.set()
        thread.join()
    assert cursor.fetchmany(2) == [(3, "3"), (4, "4")]
    assert len(cursor.fetchall()) == n - 5
    assert first[2] == (2, "2")


def test_with_nothing_running(con: aidb.Connection) -> None:
    put(con, model())
    con.interrupt()
    assert rows(con, ASK) == RIGHT


def test_from_many_threads_again_and_again(con: aidb.Connection) -> None:
    """Whatever the moment, the statement ends well or is interrupted, and all that was answered is there."""
    inner = model(batch_size=1, delay=0.001)
    put(con, inner)
    ended = threading.Event()

    def pester() -> None:
        while not ended.wait(0.03):
            con.interrupt()

    thread = threading.Thread(target=pester)
    thread.start()
    answer = None
    for _ in range(200):
        try:
            answer = rows(con, ASK)
            break
        except aidb.Interrupted:
            continue
    ended.set()
    thread.join()
    assert (answer or rows(con, ASK)) == RIGHT
    assert inner.items == N, "every item was asked once"
    assert check_storage(con) == {"m": N}
    check_quiet(con)


CHILD = """
import sys, time
import aidb
from aidb.testing import FakeModel

def answer(x):
    with open(sys.argv[2], "a") as f:
        f.write(f"{x}\\n")
    return x

con = aidb.connect(sys.argv[1])
con.execute("CREATE BLOB TABLE IF NOT EXISTS t AS SELECT range AS id, range::INTEGER AS x FROM range(60) KEY (id)")
con.register(FakeModel("m", {"y": "INTEGER"}, answer, batch_size=5, delay=float(sys.argv[4])))
con.execute("CREATE VIRTUAL TABLE IF NOT EXISTS v AS m(t.x)")
print("ready", flush=True)
try:
    print(con.execute(sys.argv[3]).fetchall())
except KeyboardInterrupt:
    print("interrupted", time.time(), flush=True)
    con.close()
    print("closed", flush=True)
    sys.exit(130)
"""


def run_child(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *args], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def stop_child(child: subprocess.Popen[str], after: float, side: Path | None = None) -> None:
    """Send SIGINT to a child that is at work (so long after it made a file), and see it leave in good order."""
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    while side is not None and not side.exists():  # on a busy machine the first batch may begin late
        time.sleep(0.01)
    time.sleep(after)
    sent = time.time()
    child.send_signal(signal.SIGINT)
    line = child.stdout.readline().split()
    assert line[0] == "interrupted"
    assert float(line[1]) - sent < SOON
    assert child.stdout.readline() == "closed\n"
    assert child.wait(20) == 130


@pytest.mark.parametrize("delay", [0.05, 3.0])
def test_control_c(tmp_path: Path, delay: float) -> None:
    """SIGINT in the middle of a batch: at once, and the batch's answers are stored before the process ends."""
    side = tmp_path / "asked"
    with run_child(str(tmp_path / "a.db"), str(side), ASK, str(delay)) as child:
        stop_child(child, 0.3, side)
    asked = side.read_text().split()
    assert asked
    with aidb.connect(tmp_path / "a.db") as con:
        assert check_storage(con) == {"m": len(asked)}
    with run_child(str(tmp_path / "a.db"), str(side), ASK, "0") as again:
        out, _ = again.communicate(timeout=60)
    assert out.splitlines()[-1] == str(RIGHT)
    assert sorted(map(int, side.read_text().split())) == list(range(N)), "nothing was asked twice"


def test_control_c_during_a_query_of_duckdb(tmp_path: Path) -> None:
    with run_child(str(tmp_path / "a.db"), str(tmp_path / "asked"), LONG.format(n=1), "0") as child:
        stop_child(child, 0.4)


def test_leaving_without_closing(tmp_path: Path) -> None:
    """A process that forgets its connection, with a batch in flight that never ends, still ends itself."""
    code = """
import threading, time, aidb
from aidb.testing import FailingModel, FakeModel
slow = FailingModel(FakeModel("m", {"y": "INTEGER"}, lambda x: x), hang=threading.Event())
con = aidb.connect()
con.execute("CREATE BLOB TABLE t AS SELECT 1 AS id, 1 AS x KEY (id)")
con.register(slow)
con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
threading.Thread(target=lambda: (slow.entered.wait(), con.interrupt())).start()
try:
    con.execute("SELECT sum(y) FROM v")
except aidb.Interrupted:
    print("interrupted")
aidb.exec.engine.EXIT_GRACE = 0.1
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=Path(__file__).parents[2]
    )
    assert (done.stdout, done.returncode) == ("interrupted\n", 0)
