"""Which references may not be followed: asked here, where the database is, and told to the workers that read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from aidb.exec.distributed.task import Refused
from aidb.spi import Connector, Decoded, ItemFailure, Ref

_Connectors = Callable[[str], Connector]


class _Reader:
    """Stands for a connector, reads nothing, and gives an empty text for every reference that it is asked for."""

    extensions: frozenset[str] = frozenset()
    priority = 0
    claims: Any = None
    schema: Any = None
    items: Any = None

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """Nothing, for each."""
        return iter([""] * len(refs))


class Refusing:
    """Applies what guards connectors in this process (`aidb.exec.access.Access.guarded`) to rows for another one."""

    def __init__(self, guarded: Callable[[_Connectors], _Connectors]) -> None:
        self._guarded = guarded(_Reader)

    def __call__(self, rows: pa.Table, columns: Sequence[str]) -> Refused:
        """What in these content columns may not be read, and why."""
        asked: dict[str, dict[str, Ref]] = defaultdict(dict)
        for column in columns:
            for r in rows.column(column).to_pylist():
                if r is not None:
                    asked[r["connector"]].setdefault(r["uri"], Ref(r["uri"], r["pos"], r["media"], r["connector"]))
        refused: dict[str, dict[str, str]] = {}
        for name, by_uri in asked.items():
            connector = self._guarded(name)
            if isinstance(connector, _Reader):
                continue  # nothing is guarded
            answers = zip(by_uri, connector.read(list(by_uri.values())), strict=True)
            refused[name] = {uri: answer.message for uri, answer in answers if isinstance(answer, ItemFailure)}
        return refused
