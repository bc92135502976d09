"""Handles: what a selected content column holds, able to fetch and decode itself."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from aidb.errors import DataError
from aidb.spi import Connector, Decoded, ItemFailure, Ref, is_content_type

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Handle:
    """A picture, a video frame, a text or a sound that a row refers to; nothing is read until it is asked for."""

    __slots__ = ("_connector", "ref")

    def __init__(self, ref: Ref, connector: Callable[[str], Connector]) -> None:
        self.ref = ref
        self._connector = connector

    def _read(self, *, encoded: bool) -> Any:
        value = next(iter(self._connector(self.ref.connector).read([self.ref], encoded=encoded)))
        if isinstance(value, ItemFailure):
            raise DataError(f"{self.ref.uri}: {value.message}")
        return value

    def bytes(self) -> builtins.bytes:
        """The file's bytes; for a video frame those of a picture of it. Raises `DataError` if it can't be read."""
        value: builtins.bytes = self._read(encoded=True)
        return value

    def array(self) -> np.ndarray:
        """The picture as ``uint8 [H, W, 3]`` RGB. Raises `DataError` if it can't be decoded, or is no picture."""
        if self.ref.media != "image":
            raise DataError(f"{self.ref.uri} is {self.ref.media}, not a picture")
        value: np.ndarray = self._read(encoded=False)
        return value

    def text(self) -> str:
        """The text. Raises `DataError` if it can't be read, or is no text."""
        if self.ref.media != "text":
            raise DataError(f"{self.ref.uri} is {self.ref.media}, not text")
        value: str = self._read(encoded=False)
        return value

    def __repr__(self) -> str:
        where = "" if self.ref.pos is None else f" at {self.ref.pos}"
        return f"<{self.ref.media} {self.ref.uri}{where}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.ref == self.ref

    def __hash__(self) -> int:
        return hash(self.ref)

    def _repr_png_(self) -> builtins.bytes | None:
        """Show pictures in a notebook; of one that can't be read there is nothing to show."""
        if self.ref.media != "image":
            return None
        import io

        from PIL import Image

        try:
            picture = Image.fromarray(self.array())
        except DataError:
            return None
        out = io.BytesIO()
        picture.thumbnail((640, 640))
        picture.save(out, "PNG")
        return out.getvalue()


def read_all(handles: Iterable[Handle]) -> Iterator[tuple[Handle, Decoded | ItemFailure]]:
    """What several handles refer to, decoded, each once, in the order that costs least; one after the other.

    What can't be read is an `ItemFailure` in its place, also where the connector itself is not there: nothing is raised.
    """
    distinct = sorted(set(handles), key=lambda h: (h.ref.connector, h.ref.uri, -1 if h.ref.pos is None else h.ref.pos))
    for name, group in groupby(distinct, key=lambda h: h.ref.connector):
        wanted = list(group)
        done = 0
        try:
            contents = wanted[0]._connector(name).read([h.ref for h in wanted])
            for one, content in zip(wanted, contents, strict=True):
                done += 1
                yield one, content
        except Exception as e:  # a connector is anyone's; those who show things show that this one can't be shown
            for one in wanted[done:]:
                yield one, ItemFailure(str(e) or type(e).__name__)


def handle(reference: dict[str, Any] | None, connector: Callable[[str], Connector]) -> Handle | None:
    """The handle of a content reference as DuckDB gives it."""
    return None if reference is None else Handle(Ref(**reference), connector)


def with_handles(table: pa.Table, connector: Callable[[str], Connector]) -> Iterator[tuple[str, list[Handle | None]]]:
    """(name, handles) of each content column of a result."""
    for field in table.schema:
        if is_content_type(field.type):
            yield field.name, [handle(r, connector) for r in table.column(field.name).to_pylist()]
