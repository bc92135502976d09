"""What a statement may name besides our own relations: DuckDB's tables, views and macros, looked up once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, ClassVar, Literal

from aidb.catalog.names import quoted
from aidb.catalog.relations import Fill, Relation
from aidb.sql.tokens import scan
from aidb.storage.database import Database

if TYPE_CHECKING:
    from aidb.exec.registry import Registry

Rows = Literal["one", "many"]
_OURS = "('aidb', 'aidb_internal')"


class Natives:
    """DuckDB's own names. They change by statements only, and whoever runs one calls `forget`."""

    built_in: ClassVar[frozenset[str]] = frozenset()
    """Aggregate functions of the DuckDB of this process, once they have been listed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._macros: dict[str, str] | None = None
        self._aggregates: frozenset[str] | None = None
        self.forget()
        if database.is_new and self.built_in:
            self._aggregates, self._macros = self.built_in, {}

    def forget(self, *, functions: bool = True) -> None:
        """Look everything up again; functions, which take longest, only where they may have changed."""
        self._columns: dict[str, tuple[tuple[str, str], ...]] = {}
        self._is_table: dict[str, bool] = {}
        self._views: dict[str, str] | None = None
        if functions:
            self._macros = self._aggregates = None

    def columns_of(self, name: str) -> tuple[tuple[str, str], ...]:
        """(name, type) of the columns of a table or view that an unqualified name means; empty if there is none."""
        low = name.lower()
        if low not in self._columns:
            rows = self._database.query(
                "SELECT column_name, data_type, database_name = 'temp' AS temporary FROM duckdb_columns() "
                "WHERE lower(table_name) = lower($n) AND NOT internal "
                "AND (schema_name = current_schema() AND database_name = current_database() OR database_name = 'temp') "
                "ORDER BY column_index",
                {"n": name},
            ).to_pylist()
            # A temporary table hides one of the database, as it does for DuckDB.
            rows = [r for r in rows if r["temporary"]] or rows
            self._columns[low] = tuple((r["column_name"], r["data_type"]) for r in rows)
        return self._columns[low]

    def is_table(self, name: str) -> bool:
        """Does an unqualified name mean a table, rather than a view or nothing?"""
        low = name.lower()
        if low not in self._is_table:
            rows = self._database.query(
                "SELECT 1 AS x FROM duckdb_tables() WHERE lower(table_name) = lower($n) AND NOT internal "
                "AND (schema_name = current_schema() AND database_name = current_database() OR database_name = 'temp')",
                {"n": name},
            )
            self._is_table[low] = rows.num_rows > 0
        return self._is_table[low]

    def tables(self) -> list[str]:
        """Names of all tables that are not ours."""
        rows = self._database.query(
            f"SELECT table_name FROM duckdb_tables() WHERE NOT internal AND schema_name NOT IN {_OURS}"
        )
        return [str(n) for n in rows.column(0).to_pylist()]

    def views(self) -> Mapping[str, str]:
        """Lower-case name -> SQL text of every view, ours included, but for those that last as long as a statement."""
        if self._views is None:
            rows = self._database.query(
                f"SELECT lower(view_name), sql FROM duckdb_views() WHERE NOT internal AND schema_name NOT IN {_OURS} "
                "AND NOT starts_with(view_name, '__aidb')"
            )
            texts = zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True)
            self._views = {n: _body(text) for n, text in texts}
        return self._views

    def macros(self) -> frozenset[str]:
        """Lower-case names of the user's macros."""
        return frozenset(self._macro_texts())

    def texts(self) -> Mapping[str, str]:
        """Lower-case name -> SQL text of every view and macro."""
        return {**self.views(), **self._macro_texts()}

    def _macro_texts(self) -> Mapping[str, str]:
        if self._macros is None:
            self._read_functions()
        assert self._macros is not None
        return self._macros

    def aggregates(self) -> frozenset[str]:
        """Lower-case names of DuckDB's aggregate functions."""
        if self._aggregates is None:
            self._read_functions()
        assert self._aggregates is not None
        return self._aggregates

    def _read_functions(self) -> None:
        """Both kinds at once: DuckDB takes some 10 ms to list its functions, whatever is asked of them."""
        rows = self._database.query(
            "SELECT lower(function_name) AS name, function_type = 'aggregate' AS aggregates, "
            "string_agg(coalesce(macro_definition, ''), '; ') AS text FROM duckdb_functions() "
            "WHERE function_type = 'aggregate' OR (NOT internal AND function_type LIKE '%macro%') GROUP BY ALL"
        ).to_pylist()
        self._aggregates = frozenset(str(r["name"]) for r in rows if r["aggregates"])
        self._macros = {str(r["name"]): str(r["text"]) for r in rows if not r["aggregates"]}
        Natives.built_in = Natives.built_in or self._aggregates


class TablesByName(Mapping[str, Relation]):
    """Relations by lower-case name; those of DuckDB's own tables are found by name, and not among the `values`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> Relation:
        registry = self._registry
        if registry.known(name):
            registry.check_models_of(name)
        relation = registry.relation(name)
        if relation is None and registry.natives.is_table(name):
            columns = tuple(n for n, _ in registry.natives.columns_of(name))
            relation = Relation(name, columns, quoted(name))
        if relation is None:
            raise KeyError(name)
        return relation

    def values(self) -> ValuesView[Relation]:
        """All of our relations; whether their models are what they were is asked only of those that are named."""
        found = {name: self._registry.relation(name) for name in self}
        return {name: relation for name, relation in found.items() if relation is not None}.values()

    def __iter__(self) -> Iterator[str]:
        registry = self._registry
        return iter(dict.fromkeys(n.lower() for n in (*registry.names(), *(c.table for c in registry.columns))))

    def __len__(self) -> int:
        return len(list(iter(self)))


class ViewsByName(Mapping[str, str]):
    """SQL text of the user's own views by lower-case name."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __getitem__(self, name: str) -> str:
        if self._registry.known(name):
            raise KeyError(name)
        return self._registry.natives.views()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return (n for n in self._registry.natives.views() if not self._registry.known(n))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _body(create_view: str) -> str:
    """The SELECT of a CREATE VIEW statement as DuckDB prints it, with the names that the view gives its columns."""
    tokens = scan(create_view)
    place = next((i for i, t in enumerate(tokens) if t.depth == 0 and t.key == "AS"), None)
    if place is None:
        return create_view
    body = create_view[tokens[place].end :].strip().rstrip(";")
    if tokens[place - 1].key != ")":
        return body
    first = next(i for i, t in enumerate(tokens) if t.depth == 0 and t.key == "(")
    names = create_view[tokens[first].start : tokens[place - 1].end]
    return f"SELECT * FROM ({body}) AS _view{names}"


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
        self._registry.refresh_fingerprint(model)
        return self._registry.planner_fill(self._registry.fill_for(model, tuple(args), None))
