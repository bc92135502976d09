"""The contract of a connector: say what items there are, and decode some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from aidb.spi.content import Ref
from aidb.spi.options import Options

Decoded = np.ndarray | str | bytes
"""What a reference decodes to: RGB ``uint8 [H, W, 3]``, text, or encoded bytes."""


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """An item that can't be read, and why. A connector yields it in the item's place; it does not raise."""

    message: str


@dataclass(frozen=True)
class BlobSchema:
    """What a source's items look like.

    key: name of the BIGINT key that the engine assigns (``frame_id``, ``image_id``, ``doc_id``, ``blob_id``).
    columns: (name, DuckDB type) of the columns that `Connector.scan` yields, in order, without the key.
    identity: those columns that tell an item from all others of the source for good (``file``, or ``file`` and
        ``pts``): by them an item keeps its key when the source is listed again. They are never NULL.
    content: name of the content column among ``columns`` (type CONTENT_SQL), or None if all data is in plain columns.
    """

    key: str
    columns: tuple[tuple[str, str], ...]
    identity: tuple[str, ...]
    content: str | None


@dataclass(frozen=True)
class Scan:
    """What to list: the text after FROM (a path, glob or URL) and the options after WITH."""

    source: str
    options: Options = field(default_factory=Options)


@runtime_checkable
class Connector(Protocol):
    """A kind of source. One instance serves all tables; it holds no state but caches, and is called from many threads.

    name: as USING and `Ref.connector` spell it.
    extensions: file-name endings (lower case, with the dot) that it takes when SQL names no connector.
    priority: settles a tie of `claims` when SQL names no connector: the greatest wins (ours: video 40, images 30,
        text 20, audio 10; a kind of source that nobody else can read may take more).
    """

    name: str
    extensions: frozenset[str]
    priority: int

    def claims(self, source: str) -> int:
        """How many of the source's files are of this kind: the connector that claims most takes ``FROM 'source'``.

        Cheap: looks at names only, and at a bounded number of them; files are not opened and web servers not asked.
        0 for a source that is not this connector's business (another scheme, other extensions).
        Raises `aidb.errors.SourceError` where the source is a path that does not exist, as every connector would.
        """
        ...

    def schema(self, scan: Scan) -> BlobSchema:
        """The columns of this source. Cheap; may look at one file. Raises `aidb.errors.SourceError`."""
        ...

    def items(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """All items, in a stable order (sorted by file, then position), streamed; nothing is decoded.

        Each batch has `BlobSchema.columns` plus ``content_id`` (VARCHAR): equal if and only if the content is taken
        to be unchanged, made of uri, size, and etag or mtime. A file that can't be listed (unreadable, corrupt
        header) yields one row whose content can't be read later, so that it turns up in ``aidb.errors``, not nowhere.
        Raises `aidb.errors.SourceError` if nothing matches or nothing may be read.
        """
        ...

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """Decode references, one result each, in their order; the engine sorts them by (uri, pos) first.

        encoded: give the bytes of the file (or, for a video frame, a PNG or JPEG of it) rather than an array.
        Streams: holds no more than a few items at a time. A broken item yields `ItemFailure`; the rest goes on.
        """
        ...
