"""Recall with fewer labels than an exact certificate needs: one random row of each cell of ranks, in two stages.

A cell is a block of neighbouring ranks of which one row is labelled, so every row of a cell of size z is labelled with
probability 1/z. Small cells near the top label everything there; large ones look deep at little cost, and nowhere is a
row labelled twice. A pilot finds where the positives end; a second stage looks closely at that place and beyond it.

The certificate is **asymptotic**. It takes the weighted sum of the positives that were hit for a weighted sum of
Poisson counts, adds one positive that was not seen a little deeper than the deepest that was, and asks in
`aidb.stats.selection.promise` whether the scores warn of more. Positives hidden deep of which neither labels nor scores
tell are not excluded: no method that returns less than most of the table can exclude them with fewer than about
ln(1/delta) * recall / (1 - recall) / prevalence labels.

The upper limit of a weighted Poisson sum is that of M. P. Fay and E. J. Feuer, *Confidence intervals for directly
standardized rates*, Statistics in Medicine 16 (1997).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from aidb.stats.selection.population import NO, YES, Floats, Ints, Population
from aidb.stats.selection.promise import MODEST, doubtful, misplaced, promised, trailing
from aidb.stats.selection.result import Chosen


@dataclass(frozen=True)
class Plan:
    """How the labels are spent, and how careful the certificate is.

    pilot: share of the labels for the first stage. finish: share of the rest that verifies returned rows, if that
    reaches far enough. zone: share of the second stage that is flat around and beyond the place where the recall is
    reached; close: share that is flat above it. near: labels in the zone per allowed miss, so that a hit there weighs
    little. beyond: an unseen positive is supposed to lie 1 + beyond / labels times deeper than the deepest seen. safety: divides
    delta in the limit of the misses. trust: share of the allowed misses up to which the promise of the scores may go.
    doubt: share of the second stage that goes to the surest scores, if the pilot leaves open whether a share of all scores
    is misplaced. most: a cut that keeps a larger share of the rows than that gains little, and is none.
    """

    pilot: float = 0.3
    finish: float = 0.25
    zone: float = 0.7
    close: float = 0.15
    near: float = 5.0
    beyond: float = 150.0
    safety: float = 1.5
    trust: float = 0.5
    doubt: float = 0.05
    most: float = 0.8


USUAL = Plan()
STRICT = Plan(near=2.5, beyond=1000.0, safety=2.0)
"""For recalls above 0.92, where the usual plan promises too much."""


def cells(
    population: Population, recall: float, delta: float, rng: np.random.Generator, plan: Plan | None = None
) -> Chosen:
    """Spend the labels that are left; a cut that meets the recall with probability about 1 - delta."""
    plan = plan or (USUAL if recall <= 0.92 else STRICT)
    allowed = (1 - recall) / recall
    if population.left < 2:
        return _everything(population, "There were too few labels to learn anything: every row is returned.", None)
    known = len(population.positives())
    grid = _Grid(population)
    sample = _draw(population, grid, plan, recall, known, rng)
    certificate = _Certificate(grid, sample, known, allowed, delta / plan.safety, plan)
    prevalence = max(certificate.total, 3.0) / population.n
    needed = math.ceil(-math.log(delta) / allowed / prevalence)
    cut, why = (None, _MISPLACED) if _heed(population, grid, misplaced) else certificate.cut()
    if cut is None:
        _finish(population, population.n)
        return _everything(population, why, needed)
    rank = int(grid.rows[cut])
    blind = len(population.unknown(rank))
    looked = int(np.count_nonzero(sample.rows >= cut))
    _finish(population, rank)
    more = f" and could hold {math.ceil(3 * blind / looked):,} more" if looked else ""
    note = (
        f"Positives hidden among low scores are not excluded: below the cut lie {blind:,} unlabelled rows, "
        f"which had {looked:,} labels{more}. An exact promise needs about {needed:,} labels."
    )
    return Chosen(rank, "asymptotic", "cells", labels_needed=needed, notes=(note,))


_MISPLACED = (
    "At every score fewer rows are positive than it says, by one factor: a share of the rows seems to carry the score of "
    "another row. So every row is returned but those that were found negative."
)


def _heed(population: Population, grid: _Grid, warning: Callable[[Floats, Floats, float], bool]) -> bool:
    """A warning of the scores, by every label there is: those known beforehand were hardly chosen by their truth."""
    told = np.flatnonzero((population.labels == YES) | (population.labels == NO))
    positive = (population.labels[told] == YES).astype(np.float64)
    return grid.scores is not None and warning(population.scores[told], positive, grid.mean)


def _everything(population: Population, why: str, needed: int | None) -> Chosen:
    return Chosen(population.n, "asymptotic", "cells", labels_needed=needed, notes=(why,))


def _finish(population: Population, rank: int) -> None:
    """Spend what is left on the worst rows to be returned; if all of these are labelled, on the best ones below."""
    if population.left and rank:
        population.ask(population.unknown(0, rank)[-population.left :])
    if population.left:
        population.ask(population.unknown(rank)[: population.left])


class _Grid:
    """The rows that may be drawn, best first, in bins of neighbours that are fine at both ends.

    A position counts these rows alone. scores: by position, None if they lie outside [0, 1]. unscored: how many of the
    last positions have no score.
    """

    def __init__(self, population: Population) -> None:
        self.rows = population.unknown()
        n = self.n = len(self.rows)
        scores = population.scores[self.rows]
        self.unscored = n - int(np.searchsorted(self.rows, population.n - population.unscored))
        self.lowest = int(np.searchsorted(-scores, -scores[-1]))  # from here on all scores are the same
        fine = np.round(np.geomspace(1, n, 500)).astype(np.int64)
        even = np.linspace(0, n, 60).astype(np.int64)
        self.edges = np.unique(np.concatenate([[0, self.lowest], fine, even]))
        self.sizes = np.diff(self.edges).astype(np.float64)
        self.middle = (self.edges[:-1] + self.edges[1:]) / 2
        probable = scores[0] <= 1 and scores[-1] >= 0
        self.scores = scores if probable else None
        self.mean = float(scores.mean())
        self.first = self._first()

    def _first(self) -> Floats:
        """Labels per bin of the pilot, as shares.

        By score, as importance sampling would have it; where the proxy is sure, as a miss tells most there (see
        `misplaced`); by the logarithm of the rank, so that little depends on the size
        of the scores; a few everywhere; a few at the very bottom, where those land that the proxy gets wrong or has no
        answer for: rows next to the last, and those that share the lowest score.
        """
        edge = 20 + 0.0005 * self.n
        by_rank = _shares(self.sizes / (self.middle + edge))
        by_score = by_rank
        if self.scores is not None and self.scores[0] > 0:
            by_score = _shares(np.add.reduceat(np.sqrt(self.scores), self.edges[:-1]))
            sure = _shares(np.add.reduceat((self.scores / (1.05 - self.scores)) ** 2, self.edges[:-1]))
            by_score = 0.7 * by_score + 0.3 * sure
        bottom = _shares(self.sizes / (self.n - self.middle + edge))
        lowest = _shares(np.where(self.edges[:-1] >= self.lowest, self.sizes, 0.0))
        return 0.4 * by_score + 0.5 * by_rank + 0.05 * _shares(self.sizes) + 0.025 * (bottom + lowest)


class _Stage:
    """One draw: a row of each cell. rows: positions, ascending."""

    def __init__(self, edges: Ints, sizes: Floats, shares: Floats, count: int, rng: np.random.Generator) -> None:
        """Bins between edges, of so many rows; about shares[j] of the `count` cells lie in bin j."""
        n = int(edges[-1])
        reached = np.concatenate([[0.0], np.cumsum(_spread(sizes, shares, count))])
        bounds = np.round(np.interp(np.arange(count + 1), reached * (count / reached[-1]), edges)).astype(np.int64)
        bounds[0], bounds[-1] = 0, n
        step = np.arange(count + 1)  # no cell is empty
        self.bounds = np.minimum(np.maximum.accumulate(bounds - step) + step, n - (count - step))
        self.sizes = np.diff(self.bounds)
        self.rows = self.bounds[:-1] + rng.integers(0, self.sizes)

    def chance(self, rows: Ints) -> Floats:
        """The probability with which these positions are drawn."""
        cell = np.searchsorted(self.bounds, rows, side="right") - 1
        return 1.0 / self.sizes[np.clip(cell, 0, len(self.sizes) - 1)]


@dataclass(frozen=True)
class _Sample:
    """Both stages. rows: positions labelled; hits: the positives among them; both ascending.

    far: the position up to which labels are dense enough for the certificate.
    """

    first: _Stage
    second: _Stage
    rows: Ints
    hits: Ints
    far: float

    def weight(self, rows: Ints) -> Floats:
        """How many rows each of these positions stands for when it is drawn, by either stage."""
        last = int(self.second.bounds[-1]) - 1
        later = np.clip(rows - np.searchsorted(self.first.rows, rows), 0, last)
        missed: Floats = (1 - self.first.chance(rows)) * (1 - self.second.chance(later))
        return 1 / (1 - missed)


def _draw(
    population: Population, grid: _Grid, plan: Plan, recall: float, known: int, rng: np.random.Generator
) -> _Sample:
    """The pilot, and the second stage among the rows that it left."""
    pilot = max(1, int(plan.pilot * population.left))
    left = population.left - pilot
    first = _Stage(grid.edges, grid.sizes, grid.first, pilot, rng)
    hits = _ask(population, grid, first.rows)
    weights = 1 / first.chance(hits)
    reach = _reach(hits, weights, recall, min(grid.n, pilot + left))
    count = max(1, left - int(plan.finish * min(1.0, 1.5 * left / reach) * left))
    misses = (1 - recall) / recall * (known + max(float(weights.sum()), 3.0))
    far = max(count * misses / plan.near, 1.3 * reach)

    before = np.searchsorted(first.rows, grid.edges)
    rest = grid.sizes - np.diff(before)
    deep = grid.middle > reach / 3
    zone = _shares(np.where(deep & (grid.middle <= far), rest, 0.0))
    close = _shares(rest / np.maximum(grid.middle / reach, 1.0))
    again = _shares(np.where(deep, 1.0, 0.2) * grid.first * rest / grid.sizes)
    shares = plan.zone * zone + plan.close * close + (1 - plan.zone - plan.close) * again
    sure = np.where(grid.edges[1:] <= plan.doubt * count, rest, 0.0)
    if sure.any() and _heed(population, grid, doubtful):
        shares = (1 - plan.doubt) * shares + plan.doubt * _shares(sure)
    second = _Stage(grid.edges - before, rest, shares, count, rng)
    rows = second.rows + np.searchsorted(first.rows - np.arange(pilot), second.rows, side="right")
    hits = np.sort(np.concatenate([hits, _ask(population, grid, rows)]))
    return _Sample(first, second, np.sort(np.concatenate([first.rows, rows])), hits, far)


def _ask(population: Population, grid: _Grid, rows: Ints) -> Ints:
    """Label these positions; those of the positives."""
    hits: Ints = rows[population.ask(grid.rows[rows]) == YES]
    return hits


def _reach(hits: Ints, weights: Floats, recall: float, otherwise: int) -> int:
    """The position where the pilot's positives reach the recall."""
    if not len(hits):
        return max(otherwise, 5)
    found = np.cumsum(weights)
    return max(int(hits[min(np.searchsorted(found, recall * found[-1]), len(hits) - 1)]) + 1, 5)


class _Certificate:
    """Which cuts miss no more than is allowed, by what the sample says. total: estimated positives, the known ones too.

    A labelled positive is returned wherever it lies, so that one below the cut stands for weight - 1 misses.
    """

    def __init__(self, grid: _Grid, sample: _Sample, known: int, allowed: float, delta: float, plan: Plan) -> None:
        self._grid, self._sample, self._plan = grid, sample, plan
        self._allowed, self._delta = allowed, delta
        hits, self._weights = sample.hits, sample.weight(sample.hits)
        w = self._weights
        self._cuts = np.unique(np.concatenate([hits + 1, grid.edges[1:]]))
        above = np.searchsorted(hits, self._cuts)
        seen, unseen, spread = (np.concatenate([[0.0], np.cumsum(x)]) for x in (w, w - 1, w * (w - 1)))
        self.total = known + float(seen[-1])
        self._missed, self._missed_spread = unseen[-1] - unseen[above], spread[-1] - spread[above]
        self._kept, self._kept_spread = known + seen[above] + len(hits) - above, spread[above]

    def cut(self) -> tuple[int | None, str]:
        """The smallest position that passes, or None and why."""
        labels = (self._balance() <= 0) & (self._cuts <= self._plan.most * self._grid.n)
        fine = labels & (self._warned() <= self._plan.trust * self._allowed * self._kept)
        if fine.any():
            return int(self._cuts[np.argmax(fine)]), ""
        if labels.any():
            return None, (
                "The scores promise more positives below any cut than may be missed, though no label found them: every "
                "row is returned but those that were found negative."
            )
        return None, (
            "The labels could not certify that any smaller answer holds enough of the positives: every row is returned "
            "but those that were found negative."
        )

    def _balance(self) -> Floats:
        """Per cut: an upper limit of misses less those allowed."""
        grid, sample = self._grid, self._sample
        deepest = int(sample.hits[-1]) if len(sample.hits) else 0
        further = 1 + self._plan.beyond / len(sample.rows)
        place = np.minimum(further * np.maximum(self._cuts, deepest), grid.n - 1).astype(np.int64)
        deeper = np.where(grid.edges[:-1] >= deepest, sample.weight(grid.edges[:-1]), 1.0)
        least_watched = np.maximum.accumulate(deeper)  # the very bottom is watched again, which must not count
        at = np.searchsorted(grid.edges, place, side="right") - 1
        unseen = np.maximum(sample.weight(place), least_watched[at]) - 1
        mean, square = self._missed + unseen, self._missed_spread + unseen**2
        scale = np.divide(square, mean, out=np.zeros_like(mean), where=mean > 0)
        shape = np.divide(mean, scale, out=np.ones_like(mean), where=scale > 0)
        below = grid.n - self._cuts - (len(sample.rows) - np.searchsorted(sample.rows, self._cuts))
        upper = np.minimum(gammaincinv(shape, 1 - self._delta) * scale, below)
        error = (upper - self._missed) ** 2 + (1.645 * self._allowed) ** 2 * self._kept_spread
        balance: Floats = self._missed - self._allowed * self._kept + np.sqrt(error)
        return balance

    def _warned(self) -> Floats:
        """Per cut: misses that the scores warn of.

        A row without a score is as likely as the average of the others. Rows that share the lowest score are exchangeable,
        so those that were labelled speak for the rest, wherever among them the labels stopped.
        """
        grid, sample = self._grid, self._sample
        scored = max(grid.n - grid.unscored, 1)
        below = np.minimum(grid.unscored, grid.n - self._cuts)
        warned: Floats = below * (self.total / scored)
        alike, found = (len(x) - int(np.searchsorted(x, grid.lowest)) for x in (sample.rows, sample.hits))
        if found:
            warned = np.maximum(warned, (grid.n - np.maximum(self._cuts, grid.lowest)) * (found / alike))
        if grid.scores is None:
            place = np.minimum(np.maximum(self._cuts, int(sample.far)), grid.n - 1)
            return warned + trailing(grid.n, self._cuts, sample.far, sample.hits, self._weights, sample.weight(place))
        trail = trailing(grid.n, self._cuts, sample.far, sample.hits, self._weights)
        at = sample.weight(np.minimum(self._cuts, grid.n - 1))
        promise, rate = promised(grid.scores, self._cuts, sample.rows, sample.hits, self._weights, at)
        return warned + promise + np.where(rate > MODEST, trail, 0.0)


def _shares(weights: Floats) -> Floats:
    total = weights.sum()
    shares: Floats = weights / total if total > 0 else np.full(len(weights), 1 / len(weights))
    return shares


def _spread(sizes: Floats, shares: Floats, total: float) -> Floats:
    """Labels per bin, in proportion to its share, none above its size, `total` in all."""
    labels = np.zeros_like(sizes)
    open_ = (sizes > 0) & (shares > 0)
    while open_.any():
        labels[open_] = shares[open_] * (total - labels[~open_].sum()) / shares[open_].sum()
        over = open_ & (labels >= sizes)
        if not over.any():
            break
        labels[over] = sizes[over]
        open_ &= ~over
    return labels
