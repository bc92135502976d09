"""Which FROM item does a column belong to? One `Block` for each SELECT, one `Item` for each thing in its FROM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from aidb.catalog.relations import Fill, Relation
from aidb.errors import ProgrammingError


@dataclass(eq=False)
class Body:
    """What a derived table or CTE is made of. block: its SELECT, or None where it is anything else.

    extra: hidden columns that were added to its select list: (item inside, its hidden column) -> name outside.
    """

    block: Block | None
    names: tuple[str, ...] | None
    cte: str | None = None
    recursive: bool = False
    extra: dict[tuple[int, str], tuple[Item, str]] = field(default_factory=dict)


@dataclass(eq=False)
class Item:
    """One thing in FROM.

    name: by which columns are qualified. span, tokens: characters, and first and last token, of a table's name in the text.
    columns: names as this query sees them, None if unknown. origin: the same, as the relation or body calls them.
    hidden: columns added for calls of models, by (fill, output) -> name. keys: shown by no star, since the parent
    shows them. visible: False on the right of SEMI and ANTI, but to their condition, ``only_in``.
    """

    name: str
    node: exp.Expr
    columns: tuple[str, ...] | None = None
    origin: tuple[str, ...] | None = None
    relation: Relation | None = None
    body: Body | None = None
    view: str | None = None
    span: tuple[int, int] | None = None
    tokens: tuple[int, int] | None = None
    aliased: bool = True
    pivoted: bool = False
    visible: bool = True
    only_in: exp.Expr | None = None
    silent: frozenset[str] = frozenset()
    hidden: dict[tuple[str, str], str] = field(default_factory=dict)
    extensions: list[tuple[Fill, str, str]] = field(default_factory=list)

    def index(self, column: str) -> int | None:
        """Place of a column among those that are known."""
        wanted = column.lower()
        return next((i for i, c in enumerate(self.columns or ()) if c.lower() == wanted), None)

    def hidden_columns(self) -> list[str]:
        """All columns of this item that no star may show."""
        inside = [name for _, name in self.body.extra.values()] if self.body else []
        return list(self.hidden.values()) + [n for n in inside if n not in self.hidden.values()]


@dataclass(frozen=True, eq=False)
class Field:
    """A column of an item, by its place."""

    block: Block
    item: Item
    place: int

    @property
    def name(self) -> str:
        """As the query sees it."""
        assert self.item.columns is not None
        return self.item.columns[self.place]

    @property
    def origin(self) -> str:
        """As the relation or body calls it."""
        assert self.item.origin is not None
        return self.item.origin[self.place]

    def same(self, other: Field) -> bool:
        """Is it the same column of the same item?"""
        return self.item is other.item and self.place == other.place


@dataclass(frozen=True)
class Joined:
    """A join with the items on its two sides, as far as names and equalities are concerned."""

    left: tuple[Item, ...]
    right: tuple[Item, ...]
    side: str
    kind: str
    method: str
    using: tuple[str, ...]
    on: exp.Expr | None


@dataclass(eq=False)
class Block:
    """A SELECT: its items so far (all, once its FROM was read), its joins, and the block around it."""

    select: exp.Select
    parent: Block | None
    ctes: Mapping[str, Body]
    items: list[Item] = field(default_factory=list)
    joins: list[Joined] = field(default_factory=list)
    columns: list[exp.Column] = field(default_factory=list)
    stars: list[exp.Expr] = field(default_factory=list)

    def outward(self) -> Iterator[Block]:
        """This block, then those around it."""
        block: Block | None = self
        while block is not None:
            yield block
            block = block.parent

    def named(self, name: str) -> Item | None:
        """The item of this name."""
        return next((i for i in self.items if i.name.lower() == name.lower()), None)

    def alias(self, name: str) -> exp.Expr | None:
        """What the select list calls by this name."""
        for e in self.select.expressions:
            if isinstance(e, exp.Alias) and e.alias.lower() == name.lower():
                inner: exp.Expr = e.this
                return inner
        return None

    def merged(self, name: str, hits: list[Item]) -> Item | None:
        """The item whose column an unqualified name means where USING or NATURAL made one of several."""
        group = [hits[0]]
        best = hits[0]
        for join in self.joins:
            using = name.lower() in (u.lower() for u in join.using) or join.method == "NATURAL"
            if not using or not any(h in join.right for h in hits):
                continue
            right = next(h for h in hits if h in join.right)
            if any(h in join.left for h in group) and right not in group:
                if join.side == "FULL":
                    return None
                group.append(right)
                best = right if join.side == "RIGHT" else best
        return best if all(h in group for h in hits) else None


class Unresolved(Exception):
    """A column can't be placed: it is ambiguous, or may belong to something whose columns aren't known."""

    def __init__(self, why: str, item: Item | None = None) -> None:
        super().__init__(why)
        self.item = item


def resolve(column: exp.Column, block: Block) -> Field | None:
    """The item that a column belongs to, innermost scope first; None if no scope has it. Raises `Unresolved`."""
    qualifier, name = column.table, column.name
    for scope in block.outward():
        if qualifier:
            item = scope.named(qualifier)
            if item is None:
                continue
            place = item.index(name)
            if place is not None:
                return Field(scope, item, place)
            if item.columns is None:
                raise Unresolved(f"the columns of {item.name} aren't known", item)
            return None
        seen = [i for i in scope.items if i.visible or _within(column, i.only_in)]
        hits = [i for i in seen if i.index(name) is not None and name.lower() not in i.silent]
        if len(hits) > 1:
            chosen = scope.merged(name, hits)
            if chosen is None:
                raise Unresolved(f"{name} is ambiguous: it is in {' and '.join(h.name for h in hits)}; qualify it")
            hits = [chosen]
        if hits:
            place = hits[0].index(name)
            assert place is not None
            return Field(scope, hits[0], place)
        renamed = scope.alias(name)
        if isinstance(renamed, exp.Column) and renamed.name.lower() != name.lower():
            return resolve(renamed, scope)
        if renamed is not None:
            return None
        unknown = [i for i in seen if i.columns is None]
        if unknown:
            raise Unresolved(f"{name} may be a column of {unknown[0].name}; qualify it", unknown[0])
    return None


def projection_of(node: exp.Expr, block: Block) -> exp.Expr | None:
    """The expression of the block's select list that a node stands in."""
    while node.parent is not None and node.parent is not block.select:
        node = node.parent
    return node if node.arg_key == "expressions" and node.parent is block.select else None


def clause_of(node: exp.Expr, block: Block) -> str:
    """The clause of the block that a node stands in, as the parser names it: ``expressions``, ``where``, ``joins``."""
    while node.parent is not None and node.parent is not block.select:
        node = node.parent
    return node.arg_key or ""


def _within(node: exp.Expr, outer: exp.Expr | None) -> bool:
    inner: exp.Expr | None = node
    while outer is not None and inner is not None:
        if inner is outer:
            return True
        inner = inner.parent
    return False


def equal(one: Item, other: Item, key: str, block: Block) -> bool:
    """Does the block's FROM and WHERE make the column ``key`` equal in both items, in every row that has the second?"""
    classes: list[set[tuple[int, str]]] = []

    def unite(a: tuple[int, str], b: tuple[int, str]) -> None:
        touched = [c for c in classes if a in c or b in c]
        for c in touched:
            classes.remove(c)
        classes.append({a, b}.union(*touched))

    def conditions(e: exp.Expr | None) -> None:
        for part in e.flatten() if isinstance(e, exp.And) else [e]:
            part = part.unnest() if isinstance(part, exp.Paren) else part
            if isinstance(part, exp.And):
                conditions(part)
            elif isinstance(part, exp.EQ) and isinstance(part.left, exp.Column) and isinstance(part.right, exp.Column):
                try:
                    a, b = resolve(part.left, block), resolve(part.right, block)
                except Unresolved:
                    continue
                if a is not None and b is not None:
                    unite((id(a.item), a.origin.lower()), (id(b.item), b.origin.lower()))

    where = block.select.args.get("where")
    conditions(where.this if where is not None else None)
    for join in block.joins:
        # Of an outer join only the side that may be missing is bound by the condition.
        if join.side == "FULL" or (join.side == "LEFT" and other not in join.right):
            continue
        if join.side == "RIGHT" and other not in join.left:
            continue
        conditions(join.on)
        natural = {c.lower() for i in join.left for c in i.columns or ()} if join.method == "NATURAL" else set()
        for name in {u.lower() for u in join.using} | natural:
            left = [i for i in join.left if i.index(name) is not None]
            right = [i for i in join.right if i.index(name) is not None]
            for a in left[:1]:
                for b in right[:1]:
                    unite((id(a), _origin(a, name)), (id(b), _origin(b, name)))
    pair = {(id(one), key.lower()), (id(other), key.lower())}
    return any(pair <= c for c in classes)


def _origin(item: Item, name: str) -> str:
    place = item.index(name)
    assert place is not None
    assert item.origin is not None
    return item.origin[place].lower()


def trace(item: Item, place: int) -> Field:
    """The column inside a derived table or CTE that its ``place``-th column is.

    Raises `ProgrammingError` where it is not a plain column of a plain SELECT.
    """
    assert item.body is not None
    block = item.body.block
    wanted = item.columns[place] if item.columns else ""
    advice = (
        f"call the model where the table itself is in FROM, and give its answer a name there, "
        f"instead of on {item.name}.{wanted}"
    )
    if block is None:
        raise ProgrammingError(f"{item.name} is no plain SELECT: {advice}")
    select = block.select
    if select.args.get("distinct") is not None or select.args.get("group") is not None:
        raise ProgrammingError(f"{item.name} merges rows (DISTINCT or GROUP BY): {advice}")
    shown = outputs(block)
    found = shown[place][1] if shown is not None and place < len(shown) else None
    if found is None:
        raise ProgrammingError(f"{item.name}.{wanted} is not a plain column of a table: {advice}")
    return found


def outputs(block: Block) -> list[tuple[str, Field | None]] | None:
    """The columns that a SELECT shows, each with the column it is, if it is one; None if they can't be told."""
    shown: list[tuple[str, Field | None]] = []
    for e in block.select.expressions:
        inner = e.this if isinstance(e, exp.Alias) else e
        if isinstance(inner, exp.Star):
            if (whole := star(block)) is None:
                return None
            shown += _without(whole, inner)
        elif isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star):
            item = block.named(inner.table)
            if item is None or item.columns is None:
                return None
            whole = [(c, Field(block, item, i)) for i, c in enumerate(item.columns)]
            shown += _without(whole, inner.this)
        elif isinstance(inner, exp.Column):
            try:
                shown.append((e.alias_or_name, resolve(inner, block)))
            except Unresolved:
                shown.append((e.alias_or_name, None))
        elif inner.find(exp.Star, exp.Columns) is not None and not isinstance(inner, exp.Count):
            return None
        else:
            shown.append((e.alias if isinstance(e, exp.Alias) else "", None))
    return shown


def _without(columns: list[tuple[str, Field]], star_node: exp.Star) -> list[tuple[str, Field | None]]:
    gone = {c.name.lower() for c in star_node.args.get("except_") or []}
    changed = {c.alias.lower() for c in star_node.args.get("replace") or []}
    names = {r.this.name.lower(): r.alias for r in star_node.args.get("rename") or []}
    return [(names.get(c.lower(), c), None if c.lower() in changed else f) for c, f in columns if c.lower() not in gone]


def star(block: Block) -> list[tuple[str, Field]] | None:
    """What ``*`` shows, in order, without hidden columns; None if some item's columns or a merge isn't known."""
    shown: list[tuple[str, Field]] = []
    for item in block.items:
        if not item.visible:
            continue
        if item.columns is None:
            return None
        merged = set()
        for join in block.joins:
            if join.method == "NATURAL" or (join.using and join.side in ("FULL", "RIGHT")):
                return None
            if item in join.right and join.kind not in ("SEMI", "ANTI"):
                merged |= {u.lower() for u in join.using}
        if item.body is None and item.relation is None:
            return None
        for i, column in enumerate(item.columns):
            if column.lower() not in merged and column.lower() not in item.silent:
                shown.append((column, Field(block, item, i)))
    return shown
