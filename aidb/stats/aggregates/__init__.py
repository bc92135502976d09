"""Counts, sums and averages within an error, from few answers: of all rows together, or by group.

`estimate` and `estimate_groups` check their arguments and hand a `Survey` (strata, rows drawn, answers) to a method:
`adaptive` (the default), `uniform` or `abae`. `closing` makes the interval that is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aidb.stats.aggregates import abae, checks, uniform
from aidb.stats.aggregates.adaptive import Goal, survey_until
from aidb.stats.aggregates.closing import close, close_uniform, notes, unseen_rows, whole
from aidb.stats.aggregates.results import Estimate, GroupEstimates
from aidb.stats.aggregates.strata import Ints, cut, packed
from aidb.stats.aggregates.survey import Answers, Ask, Survey

__all__ = ["Answers", "Estimate", "GroupEstimates", "estimate", "estimate_groups"]

Label: TypeAlias = Callable[[Ints], npt.ArrayLike]
"""Row numbers, distinct and never asked before, to (m,) values, or (m, 2) of sum and rows for an average; NaN: failed."""

VISIBLE = 8.0
"""A row is taken with certainty if its share of the summed proxy reaches the error divided by this."""
USUAL = 0.05
"""The error that decides of such rows where no relative error is asked for."""


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
    bounds: tuple[float, float] | None = None,
    rng: np.random.Generator,
) -> Estimate:
    """A count, sum or average over all rows, from answers to a sample of them, with an interval always.

    scores: (n,) a proxy of the answer of each row, on any scale, higher for more; NaN where there is none; None for no
    proxy at all, then `rows` is n. label: row numbers, distinct, never asked before and never in `known`, to float
    values: for "count" the matching rows of each item, for "sum" their sum, for "avg" an (m, 2) array of sum and
    number; NaN for an item that failed. It is called with as many rows at once as the method allows.

    error: |value - truth| <= error |truth| (relative) or <= error, with `probability`; the truth is the answer of
    asking every row. None: spend the budget, or without one ask everything. budget: rows that may be asked; if it does
    not reach the error, the interval that was reached is returned and `met` is False. known: (row numbers, their
    values): free, no random sample, so they enter as constants. bounds: the least and the most one item may have.

    method: "auto" and "asr" adaptive stratified regression; "exact" all rows; "clt", "bootstrap" uniform samples;
    "ppi" the same with the proxy as a control variate (PPI++); "abae" proxy quantiles in two stages; "ebs" and
    "betting" hold for every population within `bounds`, and need many more rows.

    Guarantee: all but "exact", "ebs" and "betting" are asymptotic (see `adaptive`). They hold for any proxy, but not
    for what no sample can show: a row of a large share of the total that the proxy does not tell from others is missed
    unless nearly all rows are asked. Where that may be, give `bounds` and use "betting".
    Raises ValueError for arguments that make no sense, or a method without a sound form for the aggregate.
    """
    kind = checks.aggregate(aggregate)
    goal = Goal(checks.error(error), relative)
    failure = 1 - checks.probability(probability)
    most = checks.budget(budget)
    array, n = checks.population(scores, rows)
    checks.method(method, kind, array is None, bounds)

    def ask(indices: Ints) -> Answers:
        return _single(kind, label(indices), len(indices))

    kept = None
    if known is not None:
        there = checks.known(known[0], n)
        kept = (there, _single(kind, known[1], len(there)))
    survey = _survey(array, n, ask, (kind,), (goal,), kept, method, rng)
    survey.keys.setdefault(None, 0)
    found = _run(survey, (goal,), failure, most, False, method, bounds, rng)
    value, low, high, met = found.closed[0]
    return Estimate(
        value=value,
        low=low,
        high=high,
        aggregate=kind,
        mode=found.mode,
        method=found.method,
        error=goal.error,
        relative=relative,
        probability=probability,
        met=None if goal.error is None else met,
        labels_used=survey.draws.total,
        failed=survey.failed,
        population=n,
        history=found.history,
        notes=notes(survey, goal, met, most, found.unseen),
    )


def estimate_groups(
    scores: npt.ArrayLike | None,
    label: Ask,
    aggregates: Sequence[str] = ("count",),
    *,
    error: float | Sequence[float] | None = None,
    relative: bool | Sequence[bool] = True,
    probability: float = 0.95,
    budget: int | None = None,
    method: str = "auto",
    known: tuple[npt.ArrayLike, Answers] | None = None,
    rows: int | None = None,
    bounds: tuple[float, float] | None = None,
    grouped: bool = True,
    rng: np.random.Generator,
) -> GroupEstimates:
    """Several aggregates, of groups that are not known beforehand, from one shared sample; all hold together.

    scores, rows, probability, budget, bounds: as for `estimate`. label: row numbers to `Answers`, a table of lines
    (which row, which group, one value for each aggregate). grouped: False says that there are no groups (every
    `group` is None); the result then has the one group None, also if nothing matched. method: the methods other than
    "auto", "asr" and "exact" take one aggregate without groups.
    aggregates: "count", "sum" or "avg", in the order of the values. error, relative: one for all, or one for each.
    known: row numbers, and their lines (positions count into those row numbers).

    The probability of failure is shared evenly by all groups seen and all aggregates (Bonferroni). Groups with ten
    rows among the first 600 asked (or later, if none has) are *targeted*: the sample grows until each of them keeps
    the error. The others get the interval that the sample happens to give. Groups never seen hold at most `unseen`
    rows together (rule of three). Raises ValueError as `estimate` does.
    """
    kinds = tuple(checks.aggregate(a) for a in aggregates)
    if not kinds:
        raise ValueError("aggregates: name at least one")
    errors = [checks.error(e) for e in checks.each(error, len(kinds), "error")]  # type: ignore[arg-type]
    if len({e is None for e in errors}) > 1:
        raise ValueError("error: give one for every aggregate, or for none")
    goals = [Goal(e, bool(r)) for e, r in zip(errors, checks.each(relative, len(kinds), "relative"), strict=True)]
    failure = 1 - checks.probability(probability)
    most = checks.budget(budget)
    array, n = checks.population(scores, rows)
    for kind in kinds:
        checks.method(method, kind, array is None, bounds)
    if method not in ("auto", "asr", "exact") and (grouped or len(kinds) > 1):
        raise ValueError(f"method {method} takes one aggregate without groups: use auto")
    kept = None if known is None else (checks.known(known[0], n), known[1])
    survey = _survey(array, n, label, kinds, goals, kept, method, rng)
    if not grouped:
        survey.keys.setdefault(None, 0)
    found = _run(survey, goals, failure, most, grouped, method, bounds, rng)
    shape = (len(survey.keys), len(kinds))
    value, low, high = (np.array([c[i] for c in found.closed], dtype=np.float64).reshape(shape) for i in range(3))
    met = np.array([c[3] for c in found.closed], dtype=bool).reshape(shape)
    targeted = np.array([g in found.targeted for g in range(shape[0])], dtype=bool)
    return GroupEstimates(
        groups=tuple(survey.keys),
        aggregates=kinds,
        value=value,
        low=low,
        high=high,
        met=met if goals[0].error is not None else np.zeros(shape, dtype=bool),
        targeted=targeted,
        seen=survey.table.lines() + survey.known.lines(),
        unseen=found.unseen + len(survey.failed),
        mode=found.mode,
        method=found.method,
        error=tuple(errors),
        relative=tuple(g.relative for g in goals),
        probability=probability,
        labels_used=survey.draws.total,
        failed=survey.failed,
        population=n,
        history=found.history,
        notes=notes(survey, goals[0], bool(met[targeted].all()), most, found.unseen),
    )


@dataclass(frozen=True)
class _Found:
    """What a method found. closed: value, low, high, met of every group and aggregate, group by group."""

    closed: tuple[tuple[float, float, float, bool], ...]
    targeted: frozenset[int]
    mode: str
    method: str
    unseen: float
    history: tuple[tuple[int, float, float, float], ...]


def _run(
    survey: Survey,
    goals: Sequence[Goal],
    failure: float,
    budget: int | None,
    grouped: bool,
    method: str,
    bounds: tuple[float, float] | None,
    rng: np.random.Generator,
) -> _Found:
    """One method over one survey."""
    n, kinds = survey.strata.n, survey.table.kinds
    if method == "exact" or (goals[0].error is None and budget is None):
        if budget is not None and budget < n:
            raise ValueError(f"method exact asks {n} rows, the budget is {budget}")
        survey.ask(survey.strata.sizes)
    mode, targeted = "asymptotic", frozenset({0})
    history: tuple[tuple[int, float, float, float], ...]
    if n == 0:
        places = [(g, a) for g in range(len(survey.keys)) for a in range(len(kinds))]
        closed, history = [whole(survey, g, a) for g, a in places], ()
        targeted = frozenset(g for g, _ in places)
    elif method in ("auto", "asr", "exact"):
        reached = survey_until(survey, tuple(goals), failure, budget, grouped)
        share = failure / max(len(reached.looks), 1)
        closed = [close(survey, reached, k, kinds[k.aggregate], goals[k.aggregate], share) for k in reached.looks]
        targeted, history, used = reached.targeted, reached.history, "asr"
    else:
        if method == "abae":
            value, low, high, history = abae.grow(survey, goals[0], failure, budget, rng)
        else:
            value, low, high, history = uniform.grow(survey, goals[0], failure, budget, _interval(method, bounds, rng))
        closed = [close_uniform(survey, (value, low, high), kinds[0], goals[0])]
        mode, used = ("guaranteed" if method in ("ebs", "betting") else mode), method
    if survey.draws.total >= n:
        used, mode = "exact", mode if survey.table.failed.any() else "exact"
    unseen = unseen_rows(survey.sample(), failure) if n else 0.0
    return _Found(tuple(closed), targeted, mode, used, unseen, history)


def _survey(
    scores: npt.NDArray[np.floating[Any]] | None,
    n: int,
    ask: Ask,
    kinds: tuple[str, ...],
    goals: Sequence[Goal],
    known: tuple[Ints, Answers] | None,
    method: str,
    rng: np.random.Generator,
) -> Survey:
    """Strata for the method, without the rows that are known."""
    rest: Ints | None = None
    if known is not None:
        left = np.ones(n, dtype=bool)
        left[known[0]] = False
        rest = np.flatnonzero(left)
        scores, n = None if scores is None else scores[rest], len(rest)
    if method in ("auto", "asr", "exact"):
        wanted = [g.error for g in goals if g.error is not None and g.relative]
        strata = cut(scores, n, min(min(wanted, default=USUAL), 1.0) / VISIBLE)
    elif method == "abae" and scores is not None:
        strata = abae.quantiles(scores, abae.STRATA)
    else:
        proxy = np.zeros(n) if scores is None else abae.filled(scores)
        strata = packed(proxy, np.zeros(n, np.uint8))
    survey = Survey(strata, ask, kinds, rng, rest)
    if known is not None:
        survey.known.add(known[1], len(known[0]))
        if survey.known.failed.any():
            raise ValueError("known rows must have values: leave out those that failed")
    return survey


def _interval(method: str, bounds: tuple[float, float] | None, rng: np.random.Generator) -> uniform.Interval:
    if method == "bootstrap":
        return uniform.bootstrap(uniform.RESAMPLES, rng)
    if bounds is not None and method in ("ebs", "betting"):
        return uniform.ebs(bounds) if method == "ebs" else uniform.betting(bounds, rng)
    return uniform.ppi if method == "ppi" else uniform.clt


def _single(kind: str, given: npt.ArrayLike, count: int) -> Answers:
    """The answers of one aggregate without groups."""
    values = np.asarray(given, dtype=np.float64)
    shape = (count, 2) if kind == "avg" else (count,)
    if values.shape != shape:
        raise ValueError(f"label() was asked for {count} rows and gave an array of shape {values.shape}, not {shape}")
    return Answers(np.arange(count), (values,))
