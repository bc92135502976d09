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
    rise = ordered.astype(np.float64) - float(low)
    weight = np.sqrt(rise)
    weight += FLOOR * (weight.mean() or 1.0)
    sure = _sure(rise, weight, visible, strata)
    mass = np.cumsum(weight[: len(ordered) - sure])
    if len(mass):
        at = np.searchsorted(mass, mass[-1] * np.arange(1, strata) / strata, side="right")
        edges = np.unique(ordered[np.minimum(at, len(mass) - 1)])
    else:
        edges = ordered[:0]
    codes = np.searchsorted(edges, proxy, side="right").astype(np.uint8)
    last = len(edges)
    certain: tuple[int, ...] = ()
    if sure:
        codes[proxy >= ordered[len(ordered) - sure]] = last + 1
        certain = (last + 1,)
    if missing.any():
        codes[missing] = last + 2
        proxy[missing] = 0
    return packed(proxy, codes, certain)


def _sure(rise: Floats, weight: Floats, visible: float, strata: int) -> int:
    """How many of the largest rows to take with certainty; whole groups of equal proxy, at most one stratum's worth."""
    total = rise.sum()
    most = min(len(rise), max(4 * strata, int(1 / visible) + 1))
    top = rise[::-1][:most]
    left = weight.sum() - np.concatenate(([0.0], np.cumsum(weight[::-1][:most])[:-1]))
    big = ((top >= visible * total) & (top > 0)) | ((weight[::-1][:most] >= left / strata) & (top > 0))
    count = int(np.argmin(big)) if not big.all() else most
    # Equal proxies stay together: if the group of the last one goes on, the whole group is left to sampling.
    while 0 < count < len(rise) and rise[len(rise) - count] == rise[len(rise) - count - 1]:
        count -= 1
    return count


def packed(proxy: npt.NDArray[np.floating[Any]], codes: npt.NDArray[np.uint8], certain: Sequence[int] = ()) -> Strata:
    """Strata of these codes, without the empty ones, numbered from 0."""
    there = np.unique(codes)
    renumber = np.zeros(256, np.uint8)
    renumber[there] = np.arange(len(there))
    codes = renumber[codes]
    small: type[np.integer[Any]] = np.int32 if len(codes) < 2**31 else np.int64
    members = tuple(np.flatnonzero(codes == k).astype(small) for k in range(len(there)))
    sizes = np.array([len(m) for m in members], dtype=np.int64)
    sums = np.bincount(codes, proxy, minlength=len(there))
    return Strata(proxy, codes, members, sizes, sums / np.maximum(sizes, 1), np.isin(there, list(certain)))


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
