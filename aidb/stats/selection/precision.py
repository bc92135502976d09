"""A precision target with few labels: certify a pure head by a sample, spend the other labels below it.

Every label spent below the head makes the answer one row deeper, and so does every row of the head that needs no label.
Known positives are returned too and make room for misses: of `size` rows of a head and L positives known outside it,
(1 - precision) * (size + L) may be negative. So:

1. A *pilot* of a few labels among the rows that would be labelled anyway (and below them, as long as these are nearly
   all positive) says how the positives thin out with the rank, and how large a head is worth its test.
2. The rows below the largest such head are labelled: their positives make room.
3. `pure_head` tests heads from small to large on one random order of the rows, as long as a larger head promises to
   save more labels than its test costs, and stops at the first that is not certified.
4. What is left of the labels goes to the best unlabelled rows below the head. Room that remains is given to the next
   unlabelled rows, where matches are still likely.

Guarantee, exact: with probability 1 - delta the precision of the answer is at least the target, over the random order
alone, for every table and every score. The proof is with `pure_head`. If no head is certified, all that is returned is
known to be positive or paid for by the room that known positives make.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log

import numpy as np
from scipy.special import betaln, expit, gammaln

from aidb.stats.selection.population import UNKNOWN, YES, Floats, Ints, Population
from aidb.stats.selection.result import Chosen

TRUST = 20.0
"""How many draws the pilot's guess of a head's rate weighs in the test."""
FIRST_SHARE = 0.5
"""Share of the labels that is at least spent below the head before it is tested."""


@dataclass(frozen=True)
class Head:
    """The best `size` of the rows. wrong: at most so many of those that are still unlabelled are negative."""

    size: int
    wrong: int


def precision(population: Population, precision: float, delta: float, rng: np.random.Generator) -> Chosen:
    """A cut such that at least `precision` of what is returned is positive, with probability 1 - delta.

    Spends all labels that are left, those that are not needed for the guarantee on finding more positives.
    """
    rows = population.unknown()
    budget = population.left
    curve = _pilot(population, rows, rng)
    rows = population.unknown()
    largest = _worth(curve, len(rows), population.left, len(population.positives()), precision, delta)
    head = Head(0, 0)
    if largest:
        below = max(
            population.left - largest, int(min(1, largest / population.left - 0.5) * FIRST_SHARE * population.left), 0
        )
        population.ask(rows[largest : largest + below])
        head = pure_head(population, rows, steps_to(largest), curve, precision, delta, rng)
    fill = rows[head.size :]
    fill = fill[population.labels[fill] == UNKNOWN]
    population.ask(fill[: population.left])
    cut = _with_room(population, rows, head, precision)
    returned = len(population.unknown(0, cut)) + len(population.positives())
    sure = returned - _wrong(population, rows, head, cut)
    notes = (f"{budget} labels bought", f"{head.size} rows certified as a head") if head.size else ()
    return Chosen(
        cut,
        "guaranteed",
        "head" if head.size else "top",
        certified_precision=sure / returned if returned else 1.0,
        notes=notes,
    )


def pure_head(
    population: Population,
    rows: Ints,
    steps: Ints,
    curve: Curve,
    precision: float,
    delta: float,
    rng: np.random.Generator,
) -> Head:
    """The largest head that a sample certifies and that saves more labels than its test costs.

    rows: ranks that nothing was known of when `steps`, the sizes to be tested, ascending, were chosen; labels
    bought since then may not lie among the first `steps[-1]` of them.

    For a head of `size` rows with M negatives (failed rows among them), let room = (1 - precision) (size + L), with L
    the positives known outside of it. Its test draws the head's rows in a random order. For every m, the ratio of a
    Beta mixture's likelihood of the labels so far to that of a head with m negatives is a martingale if M = m (draws
    without replacement; Waudby-Smith and Ramdas 2020, "Confidence sequences for sampling without replacement"), so
    that it ever reaches 1 / delta with a probability of delta at most (Ville). A head is certified once that has
    happened for every m > room.

    No correction for the number of heads: let the first bad head be the smallest with M > (1 - precision) (size + all
    positives outside of it), which is fixed before anything is drawn. A bad head can only be returned if that one was
    certified, as each is only tested after the ones before it; and that takes a false rejection of m = M. The head
    stays good as labels are added: negatives leave the answer, positives stay in it.
    """
    test = _Test(population, rows, int(steps[-1]), curve, precision, delta, rng)
    passed = -1
    while True:
        while passed + 1 < len(steps) and test.passes(int(steps[passed + 1])):
            passed += 1
        done = int(steps[passed]) if passed >= 0 else 0
        best, gain = None, 0.0
        for size in steps[passed + 1 :]:
            wanted = test.wanted(int(size))
            if wanted is not None and size - done - wanted > gain and 0 < wanted <= population.left:
                best, gain, count = int(size), size - done - wanted, wanted
        if best is None:
            return Head(done, test.most_wrong(done)) if done else Head(0, 0)
        test.draw(best, min(count, max(12, ceil(count / 2)), population.left))


class _Test:
    """The tests of all heads, on one random order of the rows of the largest."""

    def __init__(
        self,
        population: Population,
        rows: Ints,
        largest: int,
        curve: Curve,
        precision: float,
        delta: float,
        rng: np.random.Generator,
    ) -> None:
        self.population = population
        self.rows = rows
        self.order = rng.permutation(largest)
        self.orders: dict[int, Ints] = {}
        self.curve = curve
        self.precision = precision
        self.wanted_wealth = log(1 / delta)

    def order_of(self, size: int) -> Ints:
        """The random order of a head's rows: that of the largest, without the rows of rank `size` and more."""
        if size not in self.orders:
            self.orders[size] = self.rows[self.order[self.order < size]]
        return self.orders[size]

    def drawn(self, size: int) -> Ints:
        """Negatives (failed ones too) among the first 1, 2, ... rows of a head's order, as far as it is labelled."""
        order = self.order_of(size)
        end = 64
        while True:
            labels = self.population.labels[order[:end]]
            unknown = np.flatnonzero(labels == UNKNOWN)
            if len(unknown):
                return np.cumsum(labels[: unknown[0]] != YES)
            if end >= len(order):
                return np.cumsum(labels != YES)
            end *= 4

    def room(self, size: int) -> int:
        """How many of a head's rows may be negative, given the positives known outside of it."""
        inside = np.count_nonzero(self.population.labels[self.rows[:size]] == YES)
        outside = np.count_nonzero(self.population.labels == YES) - inside
        return floor((1 - self.precision) * (size + outside) + 1e-9)

    def wealth(self, size: int, negatives: Ints, room: int) -> Floats:
        """Logarithm of the likelihood ratio against `room` + 1 negatives, after 1, 2, ... draws."""
        drawn = np.arange(1, len(negatives) + 1)
        wrong = TRUST * self.curve.negative(size)
        right = TRUST - wrong
        mixture = betaln(wrong + negatives, right + drawn - negatives) - betaln(wrong, right)
        bad = room + 1
        if bad > size:
            return np.full(len(negatives), np.inf)
        possible = (negatives <= bad) & (drawn - negatives <= size - bad)
        some = np.where(possible, negatives, 0)
        others = np.where(possible, drawn - negatives, 0)
        null = (
            (gammaln(bad + 1) - gammaln(bad - some + 1))
            + (gammaln(size - bad + 1) - gammaln(size - bad - others + 1))
            - (gammaln(size + 1) - gammaln(size - drawn + 1))
        )
        return np.where(possible, mixture - null, np.inf)

    def excluded(self, size: int, negatives: Ints, room: int) -> bool:
        """Whether more than `room` negatives are excluded: the ratio only grows beyond the most likely number."""
        if room >= size:
            return True
        if not len(negatives):
            return False
        low = negatives * size <= (room + 1) * np.arange(1, len(negatives) + 1)
        return bool((low & (self.wealth(size, negatives, room) >= self.wanted_wealth)).any())

    def passes(self, size: int) -> bool:
        """Whether a head is certified by what is known now."""
        return self.excluded(size, self.drawn(size), self.room(size))

    def most_wrong(self, size: int) -> int:
        """Negatives that a certified head's unlabelled rows hold at most."""
        negatives = self.drawn(size)
        labels = self.population.labels[self.rows[:size]]
        seen = np.count_nonzero((labels != UNKNOWN) & (labels != YES))
        low, high = seen, self.room(size)
        while low < high:
            middle = (low + high) // 2
            if self.excluded(size, negatives, middle):
                high = middle
            else:
                low = middle + 1
        return min(high - seen, np.count_nonzero(labels == UNKNOWN))

    def wanted(self, size: int) -> int | None:
        """About how many more labels the test of a head needs; None if it does not look like passing."""
        negatives = self.drawn(size)
        room = self.room(size)
        labels = self.population.labels[self.rows[:size]]
        seen = np.count_nonzero(labels != UNKNOWN)
        wrong = seen - np.count_nonzero(labels == YES)
        rate = (TRUST * self.curve.negative(size) + wrong) / (TRUST + seen)
        speed = _divergence(rate, (room + 1) / size)
        if speed <= 0:
            return None
        wealth = (
            float(self.wealth(size, negatives[-1:], room)[0]) if False else self._last_wealth(size, negatives, room)
        )
        more = (self.wanted_wealth - wealth + 0.5) / speed
        more = more / (1 + more / size)  # drawing without replacement tells more
        target = min(size, len(negatives) + max(1, ceil(more)))
        return int(np.count_nonzero(self.population.labels[self.order_of(size)[:target]] == UNKNOWN))

    def _last_wealth(self, size: int, negatives: Ints, room: int) -> float:
        return float(self.wealth(size, negatives, room)[-1]) if len(negatives) else 0.0

    def draw(self, size: int, count: int) -> None:
        """Label the next `count` unlabelled rows of a head's order."""
        order = self.order_of(size)
        unknown = np.flatnonzero(self.population.labels[order] == UNKNOWN)[:count]
        self.population.ask(order[unknown])


@dataclass(frozen=True)
class Curve:
    """How the positives thin out: share of positives at a position = expit(level - slope * log(position + 10))."""

    level: float
    slope: float

    def positive(self, position: Floats) -> Floats:
        """Share of positives at these positions."""
        share: Floats = expit(self.level - self.slope * np.log(position + 10))
        return share

    def positives(self, edges: Floats) -> Floats:
        """Expected positives from one edge to the next."""
        return np.diff(edges) * self.positive((edges[:-1] + edges[1:]) / 2)

    def negative(self, size: int) -> float:
        """Share of negatives among the first `size` rows, never quite 0 or 1."""
        edges = np.linspace(0, size, 33)
        return float(np.clip(1 - self.positives(edges).sum() / size, 0.005, 0.9))


def fit(positions: Ints, positive: Floats) -> Curve:
    """The curve of labelled rows: logistic regression on the logarithm of the position, weakly held to a flat half."""
    x = np.log(positions + 10.0)
    center = x.mean()
    design = np.stack([np.ones_like(x), center - x])
    beta = np.zeros(2)
    hold = np.array([0.05, 0.05])
    for _ in range(30):
        share = expit(beta @ design)
        gradient = design @ (positive - share) - hold * beta
        curvature = (design * (share * (1 - share))) @ design.T + np.diag(hold)
        step = np.clip(np.linalg.solve(curvature, gradient), -2, 2)
        beta += step
        if np.abs(step).max() < 1e-6:
            break
    slope = max(float(beta[1]), 0.0)
    return Curve(float(beta[0]) + slope * center, slope)


def _pilot(population: Population, rows: Ints, rng: np.random.Generator) -> Curve:
    """Labels a few rows among those that the budget reaches, and beyond while these are nearly all positive."""
    reach = min(population.left, len(rows))
    count = max(1, min(reach // 2, int(0.03 * population.left) + 10, 150))
    near = np.exp(rng.uniform(0, log(reach), count // 3)).astype(np.int64) - 1
    places = np.unique(np.concatenate([near, rng.choice(reach, count - len(near), replace=False)]))
    positive = (population.ask(rows[places]) == YES).astype(np.float64)
    curve = fit(places, positive)
    end = reach
    while end < len(rows) and curve.negative(end) < 0.15 and population.left > 2 * count:
        wider = min(2 * end, len(rows))
        more = end + rng.choice(wider - end, min(count // 2 + 1, wider - end), replace=False)
        places = np.concatenate([places, more])
        positive = np.concatenate([positive, population.ask(rows[more]) == YES])
        curve, end = fit(places, positive), wider
    return curve


def steps_to(largest: int) -> Ints:
    """Sizes of heads to test, a fifth larger each."""
    sizes = [largest]
    while sizes[-1] > 12:
        sizes.append(int(sizes[-1] / 1.2))
    return np.array(sizes[::-1], dtype=np.int64)


def _worth(curve: Curve, n: int, left: int, known: int, precision: float, delta: float) -> int:
    """The size of the largest head to think of, 0 if none saves labels."""
    best, gain, size = 0, 0.02 * left, 12.0
    while size <= n:
        deep = np.linspace(size, min(n, size + 0.85 * left), 33)
        room = (1 - precision) * (size + known + curve.positives(deep).sum())
        speed = _divergence(curve.negative(int(size)), min(room / size, 1.0))
        test = (log(1 / delta) + 1.0) / speed if speed > 0 else np.inf
        saved = size - test / (1 + test / size)
        if saved > gain and size - saved < 0.9 * left and speed > 0:
            best, gain = int(size), saved
        size *= 1.1
    return min(int(1.3 * best), n)


def _divergence(share: float, other: float) -> float:
    """Information per draw that the share is not `other` or more; 0 if it looks like that much."""
    share, other = max(share, 1e-9), min(other, 1 - 1e-9)
    if share >= other:
        return 0.0
    return share * log(share / other) + (1 - share) * log((1 - share) / (1 - other))


def _with_room(population: Population, rows: Ints, head: Head, precision: float) -> int:
    """The cut: below the head and the labelled rows after it, as far as room is left and matches are likely."""
    rest = np.flatnonzero(population.labels[rows[head.size :]] == UNKNOWN)
    inside = np.count_nonzero(population.labels[rows[: head.size]] == UNKNOWN)
    sure = len(population.positives()) + inside - head.wrong
    room = floor(sure / precision + 1e-9) - (len(population.positives()) + inside)
    if not len(rest) or room <= 0:
        return int(rows[head.size - 1]) + 1 if head.size else 0
    first = int(rest[0]) + head.size
    window = population.labels[rows[max(head.size, first - max(50, first // 10)) : first]]
    if np.count_nonzero(window == YES) < 0.05 * max(len(window), 1):
        return int(rows[head.size - 1]) + 1 if head.size else 0
    return int(rows[head.size + rest[min(room, len(rest)) - 1]]) + 1


def _wrong(population: Population, rows: Ints, head: Head, cut: int) -> int:
    """Negatives among the unlabelled rows that are returned, at most."""
    inside = np.count_nonzero(population.labels[rows[: head.size]] == UNKNOWN)
    return head.wrong + len(population.unknown(0, cut)) - inside
