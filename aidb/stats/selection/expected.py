"""Targets that are met on the sample only: no promise, about half of the answers miss them.

This is what is done without guarantees: draw rows at random by their score, and put the threshold where the sample
meets the target. It is here to be compared with, and for those who want the middle of the road at a low cost.
"""

from __future__ import annotations

import numpy as np

from aidb.stats.selection.population import YES, Floats, Ints, Population
from aidb.stats.selection.result import Chosen

NOTE = "The target is met on the sample only: about half of such answers miss it."


def recall(population: Population, recall: float, rng: np.random.Generator) -> Chosen:
    """The smallest cut above which the sample estimates `recall` of the positives; all rows if it has none."""
    ranks, weights = _sample(population, rng)
    known = len(population.positives()) - len(ranks)
    if not len(ranks):
        return Chosen(population.n, "expected", "expected", notes=(NOTE, "No sampled row was positive."))
    # a labelled positive is returned wherever it lies: the rest of its weight is what a cut above it misses
    missed = np.append(np.cumsum((weights - 1)[::-1])[::-1], 0.0)
    fine = np.flatnonzero(missed <= (1 - recall) * (known + weights.sum()) + 1e-9)
    cut = int(ranks[fine[0] - 1]) + 1 if fine[0] else 0
    return Chosen(cut, "expected", "expected", notes=(NOTE,))


def precision(population: Population, precision: float, rng: np.random.Generator) -> Chosen:
    """The deepest cut at which the sample estimates `precision` among the rows returned; none if there is none."""
    ranks, weights = _sample(population, rng)
    known = len(population.positives())
    best = 0
    if len(ranks):
        cuts = ranks + 1
        unlabelled = np.searchsorted(population.unknown(), cuts)
        right = np.cumsum(weights - 1) + known
        fine = np.flatnonzero(right >= precision * (unlabelled + known) - 1e-9)
        best = int(cuts[fine[-1]]) if len(fine) else 0
    return Chosen(best, "expected", "expected", notes=(NOTE,))


def _sample(population: Population, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Ranks of the positives of a sample, best first, and how many rows each stands for.

    One row of each block of neighbours, smaller where the scores are high, half of them of even size.
    """
    pool = population.unknown()
    count = population.left
    if not count:
        return np.empty(0, dtype=np.int64), np.empty(0)
    scores = population.scores[pool]
    low, span = scores[-1], scores[0] - scores[-1]
    root = np.sqrt((scores - low) / span) if span > 0 else np.ones(len(pool))
    reached = np.cumsum(root / root.sum() + 1 / len(pool))
    reached *= count / reached[-1]
    bounds = np.concatenate([[0], np.searchsorted(reached, np.arange(1, count)), [len(pool)]])
    step = np.arange(count + 1)  # no block is empty
    bounds = np.minimum(np.maximum.accumulate(bounds - step) + step, len(pool) - (count - step))
    sizes = np.diff(bounds)
    drawn = pool[bounds[:-1] + rng.integers(0, sizes)]
    hit = population.ask(drawn) == YES
    return drawn[hit], sizes[hit].astype(np.float64)
