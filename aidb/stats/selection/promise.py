"""What the scores themselves say about rows that no label reached: reasons not to trust a cut.

A certificate by labels sees nothing of positives that lie deeper than the labels reach. Two things can be read from
scores in [0, 1], used here as warnings only: they can forbid a cut, never allow one. Scores outside [0, 1] say neither.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from aidb.stats.selection.population import Floats, Ints

BAND = 3.0
"""The band in which a promise is checked reaches from the cut up to the cut divided by this."""
SURE = 0.98
"""No score is taken for surer than this: a single miss at a score of 1 would decide everything."""
TRACE = 1e-4
"""Rows of a lower score say nothing about a shortfall; and a chance that is left to rows whose score is elsewhere."""
EVIDENCE = 0.75
"""Log likelihood by which a common factor must beat the scores as they are. Low: a false alarm costs precision in one
answer out of nine, a missed alarm the recall."""
MODEST = 2.0
"""Scores that keep more than so many times their promise, promise too little to warn of anything."""
RIVAL = 2.5
"""Log likelihood by which a logistic curve must beat the factor, so that the proxy counts as crooked and no more."""
UNSEEN = 0.4
"""Part of a positive that is counted where the labels thin out, though none was found there."""
TYPICAL, CLEAR = 0.85, 3.0
"""A factor that matters, and the log likelihood by which the scores as they are must beat it, or a logistic curve by
twice as much, so that there is no doubt."""


def promised(
    scores: Floats, cuts: Ints, labelled: Ints, hits: Ints, weights: Floats, pseudo: Floats
) -> tuple[Floats, Floats]:
    """Per cut: how many positives the unlabelled rows below it hold if they keep the promise of their scores.

    The promise is taken at the rate at which it was kept in the band of ranks just above the cut, a third of the cut to
    the cut. A proxy with noise promises far more below than a recall allows to miss, though no label found a positive
    there; a proxy that is sure of itself promises next to nothing, and then the labels decide alone.

    scores (n,), best first. cuts (c,), ascending. labelled, hits: positions, ascending. weights: beside the hits, how
    many positives each stands for. pseudo (c,): the weight of a positive at the cut, which no label may have found.
    Returns these numbers and the rates, both (c,).
    """
    summed = np.concatenate([[0.0], np.cumsum(scores)])
    bought = np.concatenate([[0.0], np.cumsum(scores[labelled])])
    found = np.concatenate([[0.0], np.cumsum(weights)])
    open_ = summed[-1] - summed[cuts] - (bought[-1] - bought[np.searchsorted(labelled, cuts)])
    start = (cuts / BAND).astype(np.int64)
    kept = found[np.searchsorted(hits, cuts)] - found[np.searchsorted(hits, start)]
    rate: Floats = (kept + pseudo) / (summed[cuts] - summed[start] + pseudo)
    return open_ * rate, rate


def trailing(n: int, cuts: Ints, far: float, hits: Ints, weights: Floats, unseen: npt.ArrayLike = 0.0) -> Floats:
    """Per cut: how many positives lie beyond what the labels reach if they thin out slowly, as rank ** -1.5.

    For proxies whose scores promise nothing, or less than they keep. The positives between a third of the place to
    which labels reach, or of the cut if that lies deeper, and that place tell how many go on to the last of n rows. They
    are few and each stands for many, so that often none is hit: hence a part of one more is counted.

    unseen (c,): how many positives one at that place stands for, where the scores say nothing else.
    """
    found = np.concatenate([[0.0], np.cumsum(weights)])
    place = np.minimum(np.maximum(cuts, far), n)
    inside = found[np.searchsorted(hits, place)] - found[np.searchsorted(hits, place / BAND)]
    go_on: Floats = (inside + UNSEEN * np.asarray(unseen)) * (1 - np.sqrt(place / n)) / (math.sqrt(BAND) - 1)
    return go_on


def misplaced(scores: Floats, positive: Floats, mean: float) -> bool:
    """Do the labels suggest that a share of all rows carry the score of another row?

    Then each score promises too much by one and the same factor, however high it is, and the share that is missing lies
    anywhere. Compared by likelihood are the scores as they are, the scores times a factor, and the scores behind a
    logistic curve; True if the factor beats the first clearly and the last does not beat the factor.

    scores, positive: of labelled rows, drawn by rank alone. mean: the score of a random row.
    """
    use = scores > TRACE
    p, y = np.clip(scores[use], TRACE, SURE), positive[use]
    if y.sum() < 5:
        return False
    plain = _fit(p, y)
    factor = max(_fit(share * p + (1 - share) * mean, y) for share in np.linspace(0.4, 0.98, 30))
    return bool(factor >= plain + EVIDENCE and factor >= _logistic(p, y) - RIVAL)


def doubtful(scores: Floats, positive: Floats, mean: float) -> bool:
    """Do the labels leave room for what `misplaced` looks for?

    False if they speak clearly for the scores as they are, or for a logistic curve.

    The arguments are those of `misplaced`.
    """
    use = scores > TRACE
    if not use.any():
        return False
    p, y = np.clip(scores[use], TRACE, SURE), positive[use]
    factor = _fit(TYPICAL * p + (1 - TYPICAL) * mean, y)
    return bool(factor >= _fit(p, y) - CLEAR and factor >= _logistic(p, y) - 2 * CLEAR)


def _fit(p: Floats, y: Floats) -> float:
    """Log likelihood."""
    return float(y @ np.log(p) + (1 - y) @ np.log1p(-p))


def _logistic(p: Floats, y: Floats) -> float:
    """Log likelihood of the best logistic curve of the log odds, by Newton's method."""
    features = np.stack([np.ones_like(p), np.log(p / (1 - p))])
    curve, best = np.array([0.0, 1.0]), -np.inf
    for _ in range(25):
        chance = np.clip(1 / (1 + np.exp(-curve @ features)), 1e-12, 1 - 1e-12)
        best = max(best, _fit(chance, y))
        bend = (features * (chance * (1 - chance))) @ features.T + 1e-6 * np.eye(2)
        curve = curve + np.clip(np.linalg.solve(bend, features @ (y - chance)), -1, 1)
    return best
