"""SHOW MODELS, SHOW PROXIES and the like: queries over the system views."""

from __future__ import annotations

from aidb.errors import NotSupportedError
from aidb.sql.statements import Show

SHOWN = {
    "models": "SELECT name, provider, rows, device, price_per_call, created FROM aidb.models",
    "blob tables": "SELECT name, key, connector, source, created FROM aidb.blob_tables",
    "virtual tables": "SELECT name, kind, model, inputs, created FROM aidb.virtual_tables",
    "proxies": """SELECT name, "table", target, "using", CASE WHEN auc IS NOT NULL THEN format('{}AUC {:.3f}, correlation {:.2f}',
        CASE WHEN useless THEN 'useless: ' ELSE '' END, auc, correlation) END AS quality, labels, created FROM aidb.proxies
        UNION ALL SELECT name, "table", 'anything', "using", format('{} representatives of {} items', representatives, items),
        NULL, created FROM aidb.indexes""",
    "guarantees": "SELECT text AS name, mode, target, probability, labels, created FROM aidb.guarantees",
}


def listing(statement: Show) -> str:
    """The query behind a SHOW. Raises `NotSupportedError` for what can't be shown yet."""
    if statement.what not in SHOWN:
        raise NotSupportedError(f"SHOW {statement.what.upper()} does not exist yet")
    sql = f"SELECT * FROM ({SHOWN[statement.what]})"
    sql += f" WHERE {statement.where}" if statement.where else ""
    sql += f" ORDER BY {statement.order}" if statement.order else " ORDER BY name"
    return sql + (f" LIMIT {statement.limit}" if statement.limit is not None else "")
