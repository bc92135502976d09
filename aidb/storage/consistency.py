"""Is a database what AIDB left it as? Every rule that its own writing keeps, looked at from outside.

A database that only AIDB wrote has no problem, whenever it was killed: each batch is one transaction. Problems come from
hands in ``aidb_internal``, from copies that were cut short, and from mistakes of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aidb.catalog.definitions import BlobTable, FillDefinition, IndexDefinition, VirtualColumns, VirtualTable
from aidb.catalog.names import listed, quoted
from aidb.storage.database import Database
from aidb.storage.definitions import Definition, key_of, read_definition, read_fill
from aidb.storage.items import stale_name
from aidb.storage.schema import INTERNAL

FIXED = ("meta", "definitions", "fills", "calls", "errors", "queries", "current_fills", "sampled")
"""Tables that every database has, beside those of items, answers, representatives and kept answers."""


@dataclass(frozen=True)
class Problem:
    """A rule that does not hold: for which table or definition, in words, and for how many rows (None: for the whole)."""

    object: str
    problem: str
    rows: int | None = None


def problems(db: Database) -> Iterator[Problem]:
    """Every rule that is broken; nothing for a sound database. Reads all keys, no answers' values."""
    check = _Check(db)
    yield from check.definitions()
    for table in check.blobs:
        yield from check.items(table)
    for fill in check.fills:
        yield from check.fill(fill)
    yield from check.names()
    yield from check.strangers()


class _Check:
    """One look at one database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.blobs: list[BlobTable] = []
        self.fills: list[FillDefinition] = []
        self._others: list[Definition] = []
        self._columns = self._columns_of_tables()
        self._known = {*FIXED}

    def _all(self, sql: str) -> list[tuple[object, ...]]:
        table = self._db.query(sql)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def _count(self, sql: str) -> int:
        return int(str(self._all(f"SELECT count(*) FROM ({sql})")[0][0]))

    def _columns_of_tables(self) -> dict[str, list[tuple[str, str]]]:
        found: dict[str, list[tuple[str, str]]] = {}
        for table, column, type_ in self._all(
            "SELECT t.table_name, c.column_name, c.data_type FROM duckdb_tables() t JOIN duckdb_columns() c "
            "USING (database_name, schema_name, table_name) "
            f"WHERE schema_name = '{INTERNAL}' AND database_name = current_database() ORDER BY t.table_name, c.column_index"
        ):
            found.setdefault(str(table), []).append((str(column), str(type_)))
        return found

    def _is_there(self, name: str) -> bool:
        return name.removeprefix(f"{INTERNAL}.") in self._columns

    def _has(self, table: str, columns: Sequence[tuple[str, str]]) -> Iterator[Problem]:
        """A table with just these columns, in order; types are compared as DuckDB writes them."""
        bare = table.removeprefix(f"{INTERNAL}.")
        self._known.add(bare)
        there = self._columns.get(bare)
        if there is None:
            yield Problem(table, "the table is missing")
        elif [n.lower() for n, _ in there] != [n.lower() for n, _ in columns]:
            yield Problem(table, f"has the columns {listed(n for n, _ in there)}, not {listed(n for n, _ in columns)}")

    def _broken(self, object_: str, problem: str, sql: str) -> Iterator[Problem]:
        """A problem for the rows of a query, if it has any."""
        rows = self._count(sql)
        if rows:
            yield Problem(object_, problem, rows)

    # ---- what was declared
    def definitions(self) -> Iterator[Problem]:
        """Everything declared can be read, under a name of its own."""
        missing = [
            Problem(f"{INTERNAL}.{table}", "the table is missing") for table in FIXED if not self._is_there(table)
        ]
        if missing:
            yield from missing
            return
        if self._count(f"FROM {INTERNAL}.meta") != 1:
            yield Problem(f"{INTERNAL}.meta", "has not just one row")
        for kind, name, text in self._all(f"SELECT kind, name, definition FROM {INTERNAL}.definitions ORDER BY name"):
            definition = read_definition(str(kind), str(text))
            if key_of(definition) != name:
                yield Problem(f"{kind} {name}", f"the definition is of {key_of(definition)}")
            if isinstance(definition, BlobTable):
                self.blobs.append(definition)
            else:
                self._others.append(definition)
        self.fills = [
            read_fill(str(text)) for (text,) in self._all(f"SELECT definition FROM {INTERNAL}.fills ORDER BY id")
        ]
        yield from self._broken(
            f"{INTERNAL}.definitions",
            "stands there twice",
            f"SELECT lower(name) FROM {INTERNAL}.definitions GROUP BY kind, lower(name) HAVING count(*) > 1",
        )
        for what in ("id", "lineage"):
            yield from self._broken(
                f"{INTERNAL}.fills",
                f"two fills have one {what}",
                f"SELECT {what} FROM {INTERNAL}.fills GROUP BY {what} HAVING count(*) > 1",
            )

    # ---- items
    def items(self, table: BlobTable) -> Iterator[Problem]:
        """Keys are there and unique, and what is listed is not gone."""
        own = [(n, t) for n, t in table.columns if n.lower() != table.key.lower()]
        columns = [(table.key, table.key_type), *own, ("_content", "VARCHAR"), ("_copy", "BIGINT")]
        gone = f"{table.items}_gone"
        wrong = [*self._has(table.items, columns), *self._has(gone, columns)]
        yield from wrong
        if wrong:
            return
        key, name = quoted(table.key), f"blob table {table.name}"
        yield from self._broken(name, "items without a key", f"SELECT 1 FROM {table.items} WHERE {key} IS NULL")
        yield from self._broken(
            name, "keys that several items have", f"SELECT {key} FROM {table.items} GROUP BY {key} HAVING count(*) > 1"
        )
        yield from self._broken(
            name, "items listed that are also gone", f"SELECT {key} FROM {table.items} SEMI JOIN {gone} USING ({key})"
        )

    # ---- answers
    def fill(self, fill: FillDefinition) -> Iterator[Problem]:
        """Each item stands once in the ledger, and has the rows that it must have."""
        ordinal = [(fill.ordinal, "BIGINT")] if fill.ordinal else []
        extra = [("_call", "BIGINT"), ("_failed", "BOOLEAN")]
        rows, ledger = [*fill.keys, *ordinal, *fill.outputs], [*fill.keys, *extra]
        wrong = [*self._has(fill.rows, rows), *self._has(fill.ledger, ledger)]
        stale = [stale_name(t) for t in (fill.rows, fill.ledger)]
        version = [("_version", "VARCHAR")]
        if any(self._is_there(t) for t in stale):
            wrong += [*self._has(stale[0], [*rows, *version]), *self._has(stale[1], [*ledger, *version])]
        yield from wrong
        if wrong:
            return
        name = f"answers {fill.id} of {fill.model}"
        yield from self._ledger(name, fill)
        yield from self._rows(name, fill)
        if self._is_there(stale[0]):
            yield from self._broken(
                name,
                "stale rows of items that the stale ledger does not have",
                f"SELECT 1 FROM {stale[0]} r ANTI JOIN {stale[1]} l ON {self._same(fill)} AND r._version = l._version",
            )

    @staticmethod
    def _same(fill: FillDefinition) -> str:
        return " AND ".join(f"r.{quoted(k)} IS NOT DISTINCT FROM l.{quoted(k)}" for k, _ in fill.keys)

    def _ledger(self, name: str, fill: FillDefinition) -> Iterator[Problem]:
        keys, ledger = listed(k for k, _ in fill.keys), fill.ledger
        yield from self._broken(
            name, "items that the ledger has twice", f"SELECT {keys} FROM {ledger} GROUP BY ALL HAVING count(*) > 1"
        )
        yield from self._broken(
            name,
            "ledger entries of a call that is not recorded",
            f"SELECT 1 FROM {ledger} l ANTI JOIN (FROM {INTERNAL}.calls WHERE fill = {fill.id}) c ON l._call = c.call_id",
        )
        yield from self._broken(
            name,
            "calls with more items in the ledger than they had",
            f"SELECT c.call_id FROM {INTERNAL}.calls c JOIN {ledger} l ON l._call = c.call_id WHERE c.fill = {fill.id} "
            "GROUP BY c.call_id HAVING count(*) > any_value(c.items)",
        )
        failed = self._count(f"SELECT 1 FROM {ledger} WHERE _failed")
        known = self._count(f"SELECT 1 FROM {INTERNAL}.errors WHERE fill = {fill.id}")
        if failed > known:
            yield Problem(name, "failed items whose reason is not recorded", failed - known)
        there = {table.id: table for table in self.blobs}
        for items, key, _, _ in fill.rests:
            if items in there and self._is_there(there[items].items):
                yield from self._broken(
                    name,
                    f"answers about items that {there[items].name} does not list",
                    f"SELECT 1 FROM {ledger} l ANTI JOIN {there[items].items} i "
                    f"ON l.{quoted(key)} = i.{quoted(there[items].key)}",
                )

    def _rows(self, name: str, fill: FillDefinition) -> Iterator[Problem]:
        keys = listed(k for k, _ in fill.keys)
        answered = f"(FROM {fill.ledger} WHERE NOT _failed)"
        yield from self._broken(
            name,
            "rows of items that the ledger does not have as answered",
            f"SELECT 1 FROM {fill.rows} r ANTI JOIN {answered} l ON {self._same(fill)}",
        )
        if fill.ordinal is None:
            yield from self._broken(
                name,
                "items with several rows, of a model that gives one",
                f"SELECT {keys} FROM {fill.rows} GROUP BY ALL HAVING count(*) > 1",
            )
            yield from self._broken(
                name,
                "items that the ledger has as answered, without their row",
                f"SELECT 1 FROM {answered} l ANTI JOIN {fill.rows} r ON {self._same(fill)}",
            )
        else:
            n = quoted(fill.ordinal)
            yield from self._broken(
                name,
                f"items whose rows are not numbered from 0 in {fill.ordinal}",
                f"SELECT {keys} FROM {fill.rows} GROUP BY ALL "
                f"HAVING min({n}) <> 0 OR max({n}) <> count(*) - 1 OR count(DISTINCT {n}) <> count(*)",
            )

    # ---- names
    def names(self) -> Iterator[Problem]:
        """What a name stands for is there: the view that shows it, its answers, its representatives."""
        views = {
            str(name).lower()
            for (name,) in self._all(
                "SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND database_name = current_database()"
            )
        }
        shown = [(f"blob table {t.name}", t.name) for t in self.blobs if not t.dropped]
        shown += [(f"virtual table {d.name}", d.name) for d in self._others if isinstance(d, VirtualTable)]
        shown += [(f"virtual columns of {d.table}", d.table) for d in self._others if isinstance(d, VirtualColumns)]
        for what, name in dict(shown).items():
            if name.lower() not in views:
                yield Problem(what, f"main has no view {name}")
        for index in (d for d in self._others if isinstance(d, IndexDefinition)):
            self._known.add(index.rows.removeprefix(f"{INTERNAL}."))
            if not self._is_there(index.rows):
                yield Problem(f"semantic index {index.name}", f"{index.rows} is missing")
            elif (found := self._count(f"FROM {index.rows}")) != index.representatives:
                yield Problem(
                    f"semantic index {index.name}", f"has {found} representatives, not {index.representatives}"
                )
        if all(self._is_there(name) for name in FIXED):
            yield from self._broken(
                f"{INTERNAL}.current_fills",
                "names whose answers are not there",
                f"SELECT 1 FROM {INTERNAL}.current_fills c ANTI JOIN {INTERNAL}.fills f ON c.fill = f.id",
            )
            for (number,) in self._all(f"SELECT answer FROM {INTERNAL}.sampled"):
                self._known.add(f"sampled_{number}")
                if not self._is_there(f"sampled_{number}"):
                    yield Problem(f"{INTERNAL}.sampled_{number}", "the table is missing")

    def strangers(self) -> Iterator[Problem]:
        """Tables that belong to nothing; called last, when all that belongs is known."""
        for name in sorted(set(self._columns) - self._known):
            yield Problem(f"{INTERNAL}.{name}", "belongs to nothing that is declared")
