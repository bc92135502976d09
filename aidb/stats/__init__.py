"""Statistics for answers with a guarantee: functions over arrays, an ``rng``, and a ``label(indices)`` callback.

They know nothing of SQL, models or storage, and are useful alone:

- `select`: rows whose recall, precision or both meet a target.
- `estimate`: a count, sum or average within an error, with an interval.
- `quantile`: the median of a number that each row has, or another quantile, within an error of its rank.
- `search`: k matching rows after few labels.
- `sampling`, `intervals`, `calibrate`, `index`: what these are made of.

The names load what they need when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aidb.stats import calibrate, index, intervals, sampling
    from aidb.stats.aggregates import Answers, Estimate, GroupEstimates, estimate, estimate_groups
    from aidb.stats.finding import Found, search
    from aidb.stats.quantiles import Quantile, quantile
    from aidb.stats.selection import Selection, select

_HOMES = {
    "Selection": "aidb.stats.selection",
    "select": "aidb.stats.selection",
    "Answers": "aidb.stats.aggregates",
    "Estimate": "aidb.stats.aggregates",
    "GroupEstimates": "aidb.stats.aggregates",
    "estimate": "aidb.stats.aggregates",
    "estimate_groups": "aidb.stats.aggregates",
    "Quantile": "aidb.stats.quantiles",
    "quantile": "aidb.stats.quantiles",
    "Found": "aidb.stats.finding",
    "search": "aidb.stats.finding",
}
_MODULES = ("calibrate", "index", "intervals", "sampling")

__all__ = [
    "Answers",
    "Estimate",
    "Found",
    "GroupEstimates",
    "Quantile",
    "Selection",
    "calibrate",
    "estimate",
    "estimate_groups",
    "index",
    "intervals",
    "quantile",
    "sampling",
    "search",
    "select",
]


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"aidb.stats.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'aidb.stats' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
