"""The choice among certificates of recall, by a pilot.

The pilot's rows leave the table and its positives are constants, so whatever it makes us choose is chosen before the
draws that the certificate rests on: the guarantee of the chosen one holds as it stands, and nothing is paid for the
choice.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aidb.stats.selection import two_rate, zones
from aidb.stats.selection.cells import cells
from aidb.stats.selection.pilot import Outlook, labels_needed, pilot
from aidb.stats.selection.population import Population
from aidb.stats.selection.result import Chosen

_ROOM = 1.3
"""So many times the least labels are wanted before an exact certificate is tried; the least is but an estimate."""


def exact(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """The certificate that promises the highest precision; each holds for every table and every score.

    P(recall >= target) >= 1 - delta over the draws alone. Too few labels to certify anything: everything is returned
    but labelled negatives.
    """
    return _best(population, pilot(population, zones.pilot_size(population.left), rng), recall, delta, rng)


def auto(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """As `exact` where the budget allows an answer well below the whole table, else the cell sampler, and says so."""
    expected = pilot(population, zones.pilot_size(population.left), rng)
    needed = labels_needed(expected, population, recall, delta)
    whole = expected.total / max(population.n, 1)
    enough = population.left >= _ROOM * needed
    if enough and _promise(population, expected, recall, delta) > 1.5 * whole:
        return _best(population, expected, recall, delta, rng)
    chosen = cells(population, recall, delta, rng)
    note = (
        f"No exact certificate was tried: with {population.budget} labels it would leave out little of the table."
        if enough
        else f"No exact certificate was tried: it takes about {needed} labels to leave out most of the table, and "
        f"{population.budget} were allowed."
    )
    certified = chosen.certified_recall
    if certified is None:
        certified = _certain(population, chosen.cut)
    return replace(chosen, certified_recall=certified, labels_needed=needed, notes=(note, *chosen.notes))


def _best(population: Population, expected: Outlook, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """Zones where most of the answer can be labelled, two rates where it cannot and the tail looks empty."""
    zone = zones.plan(expected, population.left, recall, delta)
    rates = two_rate.plan(expected, population.left, recall, delta)
    if rates.dense and zone.cut > 1.5 * population.left and rates.precision > 0.5 * zone.precision:
        return two_rate.run(population, rates, expected, recall, delta, rng)
    return zones.run(population, expected, recall, delta, rng)


def _promise(population: Population, expected: Outlook, recall: float, delta: float) -> float:
    """The higher of the precisions that the certificates are expected to have."""
    budget = population.left
    return max(
        zones.plan(expected, budget, recall, delta).precision, two_rate.plan(expected, budget, recall, delta).precision
    )


def _certain(population: Population, cut: int) -> float:
    """The recall of the answer if every row left out were positive; what holds with certainty."""
    found = len(population.positives()) + len(population.unknown(0, cut))
    missed = len(population.unknown(cut))
    kept = len(population.positives())
    return 1.0 if not missed else kept / max(kept + missed, 1) if found else 0.0
