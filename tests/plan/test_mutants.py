"""Each rule of the planner is needed: break it, and a trap gives a wrong answer.

`SURVIVORS` lists the rules without which all traps still pass, and why. All are kept: they are needed by another rule,
by plans that ask only once, or they save calls.
"""

from __future__ import annotations

from random import Random

import pytest

from aidb.plan.calls import plan_calls
from tests.plan.harness import World
from tests.plan.mutants import ALL_ITEMS, MUTANTS, asks_for_all_boxes, mutated, notices
from tests.plan.worlds import street

KILLERS: dict[str, str] = {
    "left-null-side-alive": "joins/where-on-null-side",
    "left-as-inner": "joins/where-on-null-side",
    "right-as-inner": "joins/right-preserved",
    "anti-as-inner": "joins/anti-known",
    "full-other-side-alive": "joins/full-one-side-filtered",
    "full-as-left": "joins/full-one-side-filtered",
    "asof-right-alive": "joins/asof",
    "reject-through-or": "joins/reject-through-or",
    "reject-by-all": "joins/reject-by-all",
    "reject-is-null": "joins/match-only-possible",
    "comma-binds-tight": "joins/natural-after-comma",
    "semi-visible": "names/semi-hides-qualified-outer-name",
    "on-sees-everything": "names/on-binds-outside-a-later-item",
    "using-full-merged": "names/using-right",
    "ambiguous-first": "names/using-right",
    "alias-before-column": "names/alias-before-outer-column",
    "made-up-names": "names/made-up-name-of-outer-column",
    "polarity": "nested/not-or",
    "flags-forgotten": "nested/not-exists-as-filter",
    "volatile-known": "items/volatile",
    "lambda-known": "blocks/comprehension-over-a-column-name",
    "nested-volatile-known": "items/volatile-nested",
    "derived-volatile-known": "items/volatile-derived",
    "aggregate-not-seen": "nested/exists-of-aggregate",
    "one-row-not-seen": "blocks/one-row-beside-others",
    "window-pushed": "blocks/window-row-number",
    "limit-pushed": "blocks/limit-derived",
    "offset-pushed": "blocks/offset-derived",
    "distinct-on-pushed": "blocks/distinct-on",
    "grouping-sets-pruned": "blocks/group-having",
    "having-plain": "blocks/group-having",
    "set-limit-pruned": "blocks/setop-limit",
    "set-by-name": "blocks/setop-by-name-beside-others",
    "parenthesised-limit": "blocks/limit-of-parentheses",
    "dead-output-known": "joins/asof-derived",
    "sample-pruned": "items/sample",
    "no-parent-ghosts": "blocks/chain-only",
    "inherited-key-known": "blocks/chain-ordinal",
    "pair-key-known": "pairs/pair-ordinal",
    "pair-without-doubt": "pairs/pair-shared-ordinal",
    "position-not-read": "columns/table-renamed",
    "row-not-read": "names/struct-of-row",
    "natural-not-read": "columns/natural",
    "using-not-read": "columns/using",
    "renamed-not-read": "columns/table-renamed",
    "renamed-derived-not-read": "columns/star-renamed",
    "distinct-not-read": "columns/star-distinct-virtual",
    "in-match-only": "nested/in-is-null",
    "in-unknown-inside": "nested/in-unknown-left",
    "certain-null": "nested/where-certain-null",
    "certain-possible": "nested/not-in-null",
    "exists-negative-possible": "nested/not-exists-as-filter",
    "in-negative-possible": "nested/in-negated",
    "certain-ghosts": "nested/not-exists-on-keys",
    "certain-columns": "columns/not-in",
    "exists-of-anything": "nested/exists-of-aggregate",
    "aggregate-context": "nested/rollup-scalar",
    "limit-context": "nested/limit-of-one-row",
    "on-context": "joins/on-subquery-of-asof",
    "on-of-parentheses": "joins/subquery-in-nested-on",
    "recursive-pruned": "blocks/recursive-filtered",
    "split-known-only": "blocks/linked-by-values",
    "split-unknown-only": "blocks/linked-by-values",
}

SURVIVORS: dict[str, str] = {
    "left-match-possible": (
        "the ghosts that hide a missing match are candidates through their own reference, so the next round repairs it;"
        " early stops ask only once"
    ),
    "in-unknown-outside": "rows with an unknown value are candidates themselves; the items inside come a round later",
    "qualify-pushed": "QUALIFY needs a window, and a query with a window isn't pruned either",
    "inner-alias-not-checked": (
        "once it is qualified, the name is looked up in the inner query, whose item of that alias has no such column"
    ),
    "lateral-ignored": "read as if it stood alone, its references outwards are unknown: it costs calls, never answers",
    "loose-items-dropped": "without the test for existence more items are candidates: it costs calls, never answers",
    "net": "no trap reads what the catalog doesn't list; see test_the_binder_may_not_see_more_than_the_analysis",
}


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [World(street(Random(seed), (5, 8), (3, 5))) for seed in range(3)]


@pytest.mark.parametrize("name", KILLERS)
def test_a_broken_rule_is_noticed(worlds: list[World], name: str) -> None:
    assert notices(KILLERS[name], mutated(name, MUTANTS[name]), worlds)


def test_every_mutant_is_accounted_for() -> None:
    assert set(MUTANTS) == set(KILLERS) | set(SURVIVORS)
    assert not set(KILLERS) & set(SURVIVORS)
    for name in SURVIVORS:
        assert callable(mutated(name, MUTANTS[name])), "the text to replace is still there"


@pytest.mark.parametrize("name", ALL_ITEMS)
def test_what_must_ask_for_all_items_does(worlds: list[World], name: str) -> None:
    assert all(asks_for_all_boxes(name, plan_calls, world) for world in worlds)


def test_no_trap_notices_the_planner_itself(worlds: list[World]) -> None:
    for trap in {*KILLERS.values()} - {*ALL_ITEMS}:
        assert not notices(trap, plan_calls, worlds[:1]), trap
