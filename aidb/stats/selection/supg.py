"""The algorithms of SUPG as they were published: the reference that others are measured by.

D. Kang, E. Gan, P. Bailis, T. Hashimoto, M. Zaharia: *Approximate selection with guarantees using proxies*, VLDB 2020,
algorithms 4 (recall) and 5 (precision, two stages), and the joint query of its section on both targets.

Rows are drawn with replacement with probability q = 0.9 sqrt(A) / sum sqrt(A) + 0.1 / n, A the score; a row that comes
again costs no label. Each draw has the mass (1 / n) / q. The bounds are those of a normal variable, so the promise is
**asymptotic**: where positives hide among low scores it is broken far more often than it says. The scores are taken for
probabilities; those outside [0, 1] are stretched to it, which the paper leaves to its user.

Rows that are known beforehand are no part of the draws. A draw of a row that cannot be answered counts as negative.
"""

from __future__ import annotations

import math

import numpy as np

from aidb.stats.selection.population import YES, Floats, Ints, Population
from aidb.stats.selection.result import Chosen

UNIFORM = 0.1
STEP = 100
"""Every how many draws a candidate for the cut of a precision target lies; the first is as far down."""
JOINT = 1_000
"""Labels of the recall step of a joint query that has no budget."""


def recall(population: Population, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """The rows above the cut at which the sample's mass reaches a target raised for the error of the sample."""
    return _recall(population, recall, delta, population.left, rng)


def _recall(population: Population, recall: float, delta: float, labels: int, rng: np.random.Generator) -> Chosen:
    pool = population.unknown()
    if not labels:
        return Chosen(
            population.n, "asymptotic", "supg", notes=("There was no label to spend: every row is returned.",)
        )
    weights = _weights(population.scores[pool])
    drawn = _draw(weights, labels, rng)
    mass = _mass(population, pool, drawn, weights)
    cut = _raised(mass, recall, delta)
    rank = population.n if cut is None else int(pool[drawn[cut]]) + 1
    return Chosen(rank, "asymptotic", "supg")


def precision(population: Population, precision: float, delta: float, rng: np.random.Generator) -> Chosen:
    """The deepest candidate whose share of positives is above the target, by draws from where it may lie at all."""
    pool = population.unknown()
    labels = population.left
    tests = 1 + 2 * max(0, (labels - STEP) // STEP)
    half = labels // 2
    if not half:
        return Chosen(
            0, "asymptotic", "supg", notes=("There was no label to spend: only known positives are returned.",)
        )
    weights = _weights(population.scores[pool])
    found = _mass(population, pool, _draw(weights, half, rng), weights)
    upper = _bounds(found, delta / tests)[1]
    room = min(max(math.ceil(upper * len(pool) / precision), 1), len(pool))
    inside = weights[:room] / weights[:room].sum()
    drawn = _draw(inside, min(labels - half, room), rng)
    positive = population.ask(pool[drawn]) == YES
    cut = 0
    for last in range(STEP, len(drawn), STEP):
        above = int(drawn[last]) + 1
        part = slice(0, last + 1)
        mass = positive[part] * inside[:above].sum() / above / inside[drawn[part]]
        if _bounds(mass, delta / tests)[0] > precision:
            cut = above
    return Chosen(int(pool[cut - 1]) + 1 if cut else 0, "asymptotic", "supg")


def joint(population: Population, recall: float, precision: float, delta: float, rng: np.random.Generator) -> Chosen:
    """Recall first, with the budget, or with `JOINT` labels where none was set; then every row returned is labelled.

    The second step knows no budget in the paper. Where one is set and too small, the worst rows stay unlabelled and
    the answer says so.
    """
    unlimited = population.left >= len(population.unknown())
    labels = min(population.left, JOINT if unlimited else population.left)
    chosen = _recall(population, recall, delta, labels, rng)
    wanted = population.unknown(0, chosen.cut)
    population.ask(wanted[: population.left])
    if len(population.unknown(0, chosen.cut)) == 0:
        return Chosen(chosen.cut, "asymptotic", "supg")
    note = f"The budget ended with {len(population.unknown(0, chosen.cut))} rows unlabelled: precision is not promised."
    return Chosen(chosen.cut, "asymptotic", "supg", notes=(note,))


def _weights(scores: Floats) -> Floats:
    """The probability of each row to be drawn."""
    if scores[0] > 1 or scores[-1] < 0:
        scores = (scores - scores[-1]) / max(scores[0] - scores[-1], 1e-300)
    root = np.sqrt(scores)
    total = root.sum()
    share = root / total if total > 0 else np.full(len(scores), 1 / len(scores))
    return (1 - UNIFORM) * share + UNIFORM / len(scores)


def _draw(weights: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Positions, best first; with replacement."""
    edges = np.cumsum(weights)
    return np.sort(np.searchsorted(edges[:-1], rng.random(count) * edges[-1], side="right"))


def _mass(population: Population, pool: Ints, drawn: Ints, weights: Floats) -> Floats:
    """The mass of each draw of a positive, 0 for a draw of a negative."""
    positive = population.ask(pool[drawn]) == YES
    mass: Floats = positive / (len(pool) * weights[drawn])
    return mass


def _bounds(values: Floats, delta: float) -> tuple[float, float]:
    """The paper's lower and upper bound of a mean."""
    mean, spread = float(values.mean()), float(values.std())
    reach = spread / math.sqrt(len(values)) * math.sqrt(2 * math.log(1 / (2 * delta)))
    return mean - reach, mean + reach


def _raised(mass: Floats, recall: float, delta: float) -> int | None:
    """The draw at whose row to cut; None where every row has to be returned."""
    found = np.cumsum(mass)
    total = found[-1]
    if total <= 0:
        return None
    below = np.arange(len(mass)) > np.searchsorted(found, recall * total)
    upper = _bounds(np.where(below, 0.0, mass), delta / 2)[1]
    lower = _bounds(np.where(below, mass, 0.0), delta / 2)[0]
    if upper + lower <= 0:
        return None
    raised = upper / (upper + lower)
    if raised >= 1:
        return None
    return min(int(np.searchsorted(found, raised * total)), len(mass) - 1)
