"""What a threshold on the proxy would give, by the labels that were bought: for the eye, nothing is promised by it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LABELS = 25
"""In each stretch of scores that is taken to have one share of positives."""


def curve(scores: npt.ArrayLike, asked: npt.ArrayLike, truths: npt.ArrayLike, points: int = 200) -> Floats:
    """Recall and precision of "all rows that score at least t", estimated.

    scores: (n,), NaN ranks lowest. asked: (m,) row numbers; truths: (m,) 1 or 0, NaN for a row that could not be answered.
    Returns (k, 3): threshold falling, recall, precision; k is at most ``points``, denser at high scores; 0 rows where no
    positive was found.

    Assumptions: within a stretch of neighbouring scores, rows were asked about whatever their truth. Labelled rows count
    as what they are, the others with the share of positives among the labels of their stretch. A smoothed guess without an
    interval; the promise of an answer does not rest on it.
    """
    given = np.asarray(scores, np.float64)
    values = np.where(np.isnan(given), -np.inf, given)
    answers = np.asarray(truths, np.float64)
    answered = ~np.isnan(answers)
    rows, found = np.asarray(asked, np.int64)[answered], answers[answered]
    if not found.sum():
        return np.zeros((0, 3))
    # A stretch ends where the labels' scores reach a quantile, so that each holds about as many labels.
    ranked = np.sort(values[rows])
    edges = np.unique(ranked[:: max(_LABELS, -(-len(ranked) // 100))])[1:]
    stretch = np.searchsorted(edges, values, side="right")
    labels = np.bincount(stretch[rows], minlength=len(edges) + 1)
    positives = np.bincount(stretch[rows], weights=found, minlength=len(edges) + 1)
    expected = (positives / np.maximum(labels, 1))[stretch]
    expected[rows] = found
    order = np.argsort(-values, kind="stable")
    falling, together = values[order], np.cumsum(expected[order])
    # Rows of one score are on the same side of every threshold.
    last = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))
    wanted = np.unique(np.geomspace(1, len(order), points).astype(np.int64)) - 1
    places = np.unique(last[np.searchsorted(last, wanted)])
    places = places[np.isfinite(falling[places])]
    return np.column_stack([falling[places], together[places] / together[-1], together[places] / (places + 1)])


def histogram(scores: npt.ArrayLike, returned: npt.ArrayLike, bins: int = 40) -> Floats:
    """How many rows have which score. scores: (n,); returned: (m,) row numbers.

    Returns (k, 4): from, to, rows, and those of them that were returned; rows without a finite score are in none.
    """
    values = np.asarray(scores, np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros((0, 4))
    chosen = np.zeros(len(values), bool)
    chosen[np.asarray(returned, np.int64)] = True
    counts, edges = np.histogram(values[finite], bins)
    taken, _ = np.histogram(values[finite & chosen], edges)
    return np.column_stack([edges[:-1], edges[1:], counts, taken]).astype(np.float64)
