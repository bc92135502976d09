"""A fault at every n-th call, one after another: what was done stays, nothing is half there, and the rerun is right."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import aidb
from aidb.spi import Input, ItemError, OutOfMemory
from aidb.storage.answers import AnswerWriter
from aidb.testing import FailingModel, FakeModel, MemoryConnector
from tests.engine.storing import check_quiet, check_storage, rows

N = 40
RIGHT = [(sum(i % 3 for i in range(N)), sum(x for i in range(N) for x in range(i % 3)))]
ASK = "SELECT count(*), sum(part) FROM v"


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
        yield con


def parts(x: int) -> list[int]:
    """0, 1 or 2 rows an item."""
    return list(range(x % 3))


def model(**more: Any) -> FakeModel:
    return FakeModel("m", {"part": "INTEGER"}, parts, rows="many", **{"batch_size": 7, "backoff": 0.001, **more})


def put(con: aidb.Connection, failing: Any) -> None:
    con.register(failing)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")


def with_fault(make: Any, *, settings: tuple[str, ...] = (), step: int = 1) -> int:
    """Run the query with ``make(n)`` for each n, or every few, until nothing fails; the first n that comes too late."""
    for n in range(1, 60, step):
        with aidb.connect() as con:
            con.execute("SET threads = 1")
            con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
            for setting in settings:
                con.execute(setting)
            inner = model()
            failing = make(inner, n)
            put(con, failing)
            error, answer = None, None
            try:
                answer = con.execute(ASK).fetchall()
            except aidb.ModelError as e:
                error = e
            check_quiet(con)
            done = check_storage(con).get("m", 0)
            asked = failing.items
            assert done == asked, "every item that was answered is stored, once"
            if error is None:
                assert failing.failures == 0
                assert answer == RIGHT
                return n
            assert error.report is not None
            assert error.report.calls == {"m": asked}
            failing.on_call = ()
            failing.corrupt = None
            con.execute("RETRY FAILED")
            cur = con.execute(ASK)
            assert cur.fetchall() == RIGHT
            assert cur.report.calls == {"m": N - done}
            assert check_storage(con, retried=True) == {"m": N}
            assert rows(con, "SELECT * FROM aidb.errors") == []
    pytest.fail("the query never succeeded")


@pytest.mark.parametrize("error", [RuntimeError("boom"), ItemError("bad"), OutOfMemory("full"), MemoryError()])
def test_an_error_at_every_call(error: Exception) -> None:
    """A single fault costs no item: the batch is cut and asked again, and what is at fault alone is asked alone."""
    for n in range(1, 30):
        with aidb.connect() as con:
            con.execute("SET threads = 1")
            con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
            failing = FailingModel(model(), on_call=n, error=error)
            put(con, failing)
            cur = con.execute(ASK)
            missing = cur.report.failed
            assert missing <= 1  # a batch of one item
            assert cur.report.calls == {"m": N}
            assert check_storage(con) == {"m": N - missing}
            if missing:
                con.execute("RETRY FAILED")
                cur = con.execute(ASK)
                assert cur.report.calls == {"m": 1}
            assert cur.fetchall() == RIGHT
            check_quiet(con)
            if failing.failures == 0:
                assert n > 5
                return
    pytest.fail("the query never succeeded")


def _at(call: int, how: Any) -> Any:
    """Spoil the answer of one call."""

    class Spoilt(FailingModel):
        def predict(self, inputs: Any, *, restart: bool = False) -> Any:
            if self.calls + 1 == call and self.corrupt is not None:
                self.failures += 1
                self.calls += 1
                return self._spoilt(self.model.predict(inputs), len(inputs[0]))
            corrupt, self.corrupt = self.corrupt, None
            try:
                return super().predict(inputs, restart=restart)
            finally:
                self.corrupt = corrupt

    return lambda inner, n: Spoilt(inner, corrupt=how)


@pytest.mark.parametrize(
    ("how", "step"),
    [("missing", 1), ("type", 4), ("scalar", 4), ("nothing", 4), ("row_missing", 4), ("row_null", 4), ("row_range", 4)],
)
def test_a_broken_answer_at_every_call(how: Any, step: int) -> None:
    """A model that breaks its contract ends the query; what was answered before stays."""

    def make(inner: FakeModel, n: int) -> Any:
        return _at(n, how)(inner, n)

    assert with_fault(make, step=step) > 6


def test_a_service_that_is_down_at_every_call() -> None:
    """No retry helps: the query ends with what was done, and a report."""

    class Down(FailingModel):
        def _fail(self, call: int, inputs: Any) -> None:
            if call in self.on_call:
                raise aidb.spi.ServiceError("503", retry=False)

    assert with_fault(lambda inner, n: Down(inner, on_call=n)) > 6


@pytest.mark.parametrize("times", [1, 3, 4])
def test_a_service_that_recovers(con: aidb.Connection, times: int) -> None:
    failing = FailingModel(model(retries=3), service_errors=times)
    put(con, failing)
    if times <= 3:
        cur = con.execute(ASK)
        assert cur.fetchall() == RIGHT
        assert cur.report.calls == {"m": N}
        assert cur.report.failed == 0
    else:
        with pytest.raises(aidb.ModelError, match="after 4 attempts") as e:
            con.execute(ASK)
        assert e.value.report is not None
        assert e.value.report.calls == {"m": 0}
        assert rows(con, ASK) == RIGHT
    assert failing.items == N


def test_a_service_that_fails_within_a_batch_keeps_its_first_part(con: aidb.Connection) -> None:
    """Out of memory cuts the batch; then the service goes away: the part that was answered is stored."""

    class Later(FailingModel):
        def _fail(self, call: int, inputs: Any) -> None:
            if len(inputs[0]) > 4:
                raise OutOfMemory("too many")
            if self.items >= 9 and not self.on_call:
                raise aidb.spi.ServiceError("gone", retry=False)

    failing = Later(model(batch_size=16))
    put(con, failing)
    with pytest.raises(aidb.ModelError, match="gone") as e:
        con.execute(ASK)
    assert e.value.report is not None
    assert e.value.report.calls == {"m": failing.items}
    assert check_storage(con) == {"m": failing.items}
    done = failing.items
    failing.on_call = (-1,)
    cur = con.execute(ASK)
    assert cur.fetchall() == RIGHT
    assert cur.report.calls == {"m": N - done}
    assert failing.items == N


def test_a_hanging_model_until_it_is_interrupted(con: aidb.Connection) -> None:
    gate = threading.Event()
    failing = FailingModel(model(), hang=gate)
    put(con, failing)
    timer = threading.Thread(target=lambda: (failing.entered.wait(), con.interrupt()))
    timer.start()
    with pytest.raises(aidb.Interrupted) as e:
        con.execute(ASK)
    timer.join()
    assert e.value.report is not None
    gate.set()
    cur = con.execute(ASK)
    assert cur.fetchall() == RIGHT
    assert failing.items == N, "the answers of the batch that hung were kept"
    assert check_storage(con) == {"m": N}
    check_quiet(con)


# ---- the poisonous item


@pytest.mark.parametrize("bad", [{0}, {15}, {16}, {31}, {7, 8}, {0, 31}])
def test_poison_is_found_with_few_calls(con: aidb.Connection, bad: set[int]) -> None:
    con.execute("CREATE BLOB TABLE s AS SELECT range AS id, range::INTEGER AS x FROM range(32) KEY (id)")
    failing = FailingModel(model(batch_size=32), on_items=lambda x: x in bad, item_error=ItemError)
    con.register(failing)
    con.execute("CREATE VIRTUAL TABLE w AS m(s.x)")
    con.execute("SET aidb.optimizer = false")
    con.execute("SET aidb.max_error_ratio = 0.5")
    cur = con.execute("SELECT count(*) FROM w")
    assert cur.fetchall() == [(sum(i % 3 for i in range(32) if i not in bad),)]
    assert cur.report.calls == {"m": 32}
    assert cur.report.failed == len(bad)
    # 1 for the batch; for each poison one to see it alone, and one good part for each of the 5 cuts on the way to it.
    assert failing.calls <= 1 + len(bad) * 10
    if len(bad) == 1:
        assert failing.failures <= 6
    items = rows(con, "SELECT item, attempts FROM aidb.errors ORDER BY item")
    assert items == sorted((f'{{"id": {i}}}', 1) for i in bad)


# ---- the failure policy


def test_skipped_items_are_told_and_tried_again(con: aidb.Connection) -> None:
    bad = {3, 20}
    failing = FailingModel(model(), on_items=lambda x: x in bad)
    put(con, failing)
    cur = con.execute("SELECT count(DISTINCT id) FROM v")
    assert cur.report.failed == 2
    assert any("2 items" in note and "aidb.errors" in note for note in cur.report.notes)
    assert [a for (a,) in rows(con, "SELECT attempts FROM aidb.errors")] == [1, 1]
    cur = con.execute("SELECT count(DISTINCT id) FROM v")
    assert cur.report.calls == {"m": 0}
    con.execute("RETRY FAILED FOR m")
    bad.discard(3)
    cur = con.execute(ASK)
    assert cur.report.calls == {"m": 2}
    assert rows(con, "SELECT item, attempts, model FROM aidb.errors") == [('{"id": 20}', 2, "m")]
    bad.clear()
    con.execute("RETRY FAILED")
    assert rows(con, ASK) == RIGHT
    assert rows(con, "SELECT * FROM aidb.errors") == []
    assert check_storage(con, retried=True) == {"m": N}


def test_retries_of_an_item_add_up(con: aidb.Connection) -> None:
    failing = FailingModel(model(retries=2), on_items=lambda x: x == 5, item_error=RuntimeError)
    put(con, failing)
    con.execute(ASK)
    assert rows(con, "SELECT attempts FROM aidb.errors") == [(3,)]
    con.execute("RETRY FAILED")
    cur = con.execute(ASK)
    assert cur.report.calls == {"m": 1}
    assert rows(con, "SELECT attempts FROM aidb.errors") == [(6,)]


def test_on_error_raise_keeps_the_others_and_asks_again(con: aidb.Connection) -> None:
    bad = {11}
    failing = FailingModel(model(), on_items=lambda x: x in bad)
    put(con, failing)
    con.execute("SET aidb.on_error = 'raise'")
    for _ in range(2):  # it is not forgotten that the item failed
        with pytest.raises(aidb.ModelError, match="an item failed") as e:
            con.execute(ASK)
        assert e.value.report is not None
        assert e.value.report.failed == 1
    assert check_storage(con, retried=True)["m"] == failing.items
    bad.clear()
    assert rows(con, ASK) == RIGHT
    assert failing.items == N
    assert rows(con, "SELECT * FROM aidb.errors") == []


def test_too_many_failures_end_the_query(con: aidb.Connection) -> None:
    failing = FailingModel(model(), on_items=lambda x: x % 4 == 0)
    put(con, failing)
    with pytest.raises(aidb.TooManyFailures, match="max_error_ratio") as e:
        con.execute(ASK)
    assert e.value.report is not None
    assert 20 <= e.value.report.calls["m"] < N
    assert check_storage(con)["m"] == failing.items
    con.execute("SET aidb.max_error_ratio = 0.3")
    cur = con.execute(ASK)
    assert cur.fetchall()[0][0] == sum(i % 3 for i in range(N) if i % 4)
    check_storage(con)


def test_few_items_are_no_ratio_but_all_of_them_are_too_many(con: aidb.Connection) -> None:
    failing = FailingModel(model(), on_items=lambda x: x % 4 == 0)
    put(con, failing)
    with pytest.raises(aidb.TooManyFailures, match=r"all 3 items failed; .* See aidb\.errors"):
        con.execute("SELECT count(*) FROM v WHERE id IN (20, 24, 28)")
    assert rows(con, "SELECT count(*) FROM v WHERE id < 16") == [(sum(i % 3 for i in range(16) if i % 4),)]


def test_a_model_that_has_answered_others_is_not_broken_by_damaged_items(con: aidb.Connection) -> None:
    put(con, FailingModel(model(), on_items=lambda x: x % 4 == 0))
    few = "SELECT count(*) FROM v WHERE id < 8"
    expected = con.execute(few).fetchall()
    con.execute("RETRY FAILED")
    cur = con.execute(few)
    assert (cur.fetchall(), cur.report.failed) == (expected, 2)
    assert con.execute("SELECT count(*) FROM v WHERE id IN (20, 24, 28)").fetchall() == [(0,)]


def test_what_failed_before_is_told_again(con: aidb.Connection) -> None:
    put(con, FailingModel(model(), on_items=lambda x: x in (3, 5)))
    ask = "SELECT count(*) FROM v WHERE id < 8"
    assert con.execute(ask).report.failed == 2
    cur = con.execute(ask)
    assert cur.report.failed == 0
    assert cur.report.notes == ("2 items have no answer of m, having failed before: see aidb.errors, RETRY FAILED",)


def test_unreadable_items_are_failures_and_no_calls() -> None:
    with aidb.connect() as con:
        pictures = [np.full((2, 2, 3), i, np.uint8) for i in range(30)]
        con.register_connector(MemoryConnector(pictures, broken=[4, 29]))
        con.execute("CREATE BLOB TABLE p FROM 'memory:*' USING memory")
        light = FakeModel("light", {"y": "INTEGER"}, lambda a: int(a[0, 0, 0]), inputs=[Input("image", "image")])
        con.register(light)
        con.execute("CREATE VIRTUAL TABLE w AS light(p.content)")
        cur = con.execute("SELECT count(*) FROM w")
        assert cur.fetchall() == [(28,)]
        assert cur.report.calls == {"light": 28}
        assert cur.report.failed == 2
        assert check_storage(con) == {"light": 28}
        check_quiet(con)


# ---- the writer


def test_a_disk_that_is_full_at_every_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is asked again; what was written is not."""
    write = AnswerWriter._write
    for n in range(1, 40):
        count = 0

        def broken(self: AnswerWriter, batch: Any, at: int = n) -> None:
            nonlocal count
            count += 1
            write(self, batch)  # half of the transaction is done
            if count >= at:
                raise aidb.OperationalError("no space left on device")

        with aidb.connect() as con, monkeypatch.context() as patch:
            con.execute("SET threads = 1")
            con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)")
            inner = model()
            put(con, inner)
            patch.setattr(AnswerWriter, "_write", broken)
            error = ""
            try:
                con.execute(ASK)
            except aidb.OperationalError as e:
                error = str(e)
            check_quiet(con)
            patch.undo()
            stored = check_storage(con).get("m", 0)
            assert (stored < N) == ("no space" in error)
            assert rows(con, ASK) == RIGHT
            assert check_storage(con) == {"m": N}
            if not error:
                return
    pytest.fail("the query never succeeded")
