"""Exact recall by two zones: the top labelled throughout, every row below it labelled by the toss of a coin.

**Design.** The best `top` unlabelled rows are all labelled. Of the `N` below, each is labelled with probability `f`,
on its own. Let S be the positives known outside the tail (zone, pilot, known beforehand) and T those in it, fixed
but unknown; P = S + T. Labelled positives are returned wherever they lie, so only *untossed* positives can be missed.

**Hypothesis.** Up to m = floor((1 - recall) P) positives may be missed. Count untossed positives from the bottom of the
table up; k* is the place of the (m + 1)-th. A cut at or above k* misses too many, a cut below it does not.

**Test.** The cut is put just below the (q + 1)-th labelled positive from the bottom, q = q(x) where x is the number of
labelled positives in the tail. It errs exactly if at most q(x) labelled positives lie below k*. From the bottom up
the positives are independent tosses, and k* is where the (m + 1)-th fails: the labelled ones below k* are negative
binomial (m + 1, f), and those above it binomial (T - m - 1 - them, f), *for every arrangement of the positives*. So the
chance of error is a function of T alone,

    error(T) = sum_i NB(i; m + 1, f) P(q(i + Bin(T - m - 1 - i, f)) >= i),

and `allowance` makes the table q so that it is at most delta for every T from 0 to N.

**No multiplicity.** There is one event per T, not one per cut: only the place of k* matters, and it is fixed by what
was tossed, not by the choice of a cut. Nor is there any slack for T: no bound on P is spent.

With top = 0 this is uniform sampling, and beats the binomial test on positives (Lewis, Yang and Frieder, 2021) by what
labelled positives save; with f small the two agree. With S large and T small it is a bound on the tail alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, bdtrc, gammaln, ndtri

from aidb.stats.selection.pilot import Outlook, labels_needed, outlook, pilot
from aidb.stats.selection.population import YES, Floats, Ints, Population
from aidb.stats.selection.result import Chosen

_ROUNDING = 1e-9
_USED = 0.85
"""Of delta. The chance of error is computed exactly, so all of it may be used; then a thousand repetitions would show
a coverage as often below 1 - delta as above. The rest is a margin against that."""
_CLASSES = 600
"""So many numbers of allowed misses are told apart in the calibration; more are joined, on the safe side."""
_SHIFT = 0.2
"""Of the normal curve against the skewed count; any value is valid, this one certifies a little more."""


@dataclass(frozen=True)
class Design:
    """top: unlabelled rows from the best that are all labelled. rate: probability of a label below.

    precision: that the answer is expected to have. cut: unlabelled rows above which it is expected to end.
    """

    top: int
    rate: float
    precision: float
    cut: int


def zones(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """The certificate of this module, after a pilot of a twentieth of the budget. Everything, if it cannot be had."""
    expected = pilot(population, pilot_size(population.left), rng)
    return run(population, expected, recall, delta, rng)


def pilot_size(budget: int) -> int:
    """Labels to plan with."""
    return min(max(budget // 50, 40), budget // 5)


def plan(expected: Outlook, budget: int, recall: float, delta: float) -> Design:
    """The top zone that promises the highest precision, over what the pilot may have wrong.

    The mean over scenarios, not the likeliest one: an answer that cannot be certified is the whole table.
    """
    top = np.unique(np.concatenate([expected.edges, np.linspace(0, budget, 40).astype(np.int64)]))
    top = top[(top <= budget) & (top < expected.rows)]
    below = expected.rows - top
    rate = np.array([coin(int(rows), int(budget - done)) for rows, done in zip(below, top, strict=True)])
    some = (rate > 0) & (rate < 1)
    top, below, rate = top[some], below[some], rate[some]
    if not len(top):
        return Design(0, 0.0, expected.total / max(expected.rows, 1), expected.rows)
    quality, cuts, _ = _foresee(expected, top, rate, recall, delta)
    best = int(np.argmax(quality))
    return Design(int(top[best]), float(rate[best]), float(quality[best]), int(cuts[best]))


def plan_total(expected: Outlook, recall: float, delta: float) -> tuple[Design, float]:
    """The design after which the fewest rows are labelled if every row of the answer has to be; and how many."""
    tops = np.append(0, expected.position(np.linspace(0.3, 0.995, 40) * expected.positives[-1]).astype(np.int64))
    rates = np.geomspace(min(30 / max(expected.rows, 60), 0.5), 0.9, 40)
    top, rate = (grid.ravel() for grid in np.meshgrid(tops[tops < expected.rows], rates))
    quality, cuts, labels = _foresee(expected, top, rate, recall, delta)
    best = int(np.argmin(labels))
    return Design(int(top[best]), float(rate[best]), float(quality[best]), int(cuts[best])), float(labels[best])


def _foresee(expected: Outlook, top: Ints, rate: Floats, recall: float, delta: float) -> tuple[Floats, Floats, Floats]:
    """Mean precision, cut, and labels if the whole answer is labelled, of designs (arrays) over the scenarios."""
    whole = expected.total / max(expected.rows, 1)
    quality, cuts, labels = np.zeros(len(top)), np.zeros(len(top)), np.zeros(len(top))
    strict = float(-ndtri(delta))
    before = expected.before(top)
    for more, luck, chance in _SCENARIOS:
        outside = expected.found + before / math.sqrt(more)
        tail = more * (expected.positives[-1] - before) + (more - _SCENARIOS[0][0]) * 0.03 * expected.total
        hits = np.maximum(rate * tail + luck * np.sqrt(rate * (1 - rate) * tail), 0)
        allowed = np.floor(_threshold(hits, outside, rate, recall, strict))
        # With fewer misses allowed, none would be seen with a probability above delta.
        allowed[-np.log1p(-rate) * ((1 - recall) * (outside + hits / rate) + 0.5) < -math.log(delta)] = -1
        share = np.clip((allowed + 0.5) / np.maximum(hits, 0.5), 0, 1)
        cut = np.maximum(expected.position(expected.positives[-1] - share * (expected.positives[-1] - before)), top)
        cut = np.where(allowed >= 0, cut, expected.rows)
        untold = (cut - top) * (1 - rate)
        verified = outside + hits
        kept = verified + (1 - share) * tail * (1 - rate)
        quality += chance * np.where(allowed >= 0, kept / np.maximum(verified + untold, kept), whole)
        cuts += chance * cut
        labels += chance * (cut + rate * (expected.rows - cut))
    return quality, cuts, labels


_SCENARIOS = [
    (more, luck, 0.25 * chance if abs(luck) else 0.5 * chance)
    for more, chance in ((0.6, 0.25), (1.0, 0.5), (1.7, 0.25))
    for luck in (-1.2, 0.0, 1.2)
]
"""(times more positives in the tail, standard deviations more of them labelled, chance): what a plan is judged by."""


def run(population: Population, expected: Outlook, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """Labels the top in steps, as each shows better where it should end; tosses; tests; spends what is left."""
    for share in (0.5, 0.75):
        design = plan(expected, population.left, recall, delta)
        population.ask(population.unknown()[: int(share * design.top)])
        expected = outlook(population)
    chosen = certify(population, plan(expected, population.left, recall, delta), expected, recall, delta, rng)
    if chosen.cut < population.n:
        clean_up(population, chosen.cut)
    return chosen


def certify(
    population: Population,
    design: Design,
    expected: Outlook,
    recall: float,
    delta: float,
    rng: np.random.Generator,
    bottom: int | None = None,
    reserved: int = 0,
) -> Chosen:
    """The cut that this design allows; everything, if none.

    bottom: rank where the tail ends; the rows below are taken to hold no more than `reserved` positives, unseen.
    """
    needed = labels_needed(expected, population, recall, delta)
    everything = Chosen(population.n, "guaranteed", "zones", 1.0, None, needed, (EVERYTHING,))
    if not 0 < design.rate < 1:
        return everything
    pool = population.unknown(0, bottom)
    population.ask(pool[: design.top])
    tail = pool[design.top :]
    outside = len(population.positives())
    within = float(bdtr(min(population.left, len(tail)), len(tail), design.rate))
    likely = design.rate * max(expected.total - outside, 0)
    table = allowance(outside, len(tail), design.rate, recall, _USED * delta * within, likely, reserved)
    tossed = tail[_toss(len(tail), design.rate, population.left, rng)]
    hits = tossed[population.ask(tossed) == YES]
    allowed = table[min(len(hits), len(table) - 1)]
    if allowed < 0:
        return everything
    cut = int(hits[-1 - allowed]) + 1 if allowed < len(hits) else int(tail[0])
    return Chosen(cut, "guaranteed", "zones", recall, None, needed)


EVERYTHING = "No smaller answer could be certified: every row is returned but those that were labelled negative."


def clean_up(population: Population, cut: int) -> None:
    """Spends the labels that are left on the worst unlabelled rows above the cut.

    Only removes negatives from the answer, so every certificate stands.
    """
    above = population.unknown(0, cut)
    population.ask(above[max(len(above) - population.left, 0) :])


def coin(rows: int, budget: int) -> float:
    """The highest probability with which rows can be tossed so that the budget is 2 standard deviations above."""
    if rows <= 0 or budget >= rows:
        return 1.0 if budget >= rows else 0.0
    share = budget / rows
    # Root of rows * f + 2 sqrt(rows * f (1 - f)) = budget.
    a, b, c = 1 + 4 / rows, -2 * share - 4 / rows, share * share
    return max((-b - math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a), 0.0)


def _toss(rows: int, rate: float, budget: int, rng: np.random.Generator) -> Ints:
    """Rows of independent tosses, given that they fit into the budget; that condition is paid for in delta."""
    count = rng.binomial(rows, rate)
    while count > budget:
        count = rng.binomial(rows, rate)
    return np.sort(rng.choice(rows, count, replace=False, shuffle=False))


def allowance(
    outside: int, rows: int, rate: float, recall: float, delta: float, likely: float, reserved: int = 0
) -> Ints:
    """The table q: how many labelled positives may lie below the cut, by their number in the tail; -1 for no cut.

    outside: positives known outside the tail. rows: rows of the tail. rate: of the toss. likely: labelled positives to
    be expected in the tail; sets the length of the table, whose last entry stands for all longer ones. Nothing here may
    depend on what the toss brought.
    """
    most = int(2 * likely + 6 * math.sqrt(likely) + 60)
    largest = int(min(rows, 1.5 * (most + 30) / rate))
    misses, positives = _classes(outside, rows, largest, recall)
    misses = np.maximum(misses - reserved, -1)  # -1: whatever the cut, too many are missed
    best = np.full(most + 1, -1)
    low, high = 0.0, 6.0
    for strict in (-ndtri(delta), *[None] * 8):
        strict = (low + high) / 2 if strict is None else strict
        table = _table(np.arange(most + 1), outside - reserved / (1 - recall), rate, recall, strict)
        if error(table, misses, positives, rate).max() <= delta:
            high, best = strict, table
        else:
            low = strict
        high = min(high, low + 1) if low else high
    return best


def error(table: Ints, misses: Ints, positives: Ints, rate: float) -> Floats:
    """Chance that the cut of this table misses more than `misses` of the `positives` of the tail; one entry a case."""
    reached = np.arange(table[-1] + 1)
    need = np.searchsorted(table, reached)  # labelled positives from which on so many may lie below the cut
    untossed = misses[:, None] + 1
    failures = np.maximum(untossed, 1e-9)
    log = gammaln(failures + reached) - gammaln(failures) - gammaln(reached + 1)
    below = np.exp(log + failures * math.log1p(-rate) + reached * math.log(rate))
    rest = np.maximum(positives[:, None] - untossed - reached, -1)
    above = need - reached
    enough = bdtrc(np.maximum(above - 1, 0), np.maximum(rest, 1), rate)
    enough = np.where(above <= 0, 1.0, np.where(rest < above, 0.0, enough))
    chance: Floats = np.where(rest >= 0, below * enough, 0.0).sum(axis=1)
    return chance


def _classes(outside: int, rows: int, largest: int, recall: float) -> tuple[Ints, Ints]:
    """Cases (misses allowed, positives in the tail) that are at least as bad as any number of positives up to `rows`.

    With the misses allowed held, more positives in the tail only add labelled ones above k*, which lets the cut go
    higher; so of all numbers with the same misses the largest is worst. Classes are joined by taking the fewest misses
    and the most positives of any.
    """
    fewest = math.floor((1 - recall) * outside + _ROUNDING)
    most = math.floor((1 - recall) * (outside + largest) + _ROUNDING)
    misses = np.unique(np.rint(np.linspace(fewest, most, min(most - fewest + 1, _CLASSES))).astype(np.int64))
    # The most positives for which no more than next - 1 misses are allowed.
    following = np.append(misses[1:], most + 1)
    positives = np.ceil((following - _ROUNDING) / (1 - recall)).astype(np.int64) - 1 - outside
    positives[-1] = rows
    return misses, np.minimum(positives, rows)


def _table(hits: Ints, outside: float, rate: float, recall: float, strict: float) -> Ints:
    table = np.floor(_threshold(hits.astype(np.float64), np.asarray(outside), np.asarray(rate), recall, strict)).astype(
        np.int64
    )
    return np.maximum.accumulate(np.clip(table, -1, hits))


def _threshold(hits: Floats, outside: npt.NDArray[np.number], rate: Floats, recall: float, strict: float) -> Floats:
    """Labelled positives that may lie below the cut, by the normal curve: their mean if just too many are missed,
    less `strict` standard deviations of (1 - rate) x + (1 - recall) hits."""
    positives = (hits + 1) / rate
    misses = np.maximum((1 - recall) * (outside + positives), 0)
    spread = recall**2 * misses * rate + (1 - recall) ** 2 * rate * np.maximum((1 - rate) * positives - misses, 0)
    least: Floats = ((1 - recall) * (rate * outside + hits) - strict * np.sqrt(spread) + _SHIFT) / (1 - rate)
    return least
