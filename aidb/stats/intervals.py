"""Intervals and bounds for counts, rates, means and quantiles of samples.

Two kinds, and every docstring says which:

- *exact*: right with the promised probability for every population of the given size and range, at every sample size
  (`hypergeometric_lower`, `hypergeometric_upper`, `binomial_lower`, `binomial_upper`, `clopper_pearson`,
  `empirical_bernstein`, `betting`);
- *approximate*: right for samples that are large enough (`student`, `bootstrap`, `woodruff`). These refuse, with a
  `ValueError`, samples from which nothing can be said: a sample without spread would give an interval without width.

Bounds are one-sided and take `delta`, the probability of being wrong. Intervals are two-sided and take
`probability`, the probability of being right.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log, sqrt
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

Floats: TypeAlias = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Both ends belong to it; an end that nothing is known of is infinite."""

    low: float
    high: float


def hypergeometric_cdf(hits: int, population: int, successes: int, drawn: int) -> float:
    """P(at most `hits` of `drawn` rows are successes), drawn without replacement from `population` rows.

    Exact to about nine digits, for populations up to 1e9; takes time and memory of a few standard deviations of the
    count, not of the population. Tails below 1e-40 may be given as 0.
    """
    _check_counts(hits, population, drawn)
    if not 0 <= successes <= population:
        raise ValueError(f"{successes} successes in a population of {population}")
    least, most = max(0, drawn - (population - successes)), min(drawn, successes)
    if hits < least:
        return 0.0
    if hits >= most:
        return 1.0
    mean = drawn * successes / population
    spread = sqrt(mean * (1 - successes / population) * (population - drawn) / max(population - 1, 1))
    reach = int(15 * spread) + 60
    low, high = max(least, int(mean) - reach), min(most, int(mean) + reach)
    if hits < low:
        return 0.0
    if hits >= high:
        return 1.0
    # P(j + 1) / P(j) is a ratio of small products: summing its logarithms loses nothing, where the logarithms of the
    # binomial coefficients of a large population would lose most of their digits.
    j = np.arange(low, high, dtype=np.float64)
    steps = np.log((successes - j) * (drawn - j)) - np.log((j + 1) * (population - successes - drawn + j + 1))
    weights = np.concatenate(([0.0], np.cumsum(steps)))
    weights = np.exp(weights - weights.max())
    below, above = float(weights[: hits - low + 1].sum()), float(weights[hits - low + 1 :].sum())
    return below / (below + above)


def hypergeometric_lower(hits: int, population: int, drawn: int, delta: float) -> int:
    """Successes that a population holds at least, with probability 1 - delta.

    hits: successes among `drawn` rows taken uniformly without replacement from `population` rows. The bound is the
    smallest number of successes under which `hits` or more have a probability above delta: exact (Clopper and
    Pearson's inversion; Wright 1991), never below `hits`. drawn = 0 gives 0; drawn = population gives `hits`.
    """
    _check_counts(hits, population, drawn)
    _check_delta(delta)
    low, high = hits, population - (drawn - hits)
    if drawn == 0 or hits == 0:
        return hits

    def possible(successes: int) -> bool:
        """Whether so many successes would give `hits` or more often enough; once true, true for more."""
        return _upper_tail(hits, population, successes, drawn) > delta

    # A normal guess first: the ends of the search then lie close together.
    guess = population * hits / drawn
    reach = 4 * population * sqrt(max(hits, 1) * (1 - drawn / population)) / drawn + 2
    for end in (int(guess - reach), int(guess)):
        if low < end < high:
            low, high = (low, end) if possible(end) else (end + 1, high)
    while low < high:
        middle = (low + high) // 2
        if possible(middle):
            high = middle
        else:
            low = middle + 1
    return low


def hypergeometric_upper(hits: int, population: int, drawn: int, delta: float) -> int:
    """Successes that a population holds at most, with probability 1 - delta: `hypergeometric_lower` of the failures."""
    _check_counts(hits, population, drawn)
    return population - hypergeometric_lower(drawn - hits, population, drawn, delta)


def binomial_lower(hits: int, drawn: int, delta: float) -> float:
    """The rate of success at least, with probability 1 - delta: exact (Clopper and Pearson 1934), 0 without a hit.

    hits: successes among `drawn` independent draws; also right, if wide, for draws without replacement.
    """
    _check_counts(hits, drawn, drawn)
    _check_delta(delta)
    return 0.0 if hits == 0 else float(betaincinv(hits, drawn - hits + 1, delta))


def binomial_upper(hits: int, drawn: int, delta: float) -> float:
    """The rate of success at most, with probability 1 - delta: exact (Clopper and Pearson 1934), 1 without a failure."""
    _check_counts(hits, drawn, drawn)
    return 1.0 - binomial_lower(drawn - hits, drawn, delta)


def clopper_pearson(hits: int, drawn: int, probability: float = 0.95) -> Interval:
    """The rate of success, exact: both binomial bounds at half of what is left of `probability`."""
    tail = _tail(probability)
    return Interval(binomial_lower(hits, drawn, tail), binomial_upper(hits, drawn, tail))


def empirical_bernstein(
    values: npt.ArrayLike, probability: float = 0.95, *, low: float = 0.0, high: float = 1.0
) -> Interval:
    """The mean of independent draws from [low, high], exact (Maurer and Pontil 2009, theorem 4, on both sides).

    values: (n,), n >= 2, independent or drawn without replacement. Narrow where the values vary little; needs some
    hundred values before it says anything. `betting` is narrower and costs more time.
    """
    x = _bounded(values, low, high)
    if len(x) < 2:
        raise ValueError(f"empirical Bernstein needs two values or more, not {len(x)}")
    term = log(2 / _tail(probability))
    reach = sqrt(2 * float(x.var(ddof=1)) * term / len(x)) + 7 * term / (3 * (len(x) - 1))
    mean = float(x.mean())
    return Interval(low + (high - low) * max(0.0, mean - reach), low + (high - low) * min(1.0, mean + reach))


def betting(
    values: npt.ArrayLike,
    probability: float = 0.95,
    *,
    low: float = 0.0,
    high: float = 1.0,
    population: int | None = None,
) -> Interval:
    """The mean of values in [low, high], exact, from the wealth of a bettor against each mean.

    values: (n,), in the order in which they were drawn: independent draws, or, where `population` gives the size of
    the finite population, draws without replacement (the interval is then for that population's mean). A mean is
    excluded once a bettor who only ever plays fair games against it would have multiplied their money by
    2 / (1 - probability). No value at all gives [low, high].

    Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting": the hedged capital of
    theorem 3 with predictable plug-in bets, and of section 5 without replacement. Bets are cut off at 3/4 of what
    could ruin the bettor, so that wealth falls (rises) as the mean grows, and each end is found by bisection.
    """
    x = _bounded(values, low, high)
    n = len(x)
    if population is not None and n > population:
        raise ValueError(f"{n} values drawn without replacement from a population of {population}")
    if n == 0:
        return Interval(low, high)
    wanted = log(1 / _tail(probability))
    bets = _bets(x, wanted)
    floor = _excluded_below(x, bets, wanted, population)
    ceiling = 1 - _excluded_below(1 - x, bets, wanted, population)
    # Both bettors may win, with the probability that the interval is wrong anyway: then the ends have crossed.
    ends = sorted((low + (high - low) * floor, low + (high - low) * ceiling))
    return Interval(ends[0], ends[1])


def student(
    values: npt.ArrayLike, probability: float = 0.95, *, population: int | None = None, fewest: int = 30
) -> Interval:
    """The mean by the central limit theorem with Student's quantile: approximate.

    values: (n,), independent, or without replacement from a finite `population` (the interval is then narrower).
    Refuses (`ValueError`) fewer than `fewest` values, and values that are all the same: neither says how wide the
    interval should be. A rare large value that the sample missed is beyond it; `betting` knows no such gap.
    """
    x = _finite(values)
    if len(x) < max(fewest, 2):
        raise ValueError(f"{len(x)} values are too few for a normal interval (needs {max(fewest, 2)})")
    spread = float(x.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(x).max()):
        raise ValueError("all values are the same, which says nothing of how much they vary: use betting")
    free = 1.0 if population is None else max(0.0, 1 - len(x) / population)
    reach = float(stdtrit(len(x) - 1, 1 - _tail(probability))) * spread * sqrt(free / len(x))
    return Interval(float(x.mean()) - reach, float(x.mean()) + reach)


def bootstrap(
    values: npt.ArrayLike,
    statistic: Callable[[Floats], float],
    probability: float = 0.95,
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> Interval:
    """Any smooth statistic of independent draws by resampling, bias-corrected and accelerated (Efron 1987): approximate.

    values: (n,) or (n, d), one draw a row, n >= 10. statistic: such an array to a number. Calls it
    `resamples` + n + 1 times. Refuses (`ValueError`) fewer values, and a statistic that no resample changes.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n < 10:
        raise ValueError(f"{n} values are too few to resample (needs 10)")
    seen = statistic(x)
    again = np.sort([statistic(x[rng.integers(0, n, n)]) for _ in range(resamples)])
    if again[0] == again[-1]:
        raise ValueError("every resample gives the same figure, which says nothing of how much it varies")
    without = np.array([statistic(np.delete(x, i, axis=0)) for i in range(n)])
    lean = without.mean() - without
    cubed, squared = float((lean**3).sum()), float((lean**2).sum())
    speed = cubed / (6 * squared**1.5) if squared > 0 else 0.0
    # Half of the ties count as below: a statistic of few values repeats itself.
    rank = float((again < seen).mean() + (again == seen).mean() / 2)
    bias = float(ndtri(min(max(rank, 0.5 / resamples), 1 - 0.5 / resamples)))
    ends = bias + ndtri(np.array([_tail(probability), 1 - _tail(probability)]))
    low, high = np.quantile(again, ndtr(bias + ends / (1 - speed * ends)))
    return Interval(float(low), float(high))


def woodruff(values: npt.ArrayLike, q: float, probability: float = 0.95, *, weights: npt.ArrayLike = 1.0) -> Interval:
    """The q-quantile of a population from a weighted sample, by inverting its distribution function: approximate.

    values: (n,). weights: (n,) or one number, the inverse of each row's probability to be in the sample. An end at
    which the sample holds no value (a quantile too far out for so small a sample) is infinite.

    Woodruff 1952, "Confidence intervals for medians and other position measures". The interval for the distribution
    function at the quantile is a binomial one with as many draws as the weighted sample is worth (Korn and Graubard
    1998), so that few values make it wide, never empty.
    """
    x = _finite(values)
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, not {q}")
    if len(x) < 2:
        raise ValueError(f"a quantile's interval needs two values or more, not {len(x)}")
    w = np.broadcast_to(np.asarray(weights, dtype=np.float64), x.shape)
    if not (np.isfinite(w).all() and (w > 0).all()):
        raise ValueError("weights must be finite and above 0")
    order = np.argsort(x, kind="stable")
    x, share = x[order], w[order] / w.sum()
    below = np.cumsum(share)
    at = x[_reaching(below, q)]
    variance = float(((share * ((x <= at) - q)) ** 2).sum()) * len(x) / (len(x) - 1)
    worth = min(float(len(x)), q * (1 - q) / variance)
    low = float(betaincinv(worth * q, worth * (1 - q) + 1, _tail(probability)))
    high = float(betaincinv(worth * q + 1, worth * (1 - q), 1 - _tail(probability)))
    return Interval(
        float(x[_reaching(below, low)]) if low > below[0] else -inf,
        float(x[_reaching(below, high)]) if high <= below[-2] else inf,
    )


def _reaching(below: Floats, level: float) -> int:
    """Index of the first value at which the distribution function reaches a level."""
    return min(int(np.searchsorted(below, level - 1e-12)), len(below) - 1)


def _upper_tail(hits: int, population: int, successes: int, drawn: int) -> float:
    """P(at least `hits`), as the lower tail of the failures, so that small tails keep their digits."""
    if hits == 0:
        return 1.0
    return hypergeometric_cdf(drawn - hits, population, population - successes, drawn)


def _bets(x: Floats, wanted: float) -> Floats:
    """Stakes, each from the values before it only (Waudby-Smith and Ramdas 2024, equation 26)."""
    count = np.arange(1, len(x) + 1)
    means = (0.5 + np.cumsum(x)) / (count + 1)
    spreads = (0.25 + np.cumsum((x - means) ** 2)) / (count + 1)
    before = np.concatenate(([0.25], spreads[:-1]))
    return np.sqrt(2 * wanted / (len(x) * before))


def _excluded_below(x: Floats, bets: Floats, wanted: float, population: int | None) -> float:
    """The mean up to which every mean is excluded as too low: wealth falls as the mean grows."""
    if population is None:
        taken, rest = np.zeros(1), np.ones(1)
    else:
        taken = np.concatenate(([0.0], np.cumsum(x)[:-1]))
        rest = population - np.arange(len(x), dtype=np.float64)

    def too_low(mean: float) -> bool:
        # What the mean of the rows not yet drawn would have to be.
        fair = np.broadcast_to(mean if population is None else (population * mean - taken) / rest, x.shape)
        if (fair < -1e-9).any():
            return True
        stakes = np.minimum(bets, 0.75 / np.maximum(fair, 1e-12))
        wealth = np.cumsum(np.log1p(stakes * (x - np.minimum(fair, 1.0))))
        return bool(wealth.max() >= wanted)

    low, high = 0.0, 1.0
    if not too_low(low):
        return 0.0
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return low


def _bounded(values: npt.ArrayLike, low: float, high: float) -> Floats:
    """The values, brought to [0, 1]."""
    x = _finite(values)
    if not low < high:
        raise ValueError(f"the range [{low}, {high}] is empty")
    if len(x) and not (low <= x.min() and x.max() <= high):
        raise ValueError(f"values from {x.min()} to {x.max()} do not lie in [{low}, {high}]")
    return np.clip((x - low) / (high - low), 0.0, 1.0)


def _finite(values: npt.ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise ValueError(f"values must have one dimension, not {x.ndim}")
    if not np.isfinite(x).all():
        raise ValueError("values must be finite")
    return x


def _tail(probability: float) -> float:
    """What may go wrong on each side."""
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie between 0 and 1, not {probability}")
    return (1 - probability) / 2


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, not {delta}")


def _check_counts(hits: int, population: int, drawn: int) -> None:
    if not 0 <= hits <= drawn <= population:
        raise ValueError(f"{hits} hits in {drawn} rows drawn from {population}")
