"""Which names of a statement that writes can be those of tables."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.errors import SqlglotError

from aidb.plan.nodes import parse


def tables_named(sql: str) -> frozenset[str] | None:
    """Names, in lower case, that stand where a table does; None if the statement can't be read.

    >>> sorted(tables_named("INSERT INTO birds (color) SELECT owl FROM seen") or ())
    ['birds', 'seen']
    """
    try:
        tree = parse(sql)
    except SqlglotError:
        return None
    if tree.find(exp.Command) is not None:
        return None
    return frozenset(table.name.lower() for table in tree.find_all(exp.Table))
