"""EXPORT VIRTUAL TABLE and ATTACH MATERIALIZED: what one team's models said, read by another.

An answer holds for whoever shows the same model the same input. So a fill's items are described by what their sources
call them, and by a digest of all that the model is shown; the model is described by its fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aidb.catalog.definitions import BlobTable, FillDefinition
from aidb.catalog.names import quoted, same
from aidb.catalog.relations import Relation
from aidb.errors import InternalError, NotSupportedError, OperationalError, ProgrammingError, UnknownName
from aidb.exec.registry import Registry
from aidb.exec.secrets import refuse_secrets
from aidb.spi.content import CONTENT_SQL
from aidb.sql.statements import AttachMaterialized, ExportVirtualTable
from aidb.storage import exchange
from aidb.storage.exchange import FORMAT, Folder, Taken, Universe


class Exchange:
    """Carries answers out of and into one database."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def export(self, s: ExportVirtualTable) -> str:
        """Write the current answers of a table to a folder; a sentence. Raises if an export is there already."""
        refuse_secrets({}, s.target)
        fills = self._fills(s.name)
        folder = Folder(s.target)
        if folder.manifest() is not None:
            raise OperationalError(f"{s.target} holds an export already: choose another folder, or remove it first")
        db = self._registry.database.cursor()
        described, items, rows = [], 0, 0
        try:
            for n, fill in enumerate(fills):
                shown = self._universe(fill)
                found = exchange.export(db, self._registry.fills[fill.lineage], shown, folder.inner(str(n)))
                described.append(self._described(fill, shown))
                items, rows = items + found[0], rows + found[1]
        finally:
            db.close()
        now = datetime.now(UTC).isoformat()
        folder.finish({"format": FORMAT, "table": s.name, "written": now, "answers": described})
        return f"{s.name}: {items:,} answered items with {rows:,} rows are in {s.target} now"

    def attach(self, s: AttachMaterialized) -> str:
        """Store a folder's answers for the items that a table lists; a sentence. Nothing is stored if anything fails."""
        refuse_secrets({}, s.source)
        fills = self._fills(s.name)
        folder = Folder(s.source)
        manifest = folder.manifest()
        if manifest is None:
            raise OperationalError(
                f"{s.source} holds no export, or one that was not finished: there is no manifest.json"
            )
        theirs = manifest["answers"]
        pairs = []
        for fill in fills:
            shown = self._universe(fill)
            own = self._described(fill, shown)
            place = next((n for n, their in enumerate(theirs) if their == own), None)
            if place is None:
                raise ProgrammingError(_unlike(s, own, theirs))
            pairs.append((fill, shown, place))
        taken = Taken(0, 0, 0)
        with self._registry.changing():
            for fill, shown, place in pairs:
                stored = self._registry.fills[fill.lineage]
                taken += exchange.attach(self._registry.database.user, stored, shown, folder.inner(str(place)))
        return (
            f"{s.name}: {taken.new:,} items have their answers from {s.source} now, {taken.known:,} had theirs, "
            f"{taken.elsewhere:,} are not listed here or not the same"
        )

    # ---- whose answers
    def _fills(self, name: str) -> list[FillDefinition]:
        """What fills a virtual table, or the virtual columns of a table."""
        registry = self._registry
        relation = registry.relation(name)
        if relation is None:
            raise UnknownName.of("virtual table", name, registry.names())
        views = [relation.fill] if relation.fill is not None else [e.fill for e in relation.extensions]
        if not views:
            raise ProgrammingError(f"{name} has no virtual columns: there are no answers to carry")
        fills = [registry.definition(view) for view in views if view is not None]
        for fill in fills:
            if fill.sequential:
                raise NotSupportedError(
                    f"{fill.model} follows a file from its beginning to its end, so its answers hold only beside each other: "
                    "copy the database instead"
                )
        return fills

    def _described(self, fill: FillDefinition, shown: Universe) -> Mapping[str, Any]:
        """What must be equal for answers to hold, in words that JSON gives back as they were."""
        model = self._registry.model(fill.model)
        return {
            "fingerprint": fill.fingerprint,
            "rows": model.rows,
            "outputs": [list(output) for output in fill.outputs],
            "identity": list(shown.identity),
            "inputs": len(fill.args),
        }

    # ---- which items
    def _universe(self, fill: FillDefinition) -> Universe:
        keys = [name for name, _ in fill.keys]
        if fill.null_safe:
            return Universe(None, tuple(f"value{n}" for n in range(len(keys))))
        sources = _Sources(self._registry, fill)
        listed = {key.lower(): table for table, key in sources.listed}
        selected, identity = [sources.key(k) for k in keys], []
        for n, name in enumerate(keys):
            table = listed.get(name.lower())
            if table is None:
                identity.append((f"key{n}", sources.key(name)))
            else:
                alias = sources.items(table)
                identity += [(f"key{n}_{c.lower().lstrip('_')}", f"{alias}.{quoted(c)}") for c in table.identity]
        version = f"md5(ROW({', '.join(sources.shown(*arg) for arg in fill.args)})::VARCHAR)"
        what = ", ".join([*selected, *(expression for _, expression in identity), version])
        return Universe(f"SELECT {what} FROM {sources.sql}", tuple(name for name, _ in identity))


class _Sources:
    """The relations that a fill's inputs come from, joined on their keys."""

    def __init__(self, registry: Registry, fill: FillDefinition) -> None:
        self._registry, self._fill = registry, fill
        self._aliases: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self.sql = ""
        for name in (*fill.parents, *(table for table, _ in fill.args)):
            self._join(name)
        there = {table.id: table for table in registry.blobs.values()}
        self.listed = [(there[items], key) for items, key, _, _ in fill.rests if items in there]
        self._items: dict[int, str] = {}
        for table, key in self.listed:
            alias = self._items[table.id] = f"i{len(self._items)}"
            self.sql += f" JOIN {table.items} {alias} ON {alias}.{quoted(table.key)} = {self.key(key)}"

    def _join(self, name: str) -> None:
        low = name.lower()
        if low in self._aliases:
            return
        alias = self._aliases[low] = f"r{len(self._aliases)}"
        relation = self._relation(name)
        shared = [k for k in relation.key if k.lower() in self._keys]
        on = " AND ".join(f"{alias}.{quoted(k)} = {self.key(k)}" for k in shared)
        joined = f"{relation.base} {alias}"
        self.sql += joined if not self.sql else f" JOIN {joined} ON {on}" if shared else f" CROSS JOIN {joined}"
        for k in relation.key:
            self._keys.setdefault(k.lower(), f"{alias}.{quoted(k)}")

    def _relation(self, name: str) -> Relation:
        relation = self._registry.bare(name)
        if relation is None:
            raise InternalError(f"{self._fill.model}: {name} is gone from the catalog")
        return relation

    def key(self, name: str) -> str:
        """SQL of a key column."""
        return self._keys[name.lower()]

    def items(self, table: BlobTable) -> str:
        """The alias of a blob table's items."""
        return self._items[table.id]

    def shown(self, name: str, column: str) -> str:
        """SQL of what the model is shown for an argument: of content its content id, of the rest the value."""
        type_ = self._registry.column_types(name)[column.lower()]
        if type_ == CONTENT_SQL:
            blob = next(t for t, _ in self.listed if same(t.name, name))
            return f"{self.items(blob)}._content"
        return f"{self._aliases[name.lower()]}.{quoted(column)}"


def _unlike(s: AttachMaterialized, own: Mapping[str, Any], theirs: list[Mapping[str, Any]]) -> str:
    """Why none of the answers in a folder are those of the table."""
    for what, said in (
        ("fingerprint", "another model, or the same with other weights, options or code"),
        ("outputs", "other columns"),
        ("identity", "items that are told apart by other columns"),
    ):
        if all(own[what] != their.get(what) for their in theirs):
            shown = ", ".join(str(their.get(what)) for their in theirs)
            return f"{s.source} has answers of {said}: {what} {shown}, where {s.name} has {own[what]}"
    return f"{s.source} has no answers for {s.name}: {own} is none of {theirs}"
