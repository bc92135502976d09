"""The workers of one model: started, fed, watched, and started anew when they die."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from aidb.serving.arguments import Argument, arguments_of
from aidb.serving.batcher import Answered, Batcher, Full, Waiting
from aidb.serving.metrics import Metrics
from aidb.serving.settings import Hosted
from aidb.serving.worker import Done, Failed, Job, Ready, work
from aidb.spi import ModelSpec

log = logging.getLogger("aidb.serving")
_TICK = 0.5
_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
"""Seconds before a worker that ended is started anew; doubled while it can't load its model."""


class Pool:
    """One hosted model. give_up: called with a message if a worker can't load the model at the server's start."""

    def __init__(
        self, hosted: Hosted, max_pixels: int, max_waiting: int, metrics: Metrics, give_up: Callable[[str], None]
    ) -> None:
        self.hosted, self.metrics, self.max_pixels = hosted, metrics, max_pixels
        self.batcher = Batcher(max_waiting)
        self.spec: ModelSpec | None = None
        self.arguments: tuple[Argument, ...] = ()
        self.variadic = False
        self._give_up = give_up
        devices: tuple[str | None, ...] = hosted.devices or (None,)
        self._workers = [_Keeper(self, device, i) for device in devices for i in range(hosted.workers)]
        metrics.watch(hosted.name, lambda: self.batcher.items, lambda: self.ready_workers)

    def start(self) -> None:
        """Start all workers; returns at once."""
        for worker in self._workers:
            worker.start()

    @property
    def ready_workers(self) -> int:
        """Workers whose model is loaded."""
        return sum(w.ready for w in self._workers)

    @property
    def ready(self) -> bool:
        """Can at least one worker answer?"""
        return self.spec is not None and self.ready_workers > 0

    def close(self, seconds: float) -> None:
        """Let what is with the workers end, and end them; what still waits is answered 503."""
        for request in self.batcher.close():
            request.answer(Answered(status=503, message="the server is shutting down"))
        deadline = time.monotonic() + seconds
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
            worker.kill()

    # ---- what workers report
    def loaded(self, spec: ModelSpec) -> None:
        """A worker has the model; the first one says what the model is."""
        if self.spec is None:
            self.arguments, self.variadic = arguments_of(self.hosted.name, spec, self.hosted.inputs)
            self.spec = spec
        elif self.spec.fingerprint != spec.fingerprint:
            # Its weights were replaced while the server ran: every answer must say which version it is of.
            self._give_up(
                f"{self.hosted.name}: a worker loads another version than the server began with; start it anew"
            )

    def failed(self, message: str) -> None:
        """A worker can't load the model."""
        if self.spec is None:
            self._give_up(message)


class _Keeper(threading.Thread):
    """The thread that keeps one worker running; a second one, its sender, hands it jobs."""

    def __init__(self, pool: Pool, device: str | None, number: int) -> None:
        name = f"{pool.hosted.name}{'' if device is None else ' ' + device} #{number}"
        super().__init__(name=f"aidb {name}", daemon=True)
        self._pool, self._device, self._shown = pool, device, name
        self._process: SpawnProcess | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._jobs: dict[int, tuple[float, int, list[Waiting]]] = {}
        self._counter = 0
        self.ready = False

    def run(self) -> None:
        """Start the worker, again and again, until closed."""
        pause = _PAUSE
        while not self._closing.is_set():
            ours, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            arguments = (theirs, self._pool.hosted, self._device, self._pool.max_pixels)
            self._process = context.Process(target=work, args=arguments, name=self._shown, daemon=True)
            self._process.start()
            theirs.close()
            with ours:
                if self._run_one(ours):
                    pause = _PAUSE
            self._process.join(5)
            self.kill()
            if not self._closing.is_set():
                self._pool.metrics.restarts.labels(self._pool.hosted.name).inc()
                log.warning("worker %s ended (exit code %s); starting it anew", self._shown, self._process.exitcode)
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def close(self) -> None:
        """End the worker once it has answered what it has."""
        self._closing.set()

    def kill(self) -> None:
        """End a worker that does not end by itself."""
        process = self._process
        if process is not None and process.is_alive():
            process.kill()
            process.join(5)

    def _run_one(self, connection: Connection) -> bool:
        """From a started process to its end; whether it got as far as being ready."""
        try:
            while not connection.poll(_TICK):
                if self._closing.is_set():
                    return False
            first = connection.recv()
        except (EOFError, OSError):
            first = Failed(f"the worker of {self._shown} ended while it loaded the model")
        if isinstance(first, Failed):
            log.error("%s: %s", self._shown, first.message)
            self._pool.failed(first.message)
            return False
        assert isinstance(first, Ready)
        try:
            self._pool.loaded(first.spec)
        except Exception as e:
            # What the settings say about its inputs contradicts the model.
            self._pool.failed(str(e))
            return False
        log.info("%s is ready (%s, version %s)", self._shown, first.spec.device, first.spec.fingerprint)
        over = threading.Event()
        slots = threading.Semaphore(first.depth)
        sender = threading.Thread(target=self._send, args=(connection, first, slots, over), daemon=True)
        self.ready = True
        sender.start()
        try:
            self._receive(connection, slots)
        finally:
            self.ready = False
            over.set()
            sender.join()
            self._look_after_the_rest()
        return True

    def _send(self, connection: Connection, ready: Ready, slots: threading.Semaphore, over: threading.Event) -> None:
        while not over.is_set() and not self._closing.is_set():
            if not slots.acquire(timeout=_TICK):
                continue
            requests = self._pool.batcher.take(ready.size, self._pool.hosted.max_wait)
            taken = 1
            while requests and requests[0].alone and taken < ready.depth and not over.is_set():
                taken += slots.acquire(timeout=_TICK)
            if not requests:
                slots.release()
                continue
            with self._lock:
                self._counter += 1
                number = self._counter
                self._jobs[number] = time.monotonic(), taken, requests
            self._pool.metrics.batch.labels(self._pool.hosted.name).observe(sum(r.n for r in requests))
            try:
                connection.send(Job(number, tuple((r.given, r.n) for r in requests)))
            except (OSError, ValueError):
                return  # the receiver sees the same, and looks after those who wait
        if self._closing.is_set() and not over.is_set():
            try:
                connection.send(None)
            except (OSError, ValueError):
                return

    def _receive(self, connection: Connection, slots: threading.Semaphore) -> None:
        while True:
            try:
                if not connection.poll(_TICK):
                    if self._overdue():
                        log.error(
                            "worker %s has not answered for %g s; ending it", self._shown, self._pool.hosted.timeout
                        )
                        self.kill()
                    continue
                done = connection.recv()
            except (EOFError, OSError):
                return
            assert isinstance(done, Done)
            with self._lock:
                _, taken, requests = self._jobs.pop(done.number)
            slots.release(taken)
            if done.seconds:
                self._pool.metrics.model_seconds.labels(self._pool.hosted.name).observe(done.seconds)
            for request, answer in zip(requests, done.answers, strict=True):
                request.answer(answer)

    def _overdue(self) -> bool:
        with self._lock:
            oldest = min((since for since, _, _ in self._jobs.values()), default=None)
        return oldest is not None and time.monotonic() - oldest > self._pool.hosted.timeout

    def _look_after_the_rest(self) -> None:
        """The worker died. Who was alone with it is told; of several each is tried again, alone."""
        with self._lock:
            left = [request for _, _, requests in self._jobs.values() for request in requests]
            self._jobs.clear()
        if len(left) == 1:
            left[0].answer(Answered(status=500, message="the worker died while it had this batch"))
            return
        try:
            self._pool.batcher.put_back([replace(request, alone=True) for request in left])
        except Full:
            for request in left:
                request.answer(Answered(status=503, message="the server is shutting down"))
