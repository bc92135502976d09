"""A run of models over rows, wherever the models are: who feeds, who answers, who stores, and the caller, who waits.

The caller's thread does none of this work: it waits, tells the progress, and notices reasons to stop. Each queue has
its readers downstream of its writers and every wait looks for a stop, so nothing can hang but a model itself. Every
batch is stored with its ledger rows in one transaction, so whatever ends a run, what was stored is never asked again.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

from aidb.exec.batches import TICK, Job
from aidb.exec.control import Control
from aidb.storage.answers import AnsweredBatch

T = TypeVar("T")
GRACE = 0.5
"""Seconds that an interrupted run waits for batches in flight before it leaves them to end by themselves."""


class Store(Protocol):
    """Where answers go; one thread at a time."""

    def write(self, batches: Sequence[AnsweredBatch]) -> None:
        """Store several batches, all or none."""
        ...


class Rows(Protocol):
    """The rows of an input query."""

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Run the query; called once, in another thread than the one that made this."""
        ...

    def interrupt(self) -> None:
        """Make a running query end, from any thread."""
        ...

    def close(self) -> None:
        """Let the connection go, once nobody iterates any more."""
        ...


class Worker(threading.Thread):
    """A thread of a pipeline, and what it works for.

    `wait` takes the place of `join` and `is_alive`: Python 3.11 takes a thread for ended if Ctrl-C comes while the main
    thread joins it (its issue 90882).
    """

    def __init__(self, control: Control, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=f"aidb {name}", daemon=True)
        self.control = control
        self._ended = threading.Event()

    def run(self) -> None:
        """Do the work, and say when it is done."""
        try:
            super().run()
        finally:
            self._ended.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        if not self._ended.wait(seconds):
            return False
        self.join(1)  # the little that is left, so that no thread is cut off when the interpreter ends
        return True


class Run(ABC):
    """Rows of an input query to stored answers. How they are answered is a subclass's business."""

    def __init__(self, jobs: Sequence[Job], rows: Rows, writer: Store, control: Control) -> None:
        self.jobs, self.control = jobs, control
        self._rows, self._writer = rows, writer
        self._answers: queue.Queue[tuple[AnsweredBatch, ...] | None] = queue.Queue(32)
        self._feeder: list[Worker] = []
        self._workers: list[Worker] = []
        self._storing: list[Worker] = []
        self._finisher: Worker | None = None

    # ---- for subclasses
    @abstractmethod
    def _feed(self) -> None:
        """Hand on all rows; runs in a thread of its own."""

    def _work_off(self) -> None:
        """In the caller's thread, once all rows were fed: wait until they are answered."""
        self._join(self._workers)

    @abstractmethod
    def _let_go(self) -> None:
        """After a stop: wake everyone who waits for something other than a tick."""

    @abstractmethod
    def _discard(self) -> None:
        """Once nobody works any more: give up what was not answered."""

    def _crew(self) -> list[Worker]:
        """Everyone who feeds or answers."""
        return [*self._feeder, *self._workers]

    # ---- the caller's thread
    def run(self) -> None:
        """Work through the rows; returns when everything is stored, or raises why it stopped."""
        try:
            self._start(self._storing, self._write, "writer")
            self._start(self._feeder, self._feed, "feeder")
            self._join(self._feeder)
            self._work_off()
            self._put(self._answers, None)
            self._join(self._storing)
            self.control.raise_if_stopped()
            self.control.tick(self._names, last=True)
        except BaseException as e:
            self.control.stop(e)
            self._finish(GRACE)
            raise
        self._end()

    def _start(self, group: list[Worker], target: Callable[..., None], name: str, *args: object) -> None:
        def guarded() -> None:
            try:
                target(*args)
            except BaseException as e:
                # Whatever ends a thread ends the run, and is raised in the caller's thread.
                self.control.stop(e)

        thread = Worker(self.control, guarded, name)
        thread.start()
        group.append(thread)

    def _put(self, target: queue.Queue[T], value: T) -> None:
        while True:
            self._look()
            try:
                target.put(value, timeout=TICK)
                return
            except queue.Full:
                continue

    def _join(self, threads: list[Worker]) -> None:
        for thread in threads:
            while not thread.wait(TICK):
                self._look()
        self.control.raise_if_stopped()

    def _look(self) -> None:
        self.control.check()
        self.control.tick(self._names)

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(job.inference.name for job in self.jobs))

    def _finish(self, seconds: float) -> None:
        """After a stop: what is in flight ends and is stored; a slow batch is left to do so without us."""
        self._let_go()
        self._rows.interrupt()
        self._finisher = Worker(self.control, self._end, "finisher")
        self._finisher.start()
        self._finisher.wait(seconds)

    def _end(self) -> None:
        for thread in self._crew():
            thread.wait()
        self._discard()
        self._hand_over(None)
        for thread in self._storing:
            thread.wait()
        self._rows.close()

    def lingering(self) -> list[Worker]:
        """Threads that still work on a batch that was in flight when the run stopped."""
        return [self._finisher] if self._finisher is not None and not self._finisher.wait(0) else []

    def _give(self, target: queue.Queue[T], value: T) -> bool:
        """Put something into a queue; False when stopping."""
        while not self.control.stopping:
            try:
                target.put(value, timeout=TICK)
                return True
            except queue.Full:
                continue
        return False

    # ---- the writer
    def _hand_over(self, batches: tuple[AnsweredBatch, ...] | None) -> None:
        """Give to the writer; if that is dead its own error is the reason that will be raised."""
        while not all(thread.wait(0) for thread in self._storing):
            try:
                self._answers.put(batches, timeout=TICK)
                return
            except queue.Full:
                continue

    def _write(self) -> None:
        """Store whatever has come by now in one transaction, again and again."""
        open_ = True
        while open_:
            first = self._answers.get()
            groups = [first] if first is not None else []
            open_ = first is not None
            while open_:
                try:
                    more = self._answers.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    open_ = False
                else:
                    groups.append(more)
            if groups:
                self._store(groups)

    def _store(self, groups: Sequence[tuple[AnsweredBatch, ...]]) -> None:
        try:
            self._writer.write([batch for group in groups for batch in group])
        except Exception:
            if len(groups) == 1:
                raise
            # What can't be stored must not take with it what can.
            for group in groups:
                try:
                    self._writer.write(group)
                except Exception as e:
                    self.control.stop(e)
