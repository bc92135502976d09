"""Statements that only gain rows as models answer: with a LIMIT they may stop early.

Then each row of the answer over what is known is a row of the full answer, so any n of them are an answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from aidb.plan.nodes import (
    children,
    is_aggregate,
    is_volatile,
    listed,
    nested_queries,
    table_name,
    view_query,
    walk_own,
)
from aidb.plan.scopes import Cte
from aidb.plan.touching import Touching

_STOPS = ("qualify", "limit", "offset", "sample", "order", "laterals", "windows")


class Monotony:
    """Judges queries of one statement."""

    def __init__(self, touching: Touching) -> None:
        self.touching = touching

    def holds(self, query: exp.Expr, env: Mapping[str, Cte], *, ignore: frozenset[str] = frozenset()) -> bool:
        """Is a query monotone? ``ignore``: clauses of its outermost level that are left out (LIMIT, ORDER BY)."""
        inner = self._with(query, env)
        if inner is None:
            return False
        if isinstance(query, exp.Subquery):
            if any(query.args.get(k) for k in ("limit", "offset", "pivots", "sample") if k not in ignore):
                return False
            return self.holds(query.this, inner)
        if isinstance(query, exp.SetOperation):
            if any(query.args.get(k) for k in ("limit", "offset") if k not in ignore):
                return False
            if not self.holds(query.left, inner):
                return False
            if isinstance(query, exp.Except):
                return not self.touching.touches(query.right, inner)
            return self.holds(query.right, inner)
        if not isinstance(query, exp.Select):
            return False
        return not self.touching.touches(query, inner) or self._select(query, inner, ignore)

    def _with(self, query: exp.Expr, env: Mapping[str, Cte]) -> dict[str, Cte] | None:
        inner = dict(env)
        clause = query.args.get("with_")
        for cte in clause.expressions if clause is not None else ():
            assert clause is not None
            name = cte.alias.lower()
            if clause.args.get("recursive") and any(t.name.lower() == name for t in cte.this.find_all(exp.Table)):
                if self.touching.touches(cte.this, inner):
                    return None
                inner[name] = Cte(None, {})
                continue
            if self.touching.touches(cte.this, inner) and not self.holds(cte.this, inner):
                return None
            inner[name] = Cte(cte.this, dict(inner))
        return inner

    def _select(self, query: exp.Select, env: Mapping[str, Cte], ignore: frozenset[str]) -> bool:
        if any(query.args.get(k) for k in _STOPS if k not in ignore):
            return False
        distinct = query.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            return False
        if not self._groups(query, env):
            return False
        for item in query.expressions + [e for k in ignore for e in listed(query.args.get(k))]:
            for node in walk_own(item):
                if is_aggregate(node, self.touching.relations.aggregates) or isinstance(node, exp.Window):
                    return False
                if is_volatile(node):
                    return False
            if any(self.touching.touches(q, env) for q in nested_queries(item)):
                return False
        clause = query.args.get("from_")
        if clause is not None and not self._item(clause.this, env):
            return False
        if not all(self._join(j, env) for j in query.args.get("joins") or ()):
            return False
        where = query.args.get("where")
        return where is None or self._condition(where.this, env, True)

    def _groups(self, query: exp.Select, env: Mapping[str, Cte]) -> bool:
        """Do groups only appear, and never fall out again? Their rows may show what they are grouped by, no aggregate."""
        group, having = query.args.get("group"), query.args.get("having")
        if group is None:
            return having is None
        if any(group.args.get(k) for k in ("rollup", "cube", "grouping_sets", "totals")):
            return False
        if group.find(exp.Rollup, exp.Cube, exp.GroupingSets) is not None:
            return False
        for node in (group, *([having] if having is not None else [])):
            if any(is_volatile(n) for n in node.walk()) or any(
                self.touching.touches(q, env) for q in nested_queries(node)
            ):
                return False
        return having is None or self._kept(having.this)

    def _kept(self, node: exp.Expr) -> bool:
        """Once a condition on a group holds, does it hold however many rows the group still gains?"""
        if isinstance(node, exp.And | exp.Or):
            return self._kept(node.left) and self._kept(node.right)
        if isinstance(node, exp.Paren):
            return self._kept(node.this)
        if isinstance(node, exp.LT | exp.LTE):
            return self._grows(node.right, node.left)
        if isinstance(node, exp.GT | exp.GTE):
            return self._grows(node.left, node.right)
        return self._constant(node)

    def _grows(self, more: exp.Expr, less: exp.Expr) -> bool:
        """Can a comparison only turn true as rows come in: a count above something that stays?"""
        counted = isinstance(more, exp.Count) and not any(self._aggregates(c) for c in children(more))
        return (counted or self._constant(more)) and self._constant(less)

    def _constant(self, node: exp.Expr) -> bool:
        """Is an expression the same for all rows of a group? In HAVING it is unless it holds an aggregate."""
        return not self._aggregates(node)

    def _aggregates(self, node: exp.Expr) -> bool:
        found = node.walk()
        return any(is_aggregate(n, self.touching.relations.aggregates) or isinstance(n, exp.Window) for n in found)

    def _item(self, node: exp.Expr, env: Mapping[str, Cte]) -> bool:
        if node.args.get("pivots") or node.args.get("sample") or isinstance(node, exp.TableSample):
            return False
        if not all(self._join(j, env) for j in node.args.get("joins") or ()):
            return False
        if isinstance(node, exp.Subquery | exp.Lateral):
            inner = node.this
            while isinstance(inner, exp.Subquery) and not inner.alias and not inner.args.get("joins"):
                if any(inner.args.get(k) for k in ("limit", "offset", "pivots", "sample", "with_")):
                    return not self.touching.touches(inner, env)
                inner = inner.this
            if isinstance(inner, exp.Table | exp.Subquery):
                return self._item(inner, env)
            return not self.touching.touches(inner, env) or self.holds(inner, env)
        views = self.touching.relations.views
        if table_name(node) in views and table_name(node) not in env:
            return self.holds(view_query(views[table_name(node)])[0], {})
        return True

    def _join(self, node: exp.Join, env: Mapping[str, Cte]) -> bool:
        kind, side, method = ((node.args.get(k) or "").upper() for k in ("kind", "side", "method"))
        if method == "POSITIONAL" or side in ("RIGHT", "FULL"):
            return False
        if (method == "ASOF" or kind == "ANTI" or side == "LEFT") and self.touching.touches(node.this, env):
            return False
        on = node.args.get("on")
        inner = side == "" and kind != "ANTI" and method != "ASOF"
        return (on is None or self._condition(on, env, inner)) and self._item(node.this, env)

    def _condition(self, node: exp.Expr, env: Mapping[str, Cte], filters: bool) -> bool:
        """Can a condition only become true, never false? filters: may it read unknown tables at all?"""
        if isinstance(node, exp.And | exp.Or):
            return self._condition(node.left, env, filters) and self._condition(node.right, env, filters)
        if isinstance(node, exp.Paren):
            return self._condition(node.this, env, filters)
        if any(is_volatile(n) for n in node.walk()):
            return False
        if not any(self.touching.touches(q, env) for q in nested_queries(node)):
            return True
        if not filters:
            return False
        if isinstance(node, exp.Exists):
            return self.holds(node.this, env)
        if isinstance(node, exp.In) and node.args.get("query") is not None and not nested_queries(node.this):
            return self.holds(node.args["query"], env)
        return False
