"""CREATE BLOB TABLE and REFRESH: which connector or query lists the items, and what becomes of those listed before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aidb.catalog.definitions import BlobTable
from aidb.catalog.names import same
from aidb.errors import InternalError, ProgrammingError, SourceError, UnknownName
from aidb.exec.materialiser import Connectors
from aidb.exec.registry import Registry
from aidb.exec.secrets import refuse_secrets
from aidb.spi import Connector, Options, Scan
from aidb.spi.content import CONTENT_SQL
from aidb.sql.statements import CreateBlobTable, Refresh
from aidb.storage import items
from aidb.storage.database import Database

QUERY_KEY = "blob_id"
_RESERVED = frozenset({"_content", "_copy", "_n", "_call", "_failed", "_version", "_row"})
_WHOLE_ROW: tuple[str, ...] = ("_content", "_copy")
"""The identity of an item of a query without a key."""


class BlobTables:
    """Carries out the statements about items."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        connectors: Connectors,
        prepare: Callable[[str], str],
        check: Callable[[], None],
    ) -> None:
        """See `aidb.exec.define.Definer`."""
        self._database, self._registry, self._connectors = database, registry, connectors
        self._prepare, self._check = prepare, check

    def create(self, s: CreateBlobTable) -> str:
        """List the items and keep them."""
        existing = self._registry.blobs.get(s.name.lower())
        if existing is not None and not s.replace:
            if s.if_not_exists:
                return f"blob table {existing.name} exists already"
            raise ProgrammingError(
                f"blob table {s.name!r} exists already; CREATE OR REPLACE keeps the answers that still hold"
            )
        self._registry.check_free(s.name, "blob table")
        return self._list(s, existing)

    def refresh(self, s: Refresh) -> str:
        """List the items again, from where they were listed first."""
        if s.kind != "blob table":
            raise InternalError(f"REFRESH {s.kind} is not defined")
        table = self._registry.blobs.get(s.name.lower())
        if table is None:
            raise UnknownName.of("blob table", s.name, (t.name for t in self._registry.blobs.values()))
        key = None if table.identity == _WHOLE_ROW else table.key
        return self._list(
            CreateBlobTable(table.name, table.source, table.query, table.connector, key, table.options), table
        )

    def _list(self, s: CreateBlobTable, existing: BlobTable | None) -> str:
        return self._list_query(s, existing) if s.query is not None else self._list_source(s, existing)

    def _list_source(self, s: CreateBlobTable, existing: BlobTable | None) -> str:
        assert s.source is not None
        refuse_secrets(s.options, s.source)
        connector = self._connectors.get(s.connector) if s.connector else self._choose(s.source)
        scan = Scan(s.source, Options(s.options, f"connector {connector.name}"))
        schema = connector.schema(scan)
        key, key_type, identity = s.key or schema.key, "BIGINT", schema.identity
        for name, type_ in schema.columns:
            if same(name, key):
                key, key_type, identity = name, type_, (name,)
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
        with self._registry.changing():
            items.stage_batches(self._database.user, definition, connector.items(scan), self._check)
            return self._keep(definition, existing)

    def _list_query(self, s: CreateBlobTable, existing: BlobTable | None) -> str:
        assert s.query is not None
        if s.options:
            raise UnknownName.of(f"option of blob table {s.name}", next(iter(s.options)), (), "a query has none")
        runnable = self._prepare(s.query)
        if existing is not None:
            self._refuse_cycle(existing, runnable)
        with self._registry.changing():
            columns = items.stage_query(self._database.user, runnable, s.key, self._registry.blobs.values())
            return self._keep(_of_query(s, columns), existing)

    def _refuse_cycle(self, table: BlobTable, query: str) -> None:
        """A table can't be listed from itself, nor from what models say of it."""
        touched = {n.partition(" as ")[0] for n in self._database.touched(query) or ()}
        own = {table.items}
        own |= {f.rows for f in self._registry.fills.values() if any(items == table.id for items, *_ in f.rests)}
        if touched & own:
            raise ProgrammingError(f"blob table {table.name!r} can't be made from itself, and its query reads it")

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

    def _keep(self, definition: BlobTable, existing: BlobTable | None) -> str:
        """Merge the staged listing into the items: those of the same table before, or of one that was dropped."""
        registry, db = self._registry, self._database.user
        _check_key(definition)
        before = existing or registry.dropped.get(definition.name.lower())
        if before is not None and _same_kind(before, definition):
            # The key keeps its spelling: it is the name of a column in tables of answers.
            definition = replace(definition, id=before.id, key=before.key)
        else:
            if before is not None:
                registry.retire(before)
            definition = before = replace(definition, id=registry.store.next_id())
            items.create(db, definition)
        registry.add(definition)
        changes = items.merge(db, before, definition, registry.dependents(definition))
        counts = ((changes.new, "new"), (changes.changed, "changed"), (changes.gone, "gone"))
        parts = [f"{changes.items:,} item{'s' * (changes.items != 1)}", *(f"{n:,} {what}" for n, what in counts if n)]
        return f"blob table {definition.name}: {', '.join(parts)}"


def _of_query(s: CreateBlobTable, columns: tuple[tuple[str, str], ...]) -> BlobTable:
    """The table that a query's columns make. Raises for a key that is not among them, or is taken."""
    types = {n.lower(): (n, t) for n, t in columns}
    if s.key is None:
        if QUERY_KEY in types:
            raise ProgrammingError(
                f"{s.name}: the query has a column {QUERY_KEY}; say KEY ({QUERY_KEY}) if it is the key"
            )
        key, key_type = QUERY_KEY, "BIGINT"
        identity = _WHOLE_ROW
    elif s.key.lower() not in types:
        raise UnknownName.of(f"column of {s.name}", s.key, (n for n, _ in columns), "KEY names a column of the query")
    else:
        key, key_type = types[s.key.lower()]
        identity = (key,)
    content = next((n for n, t in columns if t == CONTENT_SQL), None)
    text = next((n for n, t in columns if t == "VARCHAR" and not same(n, key)), None)
    return BlobTable(s.name, 0, key, key_type, columns, identity, content or text, None, None, s.query)


def _check_key(table: BlobTable) -> None:
    if table.key.lower() in _RESERVED:
        raise ProgrammingError(f"{table.name}: AIDB uses the name {table.key!r} itself; give the key another one")
    if table.key_type == CONTENT_SQL:
        raise ProgrammingError(f"{table.name}: {table.key} refers to content, and a key must be a plain value")


def _same_kind(before: BlobTable, now: BlobTable) -> bool:
    """Are the items of one listing those of the other, as far as they are found again?"""
    return _kind(before) == _kind(now)


def _kind(table: BlobTable) -> tuple[object, ...]:
    types = {n.lower(): t for n, t in table.columns}
    identity = tuple((c.lower(), types.get(c.lower())) for c in table.identity)
    return (table.key.lower(), table.key_type, table.connector, identity)
