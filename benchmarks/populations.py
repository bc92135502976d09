"""Populations for the benchmark of aggregates: what every row holds, and a proxy of known quality.

Two sets, split before anything was tuned: on `tuning` the constants of the procedure were chosen, `held` was run once,
at the end. Real ones need the tables of `SHARED`; without them they are left out. Every population has a generator of
its own, so that any of them can be made alone.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks._measure import SHARED

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator
KINDS = ("dense", "sparse", "skewed", "hostile")


@dataclass(frozen=True)
class Population:
    """One population. y: what a row adds to the count or sum. d: rows it adds to the denominator, for an average.

    kind: what to compare it with. "dense" is judged against PPI++, "sparse" (few rows match) against importance
    sampling; "hostile" ones have a proxy that is of no use or misleads.
    """

    name: str
    proxy: Floats
    y: Floats
    d: Floats | None
    kind: str
    aggregate: str

    @property
    def truth(self) -> float:
        """The answer of asking every row."""
        return float(self.y.sum() if self.d is None else self.y.sum() / self.d.sum())

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.y)

    def label(self, rows: npt.NDArray[np.int64]) -> Floats:
        """What the oracle says of these rows."""
        return self.y[rows] if self.d is None else np.column_stack((self.y[rows], self.d[rows]))


Made = tuple[Floats, Floats, Floats | None]
_MAKERS: dict[str, tuple[str, str, str, Callable[[Rng], Made]]] = {}


def names(part: str | None = None) -> list[str]:
    """All populations that can be made here, or those of "tuning" or "held"."""
    return [name for name, maker in _MAKERS.items() if part in (None, maker[0]) and _there(name)]


def make(name: str) -> Population:
    """The population of this name, always the same. KeyError if there is none."""
    part, kind, aggregate, maker = _MAKERS[name]
    proxy, y, d = maker(np.random.default_rng([zlib.crc32(name.encode()), len(part)]))
    return Population(name, np.asarray(proxy, dtype=np.float64), y, d, kind, aggregate)


def read(path: Path, aggregate: str) -> Population:
    """A table with the columns `label` or `value`, and `proxy_score`; for an average the rows of a label count."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    there = set(lines[0]) if lines else set()
    if "proxy_score" not in there or not there & {"label", "value"}:
        raise ValueError(f"{path}: needs the columns proxy_score and label or value, and at least one row")
    proxy = np.array([float(line["proxy_score"] or "nan") for line in lines])
    match = np.array([_truth(line["label"]) for line in lines]) if "label" in there else None
    value = np.array([float(line["value"]) for line in lines]) if "value" in there else None
    kind = "sparse" if match is not None and match.mean() < 0.1 else "dense"
    if aggregate == "count":
        return Population(path.stem, proxy, match if match is not None else value, None, kind, aggregate)
    if value is None:
        raise ValueError(f"{path}: {aggregate} needs a column value")
    d = match if match is not None else np.ones(len(value))
    return Population(path.stem, proxy, value * d, d if aggregate == "avg" else None, kind, aggregate)


def _truth(text: str) -> float:
    """A label as a number: "True", "False", or a count."""
    word = text.strip().lower()
    return {"true": 1.0, "false": 0.0, "": 0.0}[word] if word in ("true", "false", "") else float(word)


def _there(name: str) -> bool:
    return name not in _FILES or (SHARED / "data" / _FILES[name]).exists()


_FILES = {
    "tacred": "tacred.csv",
    "imagenet": "imagenet.csv",
    "taipei": "taipei_counts.csv",
    "taipei_weak": "taipei_counts.csv",
    "night_street": "night_street_counts.csv",
    "night_street_weak": "night_street_counts.csv",
    "night_street_busy": "night_street_counts.csv",
}


def _of(name: str, part: str, kind: str, aggregate: str, maker: Callable[[Rng], Made]) -> None:
    _MAKERS[name] = (part, kind, aggregate, maker)


# What the populations are made of.


def counts(n: int, occupied: float, mean: float, dispersion: float, rng: Rng) -> Floats:
    """Objects in a frame: zero-inflated, 1 + negative binomial where occupied, with this mean."""
    y = np.zeros(n)
    some = rng.random(n) < occupied
    mu = max(mean - 1, 1e-3)
    y[some] = 1 + rng.negative_binomial(dispersion, dispersion / (dispersion + mu), int(some.sum()))
    return y


def noisy(y: Floats, correlation: float, rng: Rng) -> Floats:
    """A cheap detector's counts: it misses objects, invents some and jitters, so that it correlates so with y.

    Up to a rate of misses of 0.7, then more false alarms.
    """
    mean, jitter = y.mean(), 0.3 * y.std()

    def at(strength: float, r: Rng) -> Floats:
        miss, false = min(strength, 0.7), strength * mean
        if strength >= 0.7:
            false = 0.7 * mean * (1 + 50 * (strength - 0.7))
        return r.binomial(y.astype(np.int64), 1 - miss) + r.poisson(false, len(y)) + jitter * r.standard_normal(len(y))

    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        if np.corrcoef(at(middle, np.random.default_rng(1)), y)[0, 1] > correlation:
            low = middle
        else:
            high = middle
    return at(low, rng)


def logistic(z: Floats) -> Floats:
    """Score to probability."""
    return 1 / (1 + np.exp(-z))


def _counts(n: int, occupied: float, mean: float, dispersion: float, correlation: float) -> Callable[[Rng], Made]:
    def maker(rng: Rng) -> Made:
        y = counts(n, occupied, mean, dispersion, rng)
        return noisy(y, correlation, rng), y, None

    return maker


def _constant(occupied: float, mean: float, dispersion: float) -> Callable[[Rng], Made]:
    def maker(rng: Rng) -> Made:
        return np.full(80_000, 0.5), counts(80_000, occupied, mean, dispersion, rng), None

    return maker


def _reversed(occupied: float, mean: float, correlation: float) -> Callable[[Rng], Made]:
    def maker(rng: Rng) -> Made:
        y = counts(80_000, occupied, mean, 2.0, rng)
        return -noisy(y, correlation, rng), y, None

    return maker


def _normal_rare(n: int, share: float, apart: float, slope: float = 2.0) -> Callable[[Rng], Made]:
    """A rare predicate with a proxy of two normal distributions, `apart` standard deviations from one another."""

    def maker(rng: Rng) -> Made:
        match = rng.random(n) < share
        return logistic(slope * (rng.standard_normal(n) + apart * match - 3)), match.astype(float), None

    return maker


def _missed(
    share: float, hidden: float, seen: tuple[float, float], rest: tuple[float, float], low: bool, values: bool
) -> Callable[[Rng], Made]:
    """A rare predicate; the proxy scores a share of the matches like the rest, or (low) at the very bottom."""

    def maker(rng: Rng) -> Made:
        n = 80_000
        match = rng.random(n) < share
        lost = match & (rng.random(n) < hidden)
        proxy = rng.beta(*rest, n)
        shown = match & ~lost
        proxy[shown] = rng.beta(*seen, int(shown.sum()))
        if low:
            proxy[lost] *= 0.02
        return proxy, match * (np.exp(0.6 * rng.standard_normal(n)) if values else 1.0), None

    return maker


def _lognormal(share: float, sigma: float, weighted: bool, average: bool, apart: float = 2.0) -> Callable[[Rng], Made]:
    """Skewed values behind a predicate; the proxy tells the predicate, and the value too if weighted."""

    def maker(rng: Rng) -> Made:
        n = 100_000
        match = (rng.random(n) < share).astype(float)
        value = rng.lognormal(0, sigma, n)
        proxy = logistic(1.6 * (rng.standard_normal(n) + apart * match - 1.8))
        if weighted:
            proxy = proxy * value * np.exp(0.5 * rng.standard_normal(n))
        return proxy, value * match, match if average else None

    return maker


def _beta_average(trend: float, noise: float) -> Callable[[Rng], Made]:
    """The synthetic data of ABAE: proxy Beta(0.1, 0.5), predicate by it, a normal statistic."""

    def maker(rng: Rng) -> Made:
        proxy = rng.beta(0.1, 0.5, 100_000)
        match = (rng.random(100_000) < proxy).astype(float)
        return proxy, (10 + trend * proxy + rng.normal(0, noise, 100_000)) * match, match

    return maker


def _pareto(shape: float, share: float, noise: float) -> Callable[[Rng], Made]:
    def maker(rng: Rng) -> Made:
        n = 80_000
        y = (rng.pareto(shape, n) + 1) * (rng.random(n) < share)
        return (y + 0.3) * np.exp(noise * rng.standard_normal(n)) + 0.3 * rng.exponential(1, n), y, None

    return maker


def _skew(sigma: float, noise: float) -> Callable[[Rng], Made]:
    def maker(rng: Rng) -> Made:
        y = rng.lognormal(0, sigma, 80_000)
        return y * np.exp(noise * rng.standard_normal(80_000)), y, None

    return maker


def _outlier(share: float, shown: float) -> Callable[[Rng], Made]:
    """Counts with one row of this share of the total; the proxy shows so much of it."""

    def maker(rng: Rng) -> Made:
        y = counts(80_000, 0.4, 2.0, 2.0, rng)
        proxy = noisy(y, 0.8, rng)
        at = int(rng.integers(len(y)))
        y[at] = share * y.sum()
        if shown:
            proxy[at] = shown * y[at]
        return proxy, y, None

    return maker


def _boxes(rng: Rng) -> Made:
    """Averages over boxes in frames; the boxes of a frame are alike, so the frame is the unit."""
    n = 80_000
    d = counts(n, 0.35, 2.5, 2.0, rng)
    level = np.where(d > 0, rng.normal(30, 6, n), 0)
    return noisy(d, 0.8, rng), d * level + np.sqrt(d) * rng.normal(0, 8, n) * (d > 0), d


def _rare_average(share: float, sigma: float) -> Callable[[Rng], Made]:
    def maker(rng: Rng) -> Made:
        n = 80_000
        match = (rng.random(n) < share).astype(float)
        proxy = logistic(1.8 * (rng.standard_normal(n) + 2.2 * match - 2))
        return proxy, rng.lognormal(1, sigma, n) * match, match

    return maker


def _reversed_rare(share: float, apart: float) -> Callable[[Rng], Made]:
    def maker(rng: Rng) -> Made:
        match = rng.random(80_000) < share
        return logistic(1.5 * (rng.standard_normal(80_000) - apart * match)), match.astype(float), None

    return maker


def _integer(rng: Rng) -> Made:
    """A detector that counts: few distinct values, most of them 0."""
    y = counts(80_000, 0.3, 1.8, 1.5, rng)
    return rng.binomial(y.astype(np.int64), 0.8) + (rng.random(80_000) < 0.05).astype(float), y, None


def _two_cameras(
    first: tuple[float, float, float], second: tuple[float, float, float], correlation: float, factor: float
) -> Callable[[Rng], Made]:
    """Two cameras; the proxy of the second counts so much too much that equal scores mean different things."""

    def maker(rng: Rng) -> Made:
        n = 80_000
        y = np.concatenate((counts(n // 2, *first, rng), counts(n // 2, *second, rng)))
        proxy = noisy(y, correlation, rng)
        proxy[n // 2 :] *= factor
        return proxy, y, None

    return maker


def _blind_half(rng: Rng) -> Made:
    """The proxy is missing (NaN) for three rows of ten, the rarer of which match."""
    y = counts(80_000, 0.2, 1.8, 1.5, rng)
    proxy = noisy(y, 0.85, rng)
    proxy[rng.random(80_000) < 0.3] = np.nan
    return proxy, y, None


def _signs(mean: float, noise: float, tail: float) -> Callable[[Rng], Made]:
    """Gains and losses: the total is a part of what moves."""

    def maker(rng: Rng) -> Made:
        y = rng.normal(mean, 1.0, 80_000) * rng.lognormal(0, tail, 80_000)
        return y + rng.normal(0, noise, 80_000), y, None

    return maker


def _random(rng: Rng) -> Made:
    return rng.random(80_000), counts(80_000, 0.08, 1.4, 1.0, rng), None


def _every(rng: Rng) -> Made:
    """Every row matches; the proxy is of no use."""
    return rng.random(30_000), np.ones(30_000), None


def _geometric(rng: Rng) -> Made:
    """Heavy counts: most rows 0, a few dozens, proxy of correlation .6."""
    y = counts(80_000, 0.12, 9.0, 0.7, rng)
    return noisy(y, 0.6, rng), y, None


def _table(name: str) -> Callable[[Rng], Made]:
    def maker(_: Rng) -> Made:
        found = read(SHARED / "data" / _FILES[name], "count")
        return found.proxy, found.y, None

    return maker


def _video(name: str, every: int, correlation: float, least: int = 0) -> Callable[[Rng], Made]:
    """Real counts of a fixed camera, each `every`-th frame; a noisy detector as the proxy. least: frames with so many."""

    def maker(rng: Rng) -> Made:
        y = np.loadtxt(SHARED / "data" / _FILES[name])[::every]
        proxy = noisy(y, correlation, rng)
        return proxy, (y >= least).astype(float) if least else y, None

    return maker


for _r in (0.5, 0.8, 0.95):
    _of(f"counts40_r{_r}", "tuning", "dense", "count", _counts(100_000, 0.40, 1.8, 2.0, _r))
_of("counts60_r0.8", "tuning", "dense", "count", _counts(100_000, 0.60, 3.0, 3.0, 0.8))
_of("counts4_r0.8", "tuning", "sparse", "count", _counts(100_000, 0.04, 1.3, 1.0, 0.8))
_of("counts4_r0.95", "tuning", "sparse", "count", _counts(100_000, 0.04, 1.3, 1.0, 0.95))
_of("rare_weak", "tuning", "sparse", "count", _normal_rare(100_000, 0.005, 2.0))
_of("rare_strong", "tuning", "sparse", "count", _normal_rare(100_000, 0.005, 4.0))
_of("lognormal", "tuning", "skewed", "sum", _lognormal(0.2, 1.25, True, False))
_of("lognormal_p", "tuning", "skewed", "sum", _lognormal(0.2, 1.25, False, False))
_of("lognormal_avg", "tuning", "skewed", "avg", _lognormal(0.2, 1.25, True, True))
_of("abae", "tuning", "skewed", "avg", _beta_average(0.0, 3.0))
_of("tacred", "tuning", "sparse", "count", _table("tacred"))
_of("taipei", "tuning", "dense", "count", _video("taipei", 10, 0.85))
_of("T_fn10", "tuning", "sparse", "count", _missed(0.02, 0.10, (4, 2), (0.3, 6), False, False))
_of("T_fn5", "tuning", "sparse", "count", _missed(0.012, 0.05, (3, 2), (0.4, 6), False, False))
_of("T_fn0", "tuning", "sparse", "sum", _missed(0.02, 0.12, (4, 2), (0.3, 6), True, True))
_of("T_const", "tuning", "hostile", "count", _constant(0.35, 2.0, 2.0))
_of("T_rev", "tuning", "dense", "count", _reversed(0.5, 2.5, 0.75))
_of("T_revrare", "tuning", "hostile", "count", _reversed_rare(0.04, 2.0))
_of("T_pareto", "tuning", "skewed", "sum", _pareto(2.5, 0.3, 0.6))
_of("T_burst", "tuning", "skewed", "count", _counts(80_000, 0.22, 4.0, 0.35, 0.8))
_of("T_occ6", "tuning", "sparse", "count", _counts(80_000, 0.06, 1.6, 1.0, 0.75))
_of("T_occ14", "tuning", "sparse", "count", _counts(80_000, 0.14, 1.4, 1.0, 0.65))
_of("T_avg8", "tuning", "skewed", "avg", _rare_average(0.08, 0.9))
_of("T_outlier", "tuning", "skewed", "count", _outlier(0.06, 0.8))
_of("T_fn6", "tuning", "sparse", "count", _missed(0.009, 0.06, (4, 2), (0.4, 6), False, False))
_of("T_fn12", "tuning", "sparse", "count", _missed(0.015, 0.12, (3, 3), (0.5, 7), False, False))
_of("T_fn0s", "tuning", "sparse", "sum", _missed(0.013, 0.09, (4, 2), (0.3, 6), True, True))
_of("T_occ2", "tuning", "sparse", "count", _counts(80_000, 0.02, 1.5, 1.0, 0.8))
_of("T_signs", "tuning", "dense", "sum", _signs(0.5, 0.6, 0.5))
_of("T_cameras", "tuning", "dense", "count", _two_cameras((0.4, 2.2, 2.0), (0.08, 1.4, 1.0), 0.85, 6))
_of("T_dense", "tuning", "dense", "count", _counts(80_000, 0.8, 6.0, 4.0, 0.92))
_of("T_r95", "tuning", "dense", "count", _counts(80_000, 0.5, 2.6, 3.0, 0.95))

_of("counts60_r0.5", "held", "dense", "count", _counts(100_000, 0.60, 3.0, 3.0, 0.5))
_of("counts60_r0.95", "held", "dense", "count", _counts(100_000, 0.60, 3.0, 3.0, 0.95))
_of("counts4_r0.5", "held", "sparse", "count", _counts(100_000, 0.04, 1.3, 1.0, 0.5))
_of("abae2", "held", "skewed", "avg", _beta_average(8.0, 6.0))
_of("imagenet", "held", "sparse", "count", _table("imagenet"))
_of("taipei_weak", "held", "dense", "count", _video("taipei_weak", 12, 0.6))
_of("night_street", "held", "dense", "count", _video("night_street", 10, 0.9))
_of("night_street_weak", "held", "dense", "count", _video("night_street_weak", 12, 0.55))
_of("night_street_busy", "held", "sparse", "count", _video("night_street_busy", 10, 0.9, least=3))
_of("H_fn7", "held", "sparse", "count", _missed(0.01, 0.07, (4, 2), (0.3, 6), False, False))
_of("H_fn20", "held", "sparse", "count", _missed(0.03, 0.20, (3, 3), (0.5, 8), False, False))
_of("H_fn0", "held", "sparse", "sum", _missed(0.015, 0.08, (4, 2), (0.3, 6), True, True))
_of("H_const", "held", "hostile", "count", _constant(0.25, 1.6, 1.5))
_of("H_rev", "held", "dense", "count", _reversed(0.45, 2.2, 0.7))
_of("H_revrare", "held", "hostile", "count", _reversed_rare(0.025, 2.5))
_of("H_occ1.5", "held", "sparse", "count", _counts(80_000, 0.015, 1.5, 1.0, 0.8))
_of("H_occ10", "held", "sparse", "count", _counts(80_000, 0.10, 1.5, 1.0, 0.7))
_of("H_dense", "held", "dense", "count", _counts(80_000, 0.85, 8.0, 4.0, 0.9))
_of("H_burst", "held", "skewed", "count", _counts(80_000, 0.30, 3.0, 0.4, 0.85))
_of("H_skew", "held", "skewed", "sum", _skew(1.5, 0.8))
_of("H_par", "held", "skewed", "sum", _pareto(2.2, 0.5, 0.7))
_of("H_outK", "held", "skewed", "count", _outlier(0.10, 0.6))
_of("H_outU", "held", "skewed", "count", _outlier(0.02, 0.0))
_of("H_avg5", "held", "skewed", "avg", _rare_average(0.05, 1.0))
_of("H_avgbox", "held", "dense", "avg", _boxes)
_of("H_small", "held", "dense", "count", _counts(3_000, 0.30, 2.0, 2.0, 0.7))
_of("H_rare3", "held", "sparse", "count", _normal_rare(150_000, 0.003, 3.0))
_of("N_integer", "held", "dense", "count", _integer)
_of("N_cameras", "held", "dense", "count", _two_cameras((0.5, 2.5, 2.0), (0.05, 1.5, 1.0), 0.9, 10))
_of("N_blind", "held", "dense", "count", _blind_half)
_of("N_signs", "held", "dense", "sum", _signs(0.4, 0.7, 0.6))
_of("N_random", "held", "hostile", "count", _random)
_of("N_every", "held", "hostile", "count", _every)
_of("N_heavy", "held", "skewed", "count", _geometric)
_of("N_tiny", "held", "dense", "count", _counts(700, 0.5, 2.0, 2.0, 0.8))

# Kin of the weakest of the above, made after the constants were settled on the others.
_of("F_fn9", "held", "sparse", "count", _missed(0.011, 0.09, (3, 2), (0.4, 7), False, False))
_of("F_fn0", "held", "sparse", "sum", _missed(0.018, 0.06, (4, 3), (0.4, 7), True, True))
_of("F_occ3", "held", "sparse", "count", _counts(80_000, 0.03, 1.7, 1.0, 0.85))
_of("F_signs", "held", "dense", "sum", _signs(0.3, 0.5, 0.4))
_of("F_cameras", "held", "dense", "count", _two_cameras((0.6, 3.0, 2.0), (0.10, 1.6, 1.0), 0.8, 4))
_of("F_dense", "held", "dense", "count", _counts(80_000, 0.7, 4.0, 3.0, 0.93))
