"""Exact recall by uniform draws and a binomial test: the plain method, to compare with.

Rows are drawn with replacement, every row alike, known positives too (they are free). Of the m draws that hit a
positive, those above a cut k are binomial (m, recall of k), whatever the table. A cut whose recall is below the target
is certified if P(Bin(m, target) >= hits above k) <= delta; the hypotheses are nested in k, so the cuts are tested from
the bottom up to the first that is not certified, and no multiplicity is paid. It takes m >= ln(delta) / ln(recall),
29 at 0.9, to leave out anything. Lewis, Yang and Frieder, Certifying one-phase technology-assisted reviews, 2021.
"""

from __future__ import annotations

import numpy as np
from scipy.special import bdtr

from aidb.stats.selection.pilot import labels_needed, outlook
from aidb.stats.selection.population import YES, Population
from aidb.stats.selection.result import Chosen
from aidb.stats.selection.zones import EVERYTHING


def uniform(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """The cut just below the deepest hits that the binomial test lets go; everything, if it lets none go."""
    pool = population.unknown()
    known = len(population.positives())
    # Places below 0 are known positives.
    places = np.sort(rng.integers(-known, len(pool), population.left))
    rows = pool[places[places >= 0]]
    hits = np.append(np.full(np.count_nonzero(places < 0), -1), rows[population.ask(rows) == YES])
    drawn = len(hits)
    # At most j of them below the cut; the most that is improbable under a recall below the target.
    chances = bdtr(np.arange(drawn, dtype=np.float64), drawn, 1 - recall) if drawn else np.empty(0)
    allowed = int(np.searchsorted(chances, delta, side="right")) - 1
    needed = labels_needed(outlook(population), population, recall, delta)
    if allowed < 0:
        return Chosen(population.n, "guaranteed", "uniform", 1.0, None, needed, (EVERYTHING,))
    last = int(hits[-1 - allowed])
    return Chosen(last + 1 if last >= 0 else 0, "guaranteed", "uniform", recall, None, needed)
