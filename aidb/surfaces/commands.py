"""The shell's own commands, which begin with a dot, or with a backslash as in psql."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aidb.errors import SqlSyntaxError
from aidb.sql.parse import is_complete, split
from aidb.surfaces import listing, steering
from aidb.surfaces.completing import Argument, a_path, a_query, a_thing, one_of
from aidb.surfaces.explaining import Place
from aidb.surfaces.formats import FORMATS
from aidb.surfaces.session import Failed, Session


class Quit(Exception):
    """Leave the shell."""


@dataclass(frozen=True)
class Command:
    """One command: what may follow it, what it does, how, and what completes it. run gets the session and what followed."""

    arguments: str
    about: str
    run: Callable[[Session, str], None]
    completes: Argument | None = None


def run_script(session: Session, text: str, name: str) -> None:
    """Run statements, and commands on lines of their own between them, to the first that fails.

    Raises `Failed` after saying which one that was and why, `Quit`, BrokenPipeError.
    """
    number = 0
    for offset, part in _parts(text):
        if is_command(part):
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
        if is_command(line) and is_complete(text[begin:at]):
            yield begin, text[begin:at]
            yield at, line
            begin = at + len(line)
        at += len(line)
    yield begin, text[begin:]


def is_command(text: str) -> bool:
    """Does this begin a command, not a statement?"""
    return text.startswith((".", "\\"))


def perform(session: Session, line: str) -> None:
    """Carry out a line such as ``.mode csv``. Raises `Failed` after saying why, and `Quit`."""
    words = line.strip().split(None, 1)
    name, rest = words[0].lower().rstrip(";"), words[1].strip() if len(words) > 1 else ""
    command = COMMANDS.get(ALIASES.get(name, name))
    command = _PSQL.get((name, bool(rest)), command)
    if command is None:
        near = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], n=1)
        session.complain(f"there is no {name}; {f'did you mean {near[0]}?' if near else '.help lists what there is'}")
        raise Failed(1)
    rest = rest.removesuffix(";").rstrip()
    if rest and not command.arguments:
        session.complain(f"{name} takes nothing after it")
        raise Failed(1)
    command.run(session, rest)


def _read(session: Session, rest: str) -> None:
    if not rest:
        session.complain("which file? .read FILE runs the statements in it")
        raise Failed(1)
    name = str(steering.path_of(rest))
    run_script(session, read_script(session, name), name)


def read_script(session: Session, name: str) -> str:
    """The text of a script file. Raises `Failed` after saying why it can't be read."""
    try:
        return Path(name).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as wrong:
        session.complain(f"{name} is no text in UTF-8: byte {wrong.start:,} is {wrong.object[wrong.start]:#04x}")
        raise Failed(1) from wrong
    except (OSError, ValueError) as wrong:
        session.complain(f"can't read {name}: {getattr(wrong, 'strerror', None) or wrong}")
        raise Failed(1) from wrong


def _explain(session: Session, rest: str) -> None:
    if not rest and session.last_sql is None:
        session.complain("which query? .explain SELECT ... says what it would cost; alone it is about the last one")
        raise Failed(1)
    session.run(f"EXPLAIN {rest or session.last_sql}")


def _describe(session: Session, rest: str) -> None:
    if not rest:
        listing.tables(session, rest)
        return
    session.run(f"DESCRIBE {rest}")


def _help(session: Session, rest: str) -> None:
    lines = [f"  {f'{name} {command.arguments}':24}{command.about}" for name, command in COMMANDS.items()]
    aliases = ", ".join(f"{alias} is {name}" for alias, name in ALIASES.items() if alias[0] == "\\")
    session.say(
        "\n".join(
            [
                "Statements end with ; and may go over several lines. Commands are one line:",
                *lines,
                f"As in psql: {aliases}, \\x switches to a line for each value and back.",
            ]
        )
    )


def _quit(session: Session, rest: str) -> None:
    raise Quit


COMMANDS = {
    ".tables": Command("", "blob tables, virtual tables, tables and views", listing.tables),
    ".describe": Command("[NAME]", "the columns of a table", _describe, a_thing),
    ".schema": Command("[NAME]", "the statements that define everything, or one thing", listing.schema, a_thing),
    ".models": Command("", "the models", listing.models),
    ".databases": Command("", "the databases that are attached", listing.databases),
    ".cost": Command("[QUERY]", "what the models have cost, or what a query would cost", listing.cost, a_query),
    ".explain": Command("[QUERY]", "which calls a query, or the last one, would make", _explain, a_query),
    ".errors": Command("", "items that failed, the last 100 (RETRY FAILED tries them again)", listing.errors),
    ".stale": Command("", "answers of changed models or items (DROP STALE drops them)", listing.stale),
    ".show": Command("[FILE]", "the pictures of the last result on one sheet, HTML or PNG", steering.show, a_path),
    ".read": Command("FILE", "run the statements of a file", _read, a_path),
    ".mode": Command("[FORMAT]", f"write results as {', '.join(FORMATS)}", steering.mode, one_of(FORMATS)),
    ".output": Command("[FILE]", "write results to a file, or again to the screen", steering.output, a_path),
    ".once": Command("FILE", "write the next result to a file", steering.once, a_path),
    ".timer": Command("[on|off]", "the line below each answer", steering.timer, one_of(("on", "off"))),
    ".pager": Command("[on|off|COMMAND]", "turn pages of long results", steering.pager, one_of(("on", "off"))),
    ".help": Command("", "this list", _help),
    ".quit": Command("", "leave (so does Ctrl-D)", _quit),
}
ALIASES = {
    "\\d": ".tables", "\\dt": ".tables", "\\l": ".databases", "\\i": ".read", "\\o": ".output", "\\timing": ".timer",
    "\\?": ".help", "\\h": ".help", "\\q": ".quit", ".exit": ".quit",
}  # fmt: skip
"""psql's names."""
_PSQL = {
    ("\\d", True): COMMANDS[".describe"],
    ("\\x", False): Command("", "a line for each value, or back to the table", steering.line_mode),
}
"""What has no name of ours; is something behind it?"""
