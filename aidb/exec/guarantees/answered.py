"""Items that were answered already: what is known of them guides the search among the open ones.

They have left the population that a guarantee samples, as constants, so that nothing is certified by what a proxy has
learned from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from aidb.errors import NotSupportedError, ProgrammingError
from aidb.exec.guarantees.items import OPEN, Floats, Ints, Items
from aidb.plan.nodes import listed, parse
from aidb.plan.parts import Shares
from aidb.plan.unverified import unverified_rows

ANSWERED = "__aidb_answered"
MOST = 2000
"""Answered items that are looked at; of more, random ones."""


@dataclass(frozen=True)
class Answered:
    """places: numbers of items among the open ones and, behind them, those of the table ``ANSWERED``. values: rows of the
    answer that each gives, or its share of a sum."""

    places: Ints
    values: Floats

    @staticmethod
    def of(items: Items, shares: Shares | None = None) -> Answered:
        """Those of a statement. shares: of a statement with an error target."""
        questions = items.questions
        _name(items)
        counts = questions.query(
            f"SELECT a.__row AS r, c.v FROM ({_values(items, shares)}) c JOIN {ANSWERED} a ON {items.on('a', 'c', '__u')}"
        )
        size = int(questions.query(f"SELECT count(*) FROM {ANSWERED}").column(0)[0].as_py())
        values = np.zeros(size)
        values[counts.column("r").to_numpy()] = np.nan_to_num(counts.column("v").cast(pa.float64()).to_numpy())
        known, rows = items.known
        return Answered(
            np.concatenate([known, items.n + np.arange(size)]), np.concatenate([rows.astype(np.float64), values])
        )


def _values(items: Items, shares: Shares | None) -> str:
    """SQL of each item's value: its part of the one sum that is asked for, else its number of rows."""
    if shares is not None and not shares.groups and [a.kind for a in shares.aggregates] == ["sum"]:
        keys = ", ".join(f"__u{n}" for n in range(len(items.unit.keys)))
        return f"SELECT {keys}, __s0 AS v FROM ({items.parts.shares(without=OPEN).sql})"
    return f"SELECT * EXCLUDE (__rows), __rows AS v FROM ({items.parts.counts(without=OPEN)})"


def _name(items: Items) -> None:
    """Number the items that a model of the query has answered and that are not open, as far as stored columns let them in."""
    questions = items.questions
    columns = ", ".join(f"__k{n}" for n in range(len(items.unit.keys)))
    fills = [f for f in questions.plan(items.parts.counts(only=OPEN)).fills if items.is_ours(f)]
    texts = [items.units_of(f, f"(FROM {f.ledger} WHERE NOT _failed)") for f in fills]
    union = " UNION ".join(texts) or f"SELECT {columns} FROM {OPEN} LIMIT 0"
    questions.keep(
        ANSWERED,
        f"SELECT {columns} FROM ({union}) AS s WHERE NOT EXISTS (SELECT 1 FROM {OPEN} o WHERE {items.on('o', 's', '__k')})",
    )
    stored = _let_in(items)
    if stored is not None:
        theirs = ", ".join(f"__u{n} AS __k{n}" for n in range(len(items.unit.keys)))
        questions.keep("__aidb_let_in", f"SELECT DISTINCT {theirs} FROM ({stored})")
        questions.keep(ANSWERED, f"SELECT {columns} FROM __aidb_let_in")
    questions.keep(
        ANSWERED,
        f"SELECT row_number() OVER (ORDER BY {columns}) - 1 AS __row, {columns} FROM "
        f"(SELECT * FROM {ANSWERED} ORDER BY hash({columns}) LIMIT {MOST})",
    )


def _let_in(items: Items) -> str | None:
    """The keys of answered items that the query's conditions on stored columns let in; None where they can't be told."""
    tree = items.parts.units.tree.copy()
    keys = listed(parse(f"SELECT {', '.join(items.parts.keys)}").args.get("expressions"))
    tree.set("expressions", keys)
    for clause in ("distinct", "group", "having", "qualify", "order", "limit", "offset"):
        tree.set(clause, None)
    try:
        return unverified_rows(replace(items.parts.units, tree=tree), items.questions.relations, ANSWERED)
    except (NotSupportedError, ProgrammingError):
        return None


def open_representatives(items: Items, table: str, count: int) -> Ints:
    """Numbers of open items among the representatives in a table, the first ones first, ``count`` at most."""
    same = " AND ".join(f"o.__k{n} = r.__k{n}" for n in range(len(items.unit.keys)))
    found = items.questions.query(
        f"SELECT o.__row FROM {OPEN} o JOIN {table} r ON {same} ORDER BY r.place LIMIT {count}"
    )
    return np.sort(found.column(0).to_numpy()).astype(np.int64)
