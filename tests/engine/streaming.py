"""Rows handed out portion by portion against DuckDB over complete tables: random statements, in portions of a few items.

    python -m tests.engine.streaming --queries 3000 --seed 1

Statements are those of `tests.plan.tied`, whose FROM items are mostly tied by the key, and some of the planner's.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import duckdb

import aidb
from aidb.exec import streaming
from aidb.plan.portions import Portions
from aidb.storage.growing import Growing
from tests.engine.differential import World, _moves
from tests.plan.harness import multiset
from tests.plan.partition import statement
from tests.plan.tied import FRAMES, REVIEWS

PLAIN = {
    "notes": "(VALUES (NULL, 0, 1), (0, 1, 2), (1, 1, 3), (2, 3, 4), (9, 0, 5)) t(frame_id, cls, w)",
    "cams": "(VALUES (NULL, 1), (0, 2), (1, 0), (2, 3), (3, 1)) t(cam, w)",
}


@dataclass
class Summary:
    """What a run found. asked: items that models were asked about, portion by portion and at once."""

    counts: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@contextmanager
def small_portions() -> Any:
    """Portions that never grow."""
    kept = streaming.PORTION, streaming.OVERHEAD
    streaming.PORTION, streaming.OVERHEAD = 0.0, 1.0
    try:
        yield
    finally:
        streaming.PORTION, streaming.OVERHEAD = kept


def run(queries: int, seed: int, *, verbose: bool = False) -> Summary:
    """Check about ``queries`` statements that are answered portion by portion."""
    summary, rng = Summary(), Random(seed)
    with small_portions():
        while summary.counts["streamed"] < queries:
            world = World.make(rng, "local")
            for name, rows in PLAIN.items():
                for db in (world.con, world.eager):
                    db.execute(f"CREATE TABLE {name} AS FROM {rows}")
            for db in (world.con, world.eager):
                db.execute("CREATE VIEW vcam AS SELECT frame_id, cam FROM frames WHERE cam > 0")
            for _ in range(100):
                problem = _check(world, rng, summary)
                if problem:
                    summary.problems.append(problem)
                    if verbose:
                        print(problem, flush=True)
                if summary.counts["streamed"] >= queries:
                    break
            world.close()
    return summary


def _check(world: World, rng: Random, summary: Summary) -> str | None:
    con, counts = world.con, summary.counts
    sql = statement(Random(rng.randrange(1 << 30)), rng.choice([FRAMES, FRAMES, REVIEWS]))
    if Portions.of(sql, con.engine.registry.snapshot()) is None:
        counts["left out"] += 1
        return None
    try:
        want = world.eager.execute(sql).fetchall()
    except duckdb.Error:
        counts["invalid"] += 1
        return None
    for model in world.models:
        object.__setattr__(model.spec, "batch_size", rng.choice([1, 1, 2]))
    way = rng.choice(["cold", "cold", "warm"])
    if way == "cold":
        world.reset()
    con.execute("SET aidb.stream = 'on'")
    before = _asked(world)
    try:
        cursor = con.execute(sql)
        counts["answered"] += 1
        if not isinstance(cursor._outcome.answer, Growing):
            return None
        counts["streamed"] += 1
        if rng.random() < 0.5:
            got = [row for _ in range(3) for row in cursor.fetchmany(2)] + cursor.fetchall()
        else:
            got = cursor.fetchall()
        calls = cursor.report.oracle_calls
    except aidb.Error as e:
        return f"---- {way}: {type(e).__name__}: {e}\n{sql}"
    counts["portions"] += len(cursor._outcome.answer._source.found)
    asked = _asked(world) - before
    where = f"{way}\n{sql}\nwant {want[:6]}\ngot  {got[:6]}"
    twice = [(m.name, item) for m in world.models for item, n in m.asked.items() if n > 1]
    if twice:
        return f"---- asked twice: {twice[:3]} {where}"
    if calls < asked:
        return f"---- the report says {calls} calls, models were asked {asked} {where}"
    if con.execute("SELECT count(*) FROM duckdb_tables() WHERE temporary").fetchall() != [(0,)]:
        return f"---- tables are left over {where}"
    if multiset(got) != multiset(want) and not _moves(world, sql, None, want):
        return f"---- {where}"
    again = con.execute(sql)
    if again.report.oracle_calls:
        return f"---- {again.report.oracle_calls} calls the second time {where}"
    if way == "cold":
        summary.asked["portions"] += asked
        world.reset()
        con.execute("SET aidb.stream = 'off'")
        con.execute(sql)
        summary.asked["at once"] += _asked(world)
    return None


def _asked(world: World) -> int:
    return sum(model.asked.total() for model in world.models)


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    summary = run(given.queries, given.seed, verbose=True)
    print(dict(summary.counts), dict(summary.asked), f"{len(summary.problems)} problems")
    return min(99, len(summary.problems))


if __name__ == "__main__":
    sys.exit(main())
