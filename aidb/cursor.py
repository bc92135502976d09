"""PEP 249's cursor: statements in, rows out, with what they cost."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

from aidb import bulk, errors
from aidb.exec.access import reader
from aidb.exec.control import Progress
from aidb.exec.engine import Engine, Outcome
from aidb.handles import handle, with_handles
from aidb.parameters import Parameters, Placeholders, wrong_value
from aidb.report import Report
from aidb.spi.content import CONTENT_SQL
from aidb.sql.many import ManyRows, many_rows
from aidb.sql.parse import parse, split
from aidb.sql.statements import Query
from aidb.storage.growing import Growing

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from aidb.connection import Connection
    from aidb.storage.answer import Answer

Column = tuple[str, str, None, None, int | None, int | None, None]

_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_ROWS_PER_BATCH = 65_536


class Cursor:
    """Runs statements and hands out their rows. ``report`` says what the last one cost.

    The first rows of a long scan may come while models are at work (``aidb.stream``). Fetching then runs them, and may raise
    what `execute` raises; whatever needs all rows, such as `rowcount`, `report` and `arrow`, waits for the last one.

    A cursor belongs to one thread at a time; only `cancel` may be called from another one.
    """

    lastrowid = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.arraysize = 1
        self.message: str | None = None
        self._outcome: Outcome | None = None
        self._rows: Iterator[tuple[Any, ...]] | None = None
        self._changed: int | None = None
        self._failed = False
        self._closed = False

    # ---- running
    def execute(
        self, sql: str, parameters: Parameters = None, *, progress: Callable[[Progress], None] | None = None
    ) -> Cursor:
        """Run one statement, or several with ``;`` between them (parameters go to the last); returns the cursor.

        parameters: a sequence for ``?``, a mapping for ``$name``. progress: as for `connect`, for this statement alone.
        Raises `ProgrammingError` that names the parameter if one is missing, too many, or of no SQL type.
        """
        self._open()
        self._clear()
        with self._noting_failure():
            statements = _statements(sql)
            for text in statements[:-1]:
                Placeholders(text).check(None, "only the last of several statements takes parameters: ")
            Placeholders(statements[-1] if statements else "").check(parameters)
            with self.connection.turn(self, progress) as engine:
                for text in statements[:-1]:
                    engine.run(text)
                if statements:
                    self._outcome = _run(engine, statements[-1], parameters)
                    self.message = self._outcome.message
                    self._go_on(self._outcome.answer)
        return self

    def _go_on(self, answer: Answer) -> None:
        """Let rows that are still to come be found in turns of this cursor, so that `cancel` stops that too."""
        if isinstance(answer, Growing):
            me = weakref.ref(self)  # a stream is given up once nobody holds what reads it
            turn = self.connection.turn
            answer.within = lambda: nullcontext() if (cursor := me()) is None else turn(cursor, None)

    def executemany(self, sql: str, parameters: Iterable[Parameters]) -> Cursor:
        """Run one statement, which is no query, for each set of parameters; no rows are kept.

        ``INSERT INTO t VALUES (?, ?)`` is run for many sets at once, all or none; other statements for one set after the
        other, each for itself unless a transaction was begun.
        """
        self._open()
        self._clear()
        with self._noting_failure():
            statements = _statements(sql)
            if len(statements) != 1:
                raise errors.ProgrammingError(f"executemany runs one statement, not {len(statements)}")
            if isinstance(parse(statements[0]), Query):
                raise errors.ProgrammingError("executemany is for statements that change something: execute a query")
            sets = list(parameters)
            placeholders = Placeholders(statements[0])
            for number, values in enumerate(sets, 1):
                placeholders.check(values, f"set {number} of the parameters: ")
            self._changed = 0
            if sets:
                with self.connection.turn(self, None) as engine:
                    many = many_rows(statements[0])
                    if many is None or not self._insert(engine, many, sets):
                        self._one_by_one(engine, statements[0], sets)
        return self

    def _one_by_one(self, engine: Engine, sql: str, sets: Sequence[Parameters]) -> None:
        changed: list[int] = []
        for number, values in enumerate(sets, 1):
            try:
                self._outcome = _run(engine, sql, values)
            except errors.Error as e:
                e.add_note(f"at set {number} of {len(sets)} sets of parameters")
                raise
            changed.append(self._outcome.answer.rows)
        self._changed = -1 if min(changed) < 0 else sum(changed)

    def _insert(self, engine: Engine, many: ManyRows, sets: Sequence[Parameters]) -> bool:
        """Insert all sets, or nothing; whether that could be done."""

        def types() -> list[str] | None:
            if many.target is None:
                return None
            try:
                found = [type_ for _, type_ in engine.run(many.target).answer.columns]
            except errors.DatabaseError:
                return None  # the INSERT itself will say what is wrong
            return found if len(found) == len(many.names) else None

        rows = bulk.values_of(many, sets)
        runs = bulk.runs(rows, types)
        if runs is None or engine.database.refers_to_itself(many.table):
            return False  # such a row may refer to one before it, which must be there by then
        own = len(rows) > 1 and engine.database.autocommit and not engine.database.has_begun
        if own:
            engine.run("BEGIN")
        try:
            for run in runs:
                self._outcome = engine.run(many.sql, bulk.lists(many, run))
            if own:
                engine.run("COMMIT")
        except BaseException:
            if own and engine.database.has_begun:
                engine.run("ROLLBACK")
            raise
        self._changed = len(rows)
        return True

    def cancel(self) -> None:
        """Stop this cursor's statement, from another thread; it raises `Interrupted`, finished work is kept.

        Nothing happens if it runs none; statements of other cursors go on.
        """
        self.connection.cancel(self)

    def _clear(self) -> None:
        self._outcome, self._rows, self._changed, self.message = None, None, None, None
        self._failed = False

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Whatever is raised inside leaves the cursor without a result."""
        try:
            yield
        except BaseException:
            self._clear()
            self._failed = True
            raise

    def _open(self) -> Engine:
        if self._closed:
            raise errors.InterfaceError("the cursor is closed")
        return self.connection.engine

    # ---- what there is
    @property
    def description(self) -> list[Column] | None:
        """(name, DuckDB type, None, None, precision, scale, None) of each column; None after a statement without rows.

        The type equals one of `aidb.STRING`, `BINARY`, `NUMBER` and `DATETIME` where it belongs to one.
        """
        if self._outcome is None or self._changed is not None or not self._outcome.answer.has_rows:
            return None
        return [_column(name, type_) for name, type_ in self._outcome.answer.columns]

    @property
    def rowcount(self) -> int:
        """Rows of the result, or rows changed; -1 if neither is known."""
        if self._changed is not None:
            return self._changed
        return -1 if self._outcome is None else self._outcome.answer.rows

    @property
    def report(self) -> Report:
        """What the last statement cost. Raises `InterfaceError` before the first, and after one that failed."""
        if self._outcome is None:
            why = "the last statement failed" if self._failed else "nothing was executed yet"
            raise errors.InterfaceError(f"there is no report: {why}")
        return self._outcome.report

    def _answer(self) -> Answer:
        """The rows. Raises `InterfaceError` if the cursor or its connection is closed, `ProgrammingError` without rows."""
        self._open()
        if self._failed:
            raise errors.ProgrammingError("there is no result: the last statement failed")
        if self._outcome is None or self._changed is not None or not self._outcome.answer.has_rows:
            raise errors.ProgrammingError("there is no result: execute a query first")
        return self._outcome.answer

    # ---- whole results
    def arrow(self) -> pa.Table:
        """The whole result as a `pyarrow.Table`; content columns as structs of their references."""
        return self._answer().table

    def fetch_arrow_table(self) -> pa.Table:
        """`arrow`, by the name that other drivers have for it."""
        return self.arrow()

    def fetch_record_batch(self, rows_per_batch: int = _ROWS_PER_BATCH) -> pa.RecordBatchReader:
        """The whole result as a reader of record batches of so many rows at most, made as they are read."""
        if rows_per_batch < 1:
            raise errors.ProgrammingError(f"rows_per_batch is {rows_per_batch}: at least 1 is needed")
        return self._answer().reader(rows_per_batch)

    def df(self) -> pd.DataFrame:
        """The whole result as a pandas DataFrame; content columns as handles."""
        table = self.arrow()
        try:
            import pandas as pd
        except ImportError as e:
            raise errors.OperationalError("df() needs pandas: pip install 'aidb[df]'") from e
        frame: pd.DataFrame = table.to_pandas()
        for name, values in with_handles(table, reader(self.connection.engine)):
            frame[name] = pd.Series(values, dtype=object, index=frame.index)
        return frame

    def pl(self) -> pl.DataFrame:
        """The whole result as a polars DataFrame; content columns as handles."""
        table = self.arrow()
        try:
            import polars as pl
        except ImportError as e:
            raise errors.OperationalError("pl() needs polars: pip install 'aidb[polars]'") from e
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        handles = with_handles(table, reader(self.connection.engine))
        return frame.with_columns([pl.Series(name, values, dtype=pl.Object) for name, values in handles])

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """All rows as text: as a cast to VARCHAR gives it, as JSON, or with content references for eyes; None is NULL."""
        return self._answer().texts(form)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """All rows from the first on, whatever was fetched; fetching goes on where it was. For displays."""
        answer = self._answer()
        content = [i for i, (_, type_) in enumerate(answer.columns) if type_ == CONTENT_SQL]
        if not content:
            return answer.tuples()
        connector = reader(self.connection.engine)

        def shown(row: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(handle(v, connector) if i in content else v for i, v in enumerate(row))

        return map(shown, answer.tuples())  # no generator: one that has raised says that it is at its end

    # ---- row by row
    def _left(self) -> Iterator[tuple[Any, ...]]:
        self._answer()
        if self._rows is None:
            self._rows = self.rows()
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or None."""
        return next(self._left(), None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next ``size`` rows (`arraysize` by default), fewer at the end."""
        return self._taken(self.arraysize if size is None else size)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        self._answer().hurry()
        return self._taken(None)

    def _taken(self, n: int | None) -> list[tuple[Any, ...]]:
        rows = self._left()
        found: list[tuple[Any, ...]] = []
        can_go_on = not isinstance(self._answer(), Growing)
        try:
            found.extend(rows if n is None else islice(rows, max(0, n)))
        except BaseException:
            if can_go_on:
                self._rows = chain(found, rows)  # an interrupt costs none of them
            raise
        return found

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        return next(self._left())

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """PEP 249 asks for it; there is nothing to do."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """PEP 249 asks for it; there is nothing to do."""

    def close(self) -> None:
        """Close; every later use raises `InterfaceError`."""
        self._clear()
        self._closed = True

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _statements(sql: object) -> list[str]:
    if not isinstance(sql, str):
        raise errors.ProgrammingError(f"a statement is a str, not {type(sql).__name__}")
    return [text for text, _ in split(sql)]


def _run(engine: Engine, sql: str, parameters: Parameters) -> Outcome:
    """Run a statement; if that fails for a value that has no SQL type, say for which."""
    try:
        return engine.run(sql, parameters)
    except (errors.NotSupportedError, errors.ProgrammingError, errors.DataError) as e:
        wrong = wrong_value(parameters, engine.database.is_usable)
        if wrong is None:
            raise
        raise wrong from e


def _column(name: str, type_: str) -> Column:
    found = _DECIMAL.fullmatch(type_)
    if found is None:
        return name, type_, None, None, None, None, None
    return name, type_, None, None, int(found[1]), int(found[2]), None
