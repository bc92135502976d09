"""A sheet as one HTML page that needs nothing beside it."""

from __future__ import annotations

import html
from pathlib import Path

from aidb.errors import OperationalError
from aidb.spi import ItemFailure
from aidb.surfaces.pictures.drawing import looks
from aidb.surfaces.pictures.elements import Room, element
from aidb.surfaces.pictures.tiles import Gallery

SIDE = 420
_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1.5em }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); gap: 16px }}
figure {{ margin: 0 }}
figcaption {{ overflow-wrap: anywhere; opacity: .75; margin-top: 4px }}
img {{ max-width: 100%; height: auto; display: block; border-radius: 3px }}
audio {{ width: 100% }}
.text, .gone {{ padding: 12px; border-radius: 3px; background: #8881; overflow-wrap: anywhere }}
.text {{ white-space: pre-wrap }}
.gone {{ background: #8883; opacity: .8 }}
</style>
"""


def write_html(path: Path, shown: Gallery, title: str, note: str, room: int) -> tuple[int, int]:
    """Write a gallery, with at most so many bytes of pictures; a note below it says what is left out.

    Gives how many items could not be shown, and how many had no room. Raises `OperationalError` if the file can't be
    written.
    """
    figures = [""] * len(shown.tiles)
    found = dict(looks([(tile.handle, tuple(tile.boxes)) for tile in shown.tiles], (SIDE, SIDE)))
    space = Room(room)
    for k, tile in enumerate(shown.tiles):
        item = element(tile.handle.ref, found[k], space)
        figures[k] = f"<figure>{item}<figcaption>{html.escape(tile.caption)}</figcaption></figure>"
    said = [note] if note else []
    if space.left_out:
        said.append(f"{space.left_out:,} had no room in the {space.size // 1_000_000:,} MB of this page")
    page = [
        _HEAD.format(title=html.escape(title)),
        f"<h1>{html.escape(title)}</h1>" if title else "",
        "<main>",
        *figures,
        "</main>",
        f"<p>{html.escape('; '.join(said))}</p>" if said else "",
        "</html>",
    ]
    try:
        path.write_text("\n".join(page) + "\n", encoding="utf-8")
    except OSError as broken:
        raise OperationalError(f"can't write the sheet {path}: {broken.strerror or broken}") from broken
    return sum(isinstance(look, ItemFailure) for look in found.values()), space.left_out
