"""Items to answers: one thread asks for them, readers decode, models infer, one writer stores, all at the same time.

Memory in flight is bounded in bytes.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from aidb.exec.batches import TICK, Batch, Job, Outcome, outcome
from aidb.exec.control import Control
from aidb.exec.decode import Piece, Sizes, Wanted, is_reference, pieces, runs
from aidb.exec.inputs import keys_of
from aidb.exec.memory import ByteBudget, Shared
from aidb.exec.run import Rows, Run, Store
from aidb.exec.run import Worker as Worker
from aidb.spi import Connector
from aidb.storage.answers import AnsweredBatch

READERS = 8
"""Threads that decode, at most."""


class Pipeline(Run):
    """A run whose models are in this process."""

    def __init__(
        self,
        jobs: Sequence[Job],
        rows: Rows,
        connector: Callable[[str], Connector],
        writer: Store,
        control: Control,
        memory_limit: int,
    ) -> None:
        super().__init__(jobs, rows, writer, control)
        self._connector = connector
        self.budget = ByteBudget(memory_limit)
        self._sizes = Sizes(memory_limit)
        self._runs: queue.Queue[pa.Table | None] = queue.Queue(4)
        self._wanted: list[Wanted] = []
        self._readers: list[Worker] = []

    def _work_off(self) -> None:
        for _ in self._readers:
            self._put(self._runs, None)
        self._join(self._readers)
        for job in self.jobs if self._workers else ():
            self._put(job.inbox, None)
        super()._work_off()

    def _let_go(self) -> None:
        self.budget.close()

    def _discard(self) -> None:
        for job in self.jobs:
            job.discard()

    def _crew(self) -> list[Worker]:
        return [*self._feeder, *self._readers, *self._workers]

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


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
