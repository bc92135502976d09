"""The pipeline as a whole: what is overlapped, what is shared, what is given back, in which thread what happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aidb
from aidb.spi import Input
from aidb.testing import FailingModel, FakeModel, MemoryConnector
from tests.engine.storing import check_quiet, check_storage, rows

IMAGE = Input("image", "image")


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        yield con


def pictures(n: int, size: int = 4) -> list[np.ndarray]:
    return [np.full((size, size, 3), i % 256, dtype=np.uint8) for i in range(n)]


def shade(name: str, **more: Any) -> FakeModel:
    return FakeModel(name, {"shade": "INTEGER"}, lambda image: int(image[0, 0, 0]), inputs=[IMAGE], **more)


def world(con: aidb.Connection, items: list[np.ndarray], *models: Any, **source: Any) -> MemoryConnector:
    """A blob table ``t`` of pictures, and a virtual table ``v_<model>`` for each model."""
    connector = MemoryConnector(items, **source)
    con.register_connector(connector)
    con.execute("CREATE BLOB TABLE t FROM 'memory:*' USING memory")
    for model in models:
        con.register(model)
        con.execute(f"CREATE VIRTUAL TABLE v_{model.name} AS {model.name}(t.content)")
    return connector


def test_several_models_over_one_item_decode_it_once(con: aidb.Connection) -> None:
    one, two = shade("one", batch_size=3), shade("two", batch_size=7)
    source = world(con, pictures(300), one, two)
    sql = "SELECT (SELECT sum(shade) FROM v_one), (SELECT sum(shade) FROM v_two)"
    assert rows(con, sql) == [(sum(i % 256 for i in range(300)),) * 2]
    assert len(source.reads) < 300 + 2 * 40  # but for pilots, which are apart
    assert one.items == two.items == 300
    assert check_storage(con) == {"one": 300, "two": 300}
    check_quiet(con)


def test_a_slow_model_and_a_fast_one_share_a_tight_budget(con: aidb.Connection) -> None:
    fast, slow = shade("fast", batch_size=16), shade("slow", batch_size=3, delay=0.002)
    world(con, pictures(60, 40), fast, slow)
    con.execute("SET aidb.memory_limit = '10kB'")  # two pictures of 4,800 bytes
    assert rows(con, "SELECT (SELECT count(*) FROM v_fast), (SELECT count(*) FROM v_slow)") == [(60, 60)]
    last = con.engine.materialiser.last
    assert last is not None
    assert last.budget.peak <= 10_000
    check_quiet(con)


@pytest.mark.parametrize("limit", ["1B", "4800B", "9600B", "20kB", "1MB"])
def test_pairs_of_contents_under_any_budget(con: aidb.Connection, limit: str) -> None:
    """Two contents a row: readers that hold one and wait for the other must not wait for each other."""
    same = FakeModel(
        "same",
        {"same": "BOOLEAN"},
        lambda a, b: bool(a[0, 0, 0] == b[0, 0, 0]),
        inputs=[Input("a", "image"), Input("b", "image")],
        batch_size=5,
    )
    con.register(same)
    for name in ("a", "b"):
        con.register_connector(MemoryConnector(pictures(8, 40), name=f"memory_{name}", key=f"{name}_id", content="c"))
        con.execute(f"CREATE BLOB TABLE {name} FROM 'memory:*' USING memory_{name}")
    con.execute("CREATE VIRTUAL TABLE pair AS same(a.c, b.c)")
    con.execute(f"SET aidb.memory_limit = '{limit}'")
    assert rows(con, "SELECT count(*) FILTER (same), count(*) FROM pair") == [(8, 64)]
    check_quiet(con)


def test_batches_are_full_while_there_is_memory(con: aidb.Connection) -> None:
    model = shade("m", batch_size=16, delay=0.002)
    world(con, pictures(160), model)
    rows(con, "SELECT sum(shade) FROM v_m")
    assert sum(model.batches) == 160
    assert sum(n == 16 for n in model.batches) >= 8


def test_eight_requests_are_in_flight_at_once(con: aidb.Connection) -> None:
    together = threading.Barrier(8, timeout=60)

    def answer(x: int) -> int:
        together.wait()  # for seven others
        return x

    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, range::INTEGER AS x FROM range(24) KEY (id)")
    con.register(FakeModel("remote", {"y": "INTEGER"}, answer, batch_size=1, concurrency=8))
    con.execute("CREATE VIRTUAL TABLE v AS remote(n.x)")
    assert rows(con, "SELECT sum(y) FROM v") == [(sum(range(24)),)]
    assert check_storage(con) == {"remote": 24}


def test_threads_are_ours_and_end(con: aidb.Connection) -> None:
    seen: set[str] = set()

    def answer(x: int) -> int:
        seen.add(threading.current_thread().name)
        return x

    con.register(FakeModel("m", {"y": "INTEGER"}, answer, concurrency=3, batch_size=1))
    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, range::INTEGER AS x FROM range(20) KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
    before = threading.active_count()
    rows(con, "SELECT sum(y) FROM v")
    assert seen == {"aidb m"}
    assert threading.active_count() == before


def test_a_model_can_not_wait_for_itself(con: aidb.Connection) -> None:
    def answer(x: int) -> int:
        return int(rows(con, "SELECT 1")[0][0])

    con.register(FakeModel("m", {"y": "INTEGER"}, answer))
    con.execute("CREATE BLOB TABLE n AS SELECT 1 AS id, 1 AS x KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
    rows(con, "SELECT sum(y) FROM v")
    assert "can't run SQL on the connection" in rows(con, "SELECT message FROM aidb.errors")[0][0]


def test_two_threads_on_one_connection_ask_nothing_twice(con: aidb.Connection) -> None:
    model = FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=4, delay=0.002)
    con.register(model)
    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, range::INTEGER AS x FROM range(100) KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
    answers: list[Any] = []

    def ask(low: int) -> None:
        answers.append(rows(con.cursor().connection, f"SELECT count(*), sum(y) FROM v WHERE id >= {low}"))

    threads = [threading.Thread(target=ask, args=(0,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[(100, 4950)]] * 4
    assert model.items == 100
    assert check_storage(con) == {"m": 100}


def test_two_connections_to_one_file_ask_nothing_twice(tmp_path: Path) -> None:
    models = [FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=4, delay=0.002) for _ in range(2)]
    with aidb.connect(tmp_path / "a.db") as one, aidb.connect(tmp_path / "a.db") as two:
        one.execute("CREATE BLOB TABLE n AS SELECT range AS id, range::INTEGER AS x FROM range(100) KEY (id)")
        for con, model in zip((one, two), models, strict=True):
            con.register(model)
        one.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda con=con: answers.append(rows(con, "SELECT count(*), sum(y) FROM v")))
            for con in (one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [[(100, 4950)]] * 2
        assert sum(model.items for model in models) == 100
        assert check_storage(one) == {"m": 100}


# ---- progress


def test_progress_is_told_by_the_executing_thread_and_often(con: aidb.Connection) -> None:
    told: list[tuple[float, str, aidb.exec.control.Progress]] = []  # type: ignore[name-defined]
    con.engine.progress = lambda p: told.append((time.monotonic(), threading.current_thread().name, p))
    con.register(FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=2, delay=0.06))
    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, range::INTEGER AS x FROM range(20) KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
    done = threading.Event()

    def execute() -> None:  # not the main thread
        rows(con, "SELECT sum(y) FROM v")
        done.set()

    thread = threading.Thread(target=execute, name="asker")
    thread.start()
    thread.join()
    assert done.is_set()
    assert {name for _, name, _ in told} == {"asker"}
    assert len(told) >= 4
    times = [t for t, _, _ in told]
    assert max(b - a for a, b in pairwise(times)) < 0.4
    steps = [(p.done, p.total) for _, _, p in told]
    assert all(d <= t for d, t in steps)
    assert [d for d, _ in steps] == sorted(d for d, _ in steps)
    assert steps[-1] == (20, 20)


def test_failed_items_count_as_done(con: aidb.Connection) -> None:
    told: list[Any] = []
    con.engine.progress = told.append
    world(con, pictures(10), shade("m"), broken=[3])
    rows(con, "SELECT count(*) FROM v_m")
    assert (told[-1].done, told[-1].total) == (10, 10)


def test_an_exception_in_the_callback_stops_the_statement(con: aidb.Connection) -> None:
    class Mine(Exception):
        pass

    def tell(_: object) -> None:
        raise Mine("no more")

    con.engine.progress = tell
    model = FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=1, delay=0.02)
    con.register(model)
    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, range::INTEGER AS x FROM range(100) KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
    with pytest.raises(Mine, match="no more"):
        con.execute("SELECT sum(y) FROM v")
    con.engine.progress = None
    check_quiet(con)
    stored = check_storage(con)["m"]
    assert stored == model.items < 100
    model.delay = 0
    assert rows(con, "SELECT sum(y) FROM v") == [(4950,)]
    assert model.items == 100


# ---- what others do wrong


class Odd(MemoryConnector):
    """Raises, or gives too little, or nonsense, in the place of an item."""

    def __init__(self, how: Any, at: int, n: int = 12) -> None:
        super().__init__(pictures(n))
        self.how, self.at = how, at

    def read(self, refs: Any, *, encoded: bool = False) -> Iterator[Any]:
        for ref in refs:
            if ref.uri == f"memory:item-{self.at}":
                if isinstance(self.how, Exception):
                    raise self.how
                if self.how == "ends":
                    return
                yield self.how
                continue
            yield from super().read([ref], encoded=encoded)


@pytest.mark.parametrize("error", [ValueError("bad header"), MemoryError("too large"), OSError("gone")])
@pytest.mark.parametrize("at", [0, 5, 11])
def test_a_connector_that_raises_loses_that_item_alone(con: aidb.Connection, error: Exception, at: int) -> None:
    con.register_connector(Odd(error, at))
    con.execute("CREATE BLOB TABLE t FROM 'memory:*' USING memory")
    con.register(shade("m", batch_size=4))
    con.execute("CREATE VIRTUAL TABLE v AS m(t.content)")
    con.execute("SET aidb.max_error_ratio = 0.2")
    cur = con.execute("SELECT count(*), sum(shade) FROM v")
    assert cur.fetchall() == [(11, sum(range(12)) - at)]
    assert cur.report.failed == 1
    assert cur.report.calls == {"m": 11}
    [(item, message)] = rows(con, "SELECT item, message FROM aidb.errors")
    assert item == f'{{"blob_id": {at}}}'
    assert str(error) in message
    check_quiet(con)


@pytest.mark.parametrize(
    ("how", "says"), [("ends", "gave no result"), (None, "gave a NoneType"), (3.5, "gave a float")]
)
def test_a_connector_that_breaks_its_contract_is_named(con: aidb.Connection, how: Any, says: str) -> None:
    con.register_connector(Odd(how, 5))
    con.execute("CREATE BLOB TABLE t FROM 'memory:*' USING memory")
    model = shade("m", batch_size=2)
    con.register(model)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.content)")
    with pytest.raises(aidb.OperationalError, match=f"connector memory {says}"):
        con.execute("SELECT count(*) FROM v")
    check_quiet(con)
    assert check_storage(con)["m"] == model.items


def test_a_model_that_exits_does_not_take_the_process_along(con: aidb.Connection) -> None:
    inner = FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=5)
    failing = FailingModel(inner, on_call=3)
    failing.error = SystemExit(3)  # type: ignore[assignment]
    con.register(failing)
    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, range::INTEGER AS x FROM range(20) KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS m(n.x)")
    with pytest.raises(aidb.ModelError, match="m raised SystemExit"):
        con.execute("SELECT sum(y) FROM v")
    assert check_storage(con)["m"] == inner.items < 20
    assert rows(con, "SELECT sum(y) FROM v") == [(190,)]
    check_quiet(con)
