"""What an item looks like in HTML: everything is in the page itself, everything is escaped."""

from __future__ import annotations

import base64
import html
import mimetypes
from typing import TYPE_CHECKING

from aidb.spi import ItemFailure, Ref
from aidb.surfaces.pictures.drawing import encoded, name_of

if TYPE_CHECKING:
    from aidb.surfaces.pictures.drawing import Look

SOUND = 2_000_000
"""Bytes of a sound that may become part of a page."""


class Room:
    """How many bytes of pictures and sounds may still go into a page. left_out: how many had no room."""

    def __init__(self, size: int) -> None:
        self.size, self.free, self.left_out = size, size, 0

    def take(self, size: int) -> bool:
        """Is there room for so many bytes? Then it is taken."""
        if size > self.free:
            self.free = 0  # what comes later and is smaller is left out too: the first ones are shown, not some
            self.left_out += 1
            return False
        self.free -= size
        return True


def element(ref: Ref, look: Look, room: Room) -> str:
    """An ``img``, ``audio`` or ``div``; classes ``text`` and ``gone`` say which words these are."""
    name = html.escape(name_of(ref))
    if isinstance(look, ItemFailure):
        return f'<div class="gone" title="{name}">{html.escape(f"{name_of(ref)}: {look.message}"[:500])}</div>'
    if isinstance(look, str):
        return f'<div class="text" title="{name}">{html.escape(look)}</div>'
    if isinstance(look, bytes):
        if len(look) > SOUND:
            return f'<div class="gone">{name}: {len(look):,} bytes are too many to be played here</div>'
        kind = mimetypes.guess_type(name_of(ref))[0] or "audio/mpeg"
        tag = f'<audio controls preload="metadata" title="{name}" src="data:{html.escape(kind)};base64,'
        return _held(tag, look, '"></audio>', name, room)
    size = f'width="{look.width}" height="{look.height}"'
    return _held(
        f'<img {size} alt="{name}" title="{name}" src="data:image/jpeg;base64,', encoded(look), '">', name, room
    )


def _held(before: str, data: bytes, after: str, name: str, room: Room) -> str:
    if not room.take(len(data) * 4 // 3):
        return f'<div class="gone">{name}: left out, as the page would become too large</div>'
    return before + base64.b64encode(data).decode() + after
