"""Reading items: threads that turn rows of references into pieces with decoded content, within a budget of bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from aidb.errors import Error, OperationalError
from aidb.exec.memory import ByteBudget, Shared, size_of
from aidb.spi import Connector, Decoded, ItemFailure, Ref, is_content_type

PIECE = 8
"""Rows that are handed on together at most: enough to amortise the hand-over, few enough to start the model early."""
RUN = 16
"""Whole files that one reader takes at a time; frames of one video stay together, however many."""

Item = Shared | ItemFailure
Wanted = tuple[str, bool]
"""A content column, and whether its encoded bytes are wanted rather than what they decode to."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of the input query, with the content that some of their columns refer to.

    content: for each wanted column one entry a row, the decoded item or why there is none. source: the file, for
    models that must not mix files. weight: the memory of the rows themselves, where it is counted.
    """

    table: pa.Table
    content: dict[Wanted, list[Item]] = field(default_factory=dict)
    source: str | None = None
    weight: Shared | None = None

    def cut(self, rows: int) -> tuple[Piece, Piece]:
        """Its first rows, and the rest."""
        if self.weight is not None:
            self.weight.use()
        first = Piece(
            self.table.slice(0, rows), {k: c[:rows] for k, c in self.content.items()}, self.source, self.weight
        )
        rest = Piece(self.table.slice(rows), {k: c[rows:] for k, c in self.content.items()}, self.source, self.weight)
        return first, rest

    def drop(self) -> None:
        """Give up all that was decoded."""
        _drop(self.content.values())
        if self.weight is not None:
            self.weight.done()


def _drop(columns: object) -> None:
    for column in columns:  # type: ignore[attr-defined]
        for item in column:
            if isinstance(item, Shared):
                item.done()


class Sizes:
    """The largest item of each column so far: what the next one may take, before it is decoded."""

    def __init__(self, unknown: int) -> None:
        self._unknown = unknown
        self._seen: dict[Wanted, int] = {}
        self._lock = threading.Lock()

    def guess(self, column: Wanted) -> int:
        """Bytes to set aside; before the first item all there is, so that it is decoded alone."""
        return self._seen.get(column, self._unknown)

    def saw(self, column: Wanted, size: int) -> None:
        """Learn an item's true size."""
        with self._lock:
            self._seen[column] = max(size, self._seen.get(column, 0))


def runs(table: pa.Table, column: str, *, by_file: bool) -> Iterator[pa.Table]:
    """Cut sorted rows into stretches for one reader each: a video's frames, or a few whole files."""
    refs = table.column(column).combine_chunks()
    uris = refs.field("uri").to_pylist()
    positions = refs.field("pos").to_pylist()
    start = 0
    for i in range(1, len(uris) + 1):
        if i < len(uris):
            same = uris[i] == uris[i - 1]
            framed = positions[i] is not None
            if same and (framed or by_file):
                continue
            if not by_file and not framed and positions[i - 1] is None and i - start < RUN:
                continue
        yield table.slice(start, i - start)
        start = i


def pieces(
    table: pa.Table,
    wanted: Sequence[Wanted],
    connector: Callable[[str], Connector],
    budget: ByteBudget,
    sizes: Sizes,
    stopping: Callable[[], bool],
) -> Generator[Piece, None, None]:
    """Decode the ``wanted`` columns of a run, row by row. Ends early when stopping, all bytes given back.

    Memory is set aside before an item is decoded. A reader that has to wait for it first hands on all rows that it has
    finished: it never sits on what would free the memory it waits for.
    """
    streams = [_Stream(table.column(column[0]), column, connector, budget, sizes) for column in wanted]
    uris = table.column(wanted[0][0]).combine_chunks().field("uri")
    held: list[list[Item]] = [[] for _ in wanted]
    start = 0

    def piece() -> Piece:
        nonlocal start
        n = len(held[0])
        content = {key: column[:] for key, column in zip(wanted, held, strict=True)}
        for column in held:
            column.clear()
        start += n
        return Piece(table.slice(start - n, n), content, uris[start - 1].as_py())

    try:
        for row in range(table.num_rows):
            fresh = [s for s in streams if s.is_fresh(row)]
            for stream in fresh:
                stream.let_go()
            for stream in fresh:
                stream.taken = stream.guess()
            if fresh and not budget.try_acquire(sum(s.taken for s in fresh)):
                for stream in fresh:
                    stream.taken = 0
                if held[0]:
                    yield piece()
                if not _wait(budget, streams, fresh):
                    return
            for stream in fresh:
                stream.decode(row)
            for column, stream in zip(held, streams, strict=True):
                column.append(stream.item())
            if stopping():
                return
            if len(held[0]) == PIECE:
                yield piece()
        if held[0]:
            yield piece()
    finally:
        _drop(held)
        for stream in streams:
            stream.close()


def _wait(budget: ByteBudget, streams: Sequence[_Stream], fresh: Sequence[_Stream]) -> bool:
    """Wait for the memory of a whole row; False if the run is over."""
    held = sum(s.held for s in streams)
    taken = budget.acquire(lambda: sum(s.guess() for s in fresh), held)
    if taken is None:
        return False
    # What was taken may be more or less than the guesses are by now; the first stream settles the difference.
    for stream in fresh:
        stream.taken = 0
    fresh[0].taken = taken
    return True


class _Stream:
    """One content column of a run; neighbours with the same reference share one item.

    taken: bytes of the budget that are set aside for the next item.
    """

    def __init__(
        self,
        refs: pa.ChunkedArray,
        column: Wanted,
        connector: Callable[[str], Connector],
        budget: ByteBudget,
        sizes: Sizes,
    ) -> None:
        self._column, self._budget, self._sizes = column, budget, sizes
        self._rows = [
            None if r is None else Ref(r["uri"], r["pos"], r["media"], r["connector"]) for r in refs.to_pylist()
        ]
        distinct = [r for i, r in enumerate(self._rows) if r is not None and self.is_fresh(i)]
        self._results = _read(distinct, column[1], connector)
        self._last: Item = _NOTHING
        self.taken = 0

    def is_fresh(self, row: int) -> bool:
        """Has this row another reference than the one before?"""
        return row == 0 or self._rows[row] != self._rows[row - 1]

    def guess(self) -> int:
        """Bytes that the next item may take."""
        return self._sizes.guess(self._column)

    @property
    def held(self) -> int:
        """Bytes of the last item, which the next row may want as well."""
        return self._last.size if isinstance(self._last, Shared) else 0

    def let_go(self) -> None:
        """The last item is not wanted by the next row."""
        if isinstance(self._last, Shared):
            self._last.done()
        self._last = _NOTHING

    def decode(self, row: int) -> None:
        """Get the item of a row, in the memory set aside for it."""
        taken = self.taken
        value = next(self._results) if self._rows[row] is not None else _NOTHING
        size = size_of(value)
        if not isinstance(value, ItemFailure):
            self._sizes.saw(self._column, size)  # before anyone who waits is woken up
        self._budget.settle(taken, size)
        self.taken = 0
        self._last = value if isinstance(value, ItemFailure) else Shared(value, size, self._budget)

    def item(self) -> Item:
        """The current row's item, with a use announced for it."""
        return self._last.use() if isinstance(self._last, Shared) else self._last

    def close(self) -> None:
        """Give everything back."""
        self.let_go()
        self._budget.release(self.taken)
        self.taken = 0
        self._results.close()


_NOTHING = ItemFailure("there is no content: the reference is NULL")


def _read(
    refs: Sequence[Ref], encoded: bool, connector: Callable[[str], Connector]
) -> Generator[Decoded | ItemFailure, None, None]:
    """One result a reference, whichever connectors they belong to, and whatever those raise."""
    at = 0
    while at < len(refs):
        name = refs[at].connector
        end = next((i for i in range(at, len(refs)) if refs[i].connector != name), len(refs))
        results = iter(connector(name).read(refs[at:end], encoded=encoded))
        while at < end:
            try:
                value = next(results)
            except StopIteration:
                raise OperationalError(
                    f"the connector {name} gave no result for {refs[at].uri}: it must give one for each reference"
                ) from None
            except Error:
                raise
            except Exception as e:
                # A plugin's code, which should have said this itself: the item fails, reading starts again after it.
                at += 1
                yield ItemFailure(f"{refs[at - 1].uri}: {type(e).__name__}: {e}")
                break
            if not isinstance(value, (np.ndarray, str, bytes, ItemFailure)):
                raise OperationalError(
                    f"the connector {name} gave a {type(value).__name__} for {refs[at].uri}, not an array, a text or bytes"
                )
            at += 1
            yield value
            del value  # nobody else may keep it alive while the next one is decoded


def is_reference(table: pa.Table, column: str) -> bool:
    """Does this column hold content references?"""
    return is_content_type(table.schema.field(column).type)
