"""Models on workers of Ray: the same answers, whatever happens to the workers. One cluster serves all of these tests."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aidb
from aidb.exec.distributed import run
from aidb.exec.run import Worker
from aidb.spi import ItemError, ServiceError
from aidb.testing import FakeModel
from tests.engine import differential
from tests.engine.storing import check_storage, rows
from tests.engine.trackers import Counter, Films

pytest.importorskip("ray", reason="Ray is not installed: pip install 'aidb[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[aidb.Connection]:
    """A connection that keeps the cluster until the last test."""
    with aidb.connect() as con:
        con.execute("SET aidb.executor = 'ray'; SET aidb.ray_workers = '2'; SET threads = 1")
        con.execute("CREATE TABLE t AS SELECT 1 AS x")

        @aidb.model(outputs={"y": "INTEGER"})
        def first(x: Any) -> Any:
            return {"y": [1] * len(x)}

        con.register(first)
        assert rows(con, "SELECT first(x) FROM t") == [(1,)]
        yield con


@pytest.fixture
def con(cluster: aidb.Connection) -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute(
            "SET aidb.executor = 'ray'; SET aidb.ray_workers = '2'; SET threads = 1; SET aidb.max_error_ratio = 1"
        )
        yield con
        check_storage(con)
        con.engine.materialiser.settle()
        last = con.engine.materialiser.last
        ours = [t for t in threading.enumerate() if isinstance(t, Worker) and last and t.control is last.control]
        assert [t.name for t in ours if not t.wait(1)] == []


def numbers(con: aidb.Connection, n: int, model: Any) -> None:
    """A blob table ``t`` of numbers, and a virtual table ``v``."""
    con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({n}) KEY (id)")
    con.register(model, name="m")
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")


def devices(con: aidb.Connection) -> list[tuple[str, int]]:
    return rows(con, "SELECT device, sum(items)::BIGINT FROM aidb.calls GROUP BY ALL ORDER BY ALL")


@aidb.model(outputs={"n": "INTEGER"}, rows="many", batch_size=4)
def parts(x: Any) -> Any:
    items = [(row, part) for row, value in enumerate(x.to_pylist()) for part in range(value % 3)]
    return {"_row": [row for row, _ in items], "n": [part for _, part in items]}


@aidb.model(outputs={"twice": "INTEGER"}, batch_size=5)
def twice(x: Any) -> Any:
    if 13 in x.to_pylist():
        raise ItemError("13 is beyond me")
    return {"twice": [2 * value for value in x.to_pylist()]}


def test_the_same_answers_as_in_this_process(con: aidb.Connection) -> None:
    """Two models with the same items, a third one on the rows of the first; one item fails."""
    numbers(con, 60, parts)
    con.register(twice)
    con.execute("CREATE VIRTUAL TABLE w AS twice(t.x)")
    con.execute("CREATE VIRTUAL TABLE u AS twice(v.n)")
    ask = "SELECT id, n, w.twice, u.twice FROM w LEFT JOIN v USING (id) LEFT JOIN u USING (id, v_id) ORDER BY ALL"
    cursor = con.execute(ask)
    away, report = cursor.fetchall(), cursor.report
    assert report.failed == 1
    assert all("(ray " in device for device, _ in devices(con))
    assert [item for (item,) in rows(con, "SELECT item FROM aidb.errors")] == ['{"id": 13}']
    with aidb.connect() as here:
        here.execute("SET aidb.max_error_ratio = 1")
        numbers(here, 60, parts)
        here.register(twice)
        here.execute("CREATE VIRTUAL TABLE w AS twice(t.x); CREATE VIRTUAL TABLE u AS twice(v.n)")
        cursor = here.execute(ask)
        assert (cursor.fetchall(), cursor.report.calls) == (away, report.calls)
    assert rows(con, ask) == away
    assert con.execute(ask).report.calls.total() == 0


def test_workers_read_pictures_with_their_own_connectors(con: aidb.Connection, tmp_path: Path) -> None:
    from PIL import Image

    for n in range(20):
        Image.fromarray(np.full((8, 8, 3), n * 10, np.uint8)).save(tmp_path / f"{n:02}.png")
    (tmp_path / "07.png").write_bytes(b"no picture")
    con.execute(f"CREATE BLOB TABLE pictures FROM '{tmp_path}/*.png'")

    @aidb.model(outputs={"shade": "INTEGER"}, inputs={"image": "image"}, batch_size=3)
    def shade(image: Any) -> Any:
        assert os.getpid() != here
        return {"shade": [int(i[0, 0, 0]) for i in image]}

    here = os.getpid()
    con.register(shade)
    cursor = con.execute("SELECT sum(s) FROM (SELECT shade(image) AS s FROM pictures)")
    assert cursor.fetchall() == [(sum(range(0, 200, 10)) - 70,)]
    assert (cursor.report.calls, cursor.report.failed) == ({"shade": 19}, 1)


def test_a_tracker_gets_whole_files_and_a_registered_connector_goes_with_it(con: aidb.Connection) -> None:
    films = {"a": 30, "b": 1, "c": 17}
    con.register_connector(Films(films, broken=[("c", 4)]))
    con.execute("CREATE BLOB TABLE film FROM 'films:*' USING films")

    class Follow(Counter):
        def __init__(self) -> None:
            super().__init__("follow")
            del self.entered  # an event can't be pickled

    con.register(Follow())
    con.execute("CREATE VIRTUAL TABLE seen AS follow(film.frame)")
    want = [(f, i, i - (f == "c" and i > 4)) for f, n in films.items() for i in range(n) if (f, i) != ("c", 4)]
    assert rows(con, "SELECT file, pts, n FROM seen JOIN film USING (frame_id) ORDER BY ALL") == want


def test_what_a_worker_had_when_it_died_goes_to_another_one(con: aidb.Connection, tmp_path: Path) -> None:
    died = tmp_path / "died"

    @aidb.model(outputs={"y": "INTEGER"}, batch_size=5)
    def mortal(x: Any) -> Any:
        if 33 in x.to_pylist() and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"y": [value + 1 for value in x.to_pylist()]}

    numbers(con, 80, mortal)
    cursor = con.execute("SELECT count(*), sum(y) FROM v")
    assert cursor.fetchall() == [(80, sum(range(1, 81)))]
    assert died.exists()
    assert cursor.report.calls == {"m": 80}
    assert check_storage(con) == {"m": 80}


def test_an_item_that_kills_workers_again_and_again_has_failed(
    con: aidb.Connection, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "PATIENCE", 1)

    @aidb.model(outputs={"y": "INTEGER"}, batch_size=2)
    def deadly(x: Any) -> Any:
        if 5 in x.to_pylist():
            os.kill(os.getpid(), signal.SIGKILL)
        return {"y": x.to_pylist()}

    numbers(con, 8, deadly)
    cursor = con.execute("SELECT count(*), sum(y) FROM v")
    assert cursor.fetchall() == [(7, sum(range(8)) - 5)]
    assert cursor.report.failed == 1
    [(item, message)] = rows(con, "SELECT item, message FROM aidb.errors")
    assert item == '{"id": 5}'
    assert "died over it" in message
    assert capfd.readouterr() == ("", "")  # Ray would tell of every death on standard output


def test_a_cap_is_kept_exactly_and_the_next_run_goes_on(con: aidb.Connection) -> None:
    numbers(con, 50, twice)
    con.execute("SET aidb.max_calls = 20")
    for done in (20, 40):
        with pytest.raises(aidb.BudgetExceeded, match="max_calls = 20") as e:
            con.execute("SELECT count(*) FROM v")
        assert e.value.report is not None
        assert e.value.report.calls == {"m": 20}
        assert rows(con, "SELECT sum(items) FROM aidb.calls") == [(done,)]
    assert rows(con, "SELECT count(*), sum(twice) FROM v") == [(49, 2 * (sum(range(50)) - 13))]


def test_an_interrupted_statement_keeps_what_is_finished(con: aidb.Connection) -> None:
    @aidb.model(outputs={"y": "INTEGER"}, batch_size=4)
    def slow(x: Any) -> Any:
        time.sleep(0.05)
        return {"y": x.to_pylist()}

    numbers(con, 400, slow)

    def progress(p: Any) -> None:
        if p.done >= 20:
            con.interrupt()

    with pytest.raises(aidb.Interrupted):
        con.execute("SELECT count(*) FROM v", progress=progress)
    con.engine.materialiser.settle()
    done = check_storage(con)["m"]
    assert 20 <= done < 400
    con.execute("SET aidb.max_seconds = 0.3")
    with pytest.raises(aidb.BudgetExceeded, match="max_seconds"):
        con.execute("SELECT count(*) FROM v")
    con.engine.materialiser.settle()
    done = check_storage(con)["m"]
    con.execute("RESET aidb.max_seconds")
    cursor = con.execute("SELECT count(*) FROM v")
    assert (cursor.fetchall(), cursor.report.calls) == ([(400,)], {"m": 400 - done})


def test_a_model_that_fails_as_a_whole_ends_the_statement(con: aidb.Connection) -> None:
    @aidb.model(outputs={"y": "INTEGER"}, batch_size=4)
    def down(x: Any) -> Any:
        if 30 in x.to_pylist():
            raise ServiceError("the house is closed", retry=False)
        return {"y": x.to_pylist()}

    numbers(con, 40, down)
    with pytest.raises(aidb.ModelError, match="the house is closed") as e:
        con.execute("SELECT count(*) FROM v")
    assert e.value.report is not None
    assert e.value.report.calls["m"] == check_storage(con)["m"] < 40


def test_an_item_that_fails_ends_the_statement_if_that_is_wanted(cluster: aidb.Connection) -> None:
    with aidb.connect() as con:
        con.execute("SET aidb.executor = 'ray'; SET aidb.on_error = 'raise'")
        numbers(con, 40, twice)
        with pytest.raises(aidb.ModelError, match="13 is beyond me"):
            con.execute("SELECT count(*) FROM v")
        assert check_storage(con, retried=True)["m"] < 40
        assert len(rows(con, "SELECT * FROM aidb.errors")) == 1


def test_what_can_not_be_sent_is_said(con: aidb.Connection) -> None:
    numbers(con, 3, FakeModel("m", {"y": "INTEGER"}, lambda x: x))
    with pytest.raises(aidb.OperationalError, match=r"model m can't be sent to a Ray worker: .*lock"):
        con.execute("SELECT count(*) FROM v")


class Scaled(FakeModel):
    """A model that may be told to load another version; each copy for itself."""

    def __init__(self, factor: int) -> None:
        super().__init__("m", {"y": "INTEGER"}, lambda x: 0, version=str(factor), batch_size=4)
        self.factor = factor

    def __reduce__(self) -> Any:
        return Scaled, (self.factor,)

    def predict(self, inputs: Any, *, restart: bool = False) -> Any:
        if 50 in inputs[0].to_pylist():
            Scaled.__init__(self, -1)
        return {"y": [self.factor * x for x in inputs[0].to_pylist()]}


def test_a_copy_that_becomes_another_version_stores_nothing_and_a_new_version_is_sent(con: aidb.Connection) -> None:
    model = Scaled(2)
    numbers(con, 52, model)
    for _ in range(2):
        with pytest.raises(aidb.ModelError, match="m is another version of the model now"):
            con.execute("SELECT count(*) FROM v")
    con.engine.materialiser.settle()
    assert rows(con, "SELECT sum(y) FROM v WHERE id < 40") == [(2 * sum(range(40)),)]
    assert check_storage(con)["m"] < 52
    Scaled.__init__(model, 3)
    assert rows(con, "SELECT sum(y) FROM v WHERE id < 40") == [(3 * sum(range(40)),)]


def test_what_a_worker_may_not_read_fails_there(con: aidb.Connection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("open")
    (tmp_path / "b.txt").write_text("closed")

    @aidb.model(outputs={"said": "VARCHAR"}, inputs={"text": "text"})
    def said(text: Any) -> Any:
        return {"said": list(text)}

    con.execute(f"CREATE BLOB TABLE notes FROM '{tmp_path}/a.txt'")
    ref = "struct_pack(uri := '{}', pos := NULL::BIGINT, media := 'text', connector := 'text')"
    refs = ", ".join(f"({n}, {ref.format(tmp_path / name)})" for n, name in enumerate(("a.txt", "b.txt")))
    con.execute(f"CREATE BLOB TABLE more AS SELECT * FROM (VALUES {refs}) AS r(id, note) KEY (id)")
    con.register(said)
    con.execute("SET enable_external_access = false")
    assert rows(con, "SELECT id, said(note) FROM more ORDER BY id") == [(0, "open"), (1, None)]
    assert "b.txt is listed by no blob table" in rows(con, "SELECT message FROM aidb.errors")[0][0]


def test_a_guarantee_and_streamed_rows(con: aidb.Connection) -> None:
    @aidb.model(outputs={"odd": "BOOLEAN"}, batch_size=8)
    def odd(x: Any) -> Any:
        return {"odd": [value % 2 == 1 for value in x.to_pylist()]}

    con.execute("CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range(3000) KEY (id)")

    @aidb.model(outputs={"score": "DOUBLE"}, batch_size=64)
    def hint(x: Any) -> Any:
        return {"score": [(value * 7 % 10 + 5 * (value % 2)) / 15 for value in x.to_pylist()]}

    con.register(odd)
    con.register(hint)
    con.execute("SET aidb.seed = 1")
    cursor = con.execute("SELECT count(*) AS n FROM t WHERE odd(x) ERROR TARGET 20%")
    assert 1200 <= cursor.fetchall()[0][0] <= 1800
    assert 0 < cursor.report.calls["odd"] < 3000
    cursor = con.execute("SELECT id FROM t WHERE odd(x) RECALL TARGET 80% BUDGET 200 USING PROXY hint(x)")
    scored = cursor.report.calls["hint"]
    assert scored > 2000, "the pass of a proxy over what is not known yet"
    assert 0 < cursor.report.oracle_calls <= 200
    assert all("(ray " in device for device, _ in devices(con))
    con.execute("SET aidb.stream = 'on'")
    cursor = con.execute("SELECT id FROM t WHERE odd(x)")
    assert cursor.fetchone() is not None
    assert len(cursor.fetchall()) == 1499
    assert check_storage(con) == {"odd": 3000, "hint": scored}


def test_random_statements_have_the_right_answers(cluster: aidb.Connection) -> None:
    """A few; ``python -m tests.engine.differential --executor ray`` checks as many as are wanted."""
    summary = differential.run(10, 7, executor="ray")
    assert summary.differences == []
    assert summary.counts["checked"] == 10
