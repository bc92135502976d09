"""Where to look next: four ways to choose items that may match, each with a record of how well it did."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import deque

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from aidb.stats.line import Bools, Floats, Ints, Line

_MEMORY = 8
"""Hits that a record looks back on. Counted in hits, not calls, so that it fits rare matches and common ones."""
_OCTAVES = 12
_NONE: Ints = np.empty(0, dtype=np.int64)


class Record:
    """How often calls have hit lately: the calls between the last hits, and since."""

    def __init__(self) -> None:
        self._runs: deque[int] = deque(maxlen=_MEMORY)
        self._dry = 0

    def add(self, hits: Bools) -> None:
        """Calls in turn."""
        at = np.flatnonzero(hits)
        if not len(at):
            self._dry += len(hits)
            return
        self._runs.extend(np.diff(at, prepend=-1 - self._dry).tolist())
        self._dry = len(hits) - 1 - int(at[-1])

    @property
    def hits(self) -> int:
        """How many it looks back on."""
        return len(self._runs)

    @property
    def calls(self) -> int:
        """In how many calls they came."""
        return sum(self._runs) + self._dry


class Order(ABC):
    """A way to choose items.

    prior: hits that it is trusted with before it has had one. patience: misses that halve this trust; an order that has
    found nothing must not hold up the others for long, nor be given up before matches that are rare could show.
    """

    prior: float = 0.1
    patience: float = np.inf

    def __init__(self, line: Line) -> None:
        self.line = line
        self.exhausted = False
        self.record = Record()

    @abstractmethod
    def take(self, count: int) -> Ints:
        """Up to `count` open places, best first; they are closed. Fewer means that there are none for the moment."""

    def learn(self, places: Ints, hits: Bools, own: bool) -> None:  # noqa: B027 (many orders have nothing to learn)
        """What was found at places that this order (own) or another one chose."""

    @property
    def belief(self) -> tuple[float, float]:
        """Hits and calls behind its next choice, the prior included: shape and rate of a gamma distribution."""
        return self.trust(self.record) + self.record.hits, 1.0 + self.record.calls

    def trust(self, record: Record) -> float:
        """What is left of the prior."""
        return self.prior if record.hits else self.prior / (1.0 + record.calls / self.patience)

    @property
    def ready(self) -> bool:
        """Has it anything to propose?"""
        return not self.exhausted


class Ranked(Order):
    """The items by falling score of a proxy."""

    prior, patience = 0.3, 30.0

    def __init__(self, line: Line, best: Ints) -> None:
        super().__init__(line)
        self._ranking = best
        self._next = 0

    def take(self, count: int) -> Ints:
        """The best that are open; with a gap, none within the gap of another of them."""
        found: Ints = np.empty(0, dtype=np.int64)
        wide = count if self.line.gap is None else 20 * count
        stop = self._next
        while len(found) < wide and stop < self.line.n:
            ahead = self._ranking[stop : stop + 4 * wide + 64]
            stop += len(ahead)
            found = np.concatenate([found, ahead[self.line.open[ahead]]])
        chosen = self.line.apart(found[:wide], count)
        self.line.close(chosen)
        while self._next < self.line.n and not self.line.open[self._ranking[self._next]]:
            self._next += 1
        self.exhausted = self._next == self.line.n
        return chosen


def ranking(scores: Floats, rng: np.random.Generator) -> Ints:
    """Numbers from the highest score to the lowest, NaN last, ties in random order."""
    shuffled = rng.permutation(len(scores))
    keys = np.where(np.isnan(scores), np.inf, -scores)[shuffled]
    order: Ints = shuffled[np.argsort(keys, kind="stable")]
    return order


class Parts(Order):
    """Random items, more of them from parts of the table that have held more matches.

    Thompson sampling over parts (Moll et al., ExSample, ICDE 2022, who take stretches of a video), with one change: how
    unequal the parts are is learnt as well. Their rates are taken as gamma distributed around the common rate with shape
    a; a is drawn from its posterior over a grid. If matches are spread evenly, this is a random order.

    parts: (n,), by place, the part's number. Only its own draws are random within a part, so it learns from no others.
    """

    prior = 0.1
    _SHAPES = np.array([0.1, 0.3, 1.0, 3.0, 30.0])

    def __init__(self, line: Line, parts: npt.NDArray[np.integer], rng: np.random.Generator) -> None:
        super().__init__(line)
        self._rng = rng
        self._part = parts.astype(np.int16)  # short numbers are sorted in linear time
        shuffled = rng.permutation(line.n)
        self._members = shuffled[np.argsort(self._part[shuffled], kind="stable")]
        sizes = np.bincount(self._part, minlength=1)
        self._end = np.cumsum(sizes)
        self._next = self._end - sizes
        self._hits = np.zeros(len(sizes))
        self._calls = np.zeros(len(sizes))

    def take(self, count: int) -> Ints:
        """Random open items of parts drawn by what they have held."""
        chosen: list[Ints] = [_NONE]
        missing = min(count, self.line.left)
        while missing and not self.exhausted:
            wanted = np.bincount(self._draw(missing), minlength=len(self._hits))
            for part in np.flatnonzero(wanted):
                places = self._from(int(part), int(wanted[part]))
                chosen.append(places)
                missing -= len(places)
            self.exhausted = bool((self._next == self._end).all())
        return self._rng.permutation(np.concatenate(chosen))

    def learn(self, places: Ints, hits: Bools, own: bool) -> None:
        """Only what was drawn at random says how rich a part is."""
        if own:
            np.add.at(self._calls, self._part[places], 1.0)
            np.add.at(self._hits, self._part[places], hits.astype(np.float64))

    def _draw(self, count: int) -> Ints:
        rate = (self._hits.sum() + 0.5) / (self._calls.sum() + 1.0)
        a = self._SHAPES[:, None]
        b = a / rate
        evidence = gammaln(self._hits + a) - gammaln(a) + a * np.log(b) - (self._hits + a) * np.log(self._calls + b)
        weights = evidence.sum(axis=1)
        weights = np.exp(weights - weights.max())
        shape = self._rng.choice(self._SHAPES, size=(min(count, 256), 1), p=weights / weights.sum())
        rates = self._rng.standard_gamma(self._hits + shape) / (self._calls + shape / rate)
        rates[:, self._next == self._end] = -1.0
        drawn: Ints = np.resize(rates.argmax(axis=1), count)
        return drawn

    def _from(self, part: int, count: int) -> Ints:
        found = [_NONE]
        at, end = int(self._next[part]), int(self._end[part])
        while at < end and count:
            ahead = self._members[at : min(end, at + count)]
            at += len(ahead)
            found.append(ahead[self.line.open[ahead]])
            count -= len(found[-1])
        self._next[part] = at
        places = np.concatenate(found)
        self.line.close(places)
        return places


class Beside(Order):
    """The neighbours of matches, outwards from each as long as they match: what is in a picture is in the next one.

    A way ends at the second miss in a row, so that in a shuffled table no more than four calls a match are lost.
    """

    prior = 0.3
    _PATIENCE = 2

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self._ways: list[tuple[int, int, int, int, int]] = []  # misses, -streak, number, next place, direction
        self._made = 0
        self._under_way: list[tuple[tuple[int, int, int, int, int], list[int]]] = []

    @property
    def ready(self) -> bool:
        """Is there a match whose neighbour is open?"""
        return bool(self._ways)

    def take(self, count: int) -> Ints:
        """The next neighbours, more at once on ways that have matched longer."""
        chosen: list[int] = []
        self._under_way = []
        while self._ways and len(chosen) < count:
            way = heapq.heappop(self._ways)
            _, streak, _, place, direction = way
            run: list[int] = []
            for _ in range(min(1 - streak, count - len(chosen))):
                if not self.line.together(place - direction, place) or not self.line.open[place]:
                    break
                run.append(place)
                place += direction
            if run:
                self._under_way.append((way, run))
                chosen += run
                self.line.close(np.array(run, dtype=np.int64))
        return np.array(chosen, dtype=np.int64)

    def learn(self, places: Ints, hits: Bools, own: bool) -> None:
        """Go on where it matched; begin two ways at every match that another order found."""
        if not own:
            for place in places[hits].tolist():
                self._push(0, 0, place - 1, -1)
                self._push(0, 0, place + 1, +1)
            return
        found = dict(zip(places.tolist(), hits.tolist(), strict=True))
        for (misses, streak, _, _, direction), run in self._under_way:
            for place in run:
                misses, streak = (0, streak - 1) if found[place] else (misses + 1, 0)
            if misses < self._PATIENCE:
                self._push(misses, streak, run[-1] + direction, direction)
        self._under_way = []

    def _push(self, misses: int, streak: int, place: int, direction: int) -> None:
        if self.line.together(place - direction, place) and self.line.open[place]:
            self._made += 1
            heapq.heappush(self._ways, (misses, streak, self._made, place, direction))


class Similar(Order):
    """Items whose embeddings resemble those of matches, and before there is one, items unlike all that were asked.

    The expected hit rate of an item is a kernel estimate with a prior, (p + sum K y) / (1 + sum K), K Gaussian over
    Euclidean distance, its width the median distance to the tenth neighbour; p is the prior of its proxy rank, or small.
    Greedy. In a large table a random part is watched, with the proxy's best and the nearest neighbours of every match.

    embeddings: (n, d), by item; rows that are not finite are left to the other orders.
    """

    prior, patience = 0.3, 100.0
    _POOL, _BEST, _NEAREST, _TENTH = 20_000, 5_000, 200, 10
    _FOREIGN = 2_000

    def __init__(
        self, line: Line, embeddings: npt.NDArray[np.floating], best: Ints | None, rng: np.random.Generator
    ) -> None:
        super().__init__(line)
        self._embeddings = embeddings
        prior = np.full(line.n, 1e-3, dtype=np.float32)
        self._in_part = line.n > self._POOL + self._BEST
        pool = rng.choice(line.n, self._POOL, replace=False) if self._in_part else np.arange(line.n)
        if best is not None:
            prior[best] = np.minimum(0.5, 1e-3 * np.sqrt(line.n / np.arange(1.0, line.n + 1.0)))
            pool = np.union1d(pool, best[: self._BEST])
        self._prior = prior
        self._foreign = 0
        self._records = [Record() for _ in range(_OCTAVES)]
        self._taken: list[int] = []
        self._kept, self._promised = 0, 0.0
        self._places: Ints = np.empty(0, dtype=np.int64)
        self._watched: Bools = np.zeros(line.n, dtype=np.bool_)
        self._vectors = np.empty((0, embeddings.shape[1]), dtype=np.float32)
        self._squares = np.empty(0, dtype=np.float32)
        self._yes = np.empty(0, dtype=np.float32)
        self._all = np.empty(0, dtype=np.float32)
        self._watch(rng.permutation(pool))
        self._width = self._typical_distance(rng)
        self._best()

    @property
    def belief(self) -> tuple[float, float]:
        """By the record of choices of which as much was expected.

        The expectation itself counts as two calls, discounted by how far expectations have come true.
        """
        record = self._records[_octave(self._expected)]
        expected = self._expected * min(1.0, (1.0 + self._kept) / (1.0 + self._promised))
        return self.trust(self.record) + 2 * expected + record.hits, 2.0 + record.calls

    def take(self, count: int) -> Ints:
        """One after the other the best; each is taken for a miss until its label is there, so that a batch spreads."""
        chosen: list[int] = []
        self._taken = []
        while len(chosen) < count and not self.exhausted:
            i = self._best()
            if i >= 0:
                chosen.append(int(self._places[i]))
                self._taken.append(_octave(self._expected))
                self._promised += self._expected
                self.line.close(self._places[i : i + 1])
                self._all += self._kernel(self._vectors[i])
        return np.array(chosen, dtype=np.int64)

    def learn(self, places: Ints, hits: Bools, own: bool) -> None:
        """Weigh in labels, and watch what lies nearest to new matches."""
        if own:
            self._kept += int(hits.sum())
            for octave, hit in zip(self._taken, hits, strict=True):
                self._records[octave].add(np.array([hit]))
            self._taken = []
        elif self._foreign < self._FOREIGN:  # later ones tell little, and each costs a pass over the pool
            self._foreign += len(places)
            for vector in self._rows(places):
                self._all += self._kernel(vector)
        matches = self._rows(places[hits])
        if self._in_part:
            for start in range(0, len(matches), 16):
                self._watch_near(matches[start : start + 16])
        for vector in matches:
            self._yes += self._kernel(vector)
        self._best()

    def _best(self) -> int:
        """The number in the pool of the likeliest item that is open, -1 if none is."""
        mean = self._yes / self._all
        mean[~self.line.open[self._places]] = -1.0
        best = int(mean.argmax()) if len(mean) else -1
        self.exhausted = best < 0 or bool(mean[best] < 0)
        self._expected = 0.0 if self.exhausted else float(mean[best])
        return -1 if self.exhausted else best

    def _rows(self, places: Ints) -> npt.NDArray[np.float32]:
        rows = np.asarray(self._embeddings[self.line.items[places]], dtype=np.float32)
        return rows[np.isfinite(rows).all(axis=1)]

    def _kernel(self, vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        squared = np.maximum(self._squares - 2 * (self._vectors @ vector) + vector @ vector, 0)
        near: npt.NDArray[np.float32] = np.exp(squared * np.float32(-0.5 / self._width**2))
        return near

    def _watch(self, places: Ints) -> None:
        places = places[~self._watched[places] & self.line.open[places]]
        rows = np.asarray(self._embeddings[self.line.items[places]], dtype=np.float32)
        fine = np.isfinite(rows).all(axis=1)
        places, rows = places[fine], rows[fine]
        self._watched[places] = True
        self._places = np.concatenate([self._places, places])
        self._vectors = np.concatenate([self._vectors, rows])
        self._squares = np.concatenate([self._squares, np.einsum("ij,ij->i", rows, rows)])
        self._yes = np.concatenate([self._yes, self._prior[places]])
        self._all = np.concatenate([self._all, np.ones(len(places), dtype=np.float32)])

    def _watch_near(self, matches: npt.NDArray[np.float32]) -> None:
        """Add the nearest neighbours of matches to the pool, in one pass over the embeddings."""
        distances = np.empty((len(matches), self.line.n), dtype=np.float32)
        for start in range(0, self.line.n, 65_536):
            rows = np.asarray(self._embeddings[start : start + 65_536], dtype=np.float32)
            squares = np.einsum("ij,ij->i", rows, rows)
            distances[:, start : start + 65_536] = squares - 2 * (matches @ rows.T)
        distances[np.isnan(distances)] = np.inf
        nearest = [np.argpartition(row, self._NEAREST)[: self._NEAREST] for row in distances]
        self._watch(np.unique(self.line.places[np.concatenate(nearest)]))

    def _typical_distance(self, rng: np.random.Generator) -> float:
        m = len(self._places)
        some = rng.choice(m, min(400, m), replace=False)
        squared = self._squares[some, None] - 2 * (self._vectors[some] @ self._vectors.T) + self._squares
        tenth = np.partition(np.maximum(squared, 0), min(self._TENTH, m - 1), axis=1)[:, min(self._TENTH, m - 1)]
        positive = tenth[tenth > 1e-6 * max(float(self._squares.max(initial=0.0)), 1e-30)]
        return float(np.sqrt(np.median(positive))) if len(positive) else 1.0


def _octave(expected: float) -> int:
    """Hit rates that differ by less than about a factor of two fall together."""
    return min(_OCTAVES - 1, int(-np.log2(max(expected, 1e-9))))
