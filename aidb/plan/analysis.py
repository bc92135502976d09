"""From a statement to scopes: reads the syntax tree once, and notes every reference to something unknown.

`Analysis.statement` fills ``candidates`` (one for each reference) and ``everything`` (relations of which all rows are
needed). What it can't read raises `Fallback`; any other exception means the same to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from aidb.catalog.relations import Relations
from aidb.plan.from_clause import FromClause, QueryRows
from aidb.plan.joins import Joiner, simplify_outer_joins
from aidb.plan.nested import Link, decides_by_match, under
from aidb.plan.nodes import (
    is_aggregate,
    is_bare,
    listed,
    nested_queries,
    table_name,
    unwrapped,
    view_query,
    walk_own,
)
from aidb.plan.relax import Relaxer
from aidb.plan.rows import ScopeRows, SetRows
from aidb.plan.scopes import Cte, LinkColumns, Outer, Place, Scope, at_top
from aidb.plan.sources import (
    Ask,
    Fallback,
    Leaf,
    Target,
    joins,
)
from aidb.plan.touching import Touching

_LIMITS = ("order", "limit", "offset")


class Analysis:
    """One statement over one catalog."""

    def __init__(self, relations: Relations, touching: Touching) -> None:
        self.relations = relations
        self.touching = touching
        self.joiner = Joiner(Relaxer(relations.aggregates))
        self.candidates: list[tuple[Scope, Target]] = []
        self.everything: set[str] = set()
        self.seen: set[str] = set()
        self.items = FromClause(self)

    def statement(self, tree: exp.Expr) -> None:
        """Read a whole statement."""
        self.query(tree, {}, None, at_top, top=True)

    # Queries

    def query(
        self,
        node: exp.Expr,
        env: Mapping[str, Cte],
        outer: Outer | None,
        place: Place,
        *,
        link: LinkColumns | None = None,
        prune: bool = False,
        demanded: bool = True,
        top: bool = False,
    ) -> QueryRows | None:
        """Read a query; with ``prune`` its candidates are left to the caller, if predicates outside can reach them."""
        if isinstance(node, exp.Select):
            return self._select(node, env, outer, place, link, prune, demanded, top)
        if isinstance(node, exp.Subquery) and not node.args.get("pivots"):
            inner = self._with(node, env)
            whole = not any(node.args.get(k) for k in ("limit", "offset"))
            self._limits(node, inner)
            return self.query(
                node.this, inner, outer, place, prune=prune and whole, demanded=demanded, top=top and whole
            )
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, env, outer, place, prune)
        if isinstance(node, exp.Values):
            self.read_all(node)
            return None
        if isinstance(node, exp.Pivot):
            self.items.pivoted(node.this, env)
            return None
        if isinstance(node, exp.Subquery):
            self.items.pivoted(node.this, env)
            return None
        raise Fallback(f"{type(node).__name__} is not analysed")

    def _set_operation(
        self, node: exp.SetOperation, env: Mapping[str, Cte], outer: Outer | None, place: Place, prune: bool
    ) -> QueryRows | None:
        inner = self._with(node, env)
        by_name = bool(node.args.get("by_name"))
        prune = prune and not by_name and not any(node.args.get(k) for k in ("limit", "offset"))
        sides = [self.query(side, inner, outer, place, prune=prune) for side in (node.left, node.right)]
        self._limits(node, inner)
        left, right = sides
        if left is None or right is None or by_name:
            for side in sides:
                self.stand_alone(side)
            return None
        return SetRows(left, right, prune)

    def _limits(self, node: exp.Expr, env: Mapping[str, Cte]) -> None:
        """Read queries in ORDER BY, LIMIT and OFFSET of a set operation or of parentheses."""
        for key in _LIMITS:
            for value in listed(node.args.get(key)):
                for nested in nested_queries(value):
                    self.query(nested, env, None, at_top)

    def _with(self, node: exp.Expr, env: Mapping[str, Cte]) -> dict[str, Cte]:
        """Return the CTEs that a query sees."""
        inner = dict(env)
        clause = node.args.get("with_")
        for cte in clause.expressions if clause is not None else ():
            assert clause is not None
            name = cte.alias.lower()
            columns = tuple(c.name for c in cte.args["alias"].columns)
            recursive = bool(clause.args.get("recursive")) and any(
                t.name.lower() == name for t in cte.this.find_all(exp.Table)
            )
            sees = dict(inner)
            if recursive:
                sees[name] = Cte(None, {}, columns, True)
            inner[name] = Cte(cte.this, sees, columns, recursive)
        return inner

    def _select(
        self,
        node: exp.Select,
        env: Mapping[str, Cte],
        outer: Outer | None,
        place: Place,
        link: LinkColumns | None,
        prune: bool,
        demanded: bool,
        top: bool,
    ) -> ScopeRows:
        scope = Scope(node, self._with(node, env), outer, place, link, demanded, top)
        self._classify(scope)
        if node.args.get("sample") or node.args.get("laterals"):
            self.read_all(node)
            self.read_ctes(node, scope.env)
        clause = node.args.get("from_")
        if clause is not None:
            scope.tree = self.items.tree(scope, clause.this, node.args.get("joins") or ())
        simplify_outer_joins(scope)
        if scope.tree is not None:
            scope.context_dead = self.joiner.tree(scope, scope.tree, None, Ask()).dead
        self._nested(scope)
        for lateral in scope.laterals:
            lateral()
        rows = ScopeRows(scope, self.joiner, prune and scope.prunable)
        if not rows.prune:
            self._emit(scope)
        return rows

    def _classify(self, scope: Scope) -> None:
        """Note what kind of query it is; see `Scope`."""
        node = scope.node
        group = node.args.get("group")
        scope.where = node.args["where"].this if node.args.get("where") else None
        scope.select_aliases = frozenset(e.alias.lower() for e in node.expressions if isinstance(e, exp.Alias))
        scope.grouped = group is not None
        scope.grouping_sets = group is not None and (
            any(group.args.get(k) for k in ("rollup", "cube", "grouping_sets"))
            or group.find(exp.Rollup, exp.Cube, exp.GroupingSets) is not None
        )
        parts = [e for k in ("expressions", "having", "qualify", "order") for e in listed(node.args.get(k))]
        inside = [n for part in parts for n in walk_own(part)]
        scope.aggregated = any(is_aggregate(n, self.relations.aggregates) for n in inside) or bool(
            node.args.get("having")
        )
        scope.windowed = any(isinstance(n, exp.Window) for n in inside)
        distinct = node.args.get("distinct")
        stops = ("qualify", "limit", "offset", "sample", "windows")
        open_ended = not (
            any(node.args.get(k) for k in stops) or scope.windowed or (distinct and distinct.args.get("on"))
        )
        scope.plain = open_ended and not (scope.grouped or scope.aggregated or node.args.get("having"))
        scope.prunable = scope.plain or (open_ended and scope.grouped and not scope.grouping_sets)
        scope.demanded |= bool(distinct) or scope.grouped

    def _emit(self, scope: Scope) -> None:
        self.candidates += [(scope, t) for t in scope.targets()]

    def stand_alone(self, rows: QueryRows | None) -> None:
        """Let a query stand alone after all."""
        if isinstance(rows, SetRows):
            if rows.prune:
                self.stand_alone(rows.left)
                self.stand_alone(rows.right)
        elif rows is not None and rows.prune:
            self._emit(rows.scope)

    # All rows

    def read_all(self, node: exp.Expr) -> None:
        """Note that all rows of every relation below a node are needed."""
        for table in node.find_all(exp.Table):
            name = table_name(table)
            if self.relations.get(name) is not None:
                self.everything.add(name)
                self.seen.add(name)
            elif name in self.relations.views:
                self.read_all(view_query(self.relations.views[name])[0])

    def read_ctes(self, node: exp.Expr, env: Mapping[str, Cte]) -> None:
        """Need all rows of the CTEs that a node names."""
        for table in node.find_all(exp.Table):
            cte = env.get(table.name.lower()) if is_bare(table) else None
            if cte is not None and cte.node is not None:
                self.query(cte.node.copy(), cte.env, None, at_top)

    # Queries in expressions

    def _nested(self, scope: Scope) -> None:
        """Read the queries in all clauses but FROM, and in ON."""
        outer_join = any(j.kind not in ("inner", "semi") for j in joins(scope.tree))
        for join in joins(scope.tree):
            if join.on is not None:
                self._nested_in(scope, join.on, "on", outer_join, join.visible)
        for key, value in scope.node.args.items():
            if key in ("from_", "with_", "laterals", "joins"):
                continue
            free = key in ("limit", "offset", "sample") or (
                key in ("expressions", "having", "order", "qualify", "distinct") and scope.always_one_row
            )
            for part in listed(value):
                self._nested_in(scope, part, key, free, None)

    def _nested_in(
        self, scope: Scope, part: exp.Expr, clause: str, free: bool, visible: tuple[Leaf, ...] | None
    ) -> None:
        """Read the queries of one expression. free: they are evaluated even where no row of the scope is kept."""
        outside = frozenset(c for x in scope.leaves for c in x.columns or ())
        for nested in nested_queries(part):
            if clause not in ("where", "on") and self.touching.aggregates_outside(nested, outside):
                raise Fallback("a nested query aggregates the query around it")
            if self.touching.is_known(nested, scope.env):
                scope.known_queries.add(id(nested))
                continue
            query = unwrapped(nested)
            host = nested.parent
            is_filter = isinstance(host, exp.Exists) or (isinstance(host, exp.In) and host.args.get("query") is nested)
            outer = Outer(
                scope,
                visible,
                usable=not free,
                aliases_first=clause in ("having", "qualify", "order", "group", "distinct", "windows"),
            )
            link = None
            one = isinstance(query, exp.Select) and len(query.expressions) == 1
            if one and not free and is_filter and isinstance(host, exp.In) and not isinstance(host.this, exp.Tuple):
                link = Link(self.joiner.relaxer, host.this, decides_by_match(host, scope.where))
            place = scope.place if free else under(self.joiner, scope, link, clause == "where")
            rows = self.query(
                query, scope.env, outer, place, link=link, demanded=not isinstance(host, exp.Exists)
            )  # fmt: skip
            if is_filter and isinstance(rows, ScopeRows) and host is not None:
                scope.filters[id(host)] = rows
