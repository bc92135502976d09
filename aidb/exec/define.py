"""Statements that declare things: blob tables, models, virtual tables and columns, and what takes them away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from aidb.catalog.definitions import BlobTable, VirtualColumns, VirtualTable
from aidb.catalog.names import quoted, same
from aidb.errors import InternalError, OperationalError, ProgrammingError, SourceError, UnknownName
from aidb.exec.materialiser import Connectors
from aidb.exec.models import PYTHON, ModelPool, check_spec, definition_of, make
from aidb.exec.registry import STORED, Registry
from aidb.spi import Connector, Model, Options, Scan
from aidb.sql.statements import (
    AddVirtualColumns,
    CreateBlobTable,
    CreateModel,
    CreateVirtualTable,
    Drop,
    ModelCall,
    Refresh,
    RetryFailed,
)
from aidb.storage import items
from aidb.storage.answers import clear_errors, retry_failed
from aidb.storage.database import Database, translated

Definition = CreateBlobTable | CreateModel | CreateVirtualTable | AddVirtualColumns | Refresh | RetryFailed | Drop
QUERY_KEY = "blob_id"


class Definer:
    """Carries out one definition at a time, in one transaction, and says in a sentence what it did."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        pool: ModelPool,
        connectors: Connectors,
        prepare: Callable[[str], str],
    ) -> None:
        """prepare: materialises what a query needs and gives the SQL to run (for CREATE BLOB TABLE ... AS)."""
        self._database, self._registry, self._pool = database, registry, pool
        self._connectors, self._prepare = connectors, prepare

    def run(self, statement: Definition) -> str:
        """Do what the statement says. Raises before anything has changed, or changes everything it names."""
        self.check_can_define()
        match statement:
            case CreateBlobTable():
                return self._create_blob_table(statement)
            case CreateModel():
                return self._create_model(statement)
            case CreateVirtualTable():
                return self._create_virtual_table(statement)
            case AddVirtualColumns():
                return self._add_virtual_columns(statement)
            case Refresh():
                return self._refresh(statement)
            case RetryFailed():
                return self._retry(statement)
            case Drop():
                return self._drop(statement)

    def check_can_define(self) -> None:
        """Raise if nothing can be declared now."""
        if self._database.read_only:
            raise OperationalError("the database is open read-only: definitions can't be changed")
        if self._database.in_transaction():
            raise OperationalError("definitions can't be part of a transaction that you began: COMMIT first")

    def _together(self, work: Callable[[], str]) -> str:
        """Run in one transaction; when it fails the registry is what it was."""
        database, registry = self._database, self._registry
        with database.lock, translated():
            database.user.execute("BEGIN")
            try:
                said = work()
                registry.publish()
                database.user.execute("COMMIT")
            except BaseException:
                database.user.execute("ROLLBACK")
                registry.reload()
                raise
        return said

    # ---- names
    def _check_free(self, name: str, kind: str) -> None:
        """No other table may have the name."""
        registry = self._registry
        for other, what in ((registry.blobs, "blob table"), (registry.virtual, "virtual table")):
            if name.lower() in other and what != kind:
                raise ProgrammingError(
                    f"there is a {what} {other[name.lower()].name!r} already; DROP it or choose another name"
                )
        if not registry.known(name):
            rows = self._database.query(
                "SELECT table_type FROM information_schema.tables WHERE lower(table_name) = lower($n) "
                "AND table_schema = 'main' AND table_catalog = current_database()",
                {"n": name},
            )
            if rows.num_rows:
                what = "view" if rows.column(0)[0].as_py() == "VIEW" else "table"
                raise ProgrammingError(f"there is a {what} {name!r} already; choose another name")

    # ---- blob tables
    def _create_blob_table(self, s: CreateBlobTable) -> str:
        registry = self._registry
        existing = registry.blobs.get(s.name.lower())
        if existing is not None and not s.replace:
            if s.if_not_exists:
                return f"blob table {existing.name} exists already"
            raise ProgrammingError(
                f"blob table {s.name!r} exists already; CREATE OR REPLACE keeps the answers that still hold"
            )
        self._check_free(s.name, "blob table")
        if s.query is not None:
            return self._blob_table_of_query(s, existing)
        assert s.source is not None
        connector = self._connectors.get(s.connector) if s.connector else self._choose(s.source)
        scan = Scan(s.source, Options(s.options, f"connector {connector.name}"))
        schema = connector.schema(scan)
        columns = {n.lower(): t for n, t in schema.columns}
        key = s.key or schema.key
        key_type, identity = "BIGINT", schema.identity
        if s.key is not None and s.key.lower() in columns:
            key_type, identity = columns[s.key.lower()], (s.key,)
        definition = BlobTable(
            s.name,
            0,
            key,
            key_type,
            schema.columns,
            identity,
            schema.content,
            connector.name,
            s.source,
            None,
            dict(s.options),
        )

        def work() -> str:
            items.stage_batches(self._database.user, definition, connector.items(scan))
            return self._keep_items(definition, existing)

        return self._together(work)

    def _blob_table_of_query(self, s: CreateBlobTable, existing: BlobTable | None) -> str:
        assert s.query is not None
        runnable = self._prepare(s.query)

        def work() -> str:
            columns = items.stage_query(self._database.user, runnable)
            types = {n.lower(): (n, t) for n, t in columns}
            if s.key is None:
                if QUERY_KEY in types:
                    raise ProgrammingError(
                        f"{s.name}: the query has a column {QUERY_KEY}; say KEY ({QUERY_KEY}) if it is the key"
                    )
                key, key_type = QUERY_KEY, "BIGINT"
                identity: tuple[str, ...] = ("_content", "_copy")
            elif s.key.lower() not in types:
                raise UnknownName.of(
                    f"column of {s.name}", s.key, (n for n, _ in columns), "KEY names a column of the query"
                )
            else:
                key, key_type = types[s.key.lower()]
                identity = (key,)
            content = next((n for n, t in columns if t.startswith("STRUCT(uri VARCHAR, pos ")), None)
            text = next((n for n, t in columns if t == "VARCHAR" and not same(n, key)), None)
            definition = BlobTable(
                s.name, 0, key, key_type, columns, identity, content or text, None, None, s.query, dict(s.options)
            )
            return self._keep_items(definition, existing)

        return self._together(work)

    def _choose(self, source: str) -> Connector:
        """The connector that takes most of the source's files."""
        errors: list[SourceError] = []
        best: tuple[int, int, Connector] | None = None
        for connector in self._connectors.all():
            try:
                claimed = connector.claims(source)
            except SourceError as e:
                errors.append(e)
                continue
            rank = (claimed, connector.priority)
            if claimed and (best is None or rank > best[:2]):
                best = (*rank, connector)
        if best is not None:
            return best[2]
        if errors:
            raise errors[0]
        known = ", ".join(sorted({e for c in self._connectors.all() for e in c.extensions}))
        raise SourceError(f"no connector takes {source!r}: files end with {known}; say which one with USING")

    def _keep_items(self, definition: BlobTable, existing: BlobTable | None) -> str:
        """Merge the staged listing into the items: those of the same table before, or of one that was dropped."""
        registry = self._registry
        before = existing or registry.dropped.get(definition.name.lower())
        if before is not None and _same_shape(before, definition):
            definition = replace(definition, id=before.id)
        else:
            if before is not None:
                registry.retire(before)
            definition = replace(definition, id=registry.store.next_id())
            items.create(self._database.user, definition)
        registry.add(definition)
        changes = items.merge(self._database.user, definition, registry.dependents(definition))
        parts = [f"{changes.items:,} items"]
        parts += [
            f"{n:,} {what}"
            for n, what in ((changes.new, "new"), (changes.changed, "changed"), (changes.gone, "gone"))
            if n
        ]
        return f"blob table {definition.name}: {', '.join(parts)}"

    def _refresh(self, s: Refresh) -> str:
        if s.kind != "blob table":
            raise InternalError(f"REFRESH {s.kind} is not defined")
        table = self._registry.blobs.get(s.name.lower())
        if table is None:
            raise UnknownName.of("blob table", s.name, (t.name for t in self._registry.blobs.values()))
        if table.query is not None:
            key = None if table.key == QUERY_KEY and table.identity == ("_content", "_copy") else table.key
            return self._blob_table_of_query(
                CreateBlobTable(table.name, None, table.query, None, key, table.options), table
            )
        assert table.connector is not None
        assert table.source is not None
        connector = self._connectors.get(table.connector)
        scan = Scan(table.source, Options(table.options, f"connector {connector.name}"))

        def work() -> str:
            items.stage_batches(self._database.user, table, connector.items(scan))
            return self._keep_items(table, table)

        return self._together(work)

    # ---- models
    def _create_model(self, s: CreateModel) -> str:
        registry = self._registry
        if s.name.lower() in registry.models and not s.replace:
            if s.if_not_exists:
                return f"model {s.name} exists already"
            raise ProgrammingError(
                f"model {s.name!r} exists already; CREATE OR REPLACE MODEL makes its old answers stale"
            )
        model = make(s.name, s.provider, s.options)
        return self.register(s.name, s.provider, s.options, model)

    def register(self, name: str, provider: str, options: Mapping[str, object], model: Model) -> str:
        """Keep a model under a name; answers of an earlier, different one of the name become stale."""
        check_spec(name, model.spec)
        definition = definition_of(name, provider, options, model.spec)
        before = self._registry.models.get(name.lower())
        if before is not None and before.outputs != definition.outputs:
            self._check_outputs_used(name, definition.outputs)
        if before != definition:
            self._together(lambda: self._added(definition))
        self._pool.put(name, model)
        stale = before is not None and before.fingerprint != definition.fingerprint
        return f"model {name} ({provider}, {definition.device})" + ("; its earlier answers are stale" if stale else "")

    def _added(self, definition: object) -> str:
        self._registry.add(definition)  # type: ignore[arg-type]
        return ""

    def _check_outputs_used(self, name: str, outputs: tuple[tuple[str, str], ...]) -> None:
        """Named columns must still find an output each."""
        for table in self._registry.virtual.values():
            if same(table.model, name) and table.columns and len(table.columns) != len(outputs):
                raise ProgrammingError(f"virtual table {table.name} names {len(table.columns)} columns; drop it first")
        for columns in self._registry.columns:
            if same(columns.model, name) and len(columns.columns) != len(outputs):
                raise ProgrammingError(
                    f"{columns.table} has {len(columns.columns)} virtual columns of {name}; drop them first"
                )

    # ---- virtual tables and columns
    def _arguments(self, call: ModelCall, alone: str | None = None) -> tuple[tuple[str, str], ...]:
        """Arguments as (relation, column): a bare column belongs to the one table that has it."""
        model = self._registry.model(call.model)
        spec = self._pool.get(model).spec if model.provider != PYTHON or model.name.lower() in self._pool else None
        least, most = len(model.inputs), len(model.inputs)
        if spec is not None and spec.variadic:
            least, most = 1, 1 << 30
        if not least <= len(call.args) <= most:
            raise ProgrammingError(
                f"{model.name} takes {len(model.inputs)} input{'s' * (len(model.inputs) != 1)} "
                f"({', '.join(model.inputs)}), not {len(call.args)}"
            )
        found = []
        for table, column in call.args:
            if table is None:
                table = alone or self._only_owner(column)
            elif (
                table.lower() not in self._registry.blobs and table.lower() not in self._registry.virtual and not alone
            ):
                self._refuse_table(table)
            found.append((self._spelled(table), column))
        return tuple(found)

    def _spelled(self, table: str) -> str:
        relation = self._registry.relation(table)
        return relation.name if relation is not None else table

    def _refuse_table(self, table: str) -> None:
        exists = self._database.query(
            "SELECT 1 AS x FROM information_schema.tables WHERE lower(table_name) = lower($n)", {"n": table}
        ).num_rows
        if exists:
            raise ProgrammingError(
                f"{table} is a plain table: a virtual table needs items. CREATE BLOB TABLE ... AS SELECT * FROM {table} "
                f"KEY (...) makes some, or ALTER TABLE {table} ADD VIRTUAL COLUMN adds columns to it"
            )
        raise UnknownName.of("table", table, self._registry.names())

    def _only_owner(self, column: str) -> str:
        owners = []
        for name in self._registry.names():
            relation = self._registry.relation(name)
            if relation is not None and any(same(column, c) for c in relation.columns):
                owners.append(name)
        # A virtual table inherits its parent's key: the column belongs to the one that has it first.
        own = [o for o in owners if not any(a in [x.lower() for x in owners] for a in self._registry.ancestors(o))]
        if len(own) == 1:
            return own[0]
        if not own:
            raise UnknownName.of("column", column, (), "write table.column")
        raise ProgrammingError(f"the column {column!r} is in {' and '.join(own)}: write {own[0]}.{column}")

    def _create_virtual_table(self, s: CreateVirtualTable) -> str:
        registry = self._registry
        if s.options:
            raise UnknownName.of(f"option of virtual table {s.name}", next(iter(s.options)), ())
        if s.name.lower() in registry.virtual and not s.replace:
            if s.if_not_exists:
                return f"virtual table {s.name} exists already"
            raise ProgrammingError(
                f"virtual table {s.name!r} exists already; CREATE OR REPLACE VIRTUAL TABLE declares it anew"
            )
        self._check_free(s.name, "virtual table")
        args = self._arguments(s.call)
        if any(same(t, s.name) or s.name.lower() in registry.ancestors(t) for t, _ in args):
            raise ProgrammingError(f"virtual table {s.name!r} can't be filled from itself")
        model = registry.model(s.call.model)
        names = tuple(n for n, _ in s.columns)
        if names:
            if len(names) != len(model.outputs):
                outputs = ", ".join(n for n, _ in model.outputs)
                raise ProgrammingError(f"{model.name} has {len(model.outputs)} outputs ({outputs}), not {len(names)}")
            for (name, type_), (_, given) in zip(s.columns, model.outputs, strict=True):
                if type_ is not None and not self._same_type(type_, given):
                    raise ProgrammingError(
                        f"{s.name}.{name}: {model.name} gives {given}, not {type_}; leave the type out"
                    )
        shown = names or tuple(n for n, _ in model.outputs)
        taken = {f"{s.name}_id".lower()} if model.rows == "many" else set()
        for name in shown:
            if name.lower() in taken:
                raise ProgrammingError(
                    f"{s.name}: two columns would be called {name!r}; name the outputs: {s.name} (...)"
                )
            taken.add(name.lower())

        def work() -> str:
            registry.add(VirtualTable(s.name, model.name, args, names))
            relation = registry.relation(s.name)
            assert relation is not None
            if len({c.lower() for c in relation.columns}) < len(relation.columns):
                raise ProgrammingError(f"{s.name}: two columns would have one name: {', '.join(relation.columns)}")
            return f"virtual table {s.name} ({', '.join(relation.columns)}): nothing runs until it is asked for"

        return self._together(work)

    def _same_type(self, one: str, other: str) -> bool:
        rows = self._database.query(f"SELECT typeof(NULL::{one}) = typeof(NULL::{other}) AS same")
        return bool(rows.column(0)[0].as_py())

    def _add_virtual_columns(self, s: AddVirtualColumns) -> str:
        registry = self._registry
        args = self._arguments(s.call, alone=s.table)
        model = registry.model(s.call.model)
        if model.rows == "many":
            raise ProgrammingError(
                f"{model.name} gives many rows an item: CREATE VIRTUAL TABLE ... AS {model.name}(...)"
            )
        if len(s.columns) != len(model.outputs):
            outputs = ", ".join(n for n, _ in model.outputs)
            raise ProgrammingError(
                f"{model.name} has {len(model.outputs)} outputs ({outputs}), not {len(s.columns)}: name each"
            )
        plain = not registry.known(s.table)
        have = registry.column_types(s.table)
        if not have:
            raise UnknownName.of("table", s.table, registry.names())
        for name in s.columns:
            if name.lower() in have:
                raise ProgrammingError(f"{s.table} has a column {name!r} already")
        table = s.table
        if plain:
            rows = self._database.query(
                "SELECT table_name FROM duckdb_tables() WHERE lower(table_name) = lower($n) AND NOT temporary "
                "AND schema_name = 'main' AND database_name = current_database()",
                {"n": s.table},
            )
            if not rows.num_rows:
                raise ProgrammingError(
                    f"{s.table} is not a table of this database's main schema: virtual columns can't be added"
                )
            table = str(rows.column(0)[0].as_py())

        def work() -> str:
            if plain:
                self._database.user.execute(f"ALTER TABLE main.{quoted(table)} RENAME TO {quoted(table + STORED)}")
            registry.add(VirtualColumns(table, s.columns, model.name, args))
            return f"{table} has the virtual column{'s' * (len(s.columns) > 1)} {', '.join(s.columns)}"

        return self._together(work)

    # ---- taking away
    def _retry(self, s: RetryFailed) -> str:
        registry = self._registry
        chosen = list(registry.current_fills().values())
        if s.name is not None:
            name = s.name.lower()
            if name in registry.models:
                chosen = [f for f in chosen if f.model.lower() == name]
            elif (relation := registry.relation(s.name)) is not None:
                ours = [relation.fill, *(e.fill for e in relation.extensions)]
                chosen = [registry.definition(f) for f in ours if f is not None]
            else:
                raise UnknownName.of("model or virtual table", s.name, [*registry.names(), *registry.models])
        count = 0

        def work() -> str:
            nonlocal count
            count = retry_failed(self._database.user, chosen)
            for fill in chosen:
                clear_errors(self._database.user, fill)
            return f"{count:,} failed items will be tried again by the next query that needs them"

        return self._together(work)

    def _drop(self, s: Drop) -> str:
        registry = self._registry
        if s.kind == "stale":
            return self._together(self._drop_stale)
        assert s.name is not None
        where: dict[str, dict[str, object]] = {
            "blob table": dict(registry.blobs),
            "model": dict(registry.models),
            "virtual table": dict(registry.virtual),
        }
        if s.kind not in where:
            raise InternalError(f"DROP {s.kind} is not defined")
        definition = where[s.kind].get(s.name.lower())
        if definition is None:
            if s.if_exists:
                return f"there is no {s.kind} {s.name}"
            raise UnknownName.of(s.kind, s.name, where[s.kind])
        users = self._users(s.kind, s.name)
        if users and not s.cascade:
            raise ProgrammingError(
                f"{', '.join(users)} rest{'s' * (len(users) == 1)} on {s.kind} {s.name}; DROP ... CASCADE drops both"
            )

        def work() -> str:
            said = []
            for kind, name in [*self._dependents(s.kind, s.name or "")][::-1]:
                self._remove(kind, name)
                said.append(name)
            self._remove(s.kind, s.name or "")
            also = f", and {', '.join(said)}" if said else ""
            return f"dropped {s.kind} {s.name}{also}; stored answers stay until DROP STALE"

        return self._together(work)

    def _users(self, kind: str, name: str) -> list[str]:
        return [n for _, n in self._dependents(kind, name)]

    def _dependents(self, kind: str, name: str) -> list[tuple[str, str]]:
        """(kind, name) of what rests on something, the nearest first."""
        found: dict[tuple[str, str], None] = {}
        todo = [(kind, name)]
        while todo:
            what, of = todo.pop(0)
            for table in self._registry.virtual.values():
                uses = same(table.model, of) if what == "model" else any(same(t, of) for t, _ in table.args)
                if uses and ("virtual table", table.name) not in found:
                    found[("virtual table", table.name)] = None
                    todo.append(("virtual table", table.name))
            for columns in self._registry.columns:
                uses = same(columns.model, of) if what == "model" else same(columns.table, of)
                if uses:
                    found[("virtual columns", f"{columns.table}.{','.join(columns.columns)}")] = None
        return list(found)

    def _remove(self, kind: str, name: str) -> None:
        registry, db = self._registry, self._database.user
        if kind == "model":
            registry.remove(registry.model(name))
            self._pool.forget(name)
        elif kind == "virtual table":
            table = registry.virtual[name.lower()]
            registry.remove(table)
            db.execute(f"DROP VIEW IF EXISTS main.{quoted(table.name)}")
        elif kind == "blob table":
            blob = registry.blobs[name.lower()]
            db.execute(f"DROP VIEW IF EXISTS main.{quoted(blob.name)}")
            registry.add(replace(blob, dropped=True))
        else:
            columns = next(c for c in registry.columns if f"{c.table}.{','.join(c.columns)}" == name)
            registry.remove(columns)
            if not registry.known(columns.table):
                db.execute(f"DROP VIEW IF EXISTS main.{quoted(columns.table)}")
                db.execute(f"ALTER TABLE main.{quoted(columns.table + STORED)} RENAME TO {quoted(columns.table)}")

    def _drop_stale(self) -> str:
        registry, db = self._registry, self._database.user
        current = registry.current_fills()
        rows = 0
        for digest, fill in list(registry.fills.items()):
            tables = [items.stale_name(fill.rows), items.stale_name(fill.ledger)]
            if digest not in current:
                tables += [fill.rows]
            for table in tables:
                rows += _rows_in(db, table)
            db.execute("; ".join(f"DROP TABLE IF EXISTS {items.stale_name(t)}" for t in (fill.rows, fill.ledger)))
            if digest not in current:
                registry.store.drop_fill(fill)
                del registry.fills[digest]
        for blob in list(registry.dropped.values()):
            items.drop(db, blob)
            registry.remove(blob)
        return f"dropped {rows:,} stale rows"


def _rows_in(db: object, table: str) -> int:
    schema, name = table.split(".")
    execute = db.execute  # type: ignore[attr-defined]
    there = execute("SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, name]).fetchall()
    if not there:
        return 0
    return int(execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


def _same_shape(before: BlobTable, now: BlobTable) -> bool:
    """May the items of one listing be merged into those of the other?"""
    mine = (before.key.lower(), before.key_type, before.columns, before.identity, before.connector)
    return mine == (now.key.lower(), now.key_type, now.columns, now.identity, now.connector)
