"""Statements run for a person: the rows to one stream, all that is said about them to another."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

from aidb.errors import Error, SqlSyntaxError
from aidb.surfaces.formats import FORMATS, Writer
from aidb.surfaces.progress import ProgressBars

if TYPE_CHECKING:
    from aidb.connection import Connection, Cursor
    from aidb.report import Report


class Failed(Exception):
    """A statement failed, and the person was told so. code: the exit code for it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Place:
    """Where a statement stands in a script: the script's name and whole text, its number, and its offset."""

    script: str
    text: str
    number: int
    offset: int

    def __str__(self) -> str:
        line = self.text.count("\n", 0, self.offset) + 1
        return f"{self.script}, line {line}, statement {self.number}"


class Session:
    """A connection with the two streams of a shell, and how it is to show results.

    timer: is the line below each answer wanted?
    """

    def __init__(
        self, connection: Connection, out: TextIO, err: TextIO, *, form: str, bars: ProgressBars | None = None
    ) -> None:
        self.connection, self.out, self.err = connection, out, err
        self.timer = True
        self._bars = bars
        self._writer = Writer(form, out)

    @property
    def form(self) -> str:
        """How results are written, one of `FORMATS`."""
        return self._writer.form

    @form.setter
    def form(self, form: str) -> None:
        if form not in FORMATS:
            raise ValueError(form)
        self._writer.form = form

    # ---- what is said
    def say(self, text: str) -> None:
        """Tell the person something that is no data."""
        self.out.flush()
        print(text, file=self.err, flush=True)

    def quiet(self, text: str) -> None:
        """Tell something of less weight, dimmed where there are colours."""
        self.say(f"\x1b[2m{text}\x1b[0m" if self.err.isatty() else text)

    def complain(self, text: str, place: Place | None = None) -> None:
        """Tell what is wrong, and where."""
        self.say(f"error: {place}: {text}" if place else f"error: {text}")

    # ---- what is run
    def run(self, sql: str, place: Place | None = None) -> None:
        """Run one statement, write its rows, say what it cost. Raises `Failed` after saying why, BrokenPipeError."""
        from aidb.errors import Interrupted

        begin = time.perf_counter()
        try:
            with interruptible(self.connection.interrupt, self._stopping):
                cursor = self._watched(sql)
            note = self._answer(cursor)
        except (Interrupted, KeyboardInterrupt) as stopped:
            report = getattr(stopped, "report", None)
            done = f" ({_models(report)})" if report is not None and _models(report) else ""
            self.complain(f"interrupted; finished work is kept{done}, the same statement goes on from there", place)
            raise Failed(130) from stopped
        except Error as wrong:
            self.complain(_explained(wrong, place), place)
            report = getattr(wrong, "report", None)
            if report is not None and _models(report):
                self.quiet(f"done so far: {_models(report)}")
            raise Failed(1) from wrong
        if note:
            self.quiet(note)
        self._footer(cursor, time.perf_counter() - begin)

    def _answer(self, cursor: Cursor) -> str | None:
        """Write the rows, if there are any to write; gives a note if some were left out."""
        if cursor.description is None:
            return None
        if cursor.message and self.form == "table":
            # EXPLAIN says for eyes what its rows say for programs.
            self.out.write(cursor.message + "\n")
            self.out.flush()
            return None
        return self._writer.write(cursor)

    def show(self, sql: str, nothing: str) -> None:
        """Write the rows of a query of the shell's own; where eyes read them and there are none, say so instead."""
        cursor = self.connection.execute(sql)
        if cursor.rowcount == 0 and self.form == "table":
            self.say(nothing)
            return
        note = self._writer.write(cursor)
        if note:
            self.quiet(note)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a question of the shell's own about the catalogue."""
        return self.connection.execute(sql).fetchall()

    def _watched(self, sql: str) -> Cursor:
        if self._bars is None:
            return self.connection.execute(sql)
        with self._bars.watching():
            return self.connection.execute(sql)

    def _stopping(self) -> None:
        self.say("\nstopping; what is running is finished and kept (Ctrl-C again to leave it)")

    def _footer(self, cursor: Cursor, seconds: float) -> None:
        report = cursor.report
        for text in report.notes:
            self.say(f"note: {text}")
        if cursor.description is not None:
            said = f"{cursor.rowcount:,} row{'' if cursor.rowcount == 1 else 's'}"
        elif cursor.rowcount >= 0:
            said = f"{cursor.rowcount:,} row{'' if cursor.rowcount == 1 else 's'} changed"
        else:
            said = cursor.message or "ok"
        if not self.timer:
            if cursor.message and cursor.description is None:
                self.say(said)
            return
        parts = [f"{seconds:.2f} s"]
        if report.mode != "exact":
            parts.append(report.mode)
        parts += [f"{column} in [{low:g}, {high:g}]" for column, (low, high) in report.intervals.items()]
        if _models(report):
            parts.append(_models(report))
        # A definition's sentence has commas of its own.
        self.quiet(f"{said} [{', '.join(parts)}]" if said == cursor.message else ", ".join([said, *parts]))


def _models(report: Report) -> str:
    """What the models did: ``yolo: 120 calls + 41 cached, 2 failed, cost 0.12``; nothing if none was needed."""
    names = dict.fromkeys([*report.calls, *report.cached])
    parts = []
    for name in names:
        calls, cached = report.calls.get(name, 0), report.cached.get(name, 0)
        text = f"{name}: {calls:,} call{'' if calls == 1 else 's'}"
        parts.append(f"{text} + {cached:,} cached" if cached else text)
    if report.failed:
        parts.append(f"{report.failed:,} failed")
    if report.cost:
        parts.append(f"cost {report.cost:.4g}")
    return ", ".join(parts)


def _explained(wrong: Error, place: Place | None) -> str:
    """The message of an error; of one that knows its position with line and column as they are in the script."""
    if place is None or not isinstance(wrong, SqlSyntaxError) or wrong.position is None:
        return str(wrong).rstrip()
    if place.text[place.offset :].startswith(wrong.sql):
        return str(SqlSyntaxError(wrong.message, place.text, place.offset + wrong.position, wrong.hint))
    return str(wrong).rstrip()


@contextmanager
def interruptible(interrupt: Callable[[], None], said: Callable[[], None]) -> Iterator[None]:
    """Within, the first Ctrl-C interrupts in good order, and only the second one raises KeyboardInterrupt.

    Elsewhere than in the main thread, which alone gets signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = threading.Event()
    asked: list[threading.Thread] = []

    def ask() -> None:
        # Again and again: a statement that has not come to its first item yet has nothing to be interrupted.
        while not ended.is_set():
            interrupt()
            ended.wait(0.1)

    def first(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        said()
        # Not here: the thread that this handler has stopped may hold a lock that the interruption needs.
        asked.append(threading.Thread(target=ask, name="aidb interrupt", daemon=True))
        asked[0].start()

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        ended.set()
        for thread in asked:
            thread.join()
        signal.signal(signal.SIGINT, before)


def report_bug() -> None:
    """Show the exception that is being handled, which is none of the user's making."""
    import traceback

    traceback.print_exc(file=sys.stderr)
    print("error: this is a bug of AIDB, please report it; finished work is kept", file=sys.stderr)
