"""The shell's own commands, which begin with a dot."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aidb.catalog.names import literal, quoted
from aidb.errors import SqlSyntaxError
from aidb.exec.registry import STORED
from aidb.spi.content import CONTENT_SQL
from aidb.sql.parse import is_complete, split
from aidb.surfaces.formats import FORMATS
from aidb.surfaces.session import Failed, Place, Session


class Quit(Exception):
    """Leave the shell."""


@dataclass(frozen=True)
class Command:
    """One command: what may follow it, what it does, and how. run gets the session and what followed."""

    arguments: str
    about: str
    run: Callable[[Session, str], None]


def run_script(session: Session, text: str, name: str) -> None:
    """Run statements, and commands on lines of their own between them, to the first that fails.

    Raises `Failed` after saying which one that was and why, `Quit`, BrokenPipeError.
    """
    number = 0
    for offset, part in _parts(text):
        if part.startswith("."):
            number += 1
            perform(session, part)
            continue
        try:
            statements = split(part)
        except SqlSyntaxError as wrong:
            position = offset + (wrong.position or 0)
            whole = SqlSyntaxError(wrong.message, text, position, wrong.hint)
            session.complain(str(whole), Place(name, text, number + 1, position))
            raise Failed(1) from wrong
        for sql, within in statements:
            number += 1
            session.run(sql, Place(name, text, number, offset + within))


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """A script cut into commands and the texts between them, with their offsets."""
    begin = at = 0
    for line in text.splitlines(keepends=True):
        # A line that begins with a dot within a statement is a part of it.
        if line.startswith(".") and is_complete(text[begin:at]):
            yield begin, text[begin:at]
            yield at, line
            begin = at + len(line)
        at += len(line)
    yield begin, text[begin:]


def perform(session: Session, line: str) -> None:
    """Carry out a line such as ``.mode csv``. Raises `Failed` after saying why, and `Quit`."""
    words = line.strip().rstrip(";").split(None, 1)
    name, rest = words[0].lower(), words[1].strip() if len(words) > 1 else ""
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        session.complain(f"there is no {name}; {f'did you mean {near[0]}?' if near else '.help lists what there is'}")
        raise Failed(1)
    if rest and not command.arguments:
        session.complain(f"{name} takes nothing after it")
        raise Failed(1)
    command.run(session, rest)


# ---- what there is
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


def _tables(session: Session, rest: str) -> None:
    session.show(_TABLES, "there are no tables yet: CREATE BLOB TABLE frames FROM 'videos/*.mp4' makes one")


def _models(session: Session, rest: str) -> None:
    session.show("SHOW MODELS", "there are no models yet: CREATE MODEL find_faces USING opencv makes one")


def _schema(session: Session, rest: str) -> None:
    """Statements that make everything anew, in an order in which they can run."""
    wanted = rest.strip('"').lower()
    found = [text for name, text in _definitions(session) if wanted in ("", name.lower())]
    if not found and wanted:
        session.complain(f"there is no table, view or model {rest}; .tables and .models list what there is")
        raise Failed(1)
    session.out.write("".join(f"{text}\n" for text in found))
    session.out.flush()


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
def _cost(session: Session, rest: str) -> None:
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


def _errors(session: Session, rest: str) -> None:
    session.show(
        "SELECT item, model, attempts, message, noticed FROM aidb.errors ORDER BY noticed DESC LIMIT 100",
        "no item has failed",
    )


def _stale(session: Session, rest: str) -> None:
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


# ---- the shell itself
def _read(session: Session, rest: str) -> None:
    if not rest:
        session.complain("which file? .read FILE runs the statements in it")
        raise Failed(1)
    name = rest.strip("'\"")
    run_script(session, read_script(session, name), name)


def read_script(session: Session, name: str) -> str:
    """The text of a script file. Raises `Failed` after saying why it can't be read."""
    try:
        return Path(name).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as wrong:
        session.complain(f"{name} is no text in UTF-8: byte {wrong.start:,} is {wrong.object[wrong.start]:#04x}")
        raise Failed(1) from wrong
    except OSError as wrong:
        session.complain(f"can't read {name}: {wrong.strerror or wrong}")
        raise Failed(1) from wrong


def _mode(session: Session, rest: str) -> None:
    if not rest:
        session.say(f"results are written as {session.form}; there is {', '.join(FORMATS)}")
    elif rest.lower() not in FORMATS:
        session.complain(f"there is no mode {rest}; there is {', '.join(FORMATS)}")
        raise Failed(1)
    elif rest.lower() == "parquet" and session.out.isatty():
        session.complain("Parquet is not for a terminal: COPY (SELECT ...) TO 'file.parquet' writes it to a file")
        raise Failed(1)
    else:
        session.form = rest.lower()


def _timer(session: Session, rest: str) -> None:
    if rest.lower() in ("on", "off"):
        session.timer = rest.lower() == "on"
    elif rest:
        session.complain("it is .timer on or .timer off")
        raise Failed(1)
    session.say(f"rows, seconds and calls are shown below each answer: {'on' if session.timer else 'off'}")


def _help(session: Session, rest: str) -> None:
    lines = [f"  {f'{name} {command.arguments}':24}{command.about}" for name, command in COMMANDS.items()]
    session.say("\n".join(["Statements end with ; and may go over several lines. Commands are one line:", *lines]))


def _quit(session: Session, rest: str) -> None:
    raise Quit


COMMANDS = {
    ".tables": Command("", "blob tables, virtual tables, tables and views", _tables),
    ".schema": Command("[NAME]", "the statements that define everything, or one thing", _schema),
    ".models": Command("", "the models", _models),
    ".cost": Command("[QUERY]", "what the models have cost, or what a query would cost", _cost),
    ".errors": Command("", "items that failed, the last 100 (RETRY FAILED tries them again)", _errors),
    ".stale": Command("", "answers of changed models or items (DROP STALE drops them)", _stale),
    ".read": Command("FILE", "run the statements of a file", _read),
    ".mode": Command("[FORMAT]", f"write results as {', '.join(FORMATS)}", _mode),
    ".timer": Command("[on|off]", "the line below each answer", _timer),
    ".help": Command("", "this list", _help),
    ".quit": Command("", "leave (so does Ctrl-D)", _quit),
}
