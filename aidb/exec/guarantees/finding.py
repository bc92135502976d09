"""LIMIT by adaptive search, and LIMIT with a GAP: exact rows, from few calls."""

from __future__ import annotations

import numpy as np

from aidb.catalog.names import quoted
from aidb.errors import ProgrammingError
from aidb.exec.guarantees.budget import allowance
from aidb.exec.guarantees.items import OPEN, OUT, Floats, Ints, Items
from aidb.exec.guarantees.outcome import Guaranteed
from aidb.exec.guarantees.questions import Questions
from aidb.exec.guarantees.scoring import Scores
from aidb.sql.statements import Guarantee
from aidb.stats.finding import Found, search

_PLACES = {"frames": ("frame",), "seconds": ("ts", "seconds", "time")}
"""Columns of a blob table that say where an item lies, by the unit of a GAP."""


class Finding:
    """One statement with a LIMIT whose items are looked for one after the other."""

    def __init__(self, questions: Questions, items: Items, guarantee: Guarantee, limit: int) -> None:
        self.questions, self.items, self.guarantee, self.limit = questions, items, guarantee, limit

    def run(self, scores: Scores, rng: np.random.Generator) -> Guaranteed:
        """Ask until there are enough rows, and show them."""
        items, guarantee = self.items, self.guarantee
        before = self.questions.oracle_calls()
        allowed = allowance(items, guarantee, rng, lambda rows: None)
        positions, groups = self._places() if guarantee.gap is not None else (None, None)
        found = search(
            scores.values,
            self._count,
            self.limit,
            embeddings=scores.embeddings if items.n > len(items.known[0]) else None,
            gap=guarantee.gap,
            positions=positions if positions is not None else np.arange(items.n),
            groups=groups,
            known=items.known,
            budget=allowed.labels,
            rng=rng,
        )
        sql = self._rows(found)
        answer = self.questions.database.execute(sql, self.questions.given(sql))
        return Guaranteed(
            answer=answer,
            mode="exact",
            target={"limit": float(self.limit)},
            method="search",
            labels=items.asked,
            oracle_calls=self.questions.oracle_calls() - before,
            failed=len(found.failed),
            proxy=scores.name,
            notes=(*found.notes, *self._said(found), *scores.notes),
        )

    def _count(self, rows: Ints) -> Floats:
        return self.items.counts(rows)

    def _rows(self, found: Found) -> str:
        items = self.items
        out = np.ones(items.n, dtype=bool)
        out[found.indices] = False
        items.choose(OUT, np.flatnonzero(out))
        if self.guarantee.gap is None:
            return items.parts.rows(without=OUT)
        # Rows of one item are no distance apart, so that each may give one.
        keys = ", ".join(f"__u{n}" for n in range(len(items.unit.keys)))
        rows = items.parts.rows(without=OUT, more=items.parts.keys, tail=False)
        return (
            f"SELECT * EXCLUDE ({keys}) FROM ({rows}) AS __found QUALIFY row_number() OVER (PARTITION BY {keys}) = 1 "
            f"ORDER BY {keys} {items.parts.tail()}"
        )

    def _said(self, found: Found) -> list[str]:
        if found.rows >= self.limit or not found.complete:
            return []
        return ["every item was looked at: there are no more rows"]

    def _places(self) -> tuple[Floats, Ints | None]:
        """Where each open item lies, and in which file."""
        unit, relations = self.items.unit, self.questions.relations
        relation = relations.get(unit.table)
        assert relation is not None
        has = {c.lower(): c for c in relation.columns}
        wanted = self.guarantee.gap_unit or "rows"
        column = next((has[c] for c in _PLACES.get(wanted, ()) if c in has), None)
        if wanted == "seconds" and column is None:
            raise ProgrammingError(
                f"GAP in seconds needs a column ts (seconds) in {relation.name}; GAP {self.guarantee.gap:g} ROWS counts items"
            )
        keys = ", ".join(f"b.{quoted(k)}" for k in unit.keys)
        place = f"b.{quoted(column)}" if column else f"row_number() OVER (ORDER BY {keys})"
        file = f"dense_rank() OVER (ORDER BY b.{quoted(has['file'])})" if "file" in has else "0"
        same = " AND ".join(f"o.__k{n} = p.{quoted(k)}" for n, k in enumerate(unit.keys))
        found = self.questions.query(
            f"SELECT o.__row AS r, p.__place::DOUBLE AS p, p.__file::BIGINT AS f FROM {OPEN} o JOIN "
            f"(SELECT {keys}, {place} AS __place, {file} AS __file FROM {relation.base} b) p ON {same} ORDER BY r"
        )
        return found.column("p").to_numpy(), found.column("f").to_numpy()
