"""How many items may be asked about for a budget of calls, money or time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aidb.exec.guarantees.items import Ints, Items
from aidb.sql.statements import Budget, Guarantee

PILOT = 32
"""Items that are asked about first where what one costs is not known."""


@dataclass(frozen=True)
class Allowance:
    """labels: items that may be asked about, None for any number. pilot: items that were asked to learn what one costs.

    ceiling: calls that may never be passed, None where items and calls are one to one or there is no such budget.
    """

    labels: int | None
    pilot: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    ceiling: int | None = None


def allowance(items: Items, guarantee: Guarantee, rng: np.random.Generator, ask: Callable[[Ints], None]) -> Allowance:
    """What a query's budget clauses allow; may ask about a few random items to learn what one costs."""
    budgets = [b for b in (guarantee.budget, _time(guarantee)) if b is not None]
    if not budgets:
        return Allowance(None)
    if not items.n:
        return Allowance(0)
    questions = items.questions
    fills = questions.plan(items.parts.counts(only="__aidb_open")).fills
    plain = [f for f in fills if len(f.keys) <= len(items.unit.keys)]
    calls = float(len(plain)) if len(plain) == len(fills) else math.nan
    price = sum(questions.registry.model(f.model).price_per_call for f in plain) if calls == calls else math.nan
    seconds = math.nan
    pilot = Allowance(None).pilot
    needs = any((b.calls is not None and calls != calls) or (b.cost is not None and price != price) for b in budgets)
    if needs or any(b.seconds is not None for b in budgets):
        before, cost, spent = questions.control.calls.total(), questions.control.cost, items.seconds
        pilot = np.sort(rng.choice(items.n, min(items.n, PILOT), replace=False)).astype(np.int64)
        ask(pilot)
        asked = len(pilot)
        seconds = (items.seconds - spent) / asked
        if calls != calls:
            calls = max((questions.control.calls.total() - before) / asked, 1e-9)
            price = (questions.control.cost - cost) / asked
    labels = min(_labels(b, calls, price, seconds) for b in budgets)
    ceiling = next((b.calls for b in budgets if b.calls is not None), None)
    left = None if labels == math.inf else max(int(labels) - len(pilot), 0)
    return Allowance(left, pilot, ceiling)


def _time(guarantee: Guarantee) -> Budget | None:
    return None if guarantee.time_limit is None else Budget(seconds=guarantee.time_limit)


def _labels(budget: Budget, calls: float, price: float, seconds: float) -> float:
    if budget.calls is not None:
        return budget.calls // calls
    if budget.cost is not None:
        return math.inf if price <= 0 else budget.cost / price + 1e-9
    assert budget.seconds is not None
    return math.inf if seconds <= 0 else budget.seconds / seconds
