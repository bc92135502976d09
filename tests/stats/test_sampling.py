"""Samples: distinct rows, exact probabilities, totals without bias, bad input refused."""

import numpy as np
import pytest

from aidb.stats import sampling

N = 40
VALUES = np.linspace(1, 9, N) ** 2
WEIGHTS = np.concatenate([[50.0, 0.0], np.linspace(0.5, 2, N - 2)])
STRATA = np.arange(N) % 3


def draws(name, rng):
    return {
        "uniform": lambda: sampling.uniform(N, 12, rng),
        "stratified": lambda: sampling.stratified(STRATA, [2, 5, 14], rng),
        "weighted": lambda: sampling.weighted(WEIGHTS, 12, rng),
        "reservoir": lambda: sampling.reservoir(iter(range(N)), 12, rng)[1],
        "importance": lambda: sampling.importance(WEIGHTS, 12, rng),
    }[name]()


@pytest.mark.parametrize("name", ["uniform", "stratified", "weighted", "reservoir", "importance"])
def test_rows_come_in_as_often_as_is_said_and_totals_have_no_bias(name):
    rng = np.random.default_rng(1)
    trials, seen, told, totals = 4000, np.zeros(N), np.full(N, np.nan), []
    reached = WEIGHTS > 0 if name in ("weighted", "importance") else np.full(N, True)
    for _ in range(trials):
        sample = draws(name, rng)
        seen += np.bincount(sample.indices, minlength=N)
        told[sample.indices] = sample.probabilities
        totals.append((sample.weights * VALUES[sample.indices]).sum())
        if name != "importance":
            assert (np.diff(sample.indices) > 0).all()
            np.testing.assert_allclose(sample.weights, 1 / sample.probabilities)
    expected = np.where(reached, told, 0) * (12 if name == "importance" else 1)
    assert np.abs(seen / trials - expected).max() < 5.5 * np.sqrt(0.25 * (4 if name == "importance" else 1) / trials)
    error = np.std(totals) / np.sqrt(trials)
    assert abs(np.mean(totals) - VALUES[reached].sum()) < 5.5 * error


def test_sizes_are_those_asked_for():
    rng = np.random.default_rng(2)
    assert len(sampling.uniform(N, 100, rng).indices) == N
    assert np.bincount(STRATA[sampling.stratified(STRATA, [2, 500, 0], rng).indices], minlength=3).tolist() == [
        2,
        13,
        0,
    ]
    assert len(sampling.weighted(WEIGHTS, 12, rng).indices) == 12
    assert len(sampling.weighted(WEIGHTS, 100, rng).indices) == N - 1
    assert len(sampling.importance(WEIGHTS, 100, rng).indices) == 100
    for sample in (sampling.uniform(0, 5, rng), sampling.weighted([], 5, rng), sampling.weighted([0, 0], 5, rng)):
        assert len(sample.indices) == len(sample.weights) == 0
    assert len(sampling.stratified([], [], rng).indices) == 0


def test_heavy_rows_are_taken_with_certainty_and_the_rest_keeps_its_proportions():
    shares = sampling.inclusion([100.0, 50.0, 1.0, 2.0, 0.0], 3)
    np.testing.assert_allclose(shares, [1, 1, 1 / 3, 2 / 3, 0])
    np.testing.assert_allclose(sampling.inclusion([1, 1, 2], 10), [1, 1, 1])


def test_labels_go_where_values_vary():
    counts = sampling.allocate([1000, 1000, 10, 500], [1.0, 3.0, 100.0, 0.0], 212)
    assert counts.sum() == 212
    assert counts[2] == 10
    assert counts[3] == 2
    assert counts[1] == pytest.approx(3 * counts[0], rel=0.1)
    assert sampling.allocate([10, 30], [0, 0], 20).tolist() == [6, 14]  # two each, then by size
    assert sampling.allocate([10, 30], [1, 1], 1000).tolist() == [10, 30]
    assert sampling.allocate([10, 30], [1, 1], 0).tolist() == [0, 0]


def test_a_reservoir_gives_the_items_and_their_places_whatever_the_length():
    rng = np.random.default_rng(3)
    for length, count in ((0, 3), (2, 3), (3, 3), (1000, 7), (50, 1), (9, 0)):
        words = [f"item {i}" for i in range(length)]
        items, sample = sampling.reservoir(iter(words), count, rng)
        assert items == [words[i] for i in sample.indices]
        assert len(set(items)) == min(length, count)


def test_the_same_seed_gives_the_same_sample():
    for name in ("uniform", "stratified", "weighted", "reservoir", "importance"):
        first, second = (draws(name, np.random.default_rng(4)) for _ in range(2))
        assert first.indices.tolist() == second.indices.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: sampling.uniform(10, -1, rng), "whole"),
        (lambda rng: sampling.uniform(10, 2.5, rng), "whole"),
        (lambda rng: sampling.uniform(-1, 1, rng), "cannot be -1 rows"),
        (lambda rng: sampling.stratified([0, 3], [1, 1], rng), "strata from 0 to 3"),
        (lambda rng: sampling.stratified([0.5], [1], rng), "whole numbers"),
        (lambda rng: sampling.weighted([1, np.nan], 1, rng), "finite"),
        (lambda rng: sampling.weighted([1, -1], 1, rng), "0 or more"),
        (lambda rng: sampling.weighted([[1]], 1, rng), "one dimension"),
        (lambda rng: sampling.importance([0, 0], 1, rng), "no row has a weight"),
        (lambda rng: sampling.allocate([1, 2], [1], 1), "same length"),
        (lambda rng: sampling.reservoir([], -2, rng), "whole"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
