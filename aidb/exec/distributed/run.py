"""A run whose models are on Ray workers.

One thread here stands for each worker: it hands it chunks of rows, references and not what they refer to, and takes the
answers, which the one writer stores. What a worker had when its process ended goes to another one, but for what was stored.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from aidb.errors import InternalError, ModelError, OperationalError
from aidb.exec.batches import TICK, Job
from aidb.exec.control import Control
from aidb.exec.decode import is_reference, runs
from aidb.exec.distributed.chunks import Chunk
from aidb.exec.distributed.cluster import Worker, WorkerLost
from aidb.exec.distributed.shipping import AHEAD, Staff
from aidb.exec.distributed.supply import Supply
from aidb.exec.distributed.task import ROW_NUMBER, Answers, Done, Refused
from aidb.exec.inputs import keys_of
from aidb.exec.run import Rows, Run, Store
from aidb.storage.answers import AnsweredBatch, Failure

WORTH = 2.0
"""Another worker is worth it if the work that is left takes so many times as long as a worker takes to start."""
PATIENCE = 3
"""Workers that may die over one item."""
STILLBORN = 5
"""New workers that may die in a row before one of them has begun."""
HOPELESS = 25
"""Workers that may die in a row without one answer between: more than it takes to find one item among thousands."""
GLANCE = 1.0
"""Seconds between two looks at what the cluster has room for."""
SILENCE = 15.0
"""Seconds without one worker after which the user is told what is waited for."""
LAUNCH = 300.0
"""Seconds in which a cluster that starts machines when they are wanted may start one."""

Part = tuple[pa.Table, str | None]


@dataclass(frozen=True, eq=False)
class _Flight:
    """A chunk at a worker. wanted: for each job, items that it went off with. began: seconds of the clock."""

    chunk: Chunk
    wanted: list[int]
    began: float


class DistributedRun(Run):
    """See `aidb.exec.run.Run`. refused: of rows and their content columns, what may not be read."""

    def __init__(
        self,
        jobs: Sequence[Job],
        rows: Rows,
        writer: Store,
        control: Control,
        staff: Staff,
        refused: Callable[[pa.Table, list[str]], Refused],
    ) -> None:
        super().__init__(jobs, rows, writer, control)
        self._staff, self._refused = staff, refused
        self._flags = [job.inputs.flag for job in jobs]
        self._job = {job.fill.id: n for n, job in enumerate(jobs)}
        self._by_file = any(job.inference.spec.sequential for job in jobs)
        self._content: list[str] = []
        self._total = max((control.expected[job.inference.name] for job in jobs), default=0)
        self._supply = Supply(jobs, control, self._total)
        self._lock = threading.Lock()
        self._begun = 0
        self._employed = 0
        self._room = 1
        self._glanced = self._worked = time.monotonic()
        self._is_told = False
        self._deaths = 0
        self._early_deaths = 0

    # ---- the feeder
    def _feed(self) -> None:
        held: Part | None = None
        for batch in self._rows:
            table = pa.Table.from_batches([batch])
            if not self._workers:
                self._open(table)
            for part in self._parts(table):
                if self._by_file and held is not None and held[1] == part[1]:
                    held = pa.concat_tables([held[0], part[0]]), held[1]  # a file that goes on in the next batch
                    continue
                if held is not None and not self._supplied(held):
                    return
                held = part
        if held is None or self._supplied(held):
            self._supply.end()

    def _open(self, table: pa.Table) -> None:
        """Look at the first rows, and start as many workers as there shall be at least."""
        columns = {column: None for job in self.jobs for column in job.inputs.columns}
        self._content = [c for c in columns if is_reference(table, c)]
        self._add(min(self._staff.least, max(1, self._total)))

    def _parts(self, table: pa.Table) -> Iterator[Part]:
        if not self._by_file:
            yield table, None
            return
        for run in runs(table, self._content[0], by_file=True):
            yield run, run.column(self._content[0]).combine_chunks().field("uri")[0].as_py()

    def _supplied(self, part: Part) -> bool:
        return self._supply.put(*part, on_content=bool(self._content))

    def _add(self, workers: int) -> None:
        self._supply.workers += workers
        for _ in range(workers):
            self._start(self._workers, self._serve, "ray")

    # ---- the caller's thread
    def _look(self) -> None:
        super()._look()
        if self._workers:
            self._glance()
            self._grow()

    def _glance(self) -> None:
        """Look at the cluster: machines come and go. If no worker has a place, say so, and give up where there is none."""
        now = time.monotonic()
        if now - self._glanced < GLANCE:
            return
        self._glanced, self._room = now, self._staff.cluster.room(self._staff.size)
        if self._employed or self._supply.is_over:
            self._worked = now
            return
        silent = now - self._worked
        if self._room == 0 and silent > LAUNCH:
            raise OperationalError(f"{self._no_room}; what was inferred is kept")
        if not self._is_told and silent > (GLANCE if self._room == 0 else SILENCE):
            self._is_told = True
            until = datetime.now().astimezone() + timedelta(seconds=LAUNCH)
            told = f"{self._no_room}; waiting for one that does, until {until:%H:%M:%S} at most"
            if self._room:
                told = f"no Ray worker has started for {silent:.0f} s; waiting for room, which others may have taken"
            warnings.warn(told, RuntimeWarning, stacklevel=2)

    @property
    def _no_room(self) -> str:
        size = self._staff.size
        return (
            f"no machine of the Ray cluster holds a worker with {size.cpus:g} processors and {size.gpus:g} GPUs "
            "(aidb.ray_cpus, aidb.ray_gpus)"
        )

    def _grow(self) -> None:
        """Twice as many workers, once all that there are have begun, if what is left is worth it."""
        n, left, supply = len(self._workers), self._supply.left, self._supply
        most = self._room if self._staff.most is None else self._staff.most
        if n >= most or self._begun < n or not left or supply.first is None:
            return
        seconds = left / (supply.rate * n) if supply.rate else time.monotonic() - supply.first
        if seconds > WORTH * self._staff.cluster.slow:
            self._add(min(n, most - n, left))

    def _let_go(self) -> None:
        self._supply.wake()

    def _discard(self) -> None:
        self._supply.drop()

    # ---- one worker
    def _serve(self) -> None:
        """Have a worker, and another one when it is gone, until nothing is left to do."""
        first = True
        while (worker := self._hired()) is not None:
            with self._lock:
                self._begun += first
                self._employed += 1
            first = False
            try:
                self._employ(worker)
            except WorkerLost as e:
                worker.kill()
                self._count_death(e)
            except BaseException:
                worker.kill()
                raise
            else:
                self._staff.cluster.release(worker)
            finally:
                with self._lock:
                    self._employed -= 1

    def _hired(self) -> Worker | None:
        """A worker that is ready; None once nothing is left to do."""
        worker, is_told, is_new = None, False, True
        while not self._supply.is_over:
            if worker is None:
                worker, is_told = self._staff.cluster.hire(self._staff.size), False
                is_new = not worker.where
            try:
                if not worker.ready(TICK):
                    continue
                if not is_told:
                    worker.begin(self._staff.task, self._staff.payloads)
                    is_told = True
                if worker.begun(TICK):
                    self._early_deaths = 0
                    return worker
            except WorkerLost as e:
                worker.kill()
                worker = None
                if is_new:  # another one may have died long since, while nobody needed it
                    self._count_early_death(e)
            except BaseException:
                self._staff.cluster.release(worker)
                raise
        if worker is not None:
            self._staff.cluster.release(worker)
        return None

    def _employ(self, worker: Worker) -> None:
        """Hand chunks to a worker and take its answers. Raises `WorkerLost`; what it had is for others then."""
        flights: dict[object, _Flight] = {}
        last, is_told = 0.0, False
        try:
            while True:
                self._hand_out(worker, flights)
                if self.control.stopping and not is_told:
                    worker.stop()
                    is_told = True
                if not flights:
                    if self._supply.is_over:
                        return
                    self._supply.wait()
                    continue
                for stream, message in worker.poll(list(flights), TICK):
                    flight = flights[stream]
                    if isinstance(message, Answers):
                        self._take(flight.chunk, message, worker)
                    else:
                        now = time.monotonic()
                        self._over(flights.pop(stream), message, now - max(last, flight.began))
                        last = now
        finally:
            if flights:
                self._lost([flight.chunk for flight in flights.values()])

    def _hand_out(self, worker: Worker, flights: dict[object, _Flight]) -> None:
        """Give a worker what it may have. One that may kill it comes alone, so that it is known which one does."""
        ahead = 1 if self._by_file else AHEAD
        while len(flights) < ahead and not any(f.chunk.is_suspect for f in flights.values()):
            chunk = self._supply.take(alone=not flights)
            if chunk is None:
                return
            rows = chunk.sent(self._flags)
            files: dict[str | None, int] = {chunk.whole: chunk.rows} if chunk.whole is not None else {}
            stream = worker.answer(rows, files, self._refused(rows, self._content))
            flights[stream] = _Flight(chunk, chunk.wants(), time.monotonic())

    # ---- what comes back
    def _take(self, chunk: Chunk, message: Answers, worker: Worker) -> None:
        """Have answers stored, under the fills' own keys."""
        batches = []
        for batch in message.batches:
            n = self._job[batch.fill.id]
            chunk.answered(n, batch.keys.column(ROW_NUMBER))
            keys, device = batch.keys.drop_columns([ROW_NUMBER]), f"{batch.device} (ray {worker.where})"
            batches.append(replace(batch, fill=self.jobs[n].fill, keys=keys, device=device))
        self._stored(batches)
        self._deaths = 0

    def _stored(self, batches: Sequence[AnsweredBatch]) -> None:
        self._hand_over(tuple(batches))
        for batch in batches:
            name = self.jobs[self._job[batch.fill.id]].inference.name
            self.control.record(name, batch.keys.num_rows, [f.message for f in batch.failures])

    def _over(self, flight: _Flight, done: Done, seconds: float) -> None:
        """A worker is through with a chunk, or was told to stop."""
        for job in self.jobs:
            if job.inference.name in done.outdated:
                job.inference.model.outdated = True  # type: ignore[attr-defined]
        if done.error is not None:
            self.control.stop(done.error)
        reserved: Counter[str] = Counter()
        for job, items in zip(self.jobs, flight.wanted, strict=True):
            reserved[job.inference.name] += items
        for name, price in {j.inference.name: j.inference.spec.price_per_call for j in self.jobs}.items():
            self.control.give_back(name, max(0, reserved[name] - done.asked.get(name, 0)), price)
        rest = flight.chunk.rest()
        self._supply.done(0 if rest is not None else flight.chunk.rows, seconds)
        if rest is not None and not self.control.stopping:
            raise InternalError(f"a Ray worker has left {rest.rows} items without saying why")

    # ---- workers that die
    def _lost(self, chunks: Sequence[Chunk]) -> None:
        """What a worker that died had, but for what was answered, is for another one; or it failed, if it kills them all."""
        again: list[Chunk] = []
        for chunk in chunks:
            rest = chunk.rest()
            if rest is None:
                continue
            rest = replace(rest, strikes=rest.strikes + 1, alone=rest.alone + (len(chunks) == 1))
            is_one = rest.rows == 1 or rest.whole is not None
            if is_one and rest.alone >= PATIENCE and not self.control.stopping:
                self._fail(rest)
            elif is_one or rest.strikes == 1:
                again.append(rest)
            else:
                again += (replace(half, strikes=1, alone=0) for half in rest.cut((rest.rows + 1) // 2))
        self._supply.back(chunks, again)

    def _fail(self, chunk: Chunk) -> None:
        """Record the items of a chunk as failed."""
        message = f"{chunk.alone} Ray workers died over it; see the log of Ray, or try it with aidb.executor = 'local'"
        now = datetime.now(UTC).replace(tzinfo=None)
        for job, wanted in zip(self.jobs, chunk.open, strict=True):
            keys = keys_of(chunk.table.filter(pa.array(wanted)), job.fill)
            if keys.num_rows:
                failures = tuple(Failure(n, chunk.alone, message) for n in range(keys.num_rows))
                again = self.control.limits.on_error == "raise"
                nothing = job.inference.nothing()
                self._stored([AnsweredBatch(job.fill, keys, nothing, failures, now, 0.0, "ray", again)])
        self._deaths = 0

    def _count_death(self, e: WorkerLost) -> None:
        with self._lock:
            self._deaths += 1
            hopeless = self._deaths >= HOPELESS
        if hopeless:
            raise ModelError(
                f"{self._named}: {self._deaths} Ray workers died one after the other, without one answer: {e}",
                self._named,
            )

    def _count_early_death(self, e: WorkerLost) -> None:
        with self._lock:
            self._early_deaths += 1
            hopeless = self._early_deaths >= STILLBORN
        if hopeless and not self.control.stopping:
            raise ModelError(
                f"{self._named}: {self._early_deaths} Ray workers died before they were ready, perhaps as the model was "
                f"loaded: {e}",
                self._named,
            )

    @property
    def _named(self) -> str:
        return ", ".join(self._names)
