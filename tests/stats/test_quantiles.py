"""Quantiles from a sample: the promise by enumeration and by repetition, ties and failures."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

from aidb.stats import quantile
from aidb.stats.quantiles import _highest, _lowest

RNG = np.random.default_rng


@pytest.mark.parametrize(
    "values", [[1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 0, 0, 0, 5, 5, 5, 5, 5], [1, 1, 2, 2, 2, 2, 2, 3, 9]]
)
@pytest.mark.parametrize("q", [0.3, 0.5, 0.8])
def test_the_interval_fails_as_rarely_as_it_says_for_every_sample(values: list[int], q: float):
    n, count, delta = 9, 5, 0.1
    rank = math.ceil(q * n - 1e-9)
    truth = values[rank - 1]
    first, last = _lowest(n, rank, count, delta), _highest(n, rank, count, delta)
    samples = list(itertools.combinations(values, count))
    too_high = sum(first >= 1 and s[first - 1] > truth for s in samples) / len(samples)
    too_low = sum(last <= count and s[last - 1] < truth for s in samples) / len(samples)
    assert too_high <= delta
    assert too_low <= delta
    assert first >= 1 or last <= count


@pytest.mark.parametrize(("q", "error"), [(0.5, 0.02), (0.9, 0.02), (0.05, 0.04)])
def test_rank_and_interval_hold(q: float, error: float):
    values = np.round(RNG(1).lognormal(size=20_000), 2)
    ranked = np.sort(values)
    truth = ranked[math.ceil(q * len(values)) - 1]
    wrong, outside, trials = 0, 0, 200
    for seed in range(trials):
        found = quantile(lambda rows: values[rows], len(values), q, rank_error=error, rng=RNG(seed))
        share = np.searchsorted(ranked, found.value, "left") / len(values), (values <= found.value).mean()
        wrong += not (share[0] - error - 1e-9 <= q <= share[1] + error + 1e-9)
        outside += not found.low <= truth <= found.high
        assert found.labels_used < 0.2 * len(values)
        assert found.mode == "guaranteed"
    most = binom.isf(1e-6, trials, 0.05)
    assert wrong <= most
    assert outside <= most


def test_failed_rows_widen_the_interval_to_both_sides():
    values = RNG(2).normal(size=5000)
    broken = values > 1
    answered = np.where(broken, np.nan, values)
    truth = float(np.median(values[~broken]))
    plain = quantile(lambda rows: values[rows], 5000, budget=500, rng=RNG(3))
    found = quantile(lambda rows: answered[rows], 5000, budget=500, rng=RNG(3))
    assert len(found.failed)
    assert broken[found.failed].all()
    assert found.low <= truth <= found.high
    assert found.low < plain.low
    assert found.high - found.low > plain.high - plain.low


def test_everything_asked_is_exact_and_too_little_says_nothing():
    found = quantile(lambda rows: rows.astype(float), 101, budget=500, rng=RNG(0))
    assert (found.value, found.low, found.high, found.mode, found.labels_used) == (50, 50, 50, "exact", 101)
    few = quantile(lambda rows: rows.astype(float), 101, 0.99, budget=3, rng=RNG(0))
    assert few.high == math.inf
    none = quantile(lambda rows: rows, 0, budget=5, rng=RNG(0))
    assert math.isnan(none.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({}, "one of"),
        ({"rank_error": 0.1, "budget": 5}, "one of"),
        ({"rank_error": 2}, "rank_error"),
        ({"budget": -1}, "negative"),
    ],
)
def test_arguments_that_make_no_sense(more: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        quantile(lambda rows: rows, 10, rng=RNG(0), **more)
