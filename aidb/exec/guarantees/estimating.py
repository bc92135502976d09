"""ERROR TARGET: aggregates of all items from the shares of some, with an interval each."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pyarrow as pa

from aidb.catalog.names import quoted
from aidb.errors import NotSupportedError, ProgrammingError
from aidb.exec.guarantees.budget import allowance
from aidb.exec.guarantees.items import ASKED, GroupedShares, Ints, Items
from aidb.exec.guarantees.outcome import Guaranteed
from aidb.exec.guarantees.questions import Questions
from aidb.exec.guarantees.scoring import Scores
from aidb.plan.parts import Shares
from aidb.sql.statements import Guarantee
from aidb.stats.aggregates import Answers, GroupEstimates, estimate_groups

RESULT = "__aidb_estimates"


class Estimating:
    """One statement with an error target."""

    def __init__(self, questions: Questions, items: Items, guarantee: Guarantee) -> None:
        self.questions, self.items, self.guarantee = questions, items, guarantee
        self.shares: Shares = items.parts.shares(only=ASKED)
        self._groups: dict[Hashable, tuple[Any, ...]] = {}
        self._types: tuple[pa.DataType, ...] = ()
        if any(a.per_unit for a in self.shares.aggregates):
            raise NotSupportedError("FCOUNT can't be estimated: divide COUNT(*) by the number of items yourself")
        _check_method(guarantee)
        if not self.shares.aggregates:
            raise ProgrammingError("ERROR TARGET needs an aggregate in the SELECT list")

    def run(self, scores: Scores, rng: np.random.Generator) -> Guaranteed:
        """Ask until the intervals are narrow enough, and show the estimates."""
        items, guarantee, n = self.items, self.guarantee, self.items.n
        before = self.questions.oracle_calls()
        known = [self._answers(items.known_shares(), 1)]
        places = [np.array([n])]

        def pilot(rows: Ints) -> None:
            places.append(rows)
            known.append(self._answers(items.shares(rows), len(rows), 1))

        allowed = allowance(items, guarantee, rng, pilot)
        values = None if scores.values is None else np.append(scores.values, np.nan)
        found = estimate_groups(
            values,
            lambda rows: self._answers(items.shares(rows), len(rows)),
            tuple(a.kind for a in self.shares.aggregates),
            error=guarantee.error,
            relative=not guarantee.absolute,
            probability=guarantee.probability,
            budget=allowed.labels,
            method="auto" if guarantee.method is None else guarantee.method.name,
            known=(np.concatenate(places), _together(known)),
            rows=n + 1,
            grouped=bool(self.shares.groups),
            rng=rng,
        )
        table, intervals = self._table(found)
        # Where every item was asked about the query itself gives the answer.
        sql = self.questions.sql if found.mode == "exact" else self._estimated(table)
        answer = self.questions.database.execute(sql, self.questions.given(sql))
        failed = len(found.failed)
        notes = list(found.notes)
        if scores.values is None and scores.name is None and n and found.mode != "exact":
            notes.append("no proxy was named, so items were drawn uniformly: USING PROXY ... needs fewer calls")
        if failed:
            notes.append(
                f"{failed:,} items that were asked about failed; the intervals are wider by what they may hold"
            )
        return Guaranteed(
            answer=answer,
            mode=found.mode,
            target={"error": guarantee.error or 0.0},
            method=found.method,
            probability=guarantee.probability,
            intervals=intervals,
            labels=items.asked,
            oracle_calls=self.questions.oracle_calls() - before,
            failed=failed,
            proxy=scores.name,
            notes=(*notes, *scores.notes),
            sql=sql,
            arrays={"history": np.array(found.history, dtype=np.float64).reshape(-1, 4)},
        )

    def _estimated(self, table: pa.Table) -> str:
        """SQL of the estimates, with the query's ORDER BY and LIMIT."""
        self.questions.keep(RESULT, "SELECT * EXCLUDE (__order) FROM aidb_result ORDER BY __order", aidb_result=table)
        names = [f"{quoted(f'c{i}')} AS {quoted(self._name(i))}" for i in range(len(self.shares.outputs))]
        listed = f"SELECT {', '.join(names)} FROM {RESULT}"
        tail = self.items.parts.tail()
        return f"SELECT * FROM ({listed}) AS __e {tail}" if tail else listed

    # ---- from shares to answers

    def _answers(self, found: GroupedShares, asked: int, first: int = 0) -> Answers:
        """Lines for the statistics; ``first``: the place of the first of these items among several batches."""
        columns: list[Any] = []
        for aggregate in self.shares.aggregates:
            last = aggregate.place + (2 if aggregate.kind == "avg" else 1)
            column = found.values[:, aggregate.place : last]
            columns.append(column if aggregate.kind == "avg" else column[:, 0])
        group = None
        if self.shares.groups:
            keys = self._keys(found.groups)
            group = [keys[g] for g in found.group]
        return Answers(found.place + first, columns, group, found.failed + first)

    def _keys(self, groups: pa.Table) -> list[Hashable]:
        rows = list(zip(*(c.to_pylist() for c in groups.columns), strict=True))
        self._types = tuple(c.type for c in groups.columns) or self._types
        keys: list[Hashable] = []
        for row in rows:
            try:
                hash(row)
                key: Hashable = row
            except TypeError:
                key = repr(row)
            self._groups.setdefault(key, row)
            keys.append(key)
        return keys

    # ---- from estimates to rows

    def _name(self, place: int) -> str:
        kind, number = self.shares.outputs[place]
        return self.shares.groups[number] if kind == "group" else self.shares.aggregates[number].name

    def _table(self, found: GroupEstimates) -> tuple[pa.Table, dict[str, object]]:
        """Columns ``c0``.. as the SELECT list has them, and the intervals by name."""
        keys = list(found.groups)
        shown = [g for g, key in enumerate(keys) if not self.shares.groups or found.seen[g] > 0 or key in self._groups]
        columns: dict[str, pa.Array] = {}
        intervals: dict[str, object] = {}
        for place, (kind, number) in enumerate(self.shares.outputs):
            if kind == "group":
                cells = [self._groups[keys[g]][number] for g in shown]
                columns[f"c{place}"] = pa.array(cells, self._types[number] if self._types else None)
                continue
            low, high = found.low[shown, number], found.high[shown, number]
            columns[f"c{place}"] = pa.array(found.value[shown, number], pa.float64(), from_pandas=True)
            pairs = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
            name = self._name(place)
            if not self.shares.groups:
                intervals[name] = pairs[0]
            else:
                intervals[name] = {_label(keys[g]): pair for g, pair in zip(shown, pairs, strict=True)}
        columns["__order"] = pa.array(np.arange(len(shown)))
        return pa.table(columns), intervals


def _check_method(guarantee: Guarantee) -> None:
    method = guarantee.method
    if method is not None and method.args:
        own = {"abae": "it always makes five strata", "bootstrap": "it always draws as many resamples"}.get(method.name)
        raise NotSupportedError(
            f"METHOD {method.name} takes no arguments here{'' if own is None else f': {own}'}; write METHOD {method.name}"
        )


def _label(key: Hashable) -> Hashable:
    """A group of one column by its value alone."""
    return key[0] if isinstance(key, tuple) and len(key) == 1 else key


def _together(parts: list[Answers]) -> Answers:
    if len(parts) == 1:
        return parts[0]
    values = [np.concatenate([np.asarray(p.values[n]) for p in parts]) for n in range(len(parts[0].values))]
    group = None
    if parts[0].group is not None:
        group = [g for p in parts for g in (p.group if p.group is not None else ())]
    position = np.concatenate([np.asarray(p.position) for p in parts])
    return Answers(position, values, group, np.concatenate([np.asarray(p.failed, dtype=np.int64) for p in parts]))
