"""All pictures of a result on one sheet, written to a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from aidb.errors import ProgrammingError
from aidb.surfaces.pictures.contact import Section, write_png
from aidb.surfaces.pictures.page import write_html
from aidb.surfaces.pictures.tiles import Result, gallery

PNG_ITEMS, HTML_ITEMS, HTML_BYTES = 60, 300, 30_000_000
"""How many items a sheet shows, and how many bytes of them a page holds."""


@dataclass(frozen=True)
class Sheet:
    """A sheet that was written. items: on it; left_out: not on it; unreadable: shown as a tile that says why.

    unread: rows behind the first `aidb.surfaces.pictures.tiles.ROWS_READ`, which were not looked at.
    """

    path: Path
    items: int
    left_out: int = 0
    unreadable: int = 0
    unread: int = 0

    def __str__(self) -> str:
        parts = [f"{self.items:,} picture{'' if self.items == 1 else 's'}"]
        if self.unreadable:
            parts.append(f"{self.unreadable:,} of them can't be read")
        parts += [_rest(self.left_out, self.unread)] if self.left_out or self.unread else []
        return f"{self.path}: {', '.join(parts)}"


def sheet(
    result: Result, path: str | os.PathLike[str], *, title: str = "", limit: int | None = None, room: int = HTML_BYTES
) -> Sheet:
    """Write the pictures, texts and sounds of a result to a file that ends in ``.png`` or ``.html``.

    Each item is shown once, with the boxes of all its rows: columns ``xmin, ymin, xmax, ymax`` (or as
    `aidb.surfaces.pictures.boxes.box_columns` says), with ``label``, ``color`` and ``confidence`` written on them. Below
    it stand the values that its rows share, or those of a column called ``caption`` alone. The result's rows can still
    be fetched afterwards.

    limit: how many items, by default `PNG_ITEMS` or `HTML_ITEMS`. room: bytes of pictures in an HTML page.
    Raises `ProgrammingError` if the result holds nothing to show or the name ends in something else,
    `aidb.errors.OperationalError` if the file can't be written; nothing for an item that can't be read.
    """
    path = Path(path)
    form = path.suffix.lower()
    if form not in (".png", ".html", ".htm"):
        raise ProgrammingError(f"a sheet is written as .png or .html, and {path.name!r} ends in neither")
    usual = PNG_ITEMS if form == ".png" else HTML_ITEMS
    found = gallery(result, usual if limit is None else limit)
    if not found.tiles:
        raise ProgrammingError("there are no pictures to show: the result has no rows with one")
    left_out = found.left_out
    if form == ".png":
        unreadable = write_png(path, [Section(title, found.tiles)])
    else:
        note = _rest(left_out, found.unread) if left_out or found.unread else ""
        unreadable, no_room = write_html(path, found, title, note, room)
        left_out += no_room
    return Sheet(path, len(found.tiles) + found.left_out - left_out, left_out, unreadable, found.unread)


def _rest(left_out: int, unread: int) -> str:
    parts = []
    if left_out:
        parts.append(f"{left_out:,} more left out")
    if unread:
        parts.append(f"{unread:,} rows behind these were not looked at")
    return ", ".join(parts)
