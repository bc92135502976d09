"""Content references: how a table names a picture, a frame, a document or a sound without holding it.

In DuckDB a reference is a struct with the four fields below, in Python a `Ref`. The connector that made it decodes it.
The struct is recognised by its field names, so a reference survives views, joins and subqueries.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

CONTENT_FIELDS = ("uri", "pos", "media", "connector")
CONTENT_TYPE = pa.struct(
    [("uri", pa.string()), ("pos", pa.int64()), ("media", pa.string()), ("connector", pa.string())]
)
CONTENT_SQL = "STRUCT(uri VARCHAR, pos BIGINT, media VARCHAR, connector VARCHAR)"
MEDIA = ("image", "text", "audio")
"""What a reference decodes to: an RGB array (a still or a video frame), a str, or encoded bytes."""


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One item's content: a file or URL, and a position in it (a frame's pts, a line), or None for the whole."""

    uri: str
    pos: int | None
    media: str
    connector: str


def is_content_type(type_: pa.DataType) -> bool:
    """Is this Arrow type a content reference?"""
    return pa.types.is_struct(type_) and tuple(type_.field(i).name for i in range(type_.num_fields)) == CONTENT_FIELDS
