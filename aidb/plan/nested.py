"""Candidates: the query for the items that one reference still needs, put under the rows of the queries around it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from aidb.plan.blocks import select
from aidb.plan.joins import Joiner
from aidb.plan.nodes import expression_of
from aidb.plan.relax import Relaxer, Where, columns_of
from aidb.plan.rows import holder
from aidb.plan.scopes import FALSE, TRUE, Inner, Place, Predicate, Scope, at_top
from aidb.plan.sources import KNOWN, Ask, Fallback, Flags, Target


class Unordered(Exception):
    """The values by which a statement is sorted aren't known for every possible row."""


def candidate(joiner: Joiner, scope: Scope, target: Target, ask: Ask, unique: bool = False) -> str:
    """Return the SELECT of keys ``__k0``... and state ``__u`` that a target still needs (or see `Ask`), each once.

    unique: no two rows of the target have the same keys. Where nothing is joined with it either they are not compared,
    which would take memory for every item, and would look at all of them before it gives the first.
    """
    block = joiner.block(scope, target, ask)
    leaf = holder(scope, target)
    state = leaf.state_column(target)
    if ask.survivors_of is None:
        wanted = f"{state} > 0"
    else:
        wanted = f"{state} IN ({', '.join(map(str, target.unknown.complete(ask.survivors_of)))})"
    keys = [f"{k} AS __k{n}" for n, k in enumerate(leaf.key_columns(target))]
    alone = unique and scope.place is at_top and [i.text for i in block.items] == [leaf.text]
    what = f"{'' if alone else 'DISTINCT '}{', '.join(keys)}, {state} AS __u"
    reads: frozenset[str] | None = frozenset({leaf.alias})
    link_known = False
    if scope.link is not None:
        linked, link_known = scope.link.columns(scope, block.dead)
        what += linked
        reads = None
    ordered = bool(ask.order) and scope.top
    if ordered:
        what += _order_values(joiner.relaxer, scope, block.dead, ask)
        reads = None
    sql = select(what, block, [Predicate(wanted, frozenset({leaf.alias}))], reads)
    placed = scope.place(Inner(sql, scope.link is not None, link_known, ordered), ask)
    if ask.order and not placed.ordered:
        raise Unordered
    return placed.sql


def _order_values(relaxer: Relaxer, scope: Scope, dead: frozenset[str], ask: Ask) -> str:
    for node in ask.order:
        if relaxer.when_unknown(scope, node, Where(dead)) != KNOWN:
            raise Unordered
    return "".join(f", {relaxer.text(e)} AS __o{n}" for n, e in enumerate(ask.order))


@dataclass(frozen=True)
class Link:
    """``value IN (SELECT y ...)``: rows inside matter only where they could be equal to the value.

    decides_by_match: only a match can change the outcome (under AND and OR in WHERE); elsewhere NULLs count too.
    """

    relaxer: Relaxer
    value: exp.Expr
    decides_by_match: bool

    def columns(self, scope: Scope, dead: frozenset[str]) -> tuple[str, bool]:
        """See `scopes.LinkColumns`."""
        item = expression_of(scope.node.expressions[0])
        flags: Flags = None
        if scope.plain and not item.find(exp.Star, exp.Columns, exp.Unnest, exp.Explode):
            flags = self.relaxer.when_unknown(scope, item, Where(dead))
        if flags is None:
            return ", NULL AS __y0, TRUE AS __yu", False
        unknown = " OR ".join(sorted(f.text for f in flags)) or "FALSE"
        return f", {self.relaxer.text(item)} AS __y0, ({unknown}) AS __yu", not flags

    def alternatives(self, scope: Scope, dead: frozenset[str], known: bool) -> list[Predicate]:
        """Return conditions, in the query around, one of which holds where a candidate ``__s`` may match the value.

        They are apart because DuckDB joins by an equality fast, and by ``equal OR unknown`` in a nested loop.
        known: is y always known?
        """
        flags = self.relaxer.when_unknown(scope, self.value, Where(dead))
        if flags is None:
            return [TRUE]
        value, names = self.relaxer.text(self.value), columns_of(self.value)
        inside = [] if known else ["__s.__yu"]
        outside = sorted(f.text for f in flags)
        if not self.decides_by_match:
            inside.append("__s.__y0 IS NULL")
            outside.append(f"{value} IS NULL")
        found = [Predicate(f"{value} = __s.__y0", names)]
        if inside:
            found.append(Predicate(f"({' OR '.join(inside)})"))
        if outside:
            found.append(Predicate(f"({' OR '.join(outside)})", names))
        return found


def under(joiner: Joiner, scope: Scope, link: Link | None = None, in_where: bool = False) -> Place:
    """Return what puts candidates of a nested query under the rows of ``scope`` for which it is evaluated."""

    def place(inner: Inner, ask: Ask) -> Inner:
        block = joiner.block(scope, None, ask) if scope.tree is not None else None
        linked = inner.linked and link is not None
        if inner.linked and link is None:
            raise Fallback("a linked query lost its link")
        kept = "__s.* EXCLUDE (__y0, __yu)" if linked else "__s.*"
        if block is None or not block.items:
            stripped = f"SELECT DISTINCT {kept} FROM ({inner.sql}) __s" if linked else inner.sql
            return scope.place(Inner(stripped, ordered=inner.ordered), ask)
        more = []
        if in_where and scope.where is not None:
            # A row that is certain to pass, or fail, whatever the nested query says, does not need it.
            certain = joiner.relaxer.relax(scope, scope.where, False, Where(block.dead))
            if certain != FALSE:
                more.append(Predicate(f"({certain.text}) IS NOT TRUE", certain.aliases))
        reads = frozenset(scope.named_inside)
        ordered = inner.ordered
        if ask.order and scope.top:
            kept += _order_values(joiner.relaxer, scope, block.dead, ask)
            ordered = True
            reads = reads.union(*(columns_of(e) for e in ask.order))
        matches = [TRUE]
        if linked and link is not None:
            matches = link.alternatives(scope, block.dead, inner.link_known)
        sql = " UNION ".join(
            select(f"DISTINCT {kept}", block, [*more, match], reads | match.aliases, f"LATERAL ({inner.sql}) __s")
            for match in matches
        )
        return scope.place(Inner(sql, ordered=ordered), ask)

    return place


def decides_by_match(node: exp.Expr, where: exp.Expr | None) -> bool:
    """Does a predicate stand under AND and OR only, so that NULL and FALSE are the same to WHERE?"""
    top = node
    while isinstance(top.parent, exp.And | exp.Or | exp.Paren):
        top = top.parent
    return where is not None and top is where
