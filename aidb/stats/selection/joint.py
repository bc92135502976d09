"""Recall and precision together, at as few labels in all as can be.

Published methods find a cut for the recall and label every row above it. Two things are cheaper:

- **The recall stage is sized for the total.** Labels spent on the certificate lift the cut, and every row that is not
  above it need not be labelled. A pilot tells which certificate makes the sum smallest: the exact one, most of whose
  labels lie above the cut anyway, or the cell sampler, which is cheap even where positives are rare.
- **The purest rows are never labelled.** `pure_head` certifies them by a sample. The rows between head and cut are
  labelled first: their positives make room for the head's misses.

If the cell sampler gives no cut, which would return the whole table, the exact certificate is tried with a part of
delta that was kept back for it, planned anew from all labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from aidb.stats.selection import verified, zones
from aidb.stats.selection.cells import cells
from aidb.stats.selection.head import NONE, Curve, fit, pure_head, worth_testing
from aidb.stats.selection.pilot import Outlook, labels_needed, outlook, pilot
from aidb.stats.selection.population import UNKNOWN, YES, Population
from aidb.stats.selection.result import Chosen

_PILOT = 150
_FEWEST = 800
"""Labels that the cell sampler needs to be worth its while."""
_WORSE = 1.3
"""So many times the labels of the approximate way the exact way may take, and is still preferred."""
_SECOND_TRY, _HEAD = 0.15, 0.2
"""Shares of delta: of what is meant for the recall, and of all."""


@dataclass(frozen=True)
class _Stage:
    """How to find the cut: "all" labels everything above it too. labels: for it. total: expected to be bought in all."""

    method: str
    labels: int
    total: float


def joint(population: Population, recall: float, precision: float, delta: float, rng: np.random.Generator) -> Chosen:
    """A cut with at least `recall` of all positives above it or known, and at least `precision` of the answer positive.

    Guarantee: both hold together with probability 1 - delta. Exact if the exact recall certificate was taken, which
    happens where it is not much dearer (mode "guaranteed"); else that of the cell sampler (mode "asymptotic"). The
    precision is exact in both. Without a certificate for the recall every row is labelled.

    The number of labels is not known beforehand. Where it is limited and the limit is reached, the recall target still
    holds; the notes and `certified_precision` say what is left of the other.
    """
    return _run(population, recall, precision, delta, rng, exact_only=False)


def exact(population: Population, recall: float, precision: float, delta: float, rng: np.random.Generator) -> Chosen:
    """As `joint`, with the exact recall certificate only."""
    return _run(population, recall, precision, delta, rng, exact_only=True)


def _run(
    population: Population, recall: float, precision: float, delta: float, rng: np.random.Generator, exact_only: bool
) -> Chosen:
    if not population.left:
        return _answer(population, _everything(population), len(population.unknown()), precision)
    expected = pilot(population, max(1, min(_PILOT, population.left // 5)), rng)
    rows = population.unknown()
    curve = _curve(population, population.n)
    saved = worth_testing(curve, len(rows), len(rows), expected.found, precision, delta * _HEAD) / 1.3
    stage = _plan(expected, recall, delta, saved, exact_only)
    for_head = delta * _HEAD if stage.method != "all" and saved > 0.02 * stage.total else 0.0
    for_recall = delta - for_head
    if stage.method == "all":
        chosen = _cut(population, stage, recall, for_recall, rng)
    else:
        chosen = _cut(population, stage, recall, (1 - _SECOND_TRY) * for_recall, rng)
        if chosen.cut >= population.n:
            again = _plan(outlook(population), recall, _SECOND_TRY * for_recall, 0.0, exact_only=True)
            chosen = _cut(population, again, recall, _SECOND_TRY * for_recall, rng)
    wrong = _label_returned(population, chosen.cut, precision, for_head, rng)
    chosen = replace(chosen, labels_needed=labels_needed(expected, population, recall, delta))
    return _answer(population, chosen, wrong, precision)


def _plan(expected: Outlook, recall: float, delta: float, saved: float, exact_only: bool) -> _Stage:
    """The recall stage after which the fewest labels are expected in all. saved: rows that a head may save."""
    _, total = zones.plan_total(expected, recall, delta)
    best = _Stage("all", int(total), total)
    most = int(0.9 * expected.rows) if saved > 0 else 0
    for labels in np.unique(np.geomspace(min(200, most), most, 40).astype(np.int64)) if most else ():
        design = zones.plan(expected, int(labels), recall, delta)
        returned = 0.5 * (1 + recall) * expected.total / max(design.precision, 1e-9)
        known = expected.found + expected.before(design.top)
        known += design.rate * (expected.positives[-1] - expected.before(design.top))
        total = labels + max(0.0, float(returned - known) - saved)
        if total < best.total:
            best = _Stage("zones", int(labels), total)
    near = expected.position(recall * expected.total - expected.found)
    far = expected.position((1 - 0.3 * (1 - recall)) * expected.total - expected.found)
    first = int(np.maximum(_FEWEST, 1.5 * near))
    total = first + max(0.0, float(far) - 0.7 * first - saved)
    return best if exact_only or best.total <= _WORSE * total else _Stage("cells", first, total)


def _cut(population: Population, stage: _Stage, recall: float, delta: float, rng: np.random.Generator) -> Chosen:
    """The recall stage, with no more labels than it is given; everything is labelled if that is as cheap."""
    unknown = population.unknown()
    limited = population.left < len(unknown)
    if not limited and stage.labels >= len(unknown):
        population.ask(unknown)
        return Chosen(0, "guaranteed", "all", 1.0)
    if not limited and stage.method == "all":
        return verified.exact(population, recall, delta, rng)
    if not population.left:
        return _everything(population)
    whole = population.budget
    population.budget = population.used + min(stage.labels, population.left)
    try:
        return (cells if stage.method == "cells" else zones.zones)(population, recall, delta, rng)
    finally:
        population.budget = whole


def _everything(population: Population) -> Chosen:
    return Chosen(population.n, "guaranteed", "all", 1.0)


def _label_returned(population: Population, cut: int, precision: float, delta: float, rng: np.random.Generator) -> int:
    """Labels every row above the cut, the worst first, but for the head that a sample certifies.

    Gives how many of the rows that stay unlabelled are negative at most.
    """
    rows = population.unknown(0, cut)
    head = NONE
    if delta and population.left:
        known = len(population.positives())
        curve = _curve(population, cut)
        largest = worth_testing(curve, len(rows), len(rows), known, precision, delta)
        if largest and len(rows) - largest <= population.left:
            population.ask(rows[largest:])
            head = pure_head(population, rows, largest, curve, precision, delta, rng)
    rest = rows[head.size :]
    rest = rest[population.labels[rest] == UNKNOWN]
    without = max(len(rest) - population.left, 0)
    population.ask(rest[without:])
    return head.wrong + without


def _curve(population: Population, cut: int) -> Curve:
    """How positives thin out among the unlabelled rows above the cut, by the labels there."""
    known = np.flatnonzero(population.labels[:cut] != UNKNOWN)
    if not len(known):
        return Curve(0.0, 0.0)
    places = np.searchsorted(population.unknown(0, cut), known)
    return fit(places, population.labels[known] == YES)


def _answer(population: Population, recall: Chosen, wrong: int, precision: float) -> Chosen:
    """What is returned, and what is sure of its precision, with `wrong` negatives at most among unlabelled rows."""
    unlabelled = len(population.unknown(0, recall.cut))
    returned = unlabelled + len(population.positives())
    sure = 1 - wrong / returned if returned else 1.0
    notes = recall.notes
    if sure < precision - 1e-9:
        notes += (
            f"The labels ran out before the precision target could be certified: {unlabelled} returned rows are "
            f"unlabelled, and only a precision of {sure:.3f} is certain. The recall target holds.",
        )
    return replace(recall, certified_precision=sure, notes=notes)
