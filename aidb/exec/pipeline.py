"""Items to answers: readers decode, a batcher a model collects, models infer, one writer stores, all at the same time.

Memory in flight is bounded in bytes. Every batch is stored with its ledger rows in one transaction, so whatever ends a
run, what was stored is never asked again.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa

from aidb.catalog.definitions import FillDefinition
from aidb.exec.control import Control
from aidb.exec.decode import Piece, is_reference, pieces, runs
from aidb.exec.inference import Inference
from aidb.exec.inputs import JobInputs, keys_of
from aidb.exec.memory import ByteBudget, Shared
from aidb.spi import Connector, ItemFailure
from aidb.storage.answers import AnsweredBatch, AnswerWriter, Failure

T = TypeVar("T")
PLAIN_BATCH = 8192
CPU_BATCH = 16
GPU_BATCH = 32
GRACE = 0.8
"""Seconds that an interrupted run waits for batches in flight before it leaves them to end by themselves."""
_TICK = 0.05


@dataclass
class Job:
    """One fill to work on: its model, the columns of the input query that it reads, and its inbox."""

    fill: FillDefinition
    inference: Inference
    inputs: JobInputs
    batch_size: int | None = None
    inbox: queue.Queue[Piece | None] = field(default_factory=lambda: queue.Queue(64))
    pending: deque[Piece] = field(default_factory=deque)
    rows: int = 0
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    group: list[AnsweredBatch] = field(default_factory=list)
    source: str | None = None


class Pipeline:
    """One run over the rows of an input query, for one or several jobs."""

    def __init__(
        self,
        jobs: list[Job],
        connector: Callable[[str], Connector],
        writer: AnswerWriter,
        control: Control,
        memory_limit: int,
    ) -> None:
        self.jobs, self.control = jobs, control
        self._connector, self._writer = connector, writer
        self.budget = ByteBudget(memory_limit)
        self._runs: queue.Queue[pa.Table | None] = queue.Queue(4)
        self._answers: queue.Queue[tuple[AnsweredBatch, ...] | None] = queue.Queue(32)
        self._wanted: list[tuple[str, bool]] = []
        self._threads: list[threading.Thread] = []
        self._stored_all = threading.Event()

    # ---- the caller's thread
    def run(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Work through the batches of the input query; returns when everything is stored, or raises why it stopped."""
        workers: list[threading.Thread] = []
        readers: list[threading.Thread] = []
        writer = self._start(self._write, "writer")
        try:
            for batch in batches:
                table = pa.Table.from_batches([batch])
                if not self._threads[1:]:
                    readers = self._start_readers(table)
                    for job in self.jobs:
                        n = 1 if job.inference.spec.sequential else max(1, job.inference.spec.concurrency)
                        workers += [self._start(self._work, job.inference.name, job) for _ in range(n)]
                if not readers:
                    self._deliver(Piece(table))
                    continue
                for run in runs(table, self._wanted[0][0]):
                    self._put(self._runs, run)
                self.control.check()
            for _ in readers:
                self._put(self._runs, None)
            self._join(readers)
            for job in self.jobs:
                self._put(job.inbox, None)
            self._join(workers)
            self._put(self._answers, None)
            self._join([writer])
            self.control.check()
        except BaseException as e:
            self.control.stop(e)
            self.budget.close()
            self._wind_down(readers, workers, writer)
            raise

    def _start(self, target: Callable[..., None], name: str, *args: object) -> threading.Thread:
        def guarded() -> None:
            try:
                target(*args)
            except BaseException as e:
                # Whatever ends a thread ends the run, and is raised in the caller's thread.
                self.control.stop(e)
                self.budget.close()

        thread = threading.Thread(target=guarded, name=f"aidb {name}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _start_readers(self, table: pa.Table) -> list[threading.Thread]:
        seen: dict[tuple[str, bool], None] = {}
        for job in self.jobs:
            for column, form in zip(job.inputs.columns, job.inputs.forms, strict=True):
                if is_reference(table, column):
                    seen[(column, form == "encoded")] = None
        self._wanted = list(seen)
        if not self._wanted:
            return []
        sequential = any(j.inference.spec.sequential for j in self.jobs)
        n = 1 if sequential else min(4, max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
        return [self._start(self._read, "reader") for _ in range(n)]

    def _put(self, target: queue.Queue[T], value: T) -> None:
        """Put, but notice reasons to stop and keep the progress going."""
        while True:
            self.control.check()
            try:
                target.put(value, timeout=_TICK)
                return
            except queue.Full:
                self._tick()

    def _join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                thread.join(_TICK)
                self._tick()
                self.control.check()

    def _tick(self) -> None:
        for job in self.jobs:
            self.control.tick(job.inference.name)

    def _wind_down(
        self, readers: list[threading.Thread], workers: list[threading.Thread], writer: threading.Thread
    ) -> None:
        """After a stop: what is in flight ends and is stored; a slow batch is left to do so without us."""
        deadline = time.monotonic() + GRACE

        def finish() -> None:
            for thread in [*readers, *workers]:
                thread.join()
            self._answers.put(None)
            writer.join()

        finisher = threading.Thread(target=finish, name="aidb finisher", daemon=True)
        finisher.start()
        self._threads.append(finisher)
        while finisher.is_alive() and time.monotonic() < deadline:
            finisher.join(_TICK)

    def lingering(self) -> list[threading.Thread]:
        """Threads that still work on a batch that was in flight when the run stopped."""
        return [t for t in self._threads if t.is_alive()]

    # ---- readers
    def _read(self) -> None:
        while not self.control.stopping:
            try:
                run = self._runs.get(timeout=_TICK)
            except queue.Empty:
                continue
            if run is None:
                return
            for piece in pieces(run, self._wanted, self._connector, self.budget, lambda: self.control.stopping):
                self._deliver(piece)

    def _deliver(self, piece: Piece) -> None:
        """Hand a piece to every job that wants rows of it."""
        shares = [(job, share) for job in self.jobs if (share := self._share(piece, job)) is not None]
        piece.drop()
        for job, share in shares:
            while True:
                if self.control.stopping:
                    share.drop()
                    break
                try:
                    job.inbox.put(share, timeout=_TICK)
                    break
                except queue.Full:
                    if threading.current_thread() is threading.main_thread():
                        self._tick()

    def _share(self, piece: Piece, job: Job) -> Piece | None:
        """The rows and columns of a piece that one job reads, with their uses announced."""
        keep = None
        if job.inputs.flag is not None:
            flags = piece.table.column(job.inputs.flag).to_pylist()
            keep = [i for i, wanted in enumerate(flags) if wanted]
            if not keep:
                return None
        own = {(c, f == "encoded") for c, f in zip(job.inputs.columns, job.inputs.forms, strict=True)}
        content = {}
        for key, column in piece.content.items():
            if key in own:
                mine = column if keep is None or len(keep) == len(column) else [column[i] for i in keep]
                content[key] = [item.use() if isinstance(item, Shared) else item for item in mine]
        table = piece.table if keep is None or len(keep) == piece.table.num_rows else piece.table.take(pa.array(keep))
        return Piece(table, content, piece.source)

    # ---- workers
    def _work(self, job: Job) -> None:
        while True:
            with job.lock:
                batch = self._next_batch(job)
            if batch is None:
                break
            if self.control.stopping:
                for piece in batch:
                    piece.drop()
                continue
            self._infer(job, batch)
        if job.group and not self.control.stopping:
            self._finish_group(job)

    def _next_batch(self, job: Job) -> list[Piece] | None:
        """The next batch as pieces, at most the batch size together; None when there is no more to come."""
        size = self._size(job)
        while not job.ended and job.rows < size and not (job.rows and self.budget.waiting) and not self._turns(job):
            try:
                piece = job.inbox.get(timeout=_TICK)
            except queue.Empty:
                if self.control.stopping:
                    job.ended = True
                continue
            if piece is None:
                job.ended = True
            else:
                job.pending.append(piece)
                job.rows += piece.table.num_rows
        if not job.pending:
            return None
        batch: list[Piece] = []
        room = size
        source = job.pending[0].source
        while job.pending and room:
            piece = job.pending[0]
            if job.inference.spec.sequential and piece.source != source:
                break
            n = piece.table.num_rows
            job.pending.popleft()
            if n > room:
                rest = {k: c[room:] for k, c in piece.content.items()}
                job.pending.appendleft(Piece(piece.table.slice(room), rest, piece.source))
                piece = Piece(piece.table.slice(0, room), {k: c[:room] for k, c in piece.content.items()}, piece.source)
                n = room
            batch.append(piece)
            room -= n
            job.rows -= n
        return batch

    def _turns(self, job: Job) -> bool:
        """Does a sequential job wait on a full file before the next one?"""
        return job.inference.spec.sequential and len({p.source for p in job.pending}) > 1

    def _size(self, job: Job) -> int:
        spec = job.inference.spec
        usual = (CPU_BATCH if spec.device == "cpu" else GPU_BATCH) if self._wanted else PLAIN_BATCH
        size = job.batch_size or spec.batch_size or usual
        if spec.max_batch:
            size = min(size, spec.max_batch)
        return min(size, job.inference.bearable or size)

    def _infer(self, job: Job, batch: list[Piece]) -> None:
        inference, spec = job.inference, job.inference.spec
        table = pa.concat_tables([p.table for p in batch]) if len(batch) > 1 else batch[0].table
        content = {key: [item for p in batch for item in p.content[key]] for key in batch[0].content}
        broken = {
            i: item.message
            for column in content.values()
            for i, item in enumerate(column)
            if isinstance(item, ItemFailure)
        }
        good = [i for i in range(table.num_rows) if i not in broken] if broken else None
        n = table.num_rows if good is None else len(good)
        allowed = self.control.reserve(inference.name, n, spec.price_per_call) if n else 0
        if allowed < n:
            # The cap falls into this batch: its first items may still go, the others are left for another run.
            last = allowed if good is None else (good[allowed] if allowed else 0)
            table = table.slice(0, last)
            good = None if good is None else good[:allowed]
            broken = {i: m for i, m in broken.items() if i < last}
            n = allowed
        started, clock = datetime.now(UTC).replace(tzinfo=None), time.perf_counter()
        try:
            if not table.num_rows:
                return
            restart = spec.sequential and batch[0].source != job.source
            inputs = [
                self._values(table, content, good, c, f)
                for c, f in zip(job.inputs.columns, job.inputs.forms, strict=True)
            ]
            answer = inference.answer(inputs, n, restart=restart) if n else None
        finally:
            for piece in batch:
                piece.drop()
        place = good if good is not None else range(n)
        failures = [Failure(i, 1, message) for i, message in broken.items()]
        if answer is None:
            rows = inference.nothing()
        else:
            failures += [Failure(place[f.row], f.attempts, f.message) for f in answer.failures]
            rows = answer.rows if good is None else inference.placed(answer.rows, good)
        stored = AnsweredBatch(
            job.fill,
            keys_of(table, job.fill),
            rows,
            tuple(sorted(failures, key=lambda f: f.row)),
            started,
            time.perf_counter() - clock,
            spec.device,
        )
        if spec.sequential:
            if restart and job.group:
                self._finish_group(job)
            job.source = batch[0].source
            job.group.append(stored)
            if self.control.stopping:
                job.group.clear()
        else:
            self._hand_over((stored,))
        if failures:
            self.control.record_failures(inference.name, [f.message for f in failures])

    def _finish_group(self, job: Job) -> None:
        """Store a whole file of a sequential model at once: half of one can't be continued."""
        self._hand_over(tuple(job.group))
        job.group.clear()

    def _values(
        self,
        table: pa.Table,
        content: dict[tuple[str, bool], list[Shared | ItemFailure]],
        good: list[int] | None,
        column: str,
        form: str,
    ) -> pa.Array | list[object]:
        decoded = content.get((column, form == "encoded"))
        if decoded is None:
            values = table.column(column)
            values = values.combine_chunks() if good is None else values.take(pa.array(good)).combine_chunks()
            return values if isinstance(values, pa.Array) else values.chunk(0)
        items = decoded[: table.num_rows] if good is None else [decoded[i] for i in good]
        return [item.value for item in items if isinstance(item, Shared)]

    # ---- the writer
    def _hand_over(self, batches: tuple[AnsweredBatch, ...]) -> None:
        while True:
            try:
                self._answers.put(batches, timeout=_TICK)
                return
            except queue.Full:
                if not self._threads[0].is_alive():
                    return  # the writer's own error is the reason that will be raised

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
                self._writer.write([batch for group in groups for batch in group])
