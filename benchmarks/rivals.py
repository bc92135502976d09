"""Rules of other systems for aggregates, from their formulas; what `aidb.stats` has by name is not here.

Each takes a population, the relative error, the probability of failure and a generator, and gives the estimate, its
interval and the rows asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from benchmarks.populations import Population


class Answer(NamedTuple):
    value: float
    low: float
    high: float
    calls: int


Rival = Callable[[Population, float, float, np.random.Generator], Answer]
MATCHES = 10


def _all(p: Population) -> Answer:
    return Answer(p.truth, p.truth, p.truth, p.n)


def blazeit(p: Population, error: float, failure: float, rng: np.random.Generator) -> Answer:
    """BlazeIt (VLDB 2020): a control variate and empirical Bernstein stopping, as its code does it.

    After t rows |mean - truth| <= sd sqrt(2x / t) + 3 R x / t, with the running best of both ends; x grows by epochs of
    ratio 1.5. Its tolerance is absolute, so the true mean is handed to it; R is the range of the values.
    """
    if p.d is not None:
        raise ValueError("BlazeIt's rule knows no averages over matches")
    n, y, g = p.n, p.y, np.nan_to_num(p.proxy, nan=np.nanmin(p.proxy))
    order = rng.permutation(n)
    y, g = y[order], g[order]
    reach, tolerance = float(np.abs(y).max()), error * abs(p.truth) / n
    spread, c, low, high = float(g.var()), 0.1 / 1.1 * failure, -np.inf, np.inf
    done, epoch = 1, 1
    while done < n:
        before, epoch = int(1.5**epoch), epoch + 1
        until = int(1.5**epoch)
        if until <= done:
            continue
        alpha = until / max(before, 1)
        x = -alpha * np.log(c / max(np.log(max(epoch, 2)) / np.log(1.1), 1e-9) ** 1.1) / 3
        slope = float(np.cov(y[:done], g[:done])[0, 1]) / spread if done > 1 and spread > 0 else 0.0
        until = min(until, n)
        m = (y - slope * (g - g.mean()))[:until]
        t = np.arange(1, until + 1)
        mean = np.cumsum(m) / t
        sd = np.sqrt(np.maximum(np.cumsum(m * m) / t - mean**2, 0) * (n - t) / (n - 1))
        half = sd * np.sqrt(2 * x / t) + 3 * reach * x / t
        lows = np.maximum(np.maximum.accumulate((mean - half)[done:]), low)
        highs = np.minimum(np.minimum.accumulate((mean + half)[done:]), high)
        met = highs - lows <= 2 * tolerance
        if met.any():
            at = int(np.argmax(met))
            return Answer((lows[at] + highs[at]) / 2 * n, lows[at] * n, highs[at] * n, done + at + 1)
        low, high, done = float(lows[-1]), float(highs[-1]), until
    return _all(p)


def importance(p: Population, error: float, failure: float, rng: np.random.Generator) -> Answer:
    """Importance sampling by the square root of the proxy, a tenth uniform, with replacement (repeats cost nothing)."""
    n, z = p.n, -float(special.ndtri(failure / 2))
    g = np.nan_to_num(p.proxy, nan=np.nanmin(p.proxy))
    root = np.sqrt(np.maximum(g - min(g.min(), 0.0), 0) + 1e-12)
    q = 0.9 * root / root.sum() + 0.1 / n
    steps = np.cumsum(q)
    steps /= steps[-1]
    rows, size = np.zeros(0, np.int64), 200
    while size <= 5 * n:
        rows = np.concatenate((rows, np.searchsorted(steps, rng.random(size - len(rows)))))
        y = p.y[rows] / q[rows]
        if p.d is None:
            value, e = float(y.mean()), y
        else:
            d = p.d[rows] / q[rows]
            value = float(y.mean() / d.mean()) if d.mean() > 0 else 0.0
            e = (y - value * d) / max(float(d.mean()), 1e-300)
        calls = len(np.unique(rows))
        if calls >= 0.9 * n:
            return _all(p)
        half, aim = z * float(e.std(ddof=1)) / np.sqrt(size), error * abs(value) / (1 + error)
        enough = np.count_nonzero(y) >= MATCHES
        if enough and value and half <= aim:
            return Answer(value, value - half, value + half, calls)
        grown = 1.02 * (half / aim) ** 2 if enough and aim > 0 else 2.0
        size = int(size * min(max(grown, 1.05), 4)) + 1
    return _all(p)


def public(p: Population, error: float, failure: float, rng: np.random.Generator) -> Answer:
    """The public AIDB: a uniform pilot of 1,000, a second sample sized from bounds on its deviation and mean."""
    n, first = p.n, 1000
    if first >= n:
        return _all(p)
    pilot = rng.choice(n, first, replace=False)
    values, weights = _public_values(p, pilot)
    if len(values) < 2 or not values.any():
        return Answer(np.nan, np.nan, np.nan, first)
    mean, deviation, low, _ = _bennett(values, weights, failure)
    share, within = 1.0, error
    if p.d is not None:
        z, share = -float(special.ndtri(failure / 2)), np.count_nonzero(p.d[pilot]) / first
        share = max(share - z * np.sqrt(share * (1 - share) / first), 1e-9)
        within = min(1 - np.sqrt(1 - error), np.sqrt(1 + error) - 1)
    z = float(special.ndtri(failure / 2))
    size = max(int((z * deviation / (within * low)) ** 2 / share), 100) if low else n
    if size + first >= n:
        return _all(p)
    rows = np.concatenate((pilot, rng.choice(n, size, replace=False)))
    values, weights = _public_values(p, rows)
    mean, _, low, high = _bennett(values, weights, failure)
    scale = n if p.d is None else 1
    return Answer(mean * scale, low * scale, high * scale, len(np.unique(rows)))


def _public_values(p: Population, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if p.d is None:
        return p.y[rows], np.ones(len(rows))
    match = p.d[rows] > 0
    return p.y[rows][match] / p.d[rows][match], p.d[rows][match]


def _bennett(values: np.ndarray, weights: np.ndarray, failure: float) -> tuple[float, float, float, float]:
    """Mean, upper bound of the deviation, and its interval, which divides by the size outside of the Lambert W."""
    size = int(weights.sum())
    mean = float(np.average(values, weights=weights))
    deviation = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
    deviation *= np.sqrt((size - 1) / (2 * special.gammaincinv((size - 1) / 2, failure / 2)))
    variance, most = deviation**2, float(np.abs(values).max())
    if variance == 0 or most == 0:
        return mean, deviation, mean, mean
    w = special.lambertw((most**2 * np.log(2 / failure) - variance) / (np.e * variance)).real
    half = variance / most * (np.exp(w + 1) - 1) / size
    return mean, deviation, mean - half, mean + half


RIVALS: dict[str, Rival] = {"blazeit": blazeit, "importance": importance, "public": public}
