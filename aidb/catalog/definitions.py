"""What users declared, as it is kept in the database: models, tables, virtual columns, proxies, semantic indexes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ModelDefinition:
    """A registered model. provider ``python``: a function that each process registers again.

    variadic: the last input stands for any number of further ones.
    """

    name: str
    provider: str
    options: Mapping[str, object]
    fingerprint: str
    rows: Literal["one", "many"]
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]
    price_per_call: float = 0.0
    seconds_per_item: float = 0.01
    sequential: bool = False
    device: str = "cpu"
    variadic: bool = False


@dataclass(frozen=True)
class BlobTable:
    """A blob table. id names its storage; columns: (name, DuckDB type) without the key, as the connector listed them.

    source: path, glob or URL, for a table from a connector; query: SQL text, for a table AS SELECT.
    """

    name: str
    id: int
    key: str
    key_type: str
    columns: tuple[tuple[str, str], ...]
    identity: tuple[str, ...]
    content: str | None
    connector: str | None = None
    source: str | None = None
    query: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    dropped: bool = False

    @property
    def items(self) -> str:
        """SQL name of the table that holds the items."""
        return f"aidb_internal.items_{self.id}"


@dataclass(frozen=True)
class VirtualTable:
    """A virtual table: model over arguments, each (relation, column). columns: names that replace the outputs'."""

    name: str
    model: str
    args: tuple[tuple[str, str], ...]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class VirtualColumns:
    """Virtual columns on a relation: names, for the model's outputs in order."""

    table: str
    columns: tuple[str, ...]
    model: str
    args: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ProxyDefinition:
    """A proxy for questions about ``target``, a predicate or a number, over the items of a table.

    name and args: what scores: an expression (no name), a column, a model's call, or, with a ``learned`` model, its
    features. train_labels, train_where, calibrate, holdout: how it was trained, for REFRESH. learned: the coefficients,
    calibration: the curve behind the score, as `aidb.exec.proxies.learning` writes them; None without. quality: on labels
    that had no part in it: ``auc``, ``correlation``, ``log_loss`` and how many ``labels``; None if it was not measured.
    useless: no better than chance. rests: fills that its features come from; other ones make it stale.
    """

    name: str
    table: str
    target: str
    using: str
    args: tuple[str, ...] | None
    train_labels: int | None = None
    train_where: str | None = None
    calibrate: str | None = None
    holdout: float | None = None
    learned: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    quality: Mapping[str, Any] | None = None
    useless: bool = False
    rests: tuple[str, ...] = ()


@dataclass(frozen=True)
class IndexDefinition:
    """A semantic index: embeddings of a table's items. id names its storage; using, args: what gives the embedding.

    representatives, dimensions, items: how many there are. options: as given.
    """

    name: str
    id: int
    table: str
    using: str
    args: tuple[str, ...] | None
    options: Mapping[str, object] = field(default_factory=dict)
    representatives: int = 0
    dimensions: int = 0
    items: int = 0
    rests: tuple[str, ...] = ()

    @property
    def rows(self) -> str:
        """SQL name of the table of representatives: ``place``, and the key."""
        return f"aidb_internal.index_{self.id}"


Rest = tuple[int, str, tuple[str, ...], bool]
"""Of a blob table what answers rest on: its id, its key column, plain columns, and whether on its content."""


@dataclass(frozen=True)
class FillDefinition:
    """Storage of one model over one choice of inputs, for one fingerprint of both.

    lineage: digest of the model's fingerprint and of everything its inputs descend from; a fill is found again by it.
    args, parents, keys and ordinal are as people call them now; as stored, they are as they were called first, and the
    columns of the tables `rows` and `ledger` are named so. rests: what of each blob table the answers depend on.
    """

    id: int
    model: str
    fingerprint: str
    lineage: str
    args: tuple[tuple[str, str], ...]
    parents: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    ordinal: str | None
    null_safe: bool
    sequential: bool
    rests: tuple[Rest, ...] = ()

    @property
    def rows(self) -> str:
        """SQL name of the table of answers."""
        return f"aidb_internal.rows_{self.id}"

    @property
    def ledger(self) -> str:
        """SQL name of the ledger."""
        return f"aidb_internal.ledger_{self.id}"
