"""Which characters the bytes of a text file are."""

from __future__ import annotations

import codecs

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's, so it is asked for first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class NotTextError(ValueError):
    """The bytes are not text in any encoding that was tried."""


def decode(data: bytes, encoding: str | None = None) -> str:
    r"""Bytes as text, without a byte order mark; line ends are kept. Raises UnicodeDecodeError or NotTextError.

    >>> decode("Füße".encode("cp1252"))
    'Füße'
    """
    marked = marked_encoding(data)
    if marked is not None and (encoding is None or marked.startswith(encoding)):
        return data.decode(marked)
    if encoding is not None:
        return data.decode(encoding)
    if len(data) % 2 == 0:
        for order, at in (("le", 1), ("be", 0)):  # Latin letters in UTF-16 have a zero in every other byte
            if data[at::2].count(0) > len(data) * 0.3 and not data[1 - at :: 2].count(0):
                return data.decode(f"utf-16-{order}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if b"\0" in data:
        raise NotTextError("it holds zero bytes and is neither UTF-8 nor UTF-16")
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # cp1252 leaves five bytes undefined


def text_encoding(value: object) -> str:
    """The canonical name of an option's encoding. Raises ValueError."""
    try:
        return codecs.lookup(str(value)).name
    except LookupError as e:
        raise ValueError("no such encoding; try 'utf-8', 'cp1252' or 'utf-16'") from e


def marked_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark at the beginning of a file tells, which Python then strips; None without one."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), None)
