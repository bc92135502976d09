"""Verified answers: the proof by random draws holds whatever is asked between, and neighbours and ties are made use of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import betabinom, binom, hypergeom

from aidb.errors import BudgetExceeded
from aidb.stats.selection import select
from aidb.stats.selection.belief import belief
from aidb.stats.selection.evidence import Evidence, log_forecast, log_hypergeometric
from aidb.stats.selection.population import Population


def too_many(trials: int, delta: float) -> int:
    """More misses than that have a probability below 1e-6 if the promise holds."""
    return int(binom.isf(1e-6, trials, delta))


def test_forecasts_are_distributions_and_draws_hypergeometric():
    hits = np.arange(31)
    assert np.exp(log_forecast(hits, 30, 7.0, 100)).sum() == pytest.approx(1)
    assert np.exp(log_forecast(hits, 30, 0.0, 100)).sum() == pytest.approx(1)
    first, second = 7 * 0.25, 7 * 0.25 * 93 / 7
    assert np.exp(log_forecast(hits, 30, 7.0, 100)) == pytest.approx(betabinom(30, first, second).pmf(hits))
    assert np.exp(log_hypergeometric(hits, 100, 12, 30)) == pytest.approx(hypergeom(100, 12, 30).pmf(hits))
    assert log_hypergeometric(5, 100, 4, 30) == -np.inf
    assert log_hypergeometric(0, 100, 80, 30) == -np.inf


def test_evidence_against_the_true_number_is_one_on_average_whatever_is_asked_between():
    rows, positives, mean = 11, 5, 0.0
    for first in itertools.combinations(range(rows), 2):
        evidence = Evidence().stake(0.6)
        hits = sum(row < positives for row in first)
        evidence.add(rows, 2, hits, 0, 2.0)
        rest = [row for row in range(rows) if row not in first]
        purpose = rest[0] if hits else rest[-1]  # chosen by what was seen, as is the new stake
        found = hits + (purpose < positives)
        left = [row for row in rest if row != purpose]
        evidence = evidence.stake(0.5) if hits else evidence
        for second in itertools.combinations(left, 2):
            branch = Evidence(evidence.left, evidence.stakes, [*evidence.batches], [*evidence.forecasts])
            branch.add(len(left), 2, sum(row < positives for row in second), found, 1.0)
            mean += math.exp(branch.against([positives])[0]) / math.comb(rows, 2) / math.comb(len(left), 2)
    assert mean == pytest.approx(1)


def test_draws_alone_rarely_prove_what_is_not_so():
    """The worst case: one more than may be missed, and no forecast of it."""
    rng, misses = np.random.default_rng(1), 11
    trials, wrong = 300, 0
    for _ in range(trials):
        evidence, rows, left, found = Evidence().stake(0.9), 600, misses, 98
        while rows and not evidence.certifies(0.9, found, rows, 0.05):
            drawn = min(60, rows)
            hits = int(rng.hypergeometric(left, rows - left, drawn))
            evidence.add(rows, drawn, hits, found, 0.5)
            rows, left, found = rows - drawn, left - hits, found + hits
        wrong += found < 0.9 * (98 + misses) - 1e-9
    assert wrong <= too_many(trials, 0.05)
    assert wrong > 0  # the proof is not so cautious that it is of no use


def frames(seed: int = 4, n: int = 2100) -> tuple[np.ndarray, np.ndarray]:
    """Runs of matching frames, of which a proxy has seen something in a third; it gives 0 to all else."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(n, dtype=bool)
    for start in (n // 7, n // 2, 5 * n // 7):
        truth[start : start + n // 70] = True
    truth[[50, n - 50]] = True
    return np.where(truth & (rng.random(n) < 0.33), 0.3 + 0.5 * rng.random(n), 0.0), truth


def test_a_proxy_that_is_blind_for_most_rows_still_saves_labels():
    scores, truth = frames()
    labels, missed = [], 0
    for seed in range(4):
        answer = select(
            scores, lambda rows: truth[rows], recall=0.9, verified=True, rng=np.random.default_rng(seed), method="exact"
        )
        assert answer.mode == "guaranteed"
        assert answer.verified.all()
        assert truth[answer.indices].all()
        missed += len(answer.indices) < 0.9 * truth.sum()
        labels.append(answer.labels_used)
    assert missed <= too_many(4, 0.05)
    assert np.mean(labels) < 0.6 * len(scores)


@pytest.mark.parametrize("kind", ["alike", "shuffled", "constant", "edge", "failing"])
def test_the_target_is_met(kind: str):
    scores, truth = frames(n=700)
    rng = np.random.default_rng(1)
    broken = np.zeros(len(truth), dtype=bool)
    if kind == "shuffled":
        order = rng.permutation(len(truth))
        scores, truth = scores[order], truth[order]
    elif kind == "constant":
        scores = np.zeros(len(truth))
    elif kind == "edge":  # one more than may be missed, where nobody would look
        truth[:] = False
        truth[::11][:50] = True
        scores = np.where(truth, 1.0, 0.0)
        truth[np.flatnonzero(~truth)[7::90][:6]] = True
    elif kind == "failing":
        broken = rng.random(len(truth)) < 0.1
    good, missed, trials = truth & ~broken, 0, 5
    for seed in range(trials):
        answer = select(
            scores,
            lambda rows: np.where(broken[rows], np.nan, truth[rows]),
            recall=0.9,
            verified=True,
            method="exact",
            rng=np.random.default_rng((3, seed)),
        )
        assert good[answer.indices].all()
        missed += good[answer.indices].sum() < 0.9 * good.sum() - 1e-9
    assert missed <= too_many(trials, 0.05)


def test_neighbours_count_only_where_they_tell():
    _, truth = frames(n=700)
    asked = np.random.default_rng(2).random(700) < 0.3
    nobody = np.zeros(700, dtype=bool)

    def best(order: np.ndarray) -> tuple[float, float]:
        there = truth[order]
        known = (np.flatnonzero(asked), there[asked])
        population = Population(np.zeros(700), lambda rows: there[rows], None, np.random.default_rng(0), known)
        found = belief(population, nobody)
        return found.gain, float(there[population.order[found.ranks[:20]]].mean())

    gain, hit = best(np.arange(700))
    assert gain > 10
    assert hit > 0.6
    gain, hit = best(np.random.default_rng(3).permutation(700))
    assert gain < 3


def test_a_budget_that_does_not_reach_says_what_is_missing():
    scores, truth = frames(n=700)
    with pytest.raises(BudgetExceeded, match=r"needs about [\d,]+ labels more than the 150 that are allowed"):
        select(
            scores,
            lambda rows: truth[rows],
            recall=0.9,
            budget=150,
            verified=True,
            method="exact",
            rng=np.random.default_rng(1),
        )
