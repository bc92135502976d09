"""The adapter for Harlequin, an IDE in the terminal: ``harlequin -a aidb street.aidb``.

The catalogue shows blob and virtual tables with the rest, what a model fills, and the models. Cancelling keeps what models
have answered. Rows beyond Harlequin's limit are not fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from harlequin import HarlequinAdapter, HarlequinConnection, HarlequinCursor
from harlequin.autocomplete.completion import HarlequinCompletion
from harlequin.catalog import Catalog, CatalogItem, InteractiveCatalogItem
from harlequin.exception import HarlequinConfigError, HarlequinConnectionError, HarlequinQueryError
from harlequin.transaction_mode import HarlequinTransactionMode

import aidb
from aidb.catalog.names import quoted
from aidb.exec.access import reader
from aidb.exec.registry import STORED
from aidb.handles import with_handles
from aidb.spi.content import CONTENT_SQL
from aidb.surfaces.described import described
from aidb.surfaces.words import CLAUSES, STATEMENTS

if TYPE_CHECKING:
    from harlequin.driver import HarlequinDriver

_COLUMNS = """
SELECT schema_name, table_name, list({'name': column_name, 'type': data_type} ORDER BY column_index), any_value(is_view)
FROM (SELECT *, (schema_name, table_name) IN (SELECT (schema_name, view_name) FROM duckdb_views()) AS is_view
    FROM duckdb_columns() WHERE NOT internal AND database_name = current_database() AND schema_name <> 'aidb_internal')
GROUP BY schema_name, table_name ORDER BY schema_name = 'aidb', schema_name, table_name
"""
_KINDS = {"blob table": "bt", "virtual table": "vt", "table": "t", "view": "v"}
_FAMILIES = ((aidb.STRING, "s"), (aidb.NUMBER, "#"), (aidb.DATETIME, "d"), (aidb.BINARY, "0b"))


def _short(type_: str) -> str:
    """A type in three characters."""
    if type_ == CONTENT_SQL:
        return "img"
    if type_.endswith("]"):
        return "[]"
    if type_ in ("FLOAT", "DOUBLE") or type_.startswith("DECIMAL"):
        return "#.#"
    return "t/f" if type_ == "BOOLEAN" else next((label for family, label in _FAMILIES if family == type_), "{}")


def _column(table: str, name: str, type_: str, filled: str | None) -> CatalogItem:
    shown = f"{type_}, {filled}" if filled else type_
    return CatalogItem(f"{table}.{quoted(name)}", quoted(name), name, _short(type_), type_name=shown)


class AidbCursor(HarlequinCursor):  # type: ignore[misc, unused-ignore]
    """The rows of one query."""

    def __init__(self, connection: aidb.Connection, cursor: aidb.Cursor) -> None:
        self._connection, self._cursor = connection, cursor
        self._limit: int | None = None

    def columns(self) -> list[tuple[str, str]]:
        """(name, short type) of each column."""
        return [(name, _short(type_)) for name, type_, *_ in self._cursor.description or ()]

    def set_limit(self, limit: int) -> AidbCursor:
        """Fetch so many rows at most."""
        self._limit = limit
        return self

    def fetchall(self) -> pa.Table | None:
        """The rows; a picture is shown by its name. None if they were cancelled."""
        try:
            table = self._cursor.arrow() if self._limit is None else self._first(self._limit)
        except aidb.Interrupted:
            return None
        except aidb.Error as e:
            raise HarlequinQueryError(msg=str(e), title="AIDB could not fetch all rows:") from e
        for name, handles in list(with_handles(table, reader(self._connection.engine))):
            shown = pa.array([None if h is None else repr(h) for h in handles], pa.string())
            table = table.set_column(table.column_names.index(name), name, shown)
        return table

    def _first(self, limit: int) -> pa.Table:
        reader = self._cursor.fetch_record_batch(max(min(limit, 65_536), 1))
        table = reader.schema.empty_table()
        while table.num_rows < limit and (batch := next(reader, None)) is not None:
            table = pa.concat_tables([table, pa.Table.from_batches([batch])])
        return table.slice(0, limit)


@dataclass
class TableItem(InteractiveCatalogItem["AidbConnection"]):
    """A table or view."""

    def ask_cost(self, driver: HarlequinDriver) -> None:
        """Put the question into the editor: what would reading it all cost?"""
        driver.insert_text_in_new_buffer(f"EXPLAIN COST SELECT * FROM {self.query_name}")

    def preview(self, driver: HarlequinDriver) -> None:
        """Put a query for ten rows into the editor."""
        driver.insert_text_in_new_buffer(f"SELECT * FROM {self.query_name} LIMIT 10")

    INTERACTIONS: ClassVar[Any] = [("Ask for Ten Rows", preview), ("Ask What All Rows Cost", ask_cost)]


class AidbConnection(HarlequinConnection):  # type: ignore[misc, unused-ignore]
    """A connection; Harlequin calls it from several threads."""

    def __init__(self, connection: aidb.Connection, init_message: str = "") -> None:
        self.connection, self.init_message = connection, init_message
        self._auto = HarlequinTransactionMode("Auto")
        self._manual = HarlequinTransactionMode("Manual", connection.commit, connection.rollback)

    def execute(self, query: str) -> AidbCursor | None:
        """Run one statement; None if it has no rows, or was cancelled."""
        try:
            cursor = self.connection.execute(query)
        except aidb.Interrupted:
            return None
        except aidb.Error as e:
            raise HarlequinQueryError(msg=str(e), title="AIDB could not run the statement:") from e
        return None if cursor.description is None else AidbCursor(self.connection, cursor)

    def cancel(self) -> None:
        """Stop what runs; finished work is kept."""
        self.connection.interrupt()

    def get_catalog(self) -> Catalog:
        """Schemas, tables of each kind, columns; and models."""
        try:
            ours = described(self.connection)
            tables = self.connection.execute(_COLUMNS).fetchall()
            models = self.connection.execute("SELECT name, provider FROM aidb.models ORDER BY name").fetchall()
        except aidb.Error as e:
            raise HarlequinQueryError(msg=str(e), title="AIDB could not list its tables:") from e
        stored = {d.name.lower() + STORED for d in ours.values() if d.kind == "table"}
        schemas: dict[str, CatalogItem] = {}
        for schema, table, columns, is_view in tables:
            if schema == "main" and table.lower() in stored:
                continue
            parent = schemas.setdefault(schema, CatalogItem(quoted(schema), quoted(schema), schema, "sch"))
            own = ours.get(table.lower()) if schema == "main" else None
            kind = own.kind if own is not None else "view" if is_view else "table"
            full = f"{quoted(schema)}.{quoted(table)}"
            name = quoted(table) if schema == "main" else full
            item = TableItem(full, name, table, _KINDS[kind], type_name=kind, loaded=True)
            filled = own.columns if own is not None else {}
            item.children += [_column(full, c["name"], c["type"], filled.get(c["name"])) for c in columns]
            parent.children.append(item)
        called = [CatalogItem(f"model {n}", n, n, "m", type_name=f"model, {p}") for n, p in models]
        return Catalog([*schemas.values(), *([CatalogItem("models", "", "models", "", called)] if called else [])])

    def get_completions(self) -> list[HarlequinCompletion]:
        """Our own phrases; the words of the catalogue Harlequin finds itself."""
        return [HarlequinCompletion(phrase, "kw", phrase, 100) for phrase in (*STATEMENTS, *CLAUSES)]

    @property
    def transaction_mode(self) -> HarlequinTransactionMode:
        """Auto, or Manual: then a change begins a transaction, inside which models can't run."""
        return self._auto if self.connection.autocommit else self._manual

    def toggle_transaction_mode(self) -> HarlequinTransactionMode:
        """The other one; an open transaction is committed."""
        self.connection.commit()
        self.connection.autocommit = not self.connection.autocommit
        return self.transaction_mode

    def close(self) -> None:
        """Close; batches in flight are stored first."""
        self.connection.close()


class AidbAdapter(HarlequinAdapter):  # type: ignore[misc, unused-ignore]
    """``harlequin -a aidb [FILE] [--read-only]``."""

    IMPLEMENTS_CANCEL = True
    IMPLEMENTS_READ_ONLY = True
    ADAPTER_DETAILS = "AIDB: video, images and text in plain SQL."

    def __init__(self, conn_str: Sequence[str], read_only: bool = False, **_: Any) -> None:
        if len(conn_str) > 1:
            raise HarlequinConfigError(f"AIDB opens one file, not {len(conn_str)}", "Harlequin could not start AIDB.")
        self._path, self._read_only = next(iter(conn_str), "") or ":memory:", read_only

    def connect(self) -> AidbConnection:
        """Open the file."""
        try:
            return AidbConnection(aidb.connect(self._path, read_only=self._read_only))
        except aidb.Error as e:
            raise HarlequinConnectionError(str(e), title="AIDB could not open the database.") from e

    @property
    def connection_id(self) -> str:
        """The file; nothing is remembered of a database in memory."""
        return "" if self._path.startswith(":memory:") else str(Path(self._path).resolve())
