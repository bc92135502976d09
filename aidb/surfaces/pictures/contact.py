"""A sheet as one PNG: pictures side by side, each with its boxes and a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aidb.errors import OperationalError
from aidb.spi import ItemFailure
from aidb.surfaces.pictures.drawing import colors_of, fitted, font, looks, name_of, wrapped
from aidb.surfaces.pictures.tiles import Tile

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from aidb.surfaces.pictures.drawing import Look

TILE = (320, 214)
_GAP, _CAPTION, _HEADING, _COLUMNS = 14, 26, 34, 5
_PAPER, _INK, _QUIET, _MAT = (250, 250, 248), (28, 30, 34), (104, 108, 114), (232, 232, 228)


@dataclass(frozen=True)
class Section:
    """A heading, or none, and the tiles below it."""

    heading: str
    tiles: Sequence[Tile]


def write_png(path: Path, sections: Sequence[Section]) -> int:
    """Write sections below each other, five tiles a row, those without a tile not at all; how many items can't be shown.

    Boxes with the same label have the same colour all over the sheet. Raises `OperationalError` if the file can't be
    written.
    """
    from PIL import Image, ImageDraw

    sections = [section for section in sections if section.tiles]
    tiles = [tile for section in sections for tile in section.tiles]
    step_x, step_y = TILE[0] + _GAP, TILE[1] + _CAPTION + _GAP
    places: list[tuple[int, int]] = []
    headings: list[tuple[int, str]] = []
    y = _GAP
    for section in sections:
        if section.heading:
            headings.append((y, section.heading))
            y += _HEADING
        places += [(_GAP + k % _COLUMNS * step_x, y + k // _COLUMNS * step_y) for k in range(len(section.tiles))]
        y += -(-len(section.tiles) // _COLUMNS) * step_y
    columns = (
        min(_COLUMNS, max((len(section.tiles) for section in sections), default=1)) if len(sections) == 1 else _COLUMNS
    )
    width = _GAP + max(columns, 2 if headings else 1) * step_x
    page = Image.new("RGB", (width, max(y, 1)), _PAPER)
    draw = ImageDraw.Draw(page)
    for top, heading in headings:
        draw.text((_GAP, top), fitted(draw, heading, font(20), width - 2 * _GAP), fill=_INK, font=font(20))
    colors = colors_of(box for tile in tiles for box in tile.boxes)
    missing = 0
    for k, look in looks([(tile.handle, tuple(tile.boxes)) for tile in tiles], TILE, colors, enlarge=2.0):
        missing += isinstance(look, ItemFailure)
        _place(page, draw, tiles[k], look, places[k])
    try:
        page.save(path, "PNG")
    except (OSError, ValueError) as broken:
        raise OperationalError(f"can't write the sheet {path}: {broken}") from broken
    return missing


def _place(page: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, look: Look, at: tuple[int, int]) -> None:
    left, top = at
    draw.rectangle([left, top, left + TILE[0] - 1, top + TILE[1] - 1], fill=_MAT)
    if isinstance(look, ItemFailure):
        _write(draw, f"{name_of(tile.handle.ref)}: {look.message}", at, _QUIET)
    elif isinstance(look, str):
        _write(draw, look, at, _INK)
    elif isinstance(look, bytes):
        _write(draw, f"{tile.handle.ref.media}, {len(look):,} bytes: {name_of(tile.handle.ref)}", at, _QUIET)
    else:
        page.paste(look, (left + (TILE[0] - look.width) // 2, top + (TILE[1] - look.height) // 2))
    letters = font(14)
    draw.text((left, top + TILE[1] + 4), fitted(draw, tile.caption, letters, TILE[0]), fill=_QUIET, font=letters)


def _write(draw: ImageDraw.ImageDraw, text: str, at: tuple[int, int], ink: tuple[int, int, int]) -> None:
    """Words in the place of a picture."""
    letters, step, margin = font(14), 19, 10
    lines = wrapped(draw, text, letters, TILE[0] - 2 * margin, (TILE[1] - 2 * margin) // step)
    for k, line in enumerate(lines):
        draw.text((at[0] + margin, at[1] + margin + k * step), line, fill=ink, font=letters)
