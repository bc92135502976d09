"""A result as a notebook shows it: a table with thumbnails in it, and below it what it took."""

from __future__ import annotations

import html
import io
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Literal

from aidb.surfaces.footer import counted, models, worth
from aidb.surfaces.pictures.drawing import looks
from aidb.surfaces.pictures.elements import Room, element
from aidb.surfaces.pictures.tiles import Layout

if TYPE_CHECKING:
    from aidb.cursor import Cursor
    from aidb.handles import Handle

ROWS = 50
"""Rows that are shown where nothing else was asked for."""
BYTES = 4_000_000
"""Of the pictures in one table: a notebook that is saved keeps them."""
_SIDES, _LARGE = (220, 160), 640
_LONGEST = 500  # characters of a cell

# A notebook has rules of its own for tables, which the doubled class outweighs.
_STYLE = """<style>
.aidb { font: 13px/1.4 system-ui, sans-serif; overflow-x: auto }
.aidb.aidb table { border-collapse: collapse; margin: 0 }
.aidb.aidb table th, .aidb.aidb table td { text-align: left; vertical-align: top; padding: 3px 10px }
.aidb.aidb table tr { border-bottom: 1px solid #8884 }
.aidb.aidb table td { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 40em }
.aidb.aidb table .number { text-align: right; font-variant-numeric: tabular-nums }
.aidb .null { opacity: .5 }
.aidb img { display: block; max-width: none }
.aidb .text, .aidb .gone { max-width: 30em; white-space: pre-wrap }
.aidb .gone { background: #8883; padding: 6px; border-radius: 3px }
.aidb .foot { opacity: .7; margin: 4px 0 0 }
.aidb pre { margin: 0 }
</style>"""


def table(cursor: Cursor, rows: int = ROWS, room: int = BYTES) -> str:
    """The result of a cursor in HTML: so many rows, so many bytes of pictures; what is left out is said."""
    parts = ['<div class="aidb">', _STYLE]
    said = []
    plan = _plan(cursor)
    if plan is not None:
        parts.append(f"<pre>{html.escape(plan)}</pre>")
    elif cursor.description is not None:
        space = Room(room)
        parts += _rows(cursor, rows, space)
        if cursor.rowcount > rows:
            said.append(f"{cursor.rowcount - rows:,} more")
        if space.left_out:
            said.append(f"{space.left_out:,} pictures had no room in {room / 1_000_000:.3g} MB")
    foot = [html.escape(line) for line in footer(cursor)]
    if said:
        foot.insert(0, html.escape("; ".join(said)))
    parts.append(f'<p class="foot">{"<br>".join(foot)}</p></div>')
    return "\n".join(parts)


def item(handle: Handle) -> str:
    """One picture, text or sound in HTML, or why it can't be shown."""
    [(_, look)] = looks([(handle, ())], (_LARGE, _LARGE))
    return f'<div class="aidb">{_STYLE}{element(handle.ref, look, Room(BYTES))}</div>'


def footer(cursor: Cursor) -> list[str]:
    """Lines on rows, seconds, calls, errors, what is promised, and notes."""
    report = cursor.report
    said = counted(cursor, "done")
    if _plan(cursor) is not None:
        said = "plan" if report.calls else "no model was run"
    calls = models(report)
    first = f"{said} [{report.seconds:.2f} s{f'; {calls}' if calls else ''}]"
    return [first, *worth(report), *(f"note: {note}" for note in report.notes)]


def _plan(cursor: Cursor) -> str | None:
    """What EXPLAIN says for eyes."""
    if cursor.description is None:
        return None
    if cursor.message:
        return cursor.message
    if [column[0] for column in cursor.description] == ["explain_key", "explain_value"]:
        return "\n".join(row[1] or "" for row in cursor.texts())
    return None


def _rows(cursor: Cursor, rows: int, room: Room) -> Iterator[str]:
    from aidb.storage.answer import is_number

    columns = cursor.description or []
    classes = [' class="number"' if is_number(column[1]) else "" for column in columns]
    shown = list(islice(cursor.texts("shown"), rows))
    pictures = _pictures(cursor, rows, room)
    heads = (f"<th{c}>{html.escape(column[0])}</th>" for column, c in zip(columns, classes, strict=True))
    yield f"<table><thead><tr>{''.join(heads)}</tr></thead><tbody>"
    for r, row in enumerate(shown):
        cells = (pictures.get((r, k)) or _cell(v, c) for k, (v, c) in enumerate(zip(row, classes, strict=True)))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table>"


def _cell(value: str | None, class_: str) -> str:
    if value is None:
        return '<td class="null">NULL</td>'
    if len(value) > _LONGEST:
        return f"<td{class_}>{html.escape(value[:_LONGEST])}… ({len(value):,} characters)</td>"
    return f"<td{class_}>{html.escape(value)}</td>"


def _pictures(cursor: Cursor, rows: int, room: Room) -> dict[tuple[int, int], str]:
    """Cells of the content columns, each with the boxes of its own row."""
    layout = Layout.of(cursor.description or [])
    if not layout.contents:
        return {}
    places, wanted = [], []
    for r, row in enumerate(islice(cursor.rows(), rows)):
        for column, handle, boxes in layout.items(row):
            places.append((r, column))
            wanted.append((handle, boxes))
    found = dict(looks(wanted, _SIDES))
    # In the order of the rows, so that those that have room are the first ones.
    return {
        place: f"<td>{element(wanted[k][0].ref, found[k], room)}</td>" for k, place in enumerate(places) if k in found
    }


class _Head:
    """The first rows of a result."""

    def __init__(self, cursor: Cursor, rows: int) -> None:
        self._cursor = cursor
        self.description = cursor.description
        self.rowcount = min(cursor.rowcount, rows)
        self._rows = rows

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        return islice(self._cursor.texts(form), self._rows)


class _Screen(io.StringIO):
    """Text that is to fit a screen."""

    def isatty(self) -> bool:
        return True


def text(cursor: Cursor, rows: int = ROWS) -> str:
    """The result of a cursor as text, for a terminal and for those who read a notebook without a browser."""
    from aidb.surfaces.tables import write_table

    out = _Screen()
    plan = _plan(cursor)
    if plan is not None:
        out.write(plan.rstrip() + "\n")
    elif cursor.description is not None:
        write_table(_Head(cursor, rows), out)  # type: ignore[arg-type]
        if cursor.rowcount > rows:
            out.write(f"{cursor.rowcount - rows:,} more\n")
    return out.getvalue() + "\n".join(footer(cursor))
