"""The published algorithms and targets met on the sample only."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from aidb.stats.selection import select, supg


def calibrated(n=20_000, a=0.05, seed=1):
    random = np.random.default_rng(seed)
    scores = random.beta(a, 1.0, size=n)
    return scores, random.random(n) < scores


def answer(scores, truth, seed, budget=1000, method="supg", **targets):
    return select(
        scores,
        lambda rows: truth[rows],
        budget=budget,
        method=method,
        rng=np.random.default_rng(seed),
        **targets,
    )


def recall_of(found, truth):
    return truth[found.indices].sum() / truth.sum()


def precision_of(found, truth):
    return truth[found.indices].mean() if len(found.indices) else 1.0


def test_recall_is_met_on_a_calibrated_proxy():
    scores, truth = calibrated()
    met = [recall_of(answer(scores, truth, seed, recall=0.9), truth) >= 0.9 for seed in range(60)]
    assert 60 - sum(met) <= binom.isf(1e-6, 60, 0.05)
    assert len(answer(scores, truth, 1, recall=0.9).indices) < 0.6 * len(scores)


def test_precision_is_met_and_something_is_returned():
    scores, truth = calibrated()
    found = [answer(scores, truth, seed, precision=0.8) for seed in range(60)]
    assert sum(precision_of(f, truth) < 0.8 for f in found) <= binom.isf(1e-6, 60, 0.05)
    assert np.median([recall_of(f, truth) for f in found]) > 0.1


def test_both_targets_label_every_row_returned():
    scores, truth = calibrated(n=5_000)
    found = select(
        scores,
        lambda rows: truth[rows],
        recall=0.8,
        precision=0.9,
        method="supg",
        rng=np.random.default_rng(2),
    )
    assert found.verified.all()
    assert precision_of(found, truth) == 1
    assert recall_of(found, truth) >= 0.8


def test_both_targets_with_too_small_a_budget_say_so():
    scores, truth = calibrated(n=5_000)
    found = answer(scores, truth, 3, budget=300, recall=0.8, precision=0.9)
    assert found.labels_used <= 300
    assert found.verified.all() or "not promised" in found.notes[0]


def test_the_recall_target_is_raised_by_the_bounds_of_the_paper():
    mass = np.array([2.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.5, 0.0, 0.25, 0.25])
    # recall .5: 3 of 6 is reached at the third draw
    upper = supg._bounds(np.where(np.arange(10) <= 2, mass, 0), 0.2)[1]
    lower = supg._bounds(np.where(np.arange(10) <= 2, 0, mass), 0.2)[0]
    assert lower > 0
    raised = upper / (upper + lower)
    assert supg._raised(mass, 0.5, 0.4) == np.flatnonzero(np.cumsum(mass) >= raised * mass.sum())[0]
    mean, reach = mass.mean(), mass.std() / np.sqrt(10) * np.sqrt(2 * np.log(1 / 0.1))
    assert supg._bounds(mass, 0.05) == pytest.approx((mean - reach, mean + reach))


def test_no_positive_in_the_sample_returns_every_unlabelled_row():
    found = answer(np.linspace(0, 1, 1000), np.zeros(1000, dtype=bool), 4, budget=100, recall=0.9)
    assert len(found.indices) == 1000 - found.labels_used


@pytest.mark.parametrize("targets", [{"recall": 0.9}, {"precision": 0.9}])
@pytest.mark.parametrize("budget", [0, 1, 2, 7])
@pytest.mark.parametrize("scores", [np.zeros(50), np.full(50, np.nan), np.linspace(-5, 9, 50)])
def test_odd_scores_and_tiny_budgets(targets, budget, scores):
    truth = np.arange(50) % 3 == 0
    assert answer(scores, truth, 5, budget=budget, **targets).labels_used <= budget
    assert answer(scores, truth, 5, budget=budget, method="auto", expected=True, **targets).labels_used <= budget


def test_expected_targets_lie_about_the_target_and_promise_nothing():
    scores, truth = calibrated()
    found = [answer(scores, truth, seed, method="auto", expected=True, recall=0.9) for seed in range(40)]
    assert np.mean([recall_of(f, truth) for f in found]) == pytest.approx(0.9, abs=0.04)
    assert {f.mode for f in found} == {"expected"}
    assert {f.probability for f in found} == {None}
    found = [answer(scores, truth, seed, method="auto", expected=True, precision=0.7) for seed in range(40)]
    assert np.mean([precision_of(f, truth) for f in found]) == pytest.approx(0.7, abs=0.05)
