"""The unit of a guarantee: what a model call pays for, and the columns that name it.

It is a row of the blob table that everything a query asks models for descends from; or, for virtual columns on a plain
table, the values that the models see.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlglot import exp

from aidb.catalog.relations import Fill, Relation, Relations
from aidb.errors import NotSupportedError
from aidb.plan.names import fills_of
from aidb.plan.nodes import is_star, table_name, view_query
from aidb.plan.touching import Touching
from aidb.sql.render import fill_columns, quoted


@dataclass(frozen=True)
class Unit:
    """What is sampled. table: the blob table, or the plain table with virtual columns; keys: columns that name a unit."""

    table: str
    keys: tuple[str, ...]
    null_safe: bool


def unit_of(tree: exp.Expr, relations: Relations, touching: Touching) -> Unit:
    """The one unit of everything that the query asks models for. Raises `NotSupportedError` if there is none, or two."""
    roots: dict[str, set[str]] = {}
    nullable = False
    for fill in _asked(tree, relations, touching):
        table, keys, null_safe = root_of(fill, relations)
        nullable |= null_safe
        roots.setdefault(table, set()).update(keys)
    if not roots:
        raise NotSupportedError(
            "a guarantee is about what models say, and this query asks no model for anything: leave the guarantee clauses "
            "out, the answer is exact"
        )
    if len(roots) > 1:
        raise NotSupportedError(
            f"a guarantee needs one table of items to draw a sample from, and this query asks models about "
            f"{' and '.join(sorted(roots))}: leave the guarantee out, or ask about one of them at a time"
        )
    name, found = next(iter(roots.items()))
    relation = relations.get(name)
    order = relation.columns if relation is not None else tuple(sorted(found))
    return Unit(name, tuple(c for c in order if c in found), nullable)


def _asked(tree: exp.Expr, relations: Relations, touching: Touching) -> list[Fill]:
    """All fills that the references of a query read, views looked through."""
    found: dict[Fill, None] = {}
    todo, seen = [tree], set[str]()
    while todo:
        for node in todo.pop().find_all(exp.Table):
            name = table_name(node)
            if name in relations.views and name not in seen:
                seen.add(name)
                todo.append(view_query(relations.views[name])[0])
            relation = relations.get(name) if name else None
            if relation is not None:
                found |= dict.fromkeys(asked_fills(node, relation, touching))
    return list(found)


def asked_fills(node: exp.Table, relation: Relation, touching: Touching) -> tuple[Fill, ...]:
    """What fills the rows, and the virtual columns that may be read, of one reference to a relation."""
    select = node.find_ancestor(exp.Select)
    alias = node.alias_or_name.lower()
    starred = select is None or any(
        is_star(star) and not isinstance(star.parent, exp.Count) and _table_of(star) in ("", alias)
        for item in select.expressions
        for star in item.find_all(exp.Star, exp.Column)
    )
    renamed = node.args.get("alias") is not None and bool(node.args["alias"].args.get("columns"))
    if starred or renamed:
        return fills_of(relation)
    own = () if relation.fill is None else (relation.fill,)
    return own + tuple(e.fill for e in touching.used(relation, alias, None))


def _table_of(star: exp.Expr) -> str:
    return star.table.lower() if isinstance(star, exp.Column) else ""


def root_of(fill: Fill, relations: Relations) -> tuple[str, tuple[str, ...], bool]:
    """The table that a fill's items descend from, the columns there that name one, and whether those may be NULL."""
    found: set[tuple[str, tuple[str, ...], bool]] = set()
    for parent in fill.parents:
        relation = relations.get(parent)
        if relation is not None and relation.fill is not None:
            found.add(root_of(relation.fill, relations))
        elif relation is not None and relation.key:
            found.add((relation.name.lower(), relation.key, False))
        else:
            found.add((parent.lower(), _stored_keys(fill, relation), fill.null_safe))
    if len(found) != 1:
        raise NotSupportedError(
            f"{fill.model} sees pairs of {' and '.join(fill.parents)}; a guarantee needs one table of items to draw a "
            "sample from: leave the guarantee out for the exact answer"
        )
    return found.pop()


def _stored_keys(fill: Fill, relation: Relation | None) -> tuple[str, ...]:
    """The stored columns that decide a fill's input on a plain table, where that may be another virtual column."""
    keys: dict[str, None] = {}
    for key in fill.keys:
        behind = [e.fill for e in (relation.extensions if relation is not None else ()) if key in e.columns]
        stored = _stored_keys(behind[0], relation) if behind and behind[0] != fill else (key,)
        keys |= dict.fromkeys(stored)
    return tuple(keys)


def key_columns(relation: Relation, unit: Unit, relations: Relations) -> tuple[str, ...] | None:
    """The columns of a relation that hold the unit's key; None where its rows don't descend from the unit's table."""
    root = relations.get(unit.table)
    if root is None:
        return None
    if relation.fill is None:
        has = {c.lower() for c in relation.columns}
        same = relation.base == root.base and all(k.lower() in has for k in unit.keys)
        return unit.keys if same else None
    parents = [r for r in map(relations.get, relation.fill.parents) if r is not None]
    above = next((k for k in (key_columns(p, unit, relations) for p in parents) if k is not None), None)
    if above is None:
        return None
    answers = [c.lower() for c in fill_columns(relation.fill)]
    virtual = {c.lower() for e in relation.extensions for c in e.columns}
    shown = [c for c in relation.columns if c.lower() not in virtual]
    if {c.lower() for c in shown} <= set(answers):
        return above
    return tuple(shown[answers.index(k.lower())] for k in above)


def units_of(fill: Fill, items: str, unit: Unit, relations: Relations) -> str:
    """SQL of the keys, ``__k0``.., of the units that some of a fill's items (in a table of that name) belong to."""
    own = {k.lower(): k for k in fill.keys}
    if all(k.lower() in own for k in unit.keys):
        distinct = "" if len(fill.keys) == len(unit.keys) else "DISTINCT "
        return f"SELECT {distinct}{as_keys(quoted(own[k.lower()]) for k in unit.keys)} FROM {items}"
    if not unit.null_safe and len(fill.keys) >= len(unit.keys):
        return f"SELECT DISTINCT {as_keys(map(quoted, fill.keys[: len(unit.keys)]))} FROM {items}"
    relation = relations.get(root_of(fill, relations)[0])
    assert relation is not None
    on = " AND ".join(f"w.{quoted(k)} IS NOT DISTINCT FROM t.{quoted(k)}" for k in fill.keys)
    return (
        f"SELECT DISTINCT {as_keys(f't.{quoted(k)}' for k in unit.keys)} FROM {relation.base} t "
        f"WHERE EXISTS (SELECT 1 FROM {items} w WHERE {on})"
    )


def as_keys(columns: Iterable[str]) -> str:
    """Items of a SELECT list that name columns ``__k0``.. in the order of the key."""
    return ", ".join(f"{column} AS __k{n}" for n, column in enumerate(columns))
