"""Rows on their way to a worker, and which of them still want an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aidb.errors import InternalError
from aidb.exec.distributed.task import ROW_NUMBER

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows of the input query. open: for each job, which rows it wants answered (bool [rows]; changed as answers come).

    whole: of use only together (a file for a model that keeps state), and what it is. reserved: counted as called.
    strikes: workers that died while they had it; one of them more and it is cut. alone: those that had nothing else.
    """

    table: pa.Table
    open: tuple[Bools, ...]
    whole: str | None = None
    reserved: bool = False
    strikes: int = 0
    alone: int = 0

    @classmethod
    def of(cls, table: pa.Table, flags: Sequence[str | None], whole: str | None = None) -> Chunk:
        """Rows as they come: each job wants those that its flag says, or all."""
        wanted = (
            np.ones(table.num_rows, bool) if f is None else table.column(f).to_numpy().astype(bool, copy=True)
            for f in flags
        )
        return cls(table, tuple(wanted), whole)

    @property
    def rows(self) -> int:
        """How many rows there are, answered or not."""
        return int(self.table.num_rows)

    @property
    def is_suspect(self) -> bool:
        """Did a worker die with it? Then it must have the next one for itself, so that it is known which chunk kills."""
        return self.strikes > 0

    def wants(self, rows: int | None = None) -> list[int]:
        """For each job, how many of the first rows it wants answered."""
        return [int(np.count_nonzero(wanted[:rows])) for wanted in self.open]

    def cut(self, rows: int) -> tuple[Chunk, Chunk]:
        """The first rows, and the others."""
        first = replace(self, table=self.table.slice(0, rows), open=tuple(o[:rows] for o in self.open))
        return first, replace(self, table=self.table.slice(rows), open=tuple(o[rows:] for o in self.open))

    def rest(self) -> Chunk | None:
        """The rows that still want an answer, if there are any."""
        any_ = np.logical_or.reduce(self.open)
        if not any_.any():
            return None
        return replace(self, table=self.table.filter(pa.array(any_)), open=tuple(o[any_] for o in self.open))

    def answered(self, job: int, numbers: pa.ChunkedArray) -> None:
        """Rows have an answer of a job. Raises `InternalError` for one that did not want it, before it is stored twice."""
        rows = numbers.to_numpy()
        if not self.open[job][rows].all() or len(np.unique(rows)) < len(rows):
            raise InternalError("a Ray worker answered for an item twice, or for one that it was not asked about")
        self.open[job][rows] = False

    def sent(self, flags: Sequence[str | None]) -> pa.Table:
        """The rows as a worker gets them: numbered, and with flags that say what is still wanted."""
        table = self.table
        for flag, wanted in zip(flags, self.open, strict=True):
            if flag is not None:
                table = table.set_column(table.column_names.index(flag), flag, pa.array(wanted))
        return table.append_column(ROW_NUMBER, pa.array(np.arange(self.rows, dtype=np.int64))).combine_chunks()
