"""Plugins by entry point: found once, imported on first use, refused when two packages offer one name."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

from aidb.errors import OperationalError, ProgrammingError, UnknownName

GROUPS = {"aidb.connectors": "connector", "aidb.models": "model provider"}


@functools.cache
def entry_points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Name -> entry point of a group. Raises `ProgrammingError` if two distributions offer one name."""
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=group):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            names = " and ".join(p.dist.name if p.dist else p.value for p in (other, point))
            raise ProgrammingError(f"{names} both offer a {GROUPS[group]} {point.name!r}; uninstall one of them")
        found[point.name] = point
    return found


@functools.cache
def load(group: str, name: str) -> Any:
    """The object behind an entry point, in any letter case. Raises `UnknownName`, or `OperationalError` if it can't load."""
    points = entry_points(group)
    point = points.get(name) or points.get(name.lower())
    if point is None:
        raise UnknownName.of(GROUPS[group], name, points)
    try:
        return point.load()
    except ImportError as e:
        raise OperationalError(f"the {GROUPS[group]} {name!r} can't be loaded: {e}") from e
