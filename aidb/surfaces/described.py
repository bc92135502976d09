"""What blob and virtual tables are, in the words of tools that show tables: kind, key, the table they descend from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aidb import Connection
from aidb.errors import Error
from aidb.exec.registry import Registry


@dataclass(frozen=True)
class Described:
    """One of our tables. kind: ``blob table``, ``virtual table``, or ``table`` for a plain one with virtual columns.

    key: its key columns. parent: the table that a virtual table has a row of, or rows for each row of, and parent_key:
    the columns of both that say which; None and () for a pair of parents. comment: where its rows come from. columns:
    comments on columns that a model fills.
    """

    name: str
    kind: str
    key: tuple[str, ...] = ()
    parent: str | None = None
    parent_key: tuple[str, ...] = ()
    comment: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def described(connection: Connection) -> dict[str, Described]:
    """All our tables in the default schema, by lower-case name."""
    engine = connection.engine
    with engine.turn():
        registry = engine.registry
        registry.catch_up()
        extended = {c.table.lower(): c.table for c in registry.columns if not registry.is_item_table(c.table)}
        return {name.lower(): _described(registry, name) for name in [*registry.names(), *extended.values()]}


def _described(registry: Registry, name: str) -> Described:
    low = name.lower()
    kind = "blob table" if low in registry.blobs else "virtual table" if low in registry.virtual else "table"
    try:
        relation = registry.relation(name)
    except Error:
        return Described(name, kind)  # it names what is gone; the query that reads it says so
    assert relation is not None
    columns: dict[str, str] = {}
    for extension in relation.extensions:
        columns |= dict.fromkeys(extension.columns, f"filled by {extension.fill.model}")
    if kind == "blob table":
        blob = registry.blobs[low]
        source = f"the items of {blob.source}" if blob.query is None else f"the rows of {blob.query}"
        return Described(name, kind, relation.key, comment=f"blob table: {source}", columns=columns)
    if relation.fill is None:
        return Described(name, kind, columns=columns)
    fill = relation.fill
    columns |= dict.fromkeys(relation.columns[len(relation.key) :][: len(fill.outputs)], f"filled by {fill.model}")
    inputs = ", ".join(f"{table}.{column}" for table, column in registry.virtual[low].args)
    single = len(fill.parents) == 1
    return Described(
        name, kind, relation.key, fill.parents[0] if single else None, fill.keys if single else (),
        f"virtual table: {fill.model}({inputs}), filled when it is asked for", columns,
    )  # fmt: skip
