"""Finding k matching rows after few calls of the oracle: LIMIT, and LIMIT with a GAP.

Every row of the answer has been looked at, so there is nothing to guarantee; what is to be saved is calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aidb.stats.index import build
from aidb.stats.line import Floats, Ints, Line
from aidb.stats.orders import Beside, Order, Parts, Ranked, Similar, ranking

Count: TypeAlias = Callable[[Ints], npt.ArrayLike]
"""Item numbers, distinct and never asked before, to the number of matching rows of each (or a truth value); NaN for an
item that could not be answered."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    indices: the chosen items, sorted; each holds at least one match. rows: matches in them. labels_used: items asked.
    complete: nothing is left that could add a row, so fewer than k rows means that there are no more (with a gap: none
    that fits beside those chosen; failed items apart). failed: items that could not be answered, sorted. notes: sentences
    for the reader of the report.
    """

    indices: Ints
    rows: int
    labels_used: int
    complete: bool
    failed: Ints
    notes: tuple[str, ...] = ()


def search(
    scores: npt.ArrayLike | None,
    label: Count,
    k: int,
    *,
    embeddings: npt.NDArray[np.floating] | None = None,
    gap: float | None = None,
    positions: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    batch: int = 1,
    known: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    budget: int | None = None,
    rng: np.random.Generator,
) -> Found:
    """Ask items, the likeliest first, until k matching rows are found.

    scores: (n,), higher is likelier, or None; only their order counts, NaN comes last. embeddings: (n, d) or None.
    positions: (n,), finite, where each item lies (a frame number, seconds); groups: (n,), which video it lies in. Without
    them the order of the items is taken. At least one of these four says how many items there are.
    gap: chosen items of one group are pairwise *more* than this apart in position; then an item counts for one row, as its
    rows would be 0 apart, and after a match its neighbourhood is asked no more. The choice is greedy.
    batch: items that the oracle likes to be asked at once; a batch grows to a tenth of the calls made, and shrinks when
    fewer are expected to do. known: items and their numbers of rows, had for nothing. budget: most items to ask.

    Up to four orders compete: the proxy's, that of similar embeddings, the neighbours of matches, and random items of
    stretches of the line that held matches (ExSample). Each call goes to one of them by Thompson sampling from what it
    has lately hit, so a proxy is followed while it hits and left when it does not. A proxy that says nothing costs
    nothing; one that is turned upside down costs calls until the first random matches betray it.

    Raises ValueError if the arguments contradict one another. What `label` raises is passed on.
    """
    n = _size(scores, embeddings, positions, groups)
    if k < 0:
        raise ValueError(f"k is the number of rows to find, so it can't be {k}")
    if gap is not None and not gap >= 0:
        raise ValueError(f"gap is a distance, so it can't be {gap}")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    if budget is not None and budget < 0:
        raise ValueError(f"budget can't be negative: {budget}")
    hunt = _Hunt(Line(n, positions, groups, gap), label, k)
    if known is not None:
        hunt.take_known(*known)
    orders, notes = _orders(hunt, scores, embeddings, rng)
    limit = n if budget is None else budget
    while hunt.rows < k and hunt.line.left and hunt.used < limit:
        size = min(max(batch, hunt.used // 10), limit - hunt.used, hunt.line.left)
        hunt.ask(orders, _shares(orders, size, batch, hunt.missing, rng))
    return hunt.result(notes, limit)


def _orders(
    hunt: _Hunt, scores: npt.ArrayLike | None, embeddings: npt.NDArray[np.floating] | None, rng: np.random.Generator
) -> tuple[list[Order], list[str]]:
    """The orders that can be had, random stretches last: they take what the others leave."""
    line = hunt.line
    orders: list[Order] = []
    notes: list[str] = []
    best = None
    if scores is not None:
        by_place = np.asarray(scores, dtype=np.float64)[line.items]
        if len(by_place) and (np.all(by_place == by_place[0]) or np.isnan(by_place).all()):
            notes.append("The proxy gives all items the same score, so it was not used.")
        elif len(by_place):
            best = ranking(by_place, rng)
            rank = np.empty(line.n, dtype=np.int64)
            rank[best] = np.arange(line.n)
            orders += [Ranked(line, best), Parts(line, _stretches(rank), rng)]
    if embeddings is not None and line.n:
        clusters = build(embeddings, _parts(line.n), neighbours=1, rng=rng).nearest[line.items, 0] + 1
        orders += [Similar(line, embeddings, best, rng), Parts(line, clusters, rng)]
    if line.gap is None:
        orders.append(Beside(line))
    orders.append(Parts(line, _stretches(np.arange(line.n)), rng))
    for order in orders:
        order.learn(hunt.known_places, hunt.known_hits, own=False)
    return orders, notes


def _parts(n: int) -> int:
    """Into how many parts a table is divided."""
    return max(1, min(128, n // 64))


def _stretches(rank: Ints) -> Ints:
    """Parts of equal size by rank."""
    return rank * _parts(len(rank)) // max(1, len(rank))


def _shares(orders: list[Order], size: int, batch: int, missing: float, rng: np.random.Generator) -> Ints:
    """How many of the next calls each order gets: as many draws of all their hit rates, each won by the highest.

    Ends early where the hits expected reach the number missing, and beyond what the oracle likes to be asked at once where
    they reach half of it. Expectations start high, so that a first batch asks no more than would do if all matched.
    """
    belief = np.array([order.belief for order in orders])
    rates = rng.standard_gamma(belief[:, 0], size=(size, len(orders))) / belief[:, 1]
    rates[:, [not order.ready for order in orders]] = -1.0
    winner = rates.argmax(axis=1)
    high = np.array([(order.record.hits + 1) / (order.record.calls + 1) for order in orders])
    expected = np.cumsum(high[winner])
    half, whole = (np.searchsorted(expected, (missing / 2, missing)) + 1).tolist()
    enough = max(half, min(whole, batch))
    shares: Ints = np.bincount(winner[:enough], minlength=len(orders))
    return shares


class _Hunt:
    """The state of one search."""

    def __init__(self, line: Line, label: Count, k: int) -> None:
        self.line = line
        self.k = k
        self.used = 0
        self.rows = 0
        self.known_places: Ints = np.empty(0, dtype=np.int64)
        self.known_hits = np.empty(0, dtype=np.bool_)
        self._label = label
        self._chosen: list[int] = []
        self._hits = 0
        self._failed: list[Ints] = []

    @property
    def missing(self) -> float:
        """Items with matches that are still to be found, as far as can be told."""
        return (self.k - self.rows) * (self._hits / self.rows if self.rows else 1.0)

    def take_known(self, items: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Count what is known already."""
        given = np.asarray(items, dtype=np.int64)
        if len(np.unique(given)) != len(given) or (len(given) and not (0 <= given.min() <= given.max() < self.line.n)):
            raise ValueError(f"known items must be distinct numbers from 0 to {self.line.n - 1}")
        counts = _counts(values, len(given))
        self.known_places = self.line.places[given]
        self.line.close(self.known_places)
        self.known_hits = self._accept(self.known_places, counts)

    def ask(self, orders: list[Order], shares: Ints) -> None:
        """One batch."""
        picks = [order.take(int(share)) if share else _NONE for order, share in zip(orders, shares, strict=True)]
        lacking = int(shares.sum()) - sum(map(len, picks))
        if lacking:  # an order had less than it thought
            picks[-1] = np.concatenate([picks[-1], orders[-1].take(lacking)])
        places = np.concatenate(picks)
        self.used += len(places)
        counts = _counts(self._label(self.line.items[places]), len(places))
        hits = self._accept(places, counts)
        answered = ~np.isnan(counts)
        ends = np.cumsum([len(p) for p in picks])
        for i, (order, end) in enumerate(zip(orders, ends, strict=True)):
            own = np.zeros(len(places), dtype=np.bool_)
            own[end - len(picks[i]) : end] = True
            order.record.add(hits[own & answered])
            order.learn(places[own], hits[own], own=True)
            order.learn(places[~own], hits[~own], own=False)

    def _accept(self, places: Ints, counts: Floats) -> npt.NDArray[np.bool_]:
        """Choose the matches that fit, from left to right, which fits most in; which places matched."""
        hits: npt.NDArray[np.bool_] = counts > 0
        failed = np.isnan(counts)
        if failed.any():
            self._failed.append(self.line.items[places[failed]])
        order = np.flatnonzero(hits)
        if self.line.gap is not None:
            order = order[np.argsort(places[order])]
        for i in order:
            if self.rows < self.k and self.line.choose(int(places[i])):
                self._chosen.append(int(places[i]))
                self.rows += 1 if self.line.gap is not None else int(counts[i])
                self._hits += 1
        return hits

    def result(self, notes: list[str], limit: int) -> Found:
        """What was found, in the order of the items."""
        complete = self.line.left == 0
        if self.rows < self.k and not complete:
            notes.append(f"The budget of {limit:,} calls ended the search at {self.rows:,} of {self.k:,} rows.")
        failed = np.sort(np.concatenate(self._failed)) if self._failed else _NONE
        if len(failed):
            notes.append(f"{len(failed):,} items could not be answered; matches in them are not excluded.")
        chosen = np.sort(self.line.items[np.array(self._chosen, dtype=np.int64)])
        return Found(chosen, self.rows, self.used, complete, failed, tuple(notes))


_NONE: Ints = np.empty(0, dtype=np.int64)


def _size(*columns: npt.ArrayLike | None) -> int:
    names = ("scores", "embeddings", "positions", "groups")
    sizes: dict[str, tuple[int, ...]] = {
        name: np.shape(column) for name, column in zip(names, columns, strict=True) if column is not None
    }
    if not sizes:
        raise ValueError("give scores, embeddings, positions or groups: one must say how many items there are")
    for name, shape in sizes.items():
        if len(shape) != (2 if name == "embeddings" else 1):
            raise ValueError(f"{name} can't have shape {shape}")
    if len({shape[0] for shape in sizes.values()}) > 1:
        raise ValueError(f"as many of each are needed: {', '.join(f'{k} {s[0]}' for k, s in sizes.items())}")
    return next(iter(sizes.values()))[0]


def _counts(values: npt.ArrayLike, count: int) -> Floats:
    given = np.asarray(values, dtype=np.float64)
    if given.shape != (count,):
        raise ValueError(f"label() was asked for {count} items and gave an array of shape {given.shape}")
    if np.any(given < 0) or np.any(np.isinf(given)) or np.any(given != np.floor(given), where=~np.isnan(given)):
        raise ValueError("label() must give numbers of rows: whole, not negative, NaN where there is no answer")
    return given
