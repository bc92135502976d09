"""Do the clauses above FROM keep the rows of each unit apart? GROUP BY, DISTINCT, windows and LIMIT may mix them."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from aidb.plan.nodes import expression_of, function_name, is_aggregate, is_star, listed, nested_queries, walk_own
from aidb.plan.splits import Block, Query, refusal, short
from aidb.plan.touching import Touching
from aidb.plan.unit import Unit


class Mixing:
    """Judges SELECTs whose FROM is split. functions: names of DuckDB's aggregates."""

    def __init__(self, unit: Unit, touching: Touching, functions: frozenset[str]) -> None:
        self.unit, self.touching, self.functions = unit, touching, functions
        self.places = len(unit.keys)
        self.key = f"the key {', '.join(unit.keys)}"

    def aggregates(self, node: exp.Expr) -> list[exp.Expr]:
        """The aggregates in an expression; an aggregate's name before OVER is none."""
        windows = {id(called(w)) for w in walk_own(node) if isinstance(w, exp.Window)}
        known = self.functions
        return [
            n
            for n in walk_own(node)
            if id(n) not in windows and (is_aggregate(n, known) or function_name(n) == "fcount")
        ]

    def is_aggregated(self, block: Block) -> bool:
        """Does a SELECT make one row of many?"""
        node = block.node
        if node.args.get("group") is not None or node.args.get("having") is not None:
            return True
        clauses = [e for c in ("expressions", "qualify", "order", "distinct") for e in listed(node.args.get(c))]
        return any(self.aggregates(e) for e in clauses)

    def why(self, block: Block) -> str:
        """Why rows of the SELECT belong to many units at once, empty if they don't."""
        if not self.is_aggregated(block):
            return ""
        group = block.node.args.get("group")
        if block.grouping is None or group is None:
            return f"an aggregate in a subquery depends on all items at once: GROUP BY {self.key} there, or tie its rows by it"
        if not self._cover(block.grouping, block):
            if has_sets(group):
                return "grouping sets mix items"
            return f"its GROUP BY lacks {self.key}, and mixes items"
        return ""

    def _cover(self, nodes: Iterable[exp.Expr], block: Block, *, columns_first: bool = True) -> bool:
        """Do these expressions hold the whole key?"""
        found = {block.holds(block.shown(n, columns_first=columns_first)) for n in nodes}
        return found >= set(range(self.places))

    def check(self, block: Block, query: Query, *, top: bool) -> None:
        """What stands above FROM must not mix the rows of several units."""
        node = block.node
        outside = frozenset(c.name.lower() for c in block.scope.columns)
        for nested in (
            q
            for c in ("expressions", "having", "order", "qualify")
            for e in listed(node.args.get(c))
            for q in nested_queries(e)
        ):
            if self.touching.aggregates_outside(nested, outside):
                raise refusal(
                    self.unit, f"an aggregate in the subquery ({short(nested)}) is one of the query around it"
                )
        self._check_windows(block)
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is not None:
            on = distinct.args["on"]
            if not self._cover(on.expressions if isinstance(on, exp.Tuple) else [on], block, columns_first=False):
                raise refusal(self.unit, f"DISTINCT ON chooses among all items: name {self.key} there")
        if top:
            return
        if any(node.args.get(a) for a in ("limit", "offset")):
            raise refusal(self.unit, "LIMIT in a subquery depends on all items at once")
        if why := self.why(block):
            raise refusal(self.unit, why)
        if distinct is not None and distinct.args.get("on") is None and not self.shows_key(query):
            raise refusal(self.unit, f"DISTINCT in a subquery mixes items: select {self.key} there too")

    def shows_key(self, query: Query) -> bool:
        """Does a query show the whole key of its rows' unit?"""
        return {p for _, p in query.outputs} >= set(range(self.places))

    def _check_windows(self, block: Block) -> None:
        node = block.node
        named = {w.this.name.lower(): w for w in listed(node.args.get("windows")) if isinstance(w, exp.Window)}
        clauses = [e for c in ("expressions", "qualify", "order", "distinct") for e in listed(node.args.get(c))]
        for window in (n for e in clauses for n in walk_own(e) if isinstance(n, exp.Window)):
            partition: list[exp.Expr] = []
            current: exp.Expr | None = window
            while current is not None and len(partition) < 100:
                partition += listed(current.args.get("partition_by"))
                alias = current.args.get("alias")
                current = named.get(alias.name.lower()) if isinstance(alias, exp.Identifier) else None
            if not self._cover(partition, block, columns_first=False):
                raise refusal(self.unit, f"a window reaches over items: PARTITION BY {', '.join(self.unit.keys)} there")

    def group(self, block: Block) -> None:
        """Look up what GROUP BY names by place, by alias or by ALL."""
        group = block.node.args.get("group")
        if group is None:
            return
        items = list(block.node.expressions)
        if group.args.get("all"):
            block.grouping = [expression_of(i) for i in items if not self.aggregates(i)]
            return
        block.grouping = []
        for node in group.expressions:
            item = node
            if isinstance(item, exp.Literal) and item.is_int:
                stars = any(is_star(i) for i in items[: int(item.name)])
                item = (
                    expression_of(items[int(item.name) - 1]) if not stars and 0 < int(item.name) <= len(items) else item
                )
            elif isinstance(item, exp.Column) and not item.table and block.scope.complete:
                known = any(c.name.lower() == item.name.lower() for c in block.scope.columns)
                item = item if known else block.aliases().get(item.name.lower(), item)
            block.grouping.append(item)


def has_sets(group: exp.Expr) -> bool:
    """Does GROUP BY say ROLLUP, CUBE or GROUPING SETS?"""
    return group.find(exp.Rollup, exp.Cube, exp.GroupingSets) is not None


def called(window: exp.Expr) -> exp.Expr:
    """The function before OVER."""
    node = window.this
    while isinstance(node, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
        node = node.this
    return node if isinstance(node, exp.Expr) else window
