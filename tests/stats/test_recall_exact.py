"""Exact certificates of recall: the arithmetic by brute force, the promise by repetition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from aidb.stats.selection import select, two_rate, zones


def table(kind: str, n: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(20240607)
    if kind == "honest":
        scores = rng.beta(0.3, 2, n)
        return scores, rng.random(n) < scores
    if kind == "constant":
        return np.full(n, 0.5), rng.random(n) < 0.12
    if kind == "reversed":
        scores = rng.random(n)
        return scores, rng.random(n) < 0.4 * (1 - scores) ** 2
    if kind == "missing":
        scores = rng.beta(0.3, 2, n)
        truth = rng.random(n) < scores
        scores[rng.random(n) < 0.2] = np.nan
        return scores, truth
    if kind == "hidden":
        scores = rng.beta(0.3, 2, n)
        truth = rng.random(n) < scores
        scores[rng.permutation(np.flatnonzero(truth))[: int(0.15 * truth.sum())]] = 0
        return scores, truth
    assert kind == "edge"  # one positive more than may be missed, all at the very bottom
    scores = np.linspace(1, 0, n)
    truth = np.zeros(n, dtype=bool)
    truth[:269] = truth[-31:] = True
    return scores, truth


def recalls(kind: str, budget: int, trials: int, method: str = "exact", **more) -> np.ndarray:
    scores, truth = table(kind)
    got = np.empty(trials)
    for trial in range(trials):
        answer = select(
            scores,
            lambda rows: truth[rows],
            recall=0.9,
            budget=budget,
            method=method,
            rng=np.random.default_rng((9, trial)),
            **more,
        )
        got[trial] = truth[answer.indices].sum() / truth.sum()
    return got


def too_many(trials: int, delta: float) -> int:
    """More misses than that have a probability below 1e-6 if the promise holds."""
    from scipy.stats import binom

    return int(binom.isf(1e-6, trials, delta))


@pytest.mark.parametrize("kind", ["honest", "constant", "reversed", "missing", "hidden", "edge"])
def test_recall_is_met(kind: str):
    got = recalls(kind, 1000, 60)
    assert (got < 0.9 - 1e-12).sum() <= too_many(60, 0.05)


@pytest.mark.parametrize("method", ["uniform", "zones", "two_rate"])
@pytest.mark.parametrize("kind", ["honest", "hidden"])
def test_each_certificate_keeps_its_promise(method: str, kind: str):
    got = recalls(kind, 800, 40, method)
    assert (got < 0.9 - 1e-12).sum() <= too_many(40, 0.05)


def test_verified_answers_keep_their_promise():
    scores, truth = table("honest")
    missed = labels = 0
    for trial in range(60):
        answer = select(
            scores,
            lambda rows: truth[rows],
            recall=0.9,
            verified=True,
            method="exact",
            rng=np.random.default_rng(trial),
        )
        assert answer.verified.all()
        assert truth[answer.indices].all()
        missed += len(answer.indices) < 0.9 * truth.sum()
        labels += answer.labels_used
    assert missed <= too_many(60, 0.05)
    assert labels / 60 < 0.6 * len(scores)


def test_a_good_proxy_makes_a_small_exact_answer():
    scores, truth = table("honest", 20_000)
    answer = select(
        scores, lambda rows: truth[rows], recall=0.9, budget=6000, method="exact", rng=np.random.default_rng(1)
    )
    assert answer.mode == "guaranteed"
    assert answer.certified_recall == 0.9
    assert answer.labels_used <= 6000
    assert truth[answer.indices].mean() > 0.4


def brute_force(table_: np.ndarray, misses: int, positives: int, rate: float) -> float:
    """The chance of error over all ways to toss the positives of the tail."""
    total = 0.0
    for tosses in itertools.product([False, True], repeat=positives):  # from the bottom up
        untossed = [place for place, tossed in enumerate(tosses) if not tossed]
        if len(untossed) > misses:
            below = sum(tosses[: untossed[misses]])
            if below <= table_[min(sum(tosses), len(table_) - 1)]:
                total += math.prod(rate if tossed else 1 - rate for tossed in tosses)
    return total


@pytest.mark.parametrize(("misses", "positives"), [(0, 4), (1, 9), (3, 11), (2, 2), (0, 1), (5, 12)])
def test_error_is_the_chance_over_all_tosses(misses: int, positives: int):
    allowed = np.array([-1, -1, 0, 0, 1, 1, 1, 2, 3])
    got = zones.error(allowed, np.array([misses]), np.array([positives]), 0.4)
    assert got[0] == pytest.approx(brute_force(allowed, misses, positives, 0.4), abs=1e-12)


@pytest.mark.parametrize(
    ("outside", "rows", "rate", "recall"),
    [(0, 2000, 0.5, 0.9), (300, 5000, 0.3, 0.9), (40, 3000, 0.6, 0.75), (900, 400, 0.2, 0.95), (0, 10**6, 0.01, 0.9)],
)
def test_the_allowance_errs_at_most_delta_for_every_number_of_positives(outside, rows, rate, recall):
    allowed = zones.allowance(outside, rows, rate, recall, 0.05, likely=40)
    assert (np.diff(allowed) >= 0).all()
    assert allowed.max() >= 0
    positives = np.unique(np.append(np.arange(0, min(rows, 1500)), np.linspace(0, rows, 200))).astype(np.int64)
    misses = np.floor((1 - recall) * (outside + positives) + 1e-9).astype(np.int64)
    worst = zones.error(allowed, misses, positives, rate).max()
    assert 0.02 < worst <= 0.05 + 1e-9


@pytest.mark.parametrize("ratio", [0.25, 0.4, 1.0])
def test_two_rates_err_at_most_delta_wherever_the_misses_lie(ratio: float):
    rng = np.random.default_rng(4)
    drawn, recall, c = 160, 0.9, 1 / 9
    allowed = np.array([two_rate.allowance(drawn, deep, ratio, recall, 0.05) for deep in range(12)])
    assert allowed[0] >= 1
    for share in (0.0, 0.3, 0.7, 1.0):
        odds = np.array([1, c * share, ratio * c * (1 - share)])
        _, dense, deep = rng.multinomial(drawn, odds / odds.sum(), 4000).T
        wrong = (dense <= allowed[np.minimum(deep, 11)]).sum()
        assert wrong <= too_many(4000, 0.05)


def test_known_positives_count_and_are_not_bought():
    scores, truth = table("honest")
    given = np.flatnonzero(truth)[::2]
    asked: list[np.ndarray] = []

    def label(rows: np.ndarray) -> np.ndarray:
        asked.append(rows)
        return truth[rows]

    answer = select(
        scores, label, recall=0.9, budget=900, method="exact", known=(given, truth[given]), rng=np.random.default_rng(3)
    )
    bought = np.concatenate(asked)
    assert len(np.unique(bought)) == len(bought) == answer.labels_used <= 900
    assert not np.isin(bought, given).any()
    assert np.isin(given, answer.indices).all()


@pytest.mark.parametrize("method", ["exact", "uniform", "zones", "two_rate"])
def test_known_rows_leave_the_promise_as_it_is(method: str):
    scores, truth = table("hidden")
    given = np.flatnonzero(scores > 0.3)  # all of the top: no random sample
    missed = 0
    for trial in range(60):
        answer = select(
            scores,
            lambda rows: truth[rows],
            recall=0.9,
            budget=700,
            method=method,
            known=(given, truth[given]),
            rng=np.random.default_rng(trial),
        )
        missed += truth[answer.indices].sum() < 0.9 * truth.sum() - 1e-9
    assert missed <= too_many(60, 0.05)


def test_failed_rows_are_named_and_never_returned():
    scores, truth = table("honest")
    broken = np.random.default_rng(8).random(len(scores)) < 0.1
    met = 0
    for trial in range(40):
        answer = select(
            scores,
            lambda rows: np.where(broken[rows], np.nan, truth[rows]),
            recall=0.9,
            budget=1000,
            method="exact",
            rng=np.random.default_rng(trial),
        )
        assert len(answer.failed)
        assert broken[answer.failed].all()
        assert not np.isin(answer.failed, answer.indices).any()
        good = truth & ~broken
        met += good[answer.indices].sum() >= 0.9 * good.sum() - 1e-9
    assert 40 - met <= too_many(40, 0.05)
