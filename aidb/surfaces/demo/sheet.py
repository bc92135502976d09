"""One picture that shows many: results side by side, each with its boxes and a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

_TILE_WIDTH, _TILE_HEIGHT, _GAP, _CAPTION = 320, 214, 14, 26
_HEADING = 34
_PAPER, _INK, _QUIET, _MAT = (250, 250, 248), (28, 30, 34), (104, 108, 114), (232, 232, 228)
_FRAMES = ((0, 158, 115), (213, 94, 0), (0, 114, 178), (204, 121, 167), (230, 159, 0))  # apart for all eyes


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of its picture, and a word on it (or none)."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float
    label: str = ""


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet: RGB ``uint8 [H, W, 3]``, the boxes on it, and the caption below."""

    image: np.ndarray
    boxes: tuple[Box, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading and the tiles below it."""

    heading: str
    tiles: Sequence[Tile]


def write(path: str | Path, sections: Sequence[Section], *, columns: int = 5) -> Path:
    """Write the sections below each other as one PNG, that many tiles a row; give its path.

    Boxes with the same label have the same colour all over the sheet. Raises `aidb.errors.OperationalError` if the file
    can't be written, ValueError if there is no tile.
    """
    from PIL import Image, ImageDraw

    from aidb.errors import OperationalError

    sections = [section for section in sections if section.tiles]
    if not sections:
        raise ValueError("a sheet needs at least one tile")
    labels = sorted({box.label for section in sections for tile in section.tiles for box in tile.boxes})
    colors = {label: _FRAMES[k % len(_FRAMES)] for k, label in enumerate(labels)}
    rows = [-(-len(section.tiles) // columns) for section in sections]
    step_x, step_y = _TILE_WIDTH + _GAP, _TILE_HEIGHT + _CAPTION + _GAP
    height = _GAP + sum(_HEADING + n * step_y for n in rows)
    page = Image.new("RGB", (_GAP + columns * step_x, height), _PAPER)
    draw = ImageDraw.Draw(page)
    y = _GAP
    for section, n in zip(sections, rows, strict=True):
        draw.text((_GAP, y), section.heading, fill=_INK, font=_font(20))
        y += _HEADING
        for k, tile in enumerate(section.tiles):
            left, top = _GAP + k % columns * step_x, y + k // columns * step_y
            _place(page, draw, tile, left, top, colors)
        y += n * step_y
    path = Path(path)
    try:
        page.save(path)
    except OSError as broken:
        raise OperationalError(f"can't write the sheet {path}: {broken}") from broken
    return path


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _place(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    tile: Tile,
    left: int,
    top: int,
    colors: dict[str, tuple[int, int, int]],
) -> None:
    from PIL import Image

    picture = Image.fromarray(tile.image)
    scale = min(_TILE_WIDTH / picture.width, _TILE_HEIGHT / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    x, y = left + (_TILE_WIDTH - size[0]) // 2, top + (_TILE_HEIGHT - size[1]) // 2
    draw.rectangle([left, top, left + _TILE_WIDTH - 1, top + _TILE_HEIGHT - 1], fill=_MAT)
    page.paste(picture.resize(size, Image.Resampling.LANCZOS), (x, y))
    for box in tile.boxes:
        _frame(draw, box, x, y, size, scale, colors[box.label])
    caption, font = tile.caption, _font(14)
    while draw.textlength(caption, font=font) > _TILE_WIDTH and len(caption) > 4:
        caption = caption[:-4] + "..."
    draw.text((left, top + _TILE_HEIGHT + 4), caption, fill=_QUIET, font=font)


def _frame(
    draw: ImageDraw.ImageDraw,
    box: Box,
    x: int,
    y: int,
    size: tuple[int, int],
    scale: float,
    color: tuple[int, int, int],
) -> None:
    """Draw one box on a picture that lies at (x, y); its label stands above it, or within where there is no room."""
    x0, y0 = x + max(0.0, box.xmin * scale), y + max(0.0, box.ymin * scale)
    x1, y1 = x + min(size[0] - 1.0, box.xmax * scale), y + min(size[1] - 1.0, box.ymax * scale)
    if x1 <= x0 or y1 <= y0:
        return
    draw.rectangle([x0, y0, x1, y1], outline=color, width=3)
    if box.label:
        font = _font(13)
        wide = draw.textlength(box.label, font=font) + 6
        tx, ty = min(x0, x + size[0] - wide), y0 - 17 if y0 - 17 >= y else y0
        draw.rectangle([tx, ty, tx + wide, ty + 17], fill=color)
        draw.text((tx + 3, ty), box.label, fill=(255, 255, 255), font=font)
