"""Ray itself: a cluster that all connections of this process share, and its workers. The only file that imports ``ray``.

A cluster that we start lives on this machine and ends with the last connection that uses it; one at an address, or one
that the program has connected to before, is used and left alone. Workers are lent to one run at a time and keep their
models; one that nobody wants for a while is let go.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from aidb.errors import Error, InternalError, OperationalError
from aidb.exec.distributed.task import Answers, Done, Refused, Task

IDLE = 60.0
"""Seconds that a worker without work is kept."""
STORE = 512 * 1024**2
"""Bytes of Ray's object store in a cluster of ours: what travels are rows and answers, never pictures."""
CALLS = 8
"""Calls that a worker takes at the same time: chunks, and a word between them."""
SLOW = 3.0
"""Seconds that a worker takes to start, before one was measured."""


class WorkerLost(Exception):
    """A worker's process is gone, with what it was doing."""


def demand() -> None:
    """Raise `OperationalError` if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise OperationalError("aidb.executor = 'ray' needs Ray: pip install 'aidb[ray]'")


@dataclass(frozen=True)
class Size:
    """What one worker takes of a cluster; a share of a processor or a GPU is a fraction."""

    cpus: float
    gpus: float


class Worker:
    """A worker process, as it is seen from here. Every method but `poll` returns at once or within the seconds given.

    Raises `WorkerLost` when it turns out that the process is gone.
    """

    def __init__(self, ray: Any, actor: Any, size: Size, is_open: Callable[[], bool]) -> None:
        self._ray, self._actor, self.size, self._is_open = ray, actor, size, is_open
        self._where: Any = actor.where.remote()
        self._begun: Any = None
        self._task = ""
        self._asked = time.monotonic()
        self.where = ""
        self.idle_since = self._asked
        self.took: float | None = None

    def ready(self, seconds: float) -> bool:
        """Has the process started?"""
        if not self.where and self._arrived(self._where, seconds):
            self.where = str(self._got(self._where))
            self.took = time.monotonic() - self._asked
        return bool(self.where)

    def begin(self, task: Task, payloads: Sequence[object]) -> None:
        """Tell it what to get ready for. payloads: what `Cluster.put` gave, or None, for each model."""
        self._task = task.id
        self._begun = self._actor.begin.remote(task, *payloads)

    def begun(self, seconds: float) -> bool:
        """Has it got ready? Raises what kept it from that."""
        if not self._arrived(self._begun, seconds):
            return False
        error: Error | None = self._got(self._begun)
        if error is not None:
            raise error
        return True

    def answer(self, rows: pa.Table, files: dict[str | None, int], refused: Refused) -> object:
        """Give it a chunk; what to `poll` for its messages."""
        return self._actor.answer.remote(self._task, rows, files, refused)

    def poll(self, streams: Sequence[object], seconds: float) -> list[tuple[object, Answers | Done]]:
        """The next message of each chunk that has one, after ``seconds`` at most."""
        self._check()
        try:
            ready, _ = self._ray.wait(list(streams), num_returns=1, timeout=seconds)
        except self._ray.exceptions.RayError as e:
            raise WorkerLost(_first_line(e)) from e
        return [(stream, self._next(stream)) for stream in ready]

    def _next(self, stream: Any) -> Answers | Done:
        try:
            reference = next(stream)
        except StopIteration:
            raise InternalError("a Ray worker ended a chunk without saying so") from None
        except self._ray.exceptions.RayError as e:
            raise WorkerLost(_first_line(e)) from e
        message: Answers | Done = self._got(reference)
        return message

    def stop(self) -> None:
        """Let it end the batches that it is at, and begin no others."""
        with suppress(Exception):  # of a worker that is gone already
            self._check()
            self._actor.stop.remote()

    def kill(self, seconds: float = 0.0) -> None:
        """End the process; for so many seconds its models may say good-bye."""
        if not self._is_open():
            return
        with suppress(Exception):  # of a cluster that is gone already
            if seconds:
                self._ray.wait([self._actor.close.remote()], timeout=seconds)
            self._ray.kill(self._actor)

    def _check(self) -> None:
        # Ray would start another cluster for whoever asks after it was shut down.
        if not self._is_open():
            raise WorkerLost("the connection to Ray is closed")

    def _arrived(self, reference: object, seconds: float) -> bool:
        self._check()
        try:
            return bool(self._ray.wait([reference], timeout=seconds)[0])
        except self._ray.exceptions.RayError as e:
            raise WorkerLost(_first_line(e)) from e

    def _got(self, reference: object) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as e:
            raise OperationalError(
                f"a Ray worker can't do its task: {_first_line(e.cause or e)}; is the same AIDB installed there?"
            ) from e
        except self._ray.exceptions.RayError as e:
            raise WorkerLost(_first_line(e)) from e


class Cluster:
    """A Ray cluster that this process is connected to."""

    def __init__(self, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray: Any = ray
        self.address = address
        self.users: set[int] = set()
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._reaper: threading.Timer | None = None
        self.slow = SLOW
        self._is_closed = False
        self.is_connected_by_us = not ray.is_initialized()
        self.is_ours = self.is_connected_by_us and address is None
        if self.is_connected_by_us:
            _connect(ray, address)

    # ---- objects
    def put(self, value: bytes) -> object:
        """Lay something down for the workers; it stays as long as what is returned."""
        return self._ray.put(value)

    def pickled(self, value: object) -> bytes:
        """An object as bytes, functions and classes that can't be imported included. Raises whatever keeps it from that."""
        data: bytes = self._ray.cloudpickle.dumps(value)
        return data

    # ---- workers
    @property
    def has_gpus(self) -> bool:
        """Is there a GPU anywhere in the cluster?"""
        return float(self._ray.cluster_resources().get("GPU", 0)) > 0

    def room(self, size: Size) -> int:
        """How many workers of a size the machines of the cluster hold as they are now, if nobody else is in it."""
        self._check()
        wanted = {what: share for what, share in _resources(size).items() if share > 0}
        machines = (node["Resources"] for node in self._ray.nodes() if node["Alive"])
        return sum(min(int(m.get(what, 0.0) / share + 1e-9) for what, share in wanted.items()) for m in machines)

    def hire(self, size: Size) -> Worker:
        """A worker that is free, or a new one, which starts when the cluster has room for it."""
        with self._lock:
            # One that is ready first: another may be waiting for the very room that this one holds.
            for worker in sorted(self._idle, key=lambda w: not w.where):
                if worker.size == size:
                    self._idle.remove(worker)
                    return worker
            others, self._idle = self._idle, []
        for worker in others:  # they hold what the new one may be waiting for
            worker.kill()
        from aidb.exec.distributed.worker import RemoteWorker

        made = self._ray.remote(RemoteWorker).options(
            num_cpus=size.cpus, num_gpus=size.gpus, max_concurrency=CALLS, scheduling_strategy="SPREAD"
        )
        self._check()
        try:
            return Worker(self._ray, made.remote(), size, self._is_open)
        except self._ray.exceptions.RayError as e:
            raise OperationalError(f"Ray can't start a worker: {_first_line(e)}") from e

    def _check(self) -> None:
        # Ray would start another cluster for whoever asks after it was shut down.
        if not self._is_open():
            raise OperationalError("the connection to Ray is closed; what was inferred is kept")

    def _is_open(self) -> bool:
        return not self._is_closed and bool(self._ray.is_initialized())

    def release(self, worker: Worker) -> None:
        """Give a worker back, for the next run."""
        if worker.took is not None:
            self.slow = worker.took
        worker.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(worker)
            if self._reaper is None:
                self._reap_later()

    def _reap_later(self) -> None:
        self._reaper = threading.Timer(IDLE / 2, self._reap)
        self._reaper.daemon = True
        self._reaper.start()

    def _reap(self) -> None:
        now = time.monotonic()
        with self._lock:
            old = [w for w in self._idle if now - w.idle_since > IDLE]
            self._idle = [w for w in self._idle if w not in old]
            self._reaper = None
            if self._idle:
                self._reap_later()
        for worker in old:
            worker.kill(1.0)

    def close(self) -> None:
        """End the workers that are free, and leave the cluster; end it too if we started it."""
        with self._lock:
            idle, self._idle = self._idle, []
            if self._reaper is not None:
                self._reaper.cancel()
                self._reaper = None
        for worker in idle:
            worker.kill(1.0)
        self._is_closed = True
        if self.is_connected_by_us:
            self._ray.shutdown()


_lock = threading.Lock()
_cluster: Cluster | None = None


def join(user: object, address: str | None) -> Cluster:
    """The cluster at an address, or here, started or connected to if need be. ``user`` keeps it until `leave`.

    Raises `OperationalError` if there is none, or if this process is in another one.
    """
    global _cluster
    demand()
    with _lock:
        if _cluster is not None and _cluster.address != address:
            if _cluster.users - {id(user)}:
                raise OperationalError(
                    f"this process uses Ray at {_cluster.address or 'a cluster of its own'}, and can be in one cluster at a "
                    "time: close the connections that use it, or SET aidb.ray_address as they do"
                )
            _cluster.close()
            _cluster = None
        if _cluster is None:
            _cluster = Cluster(address)
        _cluster.users.add(id(user))
        return _cluster


def leave(user: object) -> None:
    """This user wants no more of the cluster; the last one closes it."""
    global _cluster
    with _lock:
        if _cluster is not None:
            _cluster.users.discard(id(user))
            if not _cluster.users:
                _cluster.close()
                _cluster = None


def _connect(ray: Any, address: str | None) -> None:
    if address is not None and address.startswith("ray://"):
        raise OperationalError(
            f"aidb.ray_address = {address!r}: Ray's client can't stream answers; run on a machine of the cluster and give "
            "'auto', or the address that `ray start --address` got"
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if hasattr(ray._private.worker, "print_to_stdstream"):
        # It would say on standard output, where answers are piped to others, that a worker has died. We say what follows.
        ray._private.worker.print_to_stdstream = _logged
    terminate = _keeping_sigterm()
    try:
        if address is None:
            # Since 2.60 such a cluster takes work only from who has its token: it listens on the network.
            with _same_priority():
                ray.init(address="local", include_dashboard=False, object_store_memory=STORE, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as e:
        # Ray raises ConnectionError, RuntimeError, ValueError and others of its own for what is wrong with a cluster.
        where = "can't be started here" if address is None else f"can't be reached at {address}"
        raise OperationalError(f"Ray {where}: {_first_line(e)}{_about_token(e)}") from e
    finally:
        terminate()


@contextmanager
def _same_priority() -> Iterator[None]:
    """Have workers run as this process does: Ray gives them the least priority but four, unless the user says otherwise."""
    name = "RAY_worker_niceness"
    if name in os.environ:
        yield
        return
    os.environ[name] = "0"
    try:
        yield
    finally:
        del os.environ[name]


def _logged(data: dict[str, Any], ignore_prefix: bool) -> None:
    """What Ray has to tell the user goes to its log."""
    for line in data["lines"]:
        logging.getLogger("ray").info(line)


def _keeping_sigterm() -> Callable[[], None]:
    """What puts back the handler of SIGTERM, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = signal.getsignal(signal.SIGTERM)
    return lambda: None if before is None else (signal.signal(signal.SIGTERM, before), None)[1]


def _resources(size: Size) -> dict[str, float]:
    return {"CPU": size.cpus, "GPU": size.gpus}


def _about_token(e: BaseException | None) -> str:
    """What to do about a cluster that wants a token: Ray shows its own to an address only if it is told to."""
    while e is not None:
        if "AuthToken" in str(e) or type(e).__name__ == "AuthenticationError":
            return (
                "; it takes only who has its token: start this process with RAY_AUTH_MODE=token, and with the token of "
                "that cluster in ~/.ray/auth_token"
            )
        e = e.__cause__
    return ""


def _first_line(e: BaseException) -> str:
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return (lines[0] if lines else type(e).__name__)[:500]
