"""What an item looks like, drawn small: a picture with its boxes, a text's beginning, or why there is nothing to see."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from aidb.handles import Handle, read_all
from aidb.spi import ItemFailure, Ref
from aidb.surfaces.pictures.boxes import Box

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    Color = tuple[int, int, int]
    Look = Image.Image | str | bytes | ItemFailure
    """A thumbnail, the beginning of a text, the bytes of a sound, or why the item can't be shown."""

EXCERPT = 400
"""Characters of a text that are shown."""
_COLORS = ((0, 158, 115), (213, 94, 0), (0, 114, 178), (204, 121, 167), (230, 159, 0), (86, 180, 233))  # for all eyes
_LINE = 3
_HINT = re.compile(r"^(?:[a-z_]+=[^:/]*::)+")


def colors_of(boxes: Iterable[Box]) -> dict[str, Color]:
    """A colour for each label, so that a label has the same one in all pictures."""
    labels = sorted({box.label for box in boxes})
    return {label: _COLORS[k % len(_COLORS)] for k, label in enumerate(labels)}


def looks(
    wanted: Sequence[tuple[Handle, Sequence[Box]]],
    size: tuple[int, int],
    colors: Mapping[str, Color] | None = None,
    *,
    enlarge: float = 1.0,
) -> Iterator[tuple[int, Look]]:
    """(place among the wanted, look) of items with the boxes on them, as they are read: each item once, not in order.

    size: widest and highest that a thumbnail may be, in pixels. enlarge: how many times larger than it is a small picture
    may become. Raises nothing for an item that can't be shown.
    """
    palette = colors_of(box for _, boxes in wanted for box in boxes) if colors is None else colors
    places: dict[Handle, list[int]] = {}
    for place, (handle, _) in enumerate(wanted):
        places.setdefault(handle, []).append(place)
    for handle, content in read_all(places):
        for place in places[handle]:
            look: Look
            if isinstance(content, str):
                look = _excerpt(content)
            elif isinstance(content, bytes | ItemFailure):
                look = content
            else:
                try:
                    look = thumbnail(content, wanted[place][1], size, palette, enlarge)
                except (ValueError, TypeError, MemoryError) as e:
                    look = ItemFailure(f"can't be drawn: {e}")
            yield place, look


def thumbnail(
    pixels: np.ndarray, boxes: Sequence[Box], size: tuple[int, int], colors: Mapping[str, Color], enlarge: float = 1.0
) -> Image.Image:
    """A picture ``uint8 [H, W, 3]`` as large as fits into ``size``, with its boxes."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(pixels)
    if not picture.width or not picture.height:
        raise ValueError("the picture is empty")
    scale = min(enlarge, size[0] / picture.width, size[1] / picture.height)
    small = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    drawn = picture.convert("RGB").resize(small, Image.Resampling.LANCZOS, reducing_gap=3.0)
    draw = ImageDraw.Draw(drawn)
    for box in boxes:
        _frame(
            draw, box, small, (small[0] / picture.width, small[1] / picture.height), colors.get(box.label, _COLORS[0])
        )
    return drawn


def _frame(
    draw: ImageDraw.ImageDraw, box: Box, size: tuple[int, int], scale: tuple[float, float], color: Color
) -> None:
    """Draw one box; what is written on it stands above it, or within where there is no room, or not at all."""
    x0, y0 = max(0.0, box.xmin * scale[0]), max(0.0, box.ymin * scale[1])
    x1, y1 = min(size[0] - 1.0, box.xmax * scale[0]), min(size[1] - 1.0, box.ymax * scale[1])
    if x1 < x0 or y1 < y0:
        return  # it lies outside
    draw.rectangle([x0, y0, x1, y1], outline=color, width=_LINE if min(size) > 100 else 1)
    if not box.text or size[0] < 60:
        return
    letters, high = font(13), 17
    text = fitted(draw, box.text, letters, size[0] - 6)
    wide = draw.textlength(text, font=letters) + 6
    x, y = max(0.0, min(x0, size[0] - wide)), y0 - high if y0 >= high else y0
    draw.rectangle([x, y, x + wide, y + high], fill=color)
    draw.text((x + 3, y), text, fill=(255, 255, 255), font=letters)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def fitted(
    draw: ImageDraw.ImageDraw, text: str, letters: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    """A text on one line, its end cut off where it is wider than that, with dots for it."""
    line = " ".join(text.split())[:500]
    if draw.textlength(line, font=letters) <= width:
        return line
    low, high = 0, len(line)  # so many letters fit, and so many don't
    while high - low > 1:
        middle = (low + high) // 2
        fits = draw.textlength(line[:middle] + "...", font=letters) <= width
        low, high = (middle, high) if fits else (low, middle)
    return line[:low] + "..."


def wrapped(
    draw: ImageDraw.ImageDraw,
    text: str,
    letters: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: float,
    lines: int,
) -> list[str]:
    """A text in lines of that width, of which the last ends in dots where it is not the end."""
    found: list[str] = []
    words = text.split()
    while words and len(found) < lines:
        taken = 1
        while taken < len(words) and draw.textlength(" ".join(words[: taken + 1]), font=letters) <= width:
            taken += 1
        last = len(found) == lines - 1 and taken < len(words)
        line = " ".join(words[:taken]) + (" ..." if last else "")
        found.append(fitted(draw, line, letters, width))
        words = words[taken:]
    return found


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else text[:EXCERPT].rstrip() + "…"


def encoded(picture: Image.Image) -> bytes:
    """A thumbnail as JPEG."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85, subsampling=0)  # without it the boxes' lines bleed
    return out.getvalue()


def name_of(ref: Ref) -> str:
    """What an item is called where people read it: its file's name and its place, without folders and a URL's secrets."""
    uri = _HINT.sub("", ref.uri)
    if "://" in uri:
        uri = re.split(r"[?#]", uri, maxsplit=1)[0]
    file = os.path.basename(uri.rstrip("/")) or uri
    return file if ref.pos is None else f"{file} at {ref.pos}"
