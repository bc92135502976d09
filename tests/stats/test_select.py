"""The entry of selection: arguments, edges, and the parts of a `Selection` that every method shares."""

from __future__ import annotations

import numpy as np
import pytest

from aidb.errors import BudgetExceeded
from aidb.stats import Selection, select


def never(rows: np.ndarray) -> np.ndarray:
    raise AssertionError("nothing may be asked")


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


SCORES = np.linspace(1, 0, 400)
TRUTH = np.random.default_rng(1).random(400) < SCORES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a target is missing"),
        ({"recall": 0.0, "budget": 5}, "recall must lie between"),
        ({"recall": 1.0, "budget": 5}, "recall must lie between"),
        ({"precision": float("nan"), "budget": 5}, "precision must lie between"),
        ({"recall": 0.9, "probability": 1.0, "budget": 5}, "probability must lie between"),
        ({"recall": 0.9}, "budget is missing"),
        ({"precision": 0.9}, "budget is missing"),
        ({"recall": 0.9, "budget": -1}, "budget must be a whole number"),
        ({"recall": 0.9, "budget": 2.5}, "budget must be a whole number"),
        ({"recall": 0.9, "budget": True}, "budget must be a whole number"),
        ({"recall": 0.9, "budget": 5, "method": "magic"}, "'magic' is not known for a recall target; there are auto"),
        ({"precision": 0.9, "budget": 5, "method": "cells"}, "not known for a precision target"),
        ({"precision": 0.9, "verified": True}, "verified answers need a recall target"),
        ({"recall": 0.9, "verified": True, "expected": True}, "contradict"),
        ({"recall": 0.9, "precision": 0.9, "expected": True}, "one target"),
        ({"recall": 0.9, "budget": 5, "known": ([1, 1], [True, True])}, "given twice"),
        ({"recall": 0.9, "budget": 5, "known": ([400], [True])}, "between 0 and 399"),
        ({"recall": 0.9, "budget": 5, "known": ([-1], [True])}, "between 0 and 399"),
        ({"recall": 0.9, "budget": 5, "known": ([0.5], [True])}, "whole numbers"),
        ({"recall": 0.9, "budget": 5, "known": ([1, 2], [True])}, "2 truth values were expected"),
    ],
)
def test_arguments_without_sense_are_refused_before_anything_is_asked(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        select(SCORES, never, rng=rng(), **arguments)


def test_scores_must_be_a_row_of_numbers():
    with pytest.raises(ValueError, match="one dimension"):
        select(np.ones((3, 2)), never, recall=0.9, budget=1, rng=rng())
    with pytest.raises(ValueError, match="could not convert"):
        select(["high", "low"], never, recall=0.9, budget=1, rng=rng())


def test_a_label_function_of_the_wrong_shape_is_told():
    with pytest.raises(ValueError, match="one a row, and an array of shape"):
        select(SCORES, lambda rows: np.ones(3), recall=0.9, budget=100, method="exact", rng=rng())


def test_an_empty_table_has_an_empty_exact_answer():
    answer = select([], never, recall=0.9, budget=10, rng=rng())
    assert isinstance(answer, Selection)
    assert (len(answer.indices), answer.mode, answer.labels_used, answer.threshold) == (0, "exact", 0, None)


@pytest.mark.parametrize("target", [{"recall": 0.9}, {"precision": 0.9}, {"recall": 0.9, "precision": 0.8}])
@pytest.mark.parametrize("budget", [400, 401, 10**12])
def test_a_budget_for_everything_gives_the_exact_answer(target: dict, budget: int):
    answer = select(SCORES, lambda rows: TRUTH[rows], budget=budget, rng=rng(), **target)
    assert answer.mode == "exact"
    assert answer.labels_used == 400
    assert answer.indices.tolist() == np.flatnonzero(TRUTH).tolist()
    assert answer.verified.all()


def test_known_rows_make_a_small_budget_one_for_everything():
    known = np.arange(390)
    answer = select(SCORES, lambda rows: TRUTH[rows], recall=0.9, budget=10, known=(known, TRUTH[known]), rng=rng())
    assert (answer.mode, answer.labels_used) == ("exact", 10)
    assert answer.indices.tolist() == np.flatnonzero(TRUTH).tolist()


@pytest.mark.parametrize("method", ["auto", "exact", "uniform", "zones", "two_rate"])
@pytest.mark.parametrize("budget", [0, 1, 2, 7, 29, 399])
@pytest.mark.parametrize("truth", [np.zeros(400, bool), np.ones(400, bool), TRUTH], ids=["none", "all", "some"])
def test_any_budget_is_kept_and_positives_seen_are_returned(method: str, budget: int, truth: np.ndarray):
    asked: list[int] = []

    def label(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return truth[rows]

    answer = select(SCORES, label, recall=0.9, budget=budget, method=method, rng=rng())
    assert len(set(asked)) == len(asked) == answer.labels_used <= budget
    seen = np.array(sorted(asked), dtype=np.int64)
    assert np.isin(seen[truth[seen]], answer.indices).all()
    assert not np.isin(seen[~truth[seen]], answer.indices).any()
    assert (np.diff(answer.indices) > 0).all()
    assert answer.verified.tolist() == np.isin(answer.indices, seen).tolist()
    if budget < 20 and method != "auto":  # too few to leave out anything
        assert len(answer.indices) == 400 - (~truth[seen]).sum()


@pytest.mark.parametrize(
    "scores",
    [np.full(400, np.nan), np.full(400, -np.inf), np.full(400, 3.0), SCORES * 1e300, -SCORES, np.arange(400) % 2],
    ids=["nan", "-inf", "constant", "huge", "negative", "two values"],
)
def test_any_scores_do(scores: np.ndarray):
    answer = select(scores, lambda rows: TRUTH[rows], recall=0.8, budget=250, method="exact", rng=rng())
    assert TRUTH[answer.indices].sum() >= 0.8 * TRUTH.sum()


@pytest.mark.parametrize("probability", [1e-9, 0.5, 1 - 1e-9])
def test_any_probability_does(probability: float):
    answer = select(
        SCORES, lambda rows: TRUTH[rows], recall=0.5, budget=200, method="exact", probability=probability, rng=rng()
    )
    if probability > 0.9:
        assert TRUTH[answer.indices].sum() >= 0.5 * TRUTH.sum()
    assert answer.probability == probability


def test_the_threshold_is_the_lowest_score_of_an_unverified_row():
    answer = select(SCORES, lambda rows: TRUTH[rows], recall=0.9, budget=200, method="uniform", rng=rng())
    assert answer.threshold == SCORES[answer.indices[~answer.verified]].min()


def test_the_same_seed_gives_the_same_answer():
    first, second = (
        select(SCORES, lambda rows: TRUTH[rows], recall=0.9, budget=150, method="exact", rng=rng()) for _ in range(2)
    )
    assert first.indices.tolist() == second.indices.tolist()


def test_auto_says_what_it_cannot_promise():
    answer = select(SCORES, lambda rows: rows < 8, recall=0.9, budget=60, rng=rng())
    assert answer.mode in ("asymptotic", "guaranteed")
    assert answer.labels_needed is not None
    assert answer.labels_needed > 60
    assert any("exact" in note for note in answer.notes)
    assert answer.certified_recall is not None


def test_a_verified_answer_that_the_budget_forbids_says_how_much_is_missing():
    with pytest.raises(BudgetExceeded, match=r"needs \d+ labels more"):
        select(SCORES, lambda rows: TRUTH[rows], recall=0.9, budget=100, verified=True, method="exact", rng=rng())


def test_calibrated_states_its_assumption_and_drops_it_after_a_bad_audit():
    random = np.random.default_rng(3)
    scores = random.beta(0.01, 1, 100_000)
    truth = random.random(100_000) < scores

    def answer(labels: np.ndarray) -> Selection:
        return select(scores, lambda rows: labels[rows], recall=0.9, budget=2500, method="calibrated", rng=rng())

    fair = answer(truth)
    assert fair.mode == "conditional"
    assert "kappa = 1" in fair.notes[0]
    assert truth[fair.indices].sum() >= 0.9 * truth.sum()
    foul = answer(truth | ((scores < 1e-6) & (random.random(100_000) < 0.05)))
    assert foul.mode == "guaranteed"
    assert "The assumption was" in foul.notes[0]
    with pytest.raises(ValueError, match="kappa must be above 0"):
        select(scores, never, recall=0.9, budget=1500, method="calibrated", kappa=0.0, rng=rng())
