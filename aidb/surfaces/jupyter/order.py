"""What stands behind ``%aidb`` or ``%%aidb``: options, a name for the result, and SQL, which is left as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from aidb.errors import ProgrammingError

USAGE = """%aidb [NAME << | NAME = <<] [-c CONNECTION] [-f FILE] [--explain] [--limit N] [SQL]

NAME <<         keep the result under that name and show nothing; NAME = << also shows it
-c CONNECTION   a variable that holds a connection, or a database file; the cells that follow use it too
-f FILE         run the SQL of a file
--explain       say what the query would cost, and run no model
--limit N       show N rows (the query gives all of them; LIMIT in the query saves model calls)

$name in the SQL is the Python variable of that name, a value, or behind FROM a DataFrame, an Arrow table or an
earlier result. %aidb alone gives the connection."""

_ASSIGN = re.compile(r"([A-Za-z_]\w*)\s*(=?)\s*<<(?!<)")
_OPTION = re.compile(r"(--?[A-Za-z][\w-]*)(?=[\s=]|$)")
_VALUE = re.compile(r"""[=\s]\s*('[^']*'|"[^"]*"|\S+)""")
_LONG = {"-c": "--connection", "-f": "--file", "-l": "--limit", "-h": "--help"}


@dataclass(frozen=True)
class Order:
    """What is wanted. text: the cell from its first line on, with all that is no SQL made blank, so that lines are its own.

    name: the variable for the result, or None. quiet: it is not to be shown.
    """

    text: str = ""
    name: str | None = None
    quiet: bool = False
    connection: str | None = None
    file: str | None = None
    explain: bool = False
    limit: int | None = None
    help: bool = False

    @property
    def is_empty(self) -> bool:
        """Is there no SQL?"""
        return not self.text.strip() and self.file is None


def read(line: str, cell: str | None = None) -> Order:
    """Read the first line, and what stands below it. Raises `ProgrammingError` for an option that there is not.

    >>> read("cars << -c con --limit 5", "SELECT 1").text
    '                        \\nSELECT 1'
    """
    order, at = Order(), 0
    while True:
        at += len(line[at:]) - len(line[at:].lstrip())
        assigned, option = _ASSIGN.match(line, at), _OPTION.match(line, at)
        if assigned and order.name is None:
            order, at = replace(order, name=assigned[1], quiet=not assigned[2]), assigned.end()
        elif option:
            order, at = _with(order, line, option)
        elif line[at : at + 1] == "-" and line[at : at + 2] != "--":
            raise ProgrammingError(
                f"{line[at:].split()[0]!r} is no option of %aidb; there is -c, -f, --explain, --limit"
            )
        else:
            break
    text = " " * at + line[at:] + ("" if cell is None else "\n" + cell)
    if order.file is not None and text.strip():
        raise ProgrammingError(f"-f {order.file} and SQL in the cell: give one of them")
    return replace(order, text=text)


def _with(order: Order, line: str, option: re.Match[str]) -> tuple[Order, int]:
    name, at = _LONG.get(option[1], option[1]), option.end()
    if name in ("--explain", "--help"):
        return (replace(order, explain=True) if name == "--explain" else replace(order, help=True)), at
    if name not in ("--connection", "--file", "--limit"):
        hint = "; a comment needs a space behind its --" if name.startswith("--") else ""
        raise ProgrammingError(f"{name} is no option of %aidb; there is -c, -f, --explain, --limit{hint}")
    found = _VALUE.match(line, at)
    if found is None:
        raise ProgrammingError(f"{option[1]} needs a value behind it")
    value = found[1][1:-1] if found[1][0] in "'\"" and len(found[1]) > 1 else found[1]
    if name == "--connection":
        return replace(order, connection=value), found.end()
    if name == "--file":
        return replace(order, file=value), found.end()
    if not value.isdecimal():
        raise ProgrammingError(f"--limit takes a number of rows, not {value!r}")
    return replace(order, limit=int(value)), found.end()
