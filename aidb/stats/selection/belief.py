"""How likely each unlabelled row is positive, by all labels so far: for planning, no promise rests on it.

Two things tell: the score, and the neighbours. Scores are cut into bins, never between rows of one score, and the
labels of a bin count beside a curve through all of them; a proxy that is turned upside down, or that has no score for
the rows that matter, is found out so. Rows with neighbouring numbers (frames of a video, lines of a text) are often
alike: how far that reaches, if at all, is what foretells the labels best that were left out one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from aidb.stats.selection.pilot import Features, rates
from aidb.stats.selection.population import UNKNOWN, YES, Floats, Ints, Population

Flags: TypeAlias = npt.NDArray[np.bool_]

_BINS = 48
_WEIGHT_OF_MODEL = 20.0
"""The curve counts as much as so many labels in a bin."""
_REACHES = (1.0, 3.0, 9.0)
"""Rows after which a neighbour counts for 1/e."""
_WEIGHTS = (0.5, 2.0, 8.0)
"""Neighbours that a row's own score counts for."""
_BENEFIT = 2.0
"""Nats by which neighbours may foretell the labels worse than scores alone and still be followed, as the labels of the
best scores can't tell: to find out costs little."""
_TOLD = 1.5
"""A row of which neighbours tell is that many times as likely as its score says."""


@dataclass(frozen=True)
class Belief:
    """ranks (m,): the unlabelled rows, the likeliest first. positives (m + 1,): expected among so many of them.

    told (m,): whether neighbours tell of the row, rather than its score. gain: nats by which neighbours foretell the
    known labels better than scores alone.
    """

    ranks: Ints
    positives: Floats
    told: Flags
    gain: float

    @property
    def rows(self) -> int:
        """Unlabelled rows."""
        return len(self.ranks)

    @property
    def total(self) -> float:
        """Positives expected among them."""
        return float(self.positives[-1])


def belief(population: Population, told: Flags, trust: float = 1.0) -> Belief:
    """What all labels so far say.

    told (n,) by rank: rows that were labelled since their neighbours told of them; they say nothing of others with their
    score. trust: by which chances are multiplied, after what the last ones proved to be worth.
    """
    score = _by_score(population, told)
    chance, gain = _by_neighbours(population, score)
    pool = population.unknown()
    order = np.argsort(-chance[pool], kind="stable")
    ranks: Ints = pool[order]
    expected = np.concatenate([[0.0], np.cumsum(trust * chance[ranks])])
    return Belief(ranks, expected, chance[ranks] > _TOLD * score[ranks], gain)


def _by_score(population: Population, told: Flags) -> Floats:
    """(n,) by rank: the rate of the row's bin."""
    edges = _edges(population)
    seen = np.flatnonzero((population.labels != UNKNOWN) & ~told)
    rate, _ = rates(Features(population), edges, seen, population.labels[seen] == YES, _WEIGHT_OF_MODEL)
    return np.repeat(rate, np.diff(edges))


def _edges(population: Population) -> Ints:
    """Where bins begin, and n: at equal shares of the rows and of their logarithm, moved to where the score changes."""
    n, scores = population.n, population.scores
    wanted = np.concatenate([np.geomspace(10, max(n, 10), _BINS), np.linspace(0, n, _BINS // 2)])
    inner = np.unique(np.clip(wanted.astype(np.int64), 0, n - 1))
    first = np.searchsorted(-scores, -scores[inner], side="left")
    return np.unique(np.concatenate([[0, n - population.unscored, n], first]))


def _by_neighbours(population: Population, chance: Floats) -> tuple[Floats, float]:
    """(n,) by rank: moved towards the labels of neighbouring rows, if that foretells labels left out; and what it gains."""
    rows = population.order
    seen = np.flatnonzero(population.labels != UNKNOWN)
    truth = population.labels[seen] == YES
    if not truth.any() or truth.all():
        return chance, 0.0
    labelled, positive = np.zeros(population.n), np.zeros(population.n)
    labelled[rows[seen]] = 1.0
    positive[rows[seen[truth]]] = 1.0
    alone = _loss(chance[seen], truth)
    best, least = chance, alone + _BENEFIT
    for reach in _REACHES:
        near, hits = _spread(labelled, reach)[rows], _spread(positive, reach)[rows]
        for weight in _WEIGHTS:
            moved = (weight * chance + hits) / (weight + near)
            loss = _loss(moved[seen], truth)
            if loss < least:
                best, least = moved, loss
    return best, alone - least


def _spread(values: Floats, reach: float) -> Floats:
    """(n,) by row: the values of the others, each by 1/e less for every `reach` rows of distance."""
    keep = np.exp(-1 / reach)
    before: Floats = lfilter([0.0, keep], [1.0, -keep], values)
    after: Floats = lfilter([0.0, keep], [1.0, -keep], values[::-1])[::-1]
    return before + after


def _loss(chance: Floats, truth: Flags) -> float:
    chance = np.clip(chance, 1e-4, 1 - 1e-4)
    return float(-np.log(np.where(truth, chance, 1 - chance)).sum())
