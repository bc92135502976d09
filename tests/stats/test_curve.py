"""What is drawn of a selection: recall and precision against the threshold, and where the returned rows are."""

from __future__ import annotations

import numpy as np
import pytest

from aidb.stats.selection.curve import curve, histogram


def table(seed: int, n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return scores, rng.random(n) < scores**4, rng


@pytest.mark.parametrize("seed", range(5))
def test_the_curve_is_near_the_truth(seed: int) -> None:
    scores, truth, rng = table(seed)
    weights = np.sqrt(scores) / np.sqrt(scores).sum()  # as methods ask: more where the score is high
    asked = rng.choice(len(scores), 2000, replace=False, p=weights)
    found = curve(scores, asked, truth[asked])
    assert 100 < len(found) <= 200
    assert (np.diff(found[:, 0]) < 0).all()
    assert (np.diff(found[:, 1]) >= 0).all()
    for threshold, recall, precision in found[20:]:
        above = scores >= threshold
        assert abs(recall - truth[above].sum() / truth.sum()) < 0.08
        assert abs(precision - truth[above].mean()) < 0.12
    assert found[-1, 1] == pytest.approx(1.0)


def test_where_all_was_asked_the_curve_is_the_truth() -> None:
    scores, truth, _ = table(1, 500)
    scores = np.round(scores, 2)  # with ties
    for threshold, recall, precision in curve(scores, np.arange(500), truth):
        above = scores >= threshold
        assert recall == pytest.approx(truth[above].sum() / truth.sum())
        assert precision == pytest.approx(truth[above].mean())


def test_rows_without_a_score_or_an_answer_are_drawn_nowhere() -> None:
    scores = np.array([0.9, 0.8, np.nan, 0.1, np.nan])
    found = curve(scores, [0, 1, 2, 3], [1, np.nan, 1, 0])
    assert np.isfinite(found).all()
    assert found[0, 0] == 0.9
    assert curve(scores, [0, 3], [0, 0]).shape == (0, 3)
    assert curve(scores, [], []).shape == (0, 3)
    bins = histogram(scores, [0, 2])
    assert (bins[:, 2].sum(), bins[:, 3].sum()) == (3, 1)
    assert histogram([np.nan], []).shape == (0, 4)


def test_a_proxy_that_says_the_same_of_all_gives_one_point() -> None:
    [(threshold, recall, precision)] = curve(np.zeros(100), np.arange(50), np.arange(50) < 10)
    assert (threshold, recall) == (0.0, pytest.approx(1.0))
    assert precision == pytest.approx(0.2)
    assert histogram(np.zeros(100), [1])[:, 2].sum() == 100
