"""Answers gathered from a stratified sample: a table of rows, groups and values, beside the rows asked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aidb.stats.aggregates.regression import Sample, summed
from aidb.stats.aggregates.strata import Draws, Floats, Ints, Strata


@dataclass(frozen=True)
class Answers:
    """What `label(indices)` found, as a table: one line for each item and group that has something to add.

    position: (m,) int, which of the indices a line belongs to; an item may have several lines, or none (it matched
    nothing). values: one array for each aggregate, (m,) for a count or sum, (m, 2) of sum and rows for an average.
    group: (m,) keys, any hashable; None where there are no groups. failed: positions of items that could not be
    answered; their lines are ignored.
    """

    position: npt.ArrayLike
    values: Sequence[npt.ArrayLike]
    group: Sequence[Hashable] | npt.NDArray[np.generic] | None = None
    failed: npt.ArrayLike = ()


Ask = Callable[[Ints], Answers]
"""Row numbers, distinct and never asked before, to what they hold."""


class Table:
    """Lines of answers, as they come: item (place in the order of asking), group (number), values."""

    def __init__(self, kinds: Sequence[str], keys: dict[Hashable, int]) -> None:
        self.kinds = tuple(kinds)
        self.keys = keys
        self.failed = np.zeros(0, dtype=bool)
        self._item = np.zeros(0, np.int64)
        self._group = np.zeros(0, np.int64)
        self._values = [np.zeros((0, 2) if kind == "avg" else 0) for kind in kinds]

    def add(self, answers: Answers, asked: int) -> None:
        """The answers about `asked` further items. ValueError where they do not fit together."""
        position = np.asarray(answers.position, dtype=np.int64)
        values = [np.asarray(v, dtype=np.float64) for v in answers.values]
        if position.ndim != 1 or (len(position) and not (position.min() >= 0 and position.max() < asked)):
            raise ValueError(
                f"label(): positions must be one array of numbers below {asked}, the rows it was asked for"
            )
        shapes = [(len(position), 2) if kind == "avg" else (len(position),) for kind in self.kinds]
        if [v.shape for v in values] != shapes:
            raise ValueError(f"label(): values of shapes {[v.shape for v in values]} where {shapes} are due")
        failed = np.zeros(asked, dtype=bool)
        failed[np.asarray(answers.failed, dtype=np.int64)] = True
        for v in values:
            bad = ~np.isfinite(v if v.ndim == 1 else v.sum(axis=1))
            failed[position[bad]] = True
        if answers.group is None:
            self.keys.setdefault(None, 0)
            group = np.zeros(len(position), np.int64)
        elif len(answers.group) != len(position):
            raise ValueError(f"label(): {len(answers.group)} groups for {len(position)} lines")
        else:
            group = self._numbers(answers.group)
        fine = ~failed[position]
        self._item = np.concatenate((self._item, len(self.failed) + position[fine]))
        self._group = np.concatenate((self._group, group[fine]))
        self._values = [np.concatenate((old, v[fine])) for old, v in zip(self._values, values, strict=True)]
        self.failed = np.concatenate((self.failed, failed))

    def _numbers(self, group: Sequence[Hashable] | npt.NDArray[np.generic]) -> Ints:
        """Groups by number; a group seen first gets the next one."""
        keys = group.tolist() if isinstance(group, np.ndarray) else list(group)
        for key in dict.fromkeys(keys):
            self.keys.setdefault(key, len(self.keys))
        return np.fromiter((self.keys[key] for key in keys), dtype=np.int64, count=len(keys))

    def lines(self) -> Ints:
        """(groups,) items with something in each group."""
        return np.bincount(self._group, minlength=len(self.keys)).astype(np.int64)

    def column(self, group: int, aggregate: int) -> tuple[Floats, Floats | None]:
        """y and, for an average, d of all items, failed ones included as 0."""
        here = slice(None) if len(self.keys) <= 1 else self._group == group
        item, values, many = self._item[here], self._values[aggregate][here], len(self.failed)
        if values.ndim == 1:
            return summed(item, values, many), None
        return summed(item, values[:, 0], many), summed(item, values[:, 1], many)


class Survey:
    """Strata, the rows drawn from them, and what these rows hold.

    rows: row numbers of the strata's rows, None for all. known: totals over rows that were answered before.
    """

    def __init__(
        self, strata: Strata, ask: Ask, kinds: Sequence[str], rng: np.random.Generator, rows: Ints | None = None
    ) -> None:
        self.strata = strata
        self.draws = Draws(strata, rng)
        self.keys: dict[Hashable, int] = {}
        self.table = Table(kinds, self.keys)
        self.known = Table(kinds, self.keys)
        self._rows = rows
        self._ask = ask
        self.drawn = np.zeros(0, np.int64)

    def ask(self, want: npt.ArrayLike) -> None:
        """Ask so many rows of each stratum, in all."""
        fresh = self.draws.upto(want)
        if len(fresh):
            self.table.add(self._ask(fresh if self._rows is None else self._rows[fresh]), len(fresh))
            self.drawn = np.concatenate((self.drawn, fresh))

    def sample(self) -> Sample:
        """The rows answered so far."""
        drawn = self.drawn[self.answered]
        proxy = self.strata.proxy[drawn].astype(np.float64)
        return Sample(self.strata, self.strata.codes[drawn], proxy, self.draws.taken)

    def codes(self) -> npt.NDArray[np.integer[Any]]:
        """(rows asked,) stratum of each."""
        return self.strata.codes[self.drawn]

    def proxies(self) -> Floats:
        """(rows asked,) proxy of each."""
        return self.strata.proxy[self.drawn].astype(np.float64)

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """(rows asked,) did the row give an answer?"""
        return ~self.table.failed

    @property
    def failed(self) -> Ints:
        """Row numbers that gave no answer, sorted."""
        lost = self.drawn[self.table.failed]
        return np.sort(lost if self._rows is None else self._rows[lost])

    def constants(self, group: int, aggregate: int) -> tuple[float, float]:
        """Totals of y and d over the rows that were known before."""
        y, d = self.known.column(group, aggregate)
        return float(y.sum()), 0.0 if d is None else float(d.sum())
