"""The plainer methods: uniform samples that grow until their interval is narrow enough.

They are there to be asked for by name, and as what `auto` is compared with. `clt`, `ppi` and `bootstrap` are
approximate; `ebs` and `betting` hold for every population whose items lie within declared bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from aidb.stats import intervals
from aidb.stats.aggregates.adaptive import MATCHES, Goal
from aidb.stats.aggregates.strata import Floats
from aidb.stats.aggregates.survey import Survey

FIRST = 200
"""Rows asked before the first estimate."""
MARGIN, LEAST, GROWTH = 1.02, 1.05, 4.0
"""A planned size gets this margin, and lies between LEAST and GROWTH times what there is."""
RESAMPLES = 400


@dataclass(frozen=True)
class Rows:
    """A uniform sample without replacement. y, d, proxy: (m,); mean: of the proxy over all n rows; known: totals."""

    y: Floats
    d: Floats | None
    proxy: Floats
    mean: float
    n: int
    known: tuple[float, float]

    @property
    def matches(self) -> int:
        """Rows that count."""
        return int(np.count_nonzero(self.y if self.d is None else self.d))

    @property
    def free(self) -> float:
        """The correction for a finite population."""
        return 1 - len(self.y) / self.n


Bounds = tuple[float, float]
Interval = Callable[[Rows, float, int], tuple[float, float, float]]
"""Sample, probability of failure, number of the look (from 1) to value, low, high."""


def clt(sample: Rows, failure: float, look: int) -> tuple[float, float, float]:
    """Normal approximation; for an average the ratio of two totals, linearised."""
    return _normal(sample, failure, np.zeros_like(sample.y), 0.0, 1)


def ppi(sample: Rows, failure: float, look: int) -> tuple[float, float, float]:
    """Prediction-powered inference with the best slope (Angelopoulos, Duchi and Zrnic 2023, "PPI++").

    With the proxy known for every row of a finite table this is the classical regression estimator.
    """
    gap = sample.proxy - sample.proxy.mean()
    return _normal(sample, failure, gap, sample.mean - float(sample.proxy.mean()), 2)


def _normal(sample: Rows, failure: float, gap: Floats, ahead: float, spent: int) -> tuple[float, float, float]:
    y, d, n = sample.y, sample.d, sample.n
    power = float(gap @ gap)

    def total(v: Floats) -> tuple[float, float]:
        slope = float(gap @ v) / power if power > 0 else 0.0
        return n * (float(v.mean()) + slope * ahead), slope

    value, slope = total(y)
    value += sample.known[0]
    scale, residual = 1.0, y - y.mean() - slope * gap
    if d is not None:
        weight, slope_d = total(d)
        weight += sample.known[1]
        value, scale = (value / weight, 1 / weight) if weight > 0 else (np.nan, np.inf)
        residual = y - value * d - (slope - value * slope_d) * gap
        residual -= residual.mean()
    spread = float(residual @ residual) / max(len(y) - spent, 1)
    half = -float(ndtri(failure / 2)) * n * np.sqrt(spread / len(y) * sample.free) * scale
    return value, value - half, value + half


def bootstrap(resamples: int, rng: np.random.Generator) -> Interval:
    """Percentiles of resampled estimates, narrowed by the correction for a finite population."""

    def interval(sample: Rows, failure: float, look: int) -> tuple[float, float, float]:
        m = len(sample.y)
        weights = rng.multinomial(m, np.full(m, 1 / m), size=resamples) / m
        drawn = sample.n * (weights @ sample.y) + sample.known[0]
        value = sample.n * float(sample.y.mean()) + sample.known[0]
        if sample.d is not None:
            below = sample.n * (weights @ sample.d) + sample.known[1]
            drawn = np.divide(drawn, below, out=np.full(resamples, np.nan), where=below > 0)
            weight = sample.n * float(sample.d.mean()) + sample.known[1]
            value = value / weight if weight > 0 else np.nan
        low, high = np.nanquantile(drawn, [failure / 2, 1 - failure / 2]) if np.isfinite(drawn).any() else (np.nan,) * 2
        root = np.sqrt(sample.free)
        return value, value + root * (low - value), value + root * (high - value)

    return interval


def ebs(bounds: Bounds) -> Interval:
    """Empirical Bernstein stopping (Mnih, Szepesvari and Audibert 2008), looking at growing sizes only."""
    return _bounded(bounds, lambda y, p, n: intervals.empirical_bernstein(y, p, low=bounds[0], high=bounds[1]))


def betting(bounds: Bounds, rng: np.random.Generator) -> Interval:
    """The wealth of a bettor, without replacement (Waudby-Smith and Ramdas 2024)."""

    def mean(y: Floats, probability: float, n: int) -> intervals.Interval:
        # A batch is a random set of rows, not in random order; the bettor needs them in random order.
        return intervals.betting(rng.permutation(y), probability, low=bounds[0], high=bounds[1], population=n)

    return _bounded(bounds, mean)


def _bounded(bounds: Bounds, mean: Callable[[Floats, float, int], intervals.Interval]) -> Interval:
    def interval(sample: Rows, failure: float, look: int) -> tuple[float, float, float]:
        if sample.d is not None:
            raise ValueError(
                "an average over matches is a ratio, for which ebs and betting have no sound form: use auto"
            )
        # The looks share the probability of failure: 1/2 + 1/6 + 1/12 + ... = 1.
        low, high = mean(sample.y, 1 - failure / (look * (look + 1)), sample.n)
        value = min(max(float(sample.y.mean()), low), high)
        return tuple(sample.n * v + sample.known[0] for v in (value, low, high))  # type: ignore[return-value]

    return interval


def grow(
    survey: Survey, goal: Goal, failure: float, budget: int | None, interval: Interval
) -> tuple[float, float, float, tuple[tuple[int, float, float, float], ...]]:
    """Ask more rows of the only stratum until the interval keeps the goal; value, low, high, and what each look gave."""
    strata = survey.strata
    n = strata.n
    most = n if budget is None else min(budget, n)
    want = min(FIRST, most)
    history: list[tuple[int, float, float, float]] = []
    while True:
        survey.ask([want])
        y, d = survey.table.column(0, 0)
        keep = survey.answered
        y, d = y[keep], None if d is None else d[keep]
        total = survey.draws.total
        value, low, high = np.nan, -np.inf, np.inf
        sample = Rows(y, d, survey.proxies()[keep], float(strata.means[0]), n, survey.constants(0, 0))
        if len(y) >= 2:
            value, low, high = interval(sample, failure, len(history) + 1)
        history.append((total, value, low, high))
        half = max(high - value, value - low) if np.isfinite(value) else np.inf
        aim = goal.half(value) if np.isfinite(value) else 0.0
        enough = sample.matches >= MATCHES and half > 0
        if total >= most or (goal.error is not None and enough and half <= aim):
            return value, low, high, tuple(history)
        if not enough or goal.error is None:
            want = 2 * total if goal.error is not None else most
        else:
            needed = total * (half / aim) ** 2 / max(sample.free, 1e-9) if aim > 0 else np.inf
            needed = needed / (1 + needed / n) if np.isfinite(needed) else n
            want = int(min(max(LEAST * total + 1, MARGIN * needed), GROWTH * total))
        want = min(want, most)
