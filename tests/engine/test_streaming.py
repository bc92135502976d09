"""Rows while models are at work. More of the random test: ``python -m tests.engine.streaming --queries 3000``."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import aidb
from aidb.exec import streaming
from aidb.spi import ItemError, ServiceError
from aidb.testing import FakeModel
from tests.engine.storing import check_quiet, check_storage
from tests.engine.streaming import run

N = 300
BATCH = 50
SCAN = "SELECT id, y FROM v WHERE y % 3 <> 0"
RIGHT = Counter((i, i) for i in range(N) if i % 3)


class Vector(FakeModel):
    """Gives x back, a column at a time; ``before`` is called with the number of each call. Counts items."""

    def __init__(self, before: Callable[[int], None] = lambda call: None, **more: Any) -> None:
        super().__init__("m", {"y": "INTEGER"}, lambda x: x, **{"batch_size": BATCH, **more})
        self.before, self.calls, self.asked = before, 0, Counter[int]()

    def predict(self, inputs: Any, *, restart: bool = False) -> dict[str, Any]:
        self.calls += 1
        self.before(self.calls)
        self.asked.update(inputs[0].to_pylist())
        return {"y": inputs[0]}


@pytest.fixture(autouse=True)
def _portions_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PORTION", 0.0)
    monkeypatch.setattr(streaming, "OVERHEAD", 1.0)
    monkeypatch.setattr(streaming, "MANY", 4 * BATCH)


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        yield con


def put(con: aidb.Connection, model: Any, n: int = N) -> Any:
    con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({n}) KEY (id)")
    con.register(model)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    return model


# ---- when


@pytest.mark.parametrize("everything", [aidb.Cursor.fetchall, aidb.Cursor.arrow, lambda cur: cur.report])
def test_who_wants_everything_gets_the_rest_in_one_portion(
    con: aidb.Connection, monkeypatch: pytest.MonkeyPatch, everything: Callable[[aidb.Cursor], object]
) -> None:
    taken: list[int] = []
    portion = streaming.Stream._portion
    monkeypatch.setattr(streaming.Stream, "_portion", lambda self: (taken.append(self._at), portion(self))[1])
    put(con, Vector())
    everything(con.execute(SCAN))
    assert taken == [0, BATCH]


def test_the_first_row_takes_a_batch_and_each_further_batch_waits_to_be_asked_for(con: aidb.Connection) -> None:
    model = put(con, Vector())
    cur = con.execute(SCAN)
    assert [d[:2] for d in cur.description or ()] == [("id", "BIGINT"), ("y", "INTEGER")]
    assert cur.fetchone() == (1, 1)
    assert model.asked.total() == BATCH
    ahead = cur.fetchmany(33)
    assert model.asked.total() == 2 * BATCH
    rows = [(1, 1), *ahead, *cur]
    assert Counter(rows) == RIGHT
    assert cur.fetchone() is None
    assert cur.report.calls == {"m": N} == cur.report.cached + Counter({"m": N})
    assert con.execute("SELECT text, report->>'oracle_calls' FROM aidb.queries").fetchall() == [(SCAN, str(N))]
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchone() == (0,)
    assert con.execute(SCAN).report.calls == {"m": 0}
    assert check_storage(con) == {"m": N}
    check_quiet(con)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM v ORDER BY id",
        "SELECT count(*) FROM v",
        "SELECT DISTINCT y % 3 FROM v",
        "SELECT id, row_number() OVER (ORDER BY y) FROM v",
        "SELECT id FROM v WHERE y > (SELECT avg(y) FROM v)",
        "SELECT a.id FROM v a JOIN v b ON a.id = b.y + 1",
        "SELECT id, now() FROM v",
        "SELECT id, (SELECT count(*) FROM aidb.calls) FROM v",
    ],
)
def test_what_needs_every_item_waits_for_every_item(con: aidb.Connection, sql: str) -> None:
    model = put(con, Vector())
    con.execute(sql)
    assert model.asked.total() == N


@pytest.mark.parametrize(
    "setting",
    [
        "stream = 'off'",
        "stream = false",
        "max_calls = 5000",
        "max_seconds = 900",
        "on_error = 'raise'",
        "optimizer = false",
    ],
)
def test_settings_that_answer_as_a_whole(con: aidb.Connection, setting: str) -> None:
    model = put(con, Vector())
    con.execute(f"SET aidb.{setting}")
    con.execute(SCAN)
    assert model.asked.total() == N


def test_few_items_are_answered_as_a_whole_unless_it_is_on(con: aidb.Connection) -> None:
    model = put(con, Vector(batch_size=10), n=streaming.MANY)
    con.execute("SELECT id, y FROM v WHERE id < 100")
    assert model.asked.total() == 100
    con.execute("SELECT id, y FROM v WHERE id >= 100")
    assert model.asked.total() == streaming.MANY
    con.execute("CREATE VIRTUAL TABLE w AS m(v.y)")
    con.execute("SET aidb.stream = 'on'")
    assert con.execute("SELECT * FROM w").fetchone() == (0, 0)
    assert model.asked.total() == streaming.MANY + 10
    with pytest.raises(aidb.ProgrammingError, match="one of auto, on, off is needed"):
        con.execute("SET aidb.stream = 'sometimes'")


# ---- what


def test_what_is_known_comes_first(con: aidb.Connection) -> None:
    model = put(con, Vector())
    con.execute("SET aidb.stream = 'on'")
    con.execute("SELECT sum(y) FROM v WHERE id >= 200")
    before = model.asked.total()
    cur = con.execute("SELECT id FROM v WHERE id % 2 = 0")
    assert model.asked.total() == before + BATCH
    assert {row[0] for row in cur.fetchmany(50)} == set(range(200, N, 2))
    assert model.asked.total() == before + BATCH
    assert sorted(cur.fetchall()) == [(i,) for i in range(0, 200, 2)]
    assert cur.report.cached == {"m": 100}
    assert model.asked.total() == before + 100


@pytest.mark.parametrize(
    "read",
    [
        lambda cur: cur.fetchall(),
        lambda cur: [tuple(row.values()) for row in cur.arrow().to_pylist()],
        lambda cur: list(cur.df().itertuples(index=False, name=None)),
        lambda cur: list(zip(*(c.to_pylist() for c in cur.fetch_record_batch(30).read_all().columns), strict=True)),
        lambda cur: [tuple(map(int, row)) for row in cur.texts()],
        lambda cur: list(cur.rows()) if cur.fetchmany(3) else [],
        lambda cur: cur.fetchall() if cur.rowcount == len(RIGHT) else [],
        lambda cur: cur.fetchall() if cur.report.calls == {"m": N} else [],
    ],
)
def test_however_it_is_read(con: aidb.Connection, read: Callable[[aidb.Cursor], list[Any]]) -> None:
    put(con, Vector())
    cur = con.execute(SCAN)
    assert Counter(map(tuple, read(cur))) == RIGHT
    assert cur.rowcount == len(RIGHT)
    assert cur.arrow().num_rows == len(RIGHT)


def test_functions_parameters_and_names(con: aidb.Connection) -> None:
    model = put(con, Vector())
    cur = con.execute("SELECT t.*, m(x), m(x) + ? AS z, id AS id FROM main.t WHERE m(x) > ? AND x <> 7", [1, 3])
    assert model.asked.total() == BATCH
    assert con.execute("SELECT m(x) FROM t WHERE id = 5").fetchall() == [(5,)], "its views are out of the way"
    assert [d[0] for d in cur.description or ()] == cur.arrow().column_names == ["id", "x", "m(x)", "z", "id"]
    assert sorted(cur.fetchall()) == [(i, i, i, i + 1, i) for i in range(4, N) if i != 7]


def test_two_models_of_which_one_spares_the_other_work(con: aidb.Connection) -> None:
    put(con, Vector())
    con.register(Vector(price_per_call=1.0), "dear")
    cur = con.execute("SELECT id FROM t WHERE m(x) % 10 = 0 AND dear(x) >= 0")
    assert Counter(cur.fetchall()) == Counter((i,) for i in range(0, N, 10))
    assert cur.report.calls == {"m": N, "dear": N // 10}


@pytest.mark.parametrize("seed", [1])
def test_random_statements_have_the_same_rows_portion_by_portion(seed: int) -> None:
    summary = run(8, seed)
    assert summary.problems == []
    assert summary.counts["portions"] > summary.counts["streamed"]
    assert 0 < summary.asked["portions"] <= 1.2 * summary.asked["at once"]


# ---- other statements meanwhile


def test_a_query_leaves_it_alone(con: aidb.Connection) -> None:
    model = put(con, Vector())
    cur = con.execute(SCAN)
    rows = cur.fetchmany(3)
    assert con.execute("SELECT sum(y) FROM v WHERE id = 250").fetchone() == (250,)
    con.execute("SET aidb.seed = 1")
    con.execute("SHOW MODELS")
    other = con.execute("SELECT id FROM v")
    rows += cur.fetchmany(100)
    both = [other.fetchone(), cur.fetchone()]
    assert model.asked.total() <= 5 * BATCH + 1
    rows += [both[1], *cur]
    assert Counter(rows) == RIGHT
    assert len([both[0], *other]) == N
    assert max(model.asked.values()) == 1


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO p VALUES (5, 'new')",
        "DELETE FROM p",
        "CREATE TABLE q AS SELECT 1 AS a",
        "BEGIN",
        "DROP VIRTUAL TABLE v",
    ],
)
def test_a_change_waits_until_the_rows_are_there_as_of_the_beginning(con: aidb.Connection, change: str) -> None:
    model = put(con, Vector())
    con.execute("CREATE TABLE p AS SELECT range AS id, 'old' AS name FROM range(300)")
    cur = con.execute("SELECT id, name FROM v JOIN p USING (id)")
    assert cur.fetchone() == (0, "old")
    assert model.asked.total() == BATCH
    con.execute(change)
    assert model.asked.total() == N
    assert Counter(cur.fetchall()) == Counter((i, "old") for i in range(1, N))


def test_a_statement_that_nobody_reads_is_finished_by_what_comes_next(con: aidb.Connection) -> None:
    model = put(con, Vector())
    con.execute(SCAN)
    assert model.asked.total() == BATCH
    assert con.execute("SELECT sum(items) FROM aidb.calls").fetchone() == (N,)
    con.execute("CREATE VIRTUAL TABLE w AS m(v.y)")
    unread = con.execute("SELECT * FROM w")
    assert con.execute("SELECT count(*) FROM aidb.queries").fetchone() == (2,)
    assert model.asked.total() == 2 * N
    assert len(unread.fetchall()) == N


def test_one_that_was_looked_at_and_dropped_is_given_up(con: aidb.Connection) -> None:
    model = put(con, Vector())
    for row in con.execute(SCAN):
        assert row == (1, 1)
        break
    del row
    gc.collect()
    con.execute("CREATE TABLE q AS SELECT 1 AS a")
    cur = con.execute(SCAN)
    cur.fetchone()
    cur.close()
    con.execute("DROP TABLE q")
    assert model.asked.total() == BATCH + BATCH
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchone() == (0,)
    assert check_storage(con) == {"m": 2 * BATCH}


def test_closing(tmp_path: Path) -> None:
    model = Vector()
    with aidb.connect(tmp_path / "a.db") as con:
        put(con, model)
        con.execute(SCAN).fetchone()
    assert model.asked.total() == BATCH, "somebody has seen enough"
    with suppress(ZeroDivisionError), aidb.connect(tmp_path / "a.db") as con:
        con.register(model)
        con.execute(SCAN)
        _ = 1 / 0
    assert model.asked.total() == 2 * BATCH
    with aidb.connect(tmp_path / "a.db") as con:
        con.register(model)
        cur = con.execute(SCAN)
        assert con.execute("SELECT 1").fetchone() == (1,)
        cur = con.execute("SELECT id, y + 1 FROM v")
    assert model.asked == Counter(range(N)), "it was run for what it stores"
    with pytest.raises(aidb.InterfaceError):
        cur.fetchone()


def test_another_connection_does_something_else(tmp_path: Path) -> None:
    with aidb.connect(tmp_path / "a.db") as con, aidb.connect(tmp_path / "a.db") as other:
        model = put(con, Vector())
        other.register(model)
        cur = con.execute(SCAN)
        rows = [cur.fetchone()]
        other.execute("CREATE TABLE p AS SELECT range AS id FROM range(300)")
        other.execute("CREATE VIRTUAL TABLE w AS m(v.y)")
        assert other.execute("SELECT y FROM v WHERE id = 290").fetchall() == [(290,)]
        assert model.asked.total() == BATCH + 1
        assert Counter([*rows, *cur]) == RIGHT
        assert model.asked == Counter(range(N))
        con.execute("CREATE VIRTUAL TABLE u AS m(w.y)")
        con.execute("SELECT id FROM u JOIN p USING (id)")
        assert model.asked.total() == 3 * N, "what the other one writes into p would not be noticed"


@pytest.mark.parametrize("change", ["REFRESH BLOB TABLE t", "CREATE OR REPLACE VIRTUAL TABLE w AS m(t.x)"])
def test_another_connection_changes_what_is_asked_about(tmp_path: Path, change: str) -> None:
    with aidb.connect(tmp_path / "a.db") as con, aidb.connect(tmp_path / "a.db") as other:
        con.execute("CREATE TABLE source AS SELECT range AS id, range::INTEGER AS x FROM range(300)")
        con.execute("CREATE BLOB TABLE t AS SELECT * FROM source KEY (id)")
        con.register(Vector())
        con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
        con.execute("CREATE VIRTUAL TABLE w AS m(v.y)")
        cur = con.execute("SELECT * FROM w")
        assert cur.fetchone() is not None
        other.execute("UPDATE source SET x = 7 WHERE id = 250")
        other.execute(change)
        for _ in range(2):
            with pytest.raises(aidb.OperationalError, match="what tables or models mean has changed"):
                cur.fetchall()


# ---- what goes wrong, and stopping


def test_a_service_that_goes_down_in_between(con: aidb.Connection) -> None:
    def fails(call: int) -> None:
        if call == 3:
            raise ServiceError("gone for good")

    model = put(con, Vector(fails, retries=0))
    cur = con.execute(SCAN)
    with pytest.raises(aidb.ModelError, match="gone for good") as caught:
        cur.fetchall()
    assert caught.value.report is not None
    assert caught.value.report.calls == {"m": 2 * BATCH}
    for again in (cur.fetchone, cur.fetchall, lambda: cur.report, cur.arrow):
        with pytest.raises(aidb.OperationalError, match="the rest of these rows is not to be had: ModelError"):
            again()
    cur = con.execute(SCAN)
    assert Counter(cur.fetchall()) == RIGHT
    assert cur.report.calls == {"m": N - 2 * BATCH}
    assert model.asked == Counter(range(N)), "nothing was asked twice"
    assert check_storage(con) == {"m": N}


def test_too_many_failures_are_noticed_over_all_portions(con: aidb.Connection) -> None:
    def answer(x: int) -> int:
        if x >= 100 and x % 2:
            raise ItemError("odd")
        return x

    put(con, FakeModel("m", {"y": "INTEGER"}, answer, batch_size=BATCH))
    cur = con.execute(SCAN)
    assert len(cur.fetchmany(66)) == 66
    with pytest.raises(aidb.TooManyFailures):
        cur.fetchall()
    con.execute("SET aidb.max_error_ratio = 0.5")
    cur = con.execute("SELECT id FROM v")
    assert len(cur.fetchall()) == 100 + 100
    assert cur.report.failed > 50
    assert any("were left out" in note for note in cur.report.notes)


def test_a_cap_where_streaming_was_asked_for(con: aidb.Connection) -> None:
    model = put(con, Vector())
    con.execute("SET aidb.stream = 'on'; SET aidb.max_calls = 120")
    cur = con.execute(SCAN)
    with pytest.raises(aidb.BudgetExceeded) as caught:
        cur.fetchall()
    assert caught.value.report is not None
    assert caught.value.report.oracle_calls == model.asked.total() == 120
    con.execute("RESET aidb.max_calls")
    assert Counter(con.execute(SCAN).fetchall()) == RIGHT
    assert max(model.asked.values()) == 1


@pytest.mark.parametrize("stop", [lambda con, cur: con.interrupt(), lambda con, cur: cur.cancel()])
def test_interrupted_while_rows_are_fetched(con: aidb.Connection, stop: Callable[[Any, Any], None]) -> None:
    entered, gate = threading.Event(), threading.Event()

    def wait(call: int) -> None:
        if call == 3:
            entered.set()
            gate.wait()

    model = put(con, Vector(wait))
    cur = con.execute(SCAN)
    stop(con, cur)  # nothing is running

    def later() -> None:
        entered.wait()
        stop(con, cur)

    thread = threading.Thread(target=later)
    thread.start()
    with pytest.raises(aidb.Interrupted) as caught:
        cur.fetchall()
    thread.join()
    assert caught.value.report is not None
    with pytest.raises(aidb.OperationalError, match="it was interrupted"):
        cur.fetchone()
    gate.set()
    assert Counter(con.execute(SCAN).fetchall()) == RIGHT
    assert model.asked == Counter(range(N))
    check_quiet(con)


def test_progress_knows_the_whole_from_the_first_portion_on() -> None:
    told: list[Any] = []
    with aidb.connect(progress=told.append) as con:
        put(con, Vector())
        con.execute(SCAN).fetchall()
    assert {(p.model, p.total) for p in told} == {("m", N)}
    assert told[-1].done == N


CHILD = """
import os, signal, sys
import aidb
from aidb.exec import streaming
from aidb.testing import FakeModel
streaming.PORTION, streaming.OVERHEAD, streaming.MANY = 0.0, 1.0, 200
con = aidb.connect(sys.argv[1])
con.execute("CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range(300) KEY (id)")
con.register(FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=50))
con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
for n, row in enumerate(con.execute("SELECT id, y FROM v")):
    if n == 120:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_while_rows_are_read(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "a.db")], cwd=Path(__file__).parents[2], timeout=120
    )
    assert done.returncode == -signal.SIGKILL
    with aidb.connect(tmp_path / "a.db") as con:
        model = Vector()
        con.register(FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=50))
        assert check_storage(con) == {"m": 150}
        cur = con.execute("SELECT id, y FROM v")
        assert Counter(cur.fetchall()) == Counter((i, i) for i in range(N))
        assert cur.report.calls == {"m": 150}
    assert model.asked.total() == 0
