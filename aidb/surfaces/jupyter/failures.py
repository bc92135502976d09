"""Errors as a notebook shows them: in two lines, what is wrong and where, in place of a traceback."""

from __future__ import annotations

import traceback
from types import TracebackType

from aidb.errors import Error, InternalError, Interrupted, ModelError, SqlSyntaxError
from aidb.surfaces.footer import models

_LONGEST = 600


def in_two_lines(error: Error, text: str, offset: int | None) -> list[str]:
    """What to show. text: the whole cell or file; offset: of the statement in it, or None if it is not in there."""
    if isinstance(error, Interrupted):
        return [f"Interrupted: finished work is kept{_done(error)}", "the same statement goes on from there"]
    if isinstance(error, SqlSyntaxError):
        message, where = error.message, _place(error, text, offset)
    else:
        message, _, more = str(error).strip().partition("\n")
        where = " ".join(line.strip() for line in more.splitlines() if line.strip(" ^"))
        where = where or (_culprit(error) if isinstance(error, ModelError) else "") or _statement(text, offset)
    return [f"{type(error).__name__}: {_cut(' '.join(message.split()))}{_done(error)}", _cut(where)]


def shown_briefly(error: Error, text: str, offset: int | None) -> None:
    """Have IPython show two lines when this error ends the cell. Errors of ours, which are no one's else, stay whole."""
    if not isinstance(error, InternalError):
        lines = in_two_lines(error, text, offset)
        first, _, rest = lines[0].partition(":")
        shown = [f"\x1b[31m{first}\x1b[0m:{rest}", *(line for line in lines[1:] if line)]
        error._render_traceback_ = lambda: shown  # type: ignore[attr-defined]  # what IPython asks an exception for


def _place(error: SqlSyntaxError, text: str, offset: int | None) -> str:
    if error.position is None:
        return f"hint: {error.hint}" if error.hint else ""
    if offset is not None and text[offset:].startswith(error.sql.rstrip()):
        error = SqlSyntaxError(error.message, text, offset + error.position, error.hint)
    assert error.position is not None
    begin = error.sql.rfind("\n", 0, error.position) + 1
    line = error.sql[begin:].split("\n", 1)[0]
    at = error.position - begin
    shown = f"{line[max(0, at - 60) : at]}»{line[at : at + 60]}".strip()
    hint = f"  (hint: {error.hint})" if error.hint else ""
    return f"line {error.line}, column {error.column}: {shown}{hint}"


def _statement(text: str, offset: int | None) -> str:
    """Which of several statements it was."""
    if offset is None or not text[:offset].strip():
        return ""
    line = text.count("\n", 0, offset) + 1
    return f"in the statement on line {line}: {text[offset:].strip().splitlines()[0][:100]}"


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
