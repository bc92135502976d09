"""Which connection a cell means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from aidb.connection import Connection, connect
from aidb.errors import InterfaceError, ProgrammingError


class Connections:
    """What was named last, and the connections that were opened for a file's name.

    A variable is looked up anew for each cell, so that a cell that connects can be run again.
    """

    def __init__(self) -> None:
        self._named: str | None = None
        self._opened: dict[str, Connection] = {}

    def choose(self, named: str | None, variables: Mapping[str, Any]) -> Connection:
        """The connection that is named (a variable or a file), here or last; without a name the only one among the
        variables, else one in memory.

        Raises `ProgrammingError` if it can't be told which one is meant, `aidb.errors.OperationalError` as `connect` does.
        """
        name = named or self._named
        chosen = self._found(variables) if name is None else self._get(name, variables)
        self._named = name
        return chosen

    def known(self, variables: Mapping[str, Any]) -> Connection | None:
        """The connection that a cell without a name would use; None if none is open, or it can't be told."""
        if self._named is not None and self._named not in variables:
            found = [c for c in self._opened.values() if c is self._opened.get(_path(self._named)) and is_open(c)]
        elif self._named is not None:
            value = variables[self._named]
            found = [value] if isinstance(value, Connection) and is_open(value) else []
        else:
            found = list({id(c): c for c in [*_among(variables).values(), *self._opened.values()]}.values())
        return found[0] if len(found) == 1 else None

    def _get(self, name: str, variables: Mapping[str, Any]) -> Connection:
        if name in variables:
            value = variables[name]
            if not isinstance(value, Connection):
                raise ProgrammingError(f"{name} is no connection of AIDB, but of type {type(value).__name__}")
            if not is_open(value):
                raise InterfaceError(f"the connection {name} is closed")
            return value
        if name.isidentifier() and not os.path.exists(name):
            raise ProgrammingError(
                f"there is no variable {name} and no file; for a new database give it an ending, such as {name}.aidb"
            )
        return self._open(name)

    def _open(self, file: str) -> Connection:
        path = _path(file)
        there = self._opened.get(path)
        if there is None or not is_open(there):
            there = self._opened[path] = connect(path)
        return there

    def _found(self, variables: Mapping[str, Any]) -> Connection:
        found = _among(variables)
        if len({id(value) for value in found.values()}) > 1:
            raise ProgrammingError(f"which connection? There is {', '.join(sorted(found))}: %%aidb -c {min(found)}")
        return next(iter(found.values())) if found else self._open(":memory:")

    def close(self) -> None:
        """Close what was opened here."""
        for connection in self._opened.values():
            connection.close()
        self._opened, self._named = {}, None


def _path(file: str) -> str:
    return file if file.startswith(":memory:") else os.path.realpath(os.path.expanduser(file))


def _among(variables: Mapping[str, Any]) -> dict[str, Connection]:
    return {
        name: value
        for name, value in variables.items()
        if isinstance(value, Connection) and not name.startswith("_") and is_open(value)
    }


def is_open(connection: Connection) -> bool:
    """Can it be used?"""
    try:
        return connection.engine is not None
    except InterfaceError:
        return False
