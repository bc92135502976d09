"""Rounds: ask which items can matter, run some, ask again, until nothing that could change the answer is missing.

Which fill goes first is a matter of cost alone: `cost / (1 - share of its items that survive it)`, the classical order
of filters, from a pilot of a few items of each. Whatever ran is stored, so a pilot is never wasted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from aidb.catalog.relations import Fill
from aidb.plan.calls import CallPlan

PILOT = 32
"""Items of each wanted fill that run before fills are ranked."""

NO_GAIN = 0.95
"""From this share of survivors on nothing is gained by running a fill before others."""

FIRST_BATCH = 16
"""Items of the first round of a statement that may stop early."""


class Materialiser(Protocol):
    """What runs models and stores their answers."""

    def query(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        """Run SQL, with exactly the named parameters it mentions, over what is stored; failing SQL raises DatabaseError."""
        ...

    def materialise(self, items: Sequence[tuple[Fill, pa.Table]]) -> None:
        """Run and store these items (tables of keys); afterwards the ledger has every one of them."""
        ...

    def batch_size(self, fill: Fill) -> int:
        """Return how many items of a fill run at once."""
        ...

    def cost(self, fill: Fill) -> float:
        """Return the cost of an item, measured if it has been, in any unit that is the same for all fills."""
        ...


def run_rounds(plan: CallPlan, engine: Materialiser, *, optimise: bool = True) -> None:
    """Materialise what a statement needs; afterwards ``plan.final()`` gives its answer.

    With ``optimise=False`` everything that the statement touches is materialised, and nothing is pruned or ordered.
    """
    if not optimise:
        plan.take_everything()
    _Rounds(plan, engine).run()


class _Rounds:
    """One run of `run_rounds`."""

    def __init__(self, plan: CallPlan, engine: Materialiser) -> None:
        self.plan = plan
        self.engine = engine
        self.done: dict[Fill, pa.Table] = {}
        self.last: frozenset[Fill] = frozenset()

    def run(self) -> None:
        if self.plan.limit is not None and self._run_until_enough():
            return
        while True:
            wanted = self.plan.wanted(self.engine.query)
            if not wanted or self._run_some(wanted):
                return

    def _run_some(self, wanted: dict[Fill, pa.Table]) -> bool:
        """Run one round; returns whether it is certain that no other is needed."""
        if len(wanted) > 1 and self.plan.fallback is None:
            wanted = self._pilot(wanted)
            if not wanted:
                return False
        chosen = self._choose(wanted)
        self._materialise([(fill, wanted[fill]) for fill in chosen])
        # Known answers only rule items out, unless a fill that reads them finds new items among them.
        everything = len(chosen) == len(wanted) and not self.plan.reads_clock
        return everything and not self.plan.has_children(chosen)

    def _materialise(self, items: list[tuple[Fill, pa.Table]]) -> None:
        self.engine.materialise(items)
        for fill, keys in items:
            before = self.done.get(fill)
            self.done[fill] = keys if before is None else pa.concat_tables([before, keys.cast(before.schema)])

    # Order

    def _pilot(self, wanted: dict[Fill, pa.Table]) -> dict[Fill, pa.Table]:
        """Run a few items of each fill that has not run yet in this statement, spread and apart from one another."""
        new = [f for f in wanted if f not in self.done and wanted[f].num_rows > PILOT]
        if len(wanted) - len(new) == len(wanted):
            return wanted
        pilots = [(f, _spread(wanted[f], PILOT, n, len(new))) for n, f in enumerate(new)]
        self._materialise(pilots)
        return self.plan.wanted(self.engine.query)

    def _choose(self, wanted: dict[Fill, pa.Table]) -> list[Fill]:
        """Return the fills to run now: the best filter, or all if none is left that filters anything."""
        if len(wanted) == 1 or self.plan.fallback is not None:
            return list(wanted)
        survive = {f: self._survivors(f) for f in wanted}
        filters = [f for f in wanted if survive[f] < NO_GAIN]
        if not filters:
            return list(wanted)
        return [min(filters, key=lambda f: (self.engine.cost(f) / (1 - survive[f]), self.plan.depth(f), f.id))]

    def _survivors(self, fill: Fill) -> float:
        """Return the share of items that still matter once this fill has run on them."""
        done = self.done.get(fill)
        if done is None:
            return 0.5
        alive = _shared(done, self.plan.survivors(fill, self.engine.query))
        items = int(done.num_rows)
        return (alive + 1) / (items + 2) if items < 10 * PILOT else alive / items

    # Early stop

    def _run_until_enough(self) -> bool:
        """Run small batches, deepest fill first, until LIMIT is met; returns whether it was."""
        batch = FIRST_BATCH
        while not self.plan.is_enough(self.engine.query):
            wanted = self.plan.first_wanted(self.engine.query, batch)
            if not wanted or self.plan.limit is None:
                return False
            fill = max(wanted, key=lambda f: (self.plan.depth(f), f.id))
            self._materialise([(fill, wanted[fill].slice(0, batch))])
            # A growing batch keeps the number of rounds small, a slowly growing one what runs in vain.
            batch = max(min(FIRST_BATCH, self.engine.batch_size(fill)), self.done[fill].num_rows // 4)
        return True


def _spread(keys: pa.Table, count: int, part: int, parts: int) -> pa.Table:
    """Return about ``count`` rows, evenly spread; different parts take different rows where there are enough."""
    ordered = keys.sort_by([(keys.column_names[0], "ascending")])
    step = max(1, ordered.num_rows // count)
    start = (step * part) // parts
    return ordered.take(pa.array(range(start, ordered.num_rows, step)[:count]))


def _shared(left: pa.Table, right: pa.Table) -> int:
    """Return how many rows of the left table are in the right one."""
    if not left.num_rows or not right.num_rows:
        return 0
    right = right.cast(left.schema)
    return int(left.join(right, keys=left.column_names, join_type="left semi").num_rows)
