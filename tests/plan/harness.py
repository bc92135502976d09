"""A small engine inside DuckDB: models are tables of answers, everything else is as in the real one.

Schema ``eager`` holds what the answer would be if every model had run on everything. Schema ``main`` holds views over
physical tables in ``aidb_internal``, which start empty and are filled by looking the answers up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import duckdb
import pyarrow as pa

from aidb.catalog.relations import Extension, Fill, Relation, Relations
from aidb.errors import DataError
from aidb.exec.rounds import run_rounds
from aidb.plan.calls import CallPlan, plan_calls
from aidb.plan.names import quote
from aidb.plan.possible import missing_items

Row = Sequence[object]


@dataclass
class Spec:
    """What a world is made of, before anything of it is in DuckDB.

    stored: table -> columns, the first of a blob table is its key. fills: virtual tables by name and extensions by
    (relation, columns). rows: full contents: of stored tables, and of fills as keys + ordinal + outputs.
    """

    stored: dict[str, list[str]] = field(default_factory=dict)
    tables: dict[str, Fill] = field(default_factory=dict)
    extensions: list[tuple[str, Fill, dict[str, str]]] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    macros: dict[str, str] = field(default_factory=dict)

    def store(self, name: str, columns: str, rows: Sequence[Row]) -> None:
        self.stored[name] = columns.split()
        self.rows[name] = list(rows)

    def fill(self, name: str, parents: str, keys: str, outputs: str, rows: Sequence[Row], **more: object) -> Fill:
        made = Fill(
            id=name,
            model=f"model_{name}",
            parents=tuple(parents.split()),
            keys=tuple(keys.split()),
            ledger=f'"aidb_internal"."ledger_{name}"',
            rows=f'"aidb_internal"."rows_{name}"',
            outputs=tuple(outputs.split()),
            **more,
        )
        self.rows[name] = list(rows)
        return made

    def table(self, name: str, parents: str, keys: str, outputs: str, rows: Sequence[Row], many: bool = False, **more):
        ordinal = f"{name}_id" if many else None
        self.tables[name] = self.fill(name, parents, keys, outputs, rows, ordinal=ordinal, **more)

    def extend(self, relation: str, columns: str, keys: str, rows: Sequence[Row], **more: object) -> None:
        outputs = " ".join(f"out_{c}" for c in columns.split())
        name = f"{relation}_{columns.replace(' ', '_')}"
        made = self.fill(name, relation, keys, outputs, rows, **more)
        self.extensions.append((relation, made, dict(zip(columns.split(), made.outputs, strict=True))))


def kind(column: str) -> str:
    """Columns that begin with ``s_`` are text, ``t_`` times, ``f_`` flags; all others integers."""
    return {"s_": "VARCHAR", "t_": "TIMESTAMP", "f_": "BOOLEAN"}.get(column.removeprefix("out_")[:2], "INTEGER")


class World:
    """One DuckDB with both schemas, and the calls that were made. It implements `aidb.exec.rounds.Materialiser`."""

    aggregates: frozenset[str] = frozenset()

    def __init__(self, spec: Spec, con: duckdb.DuckDBPyConnection | None = None) -> None:
        self.con = con or duckdb.connect(config={"threads": 1})
        self.spec = spec
        if not World.aggregates:
            found = self.con.sql(
                "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type='aggregate'"
            )
            World.aggregates = frozenset(r[0] for r in found.fetchall())
        self.con.execute("DROP SCHEMA IF EXISTS eager CASCADE; DROP SCHEMA IF EXISTS aidb_internal CASCADE")
        self.con.execute("CREATE SCHEMA eager; CREATE SCHEMA aidb_internal")
        self.relations = Relations(
            {r.name.lower(): r for r in map(self._relation, [*spec.stored, *spec.tables])},
            {n.lower(): q for n, q in spec.views.items()},
            frozenset(m.lower() for m in spec.macros),
            World.aggregates,
        )
        self.fills = {f.id: f for f in [*spec.tables.values(), *(f for _, f, _ in spec.extensions)]}
        self.calls: Counter[str] = Counter()
        self.filled: set[str] = set()
        self.queries = 0
        self.costs: dict[str, float] = {}
        self._create()

    def _relation(self, name: str) -> Relation:
        spec = self.spec
        mine = tuple(Extension(f, c) for r, f, c in spec.extensions if r == name)
        virtual = [c for e in mine for c in e.columns]
        if name in spec.stored:
            columns = (*spec.stored[name], *virtual)
            return Relation(name, columns, f'"aidb_internal"."base_{name}"', columns[:1], None, mine)
        fill = spec.tables[name]
        ordinal = (fill.ordinal,) if fill.ordinal else ()
        columns = (*fill.keys, *ordinal, *fill.outputs, *virtual)
        return Relation(name, columns, fill.rows, (*fill.keys, *ordinal), fill, mine)

    def _create(self) -> None:
        con = self.con
        for name, columns in self.spec.stored.items():
            self._table(f'"aidb_internal"."base_{name}"', columns, self.spec.rows[name])
        for fill in self.fills.values():
            columns = [*fill.keys, *([fill.ordinal] if fill.ordinal else []), *fill.outputs]
            self._table(f'"eager"."answers_{fill.id}"', columns, self.spec.rows[fill.id])
            self._table(fill.rows, columns, [])
            self._table(fill.ledger, fill.keys, [])
        for relation in self.relations.tables.values():
            eager = relation.base
            if relation.fill is not None:
                eager = f'"eager"."answers_{relation.fill.id}"'
            con.execute(f"CREATE OR REPLACE VIEW main.{quote(relation.name)} AS {self._view(relation, relation.base)}")
            con.execute(f"CREATE TABLE eager.{quote(relation.name)} AS {self._view(relation, eager, eager=True)}")
        for schema in ("main", "eager"):
            con.execute(f"SET schema='{schema}'")
            for name, text in self.spec.views.items():
                con.execute(f"CREATE OR REPLACE VIEW {schema}.{quote(name)} AS {text}")
            for name, text in self.spec.macros.items():
                con.execute(f"CREATE OR REPLACE MACRO {schema}.{name}{text}")
        con.execute("SET schema='main'")

    def _view(self, relation: Relation, base: str, eager: bool = False) -> str:
        """What SELECT * shows; virtual columns are NULL until their model has run."""
        virtual = {c: (n, o) for n, e in enumerate(relation.extensions) for c, o in e.columns.items()}
        columns = [
            f"e{virtual[c][0]}.{quote(virtual[c][1])} AS {quote(c)}" if c in virtual else f"b.{quote(c)}"
            for c in relation.columns
        ]
        joins = ""
        for n, extension in enumerate(relation.extensions):
            fill = extension.fill
            op = "IS NOT DISTINCT FROM" if fill.null_safe else "="
            rows = f'"eager"."answers_{fill.id}"' if eager else fill.rows
            keys = {
                k: f"e{virtual[k][0]}.{quote(virtual[k][1])}" if k in virtual else f"b.{quote(k)}" for k in fill.keys
            }
            match = " AND ".join(f"{text} {op} e{n}.{quote(k)}" for k, text in keys.items())
            joins += f" LEFT JOIN {rows} e{n} ON {match}"
        return f"SELECT {', '.join(columns)} FROM {base} b{joins}"

    def _table(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        typed = ", ".join(f"{quote(c)} {kind(c)}" for c in columns)
        self.con.execute(f"CREATE OR REPLACE TABLE {name} ({typed})")
        if rows:
            values = ", ".join("(" + ", ".join("NULL" if v is None else repr(v) for v in r) + ")" for r in rows)
            self.con.execute(f"INSERT INTO {name} VALUES {values}")

    def reset(self) -> None:
        """Forget all answers."""
        if self.filled:
            tables = (t for name in sorted(self.filled) for t in (self.fills[name].rows, self.fills[name].ledger))
            self.con.execute("; ".join(f"DELETE FROM {table}" for table in tables))
        self.filled.clear()
        self.calls.clear()
        self.queries = 0

    # Materialiser

    def query(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        self.queries += 1
        try:
            return self.con.sql(sql, params=dict(parameters) or None).to_arrow_table()
        except duckdb.Error as error:
            raise DataError(f"{error}\n{sql}") from error

    def materialise(self, items: Sequence[tuple[Fill, pa.Table]]) -> None:
        for fill, keys in items:
            assert keys.column_names == list(fill.keys)
            self._assert_sound(fill, keys)
            self.calls[fill.id] += keys.num_rows
            self.filled.add(fill.id)
            names = ", ".join(quote(k) for k in fill.keys)
            op = "IS NOT DISTINCT FROM" if fill.null_safe else "="
            match = " AND ".join(f"a.{quote(k)} {op} k.{quote(k)}" for k in fill.keys)
            self.con.register("keys_now", keys)
            self.con.execute(
                f'INSERT INTO {fill.rows} SELECT a.* FROM "eager"."answers_{fill.id}" a SEMI JOIN keys_now k ON {match};'
                f"INSERT INTO {fill.ledger} SELECT {names} FROM keys_now"
            )
            self.con.unregister("keys_now")

    def _assert_sound(self, fill: Fill, keys: pa.Table) -> None:
        """Every item is asked for once, and only when its parents are known."""
        assert keys.num_rows, f"{fill.id}: asked for nothing"
        distinct = keys.group_by(keys.column_names).aggregate([]).num_rows
        assert distinct == keys.num_rows, f"{fill.id}: the same item twice"
        self.con.register("keys_now", keys)
        match = " AND ".join(f"m.{quote(k)} IS NOT DISTINCT FROM k.{quote(k)}" for k in fill.keys)
        open_items = missing_items(fill, self.relations)
        [(unasked,)] = self.con.execute(
            f"SELECT count(*) FROM keys_now k ANTI JOIN ({open_items}) m ON {match}"
        ).fetchall()
        self.con.unregister("keys_now")
        assert not unasked, f"{fill.id}: {unasked} items were done, or can't run yet"

    def batch_size(self, fill: Fill) -> int:
        return 16

    def cost(self, fill: Fill) -> float:
        return self.costs.get(fill.id, 1.0)

    def measured(self, fill: Fill) -> bool:
        return True

    # Statements

    def touched(self, sql: str) -> set[str] | None:
        try:
            return set(self.con.get_table_names(sql, qualified=True))
        except duckdb.Error:
            return None

    def plan(self, sql: str, parameters: object = None) -> CallPlan:
        return plan_calls(sql, self.relations, self.touched, parameters)

    def eager(self, sql: str, parameters: object = None) -> list[tuple]:
        """The answer if every model had run on everything."""
        return self._in_schema("eager", sql, parameters)

    def answer(self, sql: str, parameters: object = None) -> list[tuple]:
        """The answer over what is stored now."""
        return self._in_schema("main", sql, parameters)

    def _in_schema(self, schema: str, sql: str, parameters: object) -> list[tuple]:
        self.con.execute(f"SET schema='{schema}'")
        try:
            return self.con.execute(sql, parameters or None).fetchall()
        finally:
            self.con.execute("SET schema='main'")

    def lazy(self, sql: str, parameters: object = None, *, optimise: bool = True) -> tuple[list[tuple], CallPlan]:
        """Run a statement as the engine does."""
        plan = self.plan(sql, parameters)
        run_rounds(plan, self, optimise=optimise)
        text, named = plan.final()
        return self.answer(text, parameters if named is None else named), plan

    def lazy_in_any_order(self, sql: str, rng: Random, parameters: object = None) -> tuple[list[tuple], CallPlan]:
        """Run what is wanted in random portions and random order, without early stop."""
        plan = self.plan(sql, parameters)
        while wanted := plan.wanted(self.query):
            fill = rng.choice(sorted(wanted, key=lambda f: f.id))
            keys = wanted[fill]
            if rng.random() < 0.3:
                keys = keys.slice(0, max(1, keys.num_rows // 2))
            self.materialise([(fill, keys)])
        return self.answer(sql, parameters), plan

    def materialise_some(self, rng: Random, share: float) -> None:
        """Run every model on a random part of its items, parents first."""
        depth = self.plan("SELECT 1").depth
        for fill in sorted(self.fills.values(), key=lambda f: (depth(f), f.id)):
            items = self.query(missing_items(fill, self.relations), {})
            chosen = [n for n in range(items.num_rows) if rng.random() < share]
            if chosen:
                self.materialise([(fill, items.take(chosen))])
        self.calls.clear()

    def moves(self, sql: str, parameters: object = None, tries: int = 6) -> bool:
        """Does the eager answer depend on the physical order of rows?"""
        want = multiset(self.eager(sql, parameters))
        self.con.execute("BEGIN")
        try:
            for n in range(tries):
                for relation in self.relations.tables.values():
                    name = f"eager.{quote(relation.name)}"
                    self.con.execute(
                        f"CREATE OR REPLACE TEMP TABLE shuffled AS SELECT * FROM {name} ORDER BY hash(rowid + {n});"
                        f"DELETE FROM {name}; INSERT INTO {name} FROM shuffled"
                    )
                if multiset(self.eager(sql, parameters)) != want:
                    return True
            return False
        finally:
            self.con.execute("ROLLBACK")


def multiset(rows: Sequence[Row]) -> Counter[str]:
    """Rows as a multiset."""
    return Counter(map(repr, rows))
