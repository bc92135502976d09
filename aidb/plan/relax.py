"""Relaxing a predicate: what may still become true, and what is already certain.

With FALSE < NULL < TRUE, `relax` returns for ``positive`` an upper bound of the predicate over everything that unknown
values may turn out to be, else a lower bound. AND and OR are monotone and NOT turns the direction round; everything
else is an atom that is never looked into: known, unknown under conditions, or always unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlglot import exp

from aidb.plan.names import quote
from aidb.plan.nodes import is_aggregate, is_volatile, sql_of
from aidb.plan.scopes import FALSE, TRUE, Predicate, Scope
from aidb.plan.sources import KNOWN, Flags, Leaf, Pair, Target

_NEVER_KNOWN = (
    exp.Window,
    exp.Columns,
    exp.Star,
    exp.Lambda,
    exp.Comprehension,
    exp.Explode,
    exp.Unnest,
    exp.Parameter,
    exp.SessionParameter,
)


@dataclass(frozen=True)
class Where:
    """Where a predicate is evaluated.

    dead: aliases that can't be read there. own: the target whose own outputs count as always unknown.
    visible: items that can be named there, None for all.
    """

    dead: frozenset[str] = frozenset()
    own: Target | None = None
    visible: tuple[Leaf, ...] | None = None


def when_unknown(scope: Scope, node: exp.Expr, where: Where, aggregates: frozenset[str]) -> Flags:
    """Return under which conditions an expression can't be evaluated; its columns are printed qualified afterwards."""
    found = KNOWN
    todo = [node]
    while todo:
        current = todo.pop()
        if isinstance(current, exp.Query):
            if id(current) in scope.known_queries:
                continue
            return None
        if isinstance(current, _NEVER_KNOWN) or is_aggregate(current, aggregates) or is_volatile(current):
            return None
        if isinstance(current, exp.Placeholder) and not current.name:
            return None
        if isinstance(current, exp.Column):
            flags = scope.resolve(current, where.dead, where.visible).flags
            if flags is None or (where.own is not None and where.own.flag in flags):
                return None
            found |= flags
            continue
        todo.extend(v for value in current.args.values() for v in (value if isinstance(value, list) else [value])
                    if isinstance(v, exp.Expr))  # fmt: skip
    return found


def columns_of(node: exp.Expr) -> frozenset[str]:
    """Return the aliases that a qualified expression reads."""
    return frozenset(c.table.lower() for c in node.find_all(exp.Column))


def both(parts: Iterable[Predicate]) -> Predicate:
    """Return the conjunction."""
    kept = [p for p in parts if p != TRUE]
    if any(p == FALSE for p in kept):
        return FALSE
    if len(kept) < 2:
        return kept[0] if kept else TRUE
    return Predicate("(" + " AND ".join(p.text for p in kept) + ")", frozenset().union(*(p.aliases for p in kept)))


def either(parts: Iterable[Predicate]) -> Predicate:
    """Return the disjunction."""
    kept = [p for p in parts if p != FALSE]
    if any(p == TRUE for p in kept):
        return TRUE
    if len(kept) < 2:
        return kept[0] if kept else FALSE
    return Predicate("(" + " OR ".join(p.text for p in kept) + ")", frozenset().union(*(p.aliases for p in kept)))


def guarded(core: str, aliases: frozenset[str], flags: Flags, positive: bool) -> Predicate:
    """Return an atom that is unknown where a flag holds: then true (positive) or false."""
    if flags is None:
        return TRUE if positive else FALSE
    if not flags:
        return Predicate(core, aliases)
    listed = tuple(sorted(flags))
    doubt = " OR ".join(f.text for f in listed)
    text = f"({core} OR {doubt})" if positive else f"({core} AND NOT ({doubt}))"
    return Predicate(text, aliases | {f.alias for f in listed}, core if positive else None, listed)


class Relaxer:
    """Relaxes predicates of any scope; holds the names of DuckDB's aggregates."""

    def __init__(self, aggregates: frozenset[str]) -> None:
        self.aggregates = aggregates
        self._texts: dict[int, tuple[exp.Expr, str]] = {}  # holds the node, lest another gets its id

    def when_unknown(self, scope: Scope, node: exp.Expr, where: Where) -> Flags:
        """See `when_unknown`."""
        return when_unknown(scope, node, where, self.aggregates)

    def text(self, node: exp.Expr) -> str:
        """Return an expression, all of whose columns were resolved, as SQL; printed once, however often it is used."""
        found = self._texts.get(id(node))
        if found is None:
            found = self._texts[id(node)] = (node, sql_of(node))
        return found[1]

    def conjuncts(self, scope: Scope, node: exp.Expr | None, where: Where) -> list[Predicate]:
        """Return a relaxed condition as a list of conjuncts, TRUE left out."""
        if node is None:
            return []
        if isinstance(node, exp.Paren):
            return self.conjuncts(scope, node.this, where)
        if isinstance(node, exp.And):
            return self.conjuncts(scope, node.left, where) + self.conjuncts(scope, node.right, where)
        relaxed = self.relax(scope, node, True, where)
        return [] if relaxed == TRUE else [relaxed]

    def relax(self, scope: Scope, node: exp.Expr, positive: bool, where: Where) -> Predicate:
        """Return the upper (positive) or lower bound of a predicate."""
        if isinstance(node, exp.Paren):
            return self.relax(scope, node.this, positive, where)
        if isinstance(node, exp.And | exp.Or):
            parts = [self.relax(scope, side, positive, where) for side in (node.left, node.right)]
            return both(parts) if isinstance(node, exp.And) else either(parts)
        if isinstance(node, exp.Not):
            inner = self.relax(scope, node.this, not positive, where)
            if inner in (TRUE, FALSE):
                return FALSE if inner == TRUE else TRUE
            return Predicate(f"(NOT {inner.text})", inner.aliases)
        nested = scope.filters.get(id(node))
        if nested is not None:
            relaxed = self._nested(scope, node, positive, where)
            return relaxed if relaxed is not None else TRUE if positive else FALSE
        flags = self.when_unknown(scope, node, where)
        if flags is None:
            return TRUE if positive else FALSE
        return guarded(f"({self.text(node)})", columns_of(node), flags, positive)

    def _nested(self, scope: Scope, node: exp.Expr, positive: bool, where: Where) -> Predicate | None:
        nested = scope.filters[id(node)]
        if isinstance(node, exp.Exists):
            return nested.exists(positive)
        flags = self.when_unknown(scope, node.this, where)
        if flags is None:
            return None
        inside = nested.contains(self.text(node.this), positive)
        if inside is None:
            return None
        relaxed = guarded(inside.text, inside.aliases | columns_of(node.this), flags, positive)
        return relaxed._replace(core=None, flags=())

    def pair(self, pair: Pair, where: Where) -> Predicate:
        """Return a comparison of USING or NATURAL, relaxed upwards."""
        flags = KNOWN
        for leaf in (pair.left, pair.right):
            unknown = None if leaf.alias in where.dead else leaf.when_unknown(pair.column)
            if unknown is None or (where.own is not None and where.own.flag in unknown):
                return TRUE
            flags |= unknown
        return guarded(pair_text(pair), frozenset({pair.left.alias, pair.right.alias}), flags, True)


def pair_text(pair: Pair) -> str:
    """Return the comparison of USING or NATURAL as SQL."""
    column = quote(pair.column)
    return f"({quote(pair.left.alias)}.{column} {pair.operator} {quote(pair.right.alias)}.{column})"


def upper(where: Where) -> Where:
    """Return the place without an own target, for queries that aren't about it."""
    return replace(where, own=None)
