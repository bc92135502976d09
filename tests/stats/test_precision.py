"""Precision targets: exact for every table and proxy, and with recall beyond labelling the best rows."""

import numpy as np
import pytest
from scipy.stats import binom

from aidb.stats import select
from aidb.stats.selection.head import Curve, fit, pure_head, worth_testing
from aidb.stats.selection.population import Population

FALSE_ALARM = 1e-6
TARGET, DELTA = 0.9, 0.05


def labeller(truth):
    """Truth, and a check that no row is asked twice."""
    asked = np.zeros(len(truth), dtype=bool)

    def label(rows):
        assert len(np.unique(rows)) == len(rows)
        assert not asked[rows].any()
        asked[rows] = True
        return truth[rows]

    return label


def chosen(scores, truth, seed, budget=300, precision=TARGET, **options):
    rng = np.random.default_rng(seed)
    return select(scores, labeller(truth), precision=precision, budget=budget, rng=rng, **options)


def table(name, n=3000):
    rng = np.random.default_rng(5)
    scores = rng.beta(0.2, 1.5, n)
    truth = rng.random(n) < scores
    if name == "reversed":
        scores = -scores
    elif name == "constant":
        scores = np.ones(n)
    elif name == "random":
        scores = rng.random(n)
    elif name == "nan":
        scores = np.where(rng.random(n) < 0.5, np.nan, scores)
    elif name == "tempting":  # pure at the very top, just too many negatives under it, then purer again
        scores = -np.arange(n, dtype=float)
        truth = np.arange(n) < 900
        truth[60:340] = rng.random(280) < 0.8
    elif name == "all positive":
        truth = np.ones(n, dtype=bool)
    elif name == "no positive":
        truth = np.zeros(n, dtype=bool)
    return scores, truth


NAMES = ["honest", "reversed", "constant", "random", "nan", "tempting", "all positive", "no positive"]


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_met_whatever_the_proxy(name):
    scores, truth = table(name)
    trials, missed = 15 if name.endswith("positive") else 80, 0
    for seed in range(trials):
        answer = chosen(scores, truth, seed)
        right = truth[answer.indices]
        missed += len(right) > 0 and right.mean() < TARGET - 1e-12
        assert answer.labels_used <= 300
        assert answer.mode == "guaranteed"
        assert right[answer.verified].all()
        assert answer.certified_precision >= TARGET - 1e-9
    assert missed <= binom.isf(FALSE_ALARM, trials, DELTA)


@pytest.mark.parametrize("bad", [30, 41, 60, 100])
def test_a_head_with_one_negative_too_many_is_rarely_certified(bad):
    """The least favourable case, and worse ones: all of the errors of the method come from here."""
    size, outside, trials, delta, wrong = 400, 5, 150, 0.1, 0
    labels = np.zeros(size + outside)
    labels[size:] = 1
    hopeful = Curve(4.0, 0.3)
    for seed in range(trials):
        rng = np.random.default_rng((bad, seed))
        truth = labels.copy()
        truth[:size] = 1
        truth[rng.choice(size, bad, replace=False)] = 0
        population = Population(-np.arange(size + outside), lambda rows, truth=truth: truth[rows], 150, rng)
        population.ask(np.arange(size, size + outside))
        head = pure_head(population, np.arange(size + outside), size, hopeful, TARGET, delta, rng)
        negatives = np.cumsum(1 - truth[:size])[head.size - 1] if head.size else 0
        wrong += negatives > (1 - TARGET) * (head.size + outside) + 1e-9
    assert wrong <= binom.isf(FALSE_ALARM, trials, delta)


def test_a_certified_head_bounds_what_it_hides():
    rng = np.random.default_rng(6)
    truth = np.ones(500)
    truth[rng.choice(400, 12, replace=False)] = 0
    population = Population(-np.arange(500), lambda rows: truth[rows], 200, rng)
    population.ask(np.arange(400, 500))
    head = pure_head(population, np.arange(400), 400, Curve(3.5, 0.0), TARGET, DELTA, rng)
    unlabelled = population.unknown(0, head.size)
    assert head.size == 400
    assert (truth[unlabelled] == 0).sum() <= head.wrong <= 50
    assert population.used < 200


def test_it_finds_more_than_labelling_the_best_rows_would():
    scores, truth = table("honest", 20_000)
    order = np.argsort(-scores)
    labelled_only = truth[order[:300]].sum()
    found = [truth[chosen(scores, truth, seed).indices].sum() for seed in range(20)]
    assert np.mean(found) > 1.2 * labelled_only


def test_where_no_head_is_pure_no_label_is_wasted():
    rng = np.random.default_rng(7)
    truth = rng.random(4000) < np.where(np.arange(4000) < 1000, 0.4, 0.01)
    scores = -np.arange(4000.0)
    for seed in range(10):
        found = truth[chosen(scores, truth, seed, budget=500).indices].sum()
        assert found >= truth[:500].sum() - 1


def test_rows_that_are_known_are_free_and_count():
    scores, truth = table("honest")
    known = np.argsort(-scores)[::7]
    for seed in range(20):
        answer = chosen(scores, truth, seed, budget=100, known=(known, truth[known]))
        assert answer.labels_used == 100
        assert set(known[truth[known]]) <= set(answer.indices)
        assert not set(known[~truth[known]]) & set(answer.indices)
        assert truth[answer.indices].mean() >= 0.85


def test_rows_that_fail_are_counted_against_the_head_and_never_returned():
    scores, truth = table("honest", 20_000)
    rng = np.random.default_rng(8)
    values = np.where(rng.random(20_000) < 0.04, np.nan, truth.astype(float))
    missed = 0
    for seed in range(60):
        answer = chosen(scores, values, seed)
        assert np.isnan(values[answer.failed]).all()
        assert not set(answer.failed) & set(answer.indices)
        missed += np.nansum(values[answer.indices]) < TARGET * len(answer.indices) - 1e-9
    assert missed <= binom.isf(FALSE_ALARM, 60, DELTA)


@pytest.mark.parametrize("budget", [0, 1, 2, 5, 29, 2999, 3000, 10_000])
def test_any_budget_gives_an_answer(budget):
    for name in ("honest", "no positive", "all positive"):
        scores, truth = table(name)
        answer = chosen(scores, truth, 1, budget=budget)
        assert answer.labels_used <= budget
        assert len(answer.indices) == 0 or truth[answer.indices].mean() >= TARGET


@pytest.mark.parametrize("precision", [0.3, 0.75, 0.99])
def test_other_targets(precision):
    scores, truth = table("honest")
    missed = 0
    for seed in range(60):
        right = truth[chosen(scores, truth, seed, precision=precision).indices]
        missed += right.mean() < precision - 1e-12
    assert missed <= binom.isf(FALSE_ALARM, 60, DELTA)


def test_few_calls_of_the_oracle():
    scores, truth = table("honest", 20_000)
    calls = []

    def label(rows):
        calls.append(len(rows))
        return truth[rows]

    select(scores, label, precision=TARGET, budget=1000, rng=np.random.default_rng(1))
    assert len(calls) <= 25
    assert sum(calls) == 1000


def test_the_curve_follows_the_labels_and_the_plan_follows_the_curve():
    places = np.arange(0, 2000, 5)
    rng = np.random.default_rng(9)
    falling = fit(places, rng.random(400) < 1 / (1 + (places / 500) ** 2))
    assert falling.negative(50) < 0.06
    assert falling.positives(1800, 2000) < 30
    assert fit(places, np.ones(400)).negative(2000) < 0.02
    assert worth_testing(falling, 5000, 1000, 0, TARGET, DELTA) > 100
    hopeless = fit(places, rng.random(400) < 0.3)
    assert worth_testing(hopeless, 5000, 1000, 0, TARGET, DELTA) < 60
