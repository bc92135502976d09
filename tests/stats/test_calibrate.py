"""Curves and steps from scores to probabilities, and whether a proxy is worth anything."""

from __future__ import annotations

import numpy as np
import pytest

from aidb.stats import calibrate


def logistic(n: int, seed: int, slope: float = 2.0, intercept: float = -1.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 2, n)
    truth = 1 / (1 + np.exp(-(slope * x + intercept)))
    return x, rng.random(n) < truth, truth


def test_platt_finds_the_curve_that_made_the_labels():
    x, y, truth = logistic(20_000, 1, slope=0.7)
    curve = calibrate.platt(x, y)
    assert curve.slope == pytest.approx(0.7, abs=0.05)
    assert np.abs(curve(x) - truth).max() < 0.03


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_platt_does_not_mind_the_unit_of_the_score(scale: float):
    x, y, _ = logistic(500, 2)
    assert np.allclose(calibrate.platt(x * scale, y)(x * scale), calibrate.platt(x, y)(x), atol=1e-6)


def test_platt_stays_finite_where_the_classes_are_apart():
    curve = calibrate.platt([0, 1, 2, 3], [False, False, True, True])
    assert np.isfinite([curve.slope, curve.intercept]).all()
    assert curve(0.0) < 0.3 < 0.7 < curve(3.0)


@pytest.mark.parametrize(
    ("scores", "labels", "level"),
    [([2, 2, 2, 2], [1, 0, 0, 0], 2 / 6), ([], [], 1 / 2), ([1, 2, 3], [1, 1, 1], None), ([np.nan, 1], [1, 0], 1 / 3)],
)
def test_platt_has_an_answer_where_there_is_nothing_to_fit(scores, labels, level):
    curve = calibrate.platt(scores, labels)
    assert 0 < curve(1.5) < 1
    if level is not None:
        assert curve(-5.0) == curve(5.0) == pytest.approx(level)


def test_weights_count_as_repetitions():
    x, y, w = np.array([0.0, 1, 2, 3]), np.array([0, 1, 0, 1]), np.array([1, 2, 3, 2])
    steps = calibrate.isotonic(x, y, w)
    assert np.allclose(steps(x), calibrate.isotonic(np.repeat(x, w), np.repeat(y, w))(x))


def test_isotonic_is_the_best_fit_that_never_falls():
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(3)
    for _ in range(20):
        x = rng.integers(0, 30, 80).astype(float)
        y = rng.random(80) + 0.02 * x
        ours = calibrate.isotonic(x, y)
        theirs = IsotonicRegression(out_of_bounds="clip").fit(x, y)
        asked = np.linspace(-3, 33, 200)
        assert np.allclose(ours(asked), theirs.predict(asked))


def test_few_positives_get_a_curve_many_get_steps():
    x, y, _ = logistic(5_000, 4)
    assert isinstance(calibrate.fit(x, y), calibrate.Isotonic)
    assert isinstance(calibrate.fit(x[:120], y[:120]), calibrate.Platt)


def test_measures_agree_with_those_of_scikit_learn():
    from sklearn.metrics import log_loss, roc_auc_score

    x, y, truth = logistic(2_000, 5, slope=0.5)
    rounded = np.round(truth, 1)
    found = calibrate.quality(rounded, y)
    assert found.auc == pytest.approx(roc_auc_score(y, rounded))
    assert found.log_loss == pytest.approx(log_loss(y, rounded.clip(1e-12, 1 - 1e-12)))
    assert found.correlation == pytest.approx(np.corrcoef(rounded, y)[0, 1])
    assert calibrate.quality(x, y).log_loss is None  # no probabilities
    assert found.labels == 2_000


def test_concordance_of_counts_counts_pairs():
    rng = np.random.default_rng(6)
    values, scores = rng.poisson(2, 60), rng.integers(0, 5, 60)
    pairs = [
        (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
        for i in range(60)
        for j in range(60)
        if values[i] > values[j]
    ]
    assert calibrate.quality(scores, values).auc == pytest.approx(np.mean(pairs))


def test_a_useless_proxy_is_told_from_a_useful_one():
    """Chance passes for useful with probability 0.05: 200 trials, refused beyond the one in a million of that."""
    from scipy.stats import binom

    passed = 0
    for seed in range(200):
        rng = np.random.default_rng([7, seed])
        passed += not calibrate.quality(rng.random(300), rng.random(300) < 0.1).useless
    assert passed <= binom.isf(1e-6, 200, 0.05)
    x, y, _ = logistic(300, 8)
    assert calibrate.quality(x, y).useless is False
    assert calibrate.quality(-x, y).useless is True
    assert calibrate.quality(np.full(300, 2.0), y).useless is True
    assert calibrate.quality(x[:8], np.arange(8) == 3).useless is None


def test_pairs_that_lack_something_are_left_out():
    found = calibrate.quality([0.1, np.nan, 0.9, 0.5], [0, 1, 1, np.nan])
    assert found.labels == 2
    assert found.auc == 1.0


def test_infinite_scores_rank_at_the_ends():
    assert calibrate.quality([-np.inf, 0.2, np.inf], [0, 0, 1]).auc == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: calibrate.platt([1, 2], [1]),
        lambda: calibrate.platt([[1.0]], [[1]]),
        lambda: calibrate.platt([1, 2], [0, 1], [1, 0]),
        lambda: calibrate.isotonic([], []),
        lambda: calibrate.isotonic([np.nan], [1]),
        lambda: calibrate.quality([np.nan], [1]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()
