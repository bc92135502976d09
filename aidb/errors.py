"""Every exception that AIDB raises, as one tree; the upper half is PEP 249's.

::

    Exception
    ├── Warning                     something the user should know; the answer stands
    └── Error
        ├── InterfaceError          the API was misused: a closed cursor, a wrong thread
        └── DatabaseError
            ├── DataError           a value doesn't fit: cast, overflow, a corrupt item
            ├── OperationalError    the world is in the way: disk, lock, permission
            │   ├── BudgetExceeded  a cap was reached; what was done is kept, a rerun goes on from there
            │   ├── Interrupted     Ctrl-C or Connection.interrupt(); likewise resumable
            │   ├── SourceError     items can't be listed: no such file, no permission
            │   └── ModelError      a model or its service failed as a whole, or broke its contract
            │       └── TooManyFailures  more items failed than aidb.max_error_ratio allows
            ├── IntegrityError      duplicate keys, a foreign catalog
            ├── InternalError       our bug; please report it
            ├── ProgrammingError    the statement is wrong: syntax, unknown name
            │   ├── SqlSyntaxError  with position and hint
            │   └── UnknownName     with the nearest names
            └── NotSupportedError   a feature that does not exist (yet)

A caller chooses by branch: fix the statement (``ProgrammingError``), fix the world and run again
(``OperationalError``), report it (``InternalError``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aidb.report import Report


_FEW = 24
"""So many names or fewer are all listed in a message."""
_AROUND = 100
"""So many characters on either side of a fault are shown."""


class Warning(Exception):  # noqa: A001  PEP 249 fixes the name
    """Something the user should know; the answer stands."""


class Error(Exception):
    """Base of every error of this package."""


class InterfaceError(Error):
    """The API was misused: a closed cursor, a result that was never asked for."""


class DatabaseError(Error):
    """Base of all errors that concern the database, its data or its models."""


class DataError(DatabaseError):
    """A value does not fit: a failed cast, an overflow, a corrupt item."""


class OperationalError(DatabaseError):
    """The world is in the way: disk, lock, permission, network."""


class IntegrityError(DatabaseError):
    """Duplicate keys, or a database file that contradicts itself."""


class InternalError(DatabaseError):
    """A bug of AIDB itself; please report it."""


class ProgrammingError(DatabaseError):
    """The statement or the call is wrong."""


class NotSupportedError(DatabaseError):
    """A feature that does not exist, or not yet."""


class BudgetExceeded(OperationalError):
    """A cap (``aidb.max_calls``, ``max_seconds``, ``max_cost``) was reached.

    Everything inferred so far is stored; running the query again goes on from there. ``report`` says what was done.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class Interrupted(OperationalError):
    """Ctrl-C or ``Connection.interrupt()``; everything inferred so far is stored."""

    def __init__(
        self, message: str = "interrupted; everything inferred so far is kept", report: Report | None = None
    ) -> None:
        super().__init__(message)
        self.report = report


class SourceError(OperationalError):
    """The items of a blob table can't be listed: nothing matches, no permission, an unknown format."""


class ModelError(OperationalError):
    """A model or its service failed as a whole, or broke its contract. ``model`` names it."""

    def __init__(self, message: str, model: str | None = None, report: Report | None = None) -> None:
        super().__init__(message)
        self.model = model
        self.report = report


class TooManyFailures(ModelError):
    """More items failed than ``aidb.max_error_ratio`` allows; the finished ones are stored."""


class SqlSyntaxError(ProgrammingError):
    """The text can't be read. ``position`` is a 0-based character offset into ``sql``; str() shows line, caret, hint."""

    def __init__(self, message: str, sql: str = "", position: int | None = None, hint: str | None = None) -> None:
        self.message, self.sql, self.position, self.hint = message, sql, position, hint
        super().__init__(self._render())

    @property
    def line(self) -> int | None:
        """1-based line of the fault, if known."""
        return None if self.position is None else self.sql.count("\n", 0, self.position) + 1

    @property
    def column(self) -> int | None:
        """1-based column of the fault, if known."""
        return None if self.position is None else self.position - (self.sql.rfind("\n", 0, self.position) + 1) + 1

    def _render(self) -> str:
        text = self.message
        if self.position is not None:
            start = self.sql.rfind("\n", 0, self.position) + 1
            end = self.sql.find("\n", self.position)
            end = len(self.sql) if end < 0 else end
            # Of a long line the part around the fault is enough.
            first, last = max(start, self.position - _AROUND), min(end, self.position + _AROUND)
            before, behind = "..." if first > start else "", "..." if last < end else ""
            shown, indent = f"{before}{self.sql[first:last]}{behind}", " " * (len(before) + self.position - first)
            text += f"\nline {self.line}, column {self.column}:\n  {shown}\n  {indent}^"
        return text + (f"\nhint: {self.hint}" if self.hint else "")


class UnknownName(ProgrammingError):
    """A table, model, connector, option or setting that does not exist; the message offers the nearest ones."""

    @classmethod
    def of(cls, kind: str, name: str, available: Iterable[str], hint: str | None = None) -> UnknownName:
        """Build the message from the kind of thing, the name that was asked for, and the names that exist."""
        names = sorted(set(available))
        near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=3, cutoff=0.5)
        shown = [n for n in names if n.lower() in near]
        others = [n for n in names if n not in shown]
        if shown:
            # What looks like a name is not always what was meant.
            rest = f" There is also {', '.join(others)}" if others and len(names) <= _FEW else ""
            tail = f"; did you mean {' or '.join(shown)}?{rest}"
        elif names:
            tail = f"; there is {', '.join(names[:_FEW])}{'...' if len(names) > _FEW else ''}"
        else:
            tail = ""
        return cls(f"unknown {kind} {name!r}{tail}" + (f" ({hint})" if hint else ""))
