"""Samples of rows, with the probability by which each row came in.

Every function takes an ``rng`` and gives a `Sample` of positions 0 to n - 1. An estimate of the total of y over all n
rows is then ``(sample.weights * y[sample.indices]).sum()``, unbiased for every y (Horvitz and Thompson 1952; for draws
with replacement Hansen and Hurwitz 1943).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from math import floor, log, log1p
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """Rows that were drawn.

    indices: (m,) positions; ascending and distinct, but for `importance`: in the order drawn, and they may repeat.
    probabilities: (m,) that a row is in the sample; of `importance`, that one draw gives it.
    weights: (m,) how many rows each stands for: their sum has mean n.
    """

    indices: Ints
    probabilities: Floats
    weights: Floats


def uniform(n: int, count: int, rng: np.random.Generator) -> Sample:
    """`count` of n rows, every set of them equally likely; all rows if `count` is n or more."""
    count = _count(n, count)
    return _inverse(np.sort(rng.choice(n, count, replace=False, shuffle=False)), np.full(count, count / max(n, 1)))


def stratified(strata: npt.ArrayLike, counts: npt.ArrayLike, rng: np.random.Generator) -> Sample:
    """So many rows of each stratum, uniformly within it.

    strata: (n,) the stratum of each row, whole numbers from 0. counts: (k,) rows to draw of stratum 0, 1, ... k - 1; a
    stratum with fewer rows is taken whole. A stratum of which no row is drawn is represented by nothing: totals are
    then those of the other strata. `allocate` gives counts.
    """
    groups = np.asarray(strata)
    wanted = np.asarray(counts)
    if groups.ndim != 1 or wanted.ndim != 1:
        raise ValueError("strata and counts must have one dimension")
    if not groups.size:
        return _inverse(np.empty(0, dtype=np.int64), np.empty(0))
    if not np.issubdtype(groups.dtype, np.integer):
        raise ValueError("strata must be whole numbers")
    if not 0 <= groups.min() <= groups.max() < len(wanted):
        raise ValueError(f"strata from {groups.min()} to {groups.max()}, but counts for {len(wanted)}")
    sizes = np.bincount(groups, minlength=len(wanted))
    wanted = np.minimum([_whole(count) for count in wanted.tolist()], sizes).astype(np.int64)
    # The rows in random order, then by stratum: the first ones of each stratum are a uniform sample of it.
    shuffled = rng.permutation(len(groups))
    ordered = shuffled[np.argsort(groups[shuffled], kind="stable")]
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(groups)) - np.repeat(starts, sizes)
    taken = np.sort(ordered[place < np.repeat(wanted, sizes)])
    return _inverse(taken, (wanted / np.maximum(sizes, 1))[groups[taken]])


def allocate(sizes: npt.ArrayLike, deviations: npt.ArrayLike, count: int) -> Ints:
    """How many of `count` rows to draw of each stratum so that a total's variance is least (Neyman 1934).

    sizes: (k,) rows. deviations: (k,) standard deviations of the values, all 0 to share by size. No stratum gets more
    than its rows, and each gets two if it has them and there are enough. Gives whole numbers that sum to
    min(count, rows).
    """
    rows, spread = np.asarray(sizes, dtype=np.int64), _nonnegative(deviations, "deviations")
    if rows.shape != spread.shape or rows.ndim != 1 or (rows < 0).any():
        raise ValueError("sizes and deviations must be arrays (k,) of the same length, sizes 0 or more")
    count = _count(int(rows.sum()), count)
    least = np.minimum(rows, 2) if np.minimum(rows, 2).sum() <= count else np.zeros_like(rows)
    share = inclusion(rows * spread if (rows * spread).any() else rows, count - int(least.sum()), most=rows - least)
    return least + _rounded(share, count - int(least.sum()))


def weighted(weights: npt.ArrayLike, count: int, rng: np.random.Generator) -> Sample:
    """`count` distinct rows, each with a probability in proportion to its weight; exactly so, and exactly as many.

    weights: (n,), 0 or more. Rows so heavy that the proportion would exceed 1 are taken with certainty. Rows of weight
    0 are never drawn: give them a little, or totals miss them. Fewer rows come back only if fewer have a weight.

    Systematic sampling in random order (Madow 1949, after Goodman and Kish 1950): the probability of each row is exact,
    which successive draws (``rng.choice`` with ``p``) do not give.
    """
    chances = inclusion(_nonnegative(weights, "weights"), count)
    order = rng.permutation(len(chances))
    reached = np.cumsum(chances[order])
    total = round(float(reached[-1])) if len(reached) else 0
    if not total:
        return _inverse(np.empty(0, dtype=np.int64), np.empty(0))
    ticks = np.arange(total) + rng.random()
    taken = np.sort(order[np.minimum(np.searchsorted(reached, ticks, side="right"), len(order) - 1)])
    return _inverse(taken, chances[taken])


def inclusion(weights: npt.ArrayLike, count: int, *, most: npt.ArrayLike = 1.0) -> Floats:
    """Shares in proportion to the weights that sum to `count`, none above `most`; (n,).

    The part that would exceed `most` goes to the other rows. Where all rows with a weight are full, the sum is less.
    """
    weight = _nonnegative(weights, "weights")
    cap = np.where(weight > 0, np.broadcast_to(np.asarray(most, dtype=np.float64), weight.shape), 0.0)
    share = np.zeros_like(weight)
    free = weight > 0
    left = min(float(_whole(count)), float(cap.sum()))
    while free.any() and left > 0:
        trial = np.where(free, weight * (left / weight[free].sum()), 0.0)
        full = free & (trial >= cap)
        if not full.any():
            return share + trial
        share[full] = cap[full]
        left -= float(cap[full].sum())
        free &= ~full
    return share


def importance(weights: npt.ArrayLike, count: int, rng: np.random.Generator) -> Sample:
    """`count` independent draws with replacement, each giving a row in proportion to its weight.

    weights: (n,), 0 or more, not all 0. A row drawn twice appears twice; its label is needed once.
    """
    weight = _nonnegative(weights, "weights")
    reached = np.cumsum(weight)
    if not len(weight) or reached[-1] <= 0:
        raise ValueError("no row has a weight above 0")
    last = int(np.flatnonzero(weight)[-1])
    drawn = np.searchsorted(reached, rng.random(_whole(count)) * reached[-1], side="right")
    indices = np.minimum(drawn, last).astype(np.int64)
    chance = weight[indices] / reached[-1]
    return Sample(indices, chance, 1 / (max(len(indices), 1) * chance))


def reservoir(stream: Iterable[T], count: int, rng: np.random.Generator) -> tuple[list[T], Sample]:
    """`count` items of a stream whose length nobody knows, every set of them equally likely, in one pass.

    Gives the items, and where in the stream they were. Keeps `count` items and skips the others unseen by the
    generator (algorithm L; Li 1994).
    """
    count = _whole(count)
    items = iter(stream)
    kept = list(islice(items, count))
    places = np.arange(len(kept), dtype=np.int64)
    seen, scarcity = len(kept), 1.0

    def skipped() -> int:
        """Items until the next that is kept."""
        nonlocal scarcity
        scarcity *= (1 - rng.random()) ** (1 / max(count, 1))
        return floor(log(1 - rng.random()) / log1p(-scarcity)) if 0 < scarcity < 1 else 0

    following = seen + skipped()
    for place, item in enumerate(items, start=seen):
        if count and place == following:
            slot = int(rng.integers(count))
            kept[slot], places[slot] = item, place
            following += 1 + skipped()
        seen = place + 1
    order = np.argsort(places)
    return [kept[i] for i in order], _inverse(places[order], np.full(len(kept), len(kept) / max(seen, 1)))


def _inverse(indices: Ints, probabilities: Floats) -> Sample:
    return Sample(indices.astype(np.int64), probabilities, 1 / probabilities)


def _rounded(share: Floats, total: int) -> Ints:
    """Whole numbers near the shares, by largest remainder, that sum to `total`."""
    whole = np.floor(share + 1e-9).astype(np.int64)
    short = min(total, round(float(share.sum()))) - int(whole.sum())
    whole[np.argsort(whole - share, kind="stable")[: max(short, 0)]] += 1
    return whole


def _count(n: int, count: int) -> int:
    if n < 0:
        raise ValueError(f"there cannot be {n} rows")
    return min(_whole(count), n)


def _whole(count: float) -> int:
    if count != int(count) or count < 0:
        raise ValueError(f"a number of rows to draw must be whole, 0 or more, not {count}")
    return int(count)


def _nonnegative(values: npt.ArrayLike, what: str) -> Floats:
    given = np.asarray(values, dtype=np.float64)
    if given.ndim != 1:
        raise ValueError(f"{what} must have one dimension, not {given.ndim}")
    if not np.isfinite(given).all() or (given < 0).any():
        raise ValueError(f"{what} must be finite and 0 or more")
    return given
