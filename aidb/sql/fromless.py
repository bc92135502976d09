"""Rule F of the grammar: ``SELECT frame_id WHERE xmin < 100`` means the one table, or join, that has these columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from aidb.catalog.relations import Relation, Relations
from aidb.errors import ProgrammingError
from aidb.sql.functions import ModelFunctions
from aidb.sql.layout import Layout
from aidb.sql.placing import CONTENT_WORDS, content_column
from aidb.sql.render import quoted
from aidb.sql.tokens import RESERVED

_MOST_JOINED = 4


@dataclass
class _Wanted:
    """What the relations must have. columns: by lower-case name, as written. relations: named outright."""

    columns: dict[str, str] = field(default_factory=dict)
    relations: set[str] = field(default_factory=set)
    content: bool = False


def fill_from(
    core: str, layout: Layout, relations: Relations, functions: ModelFunctions
) -> tuple[str, tuple[str, ...]]:
    """The query with its FROM, and a note if that was filled in; otherwise the query as it is.

    Raises `ProgrammingError` with the candidates if several tables or joins have all the columns.
    """
    if layout.key(0) not in ("SELECT", "WITH") or any(t.key == "FROM" and t.depth == 0 for t in layout.tokens):
        return core, ()
    words = {layout.name(i).lower() for i in range(len(layout.tokens)) if layout.is_name(i)}
    known = {c.lower() for r in relations.tables.values() for c in (r.name, *r.columns)} | set(CONTENT_WORDS)
    if words.isdisjoint(known):
        return core, ()
    try:
        tree = sqlglot.parse_one(core, dialect="duckdb")
    except SqlglotError:
        return core, ()  # DuckDB has the better message
    if not isinstance(tree, exp.Select) or tree.args.get("from_") is not None:
        return core, ()
    wanted = _wanted(tree, relations, functions)
    if not (wanted.columns or wanted.relations or wanted.content):
        return core, ()
    chosen = _choose(wanted, relations)
    if not chosen:
        return core, ()
    text = _from_text(chosen)
    select = next(i for i, t in enumerate(layout.tokens) if t.key == "SELECT" and t.depth == 0)
    region = layout.region(select)
    assert region is not None
    end = layout.tokens[region.after(select) - 1].end
    return f"{core[:end]} {text}{core[end:]}", (f"{text} was filled in",)


def _wanted(tree: exp.Select, relations: Relations, functions: ModelFunctions) -> _Wanted:
    wanted = _Wanted()
    anywhere = {c.lower() for r in relations.tables.values() for c in r.columns}
    aliases = {e.alias.lower() for e in tree.expressions if isinstance(e, exp.Alias)}
    for column in _own_columns(tree):
        name = column.name.lower()
        if column.table:
            if relations.get(column.table) is None:
                wanted.columns[f"{column.table}.{name}"] = f"{column.table}.{column.name}"
                continue
            wanted.relations.add(column.table.lower())
        if name in anywhere:
            wanted.columns[name] = column.name
        elif isinstance(column.parent, exp.Func) and functions.is_model(column.parent.name):
            if relations.get(name) is not None:
                wanted.relations.add(name)
                wanted.content = True
            elif name in CONTENT_WORDS:
                wanted.content = True
            else:
                wanted.columns[name] = column.name
        elif name not in aliases:
            wanted.columns[name] = column.name
    return wanted


def _own_columns(tree: exp.Select) -> Iterator[exp.Column]:
    """Columns of the query itself: those of its subqueries and CTEs have a FROM of their own."""
    waiting: list[exp.Expr] = [e for e in tree.iter_expressions(reverse=True) if not isinstance(e, exp.With)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
            yield node
        elif not isinstance(node, exp.Query):
            waiting += node.iter_expressions(reverse=True)


def _choose(wanted: _Wanted, relations: Relations) -> tuple[Relation, ...]:
    """The smallest set of relations that has everything; empty where no column is known at all."""
    tables = [r for r in relations.tables.values() if not r.name.startswith("__")]
    has = {r.name: {c.lower() for c in r.columns} for r in tables}
    missing = [w for c, w in wanted.columns.items() if not any(c in columns for columns in has.values())]
    if missing:
        if len(missing) == len(wanted.columns) and not wanted.relations:
            return ()
        raise ProgrammingError(f"FROM is missing, and no table has the column {missing[0]}")
    useful = [
        r for r in tables
        if not has[r.name].isdisjoint(wanted.columns) or r.name.lower() in wanted.relations
        or (wanted.content and content_column(r) is not None)
    ]  # fmt: skip
    for size in range(1, min(_MOST_JOINED, len(useful)) + 1):
        fitting = [j for c in combinations(useful, size) if (j := _fits(c, wanted, has, relations))]
        if len(fitting) > 1:
            options = "; ".join(_from_text(f) for f in fitting[:6])
            raise ProgrammingError(
                f"FROM is missing, and more than one would do: {options}; write the one that is meant"
            )
        if fitting:
            return fitting[0]
    names = ", ".join(wanted.columns.values()) or "the content"
    raise ProgrammingError(f"FROM is missing, and no tables that share keys have all of {names}; write FROM")


def _fits(
    chosen: Sequence[Relation], wanted: _Wanted, has: dict[str, set[str]], relations: Relations
) -> tuple[Relation, ...]:
    """The relations in the order of the join, if they have all that is wanted and share keys; else nothing."""
    if not wanted.relations <= {r.name.lower() for r in chosen}:
        return ()
    if wanted.content and sum(content_column(r) is not None for r in chosen) != 1:
        return ()
    shared = set().union(*({k.lower() for k in r.key} for r in chosen)) if len(chosen) > 1 else set()
    for column in wanted.columns:
        bearers = sum(column in has[r.name] for r in chosen)
        if bearers == 0 or (bearers > 1 and column not in shared):
            return ()
    ordered = sorted(chosen, key=lambda r: len(r.key))
    if len(ordered) > 1 and len({_roots(r, relations) for r in ordered}) > 1:
        return ()
    return tuple(ordered) if all(_shared(ordered, n) for n in range(1, len(ordered))) else ()


def _roots(relation: Relation, relations: Relations) -> frozenset[str]:
    """The tables that a virtual table comes from in the end: keys of one name mean one thing only below one root."""
    if relation.fill is None:
        return frozenset({relation.name.lower()})
    parents = [relations.get(p) for p in relation.fill.parents]
    return frozenset().union(*(_roots(p, relations) for p in parents if p is not None))


def _shared(ordered: Sequence[Relation], place: int) -> list[str]:
    """Key columns that a relation shares with those before it."""
    before = {k.lower() for r in ordered[:place] for k in r.key}
    return [k for k in ordered[place].key if k.lower() in before]


def _from_text(ordered: Sequence[Relation]) -> str:
    text = f"FROM {_plain(ordered[0].name)}"
    for n in range(1, len(ordered)):
        text += f" JOIN {_plain(ordered[n].name)} USING ({', '.join(map(_plain, _shared(ordered, n)))})"
    return text


def _plain(name: str) -> str:
    """A name as people would write it: quoted only where it must be."""
    return name if name.isidentifier() and name.upper() not in RESERVED else quoted(name)
