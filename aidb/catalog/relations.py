"""What the planner knows of a relation: its columns, its key, and what fills the ones that are not there yet.

These are plain frozen values: a snapshot of the catalog, made before a statement is planned, free of DuckDB.

Two kinds of unknown, one description:

- a **virtual table** (``box``): its *rows* are unknown until the model has seen the parent row;
- a **virtual column** (``reviews.sentiment``, or ``has_bus(image)`` in an expression): the row stands, the column's
  value is unknown until the model has seen it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fill:
    """One model over one choice of input columns: the unit in which answers are stored and counted.

    id: unique and stable; shown to people as ``model``, used in names of storage.
    model: the registered model's name.
    parents: the relation whose rows are the items; or two, for a model over pairs (their cross product, or, where the
        two descend from one blob table, the pairs that agree on its key, which both sides then share by name).
    keys: columns that identify an item, named as in the parent(s); the columns of the ledger, in order.
    ledger: SQL name of the ledger table, qualified and quoted; a key is there if and only if its item was done
        (also if it gave no row, or failed).
    rows: SQL name of the table of answers, qualified and quoted: its columns are ``keys``, the ordinal if any,
        ``outputs``, then internal ones that begin with an underscore.
    outputs: names of the model's outputs. ordinal: name of the row number within an item, for rows="many", else None.
    null_safe: keys may be NULL and are compared by IS NOT DISTINCT FROM (a virtual column on a plain table, which is
        keyed by the values of its inputs).
    sequential: see `ModelSpec.sequential`; wanting one item of a file means wanting them all.
    cost: seconds (or money, scaled) an item, for the order of models only.
    """

    id: str
    model: str
    parents: tuple[str, ...]
    keys: tuple[str, ...]
    ledger: str
    rows: str
    outputs: tuple[str, ...]
    ordinal: str | None = None
    null_safe: bool = False
    sequential: bool = False
    cost: float = 1.0


@dataclass(frozen=True)
class Extension:
    """A virtual column (or several, of one model) on a relation: column name there -> output name in the fill."""

    fill: Fill
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Relation:
    """A table, blob table or virtual table as SQL sees it.

    name: as SQL spells it (any case), in the default schema. columns: what ``SELECT *`` shows, in order.
    key: columns that identify a row; empty for a plain table.
    fill: for a virtual table, what produces its rows (columns = fill.keys + ordinal + outputs [+ extensions]).
    extensions: virtual columns on it.
    base: SQL name of the stored part, qualified and quoted: the plain or blob table itself, or ``fill.rows``.
    content: the column that a bare ``record`` or ``frame`` means (grammar, rule B): a blob table's content column.
    """

    name: str
    columns: tuple[str, ...]
    base: str
    key: tuple[str, ...] = ()
    fill: Fill | None = None
    extensions: tuple[Extension, ...] = ()
    content: str | None = None

    @property
    def touches_models(self) -> bool:
        """Does reading this relation ask for a model's answers?"""
        return self.fill is not None or bool(self.extensions)


@dataclass(frozen=True)
class Relations:
    """All relations that a statement may name, by lower-case name, with DuckDB's views and macros beside them.

    views: lower-case name -> SQL text of the user's own views (those over virtual relations are what matters).
    macros: lower-case names of user macros. aggregates: names of DuckDB's aggregate functions.
    """

    tables: Mapping[str, Relation] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)
    macros: frozenset[str] = frozenset()
    aggregates: frozenset[str] = frozenset()

    def get(self, name: str) -> Relation | None:
        """The relation of this name, in any letter case."""
        return self.tables.get(name.lower())
