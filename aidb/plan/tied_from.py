"""The FROM clause of a query that is to be split: its items, what ties them, and what can be named of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sqlglot import exp

from aidb.catalog.relations import Relations
from aidb.errors import NotSupportedError
from aidb.plan.nodes import is_bare, listed, name_span, nested_queries, table_name, unwrapped, view_query
from aidb.plan.splits import Block, Cte, Names, Query, conjuncts, short, unique_names
from aidb.plan.ties import How, Joined, Scope, Shown, Source, Tie, Tree, equal_keys, scope_of
from aidb.plan.touching import Touching
from aidb.plan.unit import Unit, asked_fills, key_columns

WRITTEN = "aidb_written"
"""Mark of the tables that stand in the statement itself; of a view's query that was put there, `Written`."""


class Written(NamedTuple):
    """A table's name in a statement. span: where it stands. name: by which it goes, empty if an alias stands after it.

    columns: names that the alias gives. key: columns that hold the unit's key.
    """

    span: tuple[int, int]
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


def written(node: exp.Table, key: tuple[str, ...] | None) -> Written | None:
    """A table that stands in the statement itself; None if it does not, or does not show the key."""
    span = name_span(node) if node.meta.get(WRITTEN) else None
    if span is None or key is None:
        return None
    columns = listed((node.args.get("alias") or exp.TableAlias()).args.get("columns"))
    return Written(span, "" if node.alias else node.name, tuple(c.name for c in columns), key)


class QueryReader(Protocol):
    """Reads the queries that stand inside a FROM clause: `splitting.Splitting`."""

    relations: Relations
    touching: Touching
    unit: Unit
    blocks: list[Block]
    ctes: set[str]

    @property
    def places(self) -> int:
        """How many columns the key has."""

    def query(self, node: exp.Expr, names: Names, outer: Block | None) -> Query:
        """Read a query."""

    def ties(self, condition: exp.Expr, block: Block) -> list[Tie]:
        """What a condition ties."""

    def nested(self, expression: exp.Expr, names: Names, block: Block, certain: Sequence[exp.Expr] = ()) -> None:
        """Read the queries in an expression."""

    def asks_inside(self, node: exp.Expr, names: Names) -> bool:
        """Does anything inside depend on a model?"""

    def refused(self, why: str) -> NotSupportedError:
        """The error that says why not."""


class TiedFrom:
    """Reads FROM clauses."""

    def __init__(self, reader: QueryReader) -> None:
        self.reader = reader
        self._views: list[str] = []

    def tree(self, node: exp.Select, names: Names, block: Block) -> Tree | None:
        """The items of a SELECT and their joins; None without FROM."""
        clause = node.args.get("from_")
        if clause is None:
            return None
        tree = self._joins(self._item(clause.this, names, block), listed(node.args.get("joins")), names, block)
        block.scope = scope_of(tree)
        return tree

    def _joins(self, first: Tree, joins: Sequence[exp.Expr], names: Names, block: Block) -> Tree:
        """Join items from left to right; JOIN binds tighter than a comma."""
        before, done, current = block.scope, list[Tree](), first
        for join in joins:
            block.scope = _together(before, *map(scope_of, [*done, current]))  # a lateral item sees all to its left
            right = self._item(join.this, names, block)
            if any(join.args.get(k) for k in ("kind", "side", "method", "on", "using")):
                current = self._join(join, current, right, names, block)
            else:
                done.append(current)
                current = right
        for part in reversed(done):
            current = Joined("inner", part, current, scope=_together(scope_of(part), scope_of(current)))
        block.scope = before
        return current

    def _join(self, join: exp.Expr, left: Tree, right: Tree, names: Names, block: Block) -> Tree:
        side, kind, method = (str(join.args.get(a) or "").upper() for a in ("side", "kind", "method"))
        how = _how(side, kind, method)
        one, other = scope_of(left), scope_of(right)
        shared = [i.name for i in listed(join.args.get("using"))]
        if method == "NATURAL":
            theirs = {c.name.lower() for c in other.columns}
            shared = [c.name for c in one.columns if c.name.lower() in theirs]
        merged = [(n, _only(one, n), _only(other, n)) for n in shared]
        compared = merged[:-1] if how.startswith("asof") else merged
        equalities = [(a, b, False) for _, a, b in compared if a is not None and b is not None]
        around, block.scope = block.scope, _together(one, other)
        on = join.args.get("on")
        ties = equal_keys(equalities, self.reader.places)
        if on is not None:
            ties += self.reader.ties(on, block)
            self.reader.nested(on, names, block, conjuncts(on))
        block.scope = around
        scope = one if how in ("semi", "anti") else self._merged(how, one, other, merged)
        return Joined(how, left, right, ties, scope)

    @staticmethod
    def _merged(how: How, one: Scope, other: Scope, merged: Sequence[tuple[str, Shown | None, Shown | None]]) -> Scope:
        """Columns of a join with USING: a merged one stands where the left one stood."""
        made = {name.lower(): _merge(how, name, a, b) for name, a, b in merged}
        left = [made.get(c.name.lower(), c) for c in one.columns]
        hidden = [made[n.lower()] for n, a, _ in merged if a is None]
        right = [c for c in other.columns if c.name.lower() not in made]
        complete = one.complete and other.complete
        return Scope((*left, *hidden, *right), complete, (*one.sources, *other.sources))

    def _item(self, node: exp.Expr, names: Names, block: Block) -> Tree:
        if _is_brackets(node):
            inside = self._item(node.this, names, block)
            return self._joins(inside, listed(node.args.get("joins")), names, block)
        source = self._source(node, names, block)
        block.sources.append(source)
        if isinstance(node, exp.Table | exp.Subquery) and node.args.get("joins"):
            return self._joins(source, listed(node.args["joins"]), names, block)
        return source

    def _source(self, node: exp.Expr, names: Names, block: Block) -> Source:
        alias = node.alias_or_name
        if not alias:
            alias = f"__aidb_d{len(self.reader.blocks)}_{len(block.sources)}"
            if isinstance(node, exp.Subquery):
                node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        source = Source(alias.lower(), node, self.reader.places)
        given = [c.name for c in listed((node.args.get("alias") or exp.TableAlias()).args.get("columns"))]
        plain = not any(node.args.get(a) for a in ("pivots", "sample"))
        if plain and isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            if self._named(source, node, names, block, given):
                return source
        elif plain and isinstance(node, exp.Subquery | exp.Lateral) and isinstance(unwrapped(node.this), exp.Query):
            self._made(source, self.reader.query(node.this, names, block), given, block)
            return source
        if self.reader.asks_inside(node, names):
            raise self.reader.refused(f"{short(node)} reads models in a way that can't be split by items")
        for child in () if isinstance(node, exp.Subquery) else nested_queries(node):
            demand(self.reader.query(child, names, block), block)
        source.show((g, None) for g in given)
        return source

    def _named(self, source: Source, node: exp.Table, names: Names, block: Block, given: Sequence[str]) -> bool:
        """A CTE, a view or a relation of the catalog; False for a table that is none of these."""
        name = node.name.lower()
        if is_bare(node) and name in names:
            self._cte(source, names[name], given, block)
            return True
        name = table_name(node)
        if name in self.reader.relations.views:
            self._view(source, node, name, given, block)
            return True
        relation = self.reader.relations.get(name) if name else None
        if relation is None:
            return False
        source.relation = relation
        source.asks = bool(asked_fills(node, relation, self.reader.touching))
        key = key_columns(relation, self.reader.unit, self.reader.relations)
        holds = {} if key is None else {c.lower(): n for n, c in enumerate(key)}
        columns = [*given, *relation.columns[len(given) :]]
        source.show((c, holds.get(o.lower())) for c, o in zip(columns, relation.columns, strict=True))
        source.complete = True
        return True

    def _cte(self, source: Source, cte: Cte, given: Sequence[str], block: Block) -> None:
        if cte.recursive:
            if not cte.reading and self.reader.asks_inside(cte.node, cte.names):
                raise self.reader.refused(f"{source.node.name} is recursive")
            source.show((c, None) for c in given or cte.columns)
            return
        if cte.read is None:
            cte.reading = True
            cte.read = self.reader.query(cte.node, cte.names, cte.outer)
        self._made(source, cte.read, [*given, *cte.columns[len(given) :]], block)

    def _view(self, source: Source, node: exp.Table, name: str, given: Sequence[str], block: Block) -> None:
        """A view is put into the text where models are asked in it, so that what lies inside can be restricted."""
        if name in self._views:
            raise self.reader.refused(f"the view {name} reads itself")
        self._views.append(name)
        query, columns = view_query(self.reader.relations.views[name])
        inner = query.copy()
        self._keep_meaning(inner)
        read = self.reader.query(inner, {}, None)
        columns = [*given, *columns[len(given) :]]
        if read.is_split:
            alias = exp.TableAlias(
                this=exp.to_identifier(node.alias_or_name, quoted=True),
                columns=[exp.to_identifier(n, quoted=True) for n in columns],
            )
            source.node = exp.Subquery(this=inner, alias=alias, joins=node.args.get("joins"))
            node.replace(source.node)
        self._views.pop()
        self._made(source, read, columns, block)
        if source.node is not node:
            source.node.meta[WRITTEN] = written(node, source.key)

    def _keep_meaning(self, query: exp.Expr) -> None:
        """A table that a view names is that table still where the statement has a CTE of its name."""
        own = {c.alias.lower() for c in query.find_all(exp.CTE)}
        for table in query.find_all(exp.Table):
            name = table.name.lower()
            if is_bare(table) and name in self.reader.ctes and name not in own and table_name(table):
                if self.reader.relations.get(name) is None and name not in self.reader.relations.views:
                    raise self.reader.refused(
                        f"{name} is a CTE here and a table in a view: call the CTE something else"
                    )
                table.set("db", exp.to_identifier("main"))
                if not table.alias:
                    table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name, quoted=True)))

    def _made(self, source: Source, query: Query, given: Sequence[str], block: Block) -> None:
        """A FROM item whose rows are a query's."""
        source.made, source.asks = query, query.is_split
        names = unique_names(query.outputs)
        shown = [*given, *names[len(given) :]]
        places = [p for _, p in query.outputs]
        source.show((n or "", p if n else None) for n, p in zip(shown, [*places, *[None] * len(shown)], strict=False))
        source.complete = query.complete
        demand(query, block)


def _is_brackets(node: exp.Expr) -> bool:
    """Is it a join in brackets, rather than a query?"""
    if not isinstance(node, exp.Subquery) or not isinstance(node.this, exp.Table | exp.Subquery):
        return False
    return set(filter(node.args.get, node.args)) <= {"this", "joins"}


def demand(query: Query, block: Block) -> None:
    """What a query inside depends on must be restricted, here or further out."""
    for source in query.hooks:
        if source.owner is not None and source.owner in block.sources:
            block.linked.add(source)
        else:
            (block.demanded if source in block.sources else block.outward).add(source)


def _together(*scopes: Scope) -> Scope:
    columns = tuple(c for s in scopes for c in s.columns)
    return Scope(columns, all(s.complete for s in scopes), tuple(x for s in scopes for x in s.sources))


def _only(scope: Scope, name: str) -> Shown | None:
    """The column of this name, if there is exactly one."""
    hits = [c for c in scope.columns if c.name.lower() == name.lower()]
    return hits[0] if len(hits) == 1 else None


def _merge(how: How, name: str, one: Shown | None, other: Shown | None) -> Shown:
    """What USING makes of two columns: in a FULL JOIN whichever is there."""
    if how == "full":
        if one is None or other is None or one.place != other.place:
            return Shown(name, (), None)
        return Shown(one.name, (*one.of, *other.of), one.place)
    if how == "right":
        return other or Shown(name, (), None)
    if how == "inner" and other is not None and (one is None or one.place is None):
        return other
    return one or Shown(name, (), None)


def _how(side: str, kind: str, method: str) -> How:
    """What a join does; ``whole`` for one that looks at all rows at once."""
    forms: dict[tuple[str, str], How] = {
        ("", ""): "inner",
        ("", "LEFT"): "left",
        ("", "RIGHT"): "right",
        ("", "FULL"): "full",
        ("ASOF", ""): "asof",
        ("ASOF", "LEFT"): "asofleft",
    }
    if kind in ("SEMI", "ANTI"):
        return "whole" if side or method not in ("", "NATURAL") else "semi" if kind == "SEMI" else "anti"
    return forms.get(("" if method == "NATURAL" else method, side), "whole")
