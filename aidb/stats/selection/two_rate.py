"""Exact recall at low prevalence: draws at two rates, more where the cut is expected to lie.

**Design.** The rows are the known positives, which are free, and then the unlabelled ones, best first. The first
`dense` of them are drawn with replacement at a rate that is 1/rho of that of the others, the deep ones. Every draw is
independent; a row that is drawn again counts again and costs nothing.

**Hypothesis.** For a cut k <= dense, with M positives below it and K above: M > c K, c = (1 - recall) / recall. Labelled
positives below the cut are returned too, which only helps.

**Test.** Given the number of drawn positives, (those above the cut, X1 missed in the dense part, X2 deep) are
multinomial with odds (1 : c a : rho c (1 - a)) at the boundary M = c K, where a is the unknown share of the misses that
lie in the dense part: K has cancelled. Beyond the boundary X1 + X2 and X2 are stochastically larger. Reject if
T = X1 + w X2 is so small that its probability is at most delta for every a. A deep hit weighs w = 2/rho, twice its due:
that spends delta on tables that hide positives where none was hit. For the supremum over a the interval [0, 1] is cut;
in each part a multinomial is taken whose chances of a contribution of w, and of any contribution, are the smallest in
that part: its T is stochastically smallest, so the maximum over the parts bounds the supremum.

**No multiplicity.** The hypotheses are nested: with the cut goes the recall. Cuts are tested from `dense` upwards until
the first that is not rejected, so an error needs the rejection of the one lowest bad cut.

Generalises the binomial test on sampled positives (Lewis, Yang and Frieder, 2021), which is rho = 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import bdtr, gammaln

from aidb.stats.selection.pilot import Outlook, labels_needed, pilot
from aidb.stats.selection.population import YES, Population
from aidb.stats.selection.result import Chosen
from aidb.stats.selection.zones import EVERYTHING, clean_up, pilot_size

_PARTS = 400
_DEEP_HITS = 8
"""More positives among the deep draws than that: no cut."""
_SCENARIOS = ((1.0, 1.0, 0.5), (3.0, 1.0, 0.25), (1.0, 1.6, 0.25))
"""(times more deep positives, times deeper all of them, chance): what a plan is judged by."""


@dataclass(frozen=True)
class Design:
    """dense: unlabelled rows from the best that are drawn at the higher rate. share: of the draws that go deep.

    precision: that the answer is expected to have.
    """

    dense: int
    share: float
    precision: float

    def ratio(self, known: int, rows: int) -> float:
        """rho: the deep rate over the dense one."""
        return (self.share / (rows - self.dense)) / ((1 - self.share) / (known + self.dense))


def two_rate(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """The certificate of this module, after a pilot. Everything, if it cannot be had."""
    expected = pilot(population, pilot_size(population.left), rng)
    return run(population, plan(expected, population.left, recall, delta), expected, recall, delta, rng)


def plan(expected: Outlook, budget: int, recall: float, delta: float) -> Design:
    """The dense part and the share of deep draws that promise the highest precision, over what may be wrong."""
    best = Design(0, 1.0, expected.total / max(expected.rows, 1))
    last = float(expected.position(0.98 * expected.positives[-1]))
    for times in (1.5, 2.2, 3.3):
        dense = int(times * last)
        if budget < 30 or not 0 < dense < expected.rows / 2:
            continue
        for share in (0.7, 0.8, 0.9):
            design = Design(dense, share, 0.0)
            quality = _quality(design, expected, budget, recall, delta)
            if quality > best.precision:
                best = Design(dense, share, quality)
    return best


def run(
    population: Population,
    design: Design,
    expected: Outlook,
    recall: float,
    delta: float,
    rng: np.random.Generator,
) -> Chosen:
    """Draws by the design, tests, and spends what is left on the worst of the rows that would go unlabelled."""
    needed = labels_needed(expected, population, recall, delta)
    everything = Chosen(population.n, "guaranteed", "two_rate", 1.0, None, needed, (EVERYTHING,))
    pool = population.unknown()
    draws = population.left
    if not 0 < design.dense < len(pool) or draws == 0:
        return everything
    known = len(population.positives())
    deep = int(rng.binomial(draws, design.share))
    # Places below 0 are known positives.
    dense = rng.integers(-known, design.dense, draws - deep)
    below = pool[rng.integers(design.dense, len(pool), deep)]
    population.ask(np.concatenate([pool[dense[dense >= 0]], below]))
    deep_hits = int((population.labels[below] == YES).sum())
    hits = np.sort(dense[(dense < 0) | (population.labels[pool[dense]] == YES)])
    drawn = deep_hits + len(hits)
    ratio = design.ratio(known, len(pool))
    allowed = allowance(drawn, deep_hits, ratio, recall, delta)
    if allowed < 0:
        return everything
    last = hits[-1 - allowed] if allowed < len(hits) else -1
    cut = int(pool[last]) + 1 if last >= 0 else 0
    clean_up(population, cut)
    return Chosen(cut, "guaranteed", "two_rate", recall, None, needed)


def allowance(drawn: int, deep_hits: int, ratio: float, recall: float, delta: float, parts: int = _PARTS) -> int:
    """How many of `drawn` positives may lie in the dense part below the cut, `deep_hits` deep ones seen; -1: no cut."""
    low, high = -1, max(min(drawn - deep_hits, math.ceil(2 * (1 - recall) * drawn) + 1), 0)
    if deep_hits > _DEEP_HITS or drawn == 0:
        return -1
    while low < high:
        middle = (low + high + 1) // 2
        if chance(drawn, middle, deep_hits, ratio, recall, parts) <= delta:
            low = middle
        else:
            high = middle - 1
    return low


def chance(drawn: int, missed: int, deep_hits: int, ratio: float, recall: float, parts: int = _PARTS) -> float:
    """The highest probability of so small a T = missed + w deep_hits at the boundary of the hypothesis."""
    c, weight = (1 - recall) / recall, 2 / ratio
    share = np.linspace(0, 1, parts + 1)
    dense, deep = c * share, ratio * c * (1 - share)
    some, far = (dense + deep) / (1 + dense + deep), deep / (1 + dense + deep)
    some, far = np.minimum(some[:-1], some[1:]), np.minimum(far[:-1], far[1:])
    most = missed + weight * deep_hits + 1e-9
    total = np.zeros(parts)
    for count in range(min(int(most / weight), drawn) + 1):
        rest = drawn - count
        left = min(int(most - weight * count), rest)
        log = gammaln(drawn + 1) - gammaln(count + 1) - gammaln(rest + 1) + rest * np.log1p(-far)
        with np.errstate(divide="ignore"):
            log = log + (count * np.log(far) if count else 0.0)
        near = np.clip((some - far) / (1 - far), 0, 1)
        total += np.exp(log) * (bdtr(left, rest, near) if left < rest else 1.0)
    return float(total.max())


def _quality(design: Design, expected: Outlook, budget: int, recall: float, delta: float) -> float:
    """Expected precision of the answer, over numbers of deep hits and of positives."""
    dense_rate = (1 - design.share) * budget / (expected.found + design.dense)
    deep_rate = design.share * budget / (expected.rows - design.dense)
    rough = math.exp(round(math.log(design.ratio(expected.found, expected.rows)), 1))
    quality = 0.0
    for more, stretch, chance_of in _SCENARIOS:
        inside = float(expected.before(design.dense / stretch))
        outside = more * (float(expected.positives[-1]) - inside) + 0.02 * (more - 1) * inside
        hits = dense_rate * (inside + expected.found)
        mean = deep_rate * outside
        for deep_hits in range(4):
            weight = math.exp(-mean) * mean**deep_hits / math.factorial(deep_hits)
            if weight < 0.03:
                continue
            drawn = round(hits) + deep_hits
            allowed = _roughly(round(drawn, -1) if drawn > 99 else drawn, deep_hits, rough, recall, delta)
            precision = expected.total / expected.rows
            if allowed >= 0:
                missed = min((allowed + 0.5) / dense_rate, inside)
                cut = min(stretch * float(expected.position(inside - missed)), design.dense)
                kept = expected.found + inside - missed
                unsaid = cut * (1 - dense_rate)
                precision = kept / max(
                    unsaid + expected.found + dense_rate * float(expected.before(cut / stretch)), kept
                )
            quality += chance_of * weight * precision
    return quality


@lru_cache(maxsize=4096)
def _roughly(drawn: int, deep_hits: int, ratio: float, recall: float, delta: float) -> int:
    return allowance(drawn, deep_hits, ratio, recall, delta, parts=40)
