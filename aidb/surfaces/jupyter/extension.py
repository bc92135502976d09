"""``%aidb`` and ``%%aidb``, and how results are shown, put into an IPython shell and taken out of it."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

from aidb.connection import Connection
from aidb.cursor import Cursor
from aidb.errors import Error, OperationalError, ProgrammingError
from aidb.exec.control import Progress
from aidb.handles import Handle
from aidb.sql.parse import split
from aidb.surfaces.explaining import Place
from aidb.surfaces.interrupting import interruptible
from aidb.surfaces.jupyter import order, table
from aidb.surfaces.jupyter.bars import bars
from aidb.surfaces.jupyter.completion import matcher
from aidb.surfaces.jupyter.connections import Connections, is_open
from aidb.surfaces.jupyter.failures import shown_briefly
from aidb.surfaces.jupyter.variables import given


@magics_class
class AidbMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._shell = shell
        self.matcher: Any = None
        self.connections = Connections()
        self.limits: weakref.WeakKeyDictionary[Cursor, int] = weakref.WeakKeyDictionary()

    @no_var_expand
    @line_cell_magic
    def aidb(self, line: str, cell: str | None = None) -> Any:
        """Run SQL, in the line or in the cell; the result is a cursor, shown as a table."""
        text, sql, at = (line if cell is None else f"{line}\n{cell}"), "", None
        try:
            wanted = order.read(line, cell)
            if wanted.help:
                print(order.USAGE)
                return None
            connection = self.connections.choose(wanted.connection, self.variables())
            if wanted.is_empty:
                return self._kept(wanted, connection)
            text = wanted.text if wanted.file is None else _script(wanted.file)
            statements = split(text)
            if not statements:
                return None
            if wanted.explain and len(statements) > 1:
                raise ProgrammingError("--explain takes one query, and these are several statements")
            for sql, at in statements:  # noqa: B007  an error says which statement it was
                cursor = self._run(connection, f"EXPLAIN {sql}" if wanted.explain else sql)
        except Error as wrong:
            shown_briefly(wrong, None if at is None else Place("", text, 0, at), sql)
            raise
        if wanted.limit is not None:
            self.limits[cursor] = wanted.limit
        return self._kept(wanted, cursor)

    aidb.__doc__ = f"{aidb.__doc__}\n\n{order.USAGE}"

    def variables(self) -> dict[str, Any]:
        """What the person has defined, without what IPython has."""
        hidden = self._shell.user_ns_hidden
        return {n: v for n, v in self._shell.user_ns.items() if n not in hidden or v is not hidden[n]}

    def _kept(self, wanted: order.Order, value: Any) -> Any:
        if wanted.name is not None:
            self._shell.user_ns[wanted.name] = value
        return None if wanted.quiet else value

    def _run(self, connection: Connection, sql: str) -> Cursor:
        """Run one statement, with the variables that it names, a bar, and an ear for the interrupt button."""
        found = given(sql, self.variables())
        engine = connection.engine
        told = engine.progress
        try:
            for name, rows in found.relations.items():
                engine.database.keep(name, "FROM aidb_given", aidb_given=rows)
            engine.registry.forget_natives(functions=False)
            with (
                bars(notebook=hasattr(self._shell, "kernel")) as advance,
                interruptible(connection.interrupt, _stopping),
            ):

                def both(now: Progress) -> None:
                    advance(now)
                    if told is not None:
                        told(now)

                cursor = connection.execute(found.sql, found.parameters, progress=both)
                _ = cursor.rowcount  # all of it is there before it is shown
                return cursor
        finally:
            if found.relations and is_open(connection):
                for name in found.relations:
                    engine.database.execute(f"DROP TABLE IF EXISTS temp.{name}")
                engine.registry.forget_natives(functions=False)


def _stopping() -> None:
    print("stopping; what is running is finished and kept (interrupt again to leave it)")


def _script(name: str) -> str:
    try:
        return Path(name).expanduser().read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise OperationalError(f"{name} is no text in UTF-8") from e
    except OSError as e:
        raise OperationalError(f"can't read {name}: {e.strerror or e}") from e


_loaded: weakref.WeakKeyDictionary[InteractiveShell, AidbMagics] = weakref.WeakKeyDictionary()


def load(shell: InteractiveShell) -> None:
    """Add the magics, and the looks of cursors."""
    magics = AidbMagics(shell)
    shell.register_magics(magics)
    formatters = _formatters(shell)

    def limit(cursor: Cursor) -> int:
        return magics.limits.get(cursor, table.ROWS)

    def plain(cursor: Cursor, printer: Any, cycle: bool) -> None:
        printer.text(table.text(cursor, limit(cursor)) if _has_report(cursor) else repr(cursor))

    def rich(cursor: Cursor) -> str | None:
        return table.table(cursor, limit(cursor)) if _has_report(cursor) else None

    def connection(con: Connection, printer: Any, cycle: bool) -> None:
        printer.text(f"<aidb connection: {con.engine.database.path if is_open(con) else 'closed'}>")

    formatters["text/html"].for_type(Cursor, rich)
    formatters["text/html"].for_type(Handle, table.item)
    formatters["text/plain"].for_type(Cursor, plain)
    formatters["text/plain"].for_type(Connection, connection)
    magics.matcher = matcher(magics.connections, magics.variables)
    _matchers(shell).append(magics.matcher)
    _loaded[shell] = magics


def _formatters(shell: InteractiveShell) -> Any:
    assert shell.display_formatter is not None
    return shell.display_formatter.formatters


def _matchers(shell: InteractiveShell) -> Any:
    completer: Any = shell.Completer
    return completer.custom_matchers


def _has_report(cursor: Cursor) -> bool:
    """Did its last statement give anything to show?"""
    try:
        return cursor.report is not None and is_open(cursor.connection)
    except Error:
        return False


def unload(shell: InteractiveShell) -> None:
    """Take them out again, and close what they opened."""
    magics = _loaded.pop(shell, None)
    if magics is None:
        raise UsageError("aidb is not loaded")
    magics.connections.close()
    _matchers(shell).remove(magics.matcher)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("aidb", None)
    formatters = _formatters(shell)
    formatters["text/html"].pop(Cursor, None)
    formatters["text/html"].pop(Handle, None)
    formatters["text/plain"].pop(Cursor, None)
    formatters["text/plain"].pop(Connection, None)
