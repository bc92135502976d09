"""Is there anything of the name that USING PROXY gives? Asked before a table of items is known."""

from __future__ import annotations

from aidb.errors import UnknownName
from aidb.exec.proxies.expressions import HINT
from aidb.exec.registry import Registry
from aidb.sql.statements import Call


def check_name(call: Call, registry: Registry) -> None:
    """Raise `UnknownName`, with the nearest names, for a proxy that no model, column or definition has the name of."""
    low = call.name.lower()
    if not call.name or low in registry.models:
        return
    models = [m.name for m in registry.models.values()]
    if call.args is not None:
        if not registry.database.is_function(low):
            raise UnknownName.of("proxy", call.name, models, "CREATE MODEL registers one")
        return
    columns = [c for n in registry.names() for c in registry.column_types(n)]
    columns += [c for added in registry.columns for c in added.columns]
    made = [*(p.name for p in registry.proxies.values()), *(i.name for i in registry.indexes.values())]
    tables = {c.table for c in registry.columns}
    columns += [c for t in tables for c in registry.column_types(t)]
    if low not in {n.lower() for n in (*columns, *made)}:
        raise UnknownName.of("proxy", call.name, [*made, *models, *columns], HINT)
