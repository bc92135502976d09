"""What is handed out to workers, and what a worker does with it, without Ray."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import aidb
from aidb.catalog.definitions import FillDefinition
from aidb.errors import InternalError
from aidb.exec.batches import Job
from aidb.exec.control import Control, Limits
from aidb.exec.distributed import cluster
from aidb.exec.distributed.chunks import Chunk
from aidb.exec.distributed.supply import Supply
from aidb.exec.distributed.task import ROW_NUMBER, Done, Order, Task
from aidb.exec.distributed.worker import RemoteWorker
from aidb.exec.inference import Inference
from aidb.exec.inputs import JobInputs
from aidb.exec.models import definition_of
from aidb.testing import FakeModel

KEYS = (("id", "BIGINT"),)


def job(control: Control, name: str = "m", flag: str | None = None, **more: Any) -> Job:
    model = FakeModel(name, {"y": "INTEGER"}, lambda x: x + 1, batch_size=4, **more)
    fill = FillDefinition(
        len(name), name, "f", name, (("t", "x"),), ("t",), KEYS, (("y", "INTEGER"),), None, False, False
    )
    return Job(fill, Inference(name, model, control), JobInputs(("x",), ("value",), flag))


def table(n: int) -> pa.Table:
    return pa.table({"id": pa.array(range(n), pa.int64()), "x": pa.array(range(n), pa.int32())})


def supply(control: Control, n: int, *jobs: Job) -> Supply:
    made = Supply(jobs or (job(control),), control, n)
    made.workers = 1
    assert made.put(table(n), None, on_content=False)
    made.end()
    return made


def test_chunks_grow_with_what_was_measured_and_shrink_towards_the_end() -> None:
    there = supply(Control(), 1000)
    assert there.take(alone=True).rows == 4  # type: ignore[union-attr]
    there.done(4, 0.04)
    there.workers = 2
    assert there.take(alone=True).rows == 200  # type: ignore[union-attr]
    sizes = []
    while (chunk := there.take(alone=True)) is not None:
        sizes.append(chunk.rows)
        there.done(chunk.rows, chunk.rows / 100)
    assert sum(sizes) == 796
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= 10
    assert not there.is_over
    there.done(200, 2)
    assert there.is_over


def test_a_cap_waits_for_what_others_may_give_back() -> None:
    control = Control(Limits(max_calls=6))
    there = supply(control, 20)
    assert [there.take(alone=True).rows for _ in range(2)] == [4, 2]  # type: ignore[union-attr]
    assert there.take(alone=True) is None
    assert not control.stopping
    control.give_back("m", 1, 0.0)  # one of them could not be read
    there.done(4, 1)
    assert there.take(alone=True).rows == 1  # type: ignore[union-attr]
    for _ in range(2):
        there.done(1, 1)
    assert there.take(alone=True) is None
    with pytest.raises(aidb.BudgetExceeded, match="max_calls = 6"):
        control.raise_if_stopped()
    there.drop()
    assert control.calls == {"m": 6}


def test_what_a_cap_keeps_from_one_model_counts_as_asked_of_none() -> None:
    control = Control(Limits(max_cost=3))
    there = supply(control, 10, job(control, "free"), job(control, "dear", price_per_call=1.0))
    assert there.take(alone=True).rows == 3  # type: ignore[union-attr]
    there.done(3, 1)
    assert there.take(alone=True) is None
    with pytest.raises(aidb.BudgetExceeded, match="max_cost = 3"):
        control.raise_if_stopped()
    there.drop()
    assert control.calls == {"free": 3, "dear": 3}
    assert control.cost == 3


def test_what_a_lost_worker_had_comes_first_and_a_suspect_alone() -> None:
    control = Control()
    there = supply(control, 20)
    one, two = there.take(alone=True), there.take(alone=False)
    assert one is not None
    assert two is not None
    one.answered(0, pa.chunked_array([[0, 2]]))
    rest = one.rest()
    assert rest is not None
    assert rest.table.column("id").to_pylist() == [1, 3]
    there.back([one, two], [replace(rest, strikes=1), two])
    assert there.take(alone=False) is two
    again = there.take(alone=True)
    assert again is not None
    assert (again.rows, again.strikes) == (2, 1)
    assert control.calls == {"m": 8}  # nothing was reserved twice


def test_no_answer_is_taken_twice() -> None:
    chunk = Chunk.of(table(4).append_column("w", pa.array([True, False, True, True])), ["w"])
    assert chunk.wants() == [3]
    chunk.answered(0, pa.chunked_array([[0]]))
    assert chunk.sent(["w"]).column("w").to_pylist() == [False, False, True, True]
    for numbers in ([0], [1], [2, 2]):
        with pytest.raises(InternalError, match="twice"):
            chunk.answered(0, pa.chunked_array([numbers]))


def ordered(model: FakeModel) -> tuple[Task, bytes]:
    del model._lock  # as a model that can be sent
    definition = definition_of(model.name, "python", {}, model.spec)
    fill = replace(job(Control()).fill, keys=(*KEYS, (ROW_NUMBER, "BIGINT")))
    task = Task(
        "1",
        (fill,),
        (JobInputs(("x",), ("value",), None),),
        (Order(definition, "1", True),),
        None,
        1 << 20,
        "skip",
        {},
        {},
    )
    return task, pickle.dumps(model)


def test_a_worker_is_told_to_stop() -> None:
    worker = RemoteWorker()
    task, payload = ordered(FakeModel("m", {"y": "INTEGER"}, abs))
    assert worker.begin(task, payload) is None
    worker.stop()
    rows = table(4).append_column(ROW_NUMBER, pa.array(range(4), pa.int64()))
    assert list(worker.answer("1", rows, {}, {})) == [Done({})]
    [done] = worker.answer("2", rows, {}, {})
    assert isinstance(done, Done)
    assert "two runs at once" in str(done.error)
    worker.close()


def test_a_model_that_differs_on_the_worker_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDB_TEST_TOKEN", "")
    words = tmp_path / "words.csv"
    words.write_text("word,mood\nred,warm\n")
    with aidb.connect() as con:
        con.execute(f"CREATE MODEL mood USING lookup WITH (path = '{words}', key = 'word')")
        definition = con.engine.registry.model("mood")
    worker = RemoteWorker()
    task = Task("1", (), (), (Order(definition, "1", False),), None, 1 << 20, "skip", {}, {"AIDB_TEST_TOKEN": "s3cret"})
    assert "s3cret" not in repr(task)
    assert worker.begin(task, None) is None
    assert os.environ["AIDB_TEST_TOKEN"] == "s3cret"
    words.write_text("word,mood\nred,cold\n")
    error = worker.begin(replace(task, orders=(Order(definition, "2", False),)), None)
    assert isinstance(error, aidb.ModelError)
    assert "model mood is another one there" in str(error)
    worker.close()


def test_without_ray_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with aidb.connect() as con, pytest.raises(aidb.OperationalError, match=r"pip install 'aidb\[ray\]'"):
        con.execute("SET aidb.executor = 'ray'")
    with pytest.raises(aidb.OperationalError, match=r"pip install 'aidb\[ray\]'"):
        cluster.demand()


def test_rays_client_is_refused() -> None:
    pytest.importorskip("ray")
    with aidb.connect() as con:
        con.execute(
            "SET aidb.executor = 'ray'; SET aidb.ray_address = 'ray://host:10001'; CREATE TABLE t AS SELECT 1 AS x"
        )

        @aidb.model(outputs={"y": "INTEGER"})
        def same(x: Any) -> Any:
            return {"y": x}

        con.register(same)
        with pytest.raises(aidb.OperationalError, match="can't stream answers"):
            con.execute("SELECT same(x) FROM t")


def test_a_cluster_that_wants_a_token_is_told_of() -> None:
    refused = ConnectionError("Failed to connect to Ray cluster at here")
    refused.__cause__ = RuntimeError("InvalidAuthToken: Authentication token is missing or incorrect")
    assert "RAY_AUTH_MODE=token" in cluster._about_token(refused)
    assert cluster._about_token(ConnectionError("nobody is there")) == ""
