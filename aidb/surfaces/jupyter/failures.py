"""Errors as a notebook shows them: in two lines, what is wrong and where, in place of a traceback."""

from __future__ import annotations

import re
import traceback
from types import TracebackType

from aidb.errors import Error, InternalError, Interrupted, ModelError
from aidb.surfaces.explaining import Place, explained
from aidb.surfaces.footer import models

_LONGEST = 600
_PLACED = re.compile(
    r"(?P<what>.*)\n(?P<line>line \d+, column \d+):\n  (?P<shown>.*)\n  (?P<caret> *)\^(?:\nhint: (?P<hint>.*))?",
    re.DOTALL,
)


def in_two_lines(error: Error, place: Place | None, sql: str) -> list[str]:
    """What to show. place: where the statement stands in the cell or file, or None if no statement was begun."""
    if isinstance(error, Interrupted):
        return [f"Interrupted: finished work is kept{_done(error)}", "the same statement goes on from there"]
    message = explained(error, sql, place).strip()
    found = _PLACED.fullmatch(message)
    if found is not None:
        message, where = found["what"], _marked(found)
    else:
        message, _, more = message.partition("\n")
        where = " ".join(line.strip() for line in more.splitlines() if line.strip(" ^"))
        where = where or (_culprit(error) if isinstance(error, ModelError) else "") or _statement(place)
    return [f"{type(error).__name__}: {_cut(' '.join(message.split()))}{_done(error)}", _cut(where)]


def shown_briefly(error: Error, place: Place | None, sql: str) -> None:
    """Have IPython show two lines when this error ends the cell. Errors of ours, which are no one's else, stay whole."""
    if not isinstance(error, InternalError):
        lines = in_two_lines(error, place, sql)
        first, _, rest = lines[0].partition(":")
        # One text, as IPython's modes of tracebacks put several together in several ways.
        shown = ["\n".join([f"\x1b[31m{first}\x1b[0m:{rest}", *(line for line in lines[1:] if line)])]
        error._render_traceback_ = lambda: shown  # type: ignore[attr-defined]  # what IPython asks an exception for


def _marked(found: re.Match[str]) -> str:
    """The place of a fault, in one line."""
    at = len(found["caret"])
    shown = f"{found['shown'][max(0, at - 60) : at]}»{found['shown'][at : at + 60]}".strip()
    hint = f"  (hint: {' '.join(found['hint'].split())})" if found["hint"] else ""
    return f"{found['line']}: {shown}{hint}"


def _statement(place: Place | None) -> str:
    """Which of several statements it was."""
    if place is None or not place.text[: place.offset].strip():
        return ""
    line = place.text.count("\n", 0, place.offset) + 1
    return f"in the statement on line {line}: {place.text[place.offset :].strip().splitlines()[0][:100]}"


def _culprit(error: BaseException) -> str:
    """The line of a model's own code that raised, if that is what it was."""
    cause = error.__cause__
    while cause is not None:
        place = _last(cause.__traceback__)
        if place is not None and not isinstance(cause, Error):
            return f"{type(cause).__name__} in {place}"
        cause = cause.__cause__
    return ""


def _last(trace: TracebackType | None) -> str | None:
    frames = traceback.extract_tb(trace)
    if not frames:
        return None
    frame = frames[-1]
    return f"{frame.name}, line {frame.lineno}: {frame.line}" if frame.line else f"{frame.name}, line {frame.lineno}"


def _done(error: Error) -> str:
    report = getattr(error, "report", None)
    done = models(report) if report is not None else ""
    return f" (done so far: {done})" if done else ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
