"""Counts, sums and averages within an error, from few answers; for all rows together or by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aidb.stats.aggregates.adaptive import Goal, Reached, survey_until
from aidb.stats.aggregates.closing import close, unseen_rows
from aidb.stats.aggregates.results import Estimate, GroupEstimates
from aidb.stats.aggregates.strata import Floats, Ints, cut
from aidb.stats.aggregates.survey import Answers, Survey

__all__ = ["Answers", "Estimate", "GroupEstimates", "estimate", "estimate_groups"]

AGGREGATES = ("count", "sum", "avg")
METHODS = ("auto", "exact", "asr", "clt", "ppi", "abae", "ebs", "betting", "bootstrap")
Label: TypeAlias = Callable[[Ints], npt.ArrayLike]
"""Row numbers, distinct and never asked before, to (m,) values, or (m, 2) of sum and rows for an average; NaN: failed."""
LabelGroups: TypeAlias = Callable[[Ints], Answers]


def estimate(
    scores: npt.ArrayLike | None,
    label: Label,
    *,
    aggregate: str = "count",
    error: float | None = None,
    relative: bool = True,
    probability: float = 0.95,
    budget: int | None = None,
    method: str = "auto",
    known: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    rows: int | None = None,
    rng: np.random.Generator,
) -> Estimate:
    kind = _choice("aggregate", aggregate, AGGREGATES)
    _choice("method", method, METHODS)
    n = _size(scores, rows)
    goal = Goal(_error(error), relative)
    kept = None if known is None else (known[0], _table(kind, known[1], len(np.atleast_1d(known[0]))))

    def ask(indices: Ints) -> Answers:
        return _table(kind, label(indices), len(indices))

    survey, reached = _sample(scores, n, ask, (kind,), (goal,), probability, budget, kept, False, method, rng)
    look = reached.looks[0]
    value, low, high, met = close(survey, reached, look, kind, goal, 1 - probability)
    return Estimate(
        value=value,
        low=low,
        high=high,
        aggregate=kind,
        mode="exact" if reached.complete and survey.answered.all() else "asymptotic",
        method="exact" if reached.complete else "asr",
        error=goal.error,
        relative=relative,
        probability=probability,
        met=None if goal.error is None else met,
        labels_used=survey.draws.total,
        failed=survey.failed,
        population=n,
        history=reached.history,
        notes=(),
    )


def _sample(scores, n, ask, kinds, goals, probability, budget, known, grouped, method, rng):
    asked = None
    if known is not None:
        there = np.asarray(known[0], dtype=np.int64)
        left = np.ones(n, dtype=bool)
        left[there] = False
        asked = np.flatnonzero(left)
        scores = None if scores is None else np.asarray(scores)[asked]
    errors = [g.error for g in goals if g.error is not None and g.relative]
    strata = cut(scores, n if asked is None else len(asked), min(errors, default=0.05) / 4)
    survey = Survey(strata, ask, kinds, rng, asked)
    if known is not None:
        survey.known.add(known[1], len(there))
    if not grouped:
        survey.keys.setdefault(None, 0)
    reached = survey_until(survey, goals, 1 - probability, n if method == "exact" else budget, grouped)
    return survey, reached


def _table(kind: str, given: npt.ArrayLike, count: int) -> Answers:
    values = np.asarray(given, dtype=np.float64)
    shape = (count, 2) if kind == "avg" else (count,)
    if values.shape != shape:
        raise ValueError(f"label() was asked for {count} rows and gave an array of shape {values.shape}, not {shape}")
    return Answers(np.arange(count), (values,))


def _choice(what, given, allowed):
    if given not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}, not {given!r}")
    return given


def _error(error):
    if error is not None and not error > 0:
        raise ValueError(f"error must be above 0, not {error}")
    return error


def _size(scores, rows):
    return rows if scores is None else len(scores)
