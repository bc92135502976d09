"""The planner's rules, each broken in turn: a text replacement in its source, and the traps that must notice.

    python -m tests.plan.mutants [name ...]

tries all traps on the mutants (all of them by default) and prints the first that notice.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from random import Random
from types import ModuleType

import aidb.plan
from tests.plan.harness import World, multiset
from tests.plan.traps import FALLBACKS, TRAPS
from tests.plan.worlds import street

SOURCES = Path(aidb.plan.__file__).parent


@dataclass(frozen=True)
class Mutant:
    """file: module of aidb.plan. old, new: the replacement."""

    file: str
    old: str
    new: str


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a copy of aidb.plan under another name, with one replacement."""

    def __init__(self, package: str, mutant: Mutant) -> None:
        self.package, self.mutant = package, mutant

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self.package and not fullname.startswith(f"{self.package}."):
            return None
        return ModuleSpec(fullname, self, is_package=fullname == self.package)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.removeprefix(self.package).removeprefix(".") or "__init__"
        source = (SOURCES / f"{name}.py").read_text()
        if name == self.mutant.file:
            assert self.mutant.old in source, f"nothing to replace in {name}: {self.mutant.old}"
            source = source.replace(self.mutant.old, self.mutant.new, 1)
        code = compile(source.replace("aidb.plan", self.package), f"<{self.package}.{name}>", "exec")
        exec(code, module.__dict__)


def mutated(name: str, mutant: Mutant) -> Callable[..., object]:
    """Return ``plan_calls`` of a mutant."""
    package = f"mutant_{name.replace('-', '_')}"
    finder = _Mutated(package, mutant)
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(f"{package}.calls").plan_calls
    finally:
        sys.meta_path.remove(finder)
        for loaded in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
            del sys.modules[loaded]


ALL_ITEMS = {
    "items/volatile": "SELECT frame_id FROM box WHERE random() < 0",
    "items/volatile-derived": "SELECT b.frame_id FROM box b, (SELECT random() AS r) t WHERE t.r < 0",
    "items/volatile-nested": "SELECT frame_id FROM box WHERE frame_id < (SELECT random() - 2)",
    "items/sample": "SELECT frame_id FROM box WHERE frame_id < 0 USING SAMPLE 2 ROWS",
}
"""Statements whose answers can't be compared, or don't differ, and that must ask for all items of ``box``."""


def notices(trap: str, plan_calls: Callable[..., object], worlds: list[World]) -> bool:
    """Does a trap give a wrong answer, no answer, or a fallback that it hasn't otherwise?"""
    if trap in ALL_ITEMS:
        return any(not asks_for_all_boxes(trap, plan_calls, world) for world in worlds)
    sql = TRAPS[trap]
    for seed, world in enumerate(worlds):
        for backwards in (False, True):
            world.reset()
            plan = plan_calls(sql, world.relations, world.touched, None)
            try:
                ended = loop(plan, world, Random(seed), backwards)
                got = multiset(world.answer(sql))
            except Exception:  # a mutant may do anything
                return True
            if not ended or got != multiset(world.eager(sql)) or (plan.fallback and trap not in FALLBACKS):
                return True
    return False


def asks_for_all_boxes(name: str, plan_calls: Callable[..., object], world: World) -> bool:
    world.reset()
    plan = plan_calls(ALL_ITEMS[name], world.relations, world.touched, None)
    wanted = {f.id: t.num_rows for f, t in plan.wanted(world.query).items()}
    return wanted.get("box") == len(world.spec.rows["frames"])


def loop(plan: object, world: World, rng: Random, backwards: bool) -> bool:
    """Run rounds in one order; False if they don't end."""
    for _ in range(60):
        wanted = plan.wanted(world.query)
        if not wanted:
            return True
        fill = (max if backwards else min)(wanted, key=lambda f: f.id)
        world.materialise([(fill, wanted[fill])])
    return False


MUTANTS: dict[str, Mutant] = {
    # Joins
    "left-null-side-alive": Mutant(
        "joins",
        "return self._both(scope, node, left, right, target, ask, aliases(node.right))\n            kept",
        "return self._both(scope, node, left, right, target, ask)\n            kept",
    ),
    "left-match-possible": Mutant(
        "joins",
        "if not isinstance(right, Leaf) or right.virtual or right.opaque",
        "if not isinstance(right, Leaf) or right.opaque",
    ),
    "left-as-inner": Mutant(
        "joins", 'if node.kind in ("inner", "semi"):', 'if node.kind in ("inner", "semi", "left"):'
    ),
    "right-as-inner": Mutant(
        "joins", 'if node.kind in ("inner", "semi"):', 'if node.kind in ("inner", "semi", "right"):'
    ),
    "anti-as-inner": Mutant(
        "joins", 'if node.kind in ("inner", "semi"):', 'if node.kind in ("inner", "semi", "anti"):'
    ),
    "full-other-side-alive": Mutant(
        "joins", "side.dead | aliases(node))", "side.dead | aliases(node.right if on_left else node.left))"
    ),
    "full-as-left": Mutant(
        "joins",
        "            return Block(side.items, side.predicates, side.dead | aliases(node))",
        "            return self._both(scope, node, left, right, target, ask, aliases(node))",
    ),
    "asof-right-alive": Mutant("joins", "aliases(node.right) if on_right else frozenset())", "frozenset())"),
    "reject-through-or": Mutant(
        "joins",
        "if isinstance(node, exp.And):\n            todo",
        "if isinstance(node, exp.And | exp.Or):\n            todo",
    ),
    "reject-by-all": Mutant("joins", "if any(isinstance(o, exp.All) for o in operands):", "if False:"),
    "reject-is-null": Mutant("joins", "elif isinstance(node, exp.Not):", "elif isinstance(node, exp.Not | exp.Is):"),
    "comma-binds-tight": Mutant(
        "from_clause",
        "                groups.append(current)\n                current = self._item(scope, node.this, _crossed(groups))\n"
        "                continue\n",
        "                pass\n",
    ),
    "semi-visible": Mutant("scopes", "return tuple(x for x in self.leaves if x not in unseen)", "return self.leaves"),
    "on-sees-everything": Mutant(
        "sources", "self.visible = tuple(x for x in self.leaves if x not in unseen)", "self.visible = None"
    ),
    # Names
    "using-full-merged": Mutant("from_clause", 'scope.merged |= bool(names) and how in ("right", "full")', "pass"),
    "ambiguous-first": Mutant(
        "scopes",
        "if len(hits) > 1 or (beyond and not hits):\n            return NOWHERE",
        "if beyond and not hits:\n            return NOWHERE",
    ),
    "alias-before-column": Mutant(
        "scopes",
        "if name in self.select_aliases and (aliases_first or not hits):",
        "if name in self.select_aliases and aliases_first:",
    ),
    "inner-alias-not-checked": Mutant("scopes", "or any(x.alias == leaf.alias for x in self.leaves)", ""),
    "made-up-names": Mutant(
        "nodes",
        "    if isinstance(item, exp.Column) and not",
        "    return item.alias_or_name or None\n    if isinstance(item, exp.Column) and not",
    ),
    # Relaxing
    "polarity": Mutant(
        "relax",
        "inner = self.relax(scope, node.this, not positive, where)",
        "inner = self.relax(scope, node.this, positive, where)",
    ),
    "flags-forgotten": Mutant("relax", 'text = f"({core} OR {doubt})" if positive', 'text = f"({core})" if positive'),
    "volatile-known": Mutant("relax", " or is_volatile(current):", ":"),
    "lambda-known": Mutant("relax", "    exp.Lambda,\n    exp.Comprehension,\n", ""),
    "nested-volatile-known": Mutant("touching", "            and not has_volatile(query)\n", ""),
    "derived-volatile-known": Mutant(
        "from_clause", "if has_volatile(query):\n            return None", "if False:\n            return None"
    ),
    # Blocks
    "aggregate-not-seen": Mutant(
        "analysis",
        "scope.plain = open_ended and not (scope.grouped or scope.aggregated or",
        "scope.plain = open_ended and not (scope.grouped or",
    ),
    "one-row-not-seen": Mutant(
        "rows", "if scope.always_one_row:\n            return None", "if False:\n            return None"
    ),
    "window-pushed": Mutant("analysis", "or scope.windowed or", "or"),
    "limit-pushed": Mutant(
        "analysis",
        'stops = ("qualify", "limit", "offset", "sample", "windows")',
        'stops = ("qualify", "offset", "sample", "windows")',
    ),
    "offset-pushed": Mutant(
        "analysis",
        'stops = ("qualify", "limit", "offset", "sample", "windows")',
        'stops = ("qualify", "limit", "sample", "windows")',
    ),
    "qualify-pushed": Mutant(
        "analysis",
        'stops = ("qualify", "limit", "offset", "sample", "windows")',
        'stops = ("limit", "offset", "sample", "windows")',
    ),
    "distinct-on-pushed": Mutant("analysis", 'or (distinct and distinct.args.get("on"))', ""),
    "grouping-sets-pruned": Mutant(
        "analysis", "open_ended and scope.grouped and not scope.grouping_sets", "open_ended and scope.grouped"
    ),
    "having-plain": Mutant("analysis", 'or scope.aggregated or node.args.get("having"))', ")"),
    "set-limit-pruned": Mutant(
        "analysis",
        'prune = prune and not by_name and not any(node.args.get(k) for k in ("limit", "offset"))',
        "prune = prune and not by_name",
    ),
    "set-by-name": Mutant(
        "analysis", "if left is None or right is None or by_name:", "if left is None or right is None:"
    ),
    "parenthesised-limit": Mutant(
        "analysis", 'whole = not any(node.args.get(k) for k in ("limit", "offset"))', "whole = True"
    ),
    "dead-output-known": Mutant("rows", "asks = [None, *scope.targets()]", "asks = [None]"),
    "sample-pruned": Mutant(
        "analysis", 'if node.args.get("sample") or node.args.get("laterals"):', 'if node.args.get("laterals"):'
    ),
    # Ghosts
    "no-parent-ghosts": Mutant(
        "possible",
        'return Ghosts(f"{ready} UNION ALL SELECT',
        'return Ghosts(f"{ready}", states, unknown) if True else Ghosts(f"{ready} UNION ALL SELECT',
    ),
    "inherited-key-known": Mutant(
        "possible", "unknown[key.lower()] = frozenset(where)\n    return Ghosts(f", "pass\n    return Ghosts(f"
    ),
    "pair-key-known": Mutant("possible", "unknown.setdefault(key.lower(), set()).add(len(states))", "pass"),
    "pair-without-doubt": Mutant("possible", "if key.lower() in side.unknown\n        ]", "if False\n        ]"),
    "position-not-read": Mutant(
        "touching", "shown = frozenset() if unread is None else", "shown = frozenset() if True else"
    ),
    "row-not-read": Mutant("touching", "if self._reads_all or alias in self._bare:", "if self._reads_all:"),
    "natural-not-read": Mutant("touching", 'self._reads_all |= node.args.get("method") == "NATURAL"', "pass"),
    "using-not-read": Mutant(
        "touching", 'self._named.update(c.name.lower() for c in node.args.get("using") or ())', "pass"
    ),
    "renamed-not-read": Mutant("from_clause", "unread = frozenset() if renamed else", "unread ="),
    "renamed-derived-not-read": Mutant("from_clause", "demanded = bool(renamed) or (", "demanded = ("),
    "distinct-not-read": Mutant("analysis", "scope.demanded |= bool(distinct) or scope.grouped", "pass"),
    # Nested queries
    "in-match-only": Mutant("nested", "if not self.decides_by_match:", "if False:"),
    "in-unknown-inside": Mutant("nested", 'inside = [] if known else ["__s.__yu"]', "inside = []"),
    "in-unknown-outside": Mutant("nested", "outside = sorted(f.text for f in flags)", "outside = []"),
    "certain-null": Mutant("nested", 'IS NOT TRUE"', 'IS FALSE"'),
    "certain-possible": Mutant(
        "nested",
        "certain = joiner.relaxer.relax(scope, scope.where, False,",
        "certain = joiner.relaxer.relax(scope, scope.where, True,",
    ),
    "exists-negative-possible": Mutant(
        "rows",
        "block = self.joiner.block(self.scope, None, Ask()) if positive else self.joiner.certain(self.scope)",
        "block = self.joiner.block(self.scope, None, Ask())",
    ),
    "in-negative-possible": Mutant(
        "rows", "certain = self.joiner.certain(self.scope)", "certain = self.joiner.block(self.scope, None, Ask())"
    ),
    "certain-ghosts": Mutant("joins", "if leaf.row_state:", "if False:"),
    "certain-columns": Mutant(
        "rows", "sure = [Predicate(f\"NOT ({' OR '.join(doubt)})\")] if doubt else []", "sure = []"
    ),
    "exists-of-anything": Mutant(
        "rows", "        if not self.scope.plain:\n            return None\n        block", "        block"
    ),
    "aggregate-context": Mutant(
        "analysis", 'key in ("expressions", "having", "order", "qualify", "distinct") and scope.always_one_row', "False"
    ),
    "limit-context": Mutant("analysis", 'free = key in ("limit", "offset", "sample") or (', "free = ("),
    "on-context": Mutant(
        "analysis",
        'self._nested_in(scope, join.on, "on", outer_join, join.visible)',
        'self._nested_in(scope, join.on, "on", False, join.visible)',
    ),
    "on-of-parentheses": Mutant(
        "analysis",
        "for join in joins(scope.tree):\n            if join.on",
        "for join in joins(scope.tree)[:1]:\n            if join.on",
    ),
    "lateral-ignored": Mutant(
        "from_clause",
        "if correlated and cte is None:\n            self._lateral(scope, query, env, left)",
        "if correlated and cte is None and False:\n            self._lateral(scope, query, env, left)",
    ),
    "recursive-pruned": Mutant(
        "from_clause", "if cte is not None and (cte.recursive or correlated):", "if cte is not None and correlated:"
    ),
    # Cheap SQL
    "loose-items-dropped": Mutant("blocks", "loose.append(", "[].append("),
    "split-known-only": Mutant(
        "blocks", "product((True, False), repeat=len(flags))", "product((False,), repeat=len(flags))"
    ),
    "split-unknown-only": Mutant(
        "blocks", "product((True, False), repeat=len(flags))", "product((True,), repeat=len(flags))"
    ),
    # Safety net
    "net": Mutant(
        "calls", "        if names is not None:\n            self._check_seen(names, analysis, touching)\n", ""
    ),
}


def main(names: list[str], enough: int = 2) -> None:
    worlds = [World(street(Random(seed), (5, 8), (3, 5))) for seed in range(4)]
    for name in names or MUTANTS:
        plan_calls = mutated(name, MUTANTS[name])
        noticing = (t for t in (*TRAPS, *ALL_ITEMS) if notices(t, plan_calls, worlds))
        print(f"{name}: {[t for t, _ in zip(noticing, range(enough), strict=False)]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
