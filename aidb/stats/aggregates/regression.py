"""What a stratified sample says of a total or a ratio: regression on the proxy, and how far it may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from aidb.stats.aggregates.strata import Floats, Ints, Strata

POOLED_EVIDENCE = 12.0
"""A block of strata with less evidence than this looks for a neighbour to share its variance with."""
COMPATIBLE = 1.5
"""Standard errors by which the logarithms of two variances may differ and still be pooled."""
UNSEEN = 1.0
"""Pseudo-observations added to the variance of every block, of the size of its own matches (of typical ones, where it
showed none); twice as many where it showed none. A count of x matches gets the standard error sqrt(x + 1): a rule that
stops when its own standard error is small stops too soon where x is small by chance (at 0.5 it covers 89% for 95)."""
FEW = 2.0
"""Matches of a block at which half of what is added is still what is typical elsewhere."""
STOPPING = 0.5
"""Stopping by the variance of the same rows biases a total by -third / variance if it is looked at after every row;
this share of it is left with looks as far apart as here."""
LEVEL, LEVEL_EVEN = 0.8, 0.92
"""Share of the failure probability that the t quantile spends; the rest is for what looking and allocating by the
same rows costs. Where all strata are sampled at the same rate, nothing was allocated and less is kept back."""
UNEVEN = 0.05
"""Squared coefficient of variation of the rates from which on they count as uneven."""
TAIL, TAIL_MOST = 0.8, 0.2
"""Where few large values make up the variance, the quantile grows by TAIL / sqrt(evidence): larger ones were not seen."""
TRUST = 10.0
"""Evidence at which a plan lies about half way between a block's own spread and that of all of them."""
ROUNDING = 1e-18
"""Squared residuals below this share of the squared values are no differences."""
SHIFT_MOST = 0.6
"""The correction for skewness moves the centre by at most this share of the half width."""


class Sample:
    """The rows asked so far, with what every estimate from them shares.

    codes: (m,) stratum of each answered row. proxy: (m,). asked: (K,) rows asked, answered or not. All rows of a
    stratum may be asked; then it has no sampling error left.
    """

    def __init__(self, strata: Strata, codes: npt.NDArray[np.integer[Any]], proxy: Floats, asked: Ints) -> None:
        count = strata.count
        self.codes = codes
        self.rows = strata.sizes.astype(np.float64)
        self.n = np.bincount(codes, minlength=count).astype(np.float64)
        self.open = np.clip(1 - asked / self.rows, 0, 1)
        self.rate = asked / self.rows
        self.certain = strata.certain
        share = self.rows / self.rows.sum()
        rate = float((share * self.rate).sum())
        self.uneven = float((share * (self.rate / rate - 1) ** 2).sum()) if rate > 0 else 0.0
        centre = strata.means[codes]
        gap = proxy - centre
        mean_gap = self.mean(gap)
        self.ahead = -mean_gap
        """(K,) how far the mean proxy of the stratum lies above that of its sample."""
        self.gap = gap - mean_gap[codes]
        self.spread = self.sum(self.gap * self.gap)
        # What a squared residual of a stratum weighs in the variance of the total.
        self.leverage = self.rows**2 * self.open / (np.maximum(self.n, 1) * np.maximum(self.n - 1, 1))

    def sum(self, values: Floats) -> Floats:
        """(K,) sums over the rows of each stratum."""
        return summed(self.codes, values, len(self.n))

    def mean(self, values: Floats) -> Floats:
        """(K,) means over the rows of each stratum; 0 where there is none."""
        return self.sum(values) / np.maximum(self.n, 1)


@dataclass(frozen=True)
class Fit:
    """An estimate and what its interval is made of, all in the units of a total; `scale` turns a total into the answer.

    value: the estimate before the correction for skewness. variance: of the total. third: third central moment of the
    total. df: degrees of freedom of the variance. evidence: effective number of rows behind the variance. matches:
    rows seen that count. block: (K,) block of each stratum whose variances are pooled; spread: (blocks,) variance of
    a row; unseen: (blocks,) the sum of squares of the pseudo-observations; rows: (blocks,); strength: (blocks,)
    evidence of each. drift: how much too low the rule of allocation makes the total. heavy: from 0 (residuals of
    normal tails, or rare matches that are all alike) to 1 (a few values make up the variance). level: share of the
    failure probability that the quantile spends.
    """

    value: float
    scale: float
    variance: float
    third: float
    df: float
    evidence: float
    matches: int
    block: Ints
    spread: Floats
    unseen: Floats
    rows: Floats
    strength: Floats
    drift: float
    heavy: float
    level: float

    def quantile(self, failure: float) -> float:
        """Half width of the interval in standard errors, for this probability of failure."""
        t = float(-special.stdtrit(max(self.df, 3.0), self.level * failure / 2))
        tail = TAIL * self.heavy / np.sqrt(max(self.evidence, 1.0))
        return float(t * (1 + min(tail, TAIL_MOST)))

    def interval(self, failure: float) -> tuple[float, float]:
        """Centre and half width."""
        if self.variance <= 0 or self.scale == 0:
            return self.value, 0.0
        q = self.quantile(failure)
        half = q * np.sqrt(self.variance)
        # Hall's correction for skewness, and what the rules of stopping and of allocation themselves do to the mean.
        shift = ((2 * q * q + 1) / 6 + STOPPING) * self.third / self.variance + self.drift
        shift = float(np.clip(shift, -SHIFT_MOST * half, SHIFT_MOST * half))
        return self.value + shift * self.scale, float(half * abs(self.scale))


def summed(places: npt.NDArray[np.integer[Any]], values: Floats, many: int) -> Floats:
    """(many,) sums of the values at each place, as floats also where there is none."""
    return np.bincount(places, values, minlength=many).astype(np.float64, copy=False)


def fit(sample: Sample, y: Floats, d: Floats | None, known: tuple[float, float] = (0.0, 0.0)) -> Fit:
    """The total of y, or the ratio of the totals of y and d, over all rows of the strata and the known ones.

    y, d: (m,) beside the sample's rows. known: totals of y and d over rows outside the strata.
    """
    slope, own, total = _slopes(sample, y)
    total += known[0]
    if d is None:
        value, scale, matching = total, 1.0, y != 0
        residual = y - slope[sample.codes] * sample.gap
    else:
        slope_d, _, weight = _slopes(sample, d)
        weight += known[1]
        value = total / weight if weight > 0 else 0.0
        scale, matching = (1 / weight if weight > 0 else 0.0), d != 0
        residual = (y - value * d) - (slope - value * slope_d)[sample.codes] * sample.gap
    # What a matching row adds where no slope foretells it, and how large it is.
    effect, size = (y, np.abs(y)) if d is None else (y - value * d, np.abs(value * d))
    return _spread(sample, residual, effect, size, matching, own, value, scale)


def _slopes(sample: Sample, v: Floats) -> tuple[Floats, Floats, float]:
    """(K,) slopes on the proxy, (K,) how far each is its own, and the total of v by regression.

    Each stratum's slope lies between the pooled one and its own, by the evidence for it, and is drawn to nothing
    where nothing was seen: an empty stratum must not look predictable.
    """
    mean = sample.mean(v)
    rest = v - mean[sample.codes]
    squares = rest * rest
    second, fourth = sample.sum(squares), sample.sum(squares * squares)
    cross = sample.sum(rest * sample.gap)
    weight = sample.leverage
    evidence = _ratio(second**2, fourth)
    overall = float(_ratio((weight * second).sum() ** 2, (weight**2 * fourth).sum()))
    pooled = float(_ratio((weight * cross).sum(), (weight * sample.spread).sum()))
    pooled *= max(overall - 3, 0) / (max(overall - 3, 0) + 6)
    own = np.maximum(evidence - 5, 0) / (np.maximum(evidence - 5, 0) + 25)
    seen = sample.sum((v != 0).astype(np.float64))
    separate = _ratio(cross, sample.spread)
    slope = np.where(sample.spread > 0, (pooled + own * (separate - pooled)) * seen / (seen + 2), 0.0)
    total = float((sample.rows * (mean + slope * sample.ahead)).sum())
    return slope, own, total


def _spread(
    sample: Sample,
    residual: Floats,
    effect: Floats,
    size: Floats,
    matching: npt.NDArray[np.bool_],
    own: Floats,
    value: float,
    scale: float,
) -> Fit:
    """The variance of a total from its residuals, with what makes it safe: pooling, unseen rows, skewness."""
    n, rows, open_ = sample.n, sample.rows, sample.open
    rest = residual - sample.mean(residual)[sample.codes]
    squares = rest * rest
    second, third, fourth = sample.sum(squares), sample.sum(squares * rest), sample.sum(squares * squares)
    seen = sample.sum(matching.astype(np.float64))
    matches = int(seen.sum())
    typical2 = typical3 = 0.0
    # Rows taken because they are huge are not typical of what was not seen; they count only if there is nothing else.
    typical = matching & ~sample.certain[sample.codes]
    typical = typical if typical.any() else matching
    if matches:
        design = (rows / np.maximum(n, 1))[sample.codes[typical]]
        e = effect[typical]
        typical2 = float((design * e**2).sum() / design.sum())
        typical3 = float((design * e**3).sum() / design.sum())
        whole = float((design * size[typical] ** 2).sum() / design.sum())
        # All alike: one unlike them could differ by its size.
        typical2 = whole if max(typical2, float(squares.max())) <= ROUNDING * whole else typical2
    # Strata of which every row was asked have no part in what is left to err, nor in what is believed of their neighbours.
    left = (open_ > 0).astype(np.float64)
    second, third, fourth, seen = (left * v for v in (second, third, fourth, seen))
    df = np.maximum(n - 1 - own - 1 / len(n), 1)
    closed = rows * left + 1e-12
    block = _blocks(second, fourth, n * left, closed * second, closed * df, seen)
    many = int(block.max()) + 1

    def by(v: Floats) -> Floats:
        return summed(block, v, many)

    df_b, n_b, rows_b = by(left * df) + 1e-12, np.maximum(by(left * n), 1), by(left * rows) + 1e-12
    plain = by(closed * second) / by(closed * df)
    evidence = np.minimum(_ratio(by(second) ** 2, by(fourth)), by(seen))
    # An empty block of N rows is given the standard error of one typical matching row in n: N typical / n. The more is
    # seen, the less it takes of what is typical elsewhere; where all rows are alike in size their spread is no guess.
    borrowed = FEW / (FEW + by(seen))
    pseudo = UNSEEN * (1 + borrowed) * np.where(by(left * rows) > 0, np.maximum(1 - evidence / n_b, 0), 0)
    weight = pseudo / (evidence + borrowed)
    unseen = weight * (by(second) + borrowed * typical2)
    spread = plain + unseen / df_b
    safe = np.maximum(n, 1)
    variance = float((rows**2 * open_ * spread[block] / safe).sum())
    skew = by(closed * third) / (by(closed * n) + 1e-300) + weight * (by(third) + borrowed * typical3) / n_b
    lean = (rows**3 / safe**2 * open_ * np.clip(1 - 2 * sample.rate, 0, 1) * skew[block]).sum()
    drift = _drift(by(closed * third) / (by(closed * n) + 1e-300), plain, evidence, by(rows * open_), n_b)
    share = by(rows**2 * open_ * plain[block] / safe)
    some = evidence > 0
    # A variance estimated from rows of heavy tails has fewer degrees of freedom than rows (by its kurtosis).
    kurtosis = 1 / (evidence + UNSEEN) - (n_b - 3) / (n_b * np.maximum(n_b - 1, 1))
    df_block = np.clip(2 / np.maximum(kurtosis, 2 / n_b), 1, n_b)
    wobble = float((share[some] ** 2 / df_block[some]).sum())
    behind = float(_ratio(share.sum() ** 2, (share**2 / np.maximum(evidence, 1)).sum())) if some.any() else 0.0
    alike = float(_ratio(share.sum() ** 2, (share**2 / np.maximum(by(seen), 1)).sum()))
    return Fit(
        value=value,
        scale=scale,
        variance=variance,
        third=float(lean),
        df=variance**2 / wobble if wobble > 0 else 1e6,
        evidence=behind,
        matches=matches,
        block=block,
        spread=plain,
        unseen=unseen,
        rows=rows_b,
        strength=evidence,
        drift=drift,
        level=LEVEL_EVEN + (LEVEL - LEVEL_EVEN) * min(sample.uneven / UNEVEN, 1.0),
        heavy=float(np.clip(1 - 3 * behind / max(alike, 1.0), 0, 1)) if behind > 0 else 0.0,
    )


def _drift(third: Floats, second: Floats, evidence: Floats, left: Floats, n: Floats) -> float:
    """How much too low a total is found to be because strata that showed little were asked less.

    With n in proportion to a standard deviation from the same rows, E(mean - truth) = -third / (2 second n): the two
    are correlated. All arrays are by block; the plan trusts a block's own spread by its evidence (`TRUST`).
    """
    trusted = evidence / (evidence + TRUST)
    return float((trusted * _ratio(third, second) * left / np.maximum(n, 1)).sum()) / 2


def _blocks(second: Floats, fourth: Floats, n: Floats, num: Floats, den: Floats, seen: Floats) -> Ints:
    """(K,) block of each stratum: neighbours with little evidence are joined where their variances allow it.

    Look-alike strata that by chance saw few matches would otherwise be sampled less and believed too soon.
    """
    # Per block: second and fourth moments, numerator and denominator of the variance, rows, matches, strata.
    parts = list(np.column_stack((second, fourth, num, den, n, seen, np.ones(len(n)))))
    stuck: set[int] = set()
    while len(parts) > 1:
        thin = [(_evidence(p), p[4], i) for i, p in enumerate(parts) if id(p) not in stuck]
        x, _, i = min(thin, default=(POOLED_EVIDENCE, 0.0, 0))
        if x >= POOLED_EVIDENCE:
            break
        near = [(_apart(parts[i], parts[j]), j) for j in (i - 1, i + 1) if 0 <= j < len(parts)]
        gap, j = min(near)
        if gap > COMPATIBLE:
            stuck.add(id(parts[i]))
            continue
        left = min(i, j)
        parts[left : left + 2] = [parts[left] + parts[left + 1]]
    return np.repeat(np.arange(len(parts)), [int(p[6]) for p in parts])


def _evidence(part: Floats) -> float:
    return float(min(part[0] ** 2 / part[1], part[5])) if part[1] > 0 else 0.0


def _apart(a: Floats, b: Floats) -> float:
    """How badly the variances of two blocks fit together, in standard errors."""
    x, other = _evidence(a), _evidence(b)
    if x > 0 and other > 0:
        return float(abs(np.log(a[2] * b[3] / (a[3] * b[2]))) / np.sqrt(1 / x + 1 / other))
    if x == other:
        return 0.0
    # One is empty. By the other's rate it should have shown this much; up to 3 is chance (rule of three).
    expected = other * a[4] / b[4] if x == 0 else x * b[4] / a[4]
    return float(COMPATIBLE * expected / 3)


def _ratio(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """a / b, and 0 where b is not positive."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    out: Floats = np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b > 0)
    return out
