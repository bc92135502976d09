"""How many rows of each stratum to ask, so that every estimate keeps its error at the least cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aidb.stats.aggregates.strata import Floats

LEAST = 0.05
"""No stratum is sampled at less than this share of the rate of the whole."""

ROUNDS = 8
"""Times that the weights of several needs are changed; they need not be exact, the next look decides."""


_STEPS = 12
"""Steps by the slope that is expected, before intervals are halved."""


@dataclass(frozen=True)
class Need:
    """The variance of one estimate when n[k] rows of stratum k are asked: sum of (a / n + b / n^2)(1 - n / rows).

    a: (K,) from what was seen. b: (K,) from what may be there unseen, which falls faster. most: what is allowed.
    """

    a: Floats
    b: Floats
    most: float

    def variance(self, n: Floats, rows: Floats) -> float:
        """At these sizes."""
        safe = np.maximum(n, 1e-9)
        return float(((self.a / safe + self.b / safe**2) * (1 - n / rows)).sum())


def allocate(needs: Sequence[Need], least: Floats, rows: Floats) -> Floats:
    """(K,) rows to ask: the smallest sum that meets every need, not below `least` and not above `rows`.

    One need: the multiplier is found by bisection. Several: the needs are mixed by weights that grow for those
    not met (a multiplicative update), and the mix is solved like one.
    """
    open_needs = [w for w in needs if w.variance(least, rows) > w.most]
    if not open_needs:
        return least
    # Each need is scaled to 1, so that the weights compare them.
    a = np.array([w.a / max(w.most, 1e-300) for w in open_needs])
    b = np.array([w.b / max(w.most, 1e-300) for w in open_needs])
    weights = np.full(len(open_needs), 1 / len(open_needs))

    def met(n: Floats) -> Floats:
        safe = np.maximum(n, 1e-9)
        used: Floats = ((a / safe + b / safe**2) * (1 - n / rows)).sum(axis=1)
        return used

    for _ in range(ROUNDS if len(open_needs) > 1 else 0):
        weights = weights * met(_solve(weights @ a, weights @ b, least, rows, 1.0))
        weights /= weights.sum()
    n = _solve(weights @ a, weights @ b, least, rows, 1.0)
    worst = float(met(n).max())
    # Where the mix is met and one need is not: the same mix, as strict as that need asks.
    return _solve(weights @ a, weights @ b, least, rows, 1 / worst) if worst > 1.001 else n


def _solve(a: Floats, b: Floats, least: Floats, rows: Floats, most: float) -> Floats:
    """The smallest sum of n with sum (a/n + b/n^2)(1 - n/rows) <= most."""
    need, low, high = Need(a, b, most), -60.0, 60.0
    # Right where nothing is unseen and no bound is met; the variance falls about as mu^-1/2.
    power = float(np.clip(2 * np.log(max(float(np.sqrt(a).sum()) / most, 1e-12)), low, high))
    for turn in itertools.count():
        if high - low <= 1e-3:
            break
        excess = np.log(max(need.variance(_sizes(a, b, least, rows, power), rows), 1e-300) / most)
        if -1e-3 < excess <= 0:
            return _sizes(a, b, least, rows, power)
        low, high = (power, high) if excess > 0 else (low, power)
        power = power + 2 * excess + 1e-4
        # Where most sizes stand at their bounds the variance hardly falls with mu, and such steps creep.
        if turn > _STEPS or not low < power < high:
            power = (low + high) / 2
    return _sizes(a, b, least, rows, high)


def _sizes(a: Floats, b: Floats, least: Floats, rows: Floats, power: float) -> Floats:
    """The stationary point n^3 = mu (a n + 2 b), mu = e^power, within bounds; by Newton's method from above."""
    mu = np.exp(power)
    n = np.maximum(np.sqrt(a * mu) + 1e-9, np.cbrt(2 * b * mu))
    for _ in range(4):
        n = np.maximum(n - (n**3 - mu * (a * n + 2 * b)) / np.maximum(3 * n * n - mu * a, 1e-12), 1e-9)
    n = np.clip(n, least, rows)
    sizes: Floats = np.clip(np.maximum(n, LEAST * n.sum() * rows / rows.sum()), least, rows)
    return sizes


def spend(needs: Sequence[Need], least: Floats, rows: Floats, total: float) -> Floats:
    """(K,) rows to ask, `total` in all: the needs weigh alike, each against what it allows."""
    a = np.mean([w.a / max(w.most, 1e-300) for w in needs], axis=0)
    b = np.mean([w.b / max(w.most, 1e-300) for w in needs], axis=0)
    low, high = -60.0, 60.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        if _sizes(a, b, least, rows, middle).sum() > total:
            high = middle
        else:
            low = middle
    return _sizes(a, b, least, rows, low)
