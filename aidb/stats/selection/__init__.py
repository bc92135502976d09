"""Choosing rows by a proxy and few labels, so that recall, precision or both meet a target.

`select` checks its arguments and hands a `Population` to one of the methods, each in a module of its own. The
contract between them is in `aidb.stats.selection.result`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from aidb.stats.selection.population import Label, Population
from aidb.stats.selection.result import Chosen, Selection, selection

__all__ = ["Chosen", "Population", "Selection", "check", "select"]

_RECALL = {
    "auto": "exact:auto",
    "exact": "exact:exact",
    "uniform": "uniform:uniform",
    "zones": "zones:zones",
    "two_rate": "two_rate:two_rate",
    "cells": "cells:cells",
    "supg": "supg:recall",
    "calibrated": "calibrated:calibrated",
}
_PRECISION = {"auto": "precision:precision", "exact": "precision:precision", "supg": "supg:precision"}
_JOINT = {"auto": "joint:joint", "exact": "joint:exact", "supg": "supg:joint"}
_VERIFIED = {"auto": "verified:auto", "exact": "verified:exact"}
_EXPECTED_RECALL = {"auto": "expected:recall"}
_EXPECTED_PRECISION = {"auto": "expected:precision"}
"""Method name -> module:function of this package."""


def select(
    scores: npt.ArrayLike,
    label: Label,
    *,
    recall: float | None = None,
    precision: float | None = None,
    probability: float = 0.95,
    budget: int | None = None,
    method: str = "auto",
    expected: bool = False,
    verified: bool = False,
    known: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    rng: np.random.Generator,
    **options: Any,
) -> Selection:
    """Rows that hold at least `recall` of the positives, or of which at least `precision` are positive, or both.

    scores: one per row, higher means likelier; only their order counts, and it may be useless. NaN ranks lowest.
    label: gives truth for an array of row numbers, distinct and never asked before nor in `known`: booleans, or
    numbers with NaN for a row that could not be answered. It is asked in large batches.
    recall, precision: targets in (0, 1). probability: that the targets hold together, in (0, 1).
    budget: labels that may be bought; None, unlimited, only for both targets together and for `verified`.
    method: "auto", "exact", "uniform", "zones", "two_rate", "cells", "supg" or "calibrated"; precision knows "auto",
    "exact" and "supg".
    expected: meet the targets on the sample only, which promises nothing (about half of the answers miss them).
    verified: label every returned row, so that precision is 1, at as few labels in all as can be.
    known: row numbers and their truth values, which cost nothing. They need not be a random sample.
    options: for the method, such as `kappa` for "calibrated".

    Guarantee: by mode of the result. "exact" (all labelled) and "guaranteed" hold for every table and every score, over
    the randomness of `rng` alone; "asymptotic" rests on approximations that hidden positives can break; "conditional"
    on the stated assumption; "expected" on nothing. A table without positives has recall 1, an empty answer precision 1.
    Rows that cannot be answered are left out of the table, and of the answer if they were asked.

    Raises ValueError for arguments that make no sense; nothing is asked then.
    """
    check(recall, precision, probability, budget, method=method, expected=expected, verified=verified)
    home = _home(method, recall, precision, expected, verified)
    population = Population(scores, label, budget, rng, known)
    pool = population.unknown()
    targets = {"recall": recall, "precision": precision, "probability": None if expected else probability}
    if len(pool) == 0 or (budget is not None and budget >= len(pool)):
        population.ask(pool)
        return selection(population, Chosen(0, "exact", "all", 1.0, 1.0), **targets)
    wanted = [target for target in (None if verified else precision,) if target is not None]
    if recall is not None:
        wanted.insert(0, recall)
    arguments = [*wanted, rng] if expected else [*wanted, 1 - probability, rng]
    return selection(population, _method(home)(population, *arguments, **options), **targets)


def check(
    recall: float | None = None,
    precision: float | None = None,
    probability: float = 0.95,
    budget: int | None = None,
    *,
    method: str = "auto",
    expected: bool = False,
    verified: bool = False,
) -> None:
    """Raises the ValueError that `select` would raise for these arguments, before anything is asked."""
    _check(recall, precision, probability, budget, expected, verified)
    _home(method, recall, precision, expected, verified)


def _check(
    recall: float | None,
    precision: float | None,
    probability: float,
    budget: int | None,
    expected: bool,
    verified: bool,
) -> None:
    if recall is None and precision is None:
        raise ValueError("a target is missing: give recall, precision or both")
    for name, value in (("recall", recall), ("precision", precision), ("probability", probability)):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"{name} must lie between 0 and 1, both excluded, and is {value}")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 0):
        raise ValueError(f"budget must be a whole number of labels, 0 or more, and is {budget}")
    if verified and recall is None:
        raise ValueError("verified answers need a recall target: their precision is 1 by itself")
    if verified and expected:
        raise ValueError("expected and verified contradict each other: an expected target is met on the sample only")
    if budget is None and not verified and (recall is None or precision is None):
        raise ValueError("budget is missing: one target on unverified rows needs a number of labels to spend")


def _home(method: str, recall: float | None, precision: float | None, expected: bool, verified: bool) -> str:
    """module:function for what was asked; names the methods there are if there is none."""
    if expected and recall is not None and precision is not None:
        raise ValueError("expected takes one target, recall or precision")
    if expected:
        kind, homes = "an expected target", _EXPECTED_RECALL if recall is not None else _EXPECTED_PRECISION
    elif verified:
        kind, homes = "a verified answer", _VERIFIED
    elif recall is not None and precision is not None:
        kind, homes = "recall and precision together", _JOINT
    else:
        kind, homes = ("a recall target", _RECALL) if recall is not None else ("a precision target", _PRECISION)
    if method not in homes:
        raise ValueError(f"method {method!r} is not known for {kind}; there are {', '.join(homes)}")
    return homes[method]


def _method(home: str) -> Callable[..., Chosen]:
    """The function; imported when it is first needed, as few callers need more than one or two."""
    module, name = home.split(":")
    function: Callable[..., Chosen] = getattr(import_module(f"{__name__}.{module}"), name)
    return function
