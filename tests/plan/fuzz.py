"""The differential test: random statements, eager against lazy.

    python -m tests.plan.fuzz --queries 20000 --seed 1

prints each statement whose answers differ, and a summary; its exit code is the number of differences (at most 99).
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import duckdb

from tests.plan.generator import Generator, Statement
from tests.plan.harness import World, multiset
from tests.plan.worlds import street

PER_WORLD = 40


@dataclass
class Summary:
    """What a run found."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)

    @property
    def fallback_share(self) -> float:
        return self.counts["fallback"] / max(1, self.counts["checked"])


def run(queries: int, seed: int, *, verbose: bool = False) -> Summary:
    """Check about ``queries`` valid statements."""
    summary = Summary()
    rng = Random(seed)
    con = duckdb.connect(config={"threads": 1})
    while summary.counts["checked"] < queries:
        if not is_alive(con):
            con = duckdb.connect(config={"threads": 1})
        world = World(street(rng), con)
        for _ in range(PER_WORLD):
            state = rng.randrange(1 << 30)
            try:
                statement = Generator(Random(state)).statement()
            except IndexError:
                continue
            summary.counts["generated"] += 1
            problem = check(world, statement, rng, summary)
            if problem:
                summary.differences.append(problem)
                if verbose:
                    print(problem, flush=True)
            if verbose and summary.counts["generated"] % 500 == 0:
                print(dict(summary.counts), flush=True)
            if summary.counts["checked"] >= queries or not is_alive(con):
                break
    return summary


def is_alive(con: duckdb.DuckDBPyConnection) -> bool:
    """An internal error of DuckDB ends the whole database instance."""
    try:
        con.execute("SELECT 1").fetchall()
    except duckdb.Error:
        return False
    return True


def check(world: World, statement: Statement, rng: Random, summary: Summary) -> str | None:
    """Run one statement in a random way; returns what is wrong, if anything."""
    counts = summary.counts
    sql, values = statement.sql, statement.parameters
    try:
        want = world.eager(sql, values)
        full = world.eager(statement.full, values) if statement.full else []
    except duckdb.Error as error:
        counts[
            "broke DuckDB" if isinstance(error, duckdb.FatalException | duckdb.InternalException) else "invalid"
        ] += 1
        summary.reasons[f"invalid: {str(error).splitlines()[0][:70]}"] += 1
        return None
    world.reset()
    way = rng.choice(["cold", "cold", "cold", "half filled", "half filled", "any order", "everything"])
    if way == "half filled":
        world.materialise_some(rng, 0.4)
    world.costs = {f: rng.choice([1.0, 5.0, 50.0]) for f in world.fills}
    try:
        if way == "any order":
            got, plan = world.lazy_in_any_order(sql, rng, values)
        else:
            got, plan = world.lazy(sql, values, optimise=way != "everything")
    except (duckdb.InternalException, duckdb.FatalException) as error:
        # Raised by the statement's own text over the views, not by a query of the planner's (those are DataErrors).
        counts["broke DuckDB"] += 1
        summary.reasons[f"broke DuckDB: {str(error).splitlines()[0][:90]}"] += 1
        return None
    except Exception as error:  # any other error at all is a finding; the run goes on
        return f"---- {way}: {type(error).__name__}: {error}\n{sql}\n{values}"
    counts["checked"] += 1
    counts[way] += 1
    counts[statement.mode] += 1
    counts["touching"] += bool(plan.fills)
    counts["stopped early"] += plan.limit is not None
    counts["stopped early in order"] += plan.ordered
    if plan.fallback is not None:
        counts["fallback"] += 1
        summary.reasons[f"fallback: {plan.fallback.splitlines()[0][:90]}"] += 1
        summary.fallbacks.append(f"{plan.fallback.splitlines()[0]}\n    {sql}")
    if way == "cold" and rng.random() < 0.3:
        used = dict(world.calls)
        world.reset()
        world.lazy(sql, values, optimise=False)
        counts["calls"] += sum(used.values())
        counts["calls of everything"] += sum(world.calls.values())
        if any(n > world.calls[f] for f, n in used.items()):
            return f"---- more items than there are: {used} against {dict(world.calls)}\n{sql}\n{values}"
    if agrees(statement, want, got, full):
        return None
    # A tie that ASOF or a window breaks as it likes; which rows LIMIT takes has been allowed for.
    if world.moves(statement.full or sql, values):
        counts["undetermined"] += 1
        return None
    data = {n: r for n, r in world.spec.rows.items() if n.lower() in sql.lower()}
    return f"---- {way} ({statement.mode})\n{sql}\n{values}\nwant {want[:6]}\ngot  {got[:6]}\n{plan.fallback}\n{data}"


def agrees(statement: Statement, want: list[tuple], got: list[tuple], full: list[tuple]) -> bool:
    """Is an answer right? LIMIT without a total order has many right answers."""
    if statement.mode == "rows":
        return multiset(want) == multiset(got)
    # The eager number of rows is no yardstick: DuckDB 2.0 shows too many for some LIMITs above a FULL JOIN.
    if len(got) != max(0, min(statement.limit, len(full) - statement.offset)) or multiset(got) - multiset(full):
        return len(got) == len(want) > statement.limit and not multiset(got) - multiset(full)
    if statement.mode == "limit":
        return True
    width = statement.keys
    return multiset([r[-width:] for r in want]) == multiset([r[-width:] for r in got])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    summary = run(given.queries, given.seed, verbose=True)
    print(dict(summary.counts))
    for reason, count in summary.reasons.most_common(25):
        print(f"{count:6d}  {reason}")
    for text in summary.fallbacks:
        print(text)
    print(f"{len(summary.differences)} differences, {summary.fallback_share:.2%} fallbacks")
    return min(99, len(summary.differences))


if __name__ == "__main__":
    sys.exit(main())
