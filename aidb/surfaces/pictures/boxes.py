"""Boxes in a row of a result: which columns they are, and what is written on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)
_WORDS = (("color", "colour"), ("label", "class", "class_name", "category", "kind"))
_SCORES = ("confidence", "score", "conf")


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of its picture, a word on it (or none), and how sure the model was (or None)."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float
    label: str = ""
    score: float | None = None

    @property
    def text(self) -> str:
        """What is written on it."""
        score = "" if self.score is None else f"{self.score:.2f}"
        return f"{self.label} {score}".strip()


@dataclass(frozen=True)
class BoxColumns:
    """Places of the columns that make a box of each row: four corners, words, and a score or None."""

    corners: tuple[int, int, int, int]
    words: tuple[int, ...] = ()
    score: int | None = None

    @property
    def places(self) -> tuple[int, ...]:
        """All of them."""
        return (*self.corners, *self.words, *(() if self.score is None else (self.score,)))

    def read(self, row: Sequence[Any]) -> Box | None:
        """The box of a row; None where a corner is no number or nothing is inside."""
        corners = [_number(row[place]) for place in self.corners]
        known = [c for c in corners if c is not None]
        if len(known) < 4 or known[0] >= known[2] or known[1] >= known[3]:
            return None
        words = [" ".join(str(row[place]).split())[:100] for place in self.words if row[place] is not None]
        score = None if self.score is None else _number(row[self.score])
        return Box(known[0], known[1], known[2], known[3], " ".join(words), score)


def box_columns(names: Sequence[str]) -> list[BoxColumns]:
    """The boxes that a result's columns make, in order: ``xmin, ymin, xmax, ymax`` or ``x_min...``, ``x1, y1, x2, y2``,
    ``left, top, right, bottom``, in any letter case. What stands before or behind such a name must be the same for all
    four (``car_xmin...``, ``xmin_1...``); of a name that occurs twice the first goes with the first.

    >>> [b.corners for b in box_columns(["id", "XMin", "YMin", "XMax", "YMax", "label"])]
    [(1, 2, 3, 4)]
    """
    lower = [name.lower() for name in names]
    found = []
    for corners in _CORNERS:
        for before, after in _around(lower, corners[0]):
            columns = [_places(lower, before + corner + after) for corner in corners]
            for k in range(min(map(len, columns))):
                four = (columns[0][k], columns[1][k], columns[2][k], columns[3][k])
                found.append(BoxColumns(four, *_said(lower, before, after, k)))
    return sorted(found, key=lambda box: box.corners)


def _around(names: Sequence[str], corner: str) -> Iterator[tuple[str, str]]:
    """What stands before and behind a corner's name wherever it occurs, each pair once."""
    pairs: dict[tuple[str, str], None] = {}
    for name in names:
        at = name.find(corner)
        while at >= 0:
            pairs[name[:at], name[at + len(corner) :]] = None
            at = name.find(corner, at + 1)
    yield from pairs


def _places(names: Sequence[str], wanted: str) -> list[int]:
    return [place for place, name in enumerate(names) if name == wanted]


def _said(names: Sequence[str], before: str, after: str, k: int) -> tuple[tuple[int, ...], int | None]:
    """Places of the words and of the score of a box whose columns are called so; the k-th of that name."""

    def first(candidates: Sequence[str]) -> list[int]:
        for name in candidates:
            own, plain = _places(names, before + name + after), _places(names, name)
            if len(own) > k:
                return [own[k]]
            if plain:
                return [plain[min(k, len(plain) - 1)]]
        return []

    words = [place for candidates in _WORDS for place in first(candidates)]
    score = first(_SCORES)
    return tuple(words), score[0] if score else None


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool | str):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
