"""The names that a person may write: tables with their columns, models, providers, connectors, settings, functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from aidb.errors import Error
from aidb.exec.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from aidb.exec.engine import Engine

SETTINGS = tuple(setting.name for setting in fields(Settings))

_COLUMNS = """
SELECT if(database_name = current_database(), if(schema_name = 'main', '', schema_name || '.'), if(database_name = 'temp', '',
    database_name || '.' || schema_name || '.')) || table_name AS name, list(column_name ORDER BY column_index) AS columns,
    list(data_type ORDER BY column_index) AS types
FROM duckdb_columns() WHERE NOT internal AND schema_name <> 'aidb_internal'
GROUP BY ALL
"""
_OURS = """
SELECT 'blob table' AS kind, name, '' AS model FROM aidb.blob_tables
UNION ALL SELECT 'virtual table', name, model FROM aidb.virtual_tables WHERE kind = 'table'
UNION ALL SELECT 'model', name, '' FROM aidb.models
UNION ALL SELECT 'proxy', name, '' FROM aidb.proxies UNION ALL SELECT 'semantic index', name, '' FROM aidb.indexes
"""
_FUNCTIONS = (
    "SELECT DISTINCT function_name AS name FROM duckdb_functions() WHERE function_name SIMILAR TO '[a-z][a-z0-9_]*'"
)


@dataclass(frozen=True)
class Table:
    """A table or view as it is written. kind: blob table, virtual table, or table. columns: name -> DuckDB type."""

    name: str
    kind: str
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """All names, as they are written (schema and dot before those that need it)."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    connectors: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    settings: tuple[str, ...] = tuple(f"aidb.{name}" for name in SETTINGS)


def read(engine: Engine, functions: tuple[str, ...] | None = None) -> Vocabulary:
    """What a database knows now. functions: those of DuckDB, if they were read before; they take longest."""
    from aidb.catalog.discover import entry_points
    from aidb.exec.registry import STORED

    query = engine.database.query
    ours: dict[str, list[str]] = {"model": [], "proxy": [], "semantic index": []}
    kinds: dict[str, str] = {}
    for kind, name, _ in _rows(query(_OURS)) if engine.database.is_aidb else ():
        if kind in ours:
            ours[kind].append(name)
        else:
            kinds[name] = kind
    tables = {}
    for name, columns, types in _rows(query(_COLUMNS)):
        shown = name.removesuffix(STORED)
        if shown == name or shown not in tables:  # a table with virtual columns is seen through its view
            tables[shown] = Table(shown, kinds.get(shown, "table"), dict(zip(columns, types, strict=True)))
    if functions is None:
        functions = tuple(sorted(name for (name,) in _rows(query(_FUNCTIONS))))
    return Vocabulary(
        tables=tables,
        models=tuple(ours["model"]),
        proxies=tuple(ours["proxy"]),
        indexes=tuple(ours["semantic index"]),
        providers=tuple(sorted(entry_points("aidb.models"))),
        connectors=tuple(sorted(entry_points("aidb.connectors"))),
        functions=functions,
    )


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


class Known:
    """The vocabulary as it was last read. Reading happens beside what the person does, so that no key waits for it."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        self._functions: tuple[str, ...] | None = None
        self._thread: threading.Thread | None = None
        self.now = Vocabulary()

    def refresh(self) -> None:
        """Read again, in a thread of its own; one that still reads is waited for."""
        self.wait()
        self._thread = threading.Thread(target=self._read, name="aidb vocabulary", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until what was last asked for has been read."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _read(self) -> None:
        try:
            self.now = read(self._engine(), self._functions)
            self._functions = self.now.functions
        except Error:
            return  # closed meanwhile, or within a transaction that has failed: the old names serve
