"""The items of a search in a line, neighbour beside neighbour, and which of them may still be asked."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


class Line:
    """Items by group, then by position; a *place* is a number in this order, an *item* the number its owner knows.

    n: items. items: place -> item. open: by place, may this item still be asked? left: how many may. gap: chosen items of
    one group lie more than this apart in their positions; None where all may be chosen.

    Without positions and groups the order of the items themselves is taken, as in a video whose frames are numbered.
    """

    def __init__(
        self, n: int, positions: npt.ArrayLike | None, groups: npt.ArrayLike | None, gap: float | None
    ) -> None:
        self.n = n
        self.gap = gap
        where = np.arange(n, dtype=np.float64) if positions is None else _positions(positions, n)
        codes = np.zeros(n, dtype=np.int64) if groups is None else _codes(groups, n)
        if positions is None and groups is None:
            self.items: Ints = np.arange(n, dtype=np.int64)
        else:
            self.items = np.lexsort((where, codes)).astype(np.int64)
        self.places: Ints = np.empty(n, dtype=np.int64)
        self.places[self.items] = np.arange(n)
        self._where: Floats = where[self.items]
        self._group: Ints = codes[self.items]
        self._chosen: dict[int, list[float]] = {}
        self.open: Bools = np.ones(n, dtype=np.bool_)
        self.left = n

    def together(self, a: int, b: int) -> bool:
        """Are both places there, and of one group?"""
        return 0 <= a < self.n and 0 <= b < self.n and bool(self._group[a] == self._group[b])

    def close(self, places: Ints) -> None:
        """These are asked, or known: not again. All must be open."""
        self.open[places] = False
        self.left -= len(places)

    def choose(self, place: int) -> bool:
        """Take a match into the answer, unless it lies within the gap of one that is there; its neighbourhood is closed."""
        if self.gap is None:
            return True
        at = float(self._where[place])
        chosen = self._chosen.setdefault(int(self._group[place]), [])
        if _crowded(chosen, at, self.gap):
            return False
        insort(chosen, at)
        first, last = (
            np.searchsorted(self._group, self._group[place]),
            np.searchsorted(self._group, self._group[place], side="right"),
        )
        inside = self._where[first:last]
        start = first + np.searchsorted(inside, at - self.gap)
        stop = first + np.searchsorted(inside, at + self.gap, side="right")
        self.left -= int(self.open[start:stop].sum())
        self.open[start:stop] = False
        return True

    def apart(self, places: Ints, limit: int) -> Ints:
        """The first places of a ranking, `limit` at most, that do not lie within the gap of one another.

        In one batch they would spoil each other's chance. If too few do, the rest is filled from the ranking.
        """
        if self.gap is None or len(places) <= 1:
            return places[:limit]
        taken: dict[int, list[float]] = {}
        chosen, spare = [], []
        for place in places.tolist():
            near = taken.setdefault(int(self._group[place]), [])
            at = float(self._where[place])
            if _crowded(near, at, self.gap):
                spare.append(place)
                continue
            insort(near, at)
            chosen.append(place)
            if len(chosen) == limit:
                break
        return np.array((chosen + spare)[:limit], dtype=np.int64)


def _crowded(sorted_positions: list[float], at: float, gap: float) -> bool:
    """Is one of these within the gap? Compared as the reader would, by their difference."""
    i = bisect_left(sorted_positions, at)
    beside = sorted_positions[max(0, i - 1) : i + 1]
    return any(abs(other - at) <= gap for other in beside)


def _positions(positions: npt.ArrayLike, n: int) -> Floats:
    given = np.asarray(positions, dtype=np.float64)
    if given.shape != (n,):
        raise ValueError(f"positions must have shape ({n},), not {given.shape}")
    if not np.isfinite(given).all():
        raise ValueError("positions must be finite: an item without a place in the order has no neighbours")
    return given


def _codes(groups: npt.ArrayLike, n: int) -> Ints:
    given = np.asarray(groups)
    if given.shape != (n,):
        raise ValueError(f"groups must have shape ({n},), not {given.shape}")
    codes: Ints = np.unique(given, return_inverse=True)[1].astype(np.int64)
    return codes
