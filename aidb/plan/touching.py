"""What a piece of a statement touches: relations with models behind them, virtual columns, the queries around it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from aidb.catalog.relations import Extension, Relation, Relations
from aidb.plan.names import with_keys
from aidb.plan.nodes import (
    has_volatile,
    is_aggregate,
    is_bare,
    is_star,
    listed,
    nested_queries,
    table_name,
    view_query,
    walk_own,
)
from aidb.plan.scopes import Cte
from aidb.plan.shown import shown_columns

Items = dict[str, frozenset[str] | None]
"""FROM items: alias -> columns, None where they aren't known."""


class Touching:
    """Answers for one statement; ``tree`` is its syntax tree before anything was changed in it."""

    def __init__(self, relations: Relations, tree: exp.Expr) -> None:
        self.relations = relations
        self._views: dict[str, bool] = {}
        self._named: set[str] = set()
        self._bare: set[str] = set()
        self._stars = False
        self._reads_all = False
        self.views_read: set[str] = set()
        self._collect(tree)

    def _collect(self, tree: exp.Expr) -> None:
        """Gather all column names of the statement and of the views that it reads."""
        todo = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
                self._named.add(node.name.lower())
                if not node.table:
                    self._bare.add(node.name.lower())
            elif isinstance(node, exp.Join):
                self._named.update(c.name.lower() for c in node.args.get("using") or ())
                self._reads_all |= node.args.get("method") == "NATURAL"
            elif isinstance(node, exp.Columns | exp.Pivot):
                self._reads_all = True
            elif isinstance(node, exp.Star):
                self._stars |= not isinstance(node.parent, exp.Count)
                for key in ("replace", "rename"):
                    todo += listed(node.args.get(key))
                continue
            elif table_name(node) in self.relations.views and table_name(node) not in self.views_read:
                self.views_read.add(table_name(node))
                self._collect(view_query(self.relations.views[table_name(node)])[0])
            for value in node.args.values():
                todo += listed(value)

    def mentions(self, extension: Extension, alias: str = "") -> bool:
        """Is one of its columns, or the whole row of this alias, named anywhere?"""
        if self._reads_all or alias in self._bare:
            return True
        return any(c.lower() in self._named for c in extension.columns)

    def used(self, relation: Relation, alias: str, unread: frozenset[str] | None) -> tuple[Extension, ...]:
        """Return the virtual columns that a reference may read, by name or by position, in the order of `with_keys`.

        unread: columns that are not read by position; None if none is.
        """
        shown = frozenset() if unread is None else frozenset(c.lower() for c in relation.columns) - unread
        read = (e for e in relation.extensions if self.mentions(e, alias) or any(c.lower() in shown for c in e.columns))
        return tuple(with_keys(read, relation))

    def relation(self, node: exp.Expr) -> Relation | None:
        """Return the relation of the catalog that a table reference names, CTEs left aside."""
        return self.relations.get(table_name(node)) if table_name(node) else None

    def unknown_in(self, relation: Relation) -> bool:
        """May something in it be unknown to this statement?"""
        return relation.fill is not None or any(self._stars or self.mentions(e) for e in relation.extensions)

    def touches(self, query: exp.Expr, env: Mapping[str, Cte]) -> bool:
        """Does a query read anything that models may still fill?"""
        for node in query.find_all(exp.Table):
            name = node.name.lower()
            if is_bare(node) and name in env:
                body = env[name].node
                if body is not None and body is not query and self.touches(body, env[name].env):
                    return True
                # A WITH deeper inside may shadow the name, or be shadowed: look at both meanings.
            relation = self.relation(node)
            if relation is not None and self.unknown_in(relation):
                return True
            if table_name(node) in self.relations.views and self._view_touches(table_name(node)):
                return True
        return False

    def _view_touches(self, name: str) -> bool:
        if name not in self._views:
            self._views[name] = False
            self._views[name] = self.touches(view_query(self.relations.views[name])[0], {})
        return self._views[name]

    def is_known(self, query: exp.Expr, env: Mapping[str, Cte]) -> bool:
        """Does a query mean the same wherever and whenever it is evaluated?"""
        return (
            not self.touches(query, env)
            and not self.uses_cte(query, env)
            and not has_volatile(query)
            and self.stands_alone(query, env)
        )

    def uses_cte(self, query: exp.Expr, env: Mapping[str, Cte]) -> bool:
        """Does a query name one of these CTEs?"""
        return any(is_bare(t) and t.name.lower() in env for t in query.find_all(exp.Table))

    def correlated(self, query: exp.Expr, env: Mapping[str, Cte]) -> bool:
        """Does a query use a column that it does not bind itself? In doubt about a node: yes; about a name: no."""
        return self._correlated(query, set(env), [], False)

    def stands_alone(self, query: exp.Expr, env: Mapping[str, Cte]) -> bool:
        """Does a query certainly bind all its columns itself, so that its text means the same anywhere?"""
        return not self._correlated(query, set(env), [], True)

    def _correlated(self, query: exp.Expr, ctes: set[str], chain: list[Items], strict: bool) -> bool:
        """strict: a name that an item of unknown columns may have counts as not bound."""
        if isinstance(query, exp.SetOperation):
            inner = ctes | _with_names(query)
            return any(self._correlated(side, inner, chain, strict) for side in (query.left, query.right))
        if isinstance(query, exp.Subquery):
            return self._correlated(query.this, ctes | _with_names(query), chain, strict)
        if isinstance(query, exp.Values):
            return False
        if not isinstance(query, exp.Select):
            return True
        ctes = ctes | _with_names(query)
        items, conditions, derived = self._items(query, ctes)
        around = [items, *chain]
        names = {e.alias.lower() for e in query.expressions if isinstance(e, exp.Alias)}
        if any(self._correlated(d, ctes, chain, strict) for d in derived):
            return True
        for key, value in query.args.items():
            if key not in ("from_", "with_", "joins"):
                conditions += listed(value)
        return any(self._reads_outside(c, ctes, around, names, strict) for c in conditions)

    def _items(self, query: exp.Expr, ctes: set[str]) -> tuple[Items, list[exp.Expr], list[exp.Expr]]:
        """Return the FROM items of a SELECT with their columns, its join conditions, and its derived tables."""
        items: Items = {}
        conditions: list[exp.Expr] = []
        derived: list[exp.Expr] = []
        clause = query.args.get("from_")
        if clause is not None:
            self._bind(clause.this, ctes, items, conditions, derived)
        for join in query.args.get("joins") or ():
            conditions += listed(join.args.get("on"))
            self._bind(join.this, ctes, items, conditions, derived)
        return items, conditions, derived

    def aggregates_outside(self, query: exp.Expr, outside: frozenset[str]) -> bool:
        """Might an aggregate in a nested query be over columns of the query around, which it then aggregates?

        outside: names of columns of the query around.
        """
        for node in query.find_all(exp.Func):
            if not is_aggregate(node, self.relations.aggregates):
                continue
            columns = [c for c in node.find_all(exp.Column) if not is_star(c)]
            if columns and not any(self._binds(query, c, outside) for c in columns):
                return True
        return False

    def _binds(self, query: exp.Expr, column: exp.Column, outside: frozenset[str]) -> bool:
        """Does some SELECT between a column and the root of a query have it in its FROM clause?"""
        node: exp.Expr | None = column
        while node is not None:
            if isinstance(node, exp.Select):
                items, _, _ = self._items(node, set())
                if column.table:
                    if column.table.lower() in items:
                        return True
                elif any(c is not None and column.name.lower() in c for c in items.values()) or (
                    column.name.lower() not in outside and any(c is None for c in items.values())
                ):
                    return True
            if node is query:
                return False
            node = node.parent
        return False

    def _bind(
        self,
        source: exp.Expr,
        ctes: set[str],
        items: Items,
        conditions: list[exp.Expr],
        derived: list[exp.Expr],
    ) -> None:
        """Note the columns that a FROM item brings, None where they aren't known."""
        for join in source.args.get("joins") or ():
            conditions += listed(join.args.get("on"))
            self._bind(join.this, ctes, items, conditions, derived)
        if isinstance(source, exp.Subquery) and isinstance(source.this, exp.Table) and not source.alias:
            self._bind(source.this, ctes, items, conditions, derived)
            return
        names: tuple[str, ...] | None = None
        if isinstance(source, exp.Subquery | exp.Lateral):
            derived.append(source.this)
            names = self._shown(source.this, ctes) if isinstance(source, exp.Subquery) else None
        elif isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            is_cte = is_bare(source) and source.name.lower() in ctes
            relation = None if is_cte else self.relation(source)
            if relation is not None:
                names = all_columns(relation)
            elif table_name(source) in self.relations.views and not is_cte:
                query, given = view_query(self.relations.views[table_name(source)])
                names = None if given else self._shown(query, set())
        else:
            conditions += source.find_all(exp.Column)
        alias = source.args.get("alias")
        if names is not None and isinstance(alias, exp.TableAlias):
            names = (*(c.name for c in alias.columns), *names[len(alias.columns) :])
        items[source.alias_or_name.lower()] = None if names is None else frozenset(n.lower() for n in names)

    def _shown(self, query: exp.Expr, ctes: set[str]) -> tuple[str, ...] | None:
        """Return the names of a query's columns, None if they can't be told."""
        return shown_columns(query, dict.fromkeys(ctes, Cte(None, {})), self.relations)

    def _reads_outside(self, node: exp.Expr, ctes: set[str], chain: list[Items], names: set[str], strict: bool) -> bool:
        for inner in walk_own(node):
            if not isinstance(inner, exp.Column) or is_star(inner):
                continue
            name, table = inner.name.lower(), inner.table.lower()
            if table:
                bound = any(table in items for items in chain)
            else:
                columns = [c for items in chain for c in items.values()]
                bound = any(c is not None and name in c for c in columns)
                if not strict:
                    bound = bound or name in names or None in columns
            if not bound:
                return True
        return any(self._correlated(q, ctes, chain, strict) for q in nested_queries(node))


def all_columns(relation: Relation) -> tuple[str, ...]:
    """Return the columns of a relation, virtual ones that ``*`` doesn't show included."""
    shown = {c.lower() for c in relation.columns}
    return (*relation.columns, *(c for e in relation.extensions for c in e.columns if c.lower() not in shown))


def _with_names(query: exp.Expr) -> set[str]:
    clause = query.args.get("with_")
    return {c.alias.lower() for c in clause.expressions} if clause else set()
