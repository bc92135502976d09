"""Arguments, checked once, in words that say what to give instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from aidb.stats.aggregates.strata import Ints

AGGREGATES = ("count", "sum", "avg")
METHODS = ("auto", "exact", "asr", "clt", "ppi", "abae", "ebs", "betting", "bootstrap")
INSTEAD = {
    "min": "no error can be promised for a minimum: ask for the rows with the lowest proxy (search)",
    "max": "no error can be promised for a maximum: ask for the rows with the highest proxy (search)",
    "count_distinct": "a number of distinct values cannot be estimated without bias from few rows: ask for it exactly",
}


def aggregate(name: str) -> str:
    """One of `AGGREGATES`; ValueError otherwise, with the alternative where there is one."""
    if name not in AGGREGATES:
        raise ValueError(INSTEAD.get(name.lower(), f"aggregate must be one of {', '.join(AGGREGATES)}, not {name!r}"))
    return name


def method(name: str, kind: str, uniform: bool, bounds: tuple[float, float] | None) -> str:
    """A method that is sound for this aggregate; ValueError otherwise."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {name!r}")
    if name in ("ppi", "abae") and uniform:
        raise ValueError(f"method {name} needs a proxy: give scores, or use clt")
    if name in ("ebs", "betting"):
        if kind == "avg":
            raise ValueError(f"an average over matches is a ratio, for which {name} has no sound form: use auto")
        if bounds is None:
            raise ValueError(f"method {name} needs bounds=(lowest, highest), the values one item may have")
        if not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
            raise ValueError(f"bounds must be two finite numbers, the lower first, not {bounds}")
    return name


def error(given: float | None) -> float | None:
    """A positive finite number, or None."""
    if given is not None and not (np.isfinite(given) and given > 0):
        raise ValueError(f"error must be a positive number, not {given}")
    return None if given is None else float(given)


def each(given: object, count: int, what: str) -> list[object]:
    """One value for each of `count` aggregates: the same one for all, or a sequence of so many."""
    if isinstance(given, Sequence | np.ndarray):
        if len(given) != count:
            raise ValueError(f"{what}: {len(given)} values for {count} aggregates")
        return list(given)
    return [given] * count


def probability(given: float) -> float:
    """Strictly between 0 and 1."""
    if not 0 < given < 1:
        raise ValueError(f"probability must lie between 0 and 1, not {given}")
    return float(given)


def budget(given: int | None) -> int | None:
    """A number of labels, not negative, or None."""
    if given is not None and given < 0:
        raise ValueError(f"budget must not be negative, got {given}")
    return None if given is None else int(given)


def population(scores: npt.ArrayLike | None, rows: int | None) -> tuple[npt.NDArray[np.floating[Any]] | None, int]:
    """Scores as an array of numbers, and how many rows there are."""
    if scores is None:
        if rows is None or rows < 0:
            raise ValueError("without scores, rows= must say how many rows there are")
        return None, int(rows)
    try:
        array = np.asarray(scores, dtype=None if isinstance(scores, np.ndarray) and scores.dtype.kind == "f" else float)
    except (TypeError, ValueError):
        raise ValueError("scores must be numbers") from None
    if array.ndim != 1:
        raise ValueError(f"scores must have one dimension, not {array.ndim}")
    if rows is not None and rows != len(array):
        raise ValueError(f"rows={rows}, but there are {len(array)} scores")
    return array, len(array)


def known(given: npt.ArrayLike, n: int) -> Ints:
    """Row numbers, each at most once."""
    array = np.asarray(given)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError("known rows must be one array of row numbers")
    if array.min() < 0 or array.max() >= n:
        raise ValueError(f"known rows must lie between 0 and {n - 1}")
    if len(np.unique(array)) != len(array):
        raise ValueError("known rows: a row is named twice")
    return array.astype(np.int64)
