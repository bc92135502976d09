"""A few labels, drawn first, to plan with: where do the positives lie?

What is planned with a pilot may be wrong without harm: every certificate draws anew after it and takes the pilot's rows
for known ones. So the model here may be crude, and is: a logistic curve in score and rank, bent towards what was seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from aidb.stats.selection.population import UNKNOWN, YES, Floats, Ints, Population

_MOST = 20_000
"""Labelled rows that a curve is fitted to: plenty for three parameters."""
_WEIGHT_OF_MODEL = 4.0
"""The curve counts as much as so many labels in a bin."""
_TINY = 1e-300


@dataclass(frozen=True)
class Outlook:
    """Where positives are expected among the unlabelled rows.

    edges (b + 1,): positions among the unlabelled rows, best first, from 0 to their number. positives (b + 1,): how
    many positives are expected before each edge. found: positives known by now.
    """

    edges: Ints
    positives: Floats
    found: int

    @property
    def rows(self) -> int:
        """Unlabelled rows."""
        return int(self.edges[-1])

    @property
    def total(self) -> float:
        """Positives expected in all, the known ones too."""
        return self.found + float(self.positives[-1])

    def before(self, position: npt.ArrayLike) -> Floats:
        """Positives expected among the first unlabelled rows."""
        return np.asarray(
            np.interp(np.asarray(position, dtype=np.float64), self.edges, self.positives), dtype=np.float64
        )

    def position(self, positives: npt.ArrayLike) -> Floats:
        """How many of the first unlabelled rows hold so many positives."""
        return np.asarray(
            np.interp(np.asarray(positives, dtype=np.float64), self.positives, self.edges), dtype=np.float64
        )


def pilot(population: Population, count: int, rng: np.random.Generator) -> Outlook:
    """Labels `count` rows, more near the top, and says where positives are to be expected."""
    population.ask(_draw(population, count, rng))
    return outlook(population)


def rates(
    features: Features, edges: Ints, seen: Ints, truth: npt.NDArray[np.bool_], weight: float
) -> tuple[Floats, Ints]:
    """(k,) twice, for the k bins between the edges: the rate of positives, and how many rows of the bin were seen.

    seen, truth: the labelled rows, by rank. A rate is what was seen in the bin together with `weight` rows of a logistic
    curve fitted to all that was seen.
    """
    few = np.linspace(0, len(seen) - 1, min(len(seen), _MOST)).astype(np.int64)
    curve, _ = logistic(features(seen[few]), truth[few])
    widths = np.diff(edges)
    curved = np.mean(
        [expit(features(edges[:-1] + (widths * at).astype(np.int64)) @ curve) for at in (0.1, 0.5, 0.9)], 0
    )
    bins = np.searchsorted(edges, seen, side="right") - 1
    labelled = np.bincount(bins, minlength=len(widths))
    positive = np.bincount(bins, weights=truth, minlength=len(widths))
    return (positive + weight * curved) / (labelled + weight), labelled


def outlook(population: Population) -> Outlook:
    """Where positives are to be expected, by all labels so far."""
    edges = _edges(population)
    features = Features(population)
    seen = np.flatnonzero(population.labels != UNKNOWN)
    truth = population.labels[seen] == YES
    rate, labelled = rates(features, edges, seen, truth, _WEIGHT_OF_MODEL)
    unlabelled = np.diff(edges) - labelled
    return Outlook(_sums(unlabelled).astype(np.int64), _sums(unlabelled * rate), int(truth.sum()))


def labels_needed(expected: Outlook, population: Population, recall: float, delta: float) -> int:
    """Labels from which on a recall certificate that holds for every proxy can leave out most of the table.

    ln(1/delta) * recall / ((1 - recall) * prevalence): with fewer, a table whose missing positives hide among the
    unlabelled rows looks like one that has none there with a probability above delta.
    """
    prevalence = max(expected.total, 0.5) / max(population.n, 1)
    return min(population.n, math.ceil(-math.log(delta) * recall / ((1 - recall) * prevalence)))


def _draw(population: Population, count: int, rng: np.random.Generator) -> Ints:
    """Distinct unlabelled ranks, half of them by the root of the score, half as one over the rank."""
    pool = population.unknown()
    if count >= len(pool):
        return pool
    flat = 1 / (np.arange(len(pool)) + 20 + 0.002 * len(pool))
    density = 0.5 * flat / flat.sum()
    root = _root(population.scores[pool])
    density += 0.5 * (root / root.sum() if root.sum() > 0 else 1 / len(pool))
    upto = np.cumsum(density)
    drawn = np.empty(0, dtype=np.int64)
    for _ in range(60):
        more = np.searchsorted(upto, rng.random(count) * upto[-1], side="right")
        drawn = np.unique(np.concatenate([drawn, np.minimum(more, len(pool) - 1)]))
        if len(drawn) >= count:
            break
    ranks: Ints = pool[rng.permutation(drawn)[:count]]
    return ranks


def _root(scores: Floats) -> Floats:
    """The root of scores that look like probabilities; of nothing else, as its size means nothing."""
    if len(scores) and scores[0] <= 1 and scores[-1] >= 0:
        return np.sqrt(scores)
    return np.zeros(len(scores))


def _edges(population: Population) -> Ints:
    n = population.n
    mass = np.cumsum(_root(population.scores))
    even = np.searchsorted(mass, np.linspace(0, mass[-1], 80)) if n and mass[-1] > 0 else np.empty(0)
    edges = np.concatenate([[0, n], np.geomspace(5, max(n, 5), 120), np.linspace(0, n, 60), even])
    return np.unique(np.clip(np.rint(edges).astype(np.int64), 0, n))


class Features:
    """Ranks to what the curve is made of: 1, the log odds of the score, the log of the rank."""

    def __init__(self, population: Population) -> None:
        self._scores, self._n = population.scores, population.n
        self._odds = bool(self._n) and self._scores[0] <= 1 and self._scores[-1] >= 0

    def __call__(self, ranks: Ints) -> Floats:
        """Features (m, 3) of ranks (m,)."""
        scores = self._scores[np.minimum(ranks, self._n - 1)]
        # A score of 1e-300 still says more than one of 1e-301 where scores are a power of a probability.
        odds = np.log(np.maximum(scores, _TINY)) - np.log(np.maximum(1 - scores, 1e-16)) if self._odds else 0 * scores
        return np.column_stack([np.ones(len(ranks)), odds, np.log((ranks + 20.0) / (self._n + 20.0))])


def logistic(features: Floats, truth: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Coefficients (3,) of most probable value, and the inverse (3, 3) of their covariance.

    Supposed beforehand: the score is a probability, the rank says nothing.
    """
    middle, weight = np.array([0.0, 1.0, 0.0]), np.array([0.02, 0.1, 0.5])

    def loss(curve: Floats) -> float:
        line = features @ curve
        return float((np.logaddexp(0, line) - truth * line).sum() + 0.5 * (weight * (curve - middle) ** 2).sum())

    curve, now = middle.copy(), loss(middle)
    for _ in range(50):
        rate = expit(features @ curve)
        slope = features.T @ (truth - rate) - weight * (curve - middle)
        bend = (features * (rate * (1 - rate))[:, None]).T @ features + np.diag(weight)
        step = np.linalg.solve(bend, slope)
        # Far from the answer Newton's step leads anywhere; its direction is good.
        for _ in range(40):
            then = loss(curve + step)
            if then <= now:
                break
            step /= 2
        if now - then < 1e-7:
            break
        curve, now = curve + step, then
    rate = expit(features @ curve)
    return curve, (features * (rate * (1 - rate))[:, None]).T @ features + np.diag(weight)


def _sums(values: npt.NDArray[np.number]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])
