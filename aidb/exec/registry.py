"""The names of one database: what users declared, and the relations that a statement sees behind the names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from aidb.catalog.definitions import (
    BlobTable,
    FillDefinition,
    IndexDefinition,
    ModelDefinition,
    ProxyDefinition,
    VirtualColumns,
    VirtualTable,
)
from aidb.catalog.names import quoted, same
from aidb.catalog.relations import Extension, Fill, Relation, Relations
from aidb.errors import Error, OperationalError, ProgrammingError, UnknownName
from aidb.exec.fills import Fills
from aidb.exec.models import ModelPool
from aidb.exec.snapshot import Natives, TablesByName, ViewsByName
from aidb.sql.render import relation_sql
from aidb.storage.answers import seconds_per_item
from aidb.storage.database import Database
from aidb.storage.definitions import Definition, Definitions
from aidb.storage.items import Dependent
from aidb.storage.translated import translated

STORED = "__stored"
"""What a plain table's name ends with once it has virtual columns; a view has its own name."""


class Registry:
    """Everything that has a name. Made when a database is opened, kept in step with it by its own methods.

    Relations are made when they are asked for and kept until a definition changes that they rest on.
    """

    def __init__(self, database: Database, pool: ModelPool) -> None:
        self.database, self.pool = database, pool
        self.models: dict[str, ModelDefinition] = {}
        self.blobs: dict[str, BlobTable] = {}
        self.dropped: dict[str, BlobTable] = {}
        self.virtual: dict[str, VirtualTable] = {}
        self.columns: list[VirtualColumns] = []
        self.proxies: dict[str, ProxyDefinition] = {}
        self.indexes: dict[str, IndexDefinition] = {}
        self.store = Definitions(database.user)
        self.natives = Natives(database)
        self._fills = Fills(self)
        self._bare: dict[str, Relation] = {}
        self._relations: dict[str, Relation] = {}
        self._types: dict[str, dict[str, str]] = {}
        self._unpublished: set[str] = set()
        self._checked: set[str] = set()
        self._costs: dict[int, float] = {}
        self._version = 0
        self._changing = False
        self._read()

    def reload(self) -> None:
        """Read everything from the database again: after a transaction that failed, or that another connection made."""
        self.natives.forget()
        self._read()

    def _read(self) -> None:
        for names in (self.models, self.blobs, self.dropped, self.virtual, self._bare, self._relations, self._types):
            names.clear()
        for kept in (self.columns, self._unpublished, self.proxies, self.indexes):
            kept.clear()
        self._version = self.database.shared.version
        if self.database.is_aidb:
            for definition in self.store.all():
                self._put(definition)
            self._fills.load(self.store.fills())

    def catch_up(self) -> None:
        """Notice what another connection of this process has declared in the same file."""
        if self._version != self.database.shared.version:
            self.reload()

    def changed(self) -> None:
        """Tell the other connections of this process that they must look again."""
        with self.database.shared.lock:
            up_to_date = self._version == self.database.shared.version
            self.database.shared.version += 1
            if up_to_date:
                self._version = self.database.shared.version

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction for a change of definitions, views included; when it fails everything is what it was."""
        if self._changing:
            yield
            return
        self._changing = True
        try:
            with self.database.transaction():
                yield
                self._publish()
        except BaseException:
            self.reload()
            raise
        finally:
            self._changing = False
        self.changed()

    # ---- definitions
    @property
    def fills(self) -> dict[str, FillDefinition]:
        """Every fill that is stored, by lineage."""
        return self._fills.stored

    def _put(self, definition: Definition) -> None:
        match definition:
            case ModelDefinition():
                self.models[definition.name.lower()] = definition
            case BlobTable():
                (self.dropped if definition.dropped else self.blobs)[definition.name.lower()] = definition
            case VirtualTable():
                self.virtual[definition.name.lower()] = definition
            case VirtualColumns():
                self.columns.append(definition)
            case ProxyDefinition():
                self.proxies[definition.name.lower()] = definition
            case IndexDefinition():
                self.indexes[definition.name.lower()] = definition

    def add(self, definition: Definition) -> None:
        """Write a definition, in place of one of its name. Only inside of `changing`."""
        self._take(definition)
        self.store.write(definition)
        self._put(definition)
        self._forget_dependents(definition)

    def remove(self, definition: Definition) -> None:
        """Take a definition out. Only inside of `changing`."""
        self._forget_dependents(definition)
        self._take(definition)
        self.store.remove(definition)

    def _take(self, definition: Definition) -> None:
        match definition:
            case ModelDefinition(name=name):
                self.models.pop(name.lower(), None)
                self._checked.discard(name.lower())
            case BlobTable(name=name):
                self.blobs.pop(name.lower(), None)
                self.dropped.pop(name.lower(), None)
            case VirtualTable(name=name):
                self.virtual.pop(name.lower(), None)
            case VirtualColumns():
                self.columns = [c for c in self.columns if c != definition]
            case ProxyDefinition(name=name):
                self.proxies.pop(name.lower(), None)
            case IndexDefinition(name=name):
                self.indexes.pop(name.lower(), None)

    def retire(self, table: BlobTable) -> None:
        """Give up the items of a table whose name gets items of another kind; its answers are stale from now on."""
        self.remove(table)
        self.database.user.execute(f"DROP TABLE IF EXISTS {table.items}; DROP TABLE IF EXISTS {table.items}_gone")

    def _forget_dependents(self, definition: Definition) -> None:
        """Relations that rest on a definition are made anew, and published."""
        if isinstance(definition, ProxyDefinition | IndexDefinition):
            return
        if isinstance(definition, ModelDefinition):
            affected = [n for k, n in self.users("model", definition.name) if k == "virtual table"]
            affected += [c.table for c in self.columns if same(c.model, definition.name)]
        elif isinstance(definition, VirtualColumns):
            affected = [definition.table]
        else:
            found = self.users("blob table", definition.name)
            affected = [definition.name, *(n for k, n in found if k == "virtual table")]
            affected += [c.table for c in self.columns if any(same(t, n) for t, _ in c.args for n in affected)]
        for name in affected:
            for kept in (self._bare, self._relations, self._types):
                kept.pop(name.lower(), None)
            self._unpublished.add(name.lower())
        self._fills.forget()

    def users(self, kind: str, name: str) -> list[tuple[str, str]]:
        """(kind, name) of what rests on a model or a table, directly or not, the nearest first.

        Virtual columns are named ``table.column,column``; a table's own are not counted.
        """
        found: dict[tuple[str, str], None] = {}
        todo = [(kind, name)]
        while todo:
            what, of = todo.pop(0)
            for table in self.virtual.values():
                uses = same(table.model, of) if what == "model" else any(same(t, of) for t, _ in table.args)
                if uses and ("virtual table", table.name) not in found:
                    found[("virtual table", table.name)] = None
                    todo.append(("virtual table", table.name))
            for columns in self.columns:
                args = [t for t, _ in columns.args if not same(t, columns.table)]
                if same(columns.model, of) if what == "model" else any(same(t, of) for t in args):
                    found[("virtual columns", self.store.key_of(columns))] = None
            if what in ("blob table", "virtual table"):
                found |= {("proxy", p.name): None for p in self.proxies.values() if same(p.table, of)}
                found |= {("semantic index", i.name): None for i in self.indexes.values() if same(i.table, of)}
        return list(found)

    def model(self, name: str) -> ModelDefinition:
        """A registered model, in any letter case. Raises `UnknownName`."""
        found = self.models.get(name.lower())
        if found is None:
            raise UnknownName.of("model", name, (m.name for m in self.models.values()), "CREATE MODEL registers one")
        return found

    def refresh_fingerprint(self, name: str) -> bool:
        """Notice, once a connection and when the model says so or shows it, that it is not what it was; was it so?"""
        definition = self.models.get(name.lower())
        if definition is None or self.database.read_only:
            return False
        known = definition.name.lower() in self._checked and not self.pool.drop_outdated(definition.name)
        if known and not self.pool.differs(definition):
            return False
        try:
            spec = self.pool.get(definition).spec
        except (OperationalError, ProgrammingError):
            # Stored answers can be read without the model; running it will say what is wrong.
            self._checked.add(name.lower())
            return False
        changed = spec.fingerprint != definition.fingerprint
        if changed:
            if self.database.in_transaction():
                return False
            outputs = tuple((o.name, o.type) for o in spec.outputs)
            now = replace(definition, fingerprint=spec.fingerprint, outputs=outputs, device=spec.device)
            try:
                with self.changing():
                    self.add(now)
            except ProgrammingError as e:
                raise OperationalError(
                    f"model {definition.name} is not what it was: it gives {', '.join(n for n, _ in outputs)} now, "
                    f"and what rests on it can't be filled so: {e}"
                ) from e
        self._checked.add(name.lower())
        return changed

    def check_models_of(self, name: str) -> None:
        """`refresh_fingerprint` of all models that a relation's rows come from."""
        for low in (name.lower(), *self.ancestors(name)):
            table = self.virtual.get(low)
            if table is not None:
                self.refresh_fingerprint(table.model)
        for added in self.columns:
            if same(added.table, name):
                self.refresh_fingerprint(added.model)

    # ---- relations
    def names(self) -> list[str]:
        """Names of all blob and virtual tables."""
        return [t.name for t in self.blobs.values()] + [t.name for t in self.virtual.values()]

    def is_item_table(self, name: str) -> bool:
        """Is this the name of a blob table or a virtual table, whose rows are items with keys?"""
        return name.lower() in self.blobs or name.lower() in self.virtual

    def known(self, name: str) -> bool:
        """Is this the name of a blob table, a virtual table or a table with virtual columns?"""
        return self.is_item_table(name) or self.is_extended(name)

    def is_extended(self, name: str) -> bool:
        """Does the table have virtual columns?"""
        return any(same(c.table, name) for c in self.columns)

    def check_free(self, name: str, kind: str) -> None:
        """Raise `ProgrammingError` if something other than a ``kind`` has the name."""
        low = name.lower()
        taken = [("blob table", self.blobs[low].name)] if low in self.blobs else []
        taken += [("virtual table", self.virtual[low].name)] if low in self.virtual else []
        if not taken and self.is_extended(name):
            taken.append(("table", name))
        if not taken:
            rows = self.database.query(
                "SELECT table_type, table_name FROM information_schema.tables WHERE lower(table_name) = lower($n) "
                "AND (table_schema = 'main' AND table_catalog = current_database() OR table_catalog = 'temp')",
                {"n": name},
            )
            taken += [("view" if r["table_type"] == "VIEW" else "table", r["table_name"]) for r in rows.to_pylist()]
        for what, other in taken:
            if what != kind:
                raise ProgrammingError(f"there is a {what} {other!r} already; DROP it or choose another name")

    def relation(self, name: str) -> Relation | None:
        """One of our relations, with its current fills; None for any other name."""
        low = name.lower()
        if low not in self._relations:
            relation = self.bare(name)
            if relation is None:
                return None
            self._relations[low] = self._extended(relation)
        return self._relations[low]

    def bare(self, name: str) -> Relation | None:
        """A relation without its virtual columns."""
        low = name.lower()
        if low not in self._bare:
            if low in self.virtual:
                self._bare[low] = self._virtual_relation(self.virtual[low])
            elif low in self.blobs:
                self._bare[low] = _blob_relation(self.blobs[low])
            elif self.is_extended(name):
                self._bare[low] = self._plain_relation(name)
            else:
                return None
        return self._bare[low]

    def _virtual_relation(self, table: VirtualTable) -> Relation:
        fill = self.fill_for(table.model, table.args, f"{table.name}_id")
        view = self._fills.planner_fill(fill, table.columns or None)
        key = view.keys + ((view.ordinal,) if view.ordinal else ())
        return Relation(table.name, key + view.outputs, view.rows, key, view)

    def _plain_relation(self, name: str) -> Relation:
        stored = self.natives.columns_of(name + STORED)
        if not stored:
            raise OperationalError(f"the table {name}{STORED}, which holds what is stored of {name}, is gone")
        spelled = next(c.table for c in self.columns if same(c.table, name))
        return Relation(spelled, tuple(n for n, _ in stored), f"main.{quoted(spelled + STORED)}")

    def _extended(self, relation: Relation) -> Relation:
        for added in self.columns:
            if same(added.table, relation.name):
                taken = {c.lower() for c in relation.columns}
                twice = next((c for c in added.columns if c.lower() in taken), None)
                if twice is not None:
                    raise ProgrammingError(
                        f"{relation.name} would have two columns {twice!r}, a stored and a virtual one"
                    )
                fill = self.fill_for(added.model, added.args, None)
                named = {c: output for c, (output, _) in zip(added.columns, fill.outputs, strict=True)}
                extension = Extension(self._fills.planner_fill(fill), named)
                relation = replace(
                    relation,
                    columns=relation.columns + added.columns,
                    extensions=(*relation.extensions, extension),
                )
        return relation

    def column_types(self, relation: str) -> dict[str, str]:
        """Lower-case column -> DuckDB type, of any relation; empty if there is none of the name."""
        low = relation.lower()
        if low not in self._types:
            if not self.known(relation):
                return {n.lower(): t for n, t in self.natives.columns_of(relation)}
            self._types[low] = self._types_of(relation)
        return self._types[low]

    def _types_of(self, relation: str) -> dict[str, str]:
        low = relation.lower()
        bare = self.bare(relation)
        assert bare is not None
        if low in self.blobs:
            blob = self.blobs[low]
            types = {blob.key.lower(): blob.key_type, **{n.lower(): t for n, t in blob.columns}}
        elif bare.fill is not None:
            fill = self.definition(bare.fill)
            ordinal = ["BIGINT"] if fill.ordinal else []
            stored = [t for _, t in fill.keys] + ordinal + [t for _, t in fill.outputs]
            types = dict(zip((c.lower() for c in bare.columns), stored, strict=True))
        else:
            types = {n.lower(): t for n, t in self.natives.columns_of(relation + STORED)}
        for added in self.columns:
            if same(added.table, relation) and (model := self.models.get(added.model.lower())):
                types |= {c.lower(): t for c, (_, t) in zip(added.columns, model.outputs, strict=False)}
        return types

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Lower-case names of what a virtual table descends from, nearest first, without itself."""
        relation = self.bare(name) if name.lower() in self.virtual else None
        if relation is None or relation.fill is None:
            return ()
        return tuple(dict.fromkeys(n for p in relation.fill.parents for n in (p.lower(), *self.ancestors(p))))

    # ---- fills
    def fill_for(self, model: str, args: tuple[tuple[str, str], ...], ordinal: str | None) -> FillDefinition:
        """The fill of a model over arguments, (relation, column) each, in their words; its storage is made on first use.

        Raises `ProgrammingError` if the arguments don't name items.
        """
        return self._fills.fill_for(model, args, ordinal)

    def planner_fill(self, fill: FillDefinition) -> Fill:
        """A fill as the planner sees it."""
        return self._fills.planner_fill(fill)

    def definition(self, fill: Fill) -> FillDefinition:
        """The definition behind the planner's value, in the words of the names that led to it."""
        return self._fills.definition(fill)

    def current_fills(self) -> dict[str, FillDefinition]:
        """Lineage -> fill, of all fills that a name leads to now; the others are stale."""
        return self._fills.current()

    def dependents(self, table: BlobTable) -> list[Dependent]:
        """Fills, current or not, whose answers rest on a blob table."""
        there = {t.id: t for t in (*self.blobs.values(), *self.dropped.values())}
        return [
            Dependent.of(fill, table, there)
            for fill in self.fills.values()
            if any(items == table.id for items, *_ in fill.rests)
        ]

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

    def is_timed(self, fill: FillDefinition) -> bool:
        """Has its model run here, so that `seconds` is measured?"""
        return seconds_per_item(self.database.user, fill) is not None

    def forget_costs(self) -> None:
        """Measure anew what an item costs."""
        self._costs.clear()

    # ---- views
    def _publish(self) -> None:
        """Make DuckDB's views of the relations that changed say what the definitions say."""
        current: dict[str, int] = {}
        for low in sorted(self._unpublished):
            try:
                relation = self.relation(low)
            except ProgrammingError as e:
                raise ProgrammingError(f"{low} rests on what changes here: {e}") from e
            if relation is not None:
                view = f"main.{quoted(relation.name)}"
                self.database.user.execute(f"CREATE OR REPLACE VIEW {view} AS {relation_sql(relation)}")
                if relation.fill is not None:
                    current[relation.name] = self.definition(relation.fill).id
                added = [c for c in self.columns if same(c.table, low)]
                for columns, extension in zip(added, relation.extensions, strict=True):
                    current[self.store.key_of(columns)] = self.definition(extension.fill).id
        self.store.keep_current(current)
        self._unpublished.clear()

    def republish(self, name: str) -> None:
        """The stored part of a table with virtual columns has changed. Only inside of `changing`."""
        self.natives.forget(functions=False)
        for kept in (self._bare, self._relations, self._types):
            kept.pop(name.lower(), None)
        self._fills.forget()
        self._unpublished.add(name.lower())

    def rename_table(self, table: str, name: str) -> None:
        """Rename one of DuckDB's own tables. Only inside of `changing`."""
        try:
            with translated():
                self.database.user.execute(f"ALTER TABLE main.{quoted(table)} RENAME TO {quoted(name)}")
        except Error as e:
            if "depend" in str(e):
                raise OperationalError(
                    f"{table.removesuffix(STORED)} has indexes or foreign keys, which DuckDB can't rename with it: "
                    f"drop them first, and make them again afterwards ({e})"
                ) from e
            raise
        self.natives.forget(functions=False)

    def forget_natives(self, *, functions: bool = True) -> None:
        """DuckDB ran a statement that may have changed tables, views or (functions) macros of the user's own."""
        self.natives.forget(functions=functions)
        self.changed()

    def snapshot(self) -> Relations:
        """What a statement may name: our relations, and DuckDB's own looked up as they are asked for."""
        self.catch_up()
        return Relations(TablesByName(self), ViewsByName(self), self.natives.macros(), self.natives.aggregates())

    def user_tables(self) -> list[str]:
        """Names of DuckDB's own tables, for suggestions."""
        try:
            return self.natives.tables()
        except Error:
            return []


def _blob_relation(table: BlobTable) -> Relation:
    own = (n for n, _ in table.columns if not same(n, table.key))
    listed = (n for n, _ in table.columns)
    keyed = any(same(n, table.key) for n, _ in table.columns)
    columns = tuple(listed) if keyed else (table.key, *own)
    return Relation(table.name, columns, table.items, (table.key,), content=table.content)
