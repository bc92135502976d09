"""Reading items: threads that turn rows of references into pieces with decoded content, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from aidb.exec.memory import ByteBudget, Shared
from aidb.spi import Connector, ItemFailure, Ref, is_content_type

PIECE = 8
"""Rows that are handed on together at most: enough to amortise the hand-over, few enough to start the model early."""
RUN = 16
"""Whole files that one reader takes at a time; frames of one video stay together, however many."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of the input query, with the content that some of their columns refer to.

    content: (column, encoded) -> one entry a row: the decoded item, or why there is none. source: the file, for
    models that must not mix files.
    """

    table: pa.Table
    content: dict[tuple[str, bool], list[Shared | ItemFailure]] = field(default_factory=dict)
    source: str | None = None

    def drop(self) -> None:
        """Give up all that was decoded."""
        for column in self.content.values():
            for item in column:
                if isinstance(item, Shared):
                    item.done()


def runs(table: pa.Table, column: str | None) -> Iterator[pa.Table]:
    """Cut sorted rows into stretches for one reader each: a video's frames, or a few whole files."""
    if column is None:
        yield table
        return
    refs = table.column(column).combine_chunks()
    uris = refs.field("uri").to_pylist()
    positions = refs.field("pos").to_pylist()
    start = 0
    for i in range(1, len(uris) + 1):
        if i < len(uris):
            framed = positions[i] is not None
            if framed and uris[i] == uris[i - 1]:
                continue
            if not framed and positions[i - 1] is None and i - start < RUN:
                continue
        yield table.slice(start, i - start)
        start = i


def pieces(
    table: pa.Table,
    wanted: Sequence[tuple[str, bool]],
    connector: Callable[[str], Connector],
    budget: ByteBudget,
    stopping: Callable[[], bool],
) -> Iterator[Piece]:
    """Decode the ``wanted`` (column, encoded) of a run, row by row. Ends early when stopping, all bytes given back."""
    streams = [_decoded(table.column(column), encoded, connector, budget) for column, encoded in wanted]
    first = table.column(wanted[0][0])
    start = 0
    held: list[list[Shared | ItemFailure]] = [[] for _ in wanted]
    try:
        for row in range(table.num_rows):
            source = first[row]["uri"].as_py()
            for column, stream in zip(held, streams, strict=True):
                # A blocked reader must not sit on rows that would free the memory it waits for.
                item, fresh = next(stream)
                if fresh and isinstance(item, Shared) and not budget.try_acquire(item.size):
                    whole = min(len(c) for c in held)
                    if whole:
                        yield _piece(table, start, wanted, held, whole, source)
                        start += whole
                    if not budget.acquire(item.size):
                        return
                column.append(item.use() if isinstance(item, Shared) else item)
            if stopping():
                return
            if len(held[0]) == PIECE:
                yield _piece(table, start, wanted, held, PIECE, source)
                start += PIECE
        if held[0]:
            yield _piece(table, start, wanted, held, len(held[0]), first[table.num_rows - 1]["uri"].as_py())
    finally:
        Piece(table, dict(zip(wanted, held, strict=True))).drop()


def _piece(
    table: pa.Table,
    start: int,
    wanted: Sequence[tuple[str, bool]],
    held: list[list[Shared | ItemFailure]],
    n: int,
    source: str | None,
) -> Piece:
    content = {key: column[:n] for key, column in zip(wanted, held, strict=True)}
    for column in held:
        del column[:n]
    return Piece(table.slice(start, n), content, source)


def _decoded(
    refs: pa.ChunkedArray, encoded: bool, connector: Callable[[str], Connector], budget: ByteBudget
) -> Iterator[tuple[Shared | ItemFailure, bool]]:
    """One result a row and whether it is fresh; neighbours with the same reference share one."""
    rows = [None if r is None else Ref(r["uri"], r["pos"], r["media"], r["connector"]) for r in refs.to_pylist()]
    distinct = [r for i, r in enumerate(rows) if r is not None and (i == 0 or r != rows[i - 1])]
    results = iter(_read(distinct, encoded, connector))
    last: Shared | ItemFailure = ItemFailure("there is no content: the reference is NULL")
    try:
        for i, ref in enumerate(rows):
            if ref is None:
                yield ItemFailure("there is no content: the reference is NULL"), False
                continue
            fresh = i == 0 or ref != rows[i - 1]
            if fresh:
                _let_go(last)
                value = next(results)
                # The next row may want the same item: it stays in use until another one follows.
                last = value if isinstance(value, ItemFailure) else Shared(value, budget).use()
            yield last, fresh
    finally:
        _let_go(last)


def _let_go(item: Shared | ItemFailure) -> None:
    if isinstance(item, Shared):
        item.done()


def _read(refs: list[Ref], encoded: bool, connector: Callable[[str], Connector]) -> Iterator[object]:
    """Results of references that may belong to several connectors."""
    start = 0
    for i in range(1, len(refs) + 1):
        if i < len(refs) and refs[i].connector == refs[start].connector:
            continue
        yield from connector(refs[start].connector).read(refs[start:i], encoded=encoded)
        start = i


def is_reference(table: pa.Table, column: str) -> bool:
    """Does this column hold content references?"""
    return is_content_type(table.schema.field(column).type)
