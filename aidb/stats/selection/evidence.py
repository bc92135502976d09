"""Evidence that few positives are left among the rows without a label, gathered by random draws.

**What is tested.** `P`, the number of positives of the table, is fixed and unknown. When `found` of them are known, the
rest, P - found, lie among the N unlabelled rows, *wherever they are*. So of s rows drawn at random from these N, the
number x of positives is hypergeometric, Hyp(N, P - found, s), for this P exactly.

**The test.** Before each batch of draws a forecast q of x is fixed, by whatever is known by then. The product of
q(x) / Hyp(x; N, P - found, s) over all batches is, for the true P, a martingale that begins at 1 (or falls on average,
if the forecast allows of what can't be): that it ever reaches 1 / delta has a probability of delta at most (Ville's
inequality). So one may stop at any time, for any reason, and between the batches label any other rows, chosen in any
way: that changes `found` and N, and nothing else. A bad forecast costs draws, no truth.

**What it certifies.** The recall of the found is at least the target unless P > found / recall. If the product has
reached 1 / delta for every such P, the target holds, with probability 1 - delta; no matter how many P are looked at,
since only the true one can be rejected wrongly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammaln

from aidb.stats.selection.population import Floats

_ROUNDING = 1e-9
_SHAPE, _SHARE = 0.5, 0.25
"""The forecast's certainty: of a Beta distribution whose first parameter is a half, or this share of the positives that
are expected to be left, if that is more."""
_LEAST, _HUMBLE, _TINY = 0.4, 0.01, 0.02
"""Positives that are expected to be left, at least: by the first forecast of a stake, as such and for each that was
found (by those after it, less); and by any."""


@dataclass
class Evidence:
    """All draws so far, and what is staked on them.

    A stake is a product begun at some batch, times the share of the whole that was put on it; the shares and what is
    `left` of them sum to 1. Their sum, too, is a martingale that begins at 1. So a proof that went wrong, as its first
    draws met what has been found since, may be begun anew, with what was kept back for that.
    """

    left: float = 1.0
    stakes: list[tuple[int, float]] = field(default_factory=list)
    """(the first of its batches, share)."""
    batches: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(rows drawn from, rows drawn, positives among them, found before)."""
    forecasts: list[float] = field(default_factory=list)
    """Logarithm of the probability that the forecast gave to what came."""

    def stake(self, share: float) -> Evidence:
        """The same draws, with this share of what is left put on those to come."""
        stakes = [*self.stakes, (len(self.batches), share * self.left)]
        return Evidence((1 - share) * self.left, stakes, self.batches, self.forecasts)

    def add(self, rows: int, drawn: int, hits: int, found: int, expected: float) -> None:
        """A batch of `drawn` of `rows` unlabelled rows. found: positives known before; expected: to be left, by then."""
        since = len(self.batches) - (self.stakes[-1][0] if self.stakes else 0)
        expected = max(expected, max(_LEAST, _HUMBLE * found) / (1 + since))
        self.forecasts.append(float(log_forecast(hits, drawn, expected, rows)))
        self.batches.append((rows, drawn, hits, found))

    def against(self, totals: npt.ArrayLike) -> Floats:
        """Logarithm of the evidence against each number of positives of the table; infinite where it is impossible."""
        totals = np.asarray(totals, dtype=np.float64)
        since, product = len(self.batches), np.zeros(totals.shape)
        found = np.full(totals.shape, math.log(self.left) if self.left else -np.inf)
        for start, share in reversed(self.stakes):
            for place in range(start, since):
                rows, drawn, hits, before = self.batches[place]
                product = product + self.forecasts[place]
                product -= log_hypergeometric(hits, rows, totals - before, drawn)
            since = start
            found = np.logaddexp(found, math.log(share) + product)
        return found

    def certifies(self, recall: float, found: int, rows: int, delta: float) -> bool:
        """Is every number of positives that would make `found` too few rejected? rows: unlabelled ones."""
        least = too_many(found, recall)
        if least - found > rows:
            return True  # if all of them were positive
        if not self.batches:
            return False
        here, further = self.against(np.array([least, least + 1.0]))
        # Each product falls to one bottom, at the likeliest number, and rises: past it, larger numbers are rejected too.
        return bool(here >= -math.log(delta) and (further >= here or least + 1 - found > rows))


def too_many(found: npt.ArrayLike, recall: float) -> npt.NDArray[np.float64]:
    """The least number of positives of a table of which `found` are less than the share `recall`."""
    return np.asarray(np.floor(np.asarray(found, dtype=np.float64) / recall + _ROUNDING) + 1)


def log_forecast(hits: npt.ArrayLike, drawn: npt.ArrayLike, expected: npt.ArrayLike, rows: npt.ArrayLike) -> Floats:
    """Probability, as a logarithm, of so many positives among rows drawn, if about `expected` of `rows` are positive."""
    hits, drawn = np.asarray(hits, dtype=np.float64), np.asarray(drawn, dtype=np.float64)
    expected = np.clip(expected, _TINY, 0.95 * np.asarray(rows))
    first = np.maximum(_SHAPE, _SHARE * expected)
    second = first * (rows - expected) / expected
    chance: Floats = _log_ways(drawn, hits) + betaln(first + hits, second + drawn - hits) - betaln(first, second)
    return chance


def log_hypergeometric(
    hits: npt.ArrayLike, rows: npt.ArrayLike, positives: npt.ArrayLike, drawn: npt.ArrayLike
) -> Floats:
    """Probability, as a logarithm, of so many positives among `drawn` of `rows` rows; the numbers need not be whole."""
    hits, rows, positives, drawn = np.broadcast_arrays(*map(np.asarray, (hits, rows, positives, drawn)))
    possible = (positives >= hits) & (rows - positives >= drawn - hits)
    some = np.where(possible, positives, hits)
    chance = _log_ways(some, hits) + _log_ways(rows - some, drawn - hits) - _log_ways(rows, drawn)
    return np.where(possible, chance, -np.inf)


def _log_ways(of: npt.ArrayLike, chosen: npt.ArrayLike) -> Floats:
    of, chosen = np.asarray(of, dtype=np.float64), np.asarray(chosen, dtype=np.float64)
    ways: Floats = gammaln(of + 1) - gammaln(chosen + 1) - gammaln(of - chosen + 1)
    return ways
