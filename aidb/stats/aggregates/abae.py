"""Stratified sampling by proxy quantiles, two stages (Kang, Guibas, Bailis, Hashimoto, Sun, Zaharia 2021, "ABAE").

The published method spends a fixed number of calls; here the number grows until its interval keeps the error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from aidb.stats.aggregates.adaptive import Goal
from aidb.stats.aggregates.strata import Floats, Strata, packed
from aidb.stats.aggregates.survey import Survey

STRATA = 5
FIRST, GROWTH, MARGIN, LEAST = 500, 4.0, 1.02, 1.15
RESAMPLES, RESAMPLED_MOST = 200, 4_000
"""The bootstrap is used for samples up to RESAMPLED_MOST rows; it agrees with the normal interval above."""


def quantiles(scores: npt.NDArray[np.floating[Any]], strata: int) -> Strata:
    """Strata of the same number of rows, by rising proxy; NaN counts as the lowest."""
    proxy = filled(scores)
    codes = np.empty(len(proxy), np.uint8)
    for k, rows in enumerate(np.array_split(np.argsort(proxy, kind="stable"), strata)):
        codes[rows] = k
    return packed(proxy, codes)


def filled(scores: npt.NDArray[np.floating[Any]]) -> Floats:
    """Scores with NaN as the lowest and infinities as the largest or smallest finite one."""
    finite = scores[np.isfinite(scores)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return np.nan_to_num(scores.astype(np.float64), nan=low, posinf=high, neginf=low)


def grow(
    survey: Survey, goal: Goal, failure: float, budget: int | None, rng: np.random.Generator
) -> tuple[float, float, float, tuple[tuple[int, float, float, float], ...]]:
    """Half of the calls evenly, half in proportion to the spread seen; more of both until the goal is kept."""
    rows, n = survey.strata.sizes, survey.strata.n
    most = n if budget is None else min(budget, n)
    want = min(FIRST, most)
    history: list[tuple[int, float, float, float]] = []
    first = np.zeros_like(rows)
    while True:
        first = np.maximum(first, np.minimum(want // 2 // len(rows), rows))
        survey.ask(first)
        shares = _shares(survey)
        second = np.floor(max(want - survey.draws.total, 0) * shares).astype(np.int64)
        survey.ask(np.minimum(survey.draws.taken + second, rows))
        value, low, high = _estimate(survey, failure, rng)
        total = survey.draws.total
        history.append((total, value, low, high))
        half, aim = (high - low) / 2, goal.half(value) if np.isfinite(value) else 0.0
        if total >= 0.95 * most or (goal.error is not None and 0 < half <= aim):
            return value, low, high, tuple(history)
        if goal.error is None:
            want = most
        else:
            grown = MARGIN * (half / aim) ** 2 if aim > 0 and np.isfinite(half) else 2.0
            want = min(int(total * min(max(LEAST, grown), GROWTH)) + 1, most)


def _columns(survey: Survey) -> tuple[Floats, Floats | None, npt.NDArray[np.integer[Any]]]:
    y, d = survey.table.column(0, 0)
    keep = survey.answered
    return y[keep], None if d is None else d[keep], survey.codes()[keep]


def _shares(survey: Survey) -> Floats:
    """(K,) of the second stage: sqrt(matching share) times the spread among matches; for a total, the plain spread."""
    y, d, codes = _columns(survey)
    many = survey.strata.count
    shares = np.zeros(many)
    for k in range(many):
        here = codes == k
        if d is None:
            shares[k] = y[here].std() if here.any() else 0.0
        else:
            match = here & (d > 0)
            if match.sum() > 1:
                shares[k] = np.sqrt(match.sum() / here.sum()) * (y[match] / d[match]).std(ddof=1)
    shares *= survey.strata.sizes
    return shares / shares.sum() if shares.sum() > 0 else np.full(many, 1 / many)


def _estimate(survey: Survey, failure: float, rng: np.random.Generator) -> tuple[float, float, float]:
    y, d, codes = _columns(survey)
    sizes = survey.strata.sizes
    known_y, known_d = survey.constants(0, 0)
    parts = [(sizes[k], y[codes == k], None if d is None else d[codes == k]) for k in range(len(sizes))]
    parts = [p for p in parts if len(p[1])]
    if not parts:
        return np.nan, -np.inf, np.inf
    total = sum(m * v.mean() for m, v, _ in parts) + known_y
    weight = 1.0 if d is None else sum(m * w.mean() for m, _, w in parts if w is not None) + known_d
    if weight <= 0:
        return np.nan, -np.inf, np.inf
    value = total / weight
    if len(y) > RESAMPLED_MOST:
        spread = 0.0
        for m, v, w in parts:
            e = v if w is None else v - value * w
            spread += m**2 * e.var() / len(e)
        half = -float(ndtri(failure / 2)) * np.sqrt(spread) / weight
        return value, value - half, value + half
    top, below = np.full(RESAMPLES, known_y), np.full(RESAMPLES, known_d if d is not None else 1.0)
    for m, v, w in parts:
        drawn = rng.multinomial(len(v), np.full(len(v), 1 / len(v)), size=RESAMPLES) / len(v)
        top += m * (drawn @ v)
        if w is not None:
            below += m * (drawn @ w)
    again = np.divide(top, below, out=np.full(RESAMPLES, value), where=below > 0)
    low, high = np.quantile(again, [failure / 2, 1 - failure / 2])
    return value, float(low), float(high)
