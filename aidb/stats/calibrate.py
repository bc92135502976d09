"""From scores to probabilities, and how good a proxy is on labels that it has not seen.

A calibrated proxy plans better; no guarantee rests on it. Labels that fitted a calibration must not measure it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtri

Floats: TypeAlias = npt.NDArray[np.float64]

_ISOTONIC_FROM = 100
"""Positives (and negatives) from which on steps follow the data better than a curve of two parameters."""


@dataclass(frozen=True)
class Platt:
    """Probability = 1 / (1 + exp(-(slope * score + intercept)))."""

    slope: float
    intercept: float

    def __call__(self, scores: npt.ArrayLike) -> Floats:
        """Scores of any shape to probabilities; NaN to NaN."""
        given = np.asarray(scores, dtype=np.float64)
        with np.errstate(invalid="ignore"):
            curve = given * self.slope if self.slope else np.where(np.isnan(given), np.nan, 0.0)
        probabilities: Floats = expit(curve + self.intercept)
        return probabilities


@dataclass(frozen=True)
class Isotonic:
    """Probability by steps that never fall: `probabilities[i]` at `scores[i]`, straight between, level outside."""

    scores: Floats
    probabilities: Floats

    def __call__(self, scores: npt.ArrayLike) -> Floats:
        """Scores of any shape to probabilities; NaN to NaN."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.probabilities)


@dataclass(frozen=True)
class Quality:
    """How good scores are on held-out labels.

    auc: the chance that a random match scores above a random other item, ties half; for values that are not 0 and 1, of
    any two different ones, the higher. correlation: Pearson's. log_loss: mean -log of the probability given to what was
    the case, None where the scores are not probabilities of matches. evidence: standard deviations by which the rank
    correlation lies above 0. useless: no better than chance, as far as these labels can tell (one-sided, at the given
    probability); None if there are too few to say.
    """

    auc: float
    correlation: float
    log_loss: float | None
    evidence: float
    labels: int
    useless: bool | None


def fit(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Platt | Isotonic:
    """Platt's curve, or steps where there are 100 positives and as many negatives. Arguments as `platt`."""
    _, y, _ = _pairs(scores, labels, None)
    enough = min(y.sum(), len(y) - y.sum()) >= _ISOTONIC_FROM
    return isotonic(scores, labels) if enough else platt(scores, labels)


def platt(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Platt:
    """A logistic curve by maximum likelihood, with Platt's softened targets (1999), so that it exists in every case.

    scores, labels: (m,); labels are true or false, or NaN: such pairs, and those whose score is not finite, are left out.
    weights: (m,), positive, such as one over the chance of having been sampled. With a constant score, or no labels, the
    curve is level: the share of positives, one positive and one negative added.
    """
    x, y, w = _pairs(scores, labels, weights)
    w = w * (len(w) / w.sum()) if len(w) else w
    yes, no = float((w * y).sum()), float((w * (1 - y)).sum())
    target = np.where(y > 0, (yes + 1) / (yes + 2), 1 / (no + 2))
    level = float(np.log((yes + 1) / (no + 1)))
    centre, spread = (float(np.median(x)), float(x.std())) if len(x) else (0.0, 0.0)
    if spread <= 1e-12 * max(1.0, abs(centre)):
        return Platt(0.0, level)
    z = (x - centre) / spread
    design = np.stack([z, np.ones_like(z)], axis=1)
    beta = np.array([0.0, level])
    loss = _deviance(design @ beta, target, w)
    for _ in range(100):
        p = expit(design @ beta)
        gradient = design.T @ (w * (p - target))
        curvature = (design * (w * p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        scale = 1.0
        while scale > 1e-6 and _deviance(design @ (beta - scale * step), target, w) > loss:
            scale /= 2  # Newton's step may go too far; the loss is convex, so a shorter one helps
        beta = beta - scale * step
        before, loss = loss, _deviance(design @ beta, target, w)
        if before - loss <= 1e-10 * max(1.0, loss):
            break
    return Platt(float(beta[0] / spread), float(beta[1] - beta[0] * centre / spread))


def isotonic(scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Isotonic:
    """The steps that fit best in least squares, by pooling neighbours that are out of order (Ayer et al., 1955).

    Arguments as `platt`; labels may be any numbers, and then it is their mean. Raises ValueError if there are none.
    """
    x, y, w = _pairs(scores, labels, weights)
    if not len(x):
        raise ValueError("no pair of a finite score and a label: nothing to fit")
    levels, place = np.unique(x, return_inverse=True)
    weight = np.bincount(place, w)
    mean = np.bincount(place, w * y) / weight
    blocks: list[tuple[float, float, int]] = []  # mean, weight, levels
    for value, mass in zip(mean.tolist(), weight.tolist(), strict=True):
        size = 1
        while blocks and blocks[-1][0] >= value:
            other, more, count = blocks.pop()
            value = (value * mass + other * more) / (mass + more)
            mass, size = mass + more, size + count
        blocks.append((value, mass, size))
    sizes = [size for _, _, size in blocks]
    fitted = np.repeat([value for value, _, _ in blocks], sizes)
    # Only the two ends of a step are needed.
    ends = np.unique(np.concatenate([np.cumsum(sizes) - 1, np.cumsum(sizes) - sizes]))
    return Isotonic(levels[ends], fitted[ends])


def quality(scores: npt.ArrayLike, labels: npt.ArrayLike, *, probability: float = 0.95) -> Quality:
    """How good scores are, measured on labels that had no part in making them; uniformly sampled, or it is of the sample.

    scores, labels: (m,), m >= 1 after pairs with a NaN are left out. The test of uselessness asks whether the rank
    correlation could be chance: without a relation its variance is 1/(m - 1), ties or not (Kendall and Gibbons, 1990);
    with truth values it is Mann and Whitney's test. Below five labels of either kind it says nothing.
    """
    given, values, _ = _pairs(scores, labels, None, infinite=True)
    if not len(given):
        raise ValueError("no pair of a score and a label: nothing to measure")
    ranked, outcome = _ranks(given), _ranks(values)
    truth = bool(np.isin(values, (0.0, 1.0)).all())
    evidence = _correlation(ranked, outcome) * np.sqrt(max(len(given) - 1, 0))
    rarer = (
        min(values.sum(), len(values) - values.sum())
        if truth
        else len(values) - np.unique(values, return_counts=True)[1].max()
    )
    probabilities = truth and bool(((given >= 0) & (given <= 1)).all())
    return Quality(
        auc=_concordance(given, values),
        correlation=_correlation(np.clip(given, *_range(given)), values),
        log_loss=_log_loss(given, values) if probabilities else None,
        evidence=float(evidence),
        labels=len(given),
        useless=None if rarer < 5 else bool(evidence < ndtri(probability)),
    )


def _pairs(
    scores: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None, *, infinite: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Those with a label and a score, and a weight each."""
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.shape != w.shape:
        raise ValueError(f"one label and one weight for each score: {x.shape}, {y.shape}, {w.shape}")
    if not (np.isfinite(w) & (w > 0)).all():
        raise ValueError("weights must be positive and finite")
    there = ~np.isnan(y) & (~np.isnan(x) if infinite else np.isfinite(x))
    return x[there], y[there], w[there]


def _deviance(curve: Floats, target: Floats, weight: Floats) -> float:
    return float((weight * (np.logaddexp(0, curve) - target * curve)).sum())


def _ranks(values: Floats) -> Floats:
    """1 for the lowest; equal values share the mean of their ranks."""
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(times)
    shared: Floats = (ends - (times - 1) / 2)[place]
    return shared


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def _range(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)


def _concordance(scores: Floats, values: Floats) -> float:
    """Of pairs with different values, the share in which the higher value has the higher score; 1/2 without any."""
    kinds, code, times = np.unique(values, return_inverse=True, return_counts=True)
    if len(kinds) < 2:
        return 0.5
    if len(kinds) > 50:  # many values: bands of equal size do, and keep it linear
        bands = np.minimum(_ranks(values) * 50 / len(values), 49).astype(np.int64)
        return _concordance(scores, bands.astype(np.float64))
    above, pairs = 0.0, 0.0
    for kind in range(1, len(kinds)):
        mine, lower = scores[code == kind], np.sort(scores[code < kind])
        below = np.searchsorted(lower, mine, side="left") + np.searchsorted(lower, mine, side="right")
        above += float(below.sum()) / 2
        pairs += float(times[kind]) * len(lower)
    return above / pairs


def _log_loss(probabilities: Floats, truth: Floats) -> float:
    given = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return float(-np.mean(truth * np.log(given) + (1 - truth) * np.log1p(-given)))
