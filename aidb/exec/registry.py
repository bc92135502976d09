"""The names of one database: definitions, the fills behind them, and the relations that a statement sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from aidb.catalog.definitions import BlobTable, FillDefinition, ModelDefinition, VirtualColumns, VirtualTable
from aidb.catalog.names import quoted, same
from aidb.catalog.relations import Extension, Fill, Relation, Relations
from aidb.errors import OperationalError, ProgrammingError, UnknownName
from aidb.exec.models import ModelPool
from aidb.sql.render import relation_sql
from aidb.storage.answers import seconds_per_item
from aidb.storage.database import Database
from aidb.storage.definitions import Definition, Definitions, lineage
from aidb.storage.items import Dependent

STORED = "__stored"
"""What a plain table's name ends with once it has virtual columns; a view has its own name."""


class Registry:
    """Everything that has a name. Made when a database is opened, kept in step with it by its own methods."""

    def __init__(self, database: Database, pool: ModelPool) -> None:
        self.database, self.pool = database, pool
        self.models: dict[str, ModelDefinition] = {}
        self.blobs: dict[str, BlobTable] = {}
        self.dropped: dict[str, BlobTable] = {}
        self.virtual: dict[str, VirtualTable] = {}
        self.columns: list[VirtualColumns] = []
        self.fills: dict[str, FillDefinition] = {}
        self._relations: dict[str, Relation] = {}
        self._checked: set[str] = set()
        self._costs: dict[int, float] = {}
        self.store = Definitions(database.user)
        self._aggregates: frozenset[str] | None = None
        self.reload()

    def reload(self) -> None:
        """Read everything from the database again, after a transaction that failed."""
        for names in (self.models, self.blobs, self.dropped, self.virtual, self.fills, self._relations):
            names.clear()
        self.columns.clear()
        if self.database.is_aidb:
            for definition in self.store.all():
                self._add(definition)
            self.fills = {f.lineage: f for f in self.store.fills()}

    def retire(self, table: BlobTable) -> None:
        """Give up the items of a table whose name gets items of another shape; its answers are stale from now on."""
        self.remove(table)
        self.database.user.execute(f"DROP TABLE IF EXISTS {table.items}; DROP TABLE IF EXISTS {table.items}_gone")

    # ---- definitions
    def _add(self, definition: Definition) -> None:
        match definition:
            case ModelDefinition():
                self.models[definition.name.lower()] = definition
            case BlobTable():
                (self.dropped if definition.dropped else self.blobs)[definition.name.lower()] = definition
            case VirtualTable():
                self.virtual[definition.name.lower()] = definition
            case VirtualColumns():
                self.columns.append(definition)
        self._relations.clear()

    def add(self, definition: Definition) -> None:
        """Write a definition, in place of one of its name."""
        self.remove(definition, keep_store=True)
        self.store.write(definition)
        self._add(definition)

    def remove(self, definition: Definition, *, keep_store: bool = False) -> None:
        """Take a definition out."""
        name = "" if isinstance(definition, VirtualColumns) else definition.name.lower()
        match definition:
            case ModelDefinition():
                self.models.pop(name, None)
                self._checked.discard(name)
            case BlobTable():
                self.blobs.pop(name, None)
                self.dropped.pop(name, None)
            case VirtualTable():
                self.virtual.pop(name, None)
            case VirtualColumns():
                self.columns = [c for c in self.columns if c != definition]
        self._relations.clear()
        if not keep_store:
            self.store.remove(definition)

    def model(self, name: str) -> ModelDefinition:
        """A registered model, in any letter case. Raises `UnknownName`."""
        found = self.models.get(name.lower())
        if found is None:
            raise UnknownName.of("model", name, (m.name for m in self.models.values()), "CREATE MODEL registers one")
        return found

    def refresh_fingerprint(self, name: str) -> None:
        """Notice, once a connection, that a model's weights or code are not what they were."""
        if name.lower() in self._checked or self.database.read_only:
            return
        self._checked.add(name.lower())
        definition = self.models.get(name.lower())
        if definition is None:
            return
        try:
            spec = self.pool.get(definition).spec
        except (OperationalError, ProgrammingError):
            return  # stored answers can be read without the model; running it will say what is wrong
        if spec.fingerprint != definition.fingerprint:
            outputs = tuple((o.name, o.type) for o in spec.outputs)
            self.add(replace(definition, fingerprint=spec.fingerprint, outputs=outputs, device=spec.device))
            self._checked.add(name.lower())
            self.publish()

    # ---- relations
    def known(self, name: str) -> bool:
        """Is this the name of a blob table, a virtual table or a table with virtual columns?"""
        low = name.lower()
        return low in self.blobs or low in self.virtual or any(same(c.table, name) for c in self.columns)

    def relation(self, name: str) -> Relation | None:
        """One of our relations, with its current fills; None for any other name."""
        low = name.lower()
        if low not in self._relations:
            if not self.known(name):
                return None
            if low in self.virtual:
                self._relations[low] = self._virtual_relation(self.virtual[low])
            elif low in self.blobs:
                self._relations[low] = self._blob_relation(self.blobs[low])
            else:
                self._relations[low] = self._plain_relation(name)
        return self._relations[low]

    def _blob_relation(self, table: BlobTable) -> Relation:
        columns = tuple(dict.fromkeys([table.key, *(n for n, _ in table.columns)]))
        relation = Relation(table.name, columns, table.items, (table.key,), content=table.content)
        return self._extended(relation)

    def _virtual_relation(self, table: VirtualTable) -> Relation:
        fill = self.fill_for(table.model, table.args, f"{table.name}_id")
        names = tuple(n for n, _ in fill.keys)
        ordinal = f"{table.name}_id" if fill.ordinal else None
        outputs = table.columns or tuple(n for n, _ in fill.outputs)
        columns = names + ((ordinal,) if ordinal else ()) + outputs
        stored = names + ((fill.ordinal,) if fill.ordinal else ()) + tuple(n for n, _ in fill.outputs)
        base = fill.rows
        if columns != stored:
            renamed = ", ".join(f"{quoted(s)} AS {quoted(c)}" for s, c in zip(stored, columns, strict=True))
            base = f"(SELECT {renamed} FROM {fill.rows})"
        key = names + ((ordinal,) if ordinal else ())
        view = self.planner_fill(fill)
        if columns != stored:
            view = replace(view, ordinal=ordinal, outputs=outputs, rows=base)
        return self._extended(Relation(table.name, columns, base, key, view))

    def _plain_relation(self, name: str) -> Relation:
        stored = self._columns_of(name + STORED)
        if not stored:
            raise OperationalError(f"the table {name}{STORED}, which holds what is stored of {name}, is gone")
        relation = Relation(name, tuple(n for n, _ in stored), f"main.{quoted(name + STORED)}")
        return self._extended(relation)

    def _extended(self, relation: Relation) -> Relation:
        for added in self.columns:
            if same(added.table, relation.name):
                fill = self.fill_for(added.model, added.args, None, base=relation)
                named = {c: output for c, (output, _) in zip(added.columns, fill.outputs, strict=False)}
                extension = Extension(self.planner_fill(fill), named)
                relation = replace(
                    relation,
                    columns=relation.columns + added.columns,
                    extensions=(*relation.extensions, extension),
                )
        return relation

    def planner_fill(self, fill: FillDefinition) -> Fill:
        """A fill as the planner sees it."""
        shown = ", ".join(f"{t}.{c}" for t, c in fill.args)
        return Fill(
            f"{fill.model}({shown})",
            fill.model,
            fill.parents,
            tuple(n for n, _ in fill.keys),
            fill.ledger,
            fill.rows,
            tuple(n for n, _ in fill.outputs),
            fill.ordinal,
            fill.null_safe,
            fill.sequential,
            self.cost(fill),
        )

    def definition(self, fill: Fill) -> FillDefinition:
        """The stored definition behind the planner's value."""
        return next(f for f in self.fills.values() if f.ledger == fill.ledger)

    def cost(self, fill: FillDefinition) -> float:
        """Seconds an item, measured or declared, with money counted as time: a cent is worth a second."""
        model = self.models.get(fill.model.lower())
        return max(self.seconds(fill), 1e-7) + (model.price_per_call * 100 if model else 0.0)

    def seconds(self, fill: FillDefinition) -> float:
        """Seconds an item: as measured in the last batches, else as the model declares."""
        if fill.id not in self._costs:
            model = self.models.get(fill.model.lower())
            measured = seconds_per_item(self.database.user, fill)
            declared = model.seconds_per_item if model else 0.01
            self._costs[fill.id] = measured if measured is not None else declared
        return self._costs[fill.id]

    def forget_costs(self) -> None:
        """Measure anew what an item costs."""
        self._costs.clear()

    def _columns_of(self, name: str) -> tuple[tuple[str, str], ...]:
        """(name, type) of a DuckDB table's or view's columns; empty if there is none of the name in this database."""
        rows = self.database.query(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE lower(table_name) = lower($n) AND NOT internal "
            "AND schema_name = current_schema() AND database_name IN (current_database(), 'temp') ORDER BY column_index",
            {"n": name},
        )
        return tuple(zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True))

    def column_types(self, relation: str) -> dict[str, str]:
        """Lower-case column -> DuckDB type, of any relation."""
        low = relation.lower()
        if low in self.blobs:
            blob = self.blobs[low]
            types = {blob.key.lower(): blob.key_type, **{n.lower(): t for n, t in blob.columns}}
        elif low in self.virtual:
            table = self.virtual[low]
            fill = self.fill_for(table.model, table.args, f"{table.name}_id")
            outputs = [t for _, t in fill.outputs]
            names = table.columns or tuple(n for n, _ in fill.outputs)
            types = {n.lower(): t for n, t in fill.keys} | dict(zip((n.lower() for n in names), outputs, strict=True))
            if fill.ordinal:
                types[f"{table.name}_id".lower()] = "BIGINT"
        else:
            stored = relation + STORED if self.known(relation) else relation
            types = {n.lower(): t for n, t in self._columns_of(stored)}
        for added in self.columns:
            if same(added.table, relation) and (model := self.models.get(added.model.lower())):
                types |= {c.lower(): t for c, (_, t) in zip(added.columns, model.outputs, strict=False)}
        return types

    # ---- fills
    def fill_for(
        self, model: str, args: Sequence[tuple[str, str]], ordinal: str | None, base: Relation | None = None
    ) -> FillDefinition:
        """The fill of a model over arguments, (relation, column) each: found by its lineage, made on first use.

        base: the relation under construction, when a virtual column is put on it. Raises `ProgrammingError` if the
        arguments don't name items.
        """
        definition = self.model(model)
        args = tuple((t, self._spelling(t, c, base)) for t, c in args)
        plain = [t for t, _ in args if not self._is_ours(t, base)]
        if plain:
            return self._plain_fill(definition, args, plain)
        parents = self._parents(definition, args, base)
        keys: dict[str, str] = {}
        for parent in parents:
            relation = self._get(parent, base)
            types = self.column_types(parent)
            shared = set(keys) & set(relation.key)
            if shared and not self._related(parents):
                raise ProgrammingError(
                    f"{model}: {' and '.join(parents)} both have a key column {shared.pop()!r}; "
                    "name one of them otherwise: CREATE BLOB TABLE ... KEY (...)"
                )
            keys |= {k: types[k.lower()] for k in relation.key}
        for name, _ in definition.outputs:
            if any(same(name, k) for k in keys):
                raise ProgrammingError(
                    f"the output {name!r} of {model} bears the name of a key column; "
                    "a key of another name helps: CREATE BLOB TABLE ... KEY (...)"
                )
        sources = tuple(self._source_lineage(t, base) for t, _ in args)
        return self._found(definition, args, parents, keys, sources, ordinal, null_safe=False)

    def _plain_fill(
        self, model: ModelDefinition, args: tuple[tuple[str, str], ...], plain: list[str]
    ) -> FillDefinition:
        """A virtual column on a plain table is keyed by the values of its inputs, so that updates can't make it wrong."""
        table = plain[0]
        if any(not same(t, table) for t, _ in args):
            raise ProgrammingError(
                f"{model.name}: columns of {table}, a plain table, can't be joined with another's here"
            )
        if model.rows == "many":
            raise ProgrammingError(
                f"{model.name} gives many rows an item, and {table} is a plain table without a key: "
                f"CREATE BLOB TABLE ... AS SELECT * FROM {table} KEY (...) makes items of its rows"
            )
        types = self.column_types(table)
        keys = {c: types[c.lower()] for _, c in args}
        return self._found(model, args, (table,), keys, (f"table:{table.lower()}",) * len(args), None, null_safe=True)

    def _found(
        self,
        model: ModelDefinition,
        args: tuple[tuple[str, str], ...],
        parents: tuple[str, ...],
        keys: Mapping[str, str],
        sources: tuple[str, ...],
        ordinal: str | None,
        *,
        null_safe: bool,
    ) -> FillDefinition:
        digest = lineage(f"{model.name.lower()}:{model.fingerprint}", args, (*sources, *keys))
        fill = self.fills.get(digest)
        if fill is None:
            if self.database.read_only:
                raise OperationalError(f"{model.name} has no stored answers here, and the database is open read-only")
            fill = FillDefinition(
                self.store.next_id(),
                model.name,
                model.fingerprint,
                digest,
                args,
                parents,
                tuple(keys.items()),
                model.outputs,
                (ordinal or f"{model.name}_id") if model.rows == "many" else None,
                null_safe,
                model.sequential,
            )
            self.store.add_fill(fill)
            self.fills[digest] = fill
        return fill

    def _get(self, name: str, base: Relation | None) -> Relation:
        if base is not None and same(base.name, name):
            return base
        relation = self.relation(name)
        assert relation is not None
        return relation

    def _is_ours(self, name: str, base: Relation | None) -> bool:
        return name.lower() in self.blobs or name.lower() in self.virtual

    def _spelling(self, table: str, column: str, base: Relation | None) -> str:
        """A column as its relation spells it. Raises `UnknownName`."""
        if base is not None and same(base.name, table):
            names: Sequence[str] = base.columns
        elif self.known(table):
            names = self._get(table, base).columns
        else:
            names = [n for n, _ in self._columns_of(table)]
            if not names:
                raise UnknownName.of("table", table, [*self.names(), *self._user_tables()])
        found = next((n for n in names if same(n, column)), None)
        if found is None:
            raise UnknownName.of(f"column of {table}", column, names)
        return found

    def _user_tables(self) -> list[str]:
        rows = self.database.query(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name NOT IN ('aidb', 'aidb_internal')"
        )
        return [str(n) for n in rows.column(0).to_pylist()]

    def names(self) -> list[str]:
        """Names of all blob and virtual tables."""
        return [t.name for t in self.blobs.values()] + [t.name for t in self.virtual.values()]

    def ancestors(self, name: str) -> list[str]:
        """Lower-case names of what a virtual table descends from, nearest first, without itself."""
        table = self.virtual.get(name.lower())
        if table is None:
            return []
        fill = self.fill_for(table.model, table.args, f"{table.name}_id")
        found: list[str] = []
        for parent in fill.parents:
            found += [parent.lower(), *self.ancestors(parent)]
        return list(dict.fromkeys(found))

    def _parents(
        self, model: ModelDefinition, args: tuple[tuple[str, str], ...], base: Relation | None
    ) -> tuple[str, ...]:
        """The deepest of the related tables among the arguments; two if they are unrelated (their pairs)."""
        tables = list(dict.fromkeys(t.lower() for t, _ in args))
        if base is not None:
            return (base.name,)
        above = {t: self.ancestors(t) for t in tables}
        deepest = [t for t in tables if not any(t in above[o] for o in tables)]
        if len(deepest) > 2:
            raise ProgrammingError(
                f"{model.name}: its arguments come from {len(deepest)} unrelated tables; two at most can be paired"
            )
        return tuple(self._get(t, base).name for t in deepest)

    def _related(self, parents: tuple[str, ...]) -> bool:
        roots = [{*self.ancestors(p), p.lower()} & set(self.blobs) for p in parents]
        return bool(set.intersection(*roots)) if roots else False

    def _source_lineage(self, name: str, base: Relation | None) -> str:
        low = name.lower()
        if low in self.blobs:
            return f"items:{self.blobs[low].id}"
        table = self.virtual[low]
        return self.fill_for(table.model, table.args, f"{table.name}_id").lineage

    def current_fills(self) -> dict[str, FillDefinition]:
        """Lineage -> fill, of all fills that a name leads to now; the others are stale."""
        reached: dict[str, FillDefinition] = {}
        for name in [*self.blobs, *self.virtual, *(c.table for c in self.columns)]:
            relation = self.relation(name)
            assert relation is not None
            for fill in (relation.fill, *(e.fill for e in relation.extensions)):
                if fill is not None:
                    found = self.definition(fill)
                    reached[found.lineage] = found
        for digest, made in self.fills.items():
            # A fill made for a model used as a function has no name but the model's own.
            model = self.models.get(made.model.lower())
            if model is not None and model.fingerprint == made.fingerprint and all(map(self.known, made.parents)):
                reached.setdefault(digest, made)
        return reached

    def dependents(self, table: BlobTable) -> list[Dependent]:
        """Fills, current or not, whose answers rest on a blob table."""
        found = []
        for fill in self.fills.values():
            columns, content = self._rests_on(fill, table)
            if columns or content or table.key.lower() in (n.lower() for n, _ in fill.keys):
                key = next((n for n, _ in fill.keys if same(n, table.key)), None)
                if key is not None and (columns or content):
                    found.append(Dependent(fill, key, tuple(sorted(columns)), content))
        return found

    def _rests_on(self, fill: FillDefinition, table: BlobTable) -> tuple[set[str], bool]:
        columns: set[str] = set()
        content = False
        for relation, column in fill.args:
            if same(relation, table.name):
                is_content = table.content is not None and same(column, table.content)
                content = content or is_content
                if not is_content and not same(column, table.key):
                    columns.add(column)
            elif relation.lower() in self.virtual:
                above = self.virtual[relation.lower()]
                more, deep = self._rests_on(self.fill_for(above.model, above.args, f"{above.name}_id"), table)
                columns |= more
                content = content or deep
        return columns, content

    # ---- views
    def publish(self) -> None:
        """Make DuckDB's views of our relations say what the definitions say."""
        for name in dict.fromkeys([*self.blobs, *self.virtual, *(c.table for c in self.columns)]):
            relation = self.relation(name)
            assert relation is not None
            self.database.execute(f"CREATE OR REPLACE VIEW main.{quoted(relation.name)} AS {relation_sql(relation)}")

    def snapshot(self) -> Relations:
        """What a statement may name: our relations, and DuckDB's own looked up as they are asked for."""
        if self._aggregates is None:
            rows = self.database.query(
                "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
            )
            self._aggregates = frozenset(str(n).lower() for n in rows.column(0).to_pylist())
        macros = self.database.query(
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE NOT internal AND function_type LIKE '%macro%'"
        )
        return Relations(LazyTables(self), LazyViews(self), frozenset(macros.column(0).to_pylist()), self._aggregates)


class LazyTables(Mapping[str, Relation]):
    """Relations by lower-case name; a plain table's columns are looked up when a statement names it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._found: dict[str, Relation | None] = {}

    def __getitem__(self, name: str) -> Relation:
        low = name.lower()
        if low not in self._found:
            self._found[low] = self._registry.relation(name) or self._plain(name)
        relation = self._found[low]
        if relation is None:
            raise KeyError(name)
        return relation

    def _plain(self, name: str) -> Relation | None:
        rows = self._registry.database.query(
            "SELECT c.column_name FROM duckdb_columns() c JOIN duckdb_tables() t USING (table_oid, database_oid) "
            "WHERE lower(t.table_name) = lower($n) AND t.schema_name = current_schema() AND NOT t.internal "
            "AND t.database_name IN (current_database(), 'temp') ORDER BY column_index",
            {"n": name},
        )
        columns = tuple(str(c) for c in rows.column(0).to_pylist())
        return Relation(name, columns, quoted(name)) if columns else None

    def __iter__(self) -> Iterator[str]:
        return iter([n.lower() for n in (*self._registry.names(), *(c.table for c in self._registry.columns))])

    def __len__(self) -> int:
        return len(list(iter(self)))


class LazyViews(Mapping[str, str]):
    """SQL text of the user's views by lower-case name, looked up as a statement names them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._names: dict[str, str] | None = None

    def _load(self) -> dict[str, str]:
        if self._names is None:
            rows = self._registry.database.query(
                "SELECT lower(view_name), sql FROM duckdb_views() WHERE NOT internal AND schema_name NOT IN ('aidb')"
            )
            texts = zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True)
            self._names = {n: _body(text) for n, text in texts if not self._registry.known(n)}
        return self._names

    def __getitem__(self, name: str) -> str:
        return self._load()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


def _body(create_view: str) -> str:
    """The SELECT of a CREATE VIEW statement as DuckDB prints it."""
    _, _, body = create_view.partition(" AS ")
    return body.rstrip().rstrip(";")


Rows = Literal["one", "many"]


class Functions:
    """Models as functions in SQL, for the binder."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def is_model(self, name: str) -> bool:
        """Is a model of this name registered?"""
        return name.lower() in self._registry.models

    def names(self) -> Sequence[str]:
        """Names of all models."""
        return [m.name for m in self._registry.models.values()]

    def rows(self, name: str) -> Rows:
        """``one`` or ``many`` rows an item."""
        return self._registry.model(name).rows

    def outputs(self, name: str) -> tuple[str, ...]:
        """Names of the model's outputs."""
        return tuple(n for n, _ in self._registry.model(name).outputs)

    def fill(self, model: str, args: Sequence[tuple[str, str]]) -> Fill:
        """The fill of a call; its storage is made on first use."""
        return self._registry.planner_fill(self._registry.fill_for(model, args, None))
