"""Recall where every returned row is labelled: precision is 1, and the labels in all are what there is to save.

The certificate costs labels below the cut, and saves rows above it. Its size is planned for the sum, with the labels
of the top, which both need; every label is used for both.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aidb.errors import BudgetExceeded
from aidb.stats.selection import zones
from aidb.stats.selection.cells import cells
from aidb.stats.selection.pilot import Outlook, labels_needed, outlook, pilot
from aidb.stats.selection.population import Population
from aidb.stats.selection.result import Chosen


def exact(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """At least `recall` of the positives, all labelled, by the certificate of `aidb.stats.selection.zones`.

    P(recall >= target) >= 1 - delta for every table and every score. Raises `BudgetExceeded` if the labels allowed do
    not reach for all rows of the answer.
    """
    return _exact(population, _pilot(population, rng), recall, delta, rng)


def auto(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """As `exact`, but by the cell sampler where a certificate would need more than half of the table, and says so."""
    expected = _pilot(population, rng)
    _, labels = zones.plan_total(expected, recall, delta)
    if labels <= 0.5 * population.n:
        return _exact(population, expected, recall, delta, rng)
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


def _pilot(population: Population, rng: np.random.Generator) -> Outlook:
    rows = len(population.unknown())
    return pilot(population, min(max(60, rows // 200), 2000, rows // 5, population.left), rng)


def _exact(population: Population, expected: Outlook, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    # Three looks: as the top is labelled it shows better how much of it is worth labelling.
    for share in (0.5, 0.75):
        design, _ = zones.plan_total(expected, recall, delta)
        population.ask(population.unknown()[: min(int(share * design.top), population.left)])
        expected = outlook(population)
    design, _ = zones.plan_total(expected, recall, delta)
    most = zones.coin(expected.rows - design.top, population.left - design.top)
    design = replace(design, rate=min(design.rate, most))
    return _label_answer(population, zones.certify(population, design, expected, recall, delta, rng))


def _label_answer(population: Population, chosen: Chosen) -> Chosen:
    rest = population.unknown(0, chosen.cut)
    if len(rest) > population.left:
        raise BudgetExceeded(
            f"a verified answer needs {len(rest)} labels more, and {population.left} of {population.budget} are left; "
            "allow more, or ask for an unverified answer"
        )
    population.ask(rest)
    return replace(chosen, certified_precision=1.0)
