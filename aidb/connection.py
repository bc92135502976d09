"""`connect`: a PEP 249 connection to a database that fills itself."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from aidb import errors
from aidb.cursor import Cursor
from aidb.exec.control import Progress
from aidb.exec.engine import Engine
from aidb.exec.explain import Explanation
from aidb.parameters import Parameters

if TYPE_CHECKING:
    from aidb.spi import Connector, Model

__all__ = ["Connection", "Cursor", "connect"]


def connect(
    database: str | os.PathLike[str] = ":memory:",
    *,
    read_only: bool = False,
    autocommit: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Connection:
    """Open a database: a DuckDB file that is made if it is not there, or ``:memory:``.

    autocommit: each statement is committed by itself unless BEGIN was said, as in DuckDB's own tools and unlike PEP 249,
    which wants it off; see `Connection.autocommit`.
    progress: called from the thread that executes, some times a second, while models run.
    read_only: of a file that another process writes, a copy is read, as it stood when it was opened: there is a warning
    then, and `Connection.as_of` says when that was.
    Raises `OperationalError` if the file is open for writing elsewhere, can't be read, or is of a newer version.
    """
    connection = Connection(database, read_only=read_only, autocommit=autocommit, progress=progress)
    if connection.as_of is not None:
        warnings.warn(connection.engine.database.told_as_of, stacklevel=2)
    return connection


class Connection:
    """A connection. Threads may share it (``threadsafety`` is 2): their statements take turns, each with its own cursor.

    They then share settings, temporary tables and the transaction too. `interrupt` and `Cursor.cancel` never wait for a
    turn. ``with`` closes the connection.
    """

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(
        self,
        database: str | os.PathLike[str],
        *,
        read_only: bool = False,
        autocommit: bool = True,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._owning = threading.Lock()
        self._owner: Cursor | None = None
        self._waiting: set[Cursor] = set()
        self._engine: Engine | None = Engine(database, read_only=read_only)
        self._engine.progress = progress
        self._engine.database.autocommit = autocommit

    @property
    def engine(self) -> Engine:
        """What runs the statements. Raises `InterfaceError` once closed."""
        if self._engine is None:
            raise errors.InterfaceError("the connection is closed")
        return self._engine

    def cursor(self) -> Cursor:
        """A new cursor; all cursors of a connection see the same temporary tables and settings."""
        return Cursor(self)

    def execute(
        self, sql: str, parameters: Parameters = None, *, progress: Callable[[Progress], None] | None = None
    ) -> Cursor:
        """Run one statement or several with ``;`` between them; a cursor with the rows of the last."""
        return self.cursor().execute(sql, parameters, progress=progress)

    def executemany(self, sql: str, parameters: Iterable[Parameters]) -> Cursor:
        """Run one statement for each set of parameters."""
        return self.cursor().executemany(sql, parameters)

    def explain(self, sql: str, parameters: Parameters = None) -> Explanation:
        """Models, items, seconds and cost of a query, before anything is spent; runs no model."""
        return self.engine.explain(sql, parameters)

    def register(self, model: Model, name: str | None = None) -> None:
        """Make a function decorated with `aidb.model`, or any object that is a `Model`, usable in SQL."""
        called = name or getattr(model, "name", None)
        if not isinstance(called, str):
            raise errors.ProgrammingError("say how SQL calls this model: con.register(model, name='...')")
        self.engine.register(model, called)

    def register_connector(self, connector: Connector) -> None:
        """Make a `Connector` usable as CREATE BLOB TABLE ... USING its name."""
        self.engine.register_connector(connector)

    @property
    def as_of(self) -> datetime | None:
        """When the file was copied that is read here because another process writes it, in UTC; None for a file itself."""
        return self.engine.database.as_of

    # ---- one statement at a time
    @contextmanager
    def turn(self, cursor: Cursor, progress: Callable[[Progress], None] | None) -> Iterator[Engine]:
        """The engine, for a cursor's statement, once those of other threads are done. For `Cursor`.

        Raises `Interrupted` if the cursor was cancelled before its turn came.
        """
        engine = self.engine
        with self._owning:
            self._waiting.add(cursor)
        with ExitStack() as stack:
            try:
                stack.enter_context(engine.turn())
            finally:
                with self._owning:
                    cancelled = cursor not in self._waiting
                    self._waiting.discard(cursor)
            with self._owning:
                before, self._owner = self._owner, cursor
            told = engine.progress
            try:
                if cancelled:
                    raise errors.Interrupted("cancelled before it began")
                if self._engine is None:
                    raise errors.InterfaceError("the connection was closed by another thread")
                if progress is not None:
                    engine.progress = progress
                yield engine
            finally:
                engine.progress = told
                with self._owning:
                    self._owner = before

    def interrupt(self) -> None:
        """Stop the running statement, from another thread; it raises `Interrupted`, finished work is kept."""
        self.engine.interrupt()

    def cancel(self, cursor: Cursor) -> None:
        """Stop the running statement if it is this cursor's, and let the cursor begin none that waits for its turn."""
        with self._owning:
            self._waiting.discard(cursor)
            if self._owner is cursor and self._engine is not None:
                self._engine.interrupt()

    # ---- transactions
    @property
    def autocommit(self) -> bool:
        """Is each statement committed by itself? True unless it was set to False, here or by `connect`.

        If False, the first statement that writes begins a transaction, which lasts until `commit` or `rollback`. Reading
        begins none, so that models can run: inside a transaction they can't, as it would not see their answers. What
        models answer is committed batch by batch in any case.
        Raises `ProgrammingError` if it is set to True within a transaction.
        """
        return self.engine.database.autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        with self.engine.turn():
            if value and self.in_transaction:
                raise errors.ProgrammingError("a transaction is open: commit() or rollback() before autocommit is set")
            self.engine.database.autocommit = bool(value)

    @property
    def in_transaction(self) -> bool:
        """Is a transaction open?"""
        return self.engine.database.has_begun

    def begin(self) -> None:
        """Begin a transaction; models can't run inside it."""
        self.execute("BEGIN")

    def commit(self) -> None:
        """Commit what was begun; nothing happens if nothing was."""
        if self.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was begun; answers of models are never undone."""
        if self.in_transaction:
            self.execute("ROLLBACK")

    # ---- life
    def close(self) -> None:
        """Close; every later use raises `InterfaceError`, closing again does nothing.

        A statement of another thread is interrupted. Batches in flight are finished and stored first; a transaction that
        was not committed is rolled back.
        """
        engine = self._engine
        if engine is None:
            return
        with self._owning:
            running, self._engine = self._owner is not None or bool(self._waiting), None
        if running:
            engine.interrupt()
        with engine.turn():
            engine.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self._engine is not None:
            self._engine.streams.end("the block that read them has ended by an error")
        self.close()
