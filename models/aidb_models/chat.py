"""One item as a message to a language model: the prompt with its values filled in, and pictures as data URLs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np

from aidb.spi import ItemError
from aidb_models.http_json import plain

_PLACE = re.compile(r"\{(\w+)\}")
_SIGNS = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"))
_DECODED = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
"""What Pillow decodes by itself: for other formats it starts programs, which a file from anywhere must not."""
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)```\s*", re.DOTALL)


def user_message(prompt: str, values: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    """The content of a message. ``{name}`` in the prompt becomes that input's value; what it does not name follows it.

    >>> user_message("Is {word} a verb?", {"word": "run"})
    'Is run a verb?'
    """
    texts = {n: _shown(v) for n, v in values.items() if not isinstance(v, (np.ndarray, bytes))}
    # In one pass: a value with braces in it is not looked at again.
    text = _PLACE.sub(lambda m: texts[m[1]] if m[1] in texts else m[0], prompt)
    named = set(_PLACE.findall(prompt))
    rest = [v if len(values) == 1 else f"{n}: {v}" for n, v in texts.items() if n not in named]
    text = "\n\n".join([text, *rest]) if text else "\n\n".join(rest)
    pictures = [v for v in values.values() if isinstance(v, (np.ndarray, bytes))]
    if not pictures:
        return text
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(v)}} for v in pictures]
    return [{"type": "text", "text": text}, *parts] if text else parts


def answer_object(content: str, required: Sequence[str]) -> dict[str, Any]:
    """The JSON object in a language model's answer, with or without a fence around it. Raises `ItemError`."""
    fenced = _FENCE.fullmatch(content)
    try:
        found = json.loads(fenced[1] if fenced else content)
    except (ValueError, RecursionError):
        raise ItemError(f"the language model's answer is not JSON: {content[:200]!r}") from None
    if not isinstance(found, dict):
        raise ItemError(f"the language model's answer is no object: {content[:200]!r}")
    missing = [n for n in required if n not in found]
    if missing:
        raise ItemError(f"the language model's answer has no {missing[0]!r}: {content[:200]!r}")
    return found


def _shown(value: Any) -> str:
    value = plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _data_url(picture: np.ndarray | bytes) -> str:
    if isinstance(picture, bytes):
        kind = next((kind for sign, kind in _SIGNS if picture.startswith(sign)), None)
        if kind is None and picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
            kind = "webp"
        if kind is not None:
            return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    return f"data:image/png;base64,{base64.b64encode(_png(picture)).decode()}"


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _DECODED if name in Image.OPEN)


def _png(picture: np.ndarray | bytes) -> bytes:
    """A picture of another format, or an array, as PNG."""
    from PIL import Image

    file = BytesIO()
    try:
        image = (
            Image.open(BytesIO(picture), formats=_formats()) if isinstance(picture, bytes) else Image.fromarray(picture)
        )
        image.convert("RGB").save(file, format="PNG", compress_level=1)
    except Exception as e:  # damaged files make decoders raise anything
        raise ItemError(f"the picture can't be sent: {e or type(e).__name__}") from e
    return file.getvalue()
