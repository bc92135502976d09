"""Bytes in flight stay within ``aidb.memory_limit``, whatever the items; a larger item goes alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aidb
from aidb.exec.memory import ByteBudget, Shared
from aidb.spi import Input
from aidb.testing import FakeModel, MemoryConnector
from tests.engine.storing import check_quiet, rows

IMAGE = Input("image", "image")


class Pictures(MemoryConnector):
    """Makes its pictures as they are read, so that none is in memory before; ``sizes`` are bytes."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__([np.zeros((1, 1, 3), np.uint8)] * len(sizes))
        self.sizes = sizes

    def read(self, refs: Any, *, encoded: bool = False) -> Iterator[Any]:
        for ref in refs:
            size = self.sizes[int(ref.uri.rpartition("-")[2])]
            yield np.full((1, size // 3, 3), 7, np.uint8)  # pages of zeros would take no memory


def world(con: aidb.Connection, sizes: list[int], **spec: Any) -> FakeModel:
    con.register_connector(Pictures(sizes))
    con.execute("CREATE BLOB TABLE t FROM 'memory:*' USING memory")
    model = FakeModel("size", {"y": "BIGINT"}, lambda image: image.nbytes, inputs=[IMAGE], **spec)
    con.register(model)
    con.execute("CREATE VIRTUAL TABLE v AS size(t.content)")
    return model


@pytest.mark.parametrize("limit", [3000, 10_000, 100_000])
def test_items_of_one_size(limit: int) -> None:
    with aidb.connect() as con:
        model = world(con, [3000] * 100, batch_size=8)
        con.execute(f"SET aidb.memory_limit = '{limit}B'")
        assert rows(con, "SELECT sum(y) FROM v") == [(300_000,)]
        last = con.engine.materialiser.last
        assert last is not None
        assert 3000 <= last.budget.peak <= limit
        assert max(model.batches) <= limit // 3000
        check_quiet(con)


def test_items_larger_than_the_limit_go_one_by_one() -> None:
    with aidb.connect() as con:
        model = world(con, [9000] * 12, batch_size=8)
        con.execute("SET aidb.memory_limit = '1kB'")
        assert rows(con, "SELECT sum(y) FROM v") == [(108_000,)]
        last = con.engine.materialiser.last
        assert last is not None
        assert last.budget.peak == 9000
        assert model.batches == [1] * 12
        check_quiet(con)


@pytest.mark.parametrize("seed", range(4))
def test_items_of_any_size(seed: int) -> None:
    """What is over the limit is what readers decode at that moment, if it is larger than anything before."""
    chance = random.Random(seed)
    sizes = [3 * chance.choice([1, 10, 100, 1000, chance.randrange(1, 3000)]) for _ in range(150)]
    with aidb.connect() as con:
        world(con, sizes, batch_size=chance.choice([1, 7, 64]), concurrency=chance.choice([1, 3]))
        limit = chance.choice([3000, 20_000, 50_000])
        con.execute(f"SET aidb.memory_limit = '{limit}B'")
        assert rows(con, "SELECT sum(y) FROM v") == [(sum(sizes),)]
        check_quiet(con)


def test_plain_columns_count_too() -> None:
    """Texts in plain columns are bytes in flight like any other: a slow model does not pile them up."""
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.execute("CREATE BLOB TABLE t AS SELECT range AS id, repeat('x', 1000) AS body FROM range(20000) KEY (id)")
        con.register(FakeModel("size", {"y": "BIGINT"}, len, batch_size=2048, delay=0.005))
        con.execute("CREATE VIRTUAL TABLE v AS size(t.body)")
        con.execute("SET aidb.memory_limit = '5MB'")
        assert rows(con, "SELECT sum(y) FROM v") == [(20_000_000,)]
        last = con.engine.materialiser.last
        assert last is not None
        assert 2_000_000 < last.budget.peak <= 5_000_000
        check_quiet(con)


CHILD = """
import json, resource, sys, threading, time
import numpy as np
import aidb
from tests.engine.test_memory import Pictures

@aidb.model(inputs={"image": "image"}, outputs={"y": "BIGINT"}, version="1", batch_size=4)
def size_of(images):  # a FakeModel would remember what it has seen
    time.sleep(0.002)
    return {"y": [image.nbytes for image in images]}

def rss():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize()

con = aidb.connect()
n, size, limit = map(int, sys.argv[1:])
con.register_connector(Pictures([30] + [size] * n))
con.execute("CREATE BLOB TABLE t FROM 'memory:*' USING memory")
con.register(size_of)
con.execute("CREATE VIRTUAL TABLE v AS size_of(t.content)")
con.execute(f"SET aidb.memory_limit = '{limit}B'")
con.execute("SELECT y FROM v WHERE blob_id = 0").fetchall()
before, peak, ended = rss(), 0, threading.Event()

def watch():
    global peak
    while not ended.wait(0.002):
        peak = max(peak, rss())

thread = threading.Thread(target=watch)
thread.start()
assert con.execute("SELECT sum(y) FROM v").fetchall() == [(n * size + 30,)]
ended.set()
thread.join()
print(json.dumps({"grown": peak - before, "budget": con.engine.materialiser.last.budget.peak}))
con.close()
"""
PICTURE = 8000 * 8000 * 3


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize(
    ("n", "size", "limit"), [(12, PICTURE, PICTURE // 2), (10, PICTURE, 2 * PICTURE), (400, 3_000_000, 30_000_000)]
)
def test_the_memory_of_the_process(n: int, size: int, limit: int) -> None:
    """Huge pictures: the process grows by the limit (or by the one picture that is larger) and by little more."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(n), str(size), str(limit)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    allowed = max(limit, size)
    assert found["budget"] <= allowed
    assert found["grown"] <= allowed + size + 60_000_000


# ---- the budget by itself


def test_first_come_first_served() -> None:
    budget = ByteBudget(100)
    assert budget.try_acquire(80)
    got: list[int] = []
    ready = [threading.Event(), threading.Event()]

    def want(size: int, n: int) -> None:
        ready[n].set()
        taken = budget.acquire(lambda: size)
        assert taken == size
        got.append(size)

    large = threading.Thread(target=want, args=(90, 0))
    large.start()
    ready[0].wait()
    while not budget.starved:
        pass
    assert not budget.try_acquire(10), "nobody overtakes who waits"
    budget.release(80)
    large.join()
    assert got == [90]
    assert not budget.try_acquire(20)
    budget.release(90)
    assert (budget.used, budget.peak) == (0, 90)


def test_who_holds_all_of_it_may_go_on() -> None:
    """Two hold an item each and wait for another: nobody else can give anything back, so the first gets its own."""
    budget = ByteBudget(100)
    assert budget.try_acquire(50)
    assert budget.try_acquire(50)
    order: list[str] = []

    def want(name: str) -> None:
        assert budget.acquire(lambda: 60, held=50) == 60
        order.append(name)
        budget.release(110)

    threads = [threading.Thread(target=want, args=(n,)) for n in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert len(order) == 2
    assert budget.used == 0


def test_a_closed_budget_lets_everyone_go() -> None:
    budget = ByteBudget(10)
    assert budget.try_acquire(10)
    found: list[int | None] = [0]
    thread = threading.Thread(target=lambda: found.append(budget.acquire(lambda: 5)))
    thread.start()
    while not budget.starved:
        pass
    budget.close()
    thread.join(5)
    assert found == [0, None]
    assert not budget.try_acquire(0)


def test_shared_items_are_given_back_once() -> None:
    budget = ByteBudget(10)
    assert budget.try_acquire(7)
    item = Shared("x", 7, budget)
    item.use()
    item.done()
    assert (item.value, budget.used) == ("x", 7)
    item.done()
    assert (item.value, budget.used) == (None, 0)
