"""Reading a parsed statement into blocks, items and calls of models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from aidb.catalog.relations import Relation, Relations
from aidb.errors import NotSupportedError, ProgrammingError
from aidb.sql.functions import MARK, Mention, ModelFunctions
from aidb.sql.layout import Edits, Layout, Region
from aidb.sql.scopes import Block, Body, Item, Joined, outputs

_SERIES: dict[type[exp.Expr], str] = {exp.GenerateSeries: "generate_series", exp.Unnest: "unnest"}


@dataclass(eq=False)
class Call:
    """A model's call in an expression, and the block that it is evaluated in (None: not in any SELECT)."""

    mention: Mention
    node: exp.Anonymous
    block: Block | None


@dataclass(eq=False)
class Work:
    """One text on its way to being bound, with everything that was found and decided about it."""

    text: str
    layout: Layout
    mentions: list[Mention]
    relations: Relations
    functions: ModelFunctions
    blocks: list[Block] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    loose: list[exp.Table] = field(default_factory=list)  # tables outside of any FROM, as in PIVOT t ON ...
    synthetic: dict[str, Relation] = field(default_factory=dict)
    edits: Edits = field(default_factory=Edits)
    names: set[str] = field(default_factory=set)

    def mark(self, n: int) -> str:
        """What the parsed text has in the place of the n-th mention's name."""
        return f"{MARK}{n}"

    def mention(self, node: exp.Expr) -> Mention | None:
        """The model's call that a function of the marked text stands for."""
        if isinstance(node, exp.Anonymous) and isinstance(node.this, str) and node.this.startswith(MARK):
            return self.mentions[int(node.this[len(MARK) :])]
        return None

    def start(self, node: exp.Expr) -> int | None:
        """The character at which a node begins, if the parser says; the star of ``FROM t`` stands nowhere."""
        start: int | None = node.meta.get("start")
        implied = isinstance(node, exp.Star) and start is not None and self.text[start] != "*"
        return None if implied else start

    def region(self, block: Block) -> Region:
        """Where a SELECT stands in the text."""
        nested: Region | None = None
        waiting: list[exp.Expr] = [block.select]
        while waiting:
            node = waiting.pop()
            start = self.start(node)
            if start is not None:
                found = self.layout.region(self.layout.at(start))
                if found is not None:
                    return found
            for key, value in node.args.items():
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, exp.Select | exp.SetOperation):
                        first = next((s for n in child.walk() if (s := self.start(n)) is not None), None)
                        inside = None if first is None else self.layout.region(self.layout.at(first))
                        nested = nested or (None if inside is None else self.layout.region(inside.first - 1))
                    elif isinstance(child, exp.Expr) and key != "with_":
                        waiting.append(child)
        if nested is None:
            raise NotSupportedError(
                f"can't place {self.written(block.select)} in the text; write it as SELECT ... FROM"
            )
        return nested

    def written(self, node: exp.Expr) -> str:
        """An expression as people know it, for messages."""
        text = node.sql(dialect="duckdb")
        for n in reversed(range(len(self.mentions))):
            text = text.replace(f"{MARK}{n}".upper(), self.mentions[n].written).replace(
                f"{MARK}{n}", self.mentions[n].written
            )
        return text

    def fresh(self, stem: str) -> str:
        """A name for a hidden column that nothing in the query or the catalog bears: ``__has_bus_1``."""
        n = 1
        stem = re.sub(r"\W+", "_", stem.lower())
        while (name := f"__{stem}_{n}") in self.names or name in self.text.lower():
            n += 1
        self.names.add(name)
        return name

    def name_relation(self, stem: str) -> str:
        """A name for a synthetic relation: ``__aidb_frames_1``."""
        n = 1
        stem = re.sub(r"\W+", "_", stem.lower())
        while (name := f"__aidb_{stem}_{n}") in self.synthetic or self.relations.get(name) is not None:
            n += 1
        return name


FromCall = Callable[[Work, Block, exp.Expr, Mention, exp.Join | None, list[list[Item]]], tuple[Item, Joined | None]]
"""Reads a model's call in FROM: the table node, its mention, the join, the items to its left by comma."""


class Reader:
    """Walks a tree once, outside in, so that the items around a subquery are known when it is entered."""

    def __init__(self, work: Work, from_call: FromCall) -> None:
        self.work, self.from_call = work, from_call

    def read(self, tree: exp.Expr) -> None:
        """Fill ``work`` with the blocks and calls of a statement."""
        self._walk(tree, None, {})

    def _walk(self, node: exp.Expr, block: Block | None, ctes: Mapping[str, Body]) -> None:
        if isinstance(node, exp.Select | exp.SetOperation | exp.Subquery):
            self._query(node, block, ctes)
            return
        mention = self.work.mention(node)
        if mention is not None:
            assert isinstance(node, exp.Anonymous)
            self.work.calls.append(Call(mention, node, block))
        elif isinstance(node, exp.Table):
            self.work.loose.append(node)
        elif block is not None and isinstance(node, exp.Column):
            (block.stars if isinstance(node.this, exp.Star) else block.columns).append(node)
        elif block is not None and isinstance(node, exp.Star | exp.Columns):
            block.stars.append(node)
        for child in node.iter_expressions():
            if not (isinstance(node, exp.Column) and isinstance(child, exp.Star)):
                self._walk(child, block, ctes)

    def _query(self, node: exp.Expr, parent: Block | None, ctes: Mapping[str, Body]) -> Body:
        with_ = node.args.get("with_")
        if with_ is not None:
            ctes = self._with(with_, parent, ctes)
        if isinstance(node, exp.Select):
            body = Body(self._select(node, parent, ctes), None)
            shown = outputs(body.block) if body.block is not None else None
            body.names = None if shown is None else tuple(name for name, _ in shown)
        elif isinstance(node, exp.SetOperation):
            left = self._query(node.this, parent, ctes)
            self._query(node.expression, parent, ctes)
            body = Body(None, left.names)
            self._rest(node, None, ctes, skip=("this", "expression", "with_"))
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            body = self._query(node.this, parent, ctes)
            if self._rest(node, None, ctes, skip=("this", "with_", "alias", "joins")):
                body = Body(None, body.names)
        else:
            body = Body(None, None)
            self._walk(node.this if isinstance(node, exp.Subquery) else node, parent, ctes)
        self.work.bodies.append(body)
        return body

    def _with(self, with_: exp.Expr, parent: Block | None, ctes: Mapping[str, Body]) -> Mapping[str, Body]:
        known = dict(ctes)
        recursive = bool(with_.args.get("recursive"))
        for cte in with_.expressions:
            name = cte.alias
            if recursive:
                known[name.lower()] = Body(None, None, name, recursive=True)
            body = self._query(cte.this, parent, known)
            again = recursive and any(t.name.lower() == name.lower() for t in cte.this.find_all(exp.Table))
            body = Body(None, body.names, name, recursive=True) if again else body
            body.cte = name
            if cte.args["alias"].columns:
                body = self._renamed(body, [c.name for c in cte.args["alias"].columns], name)
            known[name.lower()] = body
        return known

    def _renamed(self, body: Body, names: list[str], cte: str) -> Body:
        rest = body.names[len(names) :] if body.names is not None else ()
        shown = None if body.names is None else (*names, *rest)
        return Body(body.block, shown, cte, body.recursive, body.extra)

    def _select(self, node: exp.Select, parent: Block | None, ctes: Mapping[str, Body]) -> Block:
        block = Block(node, parent, ctes)
        self.work.blocks.append(block)
        elements: list[list[Item]] = []
        from_ = node.args.get("from_")
        if from_ is not None:
            elements.append(self._source(from_.this, block, None, elements))
        self._joins(node.args.get("joins") or (), block, elements)
        for lateral in node.args.get("laterals") or ():
            elements.append(self._source(lateral, block, None, elements))
        self._rest(node, block, ctes, skip=("from_", "joins", "laterals", "with_"))
        return block

    def _rest(self, node: exp.Expr, block: Block | None, ctes: Mapping[str, Body], skip: Iterable[str]) -> bool:
        """Walk the other parts of a query; say whether there are any."""
        found = False
        for key, value in node.args.items():
            if key not in skip:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, exp.Expr):
                        found = True
                        self._walk(child, block, ctes)
        return found

    def _joins(self, joins: Iterable[exp.Join], block: Block, elements: list[list[Item]]) -> None:
        for join in joins:
            comma = not any(join.args.get(k) for k in ("on", "using", "side", "kind", "method"))
            if comma and not self._is_join(join):
                elements.append([])
            left = list(elements[-1]) if elements else []
            before = len(block.joins)
            right = self._source(join.this, block, join, elements)
            elements[-1] += right
            if len(block.joins) == before or block.joins[-1].right != tuple(right):
                block.joins.append(
                    Joined(
                        tuple(left),
                        tuple(right),
                        join.side,
                        join.kind,
                        join.method,
                        tuple(u.name for u in join.args.get("using") or ()),
                        join.args.get("on"),
                    )
                )
            if join.args.get("on") is not None:
                self._walk(join.args["on"], block, block.ctes)
            if join.kind in ("SEMI", "ANTI"):
                for item in right:
                    item.visible, item.only_in = False, join.args.get("on")

    def _is_join(self, join: exp.Join) -> bool:
        """A bare JOIN, which only a model's call may have: told from a comma by the text."""
        mention = self.work.mention(join.this.this) if isinstance(join.this.this, exp.Expr) else None
        place = mention.place - 1 if mention is not None else 0
        return mention is not None and "JOIN" in (self.work.layout.key(place), self.work.layout.key(place - 1))

    def _source(self, node: exp.Expr, block: Block, join: exp.Join | None, elements: list[list[Item]]) -> list[Item]:
        inner = node.this if isinstance(node, exp.Lateral | exp.Table) else node
        mention = self.work.mention(inner) if isinstance(inner, exp.Expr) else None
        items: list[Item]
        if mention is not None:
            if node.args.get("ordinality"):
                raise ProgrammingError(f"{mention.written}(...) WITH ORDINALITY: the rows are numbered already")
            item, joined = self.from_call(self.work, block, node, mention, join, elements)
            if joined is not None:
                block.joins.append(joined)
            items = [item]
        elif isinstance(node, exp.Subquery) and not node.alias and self._is_parenthesis(node.this):
            nested: list[list[Item]] = [self._source(node.this, block, None, elements)]
            return [i for e in nested for i in e]
        elif isinstance(node, exp.Lateral) and isinstance(inner, exp.Subquery):
            items = [self._derived(inner, node.args.get("alias"), block)]
        elif isinstance(node, exp.Subquery):
            items = [self._derived(node, node.args.get("alias"), block)]
        elif isinstance(node, exp.Table) and isinstance(inner, exp.Identifier):
            items = [self._table(node, block)]
        else:
            items = [self._function(node, block)]
        for item in items:
            if node.args.get("pivots"):
                item.pivoted, item.columns, item.origin = True, None, None
        block.items += items
        joins = node.args.get("joins")
        if joins:
            tree = [items]
            self._joins(joins, block, tree)
            items = [i for e in tree for i in e]
        return items

    def _is_parenthesis(self, node: exp.Expr) -> bool:
        return isinstance(node, exp.Table) or (
            isinstance(node, exp.Subquery) and bool(node.alias or node.args.get("joins"))
        )

    def _derived(self, node: exp.Subquery, alias: exp.Expr | None, block: Block) -> Item:
        if self._is_parenthesis(node.this):  # (a JOIN b) AS t: one thing with the columns of both
            self._source(node.this, Block(exp.Select(), block, block.ctes), None, [])
            return self._renamed_item(Item(node.alias, node), alias)
        body = self._query(node, block, block.ctes)
        name = alias.name if alias is not None else ""
        return self._renamed_item(Item(name, node, body.names, body.names, body=body), alias)

    def _table(self, node: exp.Table, block: Block) -> Item:
        name, qualifier = node.name, node.db
        parts = [p for p in (node.args.get("catalog"), node.args.get("db"), node.this) if p is not None]
        span = (parts[0].meta["start"], parts[-1].meta["end"] + 1)
        item = Item(node.alias or name, node, span=span, aliased=bool(node.alias))
        item.tokens = (self.work.layout.at(span[0]), self.work.layout.at(span[1] - 1))
        body = block.ctes.get(name.lower()) if not qualifier else None
        ours = not qualifier or (qualifier.lower() == "main" and not node.catalog)
        relation = self.work.relations.get(name) if ours else None
        if body is not None:
            item.body, item.columns, item.origin = body, body.names, body.names
        elif relation is not None:
            item.relation, item.columns, item.origin = relation, relation.columns, relation.columns
        elif ours and name.lower() in self.work.relations.views:
            item.view = name.lower()
        return self._renamed_item(item, node.args.get("alias"))

    def _function(self, node: exp.Expr, block: Block) -> Item:
        """A table function, VALUES or UNNEST; its arguments may be columns of the items to its left."""
        alias = node.args.get("alias")
        for key, value in node.args.items():
            for child in value if isinstance(value, list) else [value]:
                if key not in ("alias", "joins", "pivots") and isinstance(child, exp.Expr):
                    self._walk(child, block, block.ctes)
        call = node.this if isinstance(node, exp.Table | exp.Lateral) else node
        name = next((n for t, n in _SERIES.items() if isinstance(call, t)), None)
        if isinstance(call, exp.GenerateSeries) and call.args.get("is_end_exclusive"):
            name = "range"
        item = Item((alias.name if alias is not None else "") or name or "", node)
        if name is not None:
            item.columns = item.origin = (alias.name if alias is not None and alias.name else name,)
        if alias is not None and alias.columns:
            item.columns = item.origin = tuple(c.name for c in alias.columns)
        return item

    def _renamed_item(self, item: Item, alias: exp.Expr | None) -> Item:
        given = tuple(c.name for c in alias.columns) if isinstance(alias, exp.TableAlias) else ()
        if given:
            item.columns = None if item.columns is None else given + item.columns[len(given) :]
        return item
