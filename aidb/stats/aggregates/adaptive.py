"""Adaptive stratified regression: ask, estimate, decide how many more rows each stratum needs, until the error is met.

One procedure for dense and sparse data. Where the proxy explains the values it is a regression estimator, where
matches are rare it is a stratified sample with a bound on what was not seen; the evidence decides, not a switch.
The intervals are asymptotic: a variance from the sample, Student's t with degrees of freedom by the kurtosis
(Satterthwaite), a second-order correction for skewness (Hall 1992, section 3.10), and pseudo-observations in every
block of strata, more where nothing was seen. These are the price of stopping by what was seen: a rule that stops when
its own standard error is small stops too soon where few matches were seen by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aidb.stats.aggregates.allocation import Need, allocate, spend
from aidb.stats.aggregates.regression import Fit, Sample, fit
from aidb.stats.aggregates.strata import Floats, Ints
from aidb.stats.aggregates.survey import Survey

PILOT, PILOT_FEW = 12, 40
"""Rows of each stratum asked first; where there are no more than two strata."""
MATCHES = 10
"""An estimate with fewer matching rows is not believed."""
SETTLE = 600
"""Rows after which it is decided which groups are large enough to be given the target."""
GROWTH = 3.0
"""The sample grows at most by this factor between two looks."""
FAR, STEP = 1.4, 0.6
"""If the plan is more than FAR times what there is, only this share of the way is taken before the next look."""
MARGIN = 1.02
"""What is planned is asked with this margin, so that the next look is likely the last."""
LEAST = 1.05
"""The sample grows at least by this factor: looking often is to wait for luck."""
CAUTION, CAUTION_MOST = 3.0, 60.0
"""Sampling errors of a logarithm of a variance count as CAUTION times what they are, when a plan believes them."""
EXHAUST = 0.95
"""A plan above this share of the rows asks them all: the answer is exact, and cheaper to explain."""


@dataclass(frozen=True)
class Goal:
    """What is wanted of one aggregate. error: None to spend the budget."""

    error: float | None
    relative: bool

    def half(self, value: float) -> float:
        """The half width that keeps the error: whatever lies in an interval so wide around `value` is near enough."""
        if self.error is None:
            return 0.0
        return self.error * abs(value) / (1 + self.error) if self.relative else self.error


class Look(NamedTuple):
    """One estimate at one look."""

    group: int
    aggregate: int
    fit: Fit
    value: float
    half: float
    met: bool


@dataclass(frozen=True)
class Reached:
    """Where the sampling ended. complete: every row was asked. targeted: numbers of the groups given the target."""

    looks: tuple[Look, ...]
    sample: Sample
    complete: bool
    targeted: frozenset[int]
    history: tuple[tuple[int, float, float, float], ...]


def survey_until(survey: Survey, goals: tuple[Goal, ...], failure: float, budget: int | None, grouped: bool) -> Reached:
    """Ask rows of the survey until every targeted estimate keeps its goal, or the budget is spent, or all are asked.

    failure: probability, shared evenly by all estimates. budget: rows that may be asked; None for no limit.
    """
    strata = survey.strata
    rows, n = strata.sizes, strata.n
    most = n if budget is None else min(budget, n)
    first = PILOT if strata.count - int(strata.certain.sum()) > 2 else PILOT_FEW
    want = np.minimum(np.where(strata.certain, rows, first), rows)
    if n <= 3 * want.sum() and most == n:
        want = rows
    targeted: frozenset[int] | None = None
    history: list[tuple[int, float, float, float]] = []
    while True:
        survey.ask(_within(want, survey.draws.taken, rows, most))
        taken = survey.draws.taken.copy()
        total = int(taken.sum())
        sample = survey.sample()
        seen = survey.table.lines()
        if targeted is None:
            large = frozenset(np.flatnonzero(seen >= MATCHES).tolist())
            if large and (not grouped or total >= SETTLE or total >= most):
                targeted = large
        done = total >= most
        only = targeted if grouped and not done and targeted is not None else None
        looks = _look(survey, sample, goals, failure, only)
        if not grouped and looks:
            history.append((total, looks[0].value, looks[0].value - looks[0].half, looks[0].value + looks[0].half))
        aimed = [look for look in looks if targeted is not None and look.group in targeted]
        if not done and aimed and all(look.met for look in aimed):
            done = True
            looks = _look(survey, sample, goals, failure, None) if only is not None else looks
        if done:
            return Reached(looks, sample, total >= n, targeted or frozenset(), tuple(history))
        want = _next(aimed, goals, failure / max(len(survey.keys) * len(goals), 1), taken, rows, most)


def _within(want: Ints, taken: Ints, rows: Ints, most: int) -> Ints:
    """`want` cut down to the budget, what is taken already kept, the rest in proportion."""
    want = np.clip(want, taken, rows)
    over = int(want.sum()) - most
    if over <= 0:
        return want
    more = want - taken
    scaled = np.floor(more * ((most - taken.sum()) / more.sum())).astype(np.int64)
    # What rounding leaves goes to the strata that lost most by it, one each.
    left = most - int(taken.sum() + scaled.sum())
    lost = np.argsort(scaled - more * ((most - taken.sum()) / more.sum()), kind="stable")[:left]
    scaled[lost] += 1
    cut: Ints = taken + np.minimum(scaled, more)
    return cut


def _look(
    survey: Survey, sample: Sample, goals: tuple[Goal, ...], failure: float, only: frozenset[int] | None
) -> tuple[Look, ...]:
    """Every estimate of every group, or of some."""
    answered = survey.answered
    everyone = range(len(survey.keys))
    share = failure / max(len(everyone) * len(goals), 1)
    found = []
    for group in everyone if only is None else sorted(only):
        for a, goal in enumerate(goals):
            y, d = survey.table.column(group, a)
            if not answered.all():
                y, d = y[answered], None if d is None else d[answered]
            f = fit(sample, y, d, survey.constants(group, a))
            value, half = f.interval(share)
            enough = f.matches >= MATCHES and f.scale != 0 and f.variance > 0
            met = goal.error is not None and enough and half <= goal.half(value)
            found.append(Look(group, a, f, value, half, met))
    return tuple(found)


def _next(
    aimed: list[Look], goals: tuple[Goal, ...], failure: float, taken: Ints, rows: Ints, most: int
) -> npt.NDArray[np.int64]:
    """(K,) rows of each stratum to have asked at the next look."""
    total, n = int(taken.sum()), int(rows.sum())
    sure = [look for look in aimed if look.fit.matches >= MATCHES and look.fit.scale != 0 and look.fit.variance > 0]
    if not sure or len(sure) < len(aimed):
        want = np.minimum(2 * taken, rows)
        return want if want.sum() > total else rows
    size, floor = rows.astype(np.float64), taken.astype(np.float64)
    needs = [_need(look, goals[look.aggregate], failure, size, floor) for look in sure]
    if goals[0].error is None:
        plan = spend(needs, floor, size, float(most))
        ahead = most
    else:
        plan = allocate(needs, floor, size) * MARGIN
        ahead = plan.sum()
        if ahead > most < n:
            plan, ahead = spend(needs, floor, size, float(most)), most
    far = STEP if ahead > FAR * total else 1.0
    step = np.clip(plan - floor, 0, None) * far
    if total + step.sum() > GROWTH * total:
        step *= (GROWTH - 1) * total / step.sum()
    want = np.clip(np.ceil(floor + step - 1e-9).astype(np.int64), taken, rows)
    if want.sum() < LEAST * total + 1:
        want = np.minimum(want + np.ceil(taken * (LEAST * total + 1 - want.sum()) / total).astype(np.int64), rows)
    return rows if want.sum() >= EXHAUST * n else want


def _need(look: Look, goal: Goal, failure: float, size: Floats, taken: Floats) -> Need:
    f = look.fit
    a = size**2 * _smooth(f, size, taken)
    b = size**3 * (f.unseen / f.rows)[f.block]
    half = goal.half(look.value) / abs(f.scale)
    allowed = (half / f.quantile(failure)) ** 2 if goal.error is not None else f.variance
    return Need(a, b, allowed)


def _smooth(f: Fit, size: Floats, taken: Floats) -> Floats:
    """(K,) variances to plan with, drawn towards what the cut by square roots expects: rows x spread the same everywhere.

    A stratum that shows little by chance would else be asked less, and go on showing little. Only the proportions are
    changed: the variance with the rows taken stays what it is.
    """
    own = f.spread[f.block]
    some = own > 0
    if not some.any():
        return own
    strength = f.strength[f.block][some]
    logs = np.log(own[some]) + 2 * np.log(size[some])
    if strength.sum() <= 0:
        return own
    # Empirical Bayes: what differs by more than its sampling error (1 / evidence) is believed (the more, the more).
    middle = float((strength * logs).sum() / strength.sum())
    between = float((strength * (logs - middle) ** 2).sum() / strength.sum()) - some.sum() / float(strength.sum())
    trust = float(np.clip(CAUTION / max(between, 1e-9), 0, CAUTION_MOST))
    planned = own.copy()
    planned[some] = np.exp((strength * logs + trust * middle) / (strength + trust)) / size[some] ** 2
    weight = size**2 * (1 - taken / size) / np.maximum(taken, 1)
    now, then = float((weight * own).sum()), float((weight * planned).sum())
    return planned * (now / then) if then > 0 else planned
