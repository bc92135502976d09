"""A result as a table for eyes: it fits the terminal, and what is too long is cut, which a note says."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from shutil import get_terminal_size
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from aidb.surfaces.formats import Result

ROWS_ON_SCREEN = 100
NARROWEST = 8
"""A longer cell is cut no shorter; when that is not enough, columns are left out."""
_GAP = "  "
_CHUNK = 5_000  # rows that are aligned with each other; those of a larger result are not all kept in memory
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_SPEAKING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Room:
    """How much of a table can be seen: characters in a line, and rows. None: as many as there are."""

    columns: int | None = None
    rows: int | None = None


def room_of(out: TextIO) -> Room:
    """On a terminal its width and `ROWS_ON_SCREEN` rows; elsewhere all rows, and lines of any length unless COLUMNS is set."""
    on_screen = out.isatty()
    columns = get_terminal_size().columns if on_screen or os.environ.get("COLUMNS") else None
    return Room(columns, ROWS_ON_SCREEN if on_screen else None)


def write_table(result: Result, out: TextIO, room: Room | None = None) -> str | None:
    """Write a result as text in columns; gives a note if rows or columns were left out.

    Where there is too little room (by default that of the stream) fractions are rounded, long cells cut, and columns that
    have no room at all left out from the right. Rows are written as they come, some thousands at a time.
    """
    from aidb.storage.answer import is_number

    description = result.description or []
    if [column[0] for column in description] == ["explain_key", "explain_value"]:
        for row in result.texts():
            out.write((row[1] or "").rstrip("\n") + "\n")  # DuckDB's drawing of a plan
        return None
    room = room or room_of(out)
    width = room.columns
    names = [printable(column[0]) for column in description]
    right = [is_number(column[1]) for column in description]
    fractions = [k for k, column in enumerate(description) if column[1] == "DOUBLE"]
    texts = result.texts("shown")
    rows = texts if room.rows is None else islice(texts, room.rows)
    written = 0
    widths: list[int] = []
    rounding: list[int] = []
    while True:
        chunk = [[_cell(value) for value in row] for row in islice(rows, _CHUNK)]
        if not widths:
            if width is not None and sum(_widths(names, chunk, None)) + len(_GAP) * (len(names) - 1) > width:
                rounding = fractions
            widths = _widths(names, [_rounded(row, rounding) for row in chunk], width)
            out.write(_line(names, widths, right))
            out.write(_GAP.join("-" * w for w in widths) + "\n")
        for cells in chunk:
            out.write(_line(_rounded(cells, rounding), widths, right, cut=width is not None))
        written += len(chunk)
        if len(chunk) < _CHUNK:
            break
    more = room.rows is not None and next(texts, None) is not None
    return _note(written, result.rowcount if more else written, len(widths), len(names))


def _note(rows: int, all_rows: int, columns: int, all_columns: int) -> str | None:
    notes = []
    if columns < all_columns:
        notes.append(f"the first {columns} of {all_columns} columns are shown")
    if rows < all_rows:
        notes.append(f"the first {rows:,} of {all_rows:,} rows are shown")
    return f"{' and '.join(notes)}; all are written by the other formats, as by .mode csv" if notes else None


def _widths(names: list[str], rows: list[list[str]], width: int | None) -> list[int]:
    """How wide each column may be; fewer than there are columns if they have no room."""
    widths = [max([_columns(name), *(_columns(row[k]) for row in rows)]) for k, name in enumerate(names)]
    if width is None:
        return widths
    least = [min(w, NARROWEST) for w in widths]
    count = len(widths)
    while count > 1 and sum(least[:count]) + len(_GAP) * (count - 1) > width:
        count -= 1
    widths = widths[:count]
    room = max(1, width - len(_GAP) * (count - 1))
    # Level the widest columns: no column is cut that is not among the longest.
    level = max(widths)
    while sum(min(w, level) for w in widths) > room and level > 1:
        level -= 1
    return [min(w, level) for w in widths]


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool], *, cut: bool = True) -> str:
    shown = []
    for cell, width, number in zip(cells, widths, right, strict=False):
        text = _cut(cell, width) if cut else cell
        space = " " * (width - _columns(text))
        shown.append(space + text if number else text + space)
    return _GAP.join(shown).rstrip() + "\n"


def _cell(value: str | None) -> str:
    """NULL, and a text that could be taken for it in quotes; the empty text is empty."""
    if value is None:
        return "NULL"
    return "'NULL'" if value == "NULL" else printable(value)


def _rounded(row: list[str], columns: Sequence[int]) -> list[str]:
    """A row with six significant digits, and at least all those before the point, in some columns."""
    if not columns:
        return row
    return [_short(cell) if k in columns else cell for k, cell in enumerate(row)]


def _short(number: str) -> str:
    whole, _, rest = number.partition(".")
    digits = len(whole.lstrip("-0"))
    if not rest.isdigit() or len(rest) <= max(1, 6 - digits):
        return number  # short enough, or with an exponent, or no number at all
    if digits == 0:
        return f"{float(number):.6g}"
    return f"{float(number):.{max(1, 6 - digits)}f}"


def printable(text: str) -> str:
    """Without characters that would move the cursor, break the line or speak to the terminal; they show as escapes."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def legible(text: str) -> str:
    """`printable`, but for line breaks and tabs: for sentences that quote what somebody else wrote."""
    return _SPEAKING.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_character(c) for c in text)


def _character(c: str) -> int:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def _cut(text: str, width: int) -> str:
    """The text, or its beginning with an ellipsis; of a path or a reference the end says more than what is before it."""
    if _columns(text) <= width:
        return text
    if width >= 3 and (text.startswith("<") or ("/" in text and " " not in text)):
        kept = _first(text[::-1], width - 2)[::-1]
        return f"{text[0]}…{kept}"
    return f"{_first(text, width - 1)}…"


def _first(text: str, room: int) -> str:
    """As much of a text as there is room for."""
    for k, c in enumerate(text):
        room -= _character(c)
        if room < 0:
            return text[:k]
    return text
