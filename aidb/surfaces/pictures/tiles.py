"""The pictures, texts and sounds of a result, each once, with all the boxes that its rows have for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from aidb.errors import ProgrammingError
from aidb.handles import Handle
from aidb.spi.content import CONTENT_SQL
from aidb.surfaces.pictures.boxes import Box, BoxColumns, box_columns
from aidb.surfaces.pictures.drawing import name_of

ROWS_READ = 100_000
"""Rows that are looked at for the boxes of the pictures that are shown."""
_PATH = re.compile(r"\S*/[^/\s]+\.\w{2,5}")
_LONGEST = 80  # characters of a value in a caption


class Result(Protocol):
    """What is needed of a result; an `aidb.Cursor` after a query has it."""

    @property
    def description(self) -> Sequence[tuple[Any, ...]] | None:
        """Name and DuckDB type of each column, and more."""

    @property
    def rowcount(self) -> int:
        """How many rows there are."""

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """All rows, content columns as handles."""


@dataclass(frozen=True)
class Layout:
    """Columns of a result: names, places of those with content, and for each of these the boxes that go on it."""

    names: tuple[str, ...]
    contents: tuple[int, ...]
    boxes: tuple[tuple[BoxColumns, ...], ...]

    @classmethod
    def of(cls, description: Sequence[tuple[Any, ...]]) -> Layout:
        """The k-th box goes on the k-th picture; what is left over goes on the last, which most often is the only one."""
        names = tuple(column[0] for column in description)
        contents = tuple(k for k, column in enumerate(description) if column[1] == CONTENT_SQL)
        groups: list[list[BoxColumns]] = [[] for _ in contents]
        for k, box in enumerate(box_columns(names) if contents else ()):
            groups[min(k, len(groups) - 1)].append(box)
        return cls(names, contents, tuple(map(tuple, groups)))

    def items(self, row: Sequence[Any]) -> Iterator[tuple[int, Handle, tuple[Box, ...]]]:
        """(column, handle, boxes) of what a row shows."""
        for place, groups in zip(self.contents, self.boxes, strict=True):
            if isinstance(row[place], Handle):
                read = (columns.read(row) for columns in groups)
                yield place, row[place], tuple(box for box in read if box is not None)

    def caption(self, row: Sequence[Any]) -> dict[str, str]:
        """Values that are neither content nor on a box, by column; a column called ``caption`` is all that is shown."""
        drawn = {*self.contents, *(place for groups in self.boxes for box in groups for place in box.places)}
        said = {n: _said(v) for k, (n, v) in enumerate(zip(self.names, row, strict=True)) if k not in drawn}
        for name in said:
            if name.lower() == "caption":
                return {"": said[name]}
        return said


@dataclass
class Tile:
    """One item, the boxes on it, and a caption of the values that all of its rows share, by column."""

    handle: Handle
    boxes: dict[Box, None] = field(default_factory=dict)  # a join may give the same box several times
    values: dict[str, str] = field(default_factory=dict)
    rows: int = 0

    @property
    def caption(self) -> str:
        """One line; the item's name where the result has nothing to say."""
        said = ", ".join(f"{name} {value}".strip() for name, value in self.values.items())
        return said or name_of(self.handle.ref)


@dataclass(frozen=True)
class Gallery:
    """Tiles in the order in which their items come first. left_out: further items; unread: rows not looked at."""

    tiles: tuple[Tile, ...]
    left_out: int = 0
    unread: int = 0


def gallery(result: Result, limit: int) -> Gallery:
    """The first ``limit`` items of a result. Raises `ProgrammingError` if it has no content column."""
    description = result.description
    if description is None:
        raise ProgrammingError("there are no pictures to show: the last statement was no query")
    layout = Layout.of(description)
    if not layout.contents:
        raise ProgrammingError(
            "there are no pictures to show: the result has no content column; select one, such as frames.image"
        )
    found: dict[Handle, Tile] = {}
    others: set[Handle] = set()
    rows = 0
    for row in islice(result.rows(), ROWS_READ):
        rows += 1
        values = layout.caption(row)
        for _, handle, boxes in layout.items(row):
            tile = found.get(handle)
            if tile is None:
                if len(found) == limit:
                    others.add(handle)
                    continue
                tile = found[handle] = Tile(handle, values=values)
            elif tile.values != values:
                tile.values = {n: v for n, v in tile.values.items() if values.get(n) == v}
            tile.rows += 1
            tile.boxes.update(dict.fromkeys(boxes))
    return Gallery(tuple(found.values()), len(others), max(0, result.rowcount - rows))


def _said(value: Any) -> str:
    if value is None:
        return "NULL"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    text = " ".join(text[: 4 * _LONGEST].split())
    if _PATH.fullmatch(text):
        text = text.rsplit("/", 1)[-1]  # the file says most
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
