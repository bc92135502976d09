"""What users declared, written to and read from the database: one row of JSON a definition."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from aidb.catalog.definitions import (
    BlobTable,
    FillDefinition,
    IndexDefinition,
    ModelDefinition,
    ProxyDefinition,
    VirtualColumns,
    VirtualTable,
)
from aidb.catalog.names import quoted
from aidb.errors import IntegrityError
from aidb.spi import fingerprint
from aidb.storage.schema import INTERNAL
from aidb.storage.translated import translated

Definition = ModelDefinition | BlobTable | VirtualTable | VirtualColumns | ProxyDefinition | IndexDefinition
KINDS: dict[str, Callable[..., Definition]] = {
    "model": ModelDefinition,
    "blob table": BlobTable,
    "virtual table": VirtualTable,
    "virtual columns": VirtualColumns,
    "proxy": ProxyDefinition,
    "semantic index": IndexDefinition,
}
T = TypeVar("T")
_RESTORE = "someone else wrote there; go back to a copy of the database"


def kind_of(definition: Definition) -> str:
    """The word for this kind of definition."""
    return next(k for k, cls in KINDS.items() if type(definition) is cls)


def key_of(definition: Definition) -> str:
    """What tells a definition from the others of its kind: its name, or the table and columns that it adds."""
    if isinstance(definition, VirtualColumns):
        return f"{definition.table}.{','.join(definition.columns)}"
    return definition.name


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _read(cls: Callable[..., T], text: str) -> T:
    try:
        raw = json.loads(text)
        return cls(**{k: v if k == "options" else _tuples(v) for k, v in raw.items()})
    except (AttributeError, TypeError, ValueError) as e:
        raise IntegrityError(f"a definition in {INTERNAL} can't be read ({e}): {text[:80]!r}; {_RESTORE}") from e


def read_definition(kind: str, text: str) -> Definition:
    """A definition from its JSON. Raises `IntegrityError` for what AIDB did not write."""
    if kind not in KINDS:
        raise IntegrityError(f"{INTERNAL}.definitions has the unknown kind {kind!r}: {_RESTORE}")
    return _read(KINDS[kind], text)


def read_fill(text: str) -> FillDefinition:
    """A fill from its JSON; raises as `read_definition`."""
    return _read(FillDefinition, text)


class Definitions:
    """The catalog on disk. `write` and `remove` take part in the transaction of the connection they are given."""

    key_of = staticmethod(key_of)

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    @translated()
    def all(self) -> list[Definition]:
        """Every definition, in the order of creation."""
        rows = self._connection.execute(
            f"SELECT kind, definition FROM {INTERNAL}.definitions ORDER BY created, name"
        ).fetchall()
        return [read_definition(kind, text) for kind, text in rows]

    @translated()
    def fills(self, lineage: str | None = None) -> list[FillDefinition]:
        """Every fill that ever was made and not dropped, or the one of a lineage."""
        rows = self._connection.execute(
            f"SELECT definition FROM {INTERNAL}.fills WHERE $lineage IS NULL OR lineage = $lineage ORDER BY id",
            {"lineage": lineage},
        ).fetchall()
        return [read_fill(text) for (text,) in rows]

    def next_id(self) -> int:
        """A number for a new table of items or answers."""
        row = self._connection.execute(f"SELECT nextval('{INTERNAL}.ids')").fetchall()
        return int(row[0][0])

    def write(self, definition: Definition) -> None:
        """Add a definition, in place of one of the same kind and name."""
        created = self._connection.execute(
            f"SELECT created FROM {INTERNAL}.definitions WHERE kind = ? AND lower(name) = lower(?)",
            [kind_of(definition), key_of(definition)],
        ).fetchall()
        self.remove(definition)
        text = json.dumps(dataclasses.asdict(definition))
        self._connection.execute(
            f"INSERT INTO {INTERNAL}.definitions VALUES (?, ?, ?, coalesce(?, now()::TIMESTAMP))",
            [kind_of(definition), key_of(definition), text, created[0][0] if created else None],
        )

    def keep_current(self, fills: Mapping[str, int]) -> None:
        """Write down which fill gives the answers of a virtual table or of virtual columns now."""
        for name, fill in fills.items():
            self._connection.execute(f"DELETE FROM {INTERNAL}.current_fills WHERE name = ?", [name])
            self._connection.execute(f"INSERT INTO {INTERNAL}.current_fills VALUES (?, ?)", [name, fill])

    def remove(self, definition: Definition) -> None:
        """Take a definition out; nothing happens if it is not there."""
        if isinstance(definition, (VirtualTable, VirtualColumns)):
            self._connection.execute(
                f"DELETE FROM {INTERNAL}.current_fills WHERE lower(name) = lower(?)", [key_of(definition)]
            )
        if isinstance(definition, IndexDefinition):
            self._connection.execute(f"DROP TABLE IF EXISTS {definition.rows}")
        self._connection.execute(
            f"DELETE FROM {INTERNAL}.definitions WHERE kind = ? AND lower(name) = lower(?)",
            [kind_of(definition), key_of(definition)],
        )

    def keep_representatives(self, index: IndexDefinition, keys: pa.Table) -> None:
        """Write down the representatives of an index, in place of those it had: their keys, in order."""
        self._connection.register("aidb_keys", keys)
        try:
            self._connection.execute(
                f"CREATE OR REPLACE TABLE {index.rows} AS SELECT row_number() OVER () - 1 AS place, * FROM aidb_keys"
            )
        finally:
            self._connection.unregister("aidb_keys")

    def add_fill(self, fill: FillDefinition) -> None:
        """Make the ledger and the table of answers of a fill."""
        keys = ", ".join(f"{quoted(name)} {type_}" for name, type_ in fill.keys)
        ordinal = f", {quoted(fill.ordinal)} BIGINT" if fill.ordinal else ""
        outputs = "".join(f", {quoted(name)} {type_}" for name, type_ in fill.outputs)
        self._connection.execute(f"CREATE TABLE {fill.rows} ({keys}{ordinal}{outputs})")
        self._connection.execute(f"CREATE TABLE {fill.ledger} ({keys}, _call BIGINT, _failed BOOLEAN)")
        self._connection.execute(
            f"INSERT INTO {INTERNAL}.fills (id, model, fingerprint, lineage, definition) VALUES (?, ?, ?, ?, ?)",
            [fill.id, fill.model, fill.fingerprint, fill.lineage, json.dumps(dataclasses.asdict(fill))],
        )

    def drop_fill(self, fill: FillDefinition) -> None:
        """Remove a fill with all its answers."""
        for table in (fill.rows, fill.ledger):
            self._connection.execute(f"DROP TABLE IF EXISTS {table}")
        for table in ("fills", "errors", "calls"):
            column = "id" if table == "fills" else "fill"
            self._connection.execute(f"DELETE FROM {INTERNAL}.{table} WHERE {column} = ?", [fill.id])


def lineage(model: ModelDefinition, sources: list[list[object]]) -> str:
    """Digest of a model and of what each of its inputs descends from."""
    return fingerprint(model.name.lower(), model.fingerprint, model.rows, sources)
