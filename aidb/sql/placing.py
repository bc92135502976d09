"""Where a model's answers enter a query: from the columns it is called on, down to the table whose rows are the items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from aidb.catalog.relations import Fill, Relation
from aidb.errors import ProgrammingError
from aidb.sql.functions import Mention
from aidb.sql.reading import Work
from aidb.sql.render import fill_columns, quoted
from aidb.sql.scopes import Block, Body, Field, Item, Unresolved, equal, outputs, resolve, trace

_CONTENT = ("image", "text", "audio", "content", "blob", "document")
CONTENT_WORDS = ("record", "frame")
"""Rule B: what a model's argument may be called where no column is meant but the item itself."""


class ViewInTheWay(Exception):
    """A model is called on a column of a user's view, whose text must be put in its place first."""

    def __init__(self, item: Item) -> None:
        super().__init__(item.name)
        self.item = item


@dataclass(frozen=True, eq=False)
class Path:
    """A column, from the item that a query names it of down to the table that has it: derived tables, CTEs, table."""

    fields: tuple[Field, ...]

    @property
    def outer(self) -> Field:
        """As the query sees it."""
        return self.fields[0]

    @property
    def base(self) -> Field:
        """In the table."""
        return self.fields[-1]


def content_column(relation: Relation) -> str | None:
    """The column that a bare ``record`` means: the one declared, else the only one that is named like content."""
    if relation.content is not None:
        return relation.content
    named = [c for c in relation.columns if c.lower() in _CONTENT]
    return named[0] if len(named) == 1 and relation.fill is None and relation.key else None


def column_of(work: Work, mention: Mention, arg: exp.Expr) -> exp.Column:
    """An argument as a column. Raises `ProgrammingError` for anything else: an item must be stored somewhere."""
    while isinstance(arg, exp.Paren):
        arg = arg.this
    if not isinstance(arg, exp.Column) or isinstance(arg.this, exp.Star):
        written = work.written(arg)
        raise ProgrammingError(
            f"{mention.written}({written}): a model takes columns, and {written} is not one. Make it a column first: "
            f"CREATE BLOB TABLE ... AS SELECT ..., {written} AS x FROM ... KEY (...), and call {mention.written}(x)"
        )
    loop = arg.find_ancestor(exp.Comprehension, exp.Select)
    if isinstance(loop, exp.Comprehension) and loop.expression.name == arg.name:
        raise ProgrammingError(f"{mention.written}({arg.name}): {arg.name} is a list's element here, not a column")
    return arg


def field_of(column: exp.Column, block: Block) -> Field | None:
    """The column's place; ``record``, ``frame`` and a table's own name mean its content (rule B). None if unknown."""
    trouble: Unresolved | None = None
    try:
        found = resolve(column, block)
    except Unresolved as e:
        found, trouble = None, e
    if found is not None:
        return found
    if not column.table:
        name = column.name.lower()
        for scope in block.outward():
            bearers = [i for i in scope.items if i.name.lower() == name] if name not in CONTENT_WORDS else scope.items
            known = [f for i in bearers if (f := _content(scope, i)) is not None]
            if len(known) == 1:
                return known[0]
            if len(known) > 1:
                names = " or ".join(f"{f.item.name}.{f.name}" for f in known)
                raise ProgrammingError(f"{column.name} is ambiguous: it may mean {names}; name the column")
    if trouble is not None:
        if trouble.item is not None and trouble.item.view is not None:
            raise ViewInTheWay(trouble.item)
        raise ProgrammingError(str(trouble))
    return None


def _content(block: Block, item: Item) -> Field | None:
    if item.relation is not None:
        content = content_column(item.relation)
        place = None if content is None or item.origin is None else _index(item.origin, content)
        return None if place is None else Field(block, item, place)
    if item.body is None or item.body.block is None or item.columns is None:
        return None
    for place, (_, inside) in enumerate(outputs(item.body.block) or ()):
        if inside is not None and inside.item.relation is not None:
            content = content_column(inside.item.relation)
            if content is not None and inside.origin.lower() == content.lower():
                return Field(block, item, place)
    return None


def _index(names: Sequence[str], name: str) -> int | None:
    return next((i for i, n in enumerate(names) if n.lower() == name.lower()), None)


def path_of(field: Field) -> Path:
    """Follow a column down to its table. Raises `ProgrammingError` where the way is barred."""
    fields = [field]
    while (item := fields[-1].item).body is not None:
        if item.body.recursive:
            raise ProgrammingError(f"{item.name} is recursive: call the model where the table itself is in FROM")
        fields.append(trace(item, fields[-1].place))
    if item.view is not None:
        raise ViewInTheWay(item)
    if item.relation is None:
        raise ProgrammingError(
            f"{field.name} comes from {item.name or 'a function'}, which is no table: a model takes columns of tables"
        )
    return Path(tuple(fields))


def catalog_column(work: Work, mention: Mention, field: Field) -> tuple[str, str]:
    """(relation, column) as the catalog spells them. A model's call in FROM must be known as a virtual table, too."""
    relation = field.item.relation
    assert relation is not None
    if relation.name.lower() not in work.synthetic:
        return relation.name, field.origin
    assert relation.fill is not None
    place = fill_columns(relation.fill).index(field.origin)
    for known in work.relations.tables.values():
        if known.fill is not None and known.fill.id == relation.fill.id:
            return known.name, known.columns[place]
    raise ProgrammingError(
        f"{mention.written} takes {field.item.name}.{field.name}, an answer of {relation.fill.model} in this query: "
        f"first name those rows, CREATE VIRTUAL TABLE {field.item.name} AS {relation.fill.model}(...)"
    )


def fill_of(work: Work, mention: Mention, paths: Sequence[Path]) -> Fill:
    """The model over these columns."""
    return work.functions.fill(mention.model, [catalog_column(work, mention, p.base) for p in paths])


def target(work: Work, mention: Mention, fill: Fill, paths: Sequence[Path]) -> Path:
    """Of several arguments the one whose table's rows are the items. Checks that the others are joined to it."""
    parent = fill.parents[0].lower()
    matching = [p for p in paths if catalog_column(work, mention, p.base)[0].lower() == parent]
    if not matching:
        raise ProgrammingError(f"{mention.written}: its items are the rows of {fill.parents[0]}; pass a column of that")
    chosen = matching[0]
    for other in paths:
        if other.base.item is not chosen.base.item:
            _check_joined(mention, chosen, other)
    return chosen


def _check_joined(mention: Mention, chosen: Path, other: Path) -> None:
    relation = other.base.item.relation
    assert relation is not None
    assert chosen.base.item.relation is not None
    names = f"{other.outer.item.name}.{other.outer.name} and {chosen.outer.item.name}.{chosen.outer.name}"
    if chosen.base.block is not other.base.block:
        raise ProgrammingError(f"{mention.written}: {names} must come from tables of one FROM")
    mine = {k.lower() for k in chosen.base.item.relation.key}
    keys = [k for k in relation.key if k.lower() in mine]
    if not keys or len(keys) < len(relation.key):
        raise ProgrammingError(f"{mention.written}: {names} belong to different items")
    for key in keys:
        if not equal(other.base.item, chosen.base.item, key, chosen.base.block):
            raise ProgrammingError(
                f"{mention.written}: {names} belong to one item only where {key} is the same; "
                f"join the tables on {key}, as in {other.base.item.name} JOIN {chosen.base.item.name} USING ({key})"
            )


def widen(work: Work, item: Item, fill: Fill, output: str, model: str) -> str:
    """A hidden column of a table's item with an output of the model; the same one for the same call."""
    key = (fill.id, output)
    if key not in item.hidden:
        item.hidden[key] = work.fresh(model)
        item.extensions.append((fill, item.hidden[key], output))
    return item.hidden[key]


def key_name(item: Item, key: str) -> str:
    """A key of the item's relation as the query names it."""
    assert item.origin is not None
    assert item.columns is not None
    place = _index(item.origin, key)
    if place is None:
        raise ProgrammingError(f"{item.name} has no column {key}")
    return item.columns[place]


def lift(work: Work, path: Path, name: str) -> str:
    """What a column of the path's table, hidden ones included, is called on the outermost item of the path.

    Where the derived tables and CTEs in between don't show it, they get it as a hidden column of their own.
    """
    for field, inside in zip(reversed(path.fields[:-1]), reversed(path.fields[1:]), strict=True):
        body: Body | None = field.item.body
        assert body is not None
        assert body.block is not None
        shown = outputs(body.block) or []
        place = next(
            (i for i, (_, f) in enumerate(shown) if f is not None and f.item is inside.item and f.name == name), None
        )
        if place is not None and field.item.columns is not None and shown[place][0]:
            name = field.item.columns[place]
        else:
            extra = body.extra.setdefault((id(inside.item), name), (inside.item, work.fresh(name.strip("_"))))
            name = extra[1]
    return name


def reference(path: Path, name: str, block: Block) -> str:
    """A column of the path's outermost item, as the block may write it."""
    item = path.outer.item
    for scope in block.outward():
        if scope is path.outer.block:
            break
        if scope.named(item.name) is not None:
            return quoted(name)  # another item of that name stands in between; hidden names are unique
    return f"{quoted(item.name)}.{quoted(name)}" if item.name else quoted(name)
