"""From pieces to batches: what a job has got, what it takes next, and what of a batch is ready to be stored."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from aidb.catalog.definitions import FillDefinition
from aidb.exec.control import Control
from aidb.exec.decode import Item, Piece, Wanted
from aidb.exec.inference import Answer, Inference
from aidb.exec.inputs import JobInputs
from aidb.exec.memory import ByteBudget, Shared
from aidb.exec.validate import ROW
from aidb.spi import ItemFailure
from aidb.storage.answers import AnsweredBatch, Failure

PLAIN_BATCH = 8192
CPU_BATCH = 16
GPU_BATCH = 32
TICK = 0.05
_SHORT_TICK = 0.005
_FIRST = 4
"""Items of the first call on a processor."""


class Inbox(queue.Queue[Piece | None]):
    """Pieces on their way to a job, and None at the end. Full at ``maxsize`` rows, however many pieces these are."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._rows = 0

    def _qsize(self) -> int:
        return self._rows

    def _put(self, item: Piece | None) -> None:
        super()._put(item)
        self._rows += _rows(item)

    def _get(self) -> Piece | None:
        item: Piece | None = super()._get()
        self._rows -= _rows(item)
        return item


def _rows(piece: Piece | None) -> int:
    return 1 if piece is None else max(1, piece.table.num_rows)


@dataclass
class Job:
    """One fill to work on: its model, the columns of the input query that it reads, and its inbox.

    files: for a sequential model, how many wanted items each file has. source, group, paid: the file that it is at, what
    it said about it, and how many of its items are reserved.
    """

    fill: FillDefinition
    inference: Inference
    inputs: JobInputs
    batch_size: int | None = None
    files: Mapping[str | None, int] = field(default_factory=dict)
    inbox: Inbox = field(default_factory=Inbox)
    pending: deque[Piece] = field(default_factory=deque)
    rows: int = 0
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    group: list[AnsweredBatch] = field(default_factory=list)
    source: str | None = None
    paid: int = 0

    @property
    def callers(self) -> int:
        """Threads that ask the model at the same time."""
        return 1 if self.inference.spec.sequential else max(1, self.inference.spec.concurrency)

    @property
    def columns(self) -> frozenset[tuple[str, bool]]:
        """What it reads, as content is wanted."""
        pairs = zip(self.inputs.columns, self.inputs.forms, strict=True)
        return frozenset((column, form == "encoded") for column, form in pairs)

    def size(self, *, on_content: bool) -> int:
        """Items a call: as the user says, as the model prefers, or as is usual, but no more than it bears."""
        spec = self.inference.spec
        usual = (CPU_BATCH if spec.device == "cpu" else GPU_BATCH) if on_content else PLAIN_BATCH
        size = self.batch_size or spec.batch_size or usual
        return min(size, spec.max_batch or size, self.inference.bearable or size)

    def limit_inbox(self, *, on_content: bool) -> None:
        """Let the next batch of everyone who asks the model wait. More is of no use, and less stays in the cache."""
        self.inbox.maxsize = self.size(on_content=on_content) * self.callers

    def share(self, piece: Piece) -> Piece | None:
        """The rows and columns of a piece that this job reads, with their uses announced; None if it wants none."""
        keep = None
        if self.inputs.flag is not None:
            flags = piece.table.column(self.inputs.flag).to_pylist()
            keep = [i for i, wanted in enumerate(flags) if wanted]
            if not keep:
                return None
            if len(keep) == len(flags):
                keep = None
        content: dict[Wanted, list[Item]] = {}
        for key in self.columns & piece.content.keys():
            column = piece.content[key]
            mine = column if keep is None else [column[i] for i in keep]
            content[key] = [item.use() if isinstance(item, Shared) else item for item in mine]
        table = piece.table if keep is None else piece.table.take(pa.array(keep))
        return Piece(table, content, piece.source, piece.weight.use() if piece.weight is not None else None)

    def next_batch(self, control: Control, budget: ByteBudget) -> list[Piece] | None:
        """The next batch as pieces, at most the batch size together; None when there is no more to come.

        One thread at a time, under `lock`. A batch goes before it is full if readers wait for the memory it holds, and
        where a sequential model's file ends.
        """
        size = self._fill(control, budget)
        if not self.pending:
            return None
        batch: list[Piece] = []
        room = size
        source = self.pending[0].source
        while self.pending and room:
            if self.inference.spec.sequential and self.pending[0].source != source:
                break
            piece = self.pending.popleft()
            if piece.table.num_rows > room:
                piece, rest = piece.cut(room)
                self.pending.appendleft(rest)
            batch.append(piece)
            room -= piece.table.num_rows
            self.rows -= piece.table.num_rows
        return batch

    def _fill(self, control: Control, budget: ByteBudget) -> int:
        """Take pieces out of the inbox until there are enough; the batch size."""
        size = self._size_now(control)
        while not self.ended and self.rows < size and not self._has_next_file():
            try:
                # What lies in the inbox is taken in any case; only then it matters whether there is room for more.
                piece = self.inbox.get(timeout=_SHORT_TICK if self.rows else TICK)
            except queue.Empty:
                if control.stopping:
                    self.ended = True
                elif self.rows and budget.starved:
                    break
                continue
            if piece is None:
                self.ended = True
            else:
                self.pending.append(piece)
                self.rows += piece.table.num_rows
                size = self._size_now(control)
        return size

    def _size_now(self, control: Control) -> int:
        size = self.size(on_content=bool(self.pending and self.pending[0].content))
        if self.callers == 1 or self.inference.spec.device != "cpu":
            return size
        # Short batches at first, so that no processor waits for more to be decoded, and towards the end, so that none
        # waits long for the others' last ones.
        done = control.calls[self.inference.name]
        left = control.expected[self.inference.name] - done
        return max(1, min(size, _FIRST + done // self.callers, -(-left // (2 * self.callers))))

    def _has_next_file(self) -> bool:
        return (
            self.inference.spec.sequential
            and bool(self.pending)
            and (self.pending[0].source != self.pending[-1].source)
        )

    def discard(self) -> None:
        """Give up everything that was not inferred."""
        while True:
            try:
                piece = self.inbox.get_nowait()
            except queue.Empty:
                break
            if piece is not None:
                piece.drop()
        while self.pending:
            self.pending.popleft().drop()
        self.rows = 0


class Batch:
    """Some pieces as one: rows, content, and which rows could not be read."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = list(pieces)
        self.source = pieces[0].source
        self.table = pa.concat_tables([p.table for p in pieces]) if len(pieces) > 1 else pieces[0].table
        self.content = {key: [item for p in pieces for item in p.content[key]] for key in pieces[0].content}
        self.broken = {
            i: item.message
            for column in self.content.values()
            for i, item in enumerate(column)
            if isinstance(item, ItemFailure)
        }
        self.good = [i for i in range(self.table.num_rows) if i not in self.broken]

    def limit(self, allowed: int) -> None:
        """Keep only so many of the good rows, and the broken ones before them."""
        if allowed < len(self.good):
            last = self.good[allowed] if allowed else 0
            self.table = self.table.slice(0, last)
            self.good = self.good[:allowed]
            self.broken = {i: m for i, m in self.broken.items() if i < last}

    def values(self, column: str, form: str) -> pa.Array | list[object]:
        """One input for the good rows."""
        decoded = self.content.get((column, form == "encoded"))
        if decoded is not None:
            found = (decoded[i] for i in self.good)
            return [item.value for item in found if isinstance(item, Shared)]
        plain = self.table.column(column)
        if self.broken:
            plain = plain.take(pa.array(self.good, pa.int64()))
        return plain.combine_chunks()

    def drop(self) -> None:
        """Give up the content."""
        for piece in self._pieces:
            piece.drop()
        self._pieces.clear()
        self.content = {}


@dataclass(frozen=True)
class Outcome:
    """What of a batch can be stored: its rows without those that were left, as `AnsweredBatch` wants them."""

    keys: pa.Table
    rows: pa.Table
    failures: tuple[Failure, ...]


def outcome(batch: Batch, keys: pa.Table, answer: Answer | None, nothing: pa.Table) -> Outcome:
    """Bring the places in the model's batch back to places among the rows that are stored."""
    n = keys.num_rows
    failures = {i: Failure(i, 1, message) for i, message in batch.broken.items()}
    if answer is None:
        return Outcome(keys, nothing, tuple(failures[i] for i in sorted(failures)))
    for failure in answer.failures:
        failures[batch.good[failure.row]] = Failure(batch.good[failure.row], failure.attempts, failure.message)
    kept = np.ones(n, bool)
    kept[[batch.good[i] for i in answer.left]] = False
    place = np.cumsum(kept) - 1
    rows = answer.rows
    if ROW in rows.column_names and (batch.broken or answer.left):
        places = pa.array(place[np.array(batch.good, np.int64)])
        rows = rows.set_column(
            rows.column_names.index(ROW), ROW, places.take(rows.column(ROW).combine_chunks().cast(pa.int64()))
        )
    if answer.left:
        keys = keys.filter(pa.array(kept))
    moved = (Failure(int(place[i]), f.attempts, f.message) for i, f in sorted(failures.items()))
    return Outcome(keys, rows, tuple(moved))
