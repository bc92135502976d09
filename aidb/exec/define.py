"""Statements that declare things, and those that take them away: one at a time, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aidb.catalog.definitions import ModelDefinition, VirtualColumns
from aidb.catalog.names import same
from aidb.errors import OperationalError, ProgrammingError
from aidb.exec.access import Access
from aidb.exec.blob_tables import BlobTables
from aidb.exec.exchange import Exchange
from aidb.exec.materialiser import Connectors
from aidb.exec.models import ModelPool, check_spec, definition_of, make
from aidb.exec.registry import Registry
from aidb.exec.removal import Removal
from aidb.exec.secrets import refuse_secrets
from aidb.exec.virtual_tables import VirtualTables
from aidb.spi import Model
from aidb.sql.statements import (
    AddVirtualColumns,
    AttachMaterialized,
    CreateBlobTable,
    CreateModel,
    CreateVirtualTable,
    Drop,
    ExportVirtualTable,
    Refresh,
    RetryFailed,
)
from aidb.storage.database import Database

Definition = (
    CreateBlobTable
    | CreateModel
    | CreateVirtualTable
    | AddVirtualColumns
    | Refresh
    | RetryFailed
    | Drop
    | ExportVirtualTable
    | AttachMaterialized
)


class Definer:
    """Carries out one definition at a time, in one transaction, and says in a sentence what it did."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        pool: ModelPool,
        connectors: Connectors,
        prepare: Callable[[str], str],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """prepare: materialises what a query needs and gives the SQL to run (for CREATE BLOB TABLE ... AS).

        check: raises if the statement was interrupted; called while items are listed.
        """
        self._database, self._registry, self._pool = database, registry, pool
        self._blobs = BlobTables(database, registry, connectors, prepare, check)
        self._virtual = VirtualTables(database, registry)
        self._removal = Removal(database, registry, pool)
        self._exchange = Exchange(registry)
        self.access = Access(registry)

    def run(self, statement: Definition) -> str:
        """Do what the statement says. Raises before anything has changed, or changes everything it names."""
        if outside := _reaches_outside(statement):
            self.access.demand(outside)
        if isinstance(statement, ExportVirtualTable):
            return self._exchange.export(statement)
        self.check_can_define()
        match statement:
            case CreateBlobTable():
                refuse_secrets({}, statement.query or "")
                return self._blobs.create(statement)
            case CreateModel():
                return self._create_model(statement)
            case CreateVirtualTable():
                return self._virtual.create(statement)
            case AddVirtualColumns():
                return self._virtual.add_columns(statement)
            case Refresh():
                return self._blobs.refresh(statement)
            case RetryFailed():
                return self._removal.retry(statement)
            case Drop():
                return self._removal.drop(statement)
            case AttachMaterialized():
                return self._exchange.attach(statement)

    def drop_columns(self, columns: VirtualColumns) -> None:
        """Take virtual columns off a table; their answers stay until DROP STALE."""
        self._removal.drop_columns(columns)

    def check_can_define(self) -> None:
        """Raise if nothing can be declared now."""
        if self._database.read_only:
            raise OperationalError("the database is open read-only: definitions can't be changed")
        if self._database.in_transaction():
            raise OperationalError(
                "definitions can't be part of a transaction that you began: COMMIT or ROLLBACK first"
            )
        self._registry.catch_up()

    def _create_model(self, s: CreateModel) -> str:
        registry = self._registry
        if s.name.lower() in registry.models and not s.replace:
            if s.if_not_exists:
                return f"model {s.name} exists already"
            raise ProgrammingError(
                f"model {s.name!r} exists already; CREATE OR REPLACE MODEL makes its old answers stale"
            )
        refuse_secrets(s.options)
        model = make(s.name, s.provider, s.options)
        return self.register(s.name, s.provider, s.options, model)

    def register(self, name: str, provider: str, options: Mapping[str, object], model: Model) -> str:
        """Keep a model under a name; answers of an earlier, different one of the name become stale.

        What is known already, as it is, may be registered at any time: also where nothing can be declared.
        """
        check_spec(name, model.spec)
        self._registry.catch_up()
        definition = definition_of(name, provider, options, model.spec)
        before = self._registry.models.get(name.lower())
        if before is not None and (before.outputs, before.rows) != (definition.outputs, definition.rows):
            self._check_outputs_used(name, definition)
        if before != definition:
            self.check_can_define()
            with self._registry.changing():
                self._registry.add(definition)
        self._pool.put(name, model)
        stale = before is not None and before.fingerprint != definition.fingerprint
        return f"model {name} ({provider}, {definition.device})" + ("; its earlier answers are stale" if stale else "")

    def _check_outputs_used(self, name: str, now: ModelDefinition) -> None:
        """Named columns must still find an output each."""
        for table in self._registry.virtual.values():
            if same(table.model, name) and table.columns and len(table.columns) != len(now.outputs):
                raise ProgrammingError(f"virtual table {table.name} names {len(table.columns)} columns; drop it first")
        for columns in self._registry.columns:
            if same(columns.model, name) and len(columns.columns) != len(now.outputs):
                raise ProgrammingError(
                    f"{columns.table} has {len(columns.columns)} virtual columns of {name}; drop them first"
                )
            if same(columns.model, name) and now.rows == "many":
                raise ProgrammingError(
                    f"{columns.table} has virtual columns of {name}, which would give many rows an item; drop them first"
                )


def _reaches_outside(statement: Definition) -> str | None:
    """The statement's words if it names a file, a service or code that is to be loaded."""
    match statement:
        case CreateModel():
            return "CREATE MODEL"
        case CreateBlobTable(source=source):
            return "CREATE BLOB TABLE ... FROM" if source is not None else None
        case ExportVirtualTable():
            return "EXPORT VIRTUAL TABLE"
        case AttachMaterialized():
            return "ATTACH MATERIALIZED"
        case _:
            return None
