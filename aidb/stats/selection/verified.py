"""Recall where every returned row is labelled: precision is 1, and the labels in all are what there is to save.

Two certificates, each valid whatever the proxy; which of them is taken depends on labels that neither counts.

- Where scores tell rows apart down to the last positive, that of `aidb.stats.selection.zones`: the certificate costs
  labels below the cut, and saves rows above it. Its size is planned for the sum.
- Where most rows have one score (a detector that has seen nothing in them), or where neighbours tell more than scores
  do (frames of a video), there is no cut to be found, and two kinds of labels take turns. *Likely* rows, the best
  first, are what the answer is made of. *Random* ones among all the others prove that few positives are left
  (`aidb.stats.selection.evidence`), and this proof holds whatever is labelled between. After each step it is planned
  anew after how many likely rows the fewest labels in all are to be expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from aidb.errors import BudgetExceeded
from aidb.stats.selection import zones
from aidb.stats.selection.belief import Belief, Flags, belief
from aidb.stats.selection.cells import cells
from aidb.stats.selection.evidence import Evidence, log_forecast, log_hypergeometric, too_many
from aidb.stats.selection.pilot import labels_needed, outlook, pilot
from aidb.stats.selection.population import YES, Floats, Population
from aidb.stats.selection.result import Chosen

_FEWEST, _SOME = 8, 48
"""Rows that are labelled at once at least, as each call has its overhead; and that are not worth several batches."""
_PART = 0.3
"""Of the random rows that are expected to be needed, drawn in one batch."""
_EXPLORE = 0.35
"""Rows are drawn without a stake until so many positives would have been met, if as many were left as may be missed."""
_SURE, _UNSURE = 0.7, 0.5
"""Shares of what is left that are staked where the target seems to be reached by now, and where it does not."""
_TELLING = 3.0
"""Nats by which neighbours must foretell the labels of the top better than scores to be followed below it."""
_WORTH = 0.85
"""A proof is begun anew if that is expected to take so many times the labels of going on."""
_FADE = 0.7
"""What was hoped of likely rows, and what came, counts so many times less with each batch."""
_SCENARIOS = ((0.5, 0.3), (1.0, 0.4), (2.0, 0.3))
"""(times as many positives among the rows that are left, chance): what a plan is judged by."""
_TOPS = np.concatenate([[0.0], np.linspace(0.02, 0.995, 28)])
"""Shares of the expected positives that the likely rows to be labelled may hold."""
_SHARES = np.unique(np.concatenate([np.geomspace(0.001, 0.3, 20), np.linspace(0.3, 0.98, 12)]))
"""Shares of the rest that may be drawn."""
_PLENTY = 1e6
"""Evidence that stands for infinitely much."""


@dataclass(frozen=True)
class _Plan:
    """likely: rows to be labelled, best first. random: rows to be drawn among the rest. labels: of both, expected."""

    likely: int
    random: float
    labels: float


def exact(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """At least `recall` of the positives, all labelled, by the certificate that fits the proxy.

    P(recall >= target) >= 1 - delta for every table and every score. Raises `BudgetExceeded` if the labels allowed do
    not reach for all rows of the answer.
    """
    _pilot(population, rng)
    return _exact(population, recall, delta, rng)


def auto(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """As `exact`, but by the cell sampler where a certificate would need more than half of the table, and says so.

    Not where most rows have one score: there the cells have nothing to go by either.
    """
    _pilot(population, rng)
    expected = outlook(population)
    _, labels = zones.plan_total(expected, recall, delta)
    if labels <= 0.5 * population.n or _is_flat(population):
        return _exact(population, recall, delta, rng)
    # Enough to see where the positives end: a few times the rank that recall needs, by the pilot.
    allowed = population.budget
    reach = float(expected.position(recall * expected.positives[-1]))
    population.budget = population.used + min(population.left, max(1000, int(2 * reach)), population.n // 2)
    chosen = cells(population, recall, delta, rng)
    population.budget = allowed
    needed = labels_needed(expected, population, recall, delta)
    note = f"An exact certificate was not tried: it would have taken about {round(labels)} labels."
    chosen = replace(chosen, labels_needed=needed, notes=(note, *chosen.notes))
    return _label_answer(population, chosen)


def _pilot(population: Population, rng: np.random.Generator) -> None:
    rows = len(population.unknown())
    pilot(population, min(max(60, rows // 200), 2000, rows // 5, population.left), rng)


def _none(population: Population) -> Flags:
    return np.zeros(population.n, dtype=np.bool_)


def _found(population: Population) -> int:
    return len(population.positives())


def _exact(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    if _is_flat(population):
        return _hunt(population, recall, delta, rng)
    expected = outlook(population)
    # Three looks: as the top is labelled it shows better how much of it is worth labelling.
    for share in (0.5, 0.75):
        design, _ = zones.plan_total(expected, recall, delta)
        population.ask(population.unknown()[: min(int(share * design.top), population.left)])
        expected = outlook(population)
    if belief(population, _none(population)).gain >= _TELLING:
        return _hunt(population, recall, delta, rng)
    design, _ = zones.plan_total(expected, recall, delta)
    most = zones.coin(expected.rows - design.top, population.left - design.top)
    design = replace(design, rate=min(design.rate, most))
    return _label_answer(population, zones.certify(population, design, expected, recall, delta, rng))


def _is_flat(population: Population) -> bool:
    """Have most unlabelled rows one and the same score?"""
    _, rows = np.unique(population.scores[population.unknown()], return_counts=True)
    return bool(len(rows)) and int(rows.max()) > 0.5 * rows.sum()


def _hunt(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    needed = labels_needed(outlook(population), population, recall, delta)
    hunt = _Hunt(population, recall, delta, rng)
    while not hunt.is_done():
        hunt.step()
    return Chosen(0, "guaranteed", "sequential", recall, 1.0, needed)


class _Hunt:
    """The state of one verified answer with a proof."""

    def __init__(self, population: Population, recall: float, delta: float, rng: np.random.Generator) -> None:
        self.population, self.recall, self.delta, self.rng = population, recall, delta, rng
        self.evidence = Evidence()
        self.told = _none(population)
        self.explored = 0
        self.hoped = self.came = 0.0

    def is_done(self) -> bool:
        """Is the recall of what was found proved?"""
        found, rows = _found(self.population), len(self.population.unknown())
        return self.evidence.certifies(self.recall, found, rows, self.delta)

    def step(self) -> None:
        """One batch of likely rows, or of random ones."""
        population, found = self.population, _found(self.population)
        likely = belief(population, self.told, min((self.came + 2) / (self.hoped + 2), 1.0))
        explore = math.ceil(_EXPLORE * likely.rows / max(found * (1 - self.recall) / self.recall, 1))
        exploring = not self.evidence.stakes and self.explored < explore
        plan = self._stake(likely, found, exploring=exploring)
        if not population.left:
            raise BudgetExceeded(
                f"a verified answer needs about {max(round(plan.labels), 1):,} labels more than the {population.budget:,} "
                "that are allowed; allow more, or ask for an unverified answer"
            )
        if plan.likely:
            count = max(_FEWEST, min((plan.likely + 1) // 2, max(_SOME, found)))
            self._label_likely(likely, min(count, population.left, likely.rows))
            return
        count = math.ceil(plan.random if plan.random <= _SOME else max(_SOME, _PART * plan.random))
        if exploring:
            count = min(count, (explore + 1) // 2)
            self.explored += count
        rows = population.unknown()
        drawn = rows[self.rng.choice(len(rows), min(max(_FEWEST, count), len(rows), population.left), replace=False)]
        hits = int(np.count_nonzero(population.ask(drawn) == YES))
        self.evidence.add(len(rows), len(drawn), hits, found, likely.total)

    def _stake(self, likely: Belief, found: int, *, exploring: bool) -> _Plan:
        """The plan, after a new stake was made if it is time for one."""
        plan = _plan(likely, self.evidence.stake(_SURE) if exploring else self.evidence, found, self.recall, self.delta)
        sure = found >= self.recall * (found + likely.total)
        if exploring or (self.evidence.stakes and not sure):
            return plan
        again = self.evidence.stake(_SURE if sure else _UNSURE)
        anew = _plan(likely, again, found, self.recall, self.delta)
        if self.evidence.stakes and anew.labels >= _WORTH * plan.labels:
            return plan
        self.evidence = again
        return anew

    def _label_likely(self, likely: Belief, count: int) -> None:
        best = likely.ranks[:count]
        self.told[best] = likely.told[:count]
        hits = np.count_nonzero(self.population.ask(best) == YES)
        self.hoped = _FADE * self.hoped + float(likely.positives[count])
        self.came = _FADE * self.came + float(hits)


def _plan(likely: Belief, evidence: Evidence, found: int, recall: float, delta: float) -> _Plan:
    """After how many likely rows the fewest labels are to be expected until the evidence is enough."""
    tops = np.unique(np.searchsorted(likely.positives, _TOPS * likely.total))
    tops = tops[tops < likely.rows]
    before = likely.positives[tops]
    rest = (likely.rows - tops).astype(np.float64)[:, None]
    drawn = _SHARES * rest
    labels, random = np.zeros(len(tops)), np.zeros(len(tops))
    for more, chance in _SCENARIOS:
        left = np.minimum(more * (likely.total - before), 0.95 * rest[:, 0])[:, None]
        known = (found + min(more, 1.0) * before)[:, None]
        hits = _SHARES * left
        total = too_many(known + hits, recall)
        gained = log_forecast(hits, drawn, left / more, rest)
        gained = gained - log_hypergeometric(hits, rest, np.minimum(total - known, rest), drawn)
        # Fewer positives than there are believed to be can be rejected too, which proves nothing.
        gained = np.where(total - known > left, gained, -np.inf)
        if evidence.batches:
            gained = gained + np.interp(total, *_proof(evidence, total.min(), found + likely.rows))
        enough = (gained >= -math.log(delta)) | (total - known - hits > rest - drawn)
        first = np.where(enough.any(axis=1), drawn[np.arange(len(tops)), enough.argmax(axis=1)], rest[:, 0])
        labels += chance * (tops + first)
        random += chance * first
    best = int(np.argmin(labels))
    return _Plan(int(tops[best]), float(random[best]), float(labels[best]))


def _proof(evidence: Evidence, least: float, most: float) -> tuple[Floats, Floats]:
    """Numbers of positives of the table, and the evidence against all that are as large or larger."""
    totals = least + np.concatenate([[0.0], np.geomspace(1, max(most - least, 2.0), 120)])
    against = np.minimum(evidence.against(totals), _PLENTY)
    return totals, np.minimum.accumulate(against[::-1])[::-1]


def _label_answer(population: Population, chosen: Chosen) -> Chosen:
    rest = population.unknown(0, chosen.cut)
    if len(rest) > population.left:
        raise BudgetExceeded(
            f"a verified answer needs {len(rest)} labels more, and {population.left} of {population.budget} are left; "
            "allow more, or ask for an unverified answer"
        )
    population.ask(rest)
    return replace(chosen, certified_precision=1.0)
