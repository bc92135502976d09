"""Recall and precision together: both hold, at fewer labels than labelling every row that is returned."""

import numpy as np
import pytest
from scipy.stats import binom

from aidb.stats import select
from aidb.stats.selection.population import Population

FALSE_ALARM = 1e-6
RECALL, PRECISION, DELTA = 0.9, 0.9, 0.05


def table(name, n=6000):
    rng = np.random.default_rng(11)
    scores = rng.beta(0.1, 1.5, n)
    truth = rng.random(n) < scores
    if name == "dense":
        scores = rng.random(n)
        truth = rng.random(n) < 1 / (1 + np.exp(-40 * (scores - 0.6)))
    elif name == "random":
        scores = rng.random(n)
    elif name == "reversed":
        scores = -scores
    elif name == "constant":
        scores = np.zeros(n)
    elif name == "nan":
        scores = np.where(rng.random(n) < 0.2, np.nan, scores)
    elif name == "no positive":
        truth = np.zeros(n, dtype=bool)
    elif name == "all positive":
        truth = np.ones(n, dtype=bool)
    return scores, truth


def chosen(name, seed, method="exact", budget=None, **options):
    scores, truth = table(name)
    asked = np.zeros(len(truth), dtype=bool)

    def label(rows):
        assert not asked[rows].any()
        asked[rows] = True
        return truth[rows]

    rng = np.random.default_rng(seed)
    answer = select(scores, label, recall=RECALL, precision=PRECISION, budget=budget, method=method, rng=rng, **options)
    assert answer.labels_used == asked.sum()
    return truth, answer


@pytest.mark.parametrize("name", ["honest", "dense", "random", "reversed", "constant", "nan"])
def test_both_targets_are_met_whatever_the_proxy(name):
    trials, missed = 6 if name == "constant" else 20, 0  # a constant proxy takes a second for each
    for seed in range(trials):
        truth, answer = chosen(name, seed)
        right = truth[answer.indices]
        missed += right.sum() < RECALL * truth.sum() - 1e-9 or right.mean() < PRECISION - 1e-9
        assert answer.mode in ("guaranteed", "exact")
        assert answer.certified_precision >= PRECISION - 1e-9
    assert missed <= binom.isf(FALSE_ALARM, trials, DELTA)


def test_the_purest_rows_are_not_labelled():
    for seed in range(5):
        truth, answer = chosen("dense", seed)
        assert answer.labels_used < 0.6 * truth.sum()


def test_fewer_labels_than_rows_to_return_and_a_sample_besides():
    labels = [chosen("honest", seed)[1].labels_used for seed in range(10)]
    assert np.mean(labels) < 3000


@pytest.mark.parametrize("name", ["no positive", "all positive"])
def test_the_ends(name):
    truth, answer = chosen(name, 1)
    assert truth[answer.indices].sum() >= RECALL * truth.sum()
    assert len(answer.indices) == 0 or truth[answer.indices].mean() >= PRECISION


def test_a_limit_that_is_reached_is_said_and_the_recall_holds():
    missed = 0
    for seed in range(20):
        truth, answer = chosen("random", seed, budget=1500)
        assert answer.labels_used <= 1500
        missed += truth[answer.indices].sum() < RECALL * truth.sum() - 1e-9
        assert answer.certified_precision < PRECISION
        assert truth[answer.indices].mean() >= answer.certified_precision - 1e-9
        assert any("ran out" in note for note in answer.notes)
    assert missed <= binom.isf(FALSE_ALARM, 20, DELTA)


def test_rows_that_are_known_are_free():
    scores, truth = table("honest")
    known = np.argsort(-scores)[:300]
    for seed in range(5):
        _, answer = chosen("honest", seed, known=(known, truth[known]))
        assert set(known[truth[known]]) <= set(answer.indices)
        assert not set(known[~truth[known]]) & set(answer.indices)


def test_a_budget_of_nothing_is_no_error():
    truth, answer = chosen("honest", 1, budget=0)
    assert answer.labels_used == 0
    assert truth[answer.indices].sum() >= RECALL * truth.sum()


def test_the_limit_of_a_population_is_as_before_after_a_stage():
    from aidb.stats.selection.joint import exact

    scores, truth = table("honest")
    population = Population(scores, lambda rows: truth[rows], 5000, np.random.default_rng(1))
    exact(population, RECALL, PRECISION, DELTA, np.random.default_rng(2))
    assert population.budget == 5000
