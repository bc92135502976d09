"""A precision target with few labels: certify a pure head by a sample, spend the other labels below it.

Every label that is spent below the head makes the answer one row deeper, and so does every row of the head that needs
no label. Known positives are returned too, and make room for misses. So:

1. A pilot of a few labels, among the rows that would be labelled anyway (and below them as long as these are nearly all
   positive), says how the positives thin out with the rank, and how large a head may be worth its test.
2. Rows below the largest such head are labelled: their positives make room.
3. `pure_head` tests heads from small to large until a larger one costs more than it saves.
4. The labels that are left go to the best unlabelled rows below the head. If room is left even then, the rows after
   them are returned too, where matches are still likely.

Without a head worth its test this labels the best rows, and wastes next to nothing: the pilot is among them.
"""

from __future__ import annotations

from math import floor

import numpy as np

from aidb.stats.selection.head import NONE, Curve, Head, fit, pure_head, worth_testing
from aidb.stats.selection.population import UNKNOWN, YES, Ints, Population
from aidb.stats.selection.result import Chosen

_LATER = 0.5
"""Share of the labels that is left, at most, when the test of a head begins; more would leave it too little room."""
_LIKELY = 0.05
"""Share of positives among the last labels from which on unlabelled rows after them are worth returning."""


def precision(population: Population, precision: float, delta: float, rng: np.random.Generator) -> Chosen:
    """A cut such that at least `precision` of what is returned is positive.

    Guarantee, exact: with probability 1 - delta, over the random order of `pure_head` alone, for every table and every
    score. What is returned beside a certified head is known to be positive, or paid for by known positives. Spends all
    labels that are left. Failed rows count as negative. Without any positive the answer is empty.
    """
    if not population.left:
        return Chosen(0, "guaranteed", "known", certified_precision=1.0)
    curve = _pilot(population, rng)
    rows = population.unknown()
    head = NONE
    known = len(population.positives())
    largest = worth_testing(curve, len(rows), population.left, known, precision, delta)
    if largest:
        below = population.left - min(largest, int(_LATER * population.left))
        population.ask(rows[largest : largest + below])
        head = pure_head(population, rows, largest, curve, precision, delta, rng)
    rest = rows[head.size :]
    population.ask(rest[population.labels[rest] == UNKNOWN][: population.left])
    cut = _with_room(population, rows, head, precision)
    return Chosen(
        cut,
        "guaranteed",
        "head" if head.size else "top",
        certified_precision=_certified(population, rows, head, cut),
        notes=(_HEAD.format(head.size),) if head.size else (),
    )


_HEAD = "The {} best rows that nothing was known of were certified by a sample; below them each row was labelled."


def _pilot(population: Population, rng: np.random.Generator) -> Curve:
    """Labels a few of the rows that the budget reaches, and of those beyond while they look good enough for a head."""
    rows = population.unknown()
    end = min(population.left, len(rows))
    count = min(max(1, end // 4), 10 + int(0.03 * end), 150)
    near = np.exp(rng.uniform(0, np.log(end), count // 3)).astype(np.int64) - 1
    places = np.unique(np.concatenate([near, rng.choice(end, count - len(near), replace=False)]))
    while True:
        curve = fit(places, population.ask(rows[places]) == YES)
        wider = min(2 * end, len(rows))
        more = min(count // 2 + 1, wider - end)
        if not more or curve.negative(end) > _TOO_MANY or population.left < 4 * count:
            return curve
        places = np.concatenate([places, end + rng.choice(wider - end, more, replace=False)])
        end = wider


_TOO_MANY = 0.15
"""Share of negatives from which on no larger head is looked for."""


def _with_room(population: Population, rows: Ints, head: Head, precision: float) -> int:
    """The cut: below the head, and below as many unlabelled rows after the labelled ones as there is room for."""
    unlabelled = head.size + np.flatnonzero(population.labels[rows[head.size :]] == UNKNOWN)
    only_head = int(rows[head.size - 1]) + 1 if head.size else 0
    returned = len(population.positives()) + len(population.unknown(0, only_head))
    room = floor((returned - head.wrong) / precision + 1e-9) - returned
    if not len(unlabelled) or room <= 0:
        return only_head
    first = int(unlabelled[0])
    last_labels = population.labels[rows[max(head.size, first - max(50, first // 10)) : first]]
    if np.count_nonzero(last_labels == YES) <= _LIKELY * len(last_labels):
        return only_head
    return int(rows[unlabelled[min(room, len(unlabelled)) - 1]]) + 1


def _certified(population: Population, rows: Ints, head: Head, cut: int) -> float:
    """The precision that holds if the head's certificate does."""
    after = np.count_nonzero(population.labels[rows[head.size :]][rows[head.size :] < cut] == UNKNOWN)
    returned = len(population.positives()) + len(population.unknown(0, cut))
    return 1.0 - (head.wrong + after) / returned if returned else 1.0
