"""How many items may be asked about for a budget of calls, money or time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aidb.exec.control import Ceiling
from aidb.exec.guarantees.items import Ints, Items
from aidb.sql.statements import Budget, Guarantee

PILOT, PILOT_SHARE = 32, 8
"""Items that are asked about first where what one costs is not known; at most each eighth of those allowed, were it 1."""
MARGIN = 1.25
"""Such items may turn out so many times as dear before the limit ends the query."""


@dataclass(frozen=True)
class Allowance:
    """labels: items that may be asked about, None for any number. pilot: items that were asked to learn what one costs."""

    labels: int | None
    pilot: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def allowance(items: Items, guarantee: Guarantee, rng: np.random.Generator, ask: Callable[[Ints], None]) -> Allowance:
    """What a query's budget clauses allow; may ask about a few random items to learn what one costs."""
    budgets = [b for b in (guarantee.budget, _time(guarantee)) if b is not None]
    if not budgets:
        return Allowance(None)
    if not items.n:
        return Allowance(0)
    questions = items.questions
    limit = next((b.calls for b in budgets if b.calls is not None), None)
    if limit is not None:
        questions.control.ceiling = Ceiling(limit, questions.oracle, questions.oracle_calls() + limit)
    fills = questions.plan(items.parts.counts(only="__aidb_open")).fills
    plain = [f for f in fills if len(f.keys) <= len(items.unit.keys)]
    counted = [f for f in plain if questions.oracle in (None, f.model)]
    calls = float(len(counted)) if len(plain) == len(fills) else math.nan
    price = sum(questions.registry.model(f.model).price_per_call for f in plain) if calls == calls else math.nan
    seconds, margin = math.nan, 1.0
    pilot = Allowance(None).pilot
    needs = any((b.calls is not None and calls != calls) or (b.cost is not None and price != price) for b in budgets)
    if needs or any(b.seconds is not None for b in budgets):
        before, cost, spent = questions.oracle_calls(), questions.control.cost, items.seconds
        most = PILOT if limit is None else min(PILOT, max(limit // PILOT_SHARE, 1))
        pilot = np.sort(rng.choice(items.n, min(items.n, most), replace=False)).astype(np.int64)
        ask(pilot)
        asked = len(pilot)
        seconds = (items.seconds - spent) / asked
        if calls != calls:
            calls = max((questions.oracle_calls() - before) / asked, 1e-9)
            price = (questions.control.cost - cost) / asked
            margin = MARGIN
    labels = min(_labels(b, margin * calls, margin * price, seconds) for b in budgets)
    left = None if labels == math.inf else max(int(labels) - len(pilot), 0)
    return Allowance(left, pilot)


def _time(guarantee: Guarantee) -> Budget | None:
    return None if guarantee.time_limit is None else Budget(seconds=guarantee.time_limit)


def _labels(budget: Budget, calls: float, price: float, seconds: float) -> float:
    if budget.calls is not None:
        return math.inf if calls <= 0 else budget.calls // calls
    if budget.cost is not None:
        return math.inf if price <= 0 else budget.cost / price + 1e-9
    assert budget.seconds is not None
    return math.inf if seconds <= 0 else budget.seconds / seconds
