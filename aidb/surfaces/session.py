"""Statements run for a person: the rows to one place, all that is said about them to another."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from aidb.errors import Error, Interrupted
from aidb.surfaces.destinations import File, Stoppable
from aidb.surfaces.explaining import Place, explained
from aidb.surfaces.footer import counted, models, worth
from aidb.surfaces.formats import BY_LINE, FORMATS, ONE_RESULT, Writer
from aidb.surfaces.interrupting import interruptible
from aidb.surfaces.paging import paged
from aidb.surfaces.progress import ProgressBars
from aidb.surfaces.tables import Room, legible

if TYPE_CHECKING:
    from aidb.connection import Connection, Cursor


class Failed(Exception):
    """A statement failed, and the person was told so. code: the exit code for it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Session:
    """A connection with the two streams of a shell, and how it is to show results.

    timer: is the line below each answer wanted? pager: the command that shows long results, if a person is there to turn
    its pages. last: the cursor of the last statement, if it gave rows. defined: has anything been run that may have changed
    what names mean?
    """

    def __init__(
        self, connection: Connection, out: TextIO, err: TextIO, *, form: str, bars: ProgressBars | None = None
    ) -> None:
        self.connection, self.out, self.err = connection, out, err
        self.timer = True
        self.pager: str | None = None
        self.last: Cursor | None = None
        self.last_sql: str | None = None
        self.defined = False
        self._bars = bars
        self._writer = Writer(form, out)
        self._output: File | None = None
        self._once: File | None = None

    @property
    def form(self) -> str:
        """How results are written, one of `FORMATS`."""
        return self._writer.form

    @form.setter
    def form(self, form: str) -> None:
        if form not in FORMATS:
            raise ValueError(form)
        self._writer.form = form
        for file in (self._once, self._output):
            if file is not None:
                file.choose(form)

    # ---- what is said
    def say(self, text: str) -> None:
        """Tell the person something that is no data."""
        self._put(legible(text))

    def quiet(self, text: str) -> None:
        """Tell something of less weight, dimmed where there are colours."""
        self._put(self._coloured("2", legible(text)))

    def complain(self, text: str, place: Place | None = None) -> None:
        """Tell what is wrong, and where."""
        where = f"{place}: " if place else ""
        self._put(f"{self._coloured('1;31', 'error:')} {legible(where + text)}")

    def _put(self, text: str) -> None:
        self.out.flush()
        print(text, file=self.err, flush=True)

    def _coloured(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.err.isatty() and not os.environ.get("NO_COLOR") else text

    # ---- where rows go
    def send(self, path: Path | None, *, once: bool = False) -> None:
        """Write results to a file from now on (once: the next one), or again to where they went before."""
        for file in (self._once, None if once else self._output):
            if file is not None:
                file.close()
        self._once = File(path, self.form) if once and path is not None else None
        if not once:
            self._output = None if path is None else File(path, self.form)

    @property
    def destination(self) -> Path | None:
        """The file that results go to, if they go to one."""
        file = self._once or self._output
        return None if file is None else file.path

    @property
    def _by_line(self) -> bool:
        """May rows be written before the last one is there?"""
        file = self._once or self._output
        if file is not None:
            return file.form in BY_LINE
        return self.form in BY_LINE and not self.out.isatty()  # on a screen they would run into the bars

    # ---- what is run
    def run(self, sql: str, place: Place | None = None) -> None:
        """Run one statement, write its rows, say what it cost. Raises `Failed` after saying why, BrokenPipeError."""
        begin = time.perf_counter()
        self.last, self.last_sql = None, sql
        note = None
        try:
            with interruptible(self.connection.interrupt, self._stopping) as asked:
                with self._watching():
                    cursor = self.connection.execute(sql)
                    early = self._by_line and cursor.description is not None
                    if early:
                        note = self._answer(cursor, Stoppable(cursor, asked))
                    else:
                        _ = cursor.rowcount  # all rows are there before the first is written
                    seconds = time.perf_counter() - begin  # reading in a pager is no work of ours
                if not early:
                    note = self._answer(cursor, Stoppable(cursor, asked))
                _ = cursor.report  # complete only now
        except (Interrupted, KeyboardInterrupt) as stopped:
            report = getattr(stopped, "report", None)
            done = f" ({models(report)})" if report is not None and models(report) else ""
            self.complain(f"interrupted; finished work is kept{done}, the same statement goes on from there", place)
            raise Failed(130) from stopped
        except Error as wrong:
            self.complain(explained(wrong, sql, place), place)
            report = getattr(wrong, "report", None)
            if report is not None and models(report):
                self.quiet(f"done so far: {models(report)}")
            raise Failed(1) from wrong
        finally:
            self.defined = self.defined or not _only_asks(sql)
        if cursor.description is not None:
            self.last = cursor
        if note:
            self.quiet(note)
        self._footer(cursor, seconds)

    def _answer(self, cursor: Cursor, rows: Stoppable) -> str | None:
        """Write the rows, if there are any to write; gives a note if some were left out."""
        if cursor.description is None:
            return None
        if cursor.message and self.form == "table" and self.destination is None:
            # EXPLAIN says for eyes what its rows say for programs.
            self.page(cursor.message + "\n")
            return None
        return self._write(rows)

    def _write(self, result: Stoppable | Cursor) -> str | None:
        file = self._once or self._output
        if file is None:
            return self._to_screen(result)
        try:
            note = file.write(result)
        finally:
            if self._once is not None:
                self._once.close()
        self._once = None
        self.quiet(f"written to {file.path}")
        return note

    def _to_screen(self, result: Stoppable | Cursor) -> str | None:
        if self.form in ONE_RESULT and self.out.isatty():
            from aidb.errors import ProgrammingError

            raise ProgrammingError(
                f"{self.form} is not for a terminal: .once rows.{self.form} writes the next result to a file"
            )
        size = shutil.get_terminal_size()
        if self.pager is None or self._lines(result) <= size.lines - 3:
            return self._writer.write(result)
        try:
            with paged(self.pager) as out:
                return Writer(self.form, out).write(result, Room(size.columns, None))
        except FileNotFoundError:
            self._without_pager()
            return self._writer.write(result)
        return None

    def _lines(self, result: Stoppable | Cursor) -> int:
        """About as many lines as a result takes."""
        return result.rowcount * (len(result.description or ()) + 1 if self.form == "line" else 1)

    def page(self, text: str) -> None:
        """Write a text that is data, in the pager if it is longer than the screen."""
        if self.pager is not None and text.count("\n") > shutil.get_terminal_size().lines - 3:
            try:
                with paged(self.pager) as out:
                    out.write(text)
                return
            except FileNotFoundError:
                self._without_pager()
        self.out.write(text)
        self.out.flush()

    def _without_pager(self) -> None:
        self.quiet(f"there is no pager {self.pager}; .pager COMMAND names another one")
        self.pager = None

    def show(self, sql: str, nothing: str) -> None:
        """Write the rows of a query of the shell's own; where eyes read them and there are none, say so instead."""
        cursor = self.connection.execute(sql)
        if cursor.rowcount == 0 and self.form == "table":
            self.say(nothing)
            return
        note = self._write(cursor)
        if note:
            self.quiet(note)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a question of the shell's own about the catalogue."""
        return self.connection.execute(sql).fetchall()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        if self._bars is None:
            yield
        else:
            with self._bars.watching():
                yield

    def _stopping(self) -> None:
        self.say("\nstopping; what is running is finished and kept (Ctrl-C again to leave it)")

    def _footer(self, cursor: Cursor, seconds: float) -> None:
        report = cursor.report
        for text in report.notes:
            self.say(f"note: {text}")
        said = counted(cursor, "ok")
        for sentence in worth(report):
            self.say(sentence)
        if not self.timer:
            if cursor.message and cursor.description is None:
                self.say(said)
            return
        parts = [f"{seconds:.2f} s"]
        if models(report):
            parts.append(models(report))
        # A definition's sentence has commas of its own.
        self.quiet(f"{said} [{', '.join(parts)}]" if said == cursor.message else ", ".join([said, *parts]))


def _only_asks(sql: str) -> bool:
    """Is this a query, after which names mean what they did before?"""
    from aidb.sql.parse import parse
    from aidb.sql.statements import Query

    try:
        return isinstance(parse(sql), Query)
    except Error:
        return True


def report_bug() -> None:
    """Show the exception that is being handled, which is none of the user's making."""
    import traceback

    traceback.print_exc(file=sys.stderr)
    print("error: this is a bug of AIDB, please report it; finished work is kept", file=sys.stderr)
