"""DROP, DROP STALE and RETRY FAILED: what is taken away, and what would go with it."""

from __future__ import annotations

from dataclasses import replace

from aidb.catalog.definitions import VirtualColumns
from aidb.catalog.names import quoted
from aidb.errors import InternalError, ProgrammingError, UnknownName
from aidb.exec.models import ModelPool
from aidb.exec.registry import STORED, Registry
from aidb.sql.statements import Drop, RetryFailed
from aidb.storage import items
from aidb.storage.answers import retry_failed
from aidb.storage.database import Database


class Removal:
    """Carries out the statements that take things away."""

    def __init__(self, database: Database, registry: Registry, pool: ModelPool) -> None:
        self._database, self._registry, self._pool = database, registry, pool

    def retry(self, s: RetryFailed) -> str:
        """Forget that items failed, so that the next query tries them again."""
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
        with registry.changing():
            count = retry_failed(self._database.user, chosen)
        return f"{count:,} failed item{'s' * (count != 1)} will be tried again by the next query that needs them"

    def drop(self, s: Drop) -> str:
        """Take something away, with CASCADE also what rests on it; stored answers stay until DROP STALE."""
        registry = self._registry
        if s.kind == "stale":
            with registry.changing():
                return self._drop_stale()
        assert s.name is not None
        where: dict[str, dict[str, str]] = {
            "blob table": {n: t.name for n, t in registry.blobs.items()},
            "model": {n: m.name for n, m in registry.models.items()},
            "virtual table": {n: t.name for n, t in registry.virtual.items()},
            "proxy": {n: p.name for n, p in registry.proxies.items()},
            "semantic index": {n: i.name for n, i in registry.indexes.items()},
        }
        if s.kind not in where:
            raise InternalError(f"DROP {s.kind} is not defined")
        name = where[s.kind].get(s.name.lower())
        if name is None:
            if s.if_exists:
                return f"there is no {s.kind} {s.name}"
            other = next((f"; {s.name} is a {kind}" for kind, names in where.items() if s.name.lower() in names), None)
            if other is not None:
                raise ProgrammingError(f"there is no {s.kind} {s.name!r}{other}")
            raise UnknownName.of(s.kind, s.name, where[s.kind].values())
        users = [] if s.kind in ("proxy", "semantic index") else registry.users(s.kind, name)
        if users and not s.cascade:
            raise ProgrammingError(
                f"{', '.join(n for _, n in users)} rest{'s' * (len(users) == 1)} on {s.kind} {name}; "
                "DROP ... CASCADE drops them too"
            )
        with registry.changing():
            for kind, user in users[::-1]:
                self._remove(kind, user)
            self._remove(s.kind, name)
        for kind, dropped in [*users, (s.kind, name)]:
            if kind == "model":
                self._pool.forget(dropped)
        also = f", and {', '.join(n for _, n in users[::-1])}" if users else ""
        return f"dropped {s.kind} {name}{also}; stored answers stay until DROP STALE"

    def _remove(self, kind: str, name: str) -> None:
        registry, db = self._registry, self._database.user
        if kind == "model":
            registry.remove(registry.model(name))
        elif kind == "proxy":
            registry.remove(registry.proxies[name.lower()])
        elif kind == "semantic index":
            registry.remove(registry.indexes[name.lower()])
        elif kind == "virtual columns":
            self._remove_columns(next(c for c in registry.columns if registry.store.key_of(c) == name))
        else:
            for own in [c for c in registry.columns if c.table.lower() == name.lower()]:
                registry.remove(own)
            if kind == "virtual table":
                registry.remove(registry.virtual[name.lower()])
            else:
                registry.add(replace(registry.blobs[name.lower()], dropped=True))
            db.execute(f"DROP VIEW IF EXISTS main.{quoted(name)}")

    def drop_columns(self, columns: VirtualColumns) -> None:
        """Take virtual columns off a table."""
        with self._registry.changing():
            self._remove_columns(columns)

    def _remove_columns(self, columns: VirtualColumns) -> None:
        registry, db = self._registry, self._database.user
        registry.remove(columns)
        if not registry.known(columns.table):
            db.execute(f"DROP VIEW IF EXISTS main.{quoted(columns.table)}")
            registry.rename_table(columns.table + STORED, columns.table)

    def _drop_stale(self) -> str:
        registry, db = self._registry, self._database.user
        current = registry.current_fills()
        rows = 0
        for digest, fill in list(registry.fills.items()):
            rows += items.drop_stale(db, fill)
            if digest not in current:
                rows += items.count_rows(db, fill.rows)
                registry.store.drop_fill(fill)
                del registry.fills[digest]
        for blob in list(registry.dropped.values()):
            items.drop(db, blob)
            registry.remove(blob)
        return f"dropped {rows:,} stale row{'s' * (rows != 1)}"
