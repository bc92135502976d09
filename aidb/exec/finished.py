"""Fills that have seen every item there is: nothing must be asked about them until items change.

That a fill is finished is found out by one query over all of its items and then remembered, for all connections of this
process. It holds while no definition changes (items come and go by REFRESH, answers go by RETRY FAILED, and both count
as definitions) and while the numbers of items and of answered ones, which cost nothing to ask, are what they were: a
transaction that began earlier, for one, sees what once was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from aidb.catalog.names import quoted
from aidb.catalog.relations import Fill, Relations
from aidb.exec.control import Before
from aidb.plan.names import before, is_row_each
from aidb.plan.possible import missing_items
from aidb.storage.database import Database, Shared
from aidb.storage.translated import translated


@dataclass
class _Known:
    """version: of the definitions for which it holds. finished: ledger -> how many items there are, and are in it."""

    version: int
    finished: dict[str, tuple[int, int]] = field(default_factory=dict)


_known: WeakKeyDictionary[Shared, _Known] = WeakKeyDictionary()


class Finished:
    """What one connection knows and finds out about finished fills."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def among(self, fills: Sequence[Fill], relations: Relations) -> tuple[frozenset[Fill], Before]:
        """Which of these fills are finished, ancestors first; and how many items are over."""
        known = self._known()
        parents = {fill: _parent(fill, relations) for fill in fills}
        failed = {fill: f"{fill.ledger} WHERE _failed" for fill in fills}
        tables = [*(fill.ledger for fill in fills), *(p for p in parents.values() if p is not None), *failed.values()]
        counts = self._counts(tables)
        finished: set[Fill] = set()
        over = Before()
        for fill, parent in parents.items():
            done = counts[fill.ledger]
            over.done[fill.model] += done
            over.failed[fill.model] += counts[failed[fill]]
            # While new items may come from its ancestors it is not finished.
            if parent is None or not all(f in finished for f in before(fill, relations)):
                continue
            now = (counts[parent], done)
            if known.get(fill.ledger) != now:
                # Which items they are is asked only if their numbers allow it to be all.
                if done < counts[parent] or not self._has_all(fill, parent, relations, done == counts[parent]):
                    continue
                known[fill.ledger] = now
            finished.add(fill)
        return frozenset(finished), over

    def _has_all(self, fill: Fill, parent: str, relations: Relations, equal: bool) -> bool:
        """Is every item in the ledger? equal: do both have as many rows?

        Then the same keys mean the same digests, which takes no memory; a join of both would hold one of them.
        """
        if equal and is_row_each(fill, relations):
            h = f"hash({', '.join(map(quoted, fill.keys))})"
            digests = (f"(SELECT (bit_xor({h}), sum({h})) FROM {table})" for table in (parent, fill.ledger))
            if self._row(" = ".join(digests))[0]:
                return True
        return not self._exists(missing_items(fill, relations))

    def _known(self) -> dict[str, tuple[int, int]]:
        shared = self._database.shared
        with shared.lock:
            known = _known.get(shared)
            if known is None or known.version != shared.version:
                known = _known[shared] = _Known(shared.version)
            return known.finished

    def _counts(self, tables: Iterable[str]) -> dict[str, int]:
        """Rows of each table, or subselect, or part of a table (``name WHERE ...``)."""
        distinct = list(dict.fromkeys(tables))
        if not distinct:
            return {}
        row = self._row(", ".join(f"(SELECT count(*) FROM {table})" for table in distinct))
        return {table: int(n) for table, n in zip(distinct, row, strict=True)}

    def _exists(self, query: str) -> bool:
        return bool(self._row(f"EXISTS (FROM ({query}))")[0])

    def _row(self, expressions: str) -> tuple[int, ...]:
        with self._database.lock, translated():
            row: tuple[int, ...] = self._database.user.execute(f"SELECT {expressions}").fetchall()[0]
        return row


def _parent(fill: Fill, relations: Relations) -> str | None:
    """SQL name of the table whose rows are the items; None for pairs, and for plain tables, which any INSERT changes."""
    relation = relations.get(fill.parents[0])
    return None if fill.null_safe or len(fill.parents) != 1 or relation is None else relation.base
