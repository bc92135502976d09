"""Recall below the exact certificate: cells of ranks, and what scores warn of."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from scipy.stats import binom

from aidb.stats.selection import select
from aidb.stats.selection.cells import cells
from aidb.stats.selection.population import FAILED, Population
from aidb.stats.selection.promise import UNSEEN, doubtful, misplaced, promised, trailing
from aidb.stats.selection.result import selection

DELTA = 0.05
module = import_module("aidb.stats.selection.cells")


def calibrated(n=20_000, a=0.05, seed=1):
    random = np.random.default_rng(seed)
    scores = random.beta(a, 1.0, size=n)
    return scores, random.random(n) < scores


def answer(scores, truth, budget, seed, recall=0.9, **more):
    return select(
        scores,
        lambda rows: truth[rows],
        recall=recall,
        budget=budget,
        method="cells",
        rng=np.random.default_rng(seed),
        **more,
    )


def recall_of(found, truth):
    return truth[found.indices].sum() / truth.sum()


def misses(scores, truth, budget, trials, recall=0.9, **more):
    return sum(recall_of(answer(scores, truth, budget, 100 + t, recall, **more), truth) < recall for t in range(trials))


def tolerated(trials):
    return binom.isf(1e-6, trials, DELTA)


@pytest.mark.parametrize("budget", [300, 1000])
def test_recall_holds_on_a_calibrated_proxy(budget):
    scores, truth = calibrated()
    assert misses(scores, truth, budget, 60) <= tolerated(60)


def test_most_rows_are_left_out_of_most_answers():
    scores, truth = calibrated()
    sizes = [len(answer(scores, truth, 1000, 500 + t).indices) for t in range(15)]
    assert np.median(sizes) < 0.3 * len(scores)


@pytest.mark.parametrize("recall", [0.75, 0.95])
def test_other_recalls_hold_too(recall):
    scores, truth = calibrated(seed=2)
    assert misses(scores, truth, 600, 40, recall) <= tolerated(40)


def noisy(scores, truth, random, deviation=0.05):
    return np.clip(scores + random.normal(scale=deviation, size=len(scores)), 0, 1)


def buried(scores, truth, random):
    return np.where(truth & (random.random(len(truth)) < 0.15), 0.0, scores)


def unscored(scores, truth, random):
    return np.where(random.random(len(truth)) < 0.3, np.nan, scores)


def useless(scores, truth, random):
    return random.random(len(scores))


def constant(scores, truth, random):
    return np.zeros(len(scores))


def turned(scores, truth, random):
    return -scores


@pytest.mark.parametrize("spoil", [noisy, buried, unscored, useless, constant, turned])
def test_recall_holds_on_proxies_that_are_noisy_fail_or_lie(spoil):
    scores, truth = calibrated(seed=3)
    spoilt = spoil(scores, truth, np.random.default_rng(4))
    assert misses(spoilt, truth, 500, 30) <= tolerated(30)


def test_a_noisy_proxy_is_refused_by_the_promise_of_its_scores(monkeypatch):
    monkeypatch.setattr(module, "misplaced", lambda scores, positive, mean: False)
    scores, truth = calibrated(n=100_000, a=0.01, seed=5)
    spoilt = noisy(scores, truth, np.random.default_rng(6), 0.02)
    notes = [" ".join(answer(spoilt, truth, 1000, seed).notes) for seed in range(10)]
    assert any("promise more positives" in note for note in notes)
    assert not any("promise more positives" in " ".join(answer(scores, truth, 1000, seed).notes) for seed in range(10))


def test_no_row_is_asked_twice_and_the_budget_is_spent():
    scores, truth = calibrated()
    asked = []

    def label(rows):
        asked.extend(rows.tolist())
        return truth[rows]

    found = select(scores, label, recall=0.9, budget=777, method="cells", rng=np.random.default_rng(7))
    assert len(asked) == len(set(asked)) == found.labels_used == 777
    assert found.mode == "asymptotic"
    assert found.labels_needed > 0
    assert any("not excluded" in note or "returned" in note for note in found.notes)


def test_known_rows_are_neither_asked_nor_returned_unless_positive():
    scores, truth = calibrated()
    known = np.arange(0, len(scores), 7)

    def label(rows):
        assert not np.isin(rows, known).any()
        return truth[rows]

    found = select(
        scores,
        label,
        recall=0.9,
        budget=500,
        method="cells",
        known=(known, truth[known]),
        rng=np.random.default_rng(8),
    )
    returned = np.isin(known, found.indices)
    assert (returned == truth[known]).all()


def test_rows_that_fail_are_not_returned():
    scores, truth = calibrated()
    labels = np.where(np.random.default_rng(9).random(len(truth)) < 0.05, np.nan, truth)
    population = Population(scores, lambda rows: labels[rows], 600, np.random.default_rng(10))
    found = selection(population, cells(population, 0.9, DELTA, np.random.default_rng(11)))
    assert len(found.failed) == np.count_nonzero(population.labels == FAILED) > 0
    assert not np.isin(found.failed, found.indices).any()


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 10])
def test_tiny_budgets_return_everything_or_what_they_can(budget):
    scores, truth = calibrated(n=400)
    found = answer(scores, truth, budget, 12)
    assert found.labels_used <= budget
    assert recall_of(found, truth) >= 0.9


def test_no_positive_at_all_returns_every_row_but_the_negatives_seen():
    found = answer(np.linspace(0, 1, 1000), np.zeros(1000, dtype=bool), 100, 13)
    assert len(found.indices) == 900


def test_scores_that_are_no_probabilities_serve_as_ranks():
    scores, truth = calibrated(seed=14)
    logit = np.log(scores + 1e-300)
    assert misses(logit, truth, 600, 40) <= tolerated(40)


def test_each_row_is_drawn_with_the_chance_that_its_weight_says():
    n, count = 500, 40
    random = np.random.default_rng(15)
    edges, shares = np.array([0, 20, 100, n]), np.array([0.5, 0.3, 0.2])
    drawn = np.zeros(n)
    for _ in range(4000):
        stage = module._Stage(edges, np.diff(edges).astype(float), shares, count, random)
        drawn[stage.rows] += 1
    chance = stage.chance(np.arange(n))
    assert chance.sum() == pytest.approx(count)
    assert (np.abs(drawn - 4000 * chance) <= 6 * np.sqrt(4000 * chance * (1 - chance)) + 1e-9).all()


def test_the_promise_below_a_cut_is_that_of_the_unlabelled_scores_at_the_rate_it_was_kept():
    scores = np.array([0.9, 0.9, 0.9, 0.5, 0.2, 0.2])
    cut, labelled, hits = np.array([3]), np.array([0, 1, 2, 4]), np.array([1, 2])
    most, rate = promised(scores, cut, labelled, hits, np.array([1.0, 1.0]), np.array([0.0]))
    assert most == pytest.approx([(0.5 + 0.2) * 2 / 1.8])
    assert rate == pytest.approx([2 / 1.8])


def test_what_trails_behind_is_that_of_a_slow_power_of_the_rank():
    n, far = 100_000, 9_000
    density = np.arange(1, n + 1) ** -1.5
    hits = np.arange(n)
    trail = trailing(n, np.array([100, far, 50_000, n]), far, hits, density)
    beyond = [density[far:].sum(), density[far:].sum(), density[50_000:].sum(), 0]
    assert trail == pytest.approx(beyond, rel=0.01, abs=1e-9)
    none = trailing(n, np.array([far]), far, np.array([], dtype=int), np.array([]), np.array([30.0]))
    assert none == pytest.approx([UNSEEN * 30 * (1 - (far / n) ** 0.5) / (3**0.5 - 1)])


def test_a_share_of_misplaced_scores_is_noticed_and_a_good_or_merely_crooked_proxy_is_not():
    random = np.random.default_rng(16)
    scores = random.beta(0.5, 0.5, size=3000)
    fair = (random.random(3000) < scores).astype(float)
    moved = (random.random(3000) < 0.75 * scores + 0.25 * 0.5).astype(float)
    logit = np.log(scores / (1 - scores))
    crooked = (random.random(3000) < 1 / (1 + np.exp(-(0.4 * logit - 1)))).astype(float)
    assert misplaced(scores, moved, 0.5)
    assert not misplaced(scores, crooked, 0.5)
    assert not misplaced(scores, np.maximum(fair, scores > 0.9), 0.5)
    assert not misplaced(scores[:3], fair[:3], 0.5)


def test_few_labels_leave_it_open_whether_scores_are_misplaced_and_many_do_not():
    random = np.random.default_rng(17)
    scores = random.beta(0.5, 0.5, size=3000)
    fair = (random.random(3000) < scores).astype(float)
    assert doubtful(scores[:20], fair[:20], 0.5)
    assert not doubtful(scores, fair, 0.5)
    assert not doubtful(scores, (scores > 0.6).astype(float), 0.5)
    assert not doubtful(np.zeros(5), np.zeros(5), 0.0)


def test_a_share_of_shuffled_scores_returns_the_whole_table():
    """A fifth of the rows carry the score of another: of the positives a fifth lie anywhere, and few labels show it."""
    scores, truth = calibrated(n=50_000, a=0.02, seed=18)
    random = np.random.default_rng(19)
    moved = random.random(len(scores)) < 0.2
    scores[moved] = random.permutation(scores[moved])
    notes = [" ".join(answer(scores, truth, 1000, seed).notes) for seed in range(25)]
    assert sum("of another row" in note for note in notes) >= 21


@pytest.mark.parametrize("budget", [200, 600])
def test_no_cut_leaves_out_less_than_a_fifth(budget):
    scores, truth = calibrated(seed=20)
    for seed in range(15):
        size = len(answer(-scores, truth, budget, seed).indices)
        assert size <= 0.8 * len(scores) or size >= len(scores) - budget


def test_tails_by_rank_that_end_nowhere_are_not_cut_off():
    """Scores that say nothing but an order, positives that thin out as rank ** -1.5: a tenth of them lie in the last half."""
    random = np.random.default_rng(21)
    rank = np.arange(50_000) + 20.0
    density = rank**-1.5
    truth = random.random(len(rank)) < np.minimum(density * 1000 / density.sum(), 0.9)
    assert misses(-rank, truth, 1000, 60) <= 4


def test_rows_of_one_score_speak_for_each_other() -> None:
    """Half of the positives share the lowest score with 97% of the rows: labels that stop among them tell of the rest."""
    made = np.random.default_rng(5)
    scores, truth = np.zeros(2624), np.zeros(2624, bool)
    scores[:65] = made.random(65)
    truth[:50] = truth[65 + made.permutation(2559)[:47]] = True
    found = [recall_of(answer(scores, truth, 400, seed), truth) for seed in range(80)]
    assert np.mean(np.less(found, 0.9)) <= 0.025
