"""What an estimate tells."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from aidb.stats.aggregates.strata import Floats, Ints


@dataclass(frozen=True)
class Estimate:
    """A count, sum or average of all rows, known from some of them.

    value, low, high: the estimate and the interval that holds the truth (the answer of asking every row) with
    `probability`. The value lies in the interval, not always in its middle; NaN for an average of no matching row.
    met: does the interval keep the error that was asked for? None where none was. mode: "exact" (every row was
    asked), "guaranteed" (the interval holds for every population within the bounds given) or "asymptotic" (it rests
    on a normal approximation, corrected). labels_used: rows asked, failed ones included. failed: rows that could not
    be answered; the interval is widened by what they may hold. population: rows there are, known ones included.
    history: after each look labels used, value, low, high. notes: sentences for the reader of a report.
    """

    value: float
    low: float
    high: float
    aggregate: str
    mode: str
    method: str
    error: float | None
    relative: bool
    probability: float
    met: bool | None
    labels_used: int
    failed: Ints
    population: int
    history: tuple[tuple[int, float, float, float], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GroupEstimates:
    """Several aggregates of several groups, from one sample. All intervals hold together with `probability`.

    groups: (G,) keys, in the order of their first sight. value, low, high: (G, A) for A aggregates. met: (G, A) is the
    error kept? All False where no error was asked for. targeted: (G,) groups that were seen often enough early on to be
    given the target; the others are reported with the interval that was reached. seen: (G,) rows of the sample (and
    known ones) with something in the group. unseen: rows that all groups never seen may have together, at most, with
    `probability`. The other fields are those of `Estimate`.
    """

    groups: tuple[Hashable, ...]
    aggregates: tuple[str, ...]
    value: Floats
    low: Floats
    high: Floats
    met: npt.NDArray[np.bool_]
    targeted: npt.NDArray[np.bool_]
    seen: Ints
    unseen: float
    mode: str
    method: str
    error: tuple[float | None, ...]
    relative: tuple[bool, ...]
    probability: float
    labels_used: int
    failed: Ints
    population: int
    history: tuple[tuple[int, float, float, float], ...] = ()
    notes: tuple[str, ...] = ()
