"""Rows cut into strata by their proxy, and rows drawn from each stratum without replacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

STRATA = 8
"""Strata that hold equal shares of the weight; more gave nothing where they were tried."""
FLOOR = 0.1
"""Added to each weight, as a share of the mean weight: rows of a low proxy are never forgotten."""
PART = 1 << 20
"""Rows handled at a time while the strata are cut."""


@dataclass(frozen=True)
class Strata:
    """A population in K strata of rising proxy, the last ones for rows taken with certainty and rows without a proxy.

    proxy: (n,) float32 or float64, finite; a row without a proxy has 0. codes: (n,) stratum of each row. members: the
    rows of each stratum. sizes: (K,) rows. means: (K,) of the proxy. certain: (K,) every row must be taken.
    """

    proxy: npt.NDArray[np.floating[Any]]
    codes: npt.NDArray[np.uint8]
    members: tuple[npt.NDArray[np.integer[Any]], ...]
    sizes: Ints
    means: Floats
    certain: npt.NDArray[np.bool_]

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.codes)

    @property
    def count(self) -> int:
        """Strata, K."""
        return len(self.sizes)


def cut(scores: npt.ArrayLike | None, n: int, visible: float, strata: int = STRATA) -> Strata:
    """Strata of equal summed weight; the weight of a row is the square root of its proxy above the lowest, floored.

    scores: (n,) or None; NaN has a stratum of its own, infinities count as the largest or smallest finite score.
    visible: a row whose share of the summed proxy (above the lowest) reaches this is taken with certainty, and so is
    one whose weight alone would fill a stratum. Rows of the same proxy are never separated, so a constant proxy gives
    one stratum. The square root makes the rates of a Poisson-like count near to optimal (Dalenius and Hodges 1959 for
    the cut at equal increments, Cochran 1977 section 5A.8).
    """
    if scores is None:
        return packed(np.zeros(n), np.zeros(n, np.uint8))
    raw = np.asarray(scores)
    proxy = raw.astype(raw.dtype if raw.dtype in (np.float32, np.float64) else np.float64)
    missing = np.isnan(proxy)
    finite = proxy[np.isfinite(proxy)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    np.nan_to_num(proxy, copy=False, nan=low, posinf=high, neginf=low)
    ordered = np.sort(proxy[~missing] if missing.any() else proxy)
    if not len(ordered):
        return packed(np.zeros(n), np.zeros(n, np.uint8))
    edges, top = _edges(ordered, visible, strata)
    codes = np.empty(n, np.uint8)
    for part in _parts(n):
        codes[part] = np.searchsorted(edges, proxy[part], side="right")
    last = len(edges)
    certain: tuple[int, ...] = ()
    if top is not None:
        codes[proxy >= top] = last + 1
        certain = (last + 1,)
    if missing.any():
        codes[missing] = last + 2
        proxy[missing] = 0
    return packed(proxy, codes, certain)


def _parts(n: int) -> list[slice]:
    """A million rows at a time, so that no temporary array is as long as the table."""
    return [slice(start, min(start + PART, n)) for start in range(0, n, PART)]


def _edges(
    ordered: npt.NDArray[np.floating[Any]], visible: float, strata: int
) -> tuple[npt.NDArray[np.floating[Any]], float | None]:
    """The proxy where each stratum but the first begins, and from where on rows are taken with certainty.

    ordered: (n,) finite, rising, at least one.
    """
    n, low = len(ordered), float(ordered[0])

    def root(part: slice) -> Floats:
        return np.sqrt(ordered[part].astype(np.float64) - low)

    floor = FLOOR * (sum(float(root(part).sum()) for part in _parts(n)) / n or 1.0)
    total = float(ordered.sum(dtype=np.float64)) - n * low
    most = min(n, max(4 * strata, int(1 / visible) + 1))
    heads = ordered[::-1][:most].astype(np.float64) - low
    weight = np.sqrt(heads) + floor
    mass = floor * n + sum(float(root(part).sum()) for part in _parts(n))
    left = mass - np.concatenate(([0.0], np.cumsum(weight)[:-1]))
    big = (heads > 0) & ((heads >= visible * total) | (weight >= left / strata))
    sure = most if big.all() else int(np.argmin(big))
    # Equal proxies stay together: if there are more like the last one, all of these are left to sampling.
    while 0 < sure < n and ordered[n - sure] == ordered[n - sure - 1]:
        sure -= 1
    top = float(ordered[n - sure]) if sure else None
    rest = _parts(n - sure)
    if not rest:
        return ordered[:0], top
    sums = np.cumsum([float((root(part) + floor).sum()) for part in rest])
    edges = []
    for wanted in sums[-1] * np.arange(1, strata) / strata:
        place = min(int(np.searchsorted(sums, wanted, side="right")), len(rest) - 1)
        inside = np.cumsum(root(rest[place]) + floor) + (sums[place - 1] if place else 0.0)
        at = rest[place].start + min(int(np.searchsorted(inside, wanted, side="right")), len(inside) - 1)
        edges.append(ordered[at])
    return np.unique(np.array(edges, dtype=ordered.dtype)), top


def packed(proxy: npt.NDArray[np.floating[Any]], codes: npt.NDArray[np.uint8], certain: Sequence[int] = ()) -> Strata:
    """Strata of these codes, without the empty ones, numbered from 0."""
    there = np.unique(codes)
    renumber = np.zeros(256, np.uint8)
    renumber[there] = np.arange(len(there))
    codes = renumber[codes]
    small: type[np.integer[Any]] = np.int32 if len(codes) < 2**31 else np.int64
    members = tuple(np.flatnonzero(codes == k).astype(small) for k in range(len(there)))
    sizes = np.array([len(m) for m in members], dtype=np.int64)
    means = np.array([proxy[m].mean(dtype=np.float64) for m in members], dtype=np.float64)
    return Strata(proxy, codes, members, sizes, means, np.isin(there, list(certain)))


class Draws:
    """Rows drawn from strata, each at most once; what is drawn first is a random sample of what is drawn later.

    taken: (K,) rows drawn so far. Each draw costs time in the rows drawn, not in the rows there are. The members of the
    strata are reordered in place: any order of them is as good as any other.
    """

    def __init__(self, strata: Strata, rng: np.random.Generator) -> None:
        self.strata = strata
        self.taken = np.zeros(strata.count, dtype=np.int64)
        self._members = strata.members
        self._rng = rng

    @property
    def total(self) -> int:
        """Rows drawn so far."""
        return int(self.taken.sum())

    def upto(self, want: npt.ArrayLike) -> Ints:
        """New rows, so that want[k] rows of stratum k are drawn in all; stratum by stratum."""
        want = np.asarray(want, dtype=np.int64)
        fresh = [self._more(k, int(want[k])) for k in range(self.strata.count)]
        return np.concatenate(fresh) if fresh else np.zeros(0, np.int64)

    def _more(self, k: int, want: int) -> Ints:
        members, start = self._members[k], int(self.taken[k])
        stop = min(max(want, start), len(members))
        if stop == start:
            return np.zeros(0, np.int64)
        picked = start + self._rng.choice(len(members) - start, stop - start, replace=False, shuffle=False)
        # Bring the picked rows to the front of what is left: those that lie there already stay.
        ahead = np.zeros(stop - start, dtype=bool)
        near = picked < stop
        ahead[picked[near] - start] = True
        free, far = start + np.flatnonzero(~ahead), picked[~near]
        members[free], members[far] = members[far], members[free]
        self.taken[k] = stop
        return members[start:stop].astype(np.int64)
