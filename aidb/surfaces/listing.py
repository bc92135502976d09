"""Commands that say what there is, what it cost, and what went wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from aidb.catalog.names import literal, quoted
from aidb.exec.registry import STORED
from aidb.spi.content import CONTENT_SQL
from aidb.surfaces.session import Failed, Session

_INPUTS = "array_to_string([a->>0 || '.' || (a->>1) FOR a IN inputs::JSON[]], ', ')"
_OURS = "schema_name NOT IN ('aidb', 'aidb_internal') AND database_name = current_database()"
_TABLES = f"""
SELECT name, kind, source FROM (
    SELECT name, 'blob table' AS kind, source, 1 AS place FROM aidb.blob_tables
    UNION ALL
    SELECT name, 'virtual ' || kind, model || '(' || {_INPUTS} || ')', 2 FROM aidb.virtual_tables
    UNION ALL
    SELECT if(schema_name = 'main', '', schema_name || '.') || regexp_replace(table_name, '{STORED}$', ''), 'table',
        format('{{:,}} row{{}}', estimated_size, if(estimated_size = 1, '', 's')), 3
    FROM duckdb_tables() WHERE NOT internal AND {_OURS}
    UNION ALL
    SELECT if(schema_name = 'main', '', schema_name || '.') || view_name, 'view', '', 4
    FROM duckdb_views() WHERE NOT internal AND {_OURS}
        AND view_name NOT IN (SELECT name FROM aidb.blob_tables UNION ALL SELECT name FROM aidb.virtual_tables)
        AND view_name || '{STORED}' NOT IN (SELECT table_name FROM duckdb_tables())
) ORDER BY place, name
"""


def tables(session: Session, rest: str) -> None:
    """Blob tables, virtual tables, tables and views."""
    session.show(_TABLES, "there are no tables yet: CREATE BLOB TABLE frames FROM 'videos/*.mp4' makes one")


def databases(session: Session, rest: str) -> None:
    """The databases that are attached, and their files."""
    session.show(
        "SELECT database_name AS name, coalesce(path, 'in memory') AS file, if(readonly, 'read only', 'read and write') AS use, "
        "database_name = current_database() AS current FROM duckdb_databases() WHERE NOT internal ORDER BY ALL",
        "there is no database",
    )


def models(session: Session, rest: str) -> None:
    """The models."""
    session.show("SHOW MODELS", "there are no models yet: CREATE MODEL find_faces USING opencv makes one")


def schema(session: Session, rest: str) -> None:
    """Statements that make everything anew, in an order in which they can run."""
    wanted = rest.strip('"').lower()
    found = [text for name, text in _definitions(session) if wanted in ("", name.lower())]
    if not found and wanted:
        session.complain(f"there is no table, view or model {rest}; .tables and .models list what there is")
        raise Failed(1)
    session.page("".join(f"{text}\n" for text in found))


def _name(session: Session) -> Callable[[str], str]:
    """Quotes a name where it needs quotes."""
    reserved = {
        row[0]
        for row in session.query("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'")
    }
    return lambda name: name if re.fullmatch("[a-z_][a-z0-9_]*", name) and name not in reserved else quoted(name)


def _definitions(session: Session) -> Iterator[tuple[str, str]]:
    """(name, statement) of all that was defined."""
    rows, named = session.query, _name(session)
    for name, sql in rows(f"SELECT table_name, sql FROM duckdb_tables() WHERE NOT internal AND {_OURS} ORDER BY 1"):
        yield name.removesuffix(STORED), sql.replace(f"{name}", name.removesuffix(STORED), 1)
    for name, key, connector, source, options in rows(
        "SELECT name, key, connector, source, options FROM aidb.blob_tables ORDER BY created"
    ):
        made = (
            f"FROM {literal(source)} USING {connector}{_with(options)}"
            if connector
            else f"AS {source} KEY ({named(key)})"
        )
        yield name, f"CREATE BLOB TABLE {named(name)} {made};  -- {_columns(session, name)}"
    for name, provider, options in rows("SELECT name, provider, options FROM aidb.models ORDER BY created"):
        if provider == "python":
            yield name, f"-- model {named(name)}: a Python function; con.register makes it known to a session"
        else:
            yield name, f"CREATE MODEL {named(name)} USING {provider}{_with(options)};"
    for name, kind, model, inputs, columns in rows(
        f"SELECT name, kind, model, {_INPUTS}, columns FROM aidb.virtual_tables ORDER BY created"
    ):
        if kind == "table":
            yield (
                name,
                f"CREATE VIRTUAL TABLE {named(name)} AS {named(model)}({inputs});  -- {_columns(session, name)}",
            )
        else:
            table = name.split(".")[0]
            added = ", ".join(map(named, json.loads(columns)))
            yield table, f"ALTER TABLE {named(table)} ADD VIRTUAL COLUMNS {added} AS {named(model)}({inputs});"
    for name, sql in rows(
        f"SELECT view_name, sql FROM duckdb_views() WHERE NOT internal AND {_OURS} "
        "AND view_name NOT IN (SELECT name FROM aidb.blob_tables UNION ALL SELECT name FROM aidb.virtual_tables) "
        f"AND view_name || '{STORED}' NOT IN (SELECT table_name FROM duckdb_tables()) ORDER BY 1"
    ):
        yield name, sql.strip()


def _columns(session: Session, name: str) -> str:
    return ", ".join(f"{row[0]} {_short(row[1])}" for row in session.query(f"DESCRIBE {quoted(name)}"))


def _short(type_: str) -> str:
    return "content" if type_ == CONTENT_SQL else type_


def _with(options: str) -> str:
    """The WITH clause of a definition, from its options as JSON."""
    values = json.loads(options)
    return f" WITH ({', '.join(f'{key} = {_option(value)}' for key, value in values.items())})" if values else ""


def _option(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "NULL" if value is None else str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_option, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)}: {_option(v)}' for k, v in value.items())}}}"
    return str(value) if isinstance(value, int | float) else literal(str(value))


# ---- what it cost, and what went wrong
def cost(session: Session, rest: str) -> None:
    """What the models have cost, or what a query would cost."""
    if rest:
        session.run(f"EXPLAIN COST {rest}")
        return
    session.show(
        "SELECT model, count(*) AS batches, sum(items)::BIGINT AS calls, sum(c.rows)::BIGINT AS rows, "
        "round(sum(seconds), 2) AS seconds, sum(failed)::BIGINT AS failed, "
        "round(sum(items) * any_value(price_per_call), 6) AS cost "
        "FROM aidb.calls c LEFT JOIN aidb.models m ON lower(m.name) = lower(c.model) GROUP BY model ORDER BY seconds DESC",
        "no model has run yet",
    )


def errors(session: Session, rest: str) -> None:
    """The items that failed last."""
    session.show(
        "SELECT item, model, attempts, message, noticed FROM aidb.errors ORDER BY noticed DESC LIMIT 100",
        "no item has failed",
    )


def stale(session: Session, rest: str) -> None:
    """Answers that no query sees any more."""
    engine = session.connection.engine
    current = {fill.id for fill in engine.registry.current_fills().values()}
    counted = []
    for fill in engine.registry.fills.values():
        _, ledger = fill.ledger.split(".")
        names = [f"{ledger}_stale"] + ([] if fill.id in current else [ledger])
        for (table,) in session.query(
            "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'aidb_internal' "
            f"AND table_name IN ({', '.join(map(literal, names))})"
        ):
            why = "its items changed or are gone" if table.endswith("_stale") else "its model changed or was dropped"
            counted.append(
                f"SELECT {literal(fill.model)}, (SELECT count(*) FROM aidb_internal.{quoted(table)}), {literal(why)}"
            )
    union = " UNION ALL ".join(counted) or "SELECT '', 0, ''"
    session.show(
        f"SELECT * FROM ({union}) AS t(model, items, why) WHERE items > 0 ORDER BY model",
        "no answer is stale",
    )
