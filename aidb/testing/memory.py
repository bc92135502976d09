"""A connector whose items are in memory: no files, and it fails where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from aidb.errors import SourceError
from aidb.spi import CONTENT_TYPE, BlobSchema, Decoded, ItemFailure, Ref, Scan, arrow_type
from aidb.spi.content import CONTENT_SQL

Content = np.ndarray | str | bytes


class MemoryConnector:
    """Items from a list (numbered ``item-0``, ``item-1``...) or a dict of name -> content.

    ``CREATE BLOB TABLE t FROM 'memory:*' USING memory`` (any other text does as well; ``memory:<name>`` is one item).
    The columns are ``name``, the further ``columns`` (name -> (DuckDB type, one value an item)), and the content column
    ``content`` or as named.

    media: ``image`` for ``uint8 [H, W, 3]`` arrays, ``text`` for str, ``audio`` for bytes; by default told from the
        first item. key: name of the key column.
    broken: names (or positions) of items that are listed but can't be read. list_error: raise at listing.

    ``reads`` holds the names of all items that were decoded, in order; `replace`, `add` and `remove` change the source
    as an edited file would: a replaced item has another content id.
    """

    extensions: frozenset[str] = frozenset()
    priority = 0

    def __init__(
        self,
        items: Sequence[Content] | Mapping[str, Content],
        *,
        name: str = "memory",
        media: Literal["image", "text", "audio"] | None = None,
        content: str = "content",
        key: str = "blob_id",
        columns: Mapping[str, tuple[str, Sequence[Any]]] | None = None,
        broken: Sequence[str | int] = (),
        list_error: str | None = None,
        batch: int = 1024,
    ) -> None:
        named = dict(items) if isinstance(items, Mapping) else {f"item-{i}": item for i, item in enumerate(items)}
        self.name, self.key, self.content, self.batch = name, key, content, batch
        self.media = media or _media(next(iter(named.values()), ""))
        self.columns = dict(columns or {})
        self.broken = {list(named)[b] if isinstance(b, int) else b for b in broken}
        self.list_error = list_error
        self.reads: list[str] = []
        self._lock = threading.Lock()
        self._items: dict[str, Content] = {}
        self._versions: dict[str, int] = {}
        self._extra: dict[str, tuple[Any, ...]] = {}
        extra = list(zip(*(values for _, values in self.columns.values()), strict=True)) if self.columns else []
        if extra and len(extra) != len(named):
            raise ValueError(f"columns have {len(extra)} values for {len(named)} items")
        for i, (item, value) in enumerate(named.items()):
            self.add(item, value, *(extra[i] if extra else ()))

    def add(self, item: str, content: Content, *values: Any) -> None:
        """One more item (or, for a name that is there, `replace`), with its values of the further columns."""
        if len(values) != len(self.columns):
            raise ValueError(f"{item}: give one value for each of {', '.join(self.columns)}")
        with self._lock:
            self._items[item] = content
            self._versions[item] = self._versions.get(item, 0) + 1
            self._extra[item] = values

    def replace(self, item: str, content: Content) -> None:
        """Other content under the same name."""
        self.add(item, content, *self._extra[item])

    def remove(self, item: str) -> None:
        """Take an item away; its content can't be read any longer."""
        with self._lock:
            del self._items[item]

    def claims(self, source: str) -> int:
        """How many items ``memory:...`` names; nothing of other sources."""
        return len(self._listed(source)) if source.startswith("memory:") else 0

    def schema(self, scan: Scan) -> BlobSchema:
        """``name``, the further columns, the content."""
        scan.options.refuse_unknown(())
        plain = [(column, type_) for column, (type_, _) in self.columns.items()]
        columns = (("name", "VARCHAR"), *plain, (self.content, CONTENT_SQL))
        return BlobSchema(self.key, columns, identity=("name",), content=self.content)

    def items(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """All items in the order in which they were given."""
        scan.options.refuse_unknown(())
        if self.list_error is not None:
            raise SourceError(self.list_error)
        names = self._listed(scan.source)
        with self._lock:
            rows = [(item, *self._extra[item], self._ref(item), f"{item}@{self._versions[item]}") for item in names]
        return self._batches(rows)

    def _batches(self, rows: list[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        types = [pa.string(), *(arrow_type(t) for t, _ in self.columns.values()), CONTENT_TYPE, pa.string()]
        header = ["name", *self.columns, self.content, "content_id"]
        for start in range(0, len(rows), self.batch):
            part = list(zip(*rows[start : start + self.batch], strict=True))
            arrays = [pa.array(values, type_) for values, type_ in zip(part, types, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, names=header)

    def _listed(self, source: str) -> list[str]:
        wanted = source.removeprefix("memory:") if source.startswith("memory:") else "*"
        with self._lock:
            names = [item for item in self._items if wanted in ("", "*", item)]
        if not names and wanted not in ("", "*"):
            raise SourceError(f"{source}: no such item")
        return names

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """The content as it was given; ``encoded`` gives a picture as PNG and text as UTF-8."""
        for ref in refs:
            item = ref.uri.removeprefix("memory:")
            with self._lock:
                self.reads.append(item)
                content = self._items.get(item)
            if content is None:
                yield ItemFailure(f"{ref.uri}: no such item")
            elif item in self.broken:
                yield ItemFailure(f"{ref.uri}: can't be decoded")
            else:
                yield _encoded(content) if encoded else content

    def _ref(self, item: str) -> dict[str, Any]:
        return {"uri": f"memory:{item}", "pos": None, "media": self.media, "connector": self.name}


def _media(content: Content) -> str:
    return "text" if isinstance(content, str) else "image" if isinstance(content, np.ndarray) else "audio"


def _encoded(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(content).save(file, format="PNG")
    return file.getvalue()
