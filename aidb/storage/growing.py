"""An answer that grows while it is read: its parts are found when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Generic, Literal, Protocol, TypeVar

import pyarrow as pa

from aidb.storage.answer import Answer

T = TypeVar("T")


class Source(Protocol):
    """Who finds the parts. found: those that are there, one at least. is_read: has anybody begun to read them?"""

    found: list[Answer]
    is_read: bool

    def more(self, n: int) -> bool:
        """Find parts until there are more than ``n``; False if that is all. Raises what ended the search."""

    def hurry(self) -> None:
        """All that is left is wanted: parts that are found sooner are of no use, and cost time."""


class Growing(Answer):
    """Rows that come part by part, to whoever iterates over them; what needs all of them finds them all first.

    Every part is kept, so that whatever is asked of it has the answer that it would have had from the beginning. within:
    what a search for parts happens in.
    """

    def __init__(self, columns: tuple[tuple[str, str], ...], source: Source) -> None:
        super().__init__(columns)
        self._source = source
        self.within: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def has_rows(self) -> bool:
        """It was a query."""
        return True

    @property
    def rows(self) -> int:
        """How many rows there are, in the end."""
        return sum(part.rows for part in self._all())

    @cached_property
    def table(self) -> pa.Table:
        """All rows as Arrow."""
        return pa.concat_tables([self._named(part.table) for part in self._all()])

    def reader(self, rows: int) -> pa.RecordBatchReader:
        """All rows as Arrow, so many at a time at most, as they are found."""
        schema = self._named(self._source.found[0].reader(rows).schema.empty_table()).schema
        batches = (pa.RecordBatch.from_arrays(b.columns, schema=schema) for b in self._read(lambda p: p.reader(rows)))
        return pa.RecordBatchReader.from_batches(schema, batches)

    def tuples(self) -> Iterator[tuple[Any, ...]]:
        """All rows as Python sees them, as they are found."""
        return self._read(lambda part: part.tuples())

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """All rows as text, as they are found; see `Answer.texts`."""
        return self._read(lambda part: part.texts(form))

    def part(self, n: int) -> Answer | None:
        """The n-th part; None if there are fewer."""
        self._source.is_read = True
        if n >= len(self._source.found):
            with self.within():
                if not self._source.more(n):
                    return None
        return self._source.found[n]

    def _named(self, table: pa.Table) -> pa.Table:
        return table.rename_columns([name for name, _ in self.columns])

    def _read(self, rows: Callable[[Answer], Iterator[T]]) -> _Reading[T]:
        return _Reading(self, rows)

    def hurry(self) -> None:
        """See `Answer`."""
        self._source.hurry()

    def _all(self) -> list[Answer]:
        self.hurry()
        return list(_Reading(self, lambda part: iter((part,))))


class _Reading(Generic[T]):
    """Iterates over what each part gives. After an error it is not at an end, as a generator would be: it raises again."""

    def __init__(self, answer: Growing, rows: Callable[[Answer], Iterator[T]]) -> None:
        self._answer, self._rows = answer, rows
        self._n = 0
        self._now: Iterator[T] = iter(())

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        while True:
            for row in self._now:
                return row
            part = self._answer.part(self._n)
            if part is None:
                raise StopIteration
            self._n += 1
            self._now = self._rows(part)
