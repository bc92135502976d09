"""The FROM clause: from tables, derived tables, CTEs, views and joins to a tree of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from sqlglot import exp

from aidb.catalog.relations import Extension, Relation, Relations
from aidb.plan.joins import Joiner
from aidb.plan.names import quote
from aidb.plan.nested import under
from aidb.plan.nodes import (
    has_volatile,
    is_bare,
    name_span,
    sql_of,
    table_name,
    unwrapped,
    view_query,
)
from aidb.plan.possible import possible
from aidb.plan.rows import ScopeRows, SetRows
from aidb.plan.scopes import Cte, Outer, Place, Scope, at_top
from aidb.plan.shown import shown_columns
from aidb.plan.sources import KNOWN, Fallback, Flag, Flags, Join, Leaf, Pair, Target, Tree, hidden, leaves
from aidb.plan.touching import Touching

QueryRows = ScopeRows | SetRows

_KINDS = {"LEFT": "left", "RIGHT": "right", "FULL": "full", "SEMI": "semi", "ANTI": "anti"}


@dataclass(frozen=True)
class Extended:
    """A reference whose virtual columns are read; where its name stands in the text (None: not in this text)."""

    relation: Relation
    extensions: tuple[Extension, ...]
    span: tuple[int, int] | None
    aliased: bool


class QueryReader(Protocol):
    """Reads the queries that stand inside a FROM clause: `aidb.plan.analysis.Analysis`."""

    relations: Relations
    touching: Touching
    joiner: Joiner
    seen: set[str]

    def query(
        self,
        node: exp.Expr,
        env: Mapping[str, Cte],
        outer: Outer | None,
        place: Place,
        *,
        prune: bool = False,
        demanded: bool = True,
    ) -> QueryRows | None:
        """Read a query."""

    def stand_alone(self, rows: QueryRows | None) -> None:
        """Let a query that was to be pruned from outside stand alone after all."""

    def read_all(self, node: exp.Expr) -> None:
        """Note that all rows of every relation below a node are needed."""

    def read_ctes(self, node: exp.Expr, env: Mapping[str, Cte]) -> None:
        """Note that all rows of the CTEs that a node names are needed."""


class FromClause:
    """Reads FROM clauses. extended: the references whose virtual columns are read."""

    def __init__(self, reader: QueryReader) -> None:
        self.reader = reader
        self.extended: list[Extended] = []
        self._numbers = count()

    def tree(self, scope: Scope, first: exp.Expr, joined: Sequence[exp.Join]) -> Tree:
        """Read a whole FROM clause."""
        return self._joined(scope, self._item(scope, first, None), joined)

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
        complete = True
        if method == "NATURAL":
            common = _common(left, right)
            complete, names = common is not None, common or []
        pairs = []
        for n, name in enumerate(names):
            operator = ">=" if how.startswith("asof") and n == len(names) - 1 else "="
            holders = _first(left, name), _first(right, name)
            if holders[0] is not None and holders[1] is not None:
                pairs.append(Pair(holders[0], holders[1], name, operator))
            else:
                complete = False
            scope.using.add(name)
        scope.merged |= bool(names) and how in ("right", "full")
        return Join(how, left, right, node.args.get("on"), pairs, complete)

    def _item(self, scope: Scope, node: exp.Expr, left: Tree | None, *, own_joins: bool = True) -> Tree:
        """Read one FROM item; ``left``: the items before it, which a lateral one can read."""
        given = node.args.get("alias")
        renamed = tuple(c.name for c in given.columns) if isinstance(given, exp.TableAlias) else ()
        alias = node.alias_or_name.lower() or f"__d{next(self._numbers)}"
        if own_joins and node.args.get("joins") and isinstance(node, exp.Table | exp.Subquery):
            return self._joined(scope, self._item(scope, node, left, own_joins=False), node.args["joins"])
        if node.args.get("pivots"):
            self.pivoted(node.this if isinstance(node, exp.Subquery) else node, scope.env)
            return self._opaque(alias)
        if node.args.get("sample") or isinstance(node, exp.TableSample):
            self.reader.read_ctes(node, scope.env)
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
                self.pivoted(query.this, scope.env)
                return self._opaque(alias)
        if not node.find(exp.Column, exp.Query) and not has_volatile(node):
            text = _alone(node) if node.args.get("alias") else f"{_alone(node)} AS {quote(alias)}"
            columns = {c.lower(): KNOWN for c in renamed} if renamed else None
            return Leaf(alias, columns, text, shown=tuple(c.lower() for c in renamed))
        self.reader.read_ctes(node, scope.env)
        return self._opaque(alias, node)

    def _table(self, scope: Scope, node: exp.Table, alias: str, renamed: tuple[str, ...]) -> Leaf:
        name = node.name.lower()
        if is_bare(node) and name in scope.env:
            cte = scope.env[name]
            if cte.node is None:
                return self._opaque(alias)  # the recursive reference itself
            return self._derived(scope, cte.node.copy(), alias, renamed or cte.columns, cte.env, None, cte)
        relation = self.reader.relations.get(table_name(node)) if table_name(node) else None
        if relation is not None:
            return self._relation(scope, relation, alias, renamed, node)
        if table_name(node) in self.reader.relations.views:
            query, columns = view_query(self.reader.relations.views[name])
            query = query.copy()
            for identifier in query.find_all(exp.Identifier):
                identifier.meta.clear()  # positions in the view's text mean nothing in the statement's
            return self._derived(scope, query, alias, renamed or tuple(columns), {}, None, Cte(query, {}))
        stored = node.copy()
        stored.set("alias", None)
        return Leaf(
            alias,
            None,
            f"{_alone(stored)} AS {quote(alias)}" + (f"({', '.join(map(quote, renamed))})" if renamed else ""),
        )

    def _relation(
        self, scope: Scope, relation: Relation, alias: str, renamed: tuple[str, ...], node: exp.Table
    ) -> Leaf:
        """Return a reference to a relation of the catalog, with a target for each unknown part that is read."""
        self.reader.seen.add(relation.name.lower())
        unread = frozenset() if renamed else _left_out(scope.node, alias) if scope.demanded else None
        extensions = self.reader.touching.used(relation, alias, unread)
        if extensions:
            self.extended.append(Extended(relation, extensions, name_span(node), bool(node.alias)))
        rows = possible(relation, extensions, self.reader.relations)
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
        correlated = self.reader.touching.correlated(query, env)
        if not self.reader.touching.touches(query, env):
            return self._known_query(query, alias, renamed, env)
        if correlated and cte is None:
            self._lateral(scope, query, env, left)
            return self._opaque(alias)
        if cte is not None and (cte.recursive or correlated):
            self.reader.query(query, env, None, at_top)
            return self._opaque(alias)
        demanded = bool(renamed) or (scope.demanded and _left_out(scope.node, alias) is not None)
        place = at_top if cte is not None else scope.place
        rows = self.reader.query(query, env, None, place, prune=True, demanded=demanded)
        outputs = rows.outputs() if rows is not None else None
        if rows is None or outputs is None:
            self.reader.stand_alone(rows)
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

    def _known_query(self, query: exp.Expr, alias: str, renamed: tuple[str, ...], env: Mapping[str, Cte]) -> Leaf:
        """Return a derived table that no model can change, as its own text."""
        text = self._standing_text(query, env)
        if text is None or not self.reader.touching.stands_alone(query, env):
            return self._opaque(alias)
        names = shown_columns(query, env, self.reader.relations)
        names = None if names is None else (*renamed, *names[len(renamed) :])
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
        if not self.reader.touching.uses_cte(query, env):
            return sql_of(query)
        parts = []
        recursive = ""
        for name, cte in env.items():
            if cte.node is None or self.reader.touching.touches(cte.node, cte.env):
                continue
            if has_volatile(cte.node):
                return None
            recursive = "RECURSIVE " if cte.recursive else recursive
            columns = f"({', '.join(map(quote, cte.columns))})" if cte.columns else ""
            parts.append(f"{quote(name)}{columns} AS ({sql_of(cte.node)})")
        return f"WITH {recursive}{', '.join(parts)} SELECT * FROM ({sql_of(query)})" if parts else None

    def _lateral(self, scope: Scope, query: exp.Expr, env: Mapping[str, Cte], left: Tree | None) -> None:
        """Read a derived table that uses the items before it, once the whole FROM clause is known."""
        unseen = hidden(left)
        visible = tuple(x for x in leaves(left) if x not in unseen)
        outer = Outer(scope, visible)
        scope.laterals.append(lambda: _void(self.reader.query(query, env, outer, under(self.reader.joiner, scope))))

    def _opaque(self, alias: str, node: exp.Expr | None = None) -> Leaf:
        if node is not None:
            self.reader.read_all(node)
        return Leaf(alias, None, virtual=True, opaque=True)

    def pivoted(self, source: exp.Expr, env: Mapping[str, Cte]) -> None:
        """Read what PIVOT or UNPIVOT turns round: a nested query is pruned inside, of a table all rows are needed."""
        query = unwrapped(source)
        if isinstance(query, exp.Query) and not isinstance(query, exp.Subquery) and not source.args.get("joins"):
            self.reader.query(query, env, None, at_top)
        else:
            self.reader.read_all(source)
            self.reader.read_ctes(source, env)


def _void(_: object) -> None:
    """Forget a result."""


def _crossed(trees: Sequence[Tree]) -> Tree:
    """Return the cross product of comma-separated items."""
    current = trees[0]
    for tree in trees[1:]:
        current = Join("inner", current, tree)
    return current


def _common(left: Tree, right: Tree) -> list[str] | None:
    """Return the columns that a NATURAL join compares, None if they can't be told."""
    sides = [[x for x in leaves(t) if x not in hidden(t)] for t in (left, right)]
    if any(x.columns is None for side in sides for x in side):
        return None
    return [c for c in dict.fromkeys(c for x in sides[0] for c in x.shown) if any(c in x.shown for x in sides[1])]


def _first(tree: Tree, column: str) -> Leaf | None:
    """Return the first item with a column, if all columns of all items are known."""
    items = [x for x in leaves(tree) if x not in hidden(tree)]
    if any(x.columns is None for x in items):
        return None
    return next((x for x in items if column in (x.columns or ())), None)


def _left_out(select: exp.Expr, alias: str) -> frozenset[str] | None:
    """Return the columns of an item that no star in a select list reads; None if no star reads any."""
    found: list[frozenset[str]] = []
    for item in select.expressions:
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Star) and item.table.lower() != alias:
            continue
        stars = [s for s in item.find_all(exp.Star) if not isinstance(s.parent, exp.Count)]
        found += [frozenset(e.name.lower() for e in s.args.get("except_") or ()) for s in stars]
    return frozenset.intersection(*found) if found else None


def _alone(node: exp.Expr) -> str:
    """The text of a FROM item; where FROM comes first sqlglot hangs the joins on it, and they are no part of it."""
    if not node.args.get("joins"):
        return sql_of(node)
    bare = node.copy()
    bare.set("joins", None)
    return sql_of(bare)
