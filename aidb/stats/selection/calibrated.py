"""Recall under an assumption: the lowest rows hold no more positives than the recalibrated proxy says.

As `aidb.stats.selection.zones`, but the lowest rows are not tossed. They are taken to hold at most
``cap = Q + 1.64 sqrt(Q)`` positives, Q = kappa times the upper delta-quantile of the sum of their probabilities under a
logistic curve fitted to the labelled rows below the rank that half of the positives reach; the quantile is over the
uncertainty of the fit. The certificate above them allows that many misses less.

Nothing protects from positives that the proxy hides there but an audit: a uniform sample of the lowest rows. If it
holds more positives than the cap explains, the assumption is dropped and an exact certificate is tried with the labels
that are left, which is valid as it draws anew.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.special import expit, gammaincc

from aidb.stats.intervals import hypergeometric_upper
from aidb.stats.selection import exact, zones
from aidb.stats.selection.pilot import Features, Outlook, labels_needed, logistic, outlook, pilot
from aidb.stats.selection.population import UNKNOWN, YES, Floats, Ints, Population
from aidb.stats.selection.result import Chosen

_AUDIT = 0.12
"""Of the labels."""
_DRAWS = 200
"""Of the curve's parameters."""


def calibrated(
    population: Population, recall: float, delta: float, rng: np.random.Generator, *, kappa: float = 1.0
) -> Chosen:
    """A cut whose recall is met with probability 1 - delta *if* the assumption of this module holds.

    kappa: how many times the positives that the curve expects may lie in the lowest rows. The notes say where they
    begin, the cap, what the audit found, and the recall that stands without the assumption.
    """
    if not kappa > 0:
        raise ValueError(f"kappa must be above 0 and is {kappa}")
    expected = pilot(population, max(zones.pilot_size(population.left), population.left // 10), rng)
    audit = int(_AUDIT * population.left)
    at, cap = _split(population, expected, population.left - audit, recall, delta, kappa, rng)
    if at is None:
        chosen = exact.exact(population, recall, delta, rng)
        note = "The assumption was not made: as far as the pilot shows, an exact certificate promises as much."
        return replace(chosen, notes=(note, *chosen.notes))
    lowest = population.unknown(at)
    looked = rng.choice(lowest, min(audit, len(lowest)), replace=False)
    found = int((population.ask(looked) == YES).sum())
    # The chance of fewer in the audit, if the cap were all there.
    if found and gammaincc(found, cap * len(looked) / len(lowest)) >= 1 - delta:
        chosen = exact.exact(population, recall, delta, rng)
        note = (
            f"The assumption was dropped: an audit of {len(looked)} of the {len(lowest)} rows of lowest score found "
            f"{found} positives, more than a cap of {cap} explains."
        )
        return replace(chosen, notes=(note, *chosen.notes))
    top = _above(outlook(population), population, at)
    if top.rows <= population.left:
        population.ask(population.unknown(0, at))
        enough = recall * cap <= (1 - recall) * len(population.positives())
        needed = labels_needed(top, population, recall, delta)
        chosen = Chosen(at if enough else population.n, "guaranteed", "calibrated", None, None, needed)
    else:
        design = zones.plan(_less(top, cap, recall), population.left, recall, delta)
        chosen = zones.certify(population, design, top, recall, delta, rng, bottom=at, reserved=cap)
        zones.clean_up(population, chosen.cut)
    if chosen.cut >= population.n:
        return replace(chosen, method="calibrated", certified_recall=1.0, notes=(zones.EVERYTHING,))
    hidden = hypergeometric_upper(found, len(lowest), len(looked), delta) - found if len(looked) else len(lowest)
    kept = len(population.positives())
    notes = (
        f"If the {len(lowest)} rows of score {population.scores[at]:.6g} or less hold at most {cap} positives (kappa = "
        f"{kappa:g}), the recall is met with the probability asked for.",
        f"An audit of {len(looked)} of them found {found}; so they hold at most {hidden} more, with that probability, "
        f"and {kept} positives are known.",
    )
    return replace(chosen, mode="conditional", method="calibrated", certified_recall=None, notes=notes)


def _split(
    population: Population,
    expected: Outlook,
    budget: int,
    recall: float,
    delta: float,
    kappa: float,
    rng: np.random.Generator,
) -> tuple[int | None, int]:
    """Rank where the lowest rows begin, and their cap; None if an exact certificate promises as much."""
    caps = _caps(population, delta, kappa, rng)
    edges = np.linspace(0, population.n, len(caps)).astype(np.int64)
    best, rank, cap = zones.plan(expected, budget, recall, delta).precision, None, 0
    for share in (0.1, 0.25, 0.45, 0.7):
        first = int(np.argmax(caps <= share * (1 - recall) * expected.total))
        if not 0 < edges[first] < population.n:
            continue
        above = _less(_above(expected, population, int(edges[first])), math.ceil(caps[first]), recall)
        quality = 1.0 if above.rows <= budget else zones.plan(above, budget, recall, delta).precision
        if quality > best:
            best, rank, cap = quality, int(edges[first]), math.ceil(caps[first])
    return rank, cap


def _caps(population: Population, delta: float, kappa: float, rng: np.random.Generator) -> Floats:
    """The cap on the positives at or below each of a thousand ranks, evenly spaced, the last one past the end."""
    seen = np.flatnonzero(population.labels != UNKNOWN)
    truth = population.labels[seen] == YES
    features = Features(population)
    grid = np.linspace(0, population.n, 1001).astype(np.int64)
    middle = (grid[:-1] + grid[1:]) // 2
    rough, _ = logistic(features(seen), truth)
    reached = np.cumsum(expit(features(middle) @ rough) * np.diff(grid))
    half = middle[np.searchsorted(reached, reached[-1] / 2)]
    low = seen >= half
    if truth[low].sum() < 5:
        low[:] = True
    curve, precision = logistic(features(seen[low]), truth[low])
    spread = np.linalg.cholesky(np.linalg.inv(precision))
    drawn = curve[:, None] + spread @ rng.standard_normal((3, _DRAWS))
    rates = expit(features(middle) @ drawn) * np.diff(grid)[:, None]
    sums = np.vstack([np.cumsum(rates[::-1], axis=0)[::-1], np.zeros(_DRAWS)])
    upper = kappa * np.quantile(sums, 1 - delta, axis=1)
    caps: Floats = np.ceil(upper + 1.64 * np.sqrt(upper))
    return caps


def _above(expected: Outlook, population: Population, rank: int) -> Outlook:
    """The rows above a rank only."""
    rows = len(population.unknown(0, rank))
    inside: Ints = expected.edges[expected.edges < rows]
    edges = np.append(inside, rows)
    return Outlook(edges, expected.before(edges), expected.found)


def _less(expected: Outlook, cap: int, recall: float) -> Outlook:
    """To plan with: as many known positives less as take the cap's misses."""
    return replace(expected, found=expected.found - math.ceil(cap / (1 - recall)))
