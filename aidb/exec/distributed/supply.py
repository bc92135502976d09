"""What is to be done in a run: rows that wait to be handed out, in chunks of a fitting size, and within the caps."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from aidb.exec.batches import TICK, Job
from aidb.exec.control import Control
from aidb.exec.distributed.chunks import Chunk

BUFFER = 16384
"""Rows that wait to be handed out, but always a whole file where files may not be cut."""
BYTES = 64 * 1024**2
"""What they may take, but always one portion."""
SECONDS = 2.0
"""What a chunk should take: long enough that handing it over costs nothing, short enough to lose it."""
LEAST = 0.1
"""Seconds of work that are not shared out any further."""


class Supply:
    """Shared by the threads of one run. total: rows that there will be, as far as is known.

    workers: how many share it. rate: rows a second that one of them does, once it was measured; first: when the first
    chunk was handed out.
    """

    def __init__(self, jobs: Sequence[Job], control: Control, total: int) -> None:
        self._jobs, self._control, self._total = jobs, control, total
        self._flags = [job.inputs.flag for job in jobs]
        self._changed = threading.Condition()
        self._buffer: deque[tuple[pa.Table, str | None]] = deque()
        self._again: deque[Chunk] = deque()
        self._ended = False
        self._flying = 0
        self._given = 0
        self._batch = 1
        self.workers = 0
        self.rate: float | None = None
        self.first: float | None = None

    # ---- filling
    def put(self, rows: pa.Table, whole: str | None, *, on_content: bool) -> bool:
        """Have rows wait, or the rows of a whole file; when there are many already, wait. False when stopping."""
        with self._changed:
            self._batch = max(job.size(on_content=on_content) * job.callers for job in self._jobs)
            while self._is_full(rows) and not self._control.stopping:
                self._changed.wait(TICK)
            self._buffer.append((rows, whole))
            self._changed.notify_all()
        return not self._control.stopping

    def end(self) -> None:
        """There are no more rows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _is_full(self, more: pa.Table) -> bool:
        size = sum(rows.nbytes for rows, _ in self._buffer) + more.nbytes
        return bool(self._buffer) and (self._buffered() + more.num_rows > BUFFER or size > BYTES)

    def _buffered(self) -> int:
        return sum(rows.num_rows for rows, _ in self._buffer)

    # ---- waiting
    @property
    def is_over(self) -> bool:
        """Is nothing left to do, here or at a worker that may yet be lost? Or is the statement stopping?"""
        with self._changed:
            is_done = self._ended and not self._buffer and not self._again and not self._flying
            return is_done or self._control.stopping

    @property
    def left(self) -> int:
        """Rows that no worker has been given yet."""
        with self._changed:
            return max(self._total - self._given, self._buffered())

    def wait(self) -> None:
        """Until something happens, or a moment."""
        with self._changed:
            self._changed.wait(TICK)

    def wake(self) -> None:
        """Let everyone who waits look again."""
        with self._changed:
            self._changed.notify_all()

    # ---- handing out
    def take(self, *, alone: bool) -> Chunk | None:
        """A chunk whose items are reserved; None if there is none now. alone: may it be one that may kill its worker?"""
        with self._changed:
            if self._control.stopping:
                return None
            chunk = self._next(alone=alone)
            if chunk is not None and not chunk.reserved:
                chunk = self._reserved(chunk)
            if chunk is not None:
                self._flying += 1
                self.first = self.first or time.monotonic()
                self._changed.notify_all()  # there is room for more rows
            return chunk

    def _next(self, *, alone: bool) -> Chunk | None:
        for chunk in self._again:
            if alone or not chunk.is_suspect:
                self._again.remove(chunk)
                return chunk
        if not self._buffer:
            return None
        rows, whole = self._buffer.popleft()
        if whole is None:
            self._buffer.appendleft((rows, whole))
            rows = self._cut(self._size())
        self._given += rows.num_rows
        return Chunk.of(rows, self._flags, whole)

    def _cut(self, n: int) -> pa.Table:
        parts = []
        while n and self._buffer:
            rows, _ = self._buffer.popleft()
            if rows.num_rows > n:
                self._buffer.appendleft((rows.slice(n), None))
                rows = rows.slice(0, n)
            parts.append(rows)
            n -= rows.num_rows
        return pa.concat_tables(parts)

    def _size(self) -> int:
        """So many rows that they take some seconds, in whole batches; towards the end fewer, so that all end together."""
        rate = self.rate or 0.0
        n = max(1, round(rate * SECONDS / self._batch)) * self._batch
        if self.workers <= 1:
            return n
        share = math.ceil(max(self._total - self._given, self._buffered()) / (2 * self.workers))
        return min(n, max(1, share, int(rate * LEAST)))

    # ---- caps
    def _reserved(self, chunk: Chunk) -> Chunk | None:
        """What of a chunk the caps allow. The rest waits for what others may give back; if nobody can, the cap stops all."""
        rows = self._allowed(chunk)
        if rows < chunk.rows:
            if rows:
                chunk, rest = chunk.cut(rows)
                self._again.appendleft(rest)
            elif self._flying:
                self._again.appendleft(chunk)
                return None
        reserved: list[tuple[str, int, float]] = []
        for job, items in zip(self._jobs, chunk.wants(), strict=True):
            name, price = job.inference.name, job.inference.spec.price_per_call
            reserved.append((name, self._control.reserve(name, items, price, whole=chunk.whole), price))
            if reserved[-1][1] < items:  # the statement is stopping, and nobody will ask about any of them
                for each in reserved:
                    self._control.give_back(*each)
                return None
        return replace(chunk, reserved=True)

    def _allowed(self, chunk: Chunk) -> int:
        """How many of the first rows the caps allow, none or all of them where they are of use only together."""

        def fits(rows: int) -> bool:
            pairs = zip(self._jobs, chunk.wants(rows), strict=True)
            return self._control.fits([(j.inference.name, n, j.inference.spec.price_per_call) for j, n in pairs])

        if fits(chunk.rows):
            return chunk.rows
        low, high = 0, 1 if chunk.whole is not None else chunk.rows
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _give_back(self, chunk: Chunk) -> None:
        for job, items in zip(self._jobs, chunk.wants(), strict=True):
            self._control.give_back(job.inference.name, items, job.inference.spec.price_per_call)

    # ---- taking back
    def done(self, rows: int, seconds: float) -> None:
        """A worker is through with a chunk; it took so many rows so long."""
        with self._changed:
            self._flying -= 1
            if rows and seconds > 0:
                rate = rows / seconds
                self.rate = rate if self.rate is None else (self.rate + rate) / 2
            self._changed.notify_all()

    def back(self, chunks: Sequence[Chunk], again: Sequence[Chunk]) -> None:
        """A worker is lost that had these chunks; what is to be done again goes first."""
        with self._changed:
            self._flying -= len(chunks)
            self._again.extendleft(reversed(again))
            self._changed.notify_all()

    def drop(self) -> None:
        """Give up all that is not done, once nobody works any more."""
        for chunk in self._again:
            if chunk.reserved:
                self._give_back(chunk)
        self._again.clear()
        self._buffer.clear()
