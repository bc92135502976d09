"""A relation as the SQL that shows it: stored columns from its base, virtual columns from the tables of answers.

>>> from aidb.catalog.relations import Extension, Fill, Relation
>>> mood = Fill("mood", "mood", ("reviews",), ("id",), "s.mood_done", "s.mood_rows", ("mood",))
>>> print(relation_sql(Relation("reviews", ("id", "feeling"), "reviews", ("id",), None,
...                             (Extension(mood, {"feeling": "mood"}),))))
SELECT b."id", x1."mood" AS "feeling" FROM reviews AS b LEFT JOIN s.mood_rows AS x1 ON b."id" = x1."id"
"""

from __future__ import annotations

from aidb.catalog.relations import Extension, Fill, Relation
from aidb.errors import InternalError


def quoted(name: str) -> str:
    """A name as an SQL identifier, always quoted.

    >>> quoted('the "best" one')
    '"the ""best"" one"'
    """
    return '"' + name.replace('"', '""') + '"'


def fill_columns(fill: Fill) -> tuple[str, ...]:
    """What people see of a table of answers, in its order: keys, the ordinal if there is one, outputs."""
    return fill.keys + ((fill.ordinal,) if fill.ordinal is not None else ()) + fill.outputs


def relation_sql(relation: Relation) -> str:
    """A SELECT that shows exactly ``relation.columns``, in that order, from what is stored by now.

    A virtual table shows the rows that are there, a virtual column is NULL where there is no answer. Where a virtual
    table gives its columns names of its own, they stand for the fill's keys, ordinal and outputs one by one.
    Raises `InternalError` if the columns don't fit what the relation is made of.
    """
    expressions = _stored(relation)
    source = f"{relation.base} AS b"
    waiting = list(relation.extensions)
    while waiting:
        # An extension may take its key from another one's column (a model over a virtual column): that one goes first.
        ready = next((e for e in waiting if all(k.lower() in expressions for k in e.fill.keys)), None)
        if ready is None:
            raise InternalError(
                f"{relation.name}: no column for the key {waiting[0].fill.keys} of {waiting[0].fill.id}"
            )
        waiting.remove(ready)
        source += _join(ready, f"x{len(relation.extensions) - len(waiting)}", expressions)
    missing = [c for c in relation.columns if c.lower() not in expressions]
    if missing:
        raise InternalError(f"{relation.name}: nothing gives the column {missing[0]}")
    return f"SELECT {', '.join(_shown(expressions[c.lower()], c) for c in relation.columns)} FROM {source}"


def _stored(relation: Relation) -> dict[str, str]:
    """Lower-case name of each column of the base -> the expression that reads it."""
    virtual = {c.lower() for e in relation.extensions for c in e.columns}
    names = [c for c in relation.columns if c.lower() not in virtual]
    if relation.fill is None:
        return {c.lower(): f"b.{quoted(c)}" for c in names}
    answers = fill_columns(relation.fill)
    if {c.lower() for c in names} <= {c.lower() for c in answers}:
        return {c.lower(): f"b.{quoted(c)}" for c in answers}
    if len(names) != len(answers):
        raise InternalError(f"{relation.name}: columns {names} don't match the answers {list(answers)}")
    return {c.lower(): f"b.{quoted(stored)}" for c, stored in zip(names, answers, strict=True)}


def _join(extension: Extension, alias: str, expressions: dict[str, str]) -> str:
    """The join that brings an extension's columns, which are added to the expressions."""
    fill = extension.fill
    same = "IS NOT DISTINCT FROM" if fill.null_safe else "="
    condition = " AND ".join(f"{expressions[k.lower()]} {same} {alias}.{quoted(k)}" for k in fill.keys)
    expressions |= {column.lower(): f"{alias}.{quoted(output)}" for column, output in extension.columns.items()}
    return f" LEFT JOIN {fill.rows} AS {alias} ON {condition}"


def _shown(expression: str, name: str) -> str:
    return expression if expression.endswith(f".{quoted(name)}") else f"{expression} AS {quoted(name)}"
