"""CREATE VIRTUAL TABLE and ALTER TABLE ... ADD VIRTUAL COLUMN: a model over columns, checked before it is declared."""

from __future__ import annotations

from aidb.catalog.definitions import VirtualColumns, VirtualTable
from aidb.catalog.names import same
from aidb.errors import ProgrammingError, UnknownName
from aidb.exec.registry import STORED, Registry
from aidb.sql.statements import AddVirtualColumns, CreateVirtualTable, ModelCall
from aidb.storage.database import Database


class VirtualTables:
    """Carries out the statements about what models fill."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database, self._registry = database, registry

    def _arguments(self, call: ModelCall, alone: str | None = None) -> tuple[tuple[str, str], ...]:
        """Arguments as (relation, column): a bare column belongs to the one table that has it."""
        self._registry.model(call.model)  # an unknown model is told before an unknown column
        found = []
        for table, column in call.args:
            if table is None:
                table = alone or self._only_owner(column)
            elif not self._registry.is_item_table(table) and not alone:
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

    def create(self, s: CreateVirtualTable) -> str:
        """Declare a table whose rows a model gives."""
        registry = self._registry
        if s.options:
            raise UnknownName.of(f"option of virtual table {s.name}", next(iter(s.options)), ())
        if s.name.lower() in registry.virtual and not s.replace:
            if s.if_not_exists:
                return f"virtual table {s.name} exists already"
            raise ProgrammingError(
                f"virtual table {s.name!r} exists already; CREATE OR REPLACE VIRTUAL TABLE declares it anew"
            )
        registry.check_free(s.name, "virtual table")
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

        with registry.changing():
            registry.add(VirtualTable(s.name, model.name, args, names))
            relation = registry.relation(s.name)
            assert relation is not None
            twice = [c for n, c in enumerate(relation.columns) if c.lower() in map(str.lower, relation.columns[:n])]
            if twice:
                raise ProgrammingError(
                    f"{s.name}: two columns would be called {twice[0]!r}, among them a key column; "
                    f"name the outputs: {s.name} (...)"
                )
        return f"virtual table {s.name} ({', '.join(relation.columns)}): nothing runs until it is asked for"

    def _same_type(self, one: str, other: str) -> bool:
        rows = self._database.query(f"SELECT typeof(NULL::{one}) = typeof(NULL::{other}) AS same")
        return bool(rows.column(0)[0].as_py())

    def add_columns(self, s: AddVirtualColumns) -> str:
        """Declare columns whose values a model gives, on a table of any kind."""
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
        have = registry.column_types(s.table)
        if not have:
            raise UnknownName.of("table", s.table, [*registry.names(), *registry.user_tables()])
        known = registry.bare(s.table)
        table = known.name if known is not None else self._plain_table(s.table)
        taken = set(have)
        for name in s.columns:
            if name.lower() in taken:
                raise ProgrammingError(f"{table} has a column {name!r} already")
            taken.add(name.lower())
        with registry.changing():
            fill = registry.fill_for(model.name, args, None)
            if [p.lower() for p in fill.parents] != [table.lower()]:
                raise ProgrammingError(
                    f"{model.name} fills {' and '.join(fill.parents)} here, not {table}: at least one input must be a column "
                    f"of {table}, and all of them of tables that it descends from"
                )
            if known is None:
                registry.rename_table(table, table + STORED)
            registry.add(VirtualColumns(table, s.columns, model.name, args))
        return f"{table} has the virtual column{'s' * (len(s.columns) > 1)} {', '.join(s.columns)}"

    def _plain_table(self, name: str) -> str:
        """How one of DuckDB's own tables is spelled. Raises for a view, a temporary table, or one of another schema."""
        rows = self._database.query(
            "SELECT table_name FROM duckdb_tables() WHERE lower(table_name) = lower($n) AND NOT temporary "
            "AND schema_name = 'main' AND database_name = current_database()",
            {"n": name},
        )
        if not rows.num_rows:
            raise ProgrammingError(
                f"{name} is not a table of this database's main schema: virtual columns can't be added"
            )
        return str(rows.column(0)[0].as_py())
