"""Joins over possible rows: which items to keep, which conditions hold, and whose columns may still be read.

For a target t, the block over-approximates the rows of the join tree that a row of t can take part in. An item whose
columns mean something else above the join than in the block (because the join may NULL-extend it) is *dead*: predicates
above must not read it.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from aidb.plan.blocks import Block, Item
from aidb.plan.relax import Relaxer, Where, pair_text
from aidb.plan.scopes import Predicate, Scope
from aidb.plan.sources import KNOWN, Ask, Join, Leaf, Target, Tree, aliases, joins, leaves

_REJECTING = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Like, exp.ILike, exp.Between)


class Joiner:
    """Builds blocks of the FROM clause of any scope."""

    def __init__(self, relaxer: Relaxer) -> None:
        self.relaxer = relaxer

    def block(self, scope: Scope, target: Target | None, ask: Ask) -> Block:
        """Return the rows of FROM that pass the relaxed WHERE."""
        own = target if ask.survivors_of is None else None
        if scope.tree is None:
            return Block((), tuple(self.relaxer.conjuncts(scope, scope.where, Where())))
        below = self.tree(scope, scope.tree, target, ask)
        kept = self.relaxer.conjuncts(scope, scope.where, Where(below.dead, own))
        return Block(below.items, (*below.predicates, *kept), below.dead)

    def tree(self, scope: Scope, node: Tree, target: Target | None, ask: Ask) -> Block:
        """Return the block of a join tree without WHERE."""
        if isinstance(node, Leaf):
            if node.opaque:
                return Block(dead=frozenset({node.alias}))
            return Block((Item(node.sql(target, ask), frozenset({node.alias})),))
        on_left, on_right = (_has(side, target) for side in (node.left, node.right))
        left, right = (self.tree(scope, side, target, ask) for side in (node.left, node.right))
        if node.kind in ("inner", "semi"):
            return self._both(scope, node, left, right, target, ask)
        if node.kind == "asof":
            # A row of the right side that fails above may be the nearest one, and so hide another.
            return self._both(scope, node, left, right, target, ask, aliases(node.right) if on_right else frozenset())
        if node.kind in ("left", "asofleft", "anti"):
            if on_right:
                return self._both(scope, node, left, right, target, ask, aliases(node.right))
            kept = self._kept_left(scope, node, left, ask) if node.kind == "left" else None
            return kept or _only(left, node.right)
        if node.kind == "right":
            if on_left:
                return self._both(scope, node, left, right, target, ask, aliases(node.left))
            return _only(right, node.left)
        assert node.kind == "full"
        if on_left or on_right:
            side = left if on_left else right
            return Block(side.items, side.predicates, side.dead | aliases(node))
        return Block(dead=aliases(node))

    def _both(
        self,
        scope: Scope,
        node: Join,
        left: Block,
        right: Block,
        target: Target | None,
        ask: Ask,
        dead_above: frozenset[str] = frozenset(),
    ) -> Block:
        dead = left.dead | right.dead
        where = Where(dead, target if ask.survivors_of is None else None, node.visible)
        on = self.relaxer.conjuncts(scope, node.on, where) + [self.relaxer.pair(p, where) for p in node.pairs]
        return Block(left.items + right.items, (*left.predicates, *right.predicates, *on), dead | dead_above)

    def _kept_left(self, scope: Scope, node: Join, left: Block, ask: Ask) -> Block | None:
        """Keep a LEFT JOIN whose right side is one known table: it makes the anti-join idiom precise."""
        right = node.right
        if not isinstance(right, Leaf) or right.virtual or right.opaque or not left.items:
            return None
        on = self._exact(scope, node, left.dead)
        if on is None:
            return None
        text = " CROSS JOIN ".join(i.text for i in left.items)
        item = Item(
            f"(({text}) LEFT JOIN {right.sql(None, ask)} ON {on})",
            frozenset({right.alias}).union(*(i.aliases for i in left.items)),
        )
        return Block((item,), left.predicates, left.dead)

    def _exact(self, scope: Scope, node: Join, dead: frozenset[str]) -> str | None:
        """Return a join condition as it is, if all that it reads is known."""
        parts = []
        if not node.complete:
            return None
        if node.on is not None:
            if self.relaxer.when_unknown(scope, node.on, Where(dead, None, node.visible)) != KNOWN:
                return None
            parts.append(f"({self.relaxer.text(node.on)})")
        for pair in node.pairs:
            if pair.left.alias in dead or any(x.when_unknown(pair.column) != KNOWN for x in (pair.left, pair.right)):
                return None
            parts.append(pair_text(pair))
        return " AND ".join(parts) or None

    def certain(self, scope: Scope) -> Block | None:
        """Return the rows that FROM and WHERE keep whatever the models say; None if that can't be written down."""
        if scope.tree is None or not scope.plain or not _is_inner(scope.tree):
            return None
        predicates = [self.relaxer.relax(scope, scope.where, False, Where())] if scope.where is not None else []
        if not all(j.complete for j in joins(scope.tree)):
            return None
        for join in joins(scope.tree):
            if join.on is not None:
                predicates.append(self.relaxer.relax(scope, join.on, False, Where(visible=join.visible)))
            for pair in join.pairs:
                unknown = [x.when_unknown(pair.column) for x in (pair.left, pair.right)]
                if any(u is None for u in unknown):
                    return None
                doubt = " OR ".join(sorted(f.text for u in unknown for f in u or ()))
                text = pair_text(pair)
                predicates.append(Predicate(f"({text} AND NOT ({doubt}))" if doubt else text))
        items = []
        for leaf in leaves(scope.tree):
            items.append(Item(leaf.sql(None, Ask()), frozenset({leaf.alias})))
            if leaf.row_state:
                predicates.append(Predicate(f'"{leaf.alias}".__u = 0', frozenset({leaf.alias})))
        return Block(tuple(items), tuple(predicates))


def _is_inner(node: Tree) -> bool:
    if isinstance(node, Leaf):
        return not node.opaque and node.rows is None
    return node.kind == "inner" and _is_inner(node.left) and _is_inner(node.right)


def _has(node: Tree, target: Target | None) -> bool:
    return target is not None and any(target in x.targets() for x in leaves(node))


def _only(block: Block, dropped: Tree) -> Block:
    return Block(block.items, block.predicates, block.dead | aliases(dropped))


def simplify_outer_joins(scope: Scope) -> None:
    """Turn outer joins into inner ones where WHERE throws away the NULL-extended rows anyway."""
    if scope.tree is None or scope.where is None:
        return
    strong = {
        leaf for column in _rejected(scope.where) if (leaf := scope.resolve(column, frozenset()).leaf) is not None
    }
    strong &= set(scope.leaves)
    for join in joins(scope.tree):
        left, right = (any(x in strong for x in leaves(side)) for side in (join.left, join.right))
        if join.kind == "full":
            join.kind = "inner" if left and right else "right" if right else "left" if left else "full"
        if (join.kind == "left" and right) or (join.kind == "right" and left):
            join.kind = "inner"
        if join.kind == "asofleft" and right:
            join.kind = "asof"


def _rejected(where: exp.Expr) -> Iterable[exp.Column]:
    """Yield the columns that must not be NULL for a condition to hold."""
    todo = [where]
    while todo:
        node = todo.pop()
        operands: list[exp.Expr | None] = []
        if isinstance(node, exp.And):
            todo += [node.left, node.right]
        elif isinstance(node, exp.Paren):
            todo.append(node.this)
        elif isinstance(node, exp.Column):
            operands = [node]
        elif isinstance(node, _REJECTING):
            operands = [node.this, node.args.get("expression")]
            if any(isinstance(o, exp.All) for o in operands):
                operands = []  # "x < ALL (no rows)" holds for a NULL too
        elif isinstance(node, exp.In) and (node.args.get("expressions") or node.args.get("query")):
            operands = [node.this]
        elif isinstance(node, exp.Not):
            inner = node.this.unnest()
            if isinstance(inner, exp.Is) and isinstance(inner.expression, exp.Null):
                operands = [inner.this]
            elif isinstance(inner, exp.Column):
                operands = [inner]
        yield from (o for o in operands if isinstance(o, exp.Column))
