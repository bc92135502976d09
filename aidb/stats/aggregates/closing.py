"""The interval at the end: what no row was seen of, few matches, failed rows, and what cannot be otherwise."""

from __future__ import annotations

import numpy as np
from scipy import special

from aidb.stats.aggregates.adaptive import MATCHES, Goal, Look, Reached
from aidb.stats.aggregates.regression import Sample
from aidb.stats.aggregates.strata import Floats
from aidb.stats.aggregates.survey import Survey

CANCELLED = 0.1
"""A total below this share of the sum of the absolute values is called near zero."""


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
        return whole(survey, look.group, look.aggregate)
    if d is not None and fit.scale == 0:
        return float("nan"), -np.inf, np.inf, False
    if fit.matches < MATCHES and not reached.complete:
        value, low, high = _few(sample, y, d, look, kind, known_y, known_d, failure)
    below, above = _failed(survey, sample, (y if d is None else y - fit.value * d) * abs(fit.scale))
    low, high = low - below, high + above
    if kind == "count":  # what was seen is there
        low = max(low, float(y.sum()) + known_y)
        value = max(value, low)
        high = max(high, value)
    return value, low, high, _keeps(goal, value, low, high) and (fit.matches >= MATCHES or reached.complete)


def whole(survey: Survey, group: int, aggregate: int) -> tuple[float, float, float, bool]:
    """The answer where every row was asked or known, and none failed."""
    y, d = survey.table.column(group, aggregate)
    value = _whole(y, d, *survey.constants(group, aggregate))
    return value, value, value, True


def close_uniform(
    survey: Survey, found: tuple[float, float, float], kind: str, goal: Goal
) -> tuple[float, float, float, bool]:
    """The same for the plainer methods, whose intervals are made already."""
    value, low, high = found
    y, d = survey.table.column(0, 0)
    answered = survey.answered
    y, d = y[answered], None if d is None else d[answered]
    known_y, known_d = survey.constants(0, 0)
    if survey.draws.total >= survey.strata.n and answered.all():
        return whole(survey, 0, 0)
    scale = 1.0 if d is None or not d.any() else 1 / (survey.strata.n * float(d.mean()) + known_d)
    effect = (y if d is None else y - value * d) * scale
    below, above = _failed(survey, survey.sample(), effect)
    low, high = low - below, high + above
    if kind == "count":
        low = max(low, float(y.sum()) + known_y)
        value = max(value, low)
        high = max(high, value)
    matches = int(np.count_nonzero(y if d is None else d))
    return value, low, high, _keeps(goal, value, low, high) and matches >= MATCHES


def notes(survey: Survey, goal: Goal, met: bool, budget: int | None, unseen: float) -> tuple[str, ...]:
    """What the reader of a report should know."""
    said = []
    lost, total = len(survey.failed), survey.draws.total
    if lost:
        said.append(f"{lost} of {total} items gave no answer; the interval allows them what was seen elsewhere.")
    if goal.error is not None and not met:
        if budget is not None and total >= budget and total < survey.strata.n:
            said.append(f"The budget of {budget} labels does not reach the error; this is the interval it gives.")
        elif lost:
            said.append("Without the items that failed the error cannot be kept.")
    cancelled = _cancelled(survey) if goal.error is not None and goal.relative and total >= survey.strata.n else 1.0
    if cancelled < CANCELLED:
        said.append(
            f"Gains and losses cancel: the total is {cancelled:.1%} of what its rows add up to without their signs, and a "
            "relative error of so little needs every row. An absolute error needs fewer."
        )
    if not survey.table.lines().any() and total < survey.strata.n:
        said.append(f"No match was seen in {total} items; {unseen:.0f} items may hold one.")
    return tuple(said)


def _cancelled(survey: Survey) -> float:
    """The total as a share of the sum of the absolute values; 1 where there is more than one total, or none."""
    if len(survey.keys) != 1 or survey.table.kinds != ("sum",):
        return 1.0
    y, _ = survey.table.column(0, 0)
    known, _ = survey.constants(0, 0)
    size = float(np.abs(y).sum()) + abs(known)
    return abs(float(y.sum()) + known) / size if size > 0 else 1.0


def _whole(y: Floats, d: Floats | None, known_y: float, known_d: float) -> float:
    """The answer from all rows."""
    if d is None:
        return float(y.sum()) + known_y
    weight = float(d.sum()) + known_d
    return (float(y.sum()) + known_y) / weight if weight else float("nan")


def _keeps(goal: Goal, value: float, low: float, high: float) -> bool:
    """Is everything in the interval within the error of the value? A hair's breadth is rounding."""
    if goal.error is None or not np.isfinite([value, low, high]).all():
        return False
    return max(high - value, value - low) <= goal.half(value) * (1 + 1e-9)


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


def _failed(survey: Survey, sample: Sample, effect: Floats) -> tuple[float, float]:
    """How far the answer may lie below and above for rows without an answer, if they are like the extremes seen.

    effect: (m,) what each answered row adds to the answer.
    """
    failed = survey.table.failed
    if not failed.any():
        return 0.0, 0.0
    if not len(effect):
        return np.inf, np.inf
    codes, many = survey.codes(), survey.strata.count
    asked = np.maximum(np.bincount(codes, minlength=many), 1)
    rows = sample.rows * np.bincount(codes[failed], minlength=many) / asked
    mean = sample.mean(effect)
    below = float((rows * (mean - min(0.0, float(effect.min())))).sum())
    above = float((rows * (max(0.0, float(effect.max())) - mean)).sum())
    return max(below, 0.0), max(above, 0.0)
