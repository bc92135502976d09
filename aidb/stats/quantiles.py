"""Medians and quantiles of a number that each row has, from a uniform sample, for every table and without approximation.

The error is one of *rank*: "the median, give or take 2% of the rows". An error of the value itself can't be promised
from a sample: between two rows that are neighbours in rank anything may lie. The interval that comes with it is one of
values, and holds too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aidb.stats.intervals import hypergeometric_cdf

Ints: TypeAlias = npt.NDArray[np.int64]
Label: TypeAlias = Callable[[Ints], npt.ArrayLike]
"""Row numbers, distinct and never asked before, to (m,) values; NaN for a row that could not be answered."""


@dataclass(frozen=True)
class Quantile:
    """value: of the sample, NaN if no row could be answered. low, high: hold the quantile of the table, infinite where
    nothing is known. rank_error: share of the rows by which the rank of the value is off at most; None where the budget
    was given. mode: "exact" if every row was asked, else "guaranteed". failed: row numbers without an answer, sorted."""

    value: float
    low: float
    high: float
    rank_error: float | None
    probability: float
    mode: str
    labels_used: int
    failed: Ints


def quantile(
    label: Label,
    rows: int,
    q: float = 0.5,
    *,
    rank_error: float | None = None,
    budget: int | None = None,
    probability: float = 0.95,
    rng: np.random.Generator,
) -> Quantile:
    """The quantile of a table: the smallest value that at least `q` of its rows do not exceed.

    rows: of the table, n. label: see `Label`; asked once. q: in (0, 1), a half for the median. rank_error: in (0, 1); as
    many rows are asked as make the rank of the value right within that share of n. budget: rows to be asked instead.

    Guarantee: P(low <= quantile <= high) >= probability; and, with rank_error, that the rank is right as well, with the
    same probability. Both hold for every table, over the draw alone. Failed rows belong to no quantile; the interval
    allows for all of them to be lowest, and all highest, and the rank counts them.
    Raises ValueError for arguments that make no sense; nothing is asked then.
    """
    for name, share in (("q", q), ("probability", probability), ("rank_error", rank_error)):
        if share is not None and not 0 < share < 1:
            raise ValueError(f"{name} must lie between 0 and 1, both excluded, and is {share}")
    if (rank_error is None) == (budget is None):
        raise ValueError("give one of rank_error and budget")
    if rows < 0 or (budget is not None and budget < 0):
        raise ValueError("rows and budget can't be negative")
    delta = (1 - probability) / 2
    rank = max(math.ceil(q * rows - 1e-9), 1)
    count = min(budget, rows) if budget is not None else _needed(rows, rank, q, rank_error or 0.0, delta)
    drawn = np.sort(rng.choice(rows, count, replace=False)).astype(np.int64)
    values = np.asarray(label(drawn), dtype=np.float64) if count else np.empty(0)
    if values.shape != (count,):
        raise ValueError(f"label() was asked for {count} rows and gave an array of shape {values.shape}")
    missing = np.isnan(values)
    known = np.sort(values[~missing])
    value = float(known[_place(q, len(known)) - 1]) if len(known) else math.nan
    if count == rows:
        low = high = value
    else:
        # The sample with its failed rows below, or above, all others.
        first = _lowest(rows, rank, count, delta) - int(missing.sum())
        last = _highest(rows, rank, count, delta)
        low = float(known[first - 1]) if first >= 1 else -math.inf
        high = float(known[last - 1]) if last <= len(known) else math.inf
    mode = "exact" if count == rows else "guaranteed"
    return Quantile(value, low, high, rank_error, probability, mode, count, drawn[missing])


def _place(q: float, count: int) -> int:
    """Rank of a quantile among so many values, from 1."""
    return min(max(math.ceil(q * count - 1e-9), 1), max(count, 1))


def _needed(rows: int, rank: int, q: float, error: float, delta: float) -> int:
    """The least sample whose quantile is off in rank by more than `error` of the rows with probability 2 delta at most."""
    few, many = 0, rows
    while many - few > 1:
        middle = (few + many) // 2
        if _is_enough(rows, rank, q, error, delta, middle):
            many = middle
        else:
            few = middle
    return many


def _is_enough(rows: int, rank: int, q: float, error: float, delta: float, count: int) -> bool:
    place = _place(q, count)
    below = math.ceil(rank - error * rows - 1e-9) - 1
    above = math.floor(rank + error * rows + 1e-9)
    too_low = 0.0 if below < 1 else 1 - hypergeometric_cdf(place - 1, rows, below, count)
    too_high = 0.0 if above >= rows else hypergeometric_cdf(place - 1, rows, above, count)
    return too_low <= delta and too_high <= delta


def _lowest(rows: int, rank: int, count: int, delta: float) -> int:
    """The highest place in the sample whose value exceeds the quantile with probability delta at most; 0 for none."""
    few, many = 0, count + 1
    while many - few > 1:
        middle = (few + many) // 2
        if hypergeometric_cdf(middle - 1, rows, rank, count) <= delta:
            few = middle
        else:
            many = middle
    return few


def _highest(rows: int, rank: int, count: int, delta: float) -> int:
    """The lowest place in the sample whose value falls short of it with that probability; count + 1 for none."""
    few, many = 0, count + 1
    while many - few > 1:
        middle = (few + many) // 2
        if 1 - hypergeometric_cdf(middle - 1, rows, rank - 1, count) <= delta:
            many = middle
        else:
            few = middle
    return many
