"""The rows to choose from, ranked by their proxy, and what has been learnt of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Labels: TypeAlias = npt.NDArray[np.int8]
Label: TypeAlias = Callable[[Ints], npt.ArrayLike]
"""Row numbers, distinct and never asked before, to truth values; NaN for a row that could not be answered."""

UNKNOWN, NO, YES, FAILED = -1, 0, 1, 2
"""What is known of a row."""


class Population:
    """Rows in the order of their proxy score, best first; asks the oracle, each row at most once.

    n: rows. order: rank -> row number. scores: by rank, finite, never increasing. labels: by rank, one of `UNKNOWN`,
    `NO`, `YES`, `FAILED`. budget: labels that may be bought, `n` where no limit was set. used: labels bought.
    unscored: rows without a score, the last ranks.

    The score is a ranking and a hint for planning, nothing else: no guarantee rests on its size. Ties are broken by a
    random permutation drawn before any label, so that equal scores hide no order. NaN ranks lowest and is sampled like
    the rest; infinities count as the largest or smallest finite score.
    """

    def __init__(
        self,
        scores: npt.ArrayLike,
        label: Label,
        budget: int | None,
        rng: np.random.Generator,
        known: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    ) -> None:
        raw = np.asarray(scores, dtype=np.float64)
        if raw.ndim != 1:
            raise ValueError(f"scores must have one dimension, not {raw.ndim}")
        self.n = len(raw)
        self.order = _ranking(raw, rng)
        self.scores = _finite(raw, self.order)
        self.unscored = int(np.isnan(raw).sum())
        self.labels: Labels = np.full(self.n, UNKNOWN, dtype=np.int8)
        self.budget = self.n if budget is None else budget
        self.used = 0
        self._label = label
        if known is not None:
            rows = _row_numbers(known[0], self.n)
            self.labels[rows] = _as_labels(known[1], len(rows))
            self.labels = self.labels[self.order]

    @property
    def left(self) -> int:
        """Labels that may still be bought."""
        return self.budget - self.used

    def unknown(self, start: int = 0, stop: int | None = None) -> Ints:
        """Ranks from start to stop (excluded) that nothing is known of."""
        return start + np.flatnonzero(self.labels[start:stop] == UNKNOWN)

    def positives(self, start: int = 0, stop: int | None = None) -> Ints:
        """Ranks from start to stop (excluded) that are known to be positive."""
        return start + np.flatnonzero(self.labels[start:stop] == YES)

    def ask(self, ranks: npt.ArrayLike) -> Labels:
        """The labels of these ranks; buys those that are not known, which must fit into the budget.

        ranks: any order, repetitions allowed (a row is bought once).
        """
        ranks = np.asarray(ranks, dtype=np.int64)
        new = np.unique(ranks[self.labels[ranks] == UNKNOWN])
        if len(new) > self.left:
            raise ValueError(f"{len(new)} labels asked where {self.left} are left")
        if len(new):
            self.used += len(new)
            self.labels[new] = _as_labels(self._label(self.order[new]), len(new))
        asked: Labels = self.labels[ranks]
        return asked


def _ranking(raw: Floats, rng: np.random.Generator) -> Ints:
    """Row numbers from the highest score to the lowest, NaN last, ties in random order."""
    shuffled = rng.permutation(len(raw))
    keys = raw[shuffled]  # changed in place: of a billion scores each copy is 8 GB
    np.negative(keys, out=keys)
    keys[np.isnan(keys)] = np.inf
    ranks = np.argsort(keys, kind="stable")
    del keys
    order: Ints = shuffled[ranks]
    return order


def _finite(raw: Floats, order: Ints) -> Floats:
    """The scores in an order, with numbers in place of NaN and the infinities."""
    there = np.isfinite(raw)
    low, high = 0.0, 0.0
    if there.any():
        low, high = float(raw.min(where=there, initial=np.inf)), float(raw.max(where=there, initial=-np.inf))
    return np.nan_to_num(raw[order], copy=False, nan=low, posinf=high, neginf=low)


def _row_numbers(given: npt.ArrayLike, n: int) -> Ints:
    rows = np.asarray(given)
    if rows.size == 0:
        return np.empty(0, dtype=np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(f"known rows must be whole numbers in one dimension, not {rows.dtype} in {rows.ndim}")
    if rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"known rows must lie between 0 and {n - 1}; given are {rows.min()} to {rows.max()}")
    if len(np.unique(rows)) < len(rows):
        raise ValueError("a row is given twice among the known rows")
    return rows.astype(np.int64)


def _as_labels(values: npt.ArrayLike, count: int) -> Labels:
    given = np.asarray(values)
    if given.shape != (count,):
        raise ValueError(f"{count} truth values were expected, one a row, and an array of shape {given.shape} came")
    if given.dtype == np.bool_:
        return given.astype(np.int8)
    numbers = given.astype(np.float64)
    labels = (numbers > 0).astype(np.int8)
    labels[np.isnan(numbers)] = FAILED
    return labels
