"""Scores of the open items: what the proxy says of each.

A proxy may be anything; no guarantee rests on it. What it reads is an exact query of its own, ``SELECT key, (expression)``,
so that its models run on the open items only, and their answers are kept like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from aidb.catalog.definitions import IndexDefinition, ProxyDefinition
from aidb.errors import ProgrammingError
from aidb.exec.guarantees.answered import ANSWERED, Answered
from aidb.exec.guarantees.items import OPEN, Floats, Items
from aidb.exec.proxies import learning
from aidb.exec.proxies.reading import Exact, Place, Vectors, kinds, numbers, query, read, vectors
from aidb.plan.parts import Shares
from aidb.stats.calibrate import quality
from aidb.stats.index import build

BOTH = "__aidb_both"
"""Temporary table of the open items and, numbered behind them, the answered ones."""
LEAST_ANSWERED = 10
"""Answered items from which on their answers are spread to the others."""


@dataclass(frozen=True)
class Scores:
    """values: one for each open item, NaN where there is none; None without a proxy. name: for the report.

    embeddings: of the open items, where a semantic index has them: a row each.
    """

    values: Floats | None
    name: str | None = None
    notes: tuple[str, ...] = ()
    embeddings: Vectors | None = None


class Proxy(Protocol):
    """What can score open items."""

    @property
    def name(self) -> str:
        """For the report."""
        ...

    def query(self, items: Items) -> str:
        """What it reads, in the user's dialect."""
        ...

    def scores(self, items: Items, exact: Exact) -> Scores:
        """Score all open items."""
        ...


def place_of(items: Items, alias: str | None = None) -> Place:
    """Where an item's values are read."""
    relation = items.questions.relations.get(items.unit.table)
    table = items.unit.table if relation is None else relation.name
    return Place(table, items.unit.keys, items.unit.null_safe, alias)


@dataclass(frozen=True)
class Expression:
    """The value of an expression. sql: over the unit's table, which it calls by its name, or by ``alias``."""

    name: str
    sql: str
    alias: str | None = None

    def query(self, items: Items, among: str = OPEN) -> str:
        """See `Proxy`."""
        return query(place_of(items, self.alias), [self.sql], among)

    def values(self, items: Items, exact: Exact, among: str = OPEN) -> Floats:
        """One for each item of a table, NaN for NULL."""
        place = place_of(items, self.alias)
        numbers(kinds(place, [self.sql], among, exact)[0], self.name)
        found = read(items.questions.database, place, [self.sql], among, exact)
        return numbers(found[0], self.name)

    def scores(self, items: Items, exact: Exact) -> Scores:
        """See `Proxy`."""
        return Scores(self.values(items, exact), self.name)


@dataclass(frozen=True)
class Learned:
    """A registered proxy that was trained or calibrated. features: SQL of what it reads."""

    proxy: ProxyDefinition
    features: tuple[str, ...]

    @property
    def name(self) -> str:
        """See `Proxy`."""
        return self.proxy.name

    def query(self, items: Items) -> str:
        """See `Proxy`."""
        return query(place_of(items), self.features, OPEN)

    def scores(self, items: Items, exact: Exact) -> Scores:
        """See `Proxy`."""
        found = read(items.questions.database, place_of(items), self.features, OPEN, exact, many="any_value")
        inputs = vectors(found, self.features)
        if self.proxy.learned is None and inputs.shape[1:] != (1,):
            raise ProgrammingError(f"the proxy {self.name} must be one number for each item, not {inputs.shape[1]}")
        return Scores(learning.score(self.proxy.learned, self.proxy.calibration, inputs), self.name)


@dataclass(frozen=True)
class Spread:
    """A semantic index: each open item gets what its nearest answered ones had. features: SQL of the embedding.

    shares: of a statement with an error target. strict: scores that foretell no answers left out are not used.
    """

    index: IndexDefinition
    features: tuple[str, ...]
    shares: Shares | None = None
    strict: bool = False

    @property
    def name(self) -> str:
        """See `Proxy`."""
        return self.index.name

    def query(self, items: Items) -> str:
        """See `Proxy`."""
        return query(place_of(items), self.features, OPEN)

    def scores(self, items: Items, exact: Exact) -> Scores:
        """See `Proxy`."""
        answered = Answered.of(items, self.shares)
        keys = ", ".join(f"__k{n}" for n in range(len(items.unit.keys)))
        items.questions.keep(
            BOTH,
            f"SELECT __row, {keys} FROM {OPEN} UNION ALL SELECT __row + {items.n}, {keys} FROM {ANSWERED}",
        )
        found = read(items.questions.database, place_of(items), self.features, BOTH, exact, many="any_value")
        embeddings = vectors(found, self.features)
        known = len(answered.places)
        mine = embeddings[: items.n] if np.isfinite(embeddings[: items.n]).all(axis=1).any() else None
        if known < LEAST_ANSWERED or np.ptp(answered.values) == 0:
            what = "all alike" if known >= LEAST_ANSWERED else "too few"
            note = f"the index {self.name} says nothing yet: {known:,} items are answered, {what}"
            return Scores(None, self.name, (note,), mine)
        told = foretold_correlation(embeddings[answered.places], answered.values)
        note = f"the index {self.name} spreads {known:,} answers that were known; left out, they correlate {told:.2f}"
        if self.strict and told < learning.LEAST_CORRELATION:
            return Scores(None, None, (f"{note}, so it was not used",), mine)
        return Scores(spread(embeddings, answered)[: items.n], self.name, (note,), mine)


def foretold_correlation(embeddings: Vectors, values: Floats) -> float:
    """How well answers are told by those of their neighbours: each fifth by the others."""
    found = np.full(len(values), np.nan)
    fold = np.random.default_rng(0).permutation(len(values)) % 5
    for part in range(5):
        others = np.flatnonzero(fold != part)
        told = spread(embeddings, Answered(others, values[others]))
        found[fold == part] = told[fold == part]
    there = np.isfinite(found)
    if there.sum() < 2 or np.ptp(found[there]) == 0 or np.ptp(values[there]) == 0:
        return 0.0
    return float(np.corrcoef(found[there], values[there])[0, 1])


def spread(embeddings: Vectors, answered: Answered) -> Floats:
    """Each item's score by its nearest answered neighbours; NaN without an embedding."""
    index = build(embeddings, 0, known=answered.places, rng=np.random.default_rng(0))
    by_place = dict(zip(answered.places.tolist(), answered.values.tolist(), strict=True))
    return index.propagate([by_place[p] for p in index.representatives.tolist()])


def agreement(scores: Floats, answered: Floats) -> float:
    """Standard deviations by which a proxy's rank correlation with known answers lies above none."""
    there = np.isfinite(scores)
    return quality(scores[there], answered[there]).evidence if there.any() else 0.0
