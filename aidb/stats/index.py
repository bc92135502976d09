"""A semantic index: a few representatives of many embeddings, and each item's nearest ones.

What is known of the representatives is spread to all items, as a proxy for any question (Kang et al., TASTI, SIGMOD 2022).
Time is O(n m d) for n items, m representatives and d dimensions, once; memory O(n) beside the embeddings, which may be a
`numpy.memmap`: the n x m distances are never held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Singles: TypeAlias = npt.NDArray[np.float32]
Vectors: TypeAlias = npt.NDArray[np.floating]

_SAMPLE = 50
"""Items looked at for each representative that is chosen: farthest points of a sample are far points of the whole."""
_CELLS = 8_000_000
"""Numbers in one block of distances: 32 MB."""


@dataclass(frozen=True)
class Index:
    """Representatives of n items.

    representatives: (m,) item numbers, distinct, in the order they were chosen. nearest: (n, neighbours), for each item
    the numbers *among the representatives* (0 to m - 1) of the nearest, nearest first. distances: beside them, Euclidean.
    Where there are fewer, and for an item whose embedding is not finite: -1 and infinity.
    """

    representatives: Ints
    nearest: npt.NDArray[np.int32]
    distances: Singles

    def propagate(self, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What the representatives' values say of every item.

        values: (m,) or (m, c), beside `representatives`; NaN for one that has none. Returns (n,) or (n, c): the mean of
        the neighbours' values, weighted by the sum of their distances less each one's own; a representative has its own
        value. NaN where no neighbour has one.
        """
        given = np.asarray(values, dtype=np.float64)
        if given.shape[:1] != self.representatives.shape or given.ndim > 2:
            raise ValueError(f"one value for each of {len(self.representatives)} representatives, not {given.shape}")
        columns = given[:, None] if given.ndim == 1 else given
        spread = np.empty((len(self.nearest), columns.shape[1]))
        for part in _blocks(len(spread), self.nearest.shape[1] * columns.shape[1]):
            spread[part] = _mean(columns, self.nearest[part], self.distances[part])
        spread[self.representatives] = np.where(np.isnan(columns), spread[self.representatives], columns)
        return spread[:, 0] if given.ndim == 1 else spread

    def vote(self, labels: npt.ArrayLike) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
        """The likeliest label of every item, and the share of its neighbours' weight that is for it.

        labels: (m,), of any type that sorts. An item without neighbours gets the most frequent label, its share NaN.
        """
        kinds, code, times = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
        shares = self.propagate(np.eye(len(kinds))[code])
        lost = np.isnan(shares[:, 0])
        best = np.where(lost, times.argmax(), np.nan_to_num(shares).argmax(axis=1))
        return kinds[best], np.take_along_axis(shares, best[:, None], axis=1)[:, 0]

    def crack(self, embeddings: Vectors, items: npt.ArrayLike) -> Index:
        """The index with more representatives: every item that was answered anyway makes it better, for nothing.

        embeddings: those it was built from. items: numbers; representatives among them, and items whose embedding is not
        finite, are passed over. Only distances to the new ones are computed.
        """
        new = np.setdiff1d(np.asarray(items, dtype=np.int64), self.representatives)
        new = new[np.isfinite(embeddings[new]).all(axis=1)]
        if not len(new):
            return self
        number, apart = _assign(embeddings, new, self.nearest.shape[1])
        number = np.where(number < 0, -1, number + len(self.representatives)).astype(np.int32)
        number, apart = np.hstack([self.nearest, number]), np.hstack([self.distances, apart])
        best = np.argsort(apart, axis=1, kind="stable")[:, : self.nearest.shape[1]]
        return Index(
            np.concatenate([self.representatives, new]),
            np.take_along_axis(number, best, axis=1),
            np.take_along_axis(apart, best, axis=1),
        )


def build(
    embeddings: Vectors,
    m: int,
    *,
    neighbours: int = 5,
    method: str = "farthest",
    share: float = 0.75,
    known: npt.ArrayLike | None = None,
    rng: np.random.Generator,
) -> Index:
    """An index of m representatives, all items if there are no more.

    embeddings: (n, d); rows that are not finite are left out. method: "farthest" takes each time the point farthest from
    those chosen, which finds what is unusual; "means" the points nearest to the centres of k-means, which covers the bulk.
    share: of the representatives so chosen; the others are random, which guards against outliers. known: items that are
    answered already: representatives in any case, beyond the m.
    """
    if np.ndim(embeddings) != 2:
        raise ValueError(f"embeddings must be rows of numbers, (n, d), not of shape {np.shape(embeddings)}")
    if m < 0 or neighbours < 1 or not 0 <= share <= 1:
        raise ValueError("m can't be negative, neighbours must be at least 1, share lies between 0 and 1")
    if method not in _METHODS:
        raise ValueError(f"method {method!r}: there is {' and '.join(_METHODS)}")
    first = np.unique(np.asarray([] if known is None else known, dtype=np.int64))
    first = first[np.isfinite(embeddings[first]).all(axis=1)]
    usable = np.setdiff1d(_finite(embeddings), first)
    m = min(m, len(usable))
    drawn = rng.permutation(usable)[: max(m, min(len(usable), _SAMPLE * m))]
    random, rest = np.split(drawn, [m - round(share * m)])
    start = np.concatenate([first, random])
    chosen = _METHODS[method](_rows(embeddings, rest), _rows(embeddings, start), m - len(random), rng)
    representatives = np.concatenate([start, rest[chosen]])
    return Index(representatives, *_assign(embeddings, representatives, neighbours))


def _farthest(points: Singles, start: Singles, count: int, rng: np.random.Generator) -> Ints:
    """Gonzalez's rule: each next point is the farthest from all before it. O(points) memory and time for each."""
    squares = np.einsum("ij,ij->i", points, points)
    closest = np.full(len(points), np.inf, dtype=np.float32)
    for part in _blocks(len(points), max(1, len(start))):
        if len(start):
            closest[part] = _squared(points[part], start).min(axis=1)
    chosen = np.empty(count, dtype=np.int64)
    for i in range(count):
        first = not i and not len(start)
        chosen[i] = rng.integers(len(points)) if first else closest.argmax()
        point = points[chosen[i]]
        np.minimum(closest, squares - 2 * (points @ point) + point @ point, out=closest)
        closest[chosen[: i + 1]] = -1.0  # rounding must not choose a point twice
    return chosen


def _means(points: Singles, start: Singles, count: int, rng: np.random.Generator) -> Ints:
    """Lloyd's iteration from random points, then the point nearest to each centre, none twice."""
    del start  # centres need not keep away from it
    if not count:
        return np.empty(0, dtype=np.int64)
    centres = points[rng.choice(len(points), count, replace=False)]
    for _ in range(10):
        owner = np.concatenate([_squared(points[p], centres).argmin(axis=1) for p in _blocks(len(points), count)])
        order = np.argsort(owner, kind="stable")
        kinds, begin = np.unique(owner[order], return_index=True)
        centres[kinds] = np.add.reduceat(points[order], begin) / np.diff(begin, append=len(order))[:, None]
    free = np.ones(len(points), dtype=np.bool_)
    chosen = np.empty(count, dtype=np.int64)
    for i, centre in enumerate(centres):
        distance = _squared(points, centre[None, :])[:, 0]
        chosen[i] = np.where(free, distance, np.inf).argmin()
        free[chosen[i]] = False
    return chosen


_METHODS: dict[str, Callable[[Singles, Singles, int, np.random.Generator], Ints]] = {
    "farthest": _farthest,
    "means": _means,
}


def _assign(embeddings: Vectors, representatives: Ints, neighbours: int) -> tuple[npt.NDArray[np.int32], Singles]:
    """The nearest representatives of every item, in one pass over the embeddings."""
    n, width = len(embeddings), min(neighbours, len(representatives))
    nearest = np.full((n, neighbours), -1, dtype=np.int32)
    distances = np.full((n, neighbours), np.inf, dtype=np.float32)
    if not width:
        return nearest, distances
    centres = _rows(embeddings, representatives)
    d = centres.shape[1]
    for part in _blocks(n, max(len(centres), neighbours * d)):
        rows = np.asarray(embeddings[part], dtype=np.float32)
        fine = np.isfinite(rows).all(axis=1, keepdims=True)
        rows = np.where(fine, rows, 0)
        best = np.argpartition(_squared(rows, centres), width - 1, axis=1)[:, :width]
        # The product of matrices finds them, but loses digits where two points are close.
        apart = np.linalg.norm(rows[:, None, :] - centres[best], axis=2)
        order = np.argsort(apart, axis=1, kind="stable")
        nearest[part, :width] = np.where(fine, np.take_along_axis(best, order, axis=1), -1)
        distances[part, :width] = np.where(fine, np.take_along_axis(apart, order, axis=1), np.inf)
    return nearest, distances


def _mean(
    columns: npt.NDArray[np.float64], nearest: npt.NDArray[np.int32], distances: Singles
) -> npt.NDArray[np.float64]:
    if not len(columns):
        return np.full((len(nearest), columns.shape[1]), np.nan)
    values = columns[nearest]
    there = (nearest >= 0)[:, :, None] & ~np.isnan(values)
    apart = np.where(there, distances[:, :, None], 0.0)
    weights = np.where(there, apart.sum(axis=1, keepdims=True) - apart, 0.0)
    # One neighbour, or all at distance 0: they count alike.
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, there)
    total = weights.sum(axis=1)
    weighted = (weights * np.where(there, values, 0.0)).sum(axis=1)
    mean: npt.NDArray[np.float64] = np.divide(weighted, total, out=np.full_like(total, np.nan), where=total > 0)
    return mean


def _squared(rows: Singles, centres: Singles) -> Singles:
    """Squared distances, (rows, centres), by one product of matrices."""
    squared: Singles = rows @ centres.T
    squared *= -2.0
    squared += np.einsum("ij,ij->i", rows, rows)[:, None]
    squared += np.einsum("ij,ij->i", centres, centres)
    np.maximum(squared, 0.0, out=squared)
    return squared


def _rows(embeddings: Vectors, items: Ints) -> Singles:
    return np.asarray(embeddings[items], dtype=np.float32)


def _finite(embeddings: Vectors) -> Ints:
    """The items all of whose numbers are finite, found block by block."""
    d = max(1, np.shape(embeddings)[1])
    fine = [np.isfinite(embeddings[part]).all(axis=1) for part in _blocks(len(embeddings), d)]
    found: Ints = np.flatnonzero(np.concatenate(fine)) if fine else np.empty(0, dtype=np.int64)
    return found


def _blocks(n: int, width: int) -> Iterator[slice]:
    """Slices of n rows that hold few enough numbers at the given width."""
    step = max(1, _CELLS // max(1, width))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))
