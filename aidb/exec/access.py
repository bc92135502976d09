"""What a connection may reach that was closed to untrusted SQL, by DuckDB's own switches.

``SET enable_external_access = false`` keeps DuckDB from files and the network for good, and ``SET lock_configuration = true``
from every other setting. Both hold for AIDB as well: models and sources can't be declared, answers not carried out or in,
and a content reference is followed only if a connector listed it. Else a text of SQL could name any file, and have a model
read it out. Where those switches are open, references to other machines still need a listing, or ``aidb.follow_urls``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from aidb.catalog.names import quoted
from aidb.errors import OperationalError
from aidb.exec.registry import Registry
from aidb.exec.urls import ANY, may_follow
from aidb.spi import Connector, Decoded, ItemFailure, Ref

if TYPE_CHECKING:
    from aidb.exec.engine import Engine


class Access:
    """What one connection may reach."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def _is_set(self, setting: str) -> bool:
        found = self._registry.database.query(f"SELECT current_setting('{setting}')::BOOLEAN")
        return bool(found.column(0)[0].as_py())

    @property
    def is_open(self) -> bool:
        """May SQL reach files and the network?"""
        return self._is_set("enable_external_access")

    def demand(self, what: str) -> None:
        """Raise `OperationalError` if SQL may reach nothing outside; ``what`` would."""
        if not self.is_open:
            raise OperationalError(
                f"{what} reaches files or the network, and this connection may not (enable_external_access = false): "
                "do it on a connection that may, before the switch is set"
            )

    def demand_settings(self) -> None:
        """Raise `OperationalError` if settings may not be changed any more."""
        if self._is_set("lock_configuration"):
            raise OperationalError("settings can't be changed: lock_configuration is true on this connection")

    def guarded(self, connector: Callable[[str], Connector], urls: str) -> Callable[[str], Connector]:
        """Connectors that follow only references which may be followed. ``urls``: the setting ``aidb.follow_urls``.

        Where nothing outside may be reached these are the ones that a connector has listed, and else those and all that
        do not lead to other machines.
        """
        registry = self._registry
        if not self.is_open:
            return lambda name: _Guarded(connector(name), registry, lambda uri: False, _CLOSED)
        if urls == ANY:
            return connector
        return lambda name: _Guarded(connector(name), registry, lambda uri: may_follow(uri, urls), _NOT_ALLOWED)


def reader(engine: Engine) -> Callable[[str], Connector]:
    """Connectors for the content of a result, as far as its connection may follow references."""
    return Access(engine.registry).guarded(engine.connectors.get, engine.settings.follow_urls)


_CLOSED = "is listed by no blob table, and nothing else may be read here"
_NOT_ALLOWED = (
    "is an address that came as data: it is listed by no CREATE BLOB TABLE ... FROM, and followed only if "
    "SET aidb.follow_urls names its origin, or 'any'"
)


class _Guarded:
    """A connector that reads what was listed, and what is free to all.

    free: may this reference be followed even if it is listed nowhere? why: what to say of one that may not.
    """

    def __init__(self, inner: Connector, registry: Registry, free: Callable[[str], bool], why: str) -> None:
        self._inner, self._registry, self._free, self._why = inner, registry, free, why
        self.name, self.extensions, self.priority = inner.name, inner.extensions, inner.priority
        self.claims, self.schema, self.items = inner.claims, inner.schema, inner.items

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """As the connector does, with a failure for each reference that may not be followed."""
        asked = {ref.uri for ref in refs if not self._free(ref.uri)}
        refused = asked - self._listed(asked) if asked else asked
        if not refused:
            yield from self._inner.read(refs, encoded=encoded)
            return
        found = iter(self._inner.read([ref for ref in refs if ref.uri not in refused], encoded=encoded))
        for ref in refs:
            yield ItemFailure(f"{ref.uri} {self._why}") if ref.uri in refused else next(found)

    def _listed(self, uris: set[str]) -> set[str]:
        cursor = self._registry.database.cursor()
        try:
            return {
                uri
                for table in self._registry.blobs.values()
                if table.connector is not None and table.content is not None
                for (uri,) in cursor.execute(
                    f"SELECT DISTINCT {quoted(table.content)}.uri FROM {table.items} "
                    f"WHERE {quoted(table.content)}.uri IN (SELECT unnest(?))",
                    [sorted(uris)],
                ).fetchall()
            }
        finally:
            cursor.close()
