"""`connect`: a PEP 249 connection to a database that fills itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from aidb import errors
from aidb.exec.control import Progress
from aidb.exec.engine import Engine, Outcome
from aidb.exec.explain import Explanation
from aidb.handles import handle, with_handles
from aidb.report import Report
from aidb.spi.content import CONTENT_SQL
from aidb.sql.parse import split

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from aidb.spi import Connector, Model

Parameters = Sequence[Any] | Mapping[str, Any] | None


def connect(
    database: str | os.PathLike[str] = ":memory:",
    *,
    read_only: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Connection:
    """Open a database: a DuckDB file that is made if it is not there, or ``:memory:``.

    progress: called from the thread that executes, some times a second, while models run.
    Raises `OperationalError` if the file is open for writing elsewhere, can't be read, or is of a newer version.
    """
    return Connection(database, read_only=read_only, progress=progress)


class Connection:
    """A connection; statements run one at a time, only `interrupt` may be called from another thread."""

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
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._engine: Engine | None = Engine(database, read_only=read_only)
        self._engine.progress = progress

    @property
    def engine(self) -> Engine:
        """What runs the statements. Raises `InterfaceError` once closed."""
        if self._engine is None:
            raise errors.InterfaceError("the connection is closed")
        return self._engine

    def cursor(self) -> Cursor:
        """A new cursor; all cursors of a connection see the same temporary tables and settings."""
        return Cursor(self)

    def execute(self, sql: str, parameters: Parameters = None) -> Cursor:
        """Run one statement or several with ``;`` between them; a cursor with the rows of the last."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Sequence[Parameters]) -> Cursor:
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

    def interrupt(self) -> None:
        """Stop the running statement, from another thread; it raises `Interrupted`, finished work is kept."""
        self.engine.interrupt()

    def begin(self) -> None:
        """Begin a transaction; models can't run inside it."""
        self.execute("BEGIN")

    def commit(self) -> None:
        """Commit what was begun; nothing happens if nothing was (statements commit by themselves)."""
        if self.engine.database.in_transaction():
            self.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was begun; answers of models are never undone."""
        if self.engine.database.in_transaction():
            self.execute("ROLLBACK")

    def close(self) -> None:
        """Close; every later use raises `InterfaceError`. Batches in flight are finished and stored first."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Cursor:
    """Runs statements and hands out their rows. ``report`` says what the last one cost."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.message: str | None = None
        self._outcome: Outcome | None = None
        self._rows: Iterator[tuple[Any, ...]] | None = None
        self._closed = False

    # ---- running
    def execute(self, sql: str, parameters: Parameters = None) -> Cursor:
        """Run one statement, or several with ``;`` between them (parameters go to the last); returns the cursor."""
        engine = self._open()
        self._outcome, self._rows, self.message = None, None, None
        statements = [text for text, _ in split(sql)]
        for text in statements[:-1]:
            engine.run(text)
        if statements:
            self._outcome = engine.run(statements[-1], parameters)
            self.message = self._outcome.message
        return self

    def executemany(self, sql: str, parameters: Sequence[Parameters]) -> Cursor:
        """Run one statement for each set of parameters; no rows are kept."""
        for values in parameters:
            self.execute(sql, values)
        self._rows = None
        return self

    def _open(self) -> Engine:
        if self._closed:
            raise errors.InterfaceError("the cursor is closed")
        return self.connection.engine

    # ---- results
    @property
    def description(self) -> list[tuple[str, str, None, None, None, None, None]] | None:
        """(name, DuckDB type, and five times None) of each column; None after a statement without rows."""
        if self._outcome is None or not self._outcome.answer.has_rows:
            return None
        return [(name, type_, None, None, None, None, None) for name, type_ in self._outcome.answer.columns]

    @property
    def rowcount(self) -> int:
        """Rows of the result, or rows changed; -1 if neither is known."""
        return -1 if self._outcome is None else self._outcome.answer.rows

    @property
    def report(self) -> Report:
        """What the last statement cost. Raises `InterfaceError` before the first."""
        if self._outcome is None:
            raise errors.InterfaceError("nothing was executed yet")
        return self._outcome.report

    def arrow(self) -> pa.Table:
        """The whole result as a `pyarrow.Table`; content columns as structs of their references."""
        self._open()
        if self._outcome is None or not self._outcome.answer.has_rows:
            raise errors.ProgrammingError("there is no result: execute a query first")
        return self._outcome.answer.table

    def df(self) -> pd.DataFrame:
        """The whole result as a pandas DataFrame; content columns as handles."""
        table = self.arrow()
        try:
            import pandas as pd
        except ImportError as e:
            raise errors.OperationalError("df() needs pandas: pip install 'aidb[df]'") from e
        frame: pd.DataFrame = table.to_pandas()
        for name, values in with_handles(table, self.connection.engine.connectors.get):
            frame[name] = pd.Series(values, dtype=object, index=frame.index)
        return frame

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """All rows as text: as a cast to VARCHAR gives it, as JSON, or with content references for eyes; None is NULL."""
        self._open()
        if self._outcome is None or not self._outcome.answer.has_rows:
            raise errors.ProgrammingError("there is no result: execute a query first")
        return self._outcome.answer.texts(form)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """All rows from the first on, whatever was fetched; fetching goes on where it was. For displays."""
        self._open()
        if self._outcome is None or not self._outcome.answer.has_rows:
            raise errors.ProgrammingError("there is no result: execute a query first")
        return self._iterate()

    def _iterate(self) -> Iterator[tuple[Any, ...]]:
        assert self._outcome is not None
        answer = self._outcome.answer
        content = [i for i, (_, type_) in enumerate(answer.columns) if type_ == CONTENT_SQL]
        if not content:
            return answer.tuples()
        connector = self.connection.engine.connectors.get
        return (
            tuple(handle(v, connector) if i in content else v for i, v in enumerate(row)) for row in answer.tuples()
        )

    def _left(self) -> Iterator[tuple[Any, ...]]:
        self._open()
        if self._outcome is None or not self._outcome.answer.has_rows:
            raise errors.ProgrammingError("there is no result: execute a query first")
        if self._rows is None:
            self._rows = self._iterate()
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or None."""
        return next(self._left(), None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next ``size`` rows (`arraysize` by default), fewer at the end."""
        rows = self._left()
        found = []
        for _ in range(self.arraysize if size is None else size):
            row = next(rows, None)
            if row is None:
                break
            found.append(row)
        return found

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        return list(self._left())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._left()

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """PEP 249 asks for it; there is nothing to do."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """PEP 249 asks for it; there is nothing to do."""

    def close(self) -> None:
        """Close; every later use raises `InterfaceError`."""
        self._closed = True
        self._outcome, self._rows = None, None

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
