"""Derived tables, CTEs, views and set operations seen from outside: as possible rows, or as a filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlglot import exp

from aidb.plan.blocks import select
from aidb.plan.joins import Joiner
from aidb.plan.names import quote
from aidb.plan.nodes import expression_of, is_star, output_name
from aidb.plan.relax import Where, columns_of
from aidb.plan.scopes import Predicate, Scope
from aidb.plan.sources import KNOWN, Ask, Flags, Leaf, Target


class Output(NamedTuple):
    """A column of a nested query: its name (None if it has none), and when it is unknown to queries outside."""

    name: str | None
    known: str
    """``always``; ``sometimes``: its flag says; ``never``."""


@dataclass(eq=False)
class ScopeRows:
    """One SELECT as rows."""

    scope: Scope
    joiner: Joiner
    prune: bool

    def targets(self) -> list[Target]:
        """See `Rows`; none if this query was analysed on its own."""
        return self.scope.targets() if self.prune else []

    def outputs(self) -> list[Output] | None:
        """Return its columns, or None if they can't be listed or say nothing about rows of FROM."""
        scope = self.scope
        if scope.always_one_row:
            return None
        # A column that is dead in one target's query must be flagged in every other, since all share one shape.
        asks = [None, *scope.targets()]
        worst = frozenset().union(*(self.joiner.block(scope, t, Ask()).dead for t in asks))
        found: list[Output] = []
        for item in scope.node.expressions:
            if is_star(item):
                shown = self._star(item)
                if shown is None:
                    return None
                for leaf, column in shown:
                    flags = leaf.when_unknown(column)
                    doubtful = flags or leaf.alias in worst
                    found.append(Output(column, "never" if flags is None else "sometimes" if doubtful else "always"))
                continue
            if item.find(exp.Columns, exp.Star) and not item.find(exp.Count):
                return None
            flags = self._flags(item, frozenset())
            always = flags == KNOWN and self._flags(item, worst) == KNOWN
            found.append(Output(output_name(item), "never" if flags is None else "always" if always else "sometimes"))
        return found

    def _flags(self, item: exp.Expr, dead: frozenset[str]) -> Flags:
        return self.joiner.relaxer.when_unknown(self.scope, expression_of(item), Where(dead))

    def _star(self, item: exp.Expr) -> list[tuple[Leaf, str]] | None:
        """Return what ``*`` or ``alias.*`` stands for; None where that isn't certain."""
        star = item if isinstance(item, exp.Star) else item.this
        if self.scope.using or any(star.args.get(k) for k in ("except_", "replace", "rename")):
            return None
        if any(x.alias == y.alias for n, x in enumerate(self.scope.leaves) for y in self.scope.leaves[:n]):
            return None
        wanted = self.scope.nameable
        if isinstance(item, exp.Column):
            wanted = tuple(x for x in wanted if x.alias == item.table.lower())
        if not wanted or any(x.columns is None for x in wanted):
            return None
        return [(x, c) for x in wanted for c in x.shown]

    def possible(self, target: Target | None, ask: Ask) -> str:
        """See `Rows`."""
        scope = self.scope
        block = self.joiner.block(scope, target, ask)
        values: list[str] = []
        flags: list[Flags] = []
        reads: set[str] = set()
        for item in scope.node.expressions:
            if is_star(item):
                for leaf, column in self._star(item) or ():
                    unknown = None if leaf.alias in block.dead else leaf.when_unknown(column)
                    values.append("NULL" if unknown is None else f"{quote(leaf.alias)}.{quote(column)}")
                    flags.append(unknown)
                    reads |= set() if unknown is None else {leaf.alias}
                continue
            unknown = self._flags(item, block.dead)
            values.append("NULL" if unknown is None else self.joiner.relaxer.text(expression_of(item)))
            flags.append(unknown)
            reads |= set() if unknown is None else columns_of(item)
        what = [*values, *(f"{_truth(f)} AS __n{n}" for n, f in enumerate(flags))]
        reads |= {flag.alias for f in flags for flag in f or ()}
        if target is not None:
            leaf = holder(scope, target)
            what += [f"{k} AS __t{target.number}_{n}" for n, k in enumerate(leaf.key_columns(target))]
            what.append(f"{leaf.state_column(target)} AS __t{target.number}_u")
            reads.add(leaf.alias)
        return select(", ".join(what), block, reads=frozenset(reads))

    def exists(self, positive: bool) -> Predicate | None:
        """See `scopes.Filter`."""
        if not self.scope.plain:
            return None
        block = self.joiner.block(self.scope, None, Ask()) if positive else self.joiner.certain(self.scope)
        if block is None:
            return None
        return Predicate(f"EXISTS ({select('1', block)})", frozenset().union(*(p.aliases for p in block.predicates)))

    def contains(self, value: str, positive: bool) -> Predicate | None:
        """See `scopes.Filter`."""
        if not self.scope.plain:
            return None
        outputs = [expression_of(e) for e in self.scope.node.expressions]
        if any(e.find(exp.Star, exp.Columns, exp.Unnest, exp.Explode) for e in outputs):
            return None
        if not positive:
            certain = self.joiner.certain(self.scope)
            unknown = [self._flags(e, frozenset()) for e in outputs]
            if certain is None or any(u is None for u in unknown):
                return None
            doubt = sorted({f.text for u in unknown for f in u or ()})
            sure = [Predicate(f"NOT ({' OR '.join(doubt)})")] if doubt else []
            inside = select(", ".join(map(self.joiner.relaxer.text, outputs)), certain, sure)
            names = frozenset().union(*(p.aliases for p in certain.predicates), *map(columns_of, outputs))
            return Predicate(f"({value} IN ({inside}))", names)
        block = self.joiner.block(self.scope, None, Ask())
        unknown = [self._flags(e, block.dead) for e in outputs]
        names = frozenset().union(*(p.aliases for p in block.predicates), *map(columns_of, outputs))
        if any(u is None for u in unknown):
            return Predicate(f"EXISTS ({select('1', block)})", names)
        doubt = sorted({f.text for u in unknown for f in u or ()})
        text = f"{value} IN ({select(', '.join(map(self.joiner.relaxer.text, outputs)), block)})"
        if doubt:
            text += f" OR EXISTS ({select('1', block, [Predicate('(' + ' OR '.join(doubt) + ')')])})"
        return Predicate(f"({text})", names)


@dataclass(eq=False)
class SetRows:
    """UNION, INTERSECT or EXCEPT as rows: the possible rows of both sides.

    A row that fails outside is no loss in any branch, so each branch is pruned by itself.
    """

    left: ScopeRows | SetRows
    right: ScopeRows | SetRows
    prune: bool

    def targets(self) -> list[Target]:
        """See `Rows`."""
        return self.left.targets() + self.right.targets() if self.prune else []

    def outputs(self) -> list[Output] | None:
        """See `ScopeRows.outputs`; names are those of the left side."""
        left, right = self.left.outputs(), self.right.outputs()
        if left is None or right is None or len(left) != len(right):
            return None
        return [
            Output(a.name, a.known if a.known == b.known != "sometimes" else "sometimes")
            for a, b in zip(left, right, strict=True)
        ]

    def possible(self, target: Target | None, ask: Ask) -> str:
        """See `Rows`."""
        for side in (self.left, self.right):
            if target is not None and target in side.targets():
                return side.possible(target, ask)
        return f"({self.left.possible(None, ask)}) UNION ALL ({self.right.possible(None, ask)})"


def holder(scope: Scope, target: Target) -> Leaf:
    """Return the FROM item of a scope that a target stands in, however deep."""
    return next(x for x in scope.leaves if target in x.targets())


def _truth(flags: Flags) -> str:
    if flags is None:
        return "TRUE"
    return "(" + " OR ".join(sorted(f.text for f in flags)) + ")" if flags else "FALSE"
