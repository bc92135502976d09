"""Items to answers: one thread asks for them, readers decode, models infer, one writer stores, all at the same time.

Memory in flight is bounded in bytes. Every batch is stored with its ledger rows in one transaction, so whatever ends a
run, what was stored is never asked again.

The caller's thread does none of this work: it waits, tells the progress, and notices reasons to stop. Each queue has
its readers downstream of its writers and every wait looks for a stop, so nothing can hang but a model itself.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import pyarrow as pa

from aidb.exec.batches import TICK, Batch, Job, Outcome, outcome
from aidb.exec.control import Control
from aidb.exec.decode import Piece, Sizes, Wanted, is_reference, pieces, runs
from aidb.exec.inputs import keys_of
from aidb.exec.memory import ByteBudget, Shared
from aidb.spi import Connector
from aidb.storage.answers import AnsweredBatch, AnswerWriter

T = TypeVar("T")
READERS = 8
"""Threads that decode, at most."""
GRACE = 0.5
"""Seconds that an interrupted run waits for batches in flight before it leaves them to end by themselves."""


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


class Pipeline:
    """One run over the rows of an input query, for one or several jobs."""

    def __init__(
        self,
        jobs: Sequence[Job],
        rows: Rows,
        connector: Callable[[str], Connector],
        writer: AnswerWriter,
        control: Control,
        memory_limit: int,
    ) -> None:
        self.jobs, self.control = jobs, control
        self._rows, self._connector, self._writer = rows, connector, writer
        self.budget = ByteBudget(memory_limit)
        self._sizes = Sizes(memory_limit)
        self._runs: queue.Queue[pa.Table | None] = queue.Queue(4)
        self._answers: queue.Queue[tuple[AnsweredBatch, ...] | None] = queue.Queue(32)
        self._wanted: list[Wanted] = []
        self._feeder: list[Worker] = []
        self._readers: list[Worker] = []
        self._workers: list[Worker] = []
        self._storing: list[Worker] = []
        self._finisher: Worker | None = None

    # ---- the caller's thread
    def run(self) -> None:
        """Work through the rows; returns when everything is stored, or raises why it stopped."""
        try:
            self._start(self._storing, self._write, "writer")
            self._start(self._feeder, self._feed, "feeder")
            self._join(self._feeder)
            for _ in self._readers:
                self._put(self._runs, None)
            self._join(self._readers)
            for job in self.jobs if self._workers else ():
                self._put(job.inbox, None)
            self._join(self._workers)
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
        self.budget.close()
        self._rows.interrupt()
        self._finisher = Worker(self.control, self._end, "finisher")
        self._finisher.start()
        self._finisher.wait(seconds)

    def _end(self) -> None:
        for thread in [*self._feeder, *self._readers, *self._workers]:
            thread.wait()
        for job in self.jobs:
            job.discard()
        self._hand_over(None)
        for thread in self._storing:
            thread.wait()
        self._rows.close()

    def lingering(self) -> list[Worker]:
        """Threads that still work on a batch that was in flight when the run stopped."""
        return [self._finisher] if self._finisher is not None and not self._finisher.wait(0) else []

    # ---- the feeder
    def _feed(self) -> None:
        for batch in self._rows:
            table = pa.Table.from_batches([batch])
            if not self._workers:
                self._start_others(table)
            if not self._feed_table(table):
                return

    def _start_others(self, table: pa.Table) -> None:
        """Start what the columns of the first rows say is needed."""
        content = {w: None for job in self.jobs for w in sorted(job.columns) if is_reference(table, w[0])}
        self._wanted = list(content)
        for job in self.jobs:
            job.limit_inbox(on_content=bool(self._wanted))
        if self._wanted:
            n = 1 if self._by_file else min(READERS, max(2, _processors()))
            for _ in range(n):
                self._start(self._readers, self._read, "reader")
        for job in self.jobs:
            for _ in range(job.callers):
                self._start(self._workers, self._work, job.inference.name, job)

    @property
    def _by_file(self) -> bool:
        return any(job.inference.spec.sequential for job in self.jobs)

    def _feed_table(self, table: pa.Table) -> bool:
        """Hand rows on; False when stopping."""
        if self._wanted:
            return all(self._give(self._runs, run) for run in runs(table, self._wanted[0][0], by_file=self._by_file))
        size = int(table.nbytes)
        if self.budget.acquire(lambda: size) is None:
            return False
        return self._deliver(Piece(table, weight=Shared(table, size, self.budget)))

    def _give(self, target: queue.Queue[T], value: T) -> bool:
        """Put something into a queue; False when stopping."""
        while not self.control.stopping:
            try:
                target.put(value, timeout=TICK)
                return True
            except queue.Full:
                continue
        return False

    # ---- readers
    def _read(self) -> None:
        while not self.control.stopping:
            try:
                run = self._runs.get(timeout=TICK)
            except queue.Empty:
                continue
            if run is None:
                return
            decoded = pieces(
                run, self._wanted, self._connector, self.budget, self._sizes, lambda: self.control.stopping
            )
            try:
                for piece in decoded:
                    if not self._deliver(piece):
                        return
            finally:
                decoded.close()

    def _deliver(self, piece: Piece) -> bool:
        """Hand a piece to every job that wants rows of it; False when stopping."""
        shares = [(job, share) for job in self.jobs if (share := job.share(piece)) is not None]
        piece.drop()
        for n, (job, share) in enumerate(shares):
            if not self._give(job.inbox, share):
                for _, rest in shares[n:]:
                    rest.drop()
                return False
        return True

    # ---- workers
    def _work(self, job: Job) -> None:
        while not self.control.stopping:
            with job.lock:
                taken = job.next_batch(self.control, self.budget)
            if taken is None:
                break
            batch = Batch(taken)
            del taken
            try:
                self._infer(job, batch)
            finally:
                batch.drop()
        if job.inference.spec.sequential:
            self._finish_group(job)

    def _infer(self, job: Job, batch: Batch) -> None:
        """Ask the model about a batch and hand over what it said."""
        inference, spec = job.inference, job.inference.spec
        begins = spec.sequential and batch.source != job.source
        if begins:
            self._finish_group(job)
            job.source = batch.source
        if not self._reserve(job, batch, begins=begins):
            return
        n = len(batch.good)
        started, clock = datetime.now(UTC).replace(tzinfo=None), time.perf_counter()
        answer = None
        if n:
            columns = zip(job.inputs.columns, job.inputs.forms, strict=True)
            inputs = [batch.values(column, form) for column, form in columns]
            answer = inference.answer(inputs, n, restart=begins)
            del inputs  # before the budget takes the memory for free
            if answer.left:
                self._give_back(job, len(answer.left))
        table = batch.table
        batch.drop()
        told = outcome(batch, keys_of(table, job.fill), answer, inference.nothing())
        stored = self._stored(job, told, started, time.perf_counter() - clock)
        if not spec.sequential:
            if told.keys.num_rows:
                self._hand_over((stored,))
        else:
            job.group.append(stored)
        if answer is not None and answer.error is not None:
            self.control.stop(answer.error)
        self.control.record(inference.name, told.keys.num_rows, [f.message for f in told.failures])

    def _reserve(self, job: Job, batch: Batch, *, begins: bool) -> bool:
        """Cut a batch to what the caps allow; False if nothing of it may go."""
        inference, price = job.inference, job.inference.spec.price_per_call
        if inference.spec.sequential:
            # Half a file is of no use, so a file is paid for at its beginning; what can't be read costs nothing.
            whole = job.files.get(batch.source, len(batch.good)) if begins else 0
            if self.control.reserve(inference.name, whole, price, whole=batch.source or "the source") < whole:
                return False
            job.paid += whole
            self._give_back(job, len(batch.broken))
            return True
        batch.limit(self.control.reserve(inference.name, len(batch.good), price) if batch.good else 0)
        return bool(batch.table.num_rows)

    def _give_back(self, job: Job, items: int) -> None:
        """What was reserved for items that were not asked is free again."""
        job.paid -= items
        self.control.give_back(job.inference.name, items, job.inference.spec.price_per_call)

    def _stored(self, job: Job, told: Outcome, started: datetime, seconds: float) -> AnsweredBatch:
        return AnsweredBatch(
            job.fill,
            told.keys,
            told.rows,
            told.failures,
            started,
            seconds,
            job.inference.spec.device,
            again=self.control.limits.on_error == "raise",
        )

    def _finish_group(self, job: Job) -> None:
        """Store a whole file of a sequential model at once: half of one can't be continued."""
        group = tuple(job.group)
        job.group.clear()
        items = sum(batch.keys.num_rows for batch in group)
        if items and items >= job.files.get(job.source, items):
            self._hand_over(group)
        else:
            self._give_back(job, job.paid)
        job.paid = 0

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


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
