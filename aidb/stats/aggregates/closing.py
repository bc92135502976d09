"""The interval at the end: what no row was seen of, few matches, failed rows, and what cannot be otherwise."""

from __future__ import annotations

import numpy as np
from scipy import special

from aidb.stats.aggregates.adaptive import MATCHES, Goal, Look, Reached
from aidb.stats.aggregates.regression import Sample
from aidb.stats.aggregates.strata import Floats
from aidb.stats.aggregates.survey import Survey


def unseen_rows(sample: Sample, failure: float) -> float:
    """Rows that may have a property that no row of the sample had: an upper bound, for every population.

    Of M such rows none is drawn with probability at most (1 - f)^M, f the smallest sampled share of a stratum
    (the rule of three, for a finite population).
    """
    open_ = sample.open > 0
    if not open_.any():
        return 0.0
    left = float((sample.rows * sample.open)[open_].sum())
    rate = float(sample.rate[open_].min())
    return min(left, float(np.floor(np.log(failure) / np.log1p(-rate)))) if rate > 0 else left


def close(
    survey: Survey, reached: Reached, look: Look, kind: str, goal: Goal, failure: float
) -> tuple[float, float, float, bool]:
    """Value, low, high, and whether the goal is kept."""
    sample, fit = reached.sample, look.fit
    y, d = survey.table.column(look.group, look.aggregate)
    known_y, known_d = survey.constants(look.group, look.aggregate)
    answered = survey.answered
    y, d = y[answered], None if d is None else d[answered]
    value, low, high = look.value, look.value - look.half, look.value + look.half
    if reached.complete and answered.all():
        if d is None:
            value = float(y.sum()) + known_y
        else:
            value = (float(y.sum()) + known_y) / (float(d.sum()) + known_d) if d.sum() + known_d else float("nan")
        return value, value, value, True
    if d is not None and fit.scale == 0:
        return float("nan"), -np.inf, np.inf, False
    if fit.matches < MATCHES and not reached.complete:
        value, low, high = _few(sample, y, d, look, kind, known_y, known_d, failure)
    below, above = _failed(survey, sample, look, y, d)
    low, high = low - below, high + above
    if kind == "count":  # what was seen is there
        low = max(low, float(y.sum()) + known_y)
        value = max(value, low)
    reachable = goal.error is not None and max(high - value, value - low) <= goal.half(value) * (1 + 1e-9)
    met = reachable and (fit.matches >= MATCHES or reached.complete)
    return value, low, high, bool(met)


def _few(
    sample: Sample, y: Floats, d: Floats | None, look: Look, kind: str, known_y: float, known_d: float, failure: float
) -> tuple[float, float, float]:
    """The interval from fewer than ten matches: never narrower than what a weighted Poisson count allows.

    The upper limit takes one more match of the largest weight that could have been missed, and matches a gamma to the
    first two moments (Fay and Feuer 1997). It knows no larger value than was seen; without any, a count takes one
    matching row an item and a sum is without bound.
    """
    value, half = look.value, look.half
    if d is not None:
        if look.fit.matches < 2 or half == 0:
            return value, -np.inf, np.inf
        return value, value - half, value + half
    seen = y[y != 0]
    largest = float(np.abs(seen).max()) if len(seen) else (1.0 if kind == "count" else np.inf)
    safe = np.maximum(sample.n, 1)
    weight = sample.rows / safe
    top = float(weight[sample.open > 0].max(initial=0.0)) * largest
    if not len(seen):
        bound = unseen_rows(sample, failure) * largest
        return known_y, known_y - (0.0 if kind == "count" else bound), known_y + bound
    each = (weight - 1)[sample.codes] * y
    low, high = value - half, value + half
    for sign in (1.0, -1.0):
        part = np.clip(sign * each, 0, None)
        if kind == "count" and sign < 0:
            break
        first, second = float(part.sum()) + top, float((part**2).sum()) + top**2
        limit = second / first * float(special.gammaincinv(first**2 / second, 1 - failure / 2))
        if sign > 0:
            high = max(high, known_y + float(y.sum()) + limit)
        else:
            low = min(low, known_y + float(y.sum()) - limit)
    if kind == "count":
        first, second = float(each.sum()), float((each**2).sum())
        limit = second / first * float(special.gammaincinv(first**2 / second, failure / 2)) if first > 0 else 0.0
        low = min(low, known_y + float(y.sum()) + limit)
    return value, low, high


def _failed(survey: Survey, sample: Sample, look: Look, y: Floats, d: Floats | None) -> tuple[float, float]:
    """How far the answer may lie below and above for rows without an answer, if they are like the extremes seen."""
    failed = survey.table.failed
    if not failed.any():
        return 0.0, 0.0
    codes = survey.strata.codes[survey.drawn]
    lost = np.bincount(codes[failed], minlength=len(sample.rows)) / np.maximum(
        np.bincount(codes, minlength=len(sample.rows)), 1
    )
    effect = (y if d is None else y - look.fit.value * d) * abs(look.fit.scale)
    if not len(effect):
        return np.inf, np.inf
    mean = sample.mean(effect)
    rows = sample.rows * lost
    below = float((rows * (mean - min(0.0, effect.min()))).sum())
    above = float((rows * (max(0.0, effect.max()) - mean)).sum())
    return max(below, 0.0), max(above, 0.0)
