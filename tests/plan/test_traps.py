"""Every known way to go wrong: the lazy answer equals the eager one, cold and half filled, in any order."""

from __future__ import annotations

from random import Random

import pytest

from tests.plan.harness import World, multiset
from tests.plan.traps import FALLBACKS, PARAMETERS, TRAPS
from tests.plan.worlds import street

WAYS = (("cold",), ("half filled",), ("any order",))
"""How a trap is run in each world."""


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [World(street(Random(seed), (5, 8), (3, 5))) for seed in range(len(WAYS))]


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap(worlds: list[World], name: str) -> None:
    for seed, world in enumerate(worlds):
        check(world, TRAPS[name], None, WAYS[seed], Random(seed), fallback=name in FALLBACKS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_trap_with_parameters(worlds: list[World], name: str) -> None:
    sql, values = PARAMETERS[name]
    for seed, world in enumerate(worlds):
        check(world, sql, values, WAYS[seed], Random(seed), fallback=False)


def check(world: World, sql: str, values: object, ways: tuple[str, ...], rng: Random, *, fallback: bool) -> None:
    want = multiset(world.eager(sql, values))
    for way in ways:
        world.reset()
        if way == "half filled":
            world.materialise_some(rng, 0.4)
        if way == "cold":
            rows, plan = world.lazy(sql, values)
        else:
            rows, plan = world.lazy_in_any_order(sql, rng, values)
        assert (plan.fallback is not None) == fallback, plan.fallback
        if multiset(rows) != want and not world.moves(sql, values):
            pytest.fail(f"{way}: {sql}\nwant {sorted(want.elements())}\ngot  {sorted(map(repr, rows))}")
