from __future__ import annotations

import threading
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from aidb.errors import ModelError, SourceError
from aidb.exec.validate import validate
from aidb.spi import Connector, ItemError, ItemFailure, Model, OutOfMemory, Ref, Scan, ServiceError
from aidb.testing import ConnectorContract, FailingModel, FakeModel, FaultyService, MemoryConnector

BATCH = [pa.array([1, 2, 3])]


class TestMemory(ConnectorContract):
    def connector(self) -> Connector:
        return MemoryConnector([np.full((2, 3, 3), i, dtype=np.uint8) for i in range(3)], batch=2)

    def source(self, folder: Path) -> str:
        return "memory:*"

    def missing(self, folder: Path) -> str:
        return "memory:nobody"

    def broken(self, folder: Path) -> Ref:
        return Ref("memory:nobody", None, "image", "memory")


def half(**more: Any) -> FakeModel:
    return FakeModel("half", {"half": "DOUBLE"}, lambda x: x / 2, **more)


def boxes() -> FakeModel:
    return FakeModel("boxes", {"x": "BIGINT", "c": "VARCHAR"}, lambda n: [(i, "c") for i in range(n)], rows="many")


def test_a_fake_answers_and_counts() -> None:
    model = half(price_per_call=0.5, batch_size=2)
    assert isinstance(model, Model)
    model.load()
    assert model.predict(BATCH) == {"half": [0.5, 1.0, 1.5]}
    assert model.predict([pa.array([5])]) == {"half": [2.5]}
    model.close()
    assert (model.calls, model.items, model.batches, model.loads, model.closes) == (2, 4, [3, 1], 1, 1)
    assert model.seen == [(1,), (2,), (3,), (5,)]
    assert (model.spec.price_per_call, model.spec.batch_size) == (0.5, 2)
    model.reset()
    assert (model.calls, model.items, model.seen) == (0, 0, [])


def test_a_fake_with_many_rows_and_answers_as_dicts() -> None:
    assert boxes().predict([pa.array([2, 0, 1])]) == {"x": [0, 1, 0], "c": ["c"] * 3, "_row": [0, 0, 2]}
    fake = FakeModel("d", {"a": "BIGINT", "b": "BIGINT"}, lambda x, y: {"b": y, "a": x}, inputs=("x", "y"))
    assert fake.predict([pa.array([1]), pa.array([2])]) == {"a": [1], "b": [2]}


def test_the_fingerprint_of_a_fake() -> None:
    prints = [half(), half(), half(version="2"), FakeModel("half", {"half": "FLOAT"}, abs), half(inputs=("y",))]
    assert len({m.spec.fingerprint for m in prints}) == 4
    assert prints[0].spec == prints[1].spec


def test_a_delay_is_waited_for() -> None:
    start = time.monotonic()
    half(delay=0.01, delay_per_item=0.01).predict(BATCH)
    assert time.monotonic() - start >= 0.04


def test_failing_on_the_nth_call() -> None:
    model = FailingModel(half(), on_call=(2, 4), error=ConnectionResetError)
    for call in (1, 2, 3, 4, 5):
        if call in (2, 4):
            with pytest.raises(ConnectionResetError):
                model.predict(BATCH)
        else:
            model.predict(BATCH)
    assert (model.calls, model.failures, model.items) == (5, 2, 9)


def test_failing_on_items_on_large_batches_and_as_a_service() -> None:
    with pytest.raises(ItemError, match="item 1"):
        FailingModel(half(), on_items=lambda x: x == 2).predict(BATCH)
    with pytest.raises(OutOfMemory, match="3 items don't fit; 2 do"):
        FailingModel(half(), max_batch=2).predict(BATCH)
    model = FailingModel(half(), service_errors=2, after=0.5)
    for _ in range(2):
        with pytest.raises(ServiceError) as e:
            model.predict(BATCH)
        assert (e.value.retry, e.value.after) == (True, 0.5)
    assert model.predict(BATCH) == {"half": [0.5, 1.0, 1.5]}
    assert model.spec == model.model.spec


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("short", "'x' has 2 values"), ("long", "'x' has 4 values"), ("missing", "'x' is missing"),
        ("extra", "'surplus' was not declared"), ("type", "row 0 is <object"), ("nan", "row 0 is nan"),
        ("scalar", "one int"), ("nothing", "NoneType"), ("row_missing", "'_row' is missing"),
        ("row_null", "'_row' is NULL"), ("row_range", "'_row' is 3 at row 0"), ("row_type", "'_row' must hold integers"),
    ],
)  # fmt: skip
def test_each_way_to_spoil_an_answer_is_found_out(how: Any, message: str) -> None:
    model = FailingModel(boxes(), corrupt=how)
    batch = [pa.array([1, 0, 2])]
    with pytest.raises(ModelError, match=message):
        validate("boxes", model.spec, model.predict(batch), 3)


def test_spoiling_by_a_function_and_by_a_word_that_does_not_exist() -> None:
    model = FailingModel(half(), corrupt=lambda columns: {"half": columns["half"][::-1]})
    assert model.predict(BATCH) == {"half": [1.5, 1.0, 0.5]}
    with pytest.raises(ValueError, match="choose one of short"):
        FailingModel(half(), corrupt="wrong")  # type: ignore[arg-type]


def test_hanging_until_let_go() -> None:
    go = threading.Event()
    model = FailingModel(half(), hang=go)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(model.predict(BATCH)))
    thread.start()
    assert model.entered.wait(5)
    assert not answers
    go.set()
    thread.join(5)
    assert answers == [{"half": [0.5, 1.0, 1.5]}]


def test_failing_to_load_and_to_close() -> None:
    model = FailingModel(half(), load_error=OSError("no weights"), close_error=OSError("busy"))
    with pytest.raises(OSError, match="no weights"):
        model.load()
    with pytest.raises(OSError, match="busy"):
        model.close()
    assert model.model.closes == 1  # type: ignore[attr-defined]


def read(connector: MemoryConnector, table: pa.Table, **more: Any) -> list[Any]:
    return list(connector.read([Ref(**row) for row in table["content"].to_pylist()], **more))


def listed(connector: MemoryConnector) -> pa.Table:
    return pa.Table.from_batches(list(connector.items(Scan("x"))))


def test_items_in_memory() -> None:
    pictures = [np.full((2, 3, 3), i, dtype=np.uint8) for i in range(3)]
    connector = MemoryConnector(pictures, key="image_id", columns={"ts": ("DOUBLE", [0, 1, 2])}, broken=[1], batch=2)
    assert isinstance(connector, Connector)
    table = listed(connector)
    schema = connector.schema(Scan("x"))
    assert table.schema.names == [*(c for c, _ in schema.columns), "content_id"]
    assert table["ts"].to_pylist() == [0.0, 1.0, 2.0]
    first, broken, third = read(connector, table)
    assert np.array_equal(first, pictures[0])
    assert broken == ItemFailure("memory:item-1: can't be decoded")
    assert np.array_equal(third, pictures[2])
    assert connector.reads == ["item-0", "item-1", "item-2"]
    png = read(connector, table.slice(2), encoded=True)[0]
    assert np.array_equal(np.asarray(Image.open(BytesIO(png))), pictures[2])


def test_a_source_in_memory_changes() -> None:
    connector = MemoryConnector({"a": "one", "b": "two"})
    before = listed(connector)
    assert (connector.media, read(connector, before)) == ("text", ["one", "two"])
    connector.replace("a", "uno")
    connector.remove("b")
    connector.add("c", "three")
    after = listed(connector)
    assert after["name"].to_pylist() == ["a", "c"]
    assert after["content_id"][0] != before["content_id"][0]
    assert read(connector, before) == ["uno", ItemFailure("memory:b: no such item")]
    assert read(connector, after.slice(1), encoded=True) == [b"three"]


def test_a_source_that_can_not_be_listed() -> None:
    with pytest.raises(SourceError, match="permission"):
        listed(MemoryConnector([b"sound"], list_error="no permission"))
    with pytest.raises(ValueError, match="2 values for 1 items"):
        MemoryConnector(["x"], columns={"a": ("INTEGER", [1, 2])})


def test_a_failing_model_tells_before_each_call_and_takes_its_time() -> None:
    told: list[int] = []
    model = FailingModel(half(), before=told.append, slow=0.01)
    began = time.monotonic()
    model.predict(BATCH)
    model.predict(BATCH)
    assert told == [1, 2]
    assert time.monotonic() - began >= 0.02


def test_a_faulty_service_knows_its_faults() -> None:
    with pytest.raises(ValueError, match="choose a status or one of reset, truncated"):
        FaultyService(lambda item: item, {1: "odd"})  # type: ignore[dict-item]
    with FaultyService(lambda item: item) as service:
        assert service.url.startswith("http://127.0.0.1:")
        assert (service.requests, service.items) == (0, [])
