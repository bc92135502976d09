"""The test of `Units` and `Parts`: whatever is accepted falls apart, on a database where everything is known.

    python -m tests.plan.partition --queries 20000 --seed 1

prints each statement whose parts don't make up its answer, and the share of statements that were refused.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import duckdb
import sqlglot
from sqlglot import exp

from aidb.errors import DataError, NotSupportedError
from aidb.plan.names import quote
from aidb.plan.parts import Parts
from aidb.plan.portions import Portions
from aidb.plan.units import Units
from tests.plan.generator import Generator
from tests.plan.harness import World, multiset
from tests.plan.tied import FRAMES, Names, TiedGenerator, worlds

PER_WORLD = 40


@dataclass
class Summary:
    """What a run found."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def refused(self) -> float:
        """Share of the statements that ask models."""
        return self.counts["refused"] / max(1, self.counts["refused"] + self.counts["accepted"])


class Check:
    """One statement over one world, everything materialised."""

    def __init__(self, world: World, sql: str, rng: Random, summary: Summary) -> None:
        self.world, self.sql, self.rng, self.summary = world, sql, rng, summary
        self.counts = summary.counts

    def run(self) -> str | None:
        """What is wrong, if anything."""
        world, counts = self.world, self.counts
        try:
            world.answer(self.sql)
        except duckdb.Error as error:
            counts["invalid"] += 1
            self.summary.reasons[f"invalid: {str(error).splitlines()[0][:90]}"] += 1
            return None
        try:
            units = Units.of(self.sql, world.relations)
        except NotSupportedError as error:
            self._count_refusal(str(error))
            return None
        counts["accepted"] += 1
        self.parts = Parts(units, world.aggregates)
        self.keys = [f"__k{n}" for n in range(len(units.unit.keys))]
        base = world.relations.tables[units.unit.table].base
        named = ", ".join(f"{quote(c)} AS {k}" for c, k in zip(units.unit.keys, self.keys, strict=True))
        self.units = world.con.execute(f"SELECT DISTINCT {named} FROM {base}").fetchall()
        self.rng.shuffle(self.units)
        try:
            for check in (self._shares, self._rows, self._portions, self._counts, self._tail, self._planned):
                problem = check()
                if problem:
                    if world.moves(self.sql):
                        counts["undetermined"] += 1
                        return None
                    return f"---- {check.__name__}: {problem}\n{self.sql}\nrestricted: {self._text()}"
        except (duckdb.Error, DataError) as error:
            return f"---- {type(error).__name__}: {error}\n{self.sql}\nrestricted: {self._text()}"
        return None

    def _text(self) -> str:
        return self.parts.counts(only="batch")

    def _count_refusal(self, message: str) -> None:
        if "asks no model" in message or "nothing in its FROM" in message or "analysed" in message:
            self.counts["asks nothing"] += 1
            return
        self.counts["refused"] += 1
        why = message.partition(": ")[2].partition(". Without")[0]
        self.summary.reasons[f"refused: {why[:70]}"] += 1
        self.summary.counts["refused for its own tie"] += "not tied" in message

    # ---- parts

    def _keep(self, name: str, units: list[tuple]) -> None:
        types = ", ".join(f"{k} INTEGER" for k in self.keys)
        self.world.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({types})")
        if units:
            marks = ", ".join("?" for _ in self.keys)
            self.world.con.executemany(f"INSERT INTO {name} VALUES ({marks})", [list(u) for u in units])

    def _whole(self) -> str:
        """The statement without its ORDER BY and LIMIT, its DISTINCT kept."""
        tree = sqlglot.parse_one(self.sql, dialect="duckdb")
        on = tree.args.get("distinct")
        clauses = ["limit", "offset"]
        if not (isinstance(on, exp.Distinct) and on.args.get("on")):
            clauses.append("order")
        for clause in clauses:
            tree.set(clause, None)
        return tree.sql("duckdb")

    def _rows(self) -> str | None:
        if self.parts.units.mixes:
            self.counts["sums up units"] += 1
            return None
        self.counts["rows"] += 1
        world, parts = self.world, self.parts
        whole = multiset(world.answer(self._whole()))
        together: Counter[str] = Counter()
        only, without = parts.rows(only="batch", tail=False), parts.rows(without="rest", tail=False)
        for n in range(3):
            batch = self.units[n::3]
            self._keep("batch", batch)
            self._keep("rest", [u for u in self.units if u not in batch])
            found = multiset(world.answer(only))
            other = multiset(world.answer(without))
            if found != other:
                return f"only {found} without {other}"
            together += found
        if parts.is_distinct and not parts.units.shows_key:
            together, whole = Counter(set(together)), Counter(set(whole))
        return None if together == whole else f"whole {whole} parts {together}"

    def _portions(self) -> str | None:
        """The statement's own text, restricted: its portions make up its answer."""
        portions = Portions.of(self.sql, self.world.relations)
        if portions is None:
            return None
        self.counts["portions"] += 1
        world = self.world
        whole, third = multiset(world.answer(self.sql)), len(self.units) // 3
        together: Counter[str] = Counter()
        for units in (self.units[:third], self.units[third : 2 * third]):
            self._keep("batch", units)
            together += multiset(world.answer(portions.rows(only="batch")))
        self._keep("rest", self.units[: 2 * third])
        together += multiset(world.answer(portions.rows(without="rest")))
        return None if together == whole else f"whole {whole} portions {together}\n{portions.rows(only='batch')}"

    def _counts(self) -> str | None:
        world, parts = self.world, self.parts
        self._keep("batch", self.units)
        found = {row[:-1]: row[-1] for row in world.answer(parts.counts(only="batch"))}
        self._keep("rest", [])
        if found != {row[:-1]: row[-1] for row in world.answer(parts.counts(without="rest"))}:
            return "counts(only=all) and counts(without=none) differ"
        if parts.units.mixes or (parts.is_distinct and not parts.units.shows_key):
            return None
        text = parts.rows(only="batch", tail=False, more=parts.keys)
        for unit in self.units:
            self._keep("batch", [unit])
            rows = world.answer(text)
            shown = {row[-len(self.keys) :] for row in rows}
            if len(rows) != found.get(unit, 0) or shown - {unit}:
                return f"unit {unit}: counts {found.get(unit, 0)}, rows {len(rows)}, keys {shown}"
        return None

    def _shares(self) -> str | None:
        try:
            shares = self.parts.shares(only="batch")
        except NotSupportedError as error:
            self.counts["no shares"] += self.parts.units.mixes != ""
            if self.parts.units.mixes:
                self.summary.reasons[f"no shares: {str(error)[:60]}"] += 1
            return None
        self.counts["shares"] += 1
        self._keep("batch", self.units)
        con = self.world.con
        cursor = con.execute(shares.sql)
        types = [d[1] for d in cursor.description]
        sums: dict[tuple, list[float | None]] = {}
        first = len(self.keys) + len(shares.groups)
        for row in cursor.fetchall():
            group, values = row[len(self.keys) : first], row[first:]
            before = sums.setdefault(group, [None] * shares.columns)
            sums[group] = [_plus(a, b) for a, b in zip(before, values, strict=True)]
        if not shares.groups and not sums:
            sums[()] = [0 if k == "count" else None for k in _kinds(shares)]
        cursor = con.execute(self._whole())
        names = [d[0] for d in cursor.description]
        theirs = [d[1] for d in cursor.description]
        mine = []
        for group, values in sums.items():
            row: list[object] = []
            for kind, n in shares.outputs:
                row.append(group[n] if kind == "group" else _value(shares.aggregates[n], values))
            mine.append(tuple(row))
        expected = [shares.groups[n] if k == "group" else shares.aggregates[n].name for k, n in shares.outputs]
        if names != expected:
            return f"names {expected}, DuckDB has {names}"
        for place, (kind, n) in enumerate(shares.outputs):
            if kind == "group" and types[len(self.keys) + n] != theirs[place]:
                return f"column {place} is {types[len(self.keys) + n]}, DuckDB has {theirs[place]}"
        rows = cursor.fetchall()
        if Counter(map(_rounded, mine)) != Counter(map(_rounded, rows)):
            return f"shares give {mine}, DuckDB has {rows}"
        return None

    def _tail(self) -> str | None:
        try:
            tail = self.parts.tail()
        except NotSupportedError:
            self.counts["no tail"] += 1
            return None
        if tail:
            self.counts["tail"] += 1
            whole = f"SELECT * FROM ({self._whole()}) AS __e {tail}"
            if not self.parts.is_distinct and multiset(self.world.answer(whole)) != multiset(
                self.world.answer(self.sql)
            ):
                return f"with its tail: {whole}"
        return None

    def _planned(self) -> str | None:
        """The planner asks about items of the batch alone, and finds the answer."""
        if self.rng.random() > 0.3:
            return None
        world, parts = self.world, self.parts
        if world.plan(self.sql).fallback is not None:
            return None
        self.counts["planned"] += 1
        batch = self.units[::2]
        self._keep("batch", batch)
        text = parts.counts(only="batch") if parts.units.mixes else parts.rows(only="batch", tail=False)
        want = multiset(world.answer(text))
        plan = world.plan(text)
        if plan.fallback is not None:
            return f"the planner falls back: {plan.fallback}\n{text}"
        world.reset()
        try:
            while wanted := plan.wanted(world.query):
                for fill, items in wanted.items():
                    if set(parts.unit.keys) <= set(fill.keys):
                        units = set(zip(*(items.column(k).to_pylist() for k in parts.unit.keys), strict=True))
                        if units - set(batch):
                            return f"{fill.id}: asked for {units}, of {batch}\n{text}"
                world.materialise(list(wanted.items()))
            if plan.fallback is not None:
                return f"the planner falls back: {plan.fallback}\n{text}"
            got = multiset(world.answer(text))
        finally:
            world.reset()
            world.materialise_some(self.rng, 1.1)
        return None if got == want else f"asked for too little: {got}, not {want}\n{text}"


def _kinds(shares: object) -> list[str]:
    kinds: list[str] = []
    for a in shares.aggregates:
        kinds += ["sum", "count"] if a.kind == "avg" else [a.kind]
    return kinds


def _plus(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else a + b


def _value(aggregate: object, values: list[float | None]) -> object:
    value = values[aggregate.place]
    if aggregate.kind == "avg":
        count = values[aggregate.place + 1]
        return value / count if count and value is not None else None
    return value


def _rounded(row: tuple) -> tuple:
    return tuple(round(float(v), 6) if isinstance(v, int | float) and not math.isnan(v) else v for v in row)


def run(queries: int, seed: int, *, verbose: bool = False) -> Summary:
    """Check about ``queries`` valid statements."""
    summary, rng = Summary(), Random(seed)
    while summary.counts["accepted"] + summary.counts["refused"] < queries:
        made = worlds(rng)
        for world in {id(w): w for w, _ in made}.values():
            world.materialise_some(rng, 1.1)
        for world, names in made:
            for _ in range(min(PER_WORLD, 1 + queries // 3)):
                problem = Check(world, statement(Random(rng.randrange(1 << 30)), names), rng, summary).run()
                if problem:
                    summary.problems.append(problem)
                    if verbose:
                        print(problem, flush=True)
    return summary


def statement(rng: Random, names: Names) -> str:
    """One random statement, of a few without any care for the key."""
    if names is FRAMES and rng.random() < 0.1:
        while True:
            try:
                made = Generator(rng).statement()
            except IndexError:
                continue
            if not made.parameters:
                return made.sql
    return TiedGenerator(rng, names).statement()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    summary = run(given.queries, given.seed, verbose=True)
    for reason, count in summary.reasons.most_common(60):
        print(f"{count:6d}  {reason}")
    print(dict(summary.counts))
    print(f"{len(summary.problems)} problems, {summary.refused:.1%} refused")
    return min(99, len(summary.problems))


if __name__ == "__main__":
    sys.exit(main())
