"""Which connection a cell means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from aidb.connection import Connection, connect
from aidb.errors import InterfaceError, ProgrammingError


class Connections:
    """The connection of the cells to come, and those that were opened for a file's name."""

    def __init__(self) -> None:
        self.current: Connection | None = None
        self._opened: dict[str, Connection] = {}

    def choose(self, named: str | None, variables: Mapping[str, Any]) -> Connection:
        """The connection that is named (a variable or a file), which becomes the current one; without a name the current
        one, else the only one among the variables, else a new one in memory.

        Raises `ProgrammingError` if it can't be told which one is meant, `aidb.errors.OperationalError` as `connect` does.
        """
        if named is not None:
            self.current = self._named(named, variables)
        elif self.current is None or not is_open(self.current):
            self.current = self._found(variables)
        return self.current

    def _named(self, name: str, variables: Mapping[str, Any]) -> Connection:
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
        path = file if file.startswith(":memory:") else os.path.realpath(os.path.expanduser(file))
        there = self._opened.get(path)
        if there is None or not is_open(there):
            there = self._opened[path] = connect(path)
        return there

    def _found(self, variables: Mapping[str, Any]) -> Connection:
        found = {
            name: value
            for name, value in variables.items()
            if isinstance(value, Connection) and not name.startswith("_") and is_open(value)
        }
        if len({id(value) for value in found.values()}) > 1:
            raise ProgrammingError(f"which connection? There is {', '.join(sorted(found))}: %%aidb -c {min(found)}")
        return next(iter(found.values())) if found else self._open(":memory:")

    def close(self) -> None:
        """Close what was opened here."""
        for connection in self._opened.values():
            connection.close()
        self._opened, self.current = {}, None


def is_open(connection: Connection) -> bool:
    """Can it be used?"""
    try:
        return connection.engine is not None
    except InterfaceError:
        return False
