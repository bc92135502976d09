"""The first answers for a semantic index: some of its representatives are asked, and count against the budget."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aidb.exec.guarantees.answered import Answered, open_representatives
from aidb.exec.guarantees.items import OPEN, Items
from aidb.exec.guarantees.scoring import Spread
from aidb.sql.statements import Guarantee

SHARE_OF_ITEMS, SHARE_OF_BUDGET = 10, 4
"""At most each tenth item is asked so, for at most a quarter of the budget."""


@dataclass(frozen=True)
class Asked:
    """What was spent before the statement's own sampling began."""

    labels: int = 0
    calls: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    def left(self, guarantee: Guarantee) -> Guarantee:
        """The guarantee with what is left of its budget."""
        budget = guarantee.budget
        if budget is not None and budget.calls is not None:
            budget = replace(budget, calls=max(budget.calls - self.calls, 0))
        elif budget is not None and budget.cost is not None:
            budget = replace(budget, cost=max(budget.cost - self.cost, 0.0))
        elif budget is not None and budget.seconds is not None:
            budget = replace(budget, seconds=max(budget.seconds - self.seconds, 0.0))
        limit = None if guarantee.time_limit is None else max(guarantee.time_limit - self.seconds, 0.0)
        return replace(guarantee, budget=budget, time_limit=limit)


def ask_representatives(items: Items, proxy: Spread, guarantee: Guarantee) -> Asked:
    """Ask the oracle about representatives of an index, where too few items are answered for it to spread."""
    control = items.questions.control
    count = min(proxy.index.representatives, items.n // SHARE_OF_ITEMS)
    if guarantee.budget is not None or guarantee.time_limit is not None:
        calls = None if guarantee.budget is None else guarantee.budget.calls
        fills = items.questions.plan(items.parts.counts(only=OPEN)).fills
        if calls is None or any(len(f.keys) > len(items.unit.keys) for f in fills):
            return Asked()  # what an item costs is not known yet
        count = min(count, calls // max(len(fills), 1) // SHARE_OF_BUDGET)
    count -= len(Answered.of(items, proxy.shares).places)
    if count <= 0:
        return Asked()
    rows = open_representatives(items, proxy.index.rows, count)
    calls, cost, seconds = items.questions.oracle_calls(), control.cost, items.seconds
    if len(rows):
        items.counts(rows)
    return Asked(len(rows), items.questions.oracle_calls() - calls, control.cost - cost, items.seconds - seconds)
