"""Exact queries on behalf of a statement with a guarantee: planned, materialised and answered like any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa

from aidb.catalog.relations import Fill, Relations
from aidb.errors import Error, NotSupportedError
from aidb.exec.control import Control
from aidb.exec.materialiser import Materialiser
from aidb.exec.registry import Registry
from aidb.exec.rounds import run_rounds
from aidb.exec.settings import Settings
from aidb.plan import parameters
from aidb.plan.calls import CallPlan, plan_calls
from aidb.storage.database import Database


@dataclass
class Questions:
    """What a guarantee's executor may do with the engine; to be closed when the answer is there.

    sql: the statement for the planner, its parameters named ``$__p...``. written: as the user wrote it, without clauses of
    ours. fills: all that was asked so far, in order.
    """

    database: Database
    registry: Registry
    materialiser: Materialiser
    settings: Settings
    control: Control
    relations: Relations
    bound: parameters.Bound
    written: str = ""
    fills: dict[Fill, None] = field(default_factory=dict)
    oracle: str | None = None
    _kept: set[str] = field(default_factory=set)

    @property
    def sql(self) -> str:
        """The statement itself."""
        return self.bound.sql

    def given(self, text: str) -> dict[str, object]:
        """Values of the parameters that a text mentions."""
        return self.bound.for_query(text)

    def query(self, text: str) -> pa.Table:
        """Rows over what is stored by now."""
        self.control.raise_if_stopped()
        return self.database.query(text, self.given(text))

    def keep(self, name: str, text: str, **tables: pa.Table) -> None:
        """Make a temporary table of a query's rows, until `close`."""
        self.database.keep(name, text, self.given(text), **tables)
        self._kept.add(name)

    def close(self) -> None:
        """Drop the temporary tables, which SHOW TABLES would list; in a transaction that failed they go with it."""
        with suppress(Error):
            while self._kept:
                self.database.execute(f"DROP TABLE IF EXISTS {self._kept.pop()}")

    def plan(self, text: str) -> CallPlan:
        """How a text's models are asked. Raises `NotSupportedError` where all items would be asked whatever the text says."""
        plan = plan_calls(text, self.relations, self.database.touched, self.given(text))
        if plan.fallback is not None:
            raise NotSupportedError(
                f"the guarantee can't be given: which items the query needs can't be told ({plan.fallback}). Without the "
                "guarantee clauses the answer is exact"
            )
        return plan

    def missing(self, text: str) -> dict[Fill, pa.Table]:
        """The items, by fill, that could change a text's answer now; those behind them are not known yet."""
        return self.plan(text).wanted(self._wanted)

    def materialise(self, text: str) -> CallPlan:
        """Run the models that a text needs; afterwards it gives the exact answer."""
        plan = self.plan(text)
        statement = self.materialiser.begin(self.control, self.settings, self.relations, self.given(text))
        self.fills |= dict.fromkeys(plan.fills)
        try:
            run_rounds(plan, statement)
            for model in {f.model for f in plan.fills}:
                self.control.judge_failures(model)
            self.control.raise_if_stopped()
        finally:
            self.registry.forget_costs()
        return plan

    def oracle_calls(self) -> int:
        """Calls of this statement so far that an ORACLE LIMIT counts."""
        calls = self.control.calls
        return calls.total() if self.oracle is None else calls[self.oracle]

    def calls(self, fills: Mapping[Fill, None] | None = None) -> int:
        """Items that the models of some fills were asked in this statement."""
        counted: Counter[str] = self.control.calls
        return sum(counted[m] for m in {f.model for f in (self.fills if fills is None else fills)})

    def _wanted(self, sql: str, given: Mapping[str, object]) -> pa.Table:
        return self.database.query(sql, dict(given))
