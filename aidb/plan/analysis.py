"""From a statement to scopes: reads the syntax tree once, and notes every reference to something unknown.

`Analysis.statement` fills ``candidates`` (one for each reference) and ``everything`` (relations of which all rows are
needed). What it can't read raises `Fallback`; any other exception means the same to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from sqlglot import exp

from aidb.catalog.relations import Extension, Relation, Relations
from aidb.plan.joins import Joiner, simplify_outer_joins
from aidb.plan.names import quote
from aidb.plan.nested import Link, decides_by_match, under
from aidb.plan.nodes import (
    has_volatile,
    is_aggregate,
    is_bare,
    is_star,
    listed,
    name_span,
    nested_queries,
    output_name,
    sql_of,
    table_name,
    unwrapped,
    view_query,
    walk_own,
)
from aidb.plan.possible import possible
from aidb.plan.relax import Relaxer
from aidb.plan.rows import ScopeRows, SetRows
from aidb.plan.scopes import Cte, LinkColumns, Outer, Place, Scope, at_top
from aidb.plan.sources import (
    KNOWN,
    Ask,
    Fallback,
    Flag,
    Flags,
    Join,
    Leaf,
    Pair,
    Target,
    Tree,
    hidden,
    joins,
    leaves,
)
from aidb.plan.touching import Touching

QueryRows = ScopeRows | SetRows

_LIMITS = ("order", "limit", "offset")
_KINDS = {"LEFT": "left", "RIGHT": "right", "FULL": "full", "SEMI": "semi", "ANTI": "anti"}


@dataclass(frozen=True)
class Extended:
    """A reference whose virtual columns are read; where its name stands in the text (None: not in this text)."""

    relation: Relation
    extensions: tuple[Extension, ...]
    span: tuple[int, int] | None
    aliased: bool


class Analysis:
    """One statement over one catalog."""

    def __init__(self, relations: Relations, touching: Touching) -> None:
        self.relations = relations
        self.touching = touching
        self.joiner = Joiner(Relaxer(relations.aggregates))
        self.candidates: list[tuple[Scope, Target]] = []
        self.everything: set[str] = set()
        self.seen: set[str] = set()
        self.extended: list[Extended] = []
        self._numbers = count()

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
                node.this, inner, outer, place, link=link if whole else None, prune=prune and whole,
                demanded=demanded, top=top and whole,
            )  # fmt: skip
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, env, outer, place, prune)
        if isinstance(node, exp.Values):
            self.read_all(node)
            return None
        if isinstance(node, exp.Pivot):
            self._pivoted(node.this, env)
            return None
        if isinstance(node, exp.Subquery):
            self._pivoted(node.this, env)
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
                self._emit_pruned(side)
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
            self._read_ctes(node, scope.env)
        clause = node.args.get("from_")
        if clause is not None:
            first = self._item(scope, clause.this, None)
            scope.tree = self._joined(scope, first, node.args.get("joins") or ())
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
        scope.aggregated = any(is_aggregate(n, self.relations.aggregates) for n in inside)
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

    def _emit_pruned(self, rows: QueryRows | None) -> None:
        """Let a query stand alone after all."""
        if isinstance(rows, SetRows):
            if rows.prune:
                self._emit_pruned(rows.left)
                self._emit_pruned(rows.right)
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

    def _opaque(self, alias: str, node: exp.Expr | None = None) -> Leaf:
        if node is not None:
            self.read_all(node)
        return Leaf(alias, None, virtual=True, opaque=True)

    def _pivoted(self, source: exp.Expr, env: Mapping[str, Cte]) -> None:
        """Read what PIVOT or UNPIVOT turns round: a nested query is pruned inside, of a table all rows are needed."""
        query = unwrapped(source)
        if isinstance(query, exp.Query) and not isinstance(query, exp.Subquery) and not source.args.get("joins"):
            self.query(query, env, None, at_top)
        else:
            self.read_all(source)
            self._read_ctes(source, env)

    def _read_ctes(self, node: exp.Expr, env: Mapping[str, Cte]) -> None:
        """Need all rows of the CTEs that a node names."""
        for table in node.find_all(exp.Table):
            cte = env.get(table.name.lower()) if is_bare(table) else None
            if cte is not None and cte.node is not None:
                self.query(cte.node.copy(), cte.env, None, at_top)

    # FROM

    def _joined(self, scope: Scope, first: Tree, joined: Sequence[exp.Join]) -> Tree:
        """Build a join tree; JOIN binds tighter than a comma."""
        groups: list[Tree] = []
        current = first
        for node in joined:
            if not any(node.args.get(k) for k in ("kind", "side", "method", "on", "using")):
                groups.append(current)
                current = self._item(scope, node.this, _crossed(groups))
                continue
            right = self._item(scope, node.this, _crossed([*groups, current]))
            current = self._join(scope, node, current, right)
        return _crossed([*groups, current])

    def _join(self, scope: Scope, node: exp.Join, left: Tree, right: Tree) -> Join:
        kind, side, method = ((node.args.get(k) or "").upper() for k in ("kind", "side", "method"))
        how = _KINDS.get(kind) or _KINDS.get(side) or "inner"
        if method == "ASOF":
            how = {"inner": "asof", "left": "asofleft"}.get(how, "")
        if method == "POSITIONAL" or not how:
            raise Fallback("positional and outer ASOF joins depend on all rows")
        names = [c.name.lower() for c in node.args.get("using") or ()]
        if method == "NATURAL":
            names = _common(left, right)
        pairs = []
        for n, name in enumerate(names):
            operator = ">=" if how.startswith("asof") and n == len(names) - 1 else "="
            holders = _first(left, name), _first(right, name)
            if holders[0] is not None and holders[1] is not None:
                pairs.append(Pair(holders[0], holders[1], name, operator))
            scope.using.add(name)
        scope.merged |= bool(names) and how in ("right", "full")
        return Join(how, left, right, node.args.get("on"), pairs)

    def _item(self, scope: Scope, node: exp.Expr, left: Tree | None, *, own_joins: bool = True) -> Tree:
        """Read one FROM item; ``left``: the items before it, which a lateral one can read."""
        given = node.args.get("alias")
        renamed = tuple(c.name for c in given.columns) if isinstance(given, exp.TableAlias) else ()
        alias = node.alias_or_name.lower() or f"__d{next(self._numbers)}"
        if own_joins and node.args.get("joins") and isinstance(node, exp.Table | exp.Subquery):
            return self._joined(scope, self._item(scope, node, left, own_joins=False), node.args["joins"])
        if node.args.get("pivots"):
            self._pivoted(node.this if isinstance(node, exp.Subquery) else node, scope.env)
            return self._opaque(alias)
        if node.args.get("sample") or isinstance(node, exp.TableSample):
            self._read_ctes(node, scope.env)
            return self._opaque(alias, node)
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            return self._table(scope, node, alias, renamed)
        if isinstance(node, exp.Subquery) and not node.alias and isinstance(node.this, exp.Table | exp.Subquery):
            return self._item(scope, node.this, left)  # parentheses around a join
        if isinstance(node, exp.Subquery | exp.Lateral):
            query = unwrapped(node.this)
            if isinstance(query, exp.Query):
                return self._derived(scope, query, alias, renamed, scope.env, left)
            if isinstance(query, exp.Pivot):
                self._pivoted(query.this, scope.env)
                return self._opaque(alias)
        if not node.find(exp.Column, exp.Query) and not has_volatile(node):
            text = sql_of(node) if node.args.get("alias") else f"{sql_of(node)} AS {quote(alias)}"
            columns = {c.lower(): KNOWN for c in renamed} if renamed else None
            return Leaf(alias, columns, text, shown=tuple(c.lower() for c in renamed))
        self._read_ctes(node, scope.env)
        return self._opaque(alias, node)

    def _table(self, scope: Scope, node: exp.Table, alias: str, renamed: tuple[str, ...]) -> Leaf:
        name = node.name.lower()
        if is_bare(node) and name in scope.env:
            cte = scope.env[name]
            if cte.node is None:
                return self._opaque(alias)  # the recursive reference itself
            return self._derived(scope, cte.node.copy(), alias, renamed or cte.columns, cte.env, None, cte)
        relation = self.relations.get(table_name(node)) if table_name(node) else None
        if relation is not None:
            return self._relation(scope, relation, alias, renamed, node)
        if table_name(node) in self.relations.views:
            query, columns = view_query(self.relations.views[name])
            query = query.copy()
            for identifier in query.find_all(exp.Identifier):
                identifier.meta.clear()  # positions in the view's text mean nothing in the statement's
            return self._derived(scope, query, alias, renamed or tuple(columns), {}, None, Cte(query, {}))
        stored = node.copy()
        stored.set("alias", None)
        return Leaf(
            alias,
            None,
            f"{sql_of(stored)} AS {quote(alias)}" + (f"({', '.join(map(quote, renamed))})" if renamed else ""),
        )

    def _relation(
        self, scope: Scope, relation: Relation, alias: str, renamed: tuple[str, ...], node: exp.Table
    ) -> Leaf:
        """Return a reference to a relation of the catalog, with a target for each unknown part that is read."""
        self.seen.add(relation.name.lower())
        all_read = bool(renamed) or (scope.demanded and _star_covers(scope.node, alias))
        extensions = self.touching.used(relation, alias, all_read)
        if extensions:
            self.extended.append(Extended(relation, extensions, name_span(node), bool(node.alias)))
        rows = possible(relation, extensions, self.relations)
        spelled = [*renamed, *rows.columns[len(renamed) :]]
        columns: dict[str, Flags] = {}
        for shown, column in zip(spelled, rows.columns, strict=True):
            condition = rows.unknown.get(column.lower(), "")
            flags = None if condition is None else KNOWN
            if condition:
                flags = frozenset({Flag(alias, condition.format(quote(alias)))})
            columns[shown.lower()] = flags
        text = f"({rows.sql}) AS {quote(alias)}" + (f"({', '.join(map(quote, renamed))})" if renamed else "")
        leaf = Leaf(
            alias,
            columns,
            text,
            shown=tuple(c.lower() for c in spelled[: len(relation.columns)]),
            row_state=relation.fill is not None,
            virtual=bool(rows.sources),
        )
        leaf.own += [Target(next(self._numbers), leaf, source) for source in rows.sources]
        return leaf

    def _derived(
        self,
        scope: Scope,
        query: exp.Expr,
        alias: str,
        renamed: tuple[str, ...],
        env: Mapping[str, Cte],
        left: Tree | None,
        cte: Cte | None = None,
    ) -> Leaf:
        """Return a derived table, CTE or view as a FROM item."""
        correlated = self.touching.correlated(query, env)
        if not self.touching.touches(query, env):
            return self._known_query(query, alias, renamed, env, correlated)
        if correlated and cte is None:
            self._lateral(scope, query, env, left)
            return self._opaque(alias)
        if cte is not None and (cte.recursive or correlated):
            self.query(query, env, None, at_top)
            return self._opaque(alias)
        demanded = bool(renamed) or (scope.demanded and _star_covers(scope.node, alias))
        place = at_top if cte is not None else scope.place
        rows = self.query(query, env, None, place, prune=True, demanded=demanded)
        outputs = rows.outputs() if rows is not None else None
        if rows is None or outputs is None:
            self._emit_pruned(rows)
            return self._opaque(alias)
        names: list[str] = []
        columns: dict[str, Flags] = {}
        for n, output in enumerate(outputs):
            name = renamed[n] if n < len(renamed) else output.name or f"__c{n}"
            flags = KNOWN if output.known == "always" else None
            if output.known == "sometimes":
                flags = frozenset({Flag(alias, f"{quote(alias)}.__n{n}")})
            copy = 0
            while name.lower() in columns:  # DuckDB numbers columns of one name in this way
                copy += 1
                name, flags = f"{name.rpartition('_')[0] if copy > 1 else name}_{copy}", None
            columns[name.lower()] = flags
            names.append(name)
        return Leaf(alias, columns, rows=rows, names=tuple(names), shown=tuple(n.lower() for n in names), virtual=True)

    def _known_query(
        self, query: exp.Expr, alias: str, renamed: tuple[str, ...], env: Mapping[str, Cte], correlated: bool
    ) -> Leaf:
        """Return a derived table that no model can change, as its own text."""
        text = self._standing_text(query, env)
        if correlated or text is None:
            return self._opaque(alias)
        names = renamed or _column_names(query)
        columns = None if names is None else {n.lower(): KNOWN for n in names}
        return Leaf(
            alias,
            columns,
            f"({text}) AS {quote(alias)}" + (f"({', '.join(map(quote, renamed))})" if renamed else ""),
            shown=tuple(n.lower() for n in names or ()),
        )

    def _standing_text(self, query: exp.Expr, env: Mapping[str, Cte]) -> str | None:
        """Return the text of a known query with the CTEs that it sees; None if it isn't the same each time."""
        if has_volatile(query):
            return None
        if not self.touching.uses_cte(query, env):
            return sql_of(query)
        parts = []
        for name, cte in env.items():
            if cte.node is None or self.touching.touches(cte.node, cte.env):
                continue
            if has_volatile(cte.node):
                return None
            columns = f"({', '.join(map(quote, cte.columns))})" if cte.columns else ""
            parts.append(f"{quote(name)}{columns} AS ({sql_of(cte.node)})")
        return f"WITH RECURSIVE {', '.join(parts)} SELECT * FROM ({sql_of(query)})" if parts else None

    def _lateral(self, scope: Scope, query: exp.Expr, env: Mapping[str, Cte], left: Tree | None) -> None:
        """Read a derived table that uses the items before it, once the whole FROM clause is known."""
        unseen = hidden(left)
        visible = tuple(x for x in leaves(left) if x not in unseen)
        outer = Outer(scope, visible)
        scope.laterals.append(lambda: void(self.query(query, env, outer, under(self.joiner, scope))))

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
        for nested in nested_queries(part):
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


def void(_: object) -> None:
    """Forget a result."""


def _crossed(trees: Sequence[Tree]) -> Tree:
    """Return the cross product of comma-separated items."""
    current = trees[0]
    for tree in trees[1:]:
        current = Join("inner", current, tree)
    return current


def _common(left: Tree, right: Tree) -> list[str]:
    """Return the columns that a NATURAL join compares."""
    sides = [[x for x in leaves(t) if x not in hidden(t)] for t in (left, right)]
    if any(x.columns is None for side in sides for x in side):
        raise Fallback("a natural join over columns that aren't known")
    return [c for c in dict.fromkeys(c for x in sides[0] for c in x.shown) if any(c in x.shown for x in sides[1])]


def _first(tree: Tree, column: str) -> Leaf | None:
    """Return the first item with a column, if all columns of all items are known."""
    items = [x for x in leaves(tree) if x not in hidden(tree)]
    if any(x.columns is None for x in items):
        return None
    return next((x for x in items if column in (x.columns or ())), None)


def _star_covers(select: exp.Expr, alias: str) -> bool:
    """Does a select list read all columns of an item?"""
    for item in select.expressions:
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            if item.table.lower() == alias:
                return True
        elif is_star(item) or any(not isinstance(s.parent, exp.Count) for s in item.find_all(exp.Star)):
            return True
    return False


def _column_names(query: exp.Expr) -> tuple[str, ...] | None:
    """Return the names of a query's columns, if all are certain."""
    while isinstance(query, exp.SetOperation | exp.Subquery):
        query = query.left if isinstance(query, exp.SetOperation) else query.this
    if not isinstance(query, exp.Select):
        return None
    names = [output_name(e) for e in query.expressions]
    if any(n is None for n in names) or len({n.lower() for n in names if n}) < len(names):
        return None
    return tuple(n for n in names if n is not None)
