"""Does a query's answer fall apart into one part for each item? A sample of items then tells of the whole.

The **unit** of a guarantee is what a model call pays for: a row of the blob table (or, for virtual columns on a plain
table, the values that the model sees). A query can be sampled by units if restricting every reference that descends from
the blob table to some units gives exactly those units' part of the answer. That holds where all such references are tied
together by the key: by joins, by correlation, by IN, or inside derived tables that show the key. `Units.of` proves it
or raises `NotSupportedError` naming what is not tied; it never guesses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from aidb.catalog.relations import Fill, Relation, Relations
from aidb.errors import NotSupportedError
from aidb.plan.nodes import (
    expression_of,
    is_aggregate,
    is_bare,
    is_star,
    listed,
    nested_queries,
    output_name,
    parse,
    table_name,
    unwrapped,
    view_query,
    walk_own,
)
from aidb.sql.render import fill_columns


@dataclass(frozen=True)
class Unit:
    """What is sampled. table: the blob table, or the plain table with virtual columns; keys: columns that name a unit."""

    table: str
    keys: tuple[str, ...]
    null_safe: bool


@dataclass(eq=False)
class Source:
    """One FROM item. key: its columns that hold the unit's key, or None; asks: do its rows depend on a model?"""

    alias: str
    node: exp.Expr
    columns: frozenset[str] | None
    key: tuple[str, ...] | None = None
    asks: bool = False
    tied_to: Source | None = None

    def root(self) -> Source:
        """The representative of everything that is tied to this by the key."""
        found = self
        while found.tied_to is not None:
            found = found.tied_to
        return found


@dataclass(frozen=True)
class Carried:
    """What a query hands outwards. asks: does it depend on a model? key: its columns that hold the unit's key."""

    asks: bool
    key: tuple[str, ...] | None
    columns: frozenset[str] | None


@dataclass(eq=False)
class Block:
    """One SELECT: its FROM items, those of its correlated queries that are tied to them, the query around it."""

    node: exp.Select
    outer: Block | None
    sources: list[Source] = field(default_factory=list)
    inner: list[Source] = field(default_factory=list)
    outer_joins: list[tuple[str, Source, list[Source]]] = field(default_factory=list)
    """(``LEFT``, ``RIGHT`` or ``FULL``; what is joined; what it is joined to)"""

    def find(self, column: exp.Expr) -> tuple[Source, str] | None:
        """The FROM item, here or further out, that a column belongs to, and its lower-case name."""
        column = column.unnest() if isinstance(column, exp.Paren) else column
        if not isinstance(column, exp.Column) or isinstance(column.this, exp.Star):
            return None
        name, qualifier = column.name.lower(), column.table.lower()
        if qualifier:
            hits = [s for s in self.sources if s.alias == qualifier]
        else:
            hits = [s for s in self.sources if s.columns is not None and name in s.columns]
        if hits:
            return hits[0], name
        return None if self.outer is None else self.outer.find(column)


@dataclass(frozen=True)
class Units:
    """A query that can be sampled by units.

    tree: the query, views expanded. unit: see `Unit`. restricted: the FROM items that must be restricted to some units
    (nodes of the tree) with their key columns. top: the outermost block; key: the tied FROM item there that shows the key.
    """

    tree: exp.Expr
    unit: Unit
    restricted: tuple[tuple[exp.Table, tuple[str, ...]], ...]
    top: Block
    key: Source

    @staticmethod
    def of(sql: str, relations: Relations) -> Units:
        """Raises `NotSupportedError` where the query can't be sampled by units."""
        tree = unwrapped(parse(sql))
        reader = _Reader(relations, unit_of(tree, relations))
        top, key = reader.top(tree)
        restricted = tuple((n, k) for n, k in reader.tables)
        return Units(tree, reader.unit, restricted, top, key)


def unit_of(tree: exp.Expr, relations: Relations) -> Unit:
    """The one unit of everything that a query asks models for."""
    roots: dict[str, set[str]] = {}
    nullable = False
    todo, seen = [tree], set[str]()
    while todo:
        for table in todo.pop().find_all(exp.Table):
            name = table_name(table)
            if name in relations.views and name not in seen:
                seen.add(name)
                todo.append(view_query(relations.views[name])[0])
            relation = relations.get(name) if name else None
            for fill in fills_of(relation):
                root, keys, null_safe = root_of(fill, relations)
                nullable |= null_safe
                roots.setdefault(root.lower(), set()).update(keys)
    if not roots:
        raise NotSupportedError("the query asks no model for anything")
    if len(roots) > 1:
        raise NotSupportedError(
            f"a guarantee needs one table of items to draw a sample from, and this query asks models about "
            f"{' and '.join(sorted(roots))}: leave the guarantee out, or ask about one of them at a time"
        )
    name, found = next(iter(roots.items()))
    relation = relations.get(name)
    order = relation.columns if relation is not None else tuple(sorted(found))
    return Unit(name, tuple(c for c in order if c in found) or tuple(sorted(found)), nullable)


def fills_of(relation: Relation | None) -> Iterator[Fill]:
    """What fills a relation's rows and columns."""
    if relation is not None:
        if relation.fill is not None:
            yield relation.fill
        yield from (e.fill for e in relation.extensions)


def root_of(fill: Fill, relations: Relations) -> tuple[str, tuple[str, ...], bool]:
    """The table that a fill's items descend from, the columns there that name one, and whether those may be NULL."""
    found: set[tuple[str, tuple[str, ...], bool]] = set()
    for parent in fill.parents:
        relation = relations.get(parent)
        if relation is not None and relation.fill is not None:
            found.add(root_of(relation.fill, relations))
        else:
            keys = fill.keys if relation is None or not relation.key else relation.key
            base = parent if relation is None else relation.name
            found.add((base.lower(), tuple(keys), fill.null_safe))
    if len(found) != 1:
        raise NotSupportedError(
            f"{fill.model} sees pairs of {' and '.join(fill.parents)}; a guarantee needs one table of items to draw a "
            "sample from: leave the guarantee out for the exact answer"
        )
    return found.pop()


class _Reader:
    def __init__(self, relations: Relations, unit: Unit) -> None:
        self.relations, self.unit = relations, unit
        self.tables: list[tuple[exp.Table, tuple[str, ...]]] = []
        self._views: list[str] = []

    def top(self, tree: exp.Expr) -> tuple[Block, Source]:
        """The outermost block, and the FROM item there that shows the key."""
        if not isinstance(tree, exp.Select):
            raise self._refused(f"{type(tree).__name__.upper()} can't be sampled by items: put it into a subquery")
        block = self._block(tree, {}, None)
        sources = self._tied(block)
        shown = [s for s in sources if s in block.sources]
        if not shown:
            raise self._refused("nothing in its FROM shows the key of the items")
        self._check_windows(block, tree)
        return block, shown[0]

    # ---- one SELECT

    def _block(self, node: exp.Select, env: Mapping[str, Carried], outer: Block | None) -> Block:
        env = self._with(node, env, outer)
        block = Block(node, outer)
        first = node.args.get("from_") or node.args.get("from")
        if first is not None:
            block.sources.append(self._source(first.this, env, block))
        for join in listed(node.args.get("joins")):
            self._join(join, env, block)
        where = node.args.get("where")
        if where is not None:
            self._tie(conjuncts(where.this), block)
        for part in ("expressions", "where", "having", "qualify", "group", "order", "distinct", "windows"):
            for expression in listed(node.args.get(part)):
                self._nested(expression, env, block)
        if node.args.get("sample"):
            raise self._refused("it samples by itself (USING SAMPLE)")
        return block

    def _with(self, node: exp.Select, env: Mapping[str, Carried], outer: Block | None) -> Mapping[str, Carried]:
        clause = node.args.get("with_") or node.args.get("with")
        if clause is None:
            return env
        known = dict(env)
        for cte in clause.expressions:
            if clause.args.get("recursive") and self._asks_inside(cte.this):
                raise self._refused(f"{cte.alias} is recursive")
            names = [c.name.lower() for c in listed(cte.args["alias"].args.get("columns"))]
            known[cte.alias.lower()] = _renamed(self._derived(cte.this, known, outer), cte.this, names)
        return known

    def _source(self, node: exp.Expr, env: Mapping[str, Carried], block: Block) -> Source:
        alias = node.alias_or_name.lower()
        if isinstance(node, exp.Table) and not node.args.get("pivots") and not node.args.get("sample"):
            name = table_name(node)
            if is_bare(node) and name in env:
                carried = env[name]
                return Source(alias, node, carried.columns, carried.key, carried.asks)
            if name in self.relations.views and self._asks_inside(node):
                return self._view(node, name, alias, env, block)
            relation = self.relations.get(name) if name else None
            if relation is not None:
                return self._relation(node, relation, alias)
        elif isinstance(node, exp.Subquery) and not node.args.get("pivots") and not node.args.get("sample"):
            columns = [c.name.lower() for c in listed((node.args.get("alias") or exp.TableAlias()).args.get("columns"))]
            carried = _renamed(self._derived(node.this, env, block), unwrapped(node), columns)
            if not alias:
                alias = f"__aidb_d{len(block.sources)}"
                node.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
            return Source(alias, node, carried.columns, carried.key, carried.asks)
        if self._asks_inside(node):
            raise self._refused(f"{node.sql('duckdb')} reads models in a way that can't be split by items")
        return Source(alias, node, None)

    def _view(self, node: exp.Table, name: str, alias: str, env: Mapping[str, Carried], block: Block) -> Source:
        if name in self._views:
            raise self._refused(f"the view {name} reads itself")
        self._views.append(name)
        query, names = view_query(self.relations.views[name])
        inner = query.copy()
        carried = _renamed(self._derived(inner, {}, None), unwrapped(inner), [n.lower() for n in names])
        self._views.pop()
        table_alias = exp.TableAlias(
            this=exp.to_identifier(node.alias_or_name, quoted=True),
            columns=[exp.to_identifier(n, quoted=True) for n in names],
        )
        expanded = exp.Subquery(this=inner, alias=table_alias)
        node.replace(expanded)
        return Source(alias, expanded, carried.columns, carried.key, carried.asks)

    def _relation(self, node: exp.Table, relation: Relation, alias: str) -> Source:
        columns = frozenset(c.lower() for c in relation.columns)
        key = self._key_in(relation)
        source = Source(alias, node, columns, key, relation.touches_models)
        if key is not None and listed((node.args.get("alias") or exp.TableAlias()).args.get("columns")):
            raise self._refused(f"{alias} renames the columns of {relation.name} in FROM")
        return source

    def _key_in(self, relation: Relation) -> tuple[str, ...] | None:
        """The columns of a relation that hold the unit's key."""
        unit = self.unit
        has = {c.lower() for c in relation.columns}
        if relation.name.lower() == unit.table:
            return tuple(k.lower() for k in unit.keys)
        lineage = {root_of(f, self.relations)[0] for f in fills_of(relation)}
        if unit.table not in lineage:
            return None
        if all(k.lower() in has for k in unit.keys):
            return tuple(k.lower() for k in unit.keys)
        if relation.fill is None:
            return None
        stored = [c.lower() for c in fill_columns(relation.fill)]
        return tuple(relation.columns[stored.index(k.lower())].lower() for k in unit.keys)

    # ---- joins

    def _join(self, join: exp.Expr, env: Mapping[str, Carried], block: Block) -> None:
        before = list(block.sources)
        source = self._source(join.this, env, block)
        block.sources.append(source)
        side, kind, method = (str(join.args.get(a) or "").upper() for a in ("side", "kind", "method"))
        using = [i.name.lower() for i in listed(join.args.get("using"))]
        on = join.args.get("on")
        if method == "NATURAL" and source.key is not None:
            common = [s for s in before if s.columns and source.columns and s.columns & source.columns]
            using = sorted(set().union(*(s.columns & source.columns for s in common if s.columns and source.columns)))
        elif method and method != "NATURAL" and (source.asks or any(s.asks for s in before)):
            raise self._refused(f"a {method} JOIN can't be split by items")
        self._tie_using(using, before, source)
        if on is not None:
            self._tie(conjuncts(on), block)
            self._nested(on, env, block)
        if side or kind in ("SEMI", "ANTI"):
            block.outer_joins.append((side or "LEFT", source, before))

    def _check_outer_joins(self, block: Block, tied: list[Source]) -> None:
        """Rows that an outer join keeps without a partner must be some unit's own."""
        for side, source, before in block.outer_joins:
            right, left = source in tied, any(s in tied for s in before)
            kept_left, kept_right = side in ("LEFT", "FULL"), side in ("RIGHT", "FULL")
            if (kept_left and right and not left) or (kept_right and left and not right):
                raise self._untied(source.alias, "to what its outer join keeps")

    def _tie_using(self, using: Iterable[str], before: list[Source], source: Source) -> None:
        names = set(using)
        for other in before:
            both = other.key is not None and source.key is not None
            if both and other.key == source.key and set(source.key or ()) <= names:
                _unite(other, source)

    def _tie(self, conditions: Iterable[exp.Expr], block: Block) -> None:
        """Tie FROM items whose keys the conditions equate."""
        equal: dict[tuple[int, int], tuple[Source, Source, set[int]]] = {}
        for condition in conditions:
            if not isinstance(condition, exp.EQ | exp.NullSafeEQ):
                continue
            left, right = block.find(condition.left), block.find(condition.right)
            if left is None or right is None or left[0] is right[0]:
                continue
            (a, x), (b, y) = left, right
            if a.key is None or b.key is None or x not in a.key or y not in b.key or a.key.index(x) != b.key.index(y):
                continue
            first, second = (a, b) if id(a) < id(b) else (b, a)
            equal.setdefault((id(first), id(second)), (first, second, set()))[2].add(a.key.index(x))
        for one, other, places in equal.values():
            if len(places) == len(self.unit.keys):
                _unite(one, other)

    def _tied(self, block: Block) -> list[Source]:
        """The FROM items of a block that must be restricted: all that depend on a model, and all tied to them by the key."""
        own = [*block.sources, *block.inner]
        asking = [s for s in own if s.asks]
        if not asking:
            return []
        root = asking[0].root()
        for source in asking:
            if source.key is None:
                raise self._refused(
                    f"{source.alias} does not show the key {', '.join(self.unit.keys)}: select it there"
                )
            if source.root() is not root:
                raise self._untied(source.alias, f"to {asking[0].alias}")
        tied = [s for s in own if s.root() is root]
        self._check_outer_joins(block, tied)
        for source in tied:
            if isinstance(source.node, exp.Table) and self._is_stored(source):
                assert source.key is not None
                self.tables.append((source.node, source.key))
        block.inner = []
        return tied

    def _is_stored(self, source: Source) -> bool:
        name = table_name(source.node)
        relation = self.relations.get(name)
        return (
            relation is not None
            and self._key_in(relation) is not None
            and source.columns == frozenset(c.lower() for c in relation.columns)
        )

    # ---- queries inside

    def _derived(self, query: exp.Expr, env: Mapping[str, Carried], outer: Block | None) -> Carried:
        """A derived table or CTE: does it fall apart by units, and which of its columns is the key?"""
        query = unwrapped(query)
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, env, outer)
        if not isinstance(query, exp.Select):
            if self._asks_inside(query):
                raise self._refused(
                    f"{type(query).__name__.upper()} reads models in a way that can't be split by items"
                )
            return Carried(False, None, None)
        block = self._block(query, env, outer)
        tied = self._tied(block)
        columns = _output_columns(block)
        if not tied:
            return Carried(False, self._shown(block, [s for s in block.sources if s.key is not None][:1]), columns)
        if outer is not None and any(s not in block.sources for s in tied if s.root() is tied[0].root()):
            outer.inner += [s for s in tied if s in outer.sources]
        key = self._shown(block, tied)
        self._check_splits(block, query, key, tied)
        return Carried(True, key, columns)

    def _set_operation(self, query: exp.SetOperation, env: Mapping[str, Carried], outer: Block | None) -> Carried:
        left, right = self._derived(query.this, env, outer), self._derived(query.expression, env, outer)
        asks = left.asks or right.asks
        names = _names(unwrapped(query.this)), _names(unwrapped(query.expression))
        same = left.key is not None and right.key is not None and names[0] is not None and names[1] is not None
        if same and not query.args.get("by_name"):
            assert left.key is not None
            assert right.key is not None
            assert names[0] is not None
            assert names[1] is not None
            same = [names[0].index(k) for k in left.key] == [names[1].index(k) for k in right.key]
        if asks and not same:
            raise self._refused("not every part of its UNION shows the key of the items in the same column")
        if asks and any(query.args.get(a) for a in ("limit", "offset")):
            raise self._refused("LIMIT in a subquery depends on all items at once")
        if asks and not (left.asks and right.asks):
            raise self._refused("one part of its UNION asks models and the other does not")
        return Carried(asks, left.key if same else None, None if names[0] is None else frozenset(names[0]))

    def _nested(self, expression: exp.Expr, env: Mapping[str, Carried], block: Block) -> None:
        """Queries in an expression: tied by correlation, or by IN on the key; or they ask no model."""
        for query in nested_queries(expression):
            if not self._asks_inside(query) and not any(
                isinstance(t, exp.Table) and table_name(t) in env and env[table_name(t)].asks
                for t in query.find_all(exp.Table)
            ):
                continue
            inner = unwrapped(query)
            around = query.parent
            while isinstance(around, exp.Subquery | exp.Paren):
                around = around.parent
            if isinstance(inner, exp.Select):
                found = self._block(inner, env, block)
                asking = [s for s in (*found.sources, *found.inner) if s.asks]
                outside = _all_sources(block)
                hooks = [s for s in outside if asking and s.key is not None and s.root() is asking[0].root()]
                if asking and hooks:
                    tied = self._tied(found)
                    block.inner += [s for s in tied if s.root() is hooks[0].root()]
                    # A hook may be known for itself; it is restricted since the query inside depends on a model.
                    block.inner += [_asking_like(hooks[0])] if hooks[0] in block.sources else []
                    if hooks[0] not in block.sources and block.outer is not None:
                        block.outer.inner.append(_asking_like(hooks[0]))
                    continue
                if not asking:
                    continue
                carried = self._again(inner, found, env)
            else:
                carried = self._derived(inner, env, block)
            hook = self._in_hook(around, query, inner, carried, block)
            if hook is None:
                raise self._refused(
                    f"the subquery ({inner.sql('duckdb')[:60]}...) reads models and is not tied to the row around it by "
                    f"{', '.join(self.unit.keys)}"
                )
            block.inner.append(_asking_like(hook))

    def _again(self, query: exp.Select, block: Block, env: Mapping[str, Carried]) -> Carried:
        """A nested query that was read already, as a derived table."""
        tied = self._tied(block)
        key = self._shown(block, tied)
        self._check_splits(block, query, key, tied)
        return Carried(True, key, _output_columns(block))

    def _in_hook(
        self, around: exp.Expr | None, query: exp.Expr, inner: exp.Expr, carried: Carried, block: Block
    ) -> Source | None:
        """The FROM item whose key stands before ``IN (query)``, where the query's one column is the key too."""
        value = None
        if isinstance(around, exp.In) and around.args.get("query") is not None:
            value = around.this
        elif isinstance(around, exp.Any) and isinstance(around.parent, exp.EQ):
            value = around.parent.left
        names = _names(inner)
        if value is None or carried.key is None or names is None or tuple(names) != carried.key:
            return None
        values = value.expressions if isinstance(value, exp.Tuple) else [value]
        found = [block.find(v) for v in values]
        if len(found) != len(self.unit.keys) or any(f is None for f in found):
            return None
        sources = {id(f[0]) for f in found if f is not None}
        first = found[0]
        if first is None or len(sources) != 1 or first[0].key != tuple(f[1] for f in found if f is not None):
            return None
        return first[0] if first[0] in block.sources else None

    # ---- what must hold inside a derived table

    def _check_splits(self, block: Block, query: exp.Select, key: tuple[str, ...] | None, tied: list[Source]) -> None:
        if any(query.args.get(a) for a in ("limit", "offset")):
            raise self._refused("LIMIT in a subquery depends on all items at once")
        group = query.args.get("group")
        aggregated = any(is_aggregate(n, self.relations.aggregates) for e in query.expressions for n in walk_own(e))
        if group is not None:
            self._check_group(block, query, group, key)
        elif aggregated and not all(_windowed(e) for e in query.expressions):
            raise self._refused("an aggregate in a subquery depends on all items at once: GROUP BY the key there")
        distinct = query.args.get("distinct")
        if distinct is not None and key is None:
            raise self._refused("DISTINCT in a subquery mixes items: select the key there too")
        self._check_windows(block, query)

    def _check_group(self, block: Block, query: exp.Select, group: exp.Expr, key: tuple[str, ...] | None) -> None:
        if any(group.args.get(a) for a in ("grouping_sets", "cube", "rollup", "totals")):
            raise self._refused("grouping sets mix items")
        if group.args.get("all"):
            if key is None:
                raise self._refused("GROUP BY ALL without the key in the SELECT list mixes items")
            return
        if not self._holds_key(group.expressions, block, query):
            raise self._refused(f"its GROUP BY lacks the key {', '.join(self.unit.keys)}, and mixes items")

    def _holds_key(self, expressions: list[exp.Expr], block: Block, query: exp.Select) -> bool:
        roots = {id(s.root()) for s in block.sources if s.asks} or {id(s.root()) for s in block.inner}
        wanted = set(range(len(self.unit.keys)))
        for expression in expressions:
            item = expression
            if isinstance(item, exp.Literal) and item.is_int and int(item.name) <= len(query.expressions):
                item = expression_of(query.expressions[int(item.name) - 1])
            found = block.find(item)
            if found is None and isinstance(item, exp.Column) and not item.table:
                named = [
                    e for e in query.expressions if isinstance(e, exp.Alias) and e.alias.lower() == item.name.lower()
                ]
                found = block.find(expression_of(named[0])) if named else None
            if found is None or found[0].key is None or found[1] not in found[0].key:
                continue
            if not roots or id(found[0].root()) in roots:
                wanted.discard(found[0].key.index(found[1]))
        return not wanted

    def _check_windows(self, block: Block, query: exp.Select) -> None:
        for part in (*query.expressions, *listed(query.args.get("qualify"))):
            for window in (n for n in walk_own(part) if isinstance(n, exp.Window)):
                if not self._holds_key(listed(window.args.get("partition_by")), block, query):
                    raise self._refused(f"a window reaches over items: PARTITION BY {', '.join(self.unit.keys)} there")

    def _shown(self, block: Block, tied: list[Source]) -> tuple[str, ...] | None:
        """Names of the output columns that hold the key."""
        names: list[str | None] = [None] * len(self.unit.keys)
        for item in block.node.expressions:
            inner = expression_of(item)
            if is_star(inner):
                source = self._star(inner, block, tied)
                if source is not None and source.key is not None:
                    names = [n or k for n, k in zip(names, source.key, strict=True)]
                continue
            found = block.find(inner)
            if found is None or found[0] not in tied or found[0].key is None or found[1] not in found[0].key:
                continue
            name = output_name(item)
            place = found[0].key.index(found[1])
            names[place] = names[place] or (name.lower() if name else None)
        return tuple(n for n in names if n is not None) if all(names) else None

    @staticmethod
    def _star(star: exp.Expr, block: Block, tied: list[Source]) -> Source | None:
        node = star.this if isinstance(star, exp.Column) else star
        if any(node.args.get(a) for a in ("except_", "except", "replace", "rename")):
            return None
        if isinstance(star, exp.Column):
            return next((s for s in tied if s.alias == star.table.lower()), None)
        return next((s for s in block.sources if s in tied), None)

    # ---- words

    def _asks_inside(self, node: exp.Expr) -> bool:
        """Is there a reference to something that a model fills, views looked through?"""
        todo, seen = [node], set[str]()
        while todo:
            for table in todo.pop().find_all(exp.Table):
                name = table_name(table)
                if name in self.relations.views and name not in seen:
                    seen.add(name)
                    todo.append(view_query(self.relations.views[name])[0])
                relation = self.relations.get(name) if name else None
                if relation is not None and relation.touches_models:
                    return True
        return False

    def _untied(self, alias: str, where: str) -> NotSupportedError:
        keys = " and ".join(f"{alias}.{k} = ...{k}" for k in self.unit.keys)
        return self._refused(f"{alias} is not tied {where} by the key: add {keys}")

    def _refused(self, why: str) -> NotSupportedError:
        return NotSupportedError(
            f"the guarantee can't be given for this query, whose answer does not fall apart by rows of {self.unit.table}: "
            f"{why}. Without the guarantee clauses the answer is exact"
        )


def conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    """The parts of a condition that must all hold."""
    condition = condition.unnest() if isinstance(condition, exp.Paren) else condition
    if isinstance(condition, exp.And):
        return [*conjuncts(condition.left), *conjuncts(condition.right)]
    return [condition]


def _unite(one: Source, other: Source) -> None:
    a, b = one.root(), other.root()
    if a is not b:
        b.tied_to = a


def _asking_like(source: Source) -> Source:
    """The same FROM item, as one whose rows depend on a model (by way of a query tied to it)."""
    source.asks = True
    return source


def _all_sources(block: Block) -> list[Source]:
    return [*block.sources, *(_all_sources(block.outer) if block.outer is not None else [])]


def _windowed(expression: exp.Expr) -> bool:
    return any(isinstance(n, exp.Window) for n in walk_own(expression))


def _names(query: exp.Expr) -> list[str] | None:
    """Names of a query's columns, in order; None where a star or an expression without a name stands."""
    if isinstance(query, exp.SetOperation):
        return _names(unwrapped(query.this))
    if not isinstance(query, exp.Select):
        return None
    names = [output_name(e) for e in query.expressions]
    return None if any(n is None for n in names) else [n.lower() for n in names if n is not None]


def _output_columns(block: Block) -> frozenset[str] | None:
    names: set[str] = set()
    for item in block.node.expressions:
        inner = expression_of(item)
        if is_star(inner):
            wanted = inner.table.lower() if isinstance(inner, exp.Column) else ""
            for source in block.sources:
                if wanted in ("", source.alias):
                    if source.columns is None:
                        return None
                    names |= source.columns
        elif (name := output_name(item)) is not None:
            names.add(name.lower())
    return frozenset(names)


def _renamed(carried: Carried, query: exp.Expr, columns: list[str]) -> Carried:
    """The same under the names that stand behind the alias: ``AS t(a, b)``."""
    if not columns:
        return carried
    names = _names(query)
    if carried.key is None or names is None:
        return Carried(carried.asks, None, frozenset(columns))
    shown = dict(zip(names, columns, strict=False)) | {}
    return Carried(carried.asks, tuple(shown.get(k, k) for k in carried.key), frozenset(columns))
