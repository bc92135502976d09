"""What a method of selection decides, and what the caller gets.

A *method* is a function over a `Population` that buys labels and gives a `Chosen`: a cut. It never makes row numbers:
`Selection` is made of the cut and of what the population then knows, in one place. The contract:

- Recall methods: ``method(population, recall, delta, rng, ...) -> Chosen``.
  Precision methods: ``method(population, precision, delta, rng, ...) -> Chosen``.
  Joint methods: ``method(population, recall, precision, delta, rng, ...) -> Chosen``.
  ``delta`` is 1 - probability.
- Some labels may be known already at the start: rows known beforehand, or the pilot of a caller. They are no random
  sample. They leave the rows to be sampled (`Population.unknown`), and their positives are constants.
- `Population.left` labels may be bought and no more; ``population.left < len(population.unknown())`` at the start, as
  a budget for everything is answered without a method, unless it is unlimited (joint and verified answers).
- Returned are the unlabelled rows of rank < `Chosen.cut` and every positive that is known when the method ends; a
  labelled negative or failed row never. A failed row counts as negative while sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aidb.stats.selection.population import FAILED, YES, Ints, Population


@dataclass(frozen=True)
class Chosen:
    """A cut: unlabelled rows of rank < `cut` are returned, with every known positive.

    mode: "exact", "guaranteed", "asymptotic", "conditional" or "expected". method: the one that chose the cut.
    certified_recall, certified_precision: what holds by an exact certificate with the asked probability; None where
    none was tried. labels_needed: labels from which on an exact certificate can be informative (`s_min`), None if
    unknown. notes: whole sentences for the reader of the report.
    """

    cut: int
    mode: str
    method: str
    certified_recall: float | None = None
    certified_precision: float | None = None
    labels_needed: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Rows that were chosen.

    indices: row numbers, ascending. verified: beside `indices`, whether the row is known to be positive (else it is
    returned for its score alone). threshold: lowest score of an unverified row, None if there is none; rows of that
    very score may have been left out, as ties are broken at random. recall, precision: the targets, None if not asked.
    probability: that of the targets, None where nothing is promised (mode "expected"). failed: row numbers that
    could not be answered; they are never returned and no target counts them. The rest as in `Chosen`.
    """

    indices: Ints
    verified: npt.NDArray[np.bool_]
    mode: str
    method: str
    threshold: float | None
    recall: float | None
    precision: float | None
    probability: float | None
    certified_recall: float | None
    certified_precision: float | None
    labels_used: int
    labels_needed: int | None
    failed: Ints
    notes: tuple[str, ...]


def selection(
    population: Population,
    chosen: Chosen,
    *,
    recall: float | None = None,
    precision: float | None = None,
    probability: float | None = None,
) -> Selection:
    """The rows that a cut returns, given what is known by now."""
    head = population.unknown(0, chosen.cut)
    ranks = np.concatenate([head, population.positives()])
    rows = population.order[ranks]
    ascending = np.argsort(rows)
    return Selection(
        indices=rows[ascending],
        verified=(population.labels[ranks] == YES)[ascending],
        mode=chosen.mode,
        method=chosen.method,
        threshold=float(population.scores[head[-1]]) if len(head) else None,
        recall=recall,
        precision=precision,
        probability=probability,
        certified_recall=chosen.certified_recall,
        certified_precision=chosen.certified_precision,
        labels_used=population.used,
        labels_needed=chosen.labels_needed,
        failed=np.sort(population.order[population.labels == FAILED]),
        notes=chosen.notes,
    )
