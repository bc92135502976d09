"""The list of faults, one test each: what is kept, what the user reads, and that the next run pays for each item once.

A service that goes wrong is a real one, asked over a real connection; a disk that is full is a full disk.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import aidb
from aidb.spi import ModelSpec
from aidb.testing import FailingModel, FakeModel, FaultyService
from tests.engine.storing import check_quiet, check_storage, rows

N, BATCH = 30, 5
ASK = "SELECT count(*), sum(y) FROM v"
RIGHT = [(N, sum(10 * i for i in range(N)))]


def prepare(con: aidb.Connection) -> None:
    con.execute("SET threads = 1")
    con.execute(
        f"CREATE BLOB TABLE IF NOT EXISTS t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)"
    )


@pytest.fixture
def con(monkeypatch: pytest.MonkeyPatch) -> Iterator[aidb.Connection]:
    monkeypatch.setenv("NO_PROXY", "*")
    with aidb.connect() as con:
        prepare(con)
        yield con


def ask_service(con: aidb.Connection, service: FaultyService, **options: Any) -> None:
    more = "".join(f", {name} = {value!r}" for name, value in {"retries": 0, "backoff": 0.001, **options}.items())
    con.execute(
        f"CREATE MODEL m USING http WITH (url = '{service.url}', inputs = {{'x': 'INTEGER'}}, outputs = {{'y': 'INTEGER'}}, "
        f"batch_size = {BATCH}, concurrency = 1{more})"
    )
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")


def tenfold(item: dict[str, Any]) -> Any:
    return {"y": 10 * item["x"]}


def local(answer: Any = lambda x: 10 * x, **more: Any) -> FakeModel:
    return FakeModel("m", {"y": "INTEGER"}, answer, **{"batch_size": BATCH, "backoff": 0.001, **more})


# ---- a service

PASSING: list[Any] = ["reset", "truncated", 429, 500, 502, 503, 504, "page"]
LASTING = [
    (401, r"answered 401: .*as it was told to.*\(sent with no token \(option token_env\)\)"),
    (404, "answered 404"),
    ("schema", r"entry 0 has no field 'y'; got .*surprise"),
    ("missing", '"outputs" has 4 entries for 5 inputs'),
    ("doubled", '"outputs" has 6 entries for 5 inputs'),
]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again(con: aidb.Connection, fault: Any) -> None:
    with FaultyService(tenfold, {3: fault}, retry_after=0) as service:
        ask_service(con, service, retries=2)
        cur = con.execute(ASK)
        assert cur.fetchall() == RIGHT
        assert cur.report.calls == {"m": N}
        assert service.requests == N // BATCH + 1
        assert sorted(item["x"] for item in service.items) == list(range(N))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("reset", "can't be reached"),
        ("truncated", "can't be reached"),
        ("corrupt", "not JSON"),
        ("page", "not JSON: <html>"),
        (429, "answered 429"),
        (500, "answered 500"),
        *LASTING,
    ],
)
def test_what_does_not_pass_ends_the_query_and_loses_one_batch(con: aidb.Connection, fault: Any, said: str) -> None:
    with FaultyService(tenfold, {3: fault}) as service:
        ask_service(con, service)
        with pytest.raises(aidb.ModelError, match=said) as wrong:
            con.execute(ASK)
        assert "m: http://127.0.0.1" in str(wrong.value), "which model, and where"
        assert "everything inferred so far is kept" in str(wrong.value)
        assert wrong.value.report is not None
        assert wrong.value.report.calls == {"m": 2 * BATCH}
        assert check_storage(con) == {"m": 2 * BATCH}
        cur = con.execute(ASK)
        assert cur.fetchall() == RIGHT
        assert cur.report.calls == {"m": N - 2 * BATCH}
        assert sorted(item["x"] for item in service.items) == list(range(N))
        check_quiet(con)


def test_a_request_that_hangs_is_given_up(con: aidb.Connection) -> None:
    with FaultyService(tenfold, {3: "hang"}) as service:
        ask_service(con, service, timeout=2)
        with pytest.raises(aidb.ModelError, match=r"did not answer within 2 s \(option timeout\)"):
            con.execute(ASK)
        assert check_storage(con) == {"m": 2 * BATCH}
        service.release()
        cur = con.execute(ASK)
        assert cur.fetchall() == RIGHT
        assert cur.report.calls == {"m": N - 2 * BATCH}


class Reloaded:
    """A model that is told to load another version, in the middle of a batch or between two; that one negates.

    when: calls that have been made before it is told. within: is the call after them under way?
    """

    def __init__(self, when: int, *, within: bool) -> None:
        self.when, self.within, self.calls, self.seen = when, within, 0, list[int]()
        self.models = [local(lambda x, f=factor: f * x, version=str(factor)) for factor in (10, -10)]
        self.current = self.models[0]

    @property
    def spec(self) -> ModelSpec:
        return self.current.spec

    def load(self) -> None: ...

    def predict(self, inputs: Any, *, restart: bool = False) -> Any:
        answer = self.current.predict(inputs)
        self.calls += 1
        if self.calls == self.when + self.within:
            self.current = self.models[1]
            if self.within:
                answer = self.current.predict(inputs)
        return answer

    def close(self) -> None: ...


@pytest.mark.parametrize("within", [True, False])
def test_an_object_that_becomes_another_version_stores_nothing_as_the_old_one(
    con: aidb.Connection, within: bool
) -> None:
    model = Reloaded(2, within=within)
    con.register(model, name="m")
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    with pytest.raises(aidb.ModelError, match="m is another version of the model now"):
        con.execute(ASK)
    done = 2 * BATCH if within else BATCH
    stored = rows(con, "SELECT sum(items) FROM aidb.calls")
    assert (stored, model.calls) == ([(done,)], 2 + within)
    cur = con.execute(ASK)
    assert cur.fetchall() == [(N, -RIGHT[0][1])]
    assert cur.report.calls == {"m": N}, "what the old version said is stale"
    assert con.execute(ASK).report.calls.total() == 0
    check_quiet(con)


def test_a_fingerprint_that_never_stays_ends_the_query(con: aidb.Connection) -> None:
    class Restless(FakeModel):
        @property
        def spec(self) -> ModelSpec:
            return dataclasses.replace(super().spec, fingerprint=str(next(numbers)))

    numbers = itertools.count()
    con.register(Restless("m", {"y": "INTEGER"}, lambda x: x))
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    with pytest.raises(aidb.OperationalError, match="another fingerprint whenever it is asked"):
        con.execute(ASK)


def test_a_quota_that_is_used_up_ends_the_query_instead_of_a_day(
    con: aidb.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aidb_models.flow._LONGEST_PAUSE", 0.05)  # in which other requests are held back
    with FaultyService(tenfold, {3: 429}, retry_after=86_400) as service:
        ask_service(con, service, retries=3)
        with pytest.raises(aidb.ModelError, match=r"asks to come back in 1 day, 0:00:00"):
            con.execute(ASK)
        assert rows(con, ASK) == RIGHT
        assert check_storage(con) == {"m": N}


# ---- a model in this process


def test_a_slow_model_is_stopped_by_a_cap_and_goes_on_later(con: aidb.Connection) -> None:
    slow = FailingModel(local(), slow=0.3)
    con.register(slow)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    con.execute("SET aidb.max_seconds = 1.2")
    with pytest.raises(aidb.BudgetExceeded, match=r"aidb\.max_seconds = 1\.2 is reached; run the query again") as wrong:
        con.execute(ASK)
    check_quiet(con)
    assert wrong.value.report is not None
    done = check_storage(con)["m"]
    assert 0 < done == slow.items < N
    slow.slow = 0
    con.execute("RESET aidb.max_seconds")
    cur = con.execute(ASK)
    assert cur.fetchall() == RIGHT
    assert cur.report.calls == {"m": N - done}


def test_a_clock_that_jumps_moves_no_limit(con: aidb.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year forward and two back, at every call: what is measured is measured by a clock that only runs."""
    ahead = timedelta()

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + ahead

    def jump(call: int) -> None:
        nonlocal ahead
        ahead = timedelta(days=365 if call % 2 else -365)

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead.total_seconds())
    for module in ("pipeline", "engine"):
        monkeypatch.setattr(f"aidb.exec.{module}.datetime", Jumping)
    told = []
    con.engine.progress = told.append
    con.register(FailingModel(local(), before=jump))
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    con.execute("SET aidb.max_seconds = 60")
    cur = con.execute(ASK)
    assert cur.fetchall() == RIGHT
    assert cur.report.calls == {"m": N}
    assert 0 <= cur.report.seconds < 60
    assert all(0 <= p.seconds < 60 for p in told)
    assert rows(con, "SELECT count(*) FROM aidb.calls WHERE seconds NOT BETWEEN 0 AND 60") == [(0,)]
    assert len(rows(con, "SELECT DISTINCT year(started) FROM aidb.calls")) > 1, "the clock did jump"
    assert rows(con, ASK) == RIGHT
    assert check_storage(con) == {"m": N}


def test_a_rate_limit_does_not_follow_the_clock(con: aidb.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    with FaultyService(tenfold, {2: 503}, retry_after=0) as service:
        monkeypatch.setattr(time, "time", lambda: real() - 365 * 86_400)
        ask_service(con, service, rate_limit=200, retries=2)
        began = time.monotonic()
        assert rows(con, ASK) == RIGHT
        assert time.monotonic() - began < 20


# ---- the process, the disk, the file

CHILD = """
    import os, signal, sys, aidb
    from aidb.testing import FailingModel, FakeModel
    con = aidb.connect(sys.argv[1])
    con.execute("SET threads = 1; SET checkpoint_threshold = '1GB'")
    con.execute("CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range(30) KEY (id)")
    inner = FakeModel("m", {"y": "INTEGER"}, lambda x: 10 * x, batch_size=5)
    model = FailingModel(inner, before=lambda call: call == 6 and os.kill(os.getpid(), signal.SIGKILL))
    con.register(model)
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    con.execute("SELECT * FROM v WHERE id < 10")
    con.execute("CHECKPOINT")
    for first in (10, 15, 20, 25):
        con.execute(f"SELECT * FROM v WHERE id BETWEEN {first} AND {first + 4}")
"""
"""Two batches, a checkpoint, three more batches in the log, and it is killed in the sixth call."""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("killed") / "a.db"
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(path)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2]).returncode == -signal.SIGKILL
    assert Path(f"{path}.wal").stat().st_size > 0
    return path


def _finish(path: Path) -> int:
    """How many items a file knows; then it is asked for the rest."""
    with aidb.connect(path) as con:
        prepare(con)
        done = check_storage(con)["m"]
        model = local()
        con.register(model)
        cur = con.execute(ASK)
        assert cur.fetchall() == RIGHT
        assert cur.report.calls == {"m": N - done}
        assert model.items == N - done
        assert check_storage(con) == {"m": N}
    return done


@pytest.mark.parametrize(
    ("kept", "items"), [(1.0, {25}), (None, {10}), (0.999, {20, 25}), (0.6, {15, 20}), (0.01, {10})]
)
def test_a_file_cut_to_its_last_checkpoint(killed: Path, tmp_path: Path, kept: float | None, items: set[int]) -> None:
    """Killed, and of the log all is there, nothing, or a part: whole batches are known, the others are asked again."""
    shutil.copy(killed, tmp_path / "a.db")
    if kept is not None:
        log = Path(f"{killed}.wal").read_bytes()
        (tmp_path / "a.db.wal").write_bytes(log[: int(len(log) * kept)])
    assert _finish(tmp_path / "a.db") in items


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_a_file_cut_in_the_middle_is_said_to_be_damaged(killed: Path, tmp_path: Path, share: float) -> None:
    data = killed.read_bytes()
    (tmp_path / "a.db").write_bytes(data[: int(len(data) * share)])
    said = r"a\.db is damaged, or no database|is damaged; what a copy"
    with pytest.raises(aidb.OperationalError, match=said), aidb.connect(tmp_path / "a.db") as con:
        con.execute("CHECK CATALOG; SELECT * FROM v WHERE id < 10")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(
            f"a tmpfs can't be mounted here: {made.stderr.strip()} (test_storage_files limits the size of a file)"
        )
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=False)


def test_a_disk_that_is_full(small_disk: Path) -> None:
    path, count = small_disk / "a.db", 600
    noise = FakeModel("noise", {"b": "BLOB"}, lambda x: os.urandom(20_000), batch_size=20)

    def opened() -> aidb.Connection:
        con = aidb.connect(path)
        con.execute("SET threads = 1; SET checkpoint_threshold = '1MB'")
        con.register(noise)
        con.execute(f"CREATE BLOB TABLE IF NOT EXISTS t AS SELECT range AS id, range AS x FROM range({count}) KEY (id)")
        con.execute("CREATE VIRTUAL TABLE IF NOT EXISTS v AS noise(t.x)")
        return con

    con = opened()
    with pytest.raises(
        aidb.OperationalError, match=r"nothing more can be written \(is the disk full\?\); what was stored"
    ):
        con.execute("SELECT count(b) FROM v")
    con.close()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with opened() as con:
        stored = check_storage(con)["noise"]
        assert 40 <= stored < count
        cur = con.execute("SELECT count(b), min(octet_length(b)) FROM v")
        assert cur.fetchall() == [(count, 20_000)]
        assert cur.report.calls == {"noise": count - stored}
        assert check_storage(con) == {"noise": count}
