"""Random statements: the lazy answer equals the eager one. ``python -m tests.plan.fuzz`` runs as many as you like."""

from __future__ import annotations

from random import Random

import duckdb
import pytest

from tests.plan.fuzz import Summary, run
from tests.plan.generator import Generator
from tests.plan.harness import World, multiset
from tests.plan.worlds import street


@pytest.mark.parametrize("seed", [101, 102, 103, 104, 105])
def test_random_statements_have_the_eager_answer(seed: int) -> None:
    summary = run(100, seed)
    assert not summary.differences, "\n".join(summary.differences)
    assert summary.counts["fallback"] <= 3, summary.fallbacks
    assert summary.counts["invalid"] <= 0.15 * summary.counts["generated"], summary.reasons
    assert summary.counts["calls"] < 0.8 * summary.counts["calls of everything"]


def test_the_summary_counts_fallbacks() -> None:
    summary = Summary()
    summary.counts.update({"checked": 200, "fallback": 1})
    assert summary.fallback_share == 0.005


@pytest.mark.parametrize("seed", range(4))
def test_partial_answers_of_monotone_statements_are_part_of_the_full_one(seed: int) -> None:
    rng = Random(seed)
    world = World(street(rng, (5, 8), (3, 5)))
    judged = different = 0
    while judged < 12:
        statement = Generator(Random(rng.randrange(1 << 30))).limited()
        sql = f"{statement.full} LIMIT 100000"
        plan = world.plan(sql, statement.parameters)
        if plan.limit is None or plan.fallback is not None or not runs(world, sql, statement.parameters):
            continue
        judged += 1
        world.reset()
        world.materialise_some(rng, 0.6)
        text, named = plan.final()
        part = multiset(world.answer(text, statement.parameters if named is None else named))
        full = multiset(world.eager(sql, statement.parameters))
        assert not part - full, sql
        different += part != full
    assert different, "no statement missed anything: nothing was tested"


def runs(world: World, sql: str, parameters: object) -> bool:
    """Does DuckDB accept a generated statement?"""
    try:
        world.eager(sql, parameters)
    except duckdb.Error:
        return False
    return True
