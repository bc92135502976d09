"""The items whose part of the answer is still open: numbered, for the statistics; asked about in batches, for them.

All other items give their rows for free: no model has anything left to say of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aidb.catalog.names import quoted
from aidb.catalog.relations import Fill
from aidb.exec.guarantees.questions import Questions
from aidb.plan.names import with_ancestors
from aidb.plan.parts import Parts
from aidb.plan.unit import as_keys, units_of
from aidb.plan.units import Unit, root_of

OPEN, ASKED, OUT, SHOWN = "__aidb_open", "__aidb_asked", "__aidb_out", "__aidb_shown"
"""Temporary tables of units' keys: all that are open, those asked about now, those left out, those shown unverified."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupedShares:
    """Shares of some items by group: one row for each item and group that occur together.

    place: which of the asked items. groups: one row a group, with its values as DuckDB gave them; group: which of them.
    values: columns as `plan.parts.Shares` lists them, NULL (a sum of nothing) as 0. failed: places of items that could
    not be answered.
    """

    place: Ints
    group: Ints
    groups: pa.Table
    values: Floats
    failed: Ints


class Items:
    """The open items of one statement. n: how many; numbers are places in the order of the key."""

    def __init__(self, questions: Questions, parts: Parts, *, with_known: bool = False) -> None:
        self.questions, self.parts = questions, parts
        self.unit: Unit = parts.unit
        self.known: tuple[Ints, Ints] = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        """Numbers of items that are not open but give rows, and how many: only if they were asked for."""
        self.seconds = 0.0
        """Spent on asking, by wall clock."""
        self.asked = 0
        self._name()
        questions.plan(parts.counts(only=ASKED))
        if with_known:
            self._add_known()

    def _name(self) -> None:
        """Find the open items and number them."""
        keys = range(len(self.unit.keys))
        columns = ", ".join(f"__k{n}" for n in keys)
        missing = self.questions.missing(self.questions.sql)
        self.fills = tuple(missing)
        texts, tables = [], {}
        for place, (fill, found) in enumerate(missing.items()):
            name = f"aidb_missing_{place}"
            tables[name] = found
            texts.append(self.units_of(fill, name))
        union = " UNION ".join(texts) if texts else self._nothing()
        order = ", ".join(f"__k{n}" for n in keys)
        self.questions.keep(
            OPEN, f"SELECT row_number() OVER (ORDER BY {order}) - 1 AS __row, {columns} FROM ({union})", **tables
        )
        self.n = int(self.questions.query(f"SELECT count(*) FROM {OPEN}").column(0)[0].as_py())
        for name in (ASKED, OUT, SHOWN):
            self.questions.keep(name, f"SELECT {columns} FROM {OPEN} LIMIT 0")

    def _add_known(self) -> None:
        """Number the items too that give rows without being asked about."""
        keys = [f"__k{n}" for n in range(len(self.unit.keys))]
        theirs = ", ".join(f"__u{n} AS __k{n}" for n in range(len(self.unit.keys)))
        known = self.questions.query(f"SELECT {theirs}, __rows FROM ({self.parts.counts(without=OPEN)})")
        if not known.num_rows:
            return
        columns = ", ".join(keys)
        both = f"SELECT {columns}, 0 AS __rows FROM {OPEN} UNION ALL SELECT {columns}, __rows FROM aidb_known"
        self.questions.keep(
            "__aidb_numbered",
            f"SELECT row_number() OVER (ORDER BY {columns}) - 1 AS __row, {columns}, __rows FROM ({both})",
            aidb_known=known,
        )
        self.questions.keep(OPEN, "SELECT * EXCLUDE (__rows) FROM __aidb_numbered")
        self.n += known.num_rows
        found = self.questions.query("SELECT __row, __rows FROM __aidb_numbered WHERE __rows > 0 ORDER BY 1")
        self.known = found.column(0).to_numpy(), found.column(1).cast(pa.int64()).to_numpy()

    def units_of(self, fill: Fill, name: str) -> str:
        """See `aidb.plan.unit.units_of`."""
        return units_of(fill, name, self.unit, self.questions.relations)

    def _nothing(self) -> str:
        relation = self.questions.relations.get(self.unit.table)
        assert relation is not None
        return f"SELECT {as_keys(map(quoted, self.unit.keys))} FROM {relation.base} LIMIT 0"

    # ---- asking

    def choose(self, table: str, rows: npt.ArrayLike) -> None:
        """Fill a temporary table with the keys of some items."""
        columns = ", ".join(f"__k{n}" for n in range(len(self.unit.keys)))
        numbers = pa.table({"r": pa.array(np.asarray(rows, dtype=np.int64))})
        self.questions.keep(table, f"SELECT {columns} FROM {OPEN} JOIN aidb_rows ON __row = r", aidb_rows=numbers)

    def counts(self, rows: Ints) -> Floats:
        """How many rows of the answer each item gives; NaN where a model failed and none came."""
        started = time.monotonic()
        self.choose(ASKED, rows)
        text = self.parts.counts(only=ASKED)
        self.questions.materialise(text)
        found = self.questions.query(
            f"SELECT o.__row AS r, c.__rows AS n FROM ({text}) c JOIN {OPEN} o ON {self.on('o', 'c', '__u')}"
        )
        values = np.zeros(len(rows))
        values[np.isin(rows, self.failed())] = np.nan
        order = np.argsort(rows)
        places = order[np.searchsorted(rows[order], found.column("r").to_numpy())]
        values[places] = found.column("n").to_numpy()
        self.asked += len(rows)
        self.seconds += time.monotonic() - started
        return values

    def shares(self, rows: Ints) -> GroupedShares:
        """Each item's share of the aggregates, by group."""
        started = time.monotonic()
        self.choose(ASKED, rows)
        shares = self.parts.shares(only=ASKED)
        self.questions.materialise(shares.sql)
        text = f"SELECT o.__row AS __r, s.* FROM ({shares.sql}) s JOIN {OPEN} o ON {self.on('o', 's', '__u')}"
        found = self.questions.query(text)
        order = np.argsort(rows)
        place = order[np.searchsorted(rows[order], found.column("__r").to_numpy())]
        failed = np.flatnonzero(np.isin(rows, self.failed()))
        self.asked += len(rows)
        self.seconds += time.monotonic() - started
        return grouped(found, len(shares.groups), shares.columns, place, failed)

    def known_shares(self) -> GroupedShares:
        """The share of all items that are not open, as that of one item."""
        shares = self.parts.shares(without=OPEN)
        columns = [*(f"__g{n}" for n in range(len(shares.groups)))]
        sums = [f"sum(__s{n}) AS __s{n}" for n in range(shares.columns)]
        tail = f" GROUP BY {', '.join(columns)}" if columns else ""
        found = self.questions.query(f"SELECT {', '.join([*columns, *sums])} FROM ({shares.sql}) s{tail}")
        nobody = np.zeros(0, dtype=np.int64)
        return grouped(found, len(shares.groups), shares.columns, np.zeros(found.num_rows, dtype=np.int64), nobody)

    def known_rows(self) -> int:
        """Rows of the answer that items give which are not open."""
        text = f"SELECT count(*) AS n FROM ({self.parts.counts(without=OPEN)})"
        return int(self.questions.query(text).column(0)[0].as_py())

    def failed(self) -> Ints:
        """Open items that some model has failed on."""
        found: list[Ints] = []
        relations = self.questions.relations
        fills = dict.fromkeys(a for f in self.questions.fills for a in with_ancestors(f, relations))
        for fill in fills:
            if self.is_ours(fill):
                text = (
                    f"SELECT DISTINCT o.__row FROM {OPEN} o JOIN ({self.units_of(fill, f'(FROM {fill.ledger} WHERE _failed)')}) "
                    f"f ON {self.on('o', 'f', '__k')}"
                )
                found.append(self.questions.query(text).column(0).to_numpy())
        return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

    def is_ours(self, fill: Fill) -> bool:
        """Do a fill's items belong to the units?"""
        return root_of(fill, self.questions.relations)[0] == self.unit.table

    def on(self, one: str, other: str, prefix: str) -> str:
        """The condition that two tables' keys are the same; the second's columns begin with ``prefix``."""
        same = "IS NOT DISTINCT FROM" if self.unit.null_safe else "="
        return " AND ".join(f"{one}.__k{n} {same} {other}.{prefix}{n}" for n in range(len(self.unit.keys)))


def grouped(found: pa.Table, groups: int, columns: int, place: Ints, failed: Ints) -> GroupedShares:
    """Shares as DuckDB gave them, with a number for each group."""
    names = [f"__g{n}" for n in range(groups)]
    values = np.column_stack(
        [
            np.asarray(pc.fill_null(found.column(f"__s{n}").cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False))
            for n in range(columns)
        ]
    )
    if not groups:
        return GroupedShares(place, np.zeros(found.num_rows, dtype=np.int64), pa.table({}), values, failed)
    numbers: dict[tuple[object, ...], int] = {}
    rows = list(zip(*(found.column(n).to_pylist() for n in names), strict=True))
    codes = np.array([numbers.setdefault(row, len(numbers)) for row in rows], dtype=np.int64)
    first = np.unique(codes, return_index=True)[1]
    return GroupedShares(place, codes, found.select(names).take(pa.array(first)), values, failed)
