"""Proxies that learn: from embeddings and a few labels to coefficients, which are plain numbers.

scikit-learn fits them; scoring takes numpy alone. What fits is measured on labels that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from aidb.errors import OperationalError, ProgrammingError
from aidb.exec.proxies.reading import Floats, Vectors
from aidb.stats.calibrate import Isotonic, Platt, Quality, isotonic, platt, quality

LEARNERS = ("logistic", "ridge")
HOLDOUT = 0.2
"""Share of the labels that measure the quality, unless HOLDOUT says otherwise."""
LEAST_CORRELATION = 0.2
"""Below it a proxy for a number is no better than none."""

_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""How freely the coefficients may grow: scikit-learn's C, or one over its alpha."""
_FOLDS = 5
_BLOCK = 4_000_000
"""Numbers turned into doubles at a time."""

Numbers = Mapping[str, Any]
"""What is stored as JSON: names, numbers, lists of numbers."""


@dataclass(frozen=True)
class Trained:
    """model: coefficients, None for a proxy that is only calibrated; calibration: None where the score stands as it is.

    quality: held out; None where too few labels were. useless: see `is_useless`.
    """

    model: Numbers | None
    calibration: Numbers | None
    quality: Quality | None
    useless: bool


def check_available() -> None:
    """Raise `OperationalError` where scikit-learn is missing, before labels are paid for."""
    _sklearn()


def train(
    learner: str | None,
    inputs: Vectors,
    labels: Floats,
    *,
    calibrate: str | None,
    holdout: float | None,
    rng: np.random.Generator,
) -> Trained:
    """Fit on some of the labels, measure on the rest.

    learner: `LEARNERS`, or None for inputs of one column that are scores already. inputs: (n, d); labels: (n,): 0 and 1,
    or any numbers for ``ridge``. Rows with a NaN count for nothing. Raises `ProgrammingError` where no label is left,
    `OperationalError` without scikit-learn.
    """
    usable = np.isfinite(inputs).all(axis=1) & np.isfinite(labels)
    x, y = inputs[usable].astype(np.float64), labels[usable]
    if not len(y):
        raise ProgrammingError("there is nothing to train on: every label or every embedding is NULL")
    order = rng.permutation(len(y))
    fits = learner is not None or calibrate not in (None, "none")
    held = round(len(y) * (HOLDOUT if holdout is None else holdout)) if fits else len(y)
    tested, fitted = order[:held], order[held:]
    is_truth = bool(np.isin(y, (0.0, 1.0)).all())
    if learner == "logistic" and not is_truth:
        raise ProgrammingError("logistic learns a condition, and the values of FOR are numbers: USING ridge(...)")
    strength = None if learner is None else _strength(learner, x[fitted], y[fitted])
    model = None if learner is None else _fit(learner, x[fitted], y[fitted], strength)
    calibration = None
    if calibrate in ("platt", "isotonic"):
        if not is_truth:
            raise ProgrammingError(f"CALIBRATE {calibrate} makes probabilities of a condition, and FOR is a number")
        raw = x[fitted, 0] if learner is None else _unseen(learner, x[fitted], y[fitted], strength)
        calibration = _curve(calibrate, raw, y[fitted])
    found = Trained(model, calibration, None, False)
    if not len(tested):
        return found
    scored = score(model, calibration, x[tested].astype(np.float32))
    measured = quality(scored, y[tested], probability=0.975)
    return Trained(model, calibration, measured, is_useless(measured, truth=is_truth) or np.ptp(scored) == 0)


def is_useless(measured: Quality, *, truth: bool) -> bool:
    """Is it no better than chance: for a condition an AUC that could be a half, for a number hardly any correlation?"""
    if truth:
        return bool(measured.useless)
    return measured.correlation < LEAST_CORRELATION


def score(model: Numbers | None, calibration: Numbers | None, inputs: Vectors) -> Floats:
    """A score for each row of inputs, (n, d), NaN where one is not finite."""
    raw = inputs[:, 0].astype(np.float64) if model is None else _predicted(model, inputs)
    if calibration is None:
        return expit(raw) if model is not None and model["kind"] == "logistic" else raw
    if calibration["kind"] == "platt":
        return Platt(calibration["slope"], calibration["intercept"])(raw)
    steps = Isotonic(np.array(calibration["scores"]), np.array(calibration["probabilities"]))
    # Steps make ties; within one the raw score still decides, by less than any step is high.
    within = 0.5 + np.arctan((raw - calibration["centre"]) / calibration["spread"]) / math.pi
    found: Floats = (1 - 1e-9) * steps(raw) + 1e-9 * within
    return found


def _predicted(model: Numbers, inputs: Vectors) -> Floats:
    coefficients = np.array(model["coefficients"], dtype=np.float64)
    if inputs.shape[1:] != coefficients.shape:
        raise ProgrammingError(
            f"the proxy was trained on {len(coefficients)} numbers an item, and there are {inputs.shape[1]} now: REFRESH PROXY"
        )
    found = np.empty(len(inputs))
    step = max(1, _BLOCK // max(1, len(coefficients)))
    for start in range(0, len(inputs), step):
        found[start : start + step] = inputs[start : start + step].astype(np.float64) @ coefficients
    return found + float(model["intercept"])


def _fit(learner: str, x: Floats, y: Floats, strength: float | None) -> Numbers:
    """Coefficients for the inputs as they come; they were scaled for the fit, so that no unit outweighs another."""
    z, centre, spread = _scaled(x)
    if np.ptp(y) == 0:  # labels that are all alike teach nothing
        level = float(y[0])
        weights = np.zeros(z.shape[1])
        intercept = level if learner == "ridge" else math.log((level + 0.01) / (1.01 - level))
    else:
        with _one_thread():
            made = _estimator(learner, strength, z.shape[1]).fit(z, y)
        weights, intercept = np.ravel(made.coef_), float(np.ravel(made.intercept_)[0])
    coefficients = weights / spread
    return {
        "kind": learner,
        "coefficients": coefficients.tolist(),
        "intercept": float(intercept - coefficients @ centre),
    }


def _scaled(x: Floats) -> tuple[Floats, Floats, Floats]:
    """The inputs with mean 0 and deviation 1, and what they were; a constant one counts for nothing."""
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(centre)), spread, np.inf)
    return (x - centre) / spread, centre, spread


def _estimator(learner: str, strength: float | None, width: int) -> Any:
    linear, _ = _sklearn()
    if learner == "ridge":
        return linear.Ridge(alpha=1 / (strength or 1.0))
    return linear.LogisticRegression(C=(strength or _STRENGTHS[1]) / math.sqrt(width), max_iter=1000)


def _strength(learner: str, x: Floats, y: Floats) -> float | None:
    """The regularisation that does best on folds left out; None where the labels are too few to tell."""
    _, selection = _sklearn()
    rarer = min(y.sum(), len(y) - y.sum()) if learner == "logistic" else len(y) - 6
    if rarer < 3:
        return None
    z, _, _ = _scaled(x)
    folds = selection.StratifiedKFold(3) if learner == "logistic" else selection.KFold(3)
    rule = "neg_log_loss" if learner == "logistic" else "neg_mean_squared_error"
    with _one_thread():
        marks = [
            selection.cross_val_score(_estimator(learner, c, z.shape[1]), z, y, cv=folds, scoring=rule).mean()
            for c in _STRENGTHS
        ]
    return _STRENGTHS[int(np.argmax(marks))]


def _unseen(learner: str, x: Floats, y: Floats, strength: float | None) -> Floats:
    """Raw scores of the rows that were fitted, each by a fit on the others."""
    found = np.empty(len(y))
    for fold in range(_FOLDS):
        mine = np.arange(len(y)) % _FOLDS == fold
        model = _fit(learner, x[~mine] if not mine.all() else x, y[~mine] if not mine.all() else y, strength)
        found[mine] = _predicted(model, x[mine].astype(np.float32))
    return found


def _curve(kind: str, raw: Floats, y: Floats) -> Numbers:
    if kind == "platt":
        fitted = platt(raw, y)
        return {"kind": kind, "slope": fitted.slope, "intercept": fitted.intercept}
    steps = isotonic(raw, y)
    return {
        "kind": kind,
        "scores": steps.scores.tolist(),
        "probabilities": steps.probabilities.tolist(),
        "centre": float(np.median(raw)),
        "spread": float(raw.std()) or 1.0,
    }


def _sklearn() -> tuple[Any, Any]:
    try:
        from sklearn import linear_model, model_selection
    except ImportError as e:
        raise OperationalError("training a proxy needs scikit-learn: pip install 'aidb[learn]'") from e
    return linear_model, model_selection


def _one_thread() -> AbstractContextManager[Any]:
    """The matrices are small: threads that share them out take longer than the product."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
