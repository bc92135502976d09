"""Rounds: ask which items can matter, run some, ask again, until nothing that could change the answer is missing.

Which fill goes first is a matter of cost alone: `cost / (1 - share of its items that survive it)`, the classical order
of filters, from a pilot of a few items of each. Whatever ran is stored, so a pilot is never wasted. A fill that is
clearly dearer than another over the same items is only tried where the cheaper one has let an item pass.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Protocol

import pyarrow as pa

from aidb.catalog.relations import Fill
from aidb.errors import InternalError
from aidb.plan.calls import CallPlan

PILOT = 32
"""Items of each wanted fill that run before fills are ranked."""

DEARER = 3.0
"""A fill that costs this many times what another does waits for it."""

NO_GAIN = 0.95
"""From this share of survivors on nothing is gained by running a fill before others."""

FIRST_BATCH = 16
"""Items of the first rounds of a statement that may stop early, at most; fewer at first for a smaller LIMIT."""


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

    def measured(self, fill: Fill) -> bool:
        """Return whether `cost` is known from experience, or only what the model's author guessed."""
        ...


def run_rounds(
    plan: CallPlan,
    engine: Materialiser,
    *,
    optimise: bool = True,
    wanted: Mapping[Fill, pa.Table] | None = None,
    shares: MutableMapping[Fill, float] | None = None,
) -> None:
    """Materialise what a statement needs; afterwards ``plan.final()`` gives its answer.

    With ``optimise=False`` everything that the statement touches is materialised, and nothing is pruned or ordered.
    wanted: what the plan wants now, if that was asked already. shares: what pilots have found, for statements that are
    alike: the share of each fill's items that survive it; a fill that is in it needs no pilot, others are put in.
    """
    if not optimise:
        plan.take_everything()
    _Rounds(plan, engine, {} if shares is None else shares).run(wanted)


class _Rounds:
    """One run of `run_rounds`."""

    def __init__(self, plan: CallPlan, engine: Materialiser, shares: MutableMapping[Fill, float]) -> None:
        self.plan = plan
        self.engine = engine
        self.shares, self.known = shares, dict(shares)
        self.done: dict[Fill, pa.Table] = {}
        self.last: list[tuple[Fill, pa.Table]] = []

    def run(self, first: Mapping[Fill, pa.Table] | None = None) -> None:
        if self.plan.limit is not None:
            if self._run_until_enough():
                return
            self.plan.stop_nowhere()
        while True:
            wanted, first = dict(first) if first is not None else self.plan.wanted(self.engine.query), None
            self._assert_progress(wanted)
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
        self.last = items
        for fill, keys in items:
            before = self.done.get(fill)
            self.done[fill] = keys if before is None else pa.concat_tables([before, keys.cast(before.schema)])

    def _assert_progress(self, wanted: Mapping[Fill, pa.Table]) -> None:
        """An item that has run may not be wanted again, or the rounds would never end."""
        for fill, keys in self.last:
            if fill in wanted and _shared(keys, wanted[fill]):
                raise InternalError(f"{fill.id}: {_shared(keys, wanted[fill])} items were run and are still not done")

    # Order

    def _pilot(self, wanted: dict[Fill, pa.Table]) -> dict[Fill, pa.Table]:
        """Run a few items of each fill that has not run yet in this statement, spread and apart from one another.

        Fills of about the same cost are tried together, cheaper ones before dearer ones.
        """
        wanted = self._taste(wanted)
        tried: set[Fill] = set()
        while True:
            known = self.done.keys() | self.known.keys() | tried
            new = [f for f in wanted if f not in known and wanted[f].num_rows > PILOT]
            if not new or len(wanted) == 1:
                return wanted
            least = min(self.engine.cost(f) for f in new)
            now = [f for f in new if self.engine.cost(f) < DEARER * least]
            items = {f: self._passed(f, wanted) for f in now}
            tried |= set(now)
            pilots = [(f, _spread(items[f], PILOT, n, len(now))) for n, f in enumerate(now) if items[f].num_rows]
            if pilots:
                self._materialise(pilots)
                wanted = self.plan.wanted(self.engine.query)

    def _taste(self, wanted: dict[Fill, pa.Table]) -> dict[Fill, pa.Table]:
        """Measure what an item costs where that is a guess, and the guesses don't tell which fill is the dearer."""
        for fill in sorted(wanted, key=lambda f: (self.engine.cost(f), self.plan.depth(f), f.id)):
            if fill not in wanted or len(wanted) == 1 or self.engine.measured(fill):
                continue
            cost = self.engine.cost(fill)
            rivals = [self.engine.cost(f) for f in wanted if f != fill and _same_items(f, fill)]
            if any(cost < DEARER * c and c < DEARER * cost for c in rivals):
                self.engine.materialise([(fill, wanted[fill].slice(0, 1))])
                wanted = self.plan.wanted(self.engine.query)
        return wanted

    def _passed(self, fill: Fill, wanted: Mapping[Fill, pa.Table]) -> pa.Table:
        """Return the wanted items of a fill that no clearly cheaper one can rule out any more."""
        keys = wanted[fill]
        for other, open_ in wanted.items():
            if _same_items(other, fill) and self.engine.cost(other) * DEARER <= self.engine.cost(fill):
                keys = _without(keys, open_)
        return keys

    def _choose(self, wanted: dict[Fill, pa.Table]) -> list[Fill]:
        """Return the fills to run now: the best filter, or all if none is left that filters anything."""
        if len(wanted) == 1 or self.plan.fallback is not None:
            return list(wanted)
        survive = {f: self.known[f] if f in self.known else self._survivors(f) for f in wanted}
        self.shares.update((f, survive[f]) for f in wanted if f in self.done and self.done[f].num_rows >= PILOT)
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
        batch = min(FIRST_BATCH, self.plan.limit or FIRST_BATCH)  # for one row one item may do
        while not self.plan.is_enough(self.engine.query):
            wanted = self.plan.first_wanted(self.engine.query, batch)
            if not wanted or self.plan.limit is None:
                return False
            if not self.done and self._taste(wanted) is not wanted:
                continue
            fill, keys = self._next(wanted)
            self._materialise([(fill, keys.slice(0, batch))])
            # A growing batch keeps the number of rounds small, a slowly growing one what runs in vain.
            done = self.done[fill].num_rows
            most = min(FIRST_BATCH, self.engine.batch_size(fill))
            batch = min(most, 2 * batch, FIRST_BATCH - done) if done < FIRST_BATCH else max(most, done // 4)
        return True

    def _next(self, wanted: dict[Fill, pa.Table]) -> tuple[Fill, pa.Table]:
        """Return what completes rows soonest: the deepest fill; of several over the same items the one to run last."""
        ranked = sorted(wanted, key=lambda f: (self.plan.depth(f), self.engine.cost(f), f.id), reverse=True)
        for fill in ranked:
            keys = self._passed(fill, wanted)
            if keys.num_rows:
                return fill, keys
        return ranked[-1], wanted[ranked[-1]]


def _same_items(left: Fill, right: Fill) -> bool:
    """Do two fills look at the same items?"""
    return left.keys == right.keys and tuple(map(str.lower, left.parents)) == tuple(map(str.lower, right.parents))


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


def _without(left: pa.Table, right: pa.Table) -> pa.Table:
    """Return the rows of the left table that are not in the right one; all where Arrow can't compare them."""
    if not left.num_rows or not right.num_rows:
        return left
    try:
        return left.join(right.cast(left.schema), keys=left.column_names, join_type="left anti")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return left
