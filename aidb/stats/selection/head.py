"""A head of rows nearly all of which are positive, certified by a sample: no need to label the rest of it.

Both a precision target and joint targets use it: every row of a certified head that has no label is a label saved.
Heads are tested from small to large on one random order of the rows, as long as a larger one promises to save more
labels than its test costs, and only after all smaller ones were certified.

For a head of `size` rows with M negatives let room = (1 - precision) (size + L), L the positives known outside of it
before the test. M <= room is enough for the precision of what is returned in the end: labelled negatives leave the
answer, and positives that are found elsewhere join it.

**One head.** Its rows are drawn in a random order. For every m, the likelihood of the labels so far under a mixture of
rates, over that under m negatives, is a martingale if M = m (draws without replacement; Waudby-Smith and Ramdas 2020,
"Confidence sequences for sampling without replacement"); that it ever reaches 1 / delta has a probability of delta at
most (Ville's inequality). The head is certified once it has for every m > room, whenever that is: one may look after
every label, and stop for any reason.

**All heads.** No correction for their number: the first bad head, the smallest with M > room, is fixed before
anything is drawn. A bad head can only be returned if that first one was certified, as each needs the ones before it,
and this has a probability of delta at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log

import numpy as np
from scipy.special import betaln, expit, gammaln

from aidb.stats.selection.population import UNKNOWN, YES, Floats, Ints, Labels, Population

_TRUST = 20.0
"""How many draws the expected rate of a head weighs in the test."""
_GROWTH = 1.2
"""Of the sizes that are tested."""
_SMALLEST = 12
_FEW = 12
"""So many rows are labelled at a time at least: each call has its overhead."""


@dataclass(frozen=True)
class Curve:
    """How positives thin out: the share of positives at a position is expit(level - slope * log(position + 10)).

    It plans, and it is where the tests' mixtures are centred; no guarantee rests on it.
    """

    level: float
    slope: float

    def positives(self, start: float, stop: float) -> float:
        """Expected positives between two positions."""
        edges = np.linspace(start, stop, 33)
        share = expit(self.level - self.slope * np.log((edges[:-1] + edges[1:]) / 2 + 10))
        return float(share.mean()) * (stop - start)

    def negative(self, size: float) -> float:
        """Share of negatives before a position, never quite 0 or 1."""
        return min(max(1 - self.positives(0, size) / size, 0.005), 0.9)


def fit(positions: Ints, positive: Labels) -> Curve:
    """The curve of labelled rows: logistic regression on the logarithm of the position, weakly held to a flat half.

    positions: (k,), k >= 1. positive: (k,), 1 or 0.
    """
    x = np.log(positions + 10.0)
    center = float(x.mean())
    design = np.stack([np.ones_like(x), center - x])
    hold = np.full(2, 0.05)
    beta = np.zeros(2)
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


@dataclass(frozen=True)
class Head:
    """The best `size` of the rows. wrong: at most so many of those that are still unlabelled are negative."""

    size: int
    wrong: int


NONE = Head(0, 0)


def worth_testing(curve: Curve, rows: int, spend: int, known: int, precision: float, delta: float) -> int:
    """The size of the largest head that may save labels; 0 if none is expected to.

    rows: how many there are. spend: labels that go to the head's test and to the rows below it. known: positives
    known already, outside.
    """
    best, most, size = 0, 0.02 * spend, float(_SMALLEST)
    while size <= rows:
        room = (1 - precision) * (size + known + curve.positives(size, min(rows, size + 0.85 * spend)))
        speed = _divergence(curve.negative(size), room / size)
        if speed > 0:
            test = (log(1 / delta) + 1.0) / speed
            test = test / (1 + test / size)
            if size - test > most and test < 0.9 * spend:
                best, most = int(size), size - test
        size *= 1.1
    return min(int(1.3 * best), rows)


def pure_head(
    population: Population,
    rows: Ints,
    largest: int,
    curve: Curve,
    precision: float,
    delta: float,
    rng: np.random.Generator,
) -> Head:
    """The largest head that is certified before a larger one costs more labels than it saves.

    rows: ranks, ascending. Nothing may be known of the first `largest` of them; what is known of others counts as the
    positives outside. Failed rows count as negative. Never asks for more than `population.left`.
    """
    sizes = _sizes(largest)
    test = _Test(population, rows, sizes, curve, precision, delta, rng)
    certified = 0
    while True:
        while sizes and test.passes(sizes[0]):
            certified = sizes.pop(0)
        offers = [(size - certified - cost, size, cost) for size in sizes if (cost := test.cost(size)) is not None]
        saved, size, cost = max(offers, default=(0, 0, 0))
        if saved <= 0:
            return test.head(certified)
        test.draw(size, min(cost, max(_FEW, ceil(cost / 2))))


class _Test:
    """The tests of all heads, on one random order of the rows of the largest."""

    def __init__(
        self,
        population: Population,
        rows: Ints,
        sizes: list[int],
        curve: Curve,
        precision: float,
        delta: float,
        rng: np.random.Generator,
    ) -> None:
        self._population = population
        self._rows = rows
        self._curve = curve
        self._precision = precision
        self._outside = len(population.positives())
        self._goal = log(1 / delta)
        # A head's rows in their random order: that of the next larger one without the rows that are too deep.
        order = rng.permutation(sizes[-1] if sizes else 0)
        self._order = {size: (order := order[order < size]) for size in reversed(sizes)}
        self._known = np.empty(0, dtype=np.int64)  # positions that the test labelled, ascending

    def passes(self, size: int) -> bool:
        """Whether a head is certified by what is known now."""
        if self._room(size) >= size:
            return True
        negatives = self._negatives(size)
        drawn = np.arange(1, len(negatives) + 1)
        # Beyond the likeliest number of negatives, more of them only make the labels less likely.
        few = negatives * size <= (self._room(size) + 1) * drawn
        return bool((few & (self._wealth(size, negatives) >= self._goal)).any())

    def cost(self, size: int) -> int | None:
        """About how many more labels a head's test needs; None if it does not look like passing, or there are too few."""
        negatives = self._negatives(size)
        known = self._known[: np.searchsorted(self._known, size)]
        wrong = np.count_nonzero(self._labels(known) != YES)
        rate = (_TRUST * self._curve.negative(size) + wrong) / (_TRUST + len(known))
        speed = _divergence(rate, (self._room(size) + 1) / size)
        if speed <= 0:
            return None
        wealth = float(self._wealth(size, negatives)[-1]) if len(negatives) else 0.0
        more = max(self._goal - wealth + 0.5, 0.0) / speed
        more = more / (1 + more / size)  # a draw without replacement tells more
        cost = int(np.count_nonzero(self._labels(self._order[size][: len(negatives) + ceil(more)]) == UNKNOWN))
        return cost if 0 < cost <= self._population.left else None

    def draw(self, size: int, count: int) -> None:
        """Label the next `count` unlabelled rows of a head."""
        ahead = self._order[size][: len(self._known) + count]  # no more than the known ones are to be passed over
        chosen = ahead[self._labels(ahead) == UNKNOWN][:count]
        self._population.ask(self._rows[chosen])
        self._known = np.sort(np.concatenate([self._known, chosen]))

    def head(self, size: int) -> Head:
        """A certified head, as it is now."""
        known = self._known[: np.searchsorted(self._known, size)]
        seen = int(np.count_nonzero(self._labels(known) != YES))
        return Head(size, min(self._room(size) - seen, size - len(known)))

    def _room(self, size: int) -> int:
        return floor((1 - self._precision) * (size + self._outside) + 1e-9)

    def _labels(self, positions: Ints) -> Labels:
        labels: Labels = self._population.labels[self._rows[positions]]
        return labels

    def _negatives(self, size: int) -> Ints:
        """Negatives among the first 1, 2, ... rows of a head's order, as far as these are labelled without a gap."""
        labels = self._labels(self._order[size][: len(self._known) + 1])
        unknown = labels == UNKNOWN
        end = int(np.argmax(unknown)) if unknown.any() else len(labels)
        return np.cumsum(labels[:end] != YES)

    def _wealth(self, size: int, negatives: Ints) -> Floats:
        """Logarithm of the likelihood ratio against room + 1 negatives, after 1, 2, ... draws."""
        drawn = np.arange(1, len(negatives) + 1)
        wrong = _TRUST * self._curve.negative(size)
        mixture = betaln(wrong + negatives, _TRUST - wrong + drawn - negatives) - betaln(wrong, _TRUST - wrong)
        bad = self._room(size) + 1
        good = size - bad
        possible = (negatives <= bad) & (drawn - negatives <= good)
        negatives, positives = np.where(possible, negatives, 0), np.where(possible, drawn - negatives, 0)
        null = gammaln(bad + 1) - gammaln(bad - negatives + 1) + gammaln(good + 1) - gammaln(good - positives + 1)
        null -= gammaln(size + 1) - gammaln(size - drawn + 1)
        wealth: Floats = np.where(possible, mixture - null, np.inf)
        return wealth


def _sizes(largest: int) -> list[int]:
    """Sizes of heads to test, ascending."""
    sizes = [largest] if largest > 0 else []
    while sizes and sizes[-1] > _SMALLEST:
        sizes.append(int(sizes[-1] / _GROWTH))
    return sizes[::-1]


def _divergence(share: float, other: float) -> float:
    """Information of a draw that the share is not `other` or more; 0 if it looks like that much."""
    other = min(other, 1 - 1e-9)
    if share >= other:
        return 0.0
    return share * log(share / other) + (1 - share) * log((1 - share) / (1 - other))
