"""Bounds and intervals: right as often as they say, exact where they say so, and refusing what says nothing."""

import numpy as np
import pytest
from scipy.stats import binom, hypergeom

from aidb.stats import intervals

FALSE_ALARM = 1e-6


def misses_allowed(trials, delta):
    """A right interval misses more often less than once in a million runs."""
    return binom.isf(FALSE_ALARM, trials, delta)


@pytest.mark.parametrize(
    ("population", "successes", "drawn"),
    [(1, 1, 1), (10, 4, 5), (100, 3, 60), (5000, 700, 400), (10**6, 50, 2000), (10**6, 600_000, 900_000)],
)
def test_the_hypergeometric_distribution_is_that_of_scipy(population, successes, drawn):
    center = int(drawn * successes / population)
    for hits in range(max(0, center - 25), min(drawn, center + 25) + 1):
        ours = intervals.hypergeometric_cdf(hits, population, successes, drawn)
        assert ours == pytest.approx(hypergeom.cdf(hits, population, successes, drawn), rel=1e-6, abs=1e-9)


def test_a_population_of_a_billion_takes_no_time_and_no_memory():
    assert intervals.hypergeometric_cdf(100, 10**9, 10**6, 10**5) == pytest.approx(
        binom.cdf(100, 10**5, 1e-3), abs=1e-3
    )


@pytest.mark.parametrize(("population", "drawn"), [(12, 5), (40, 40), (40, 1), (60, 25)])
@pytest.mark.parametrize("delta", [0.05, 0.4])
def test_hypergeometric_bounds_are_right_for_every_population_and_no_wider_than_they_must_be(population, drawn, delta):
    lower = [intervals.hypergeometric_lower(hits, population, drawn, delta) for hits in range(drawn + 1)]
    upper = [intervals.hypergeometric_upper(hits, population, drawn, delta) for hits in range(drawn + 1)]
    for successes in range(population + 1):
        chance = hypergeom.pmf(np.arange(drawn + 1), population, successes, drawn)
        assert chance[np.array(lower) > successes].sum() <= delta + 1e-9
        assert chance[np.array(upper) < successes].sum() <= delta + 1e-9
    for hits in range(1, drawn + 1):
        assert hypergeom.sf(hits - 1, population, lower[hits], drawn) > delta - 1e-9
    assert all(
        hits <= low <= high <= population for hits, low, high in zip(range(drawn + 1), lower, upper, strict=True)
    )


def test_nothing_drawn_says_nothing_and_everything_drawn_says_all():
    assert intervals.hypergeometric_lower(0, 50, 0, 0.05) == 0
    assert intervals.hypergeometric_upper(0, 50, 0, 0.05) == 50
    assert intervals.hypergeometric_lower(7, 50, 50, 0.05) == intervals.hypergeometric_upper(7, 50, 50, 0.05) == 7
    assert intervals.clopper_pearson(0, 0) == (0, 1)


def test_binomial_bounds_are_those_of_clopper_and_pearson():
    for drawn in (1, 5, 29, 200):
        for hits in range(drawn + 1):
            low, high = intervals.clopper_pearson(hits, drawn, 0.9)
            assert hits == 0 or binom.sf(hits - 1, drawn, low) == pytest.approx(0.05)
            assert hits == drawn or binom.cdf(hits, drawn, high) == pytest.approx(0.05)
    # Without a miss in 29 draws a rate of 0.9 is excluded, with 28 it is not.
    assert intervals.binomial_lower(29, 29, 0.05) > 0.9 > intervals.binomial_lower(28, 28, 0.05)


MEANS = {
    "flat": lambda rng, n: rng.random(n),
    "rare": lambda rng, n: (rng.random(n) < 0.04).astype(float),
    "skewed": lambda rng, n: rng.random(n) ** 8,
}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("interval", [intervals.betting, intervals.empirical_bernstein])
def test_intervals_for_means_of_bounded_values_hold(name, interval):
    rng = np.random.default_rng(3)
    truth = {"flat": 0.5, "rare": 0.04, "skewed": 1 / 9}[name]
    missed = 0
    for _ in range(300):
        low, high = interval(MEANS[name](rng, 80), 0.9)
        assert 0 <= low <= high <= 1
        missed += not low <= truth <= high
    assert missed <= misses_allowed(300, 0.1)


def test_betting_without_replacement_holds_and_closes_in_on_the_population():
    rng = np.random.default_rng(4)
    population = rng.random(120) ** 3
    missed = 0
    for _ in range(300):
        drawn = rng.permutation(population)
        low, high = intervals.betting(drawn[:60], 0.9, population=120)
        missed += not low <= population.mean() <= high
    assert missed <= misses_allowed(300, 0.1)
    drawn = rng.permutation(population)
    narrow = intervals.betting(drawn[:115], population=120)
    wide = intervals.betting(drawn[:115])
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)


def test_betting_is_narrower_than_empirical_bernstein():
    x = np.random.default_rng(5).random(200) ** 3
    bet, bernstein = intervals.betting(x), intervals.empirical_bernstein(x)
    assert bet.high - bet.low < 0.6 * (bernstein.high - bernstein.low)


def test_other_ranges_are_scaled():
    x = np.random.default_rng(6).random(100)
    for interval in (intervals.betting, intervals.empirical_bernstein):
        low, high = interval(x)
        scaled = interval(10 * x - 3, low=-3, high=7)
        assert scaled == pytest.approx((10 * low - 3, 10 * high - 3), abs=1e-5)


def test_no_value_leaves_everything_open():
    assert intervals.betting([]) == (0, 1)
    assert intervals.betting([], low=-2, high=5) == (-2, 5)


def test_a_normal_interval_holds_for_normal_values_and_is_narrower_where_the_population_is_finite():
    rng = np.random.default_rng(7)
    missed = sum(
        not low <= 3 <= high for low, high in (intervals.student(rng.normal(3, 2, 30), 0.9) for _ in range(500))
    )
    assert missed <= misses_allowed(500, 0.1)
    x = rng.normal(size=50)
    low, high = intervals.student(x)
    assert intervals.student(x, population=50) == pytest.approx((x.mean(), x.mean()))
    half = intervals.student(x, population=100)
    assert half.high - half.low == pytest.approx((high - low) * np.sqrt(0.5))


def test_the_bootstrap_holds_for_a_mean_and_takes_any_statistic():
    rng = np.random.default_rng(8)
    missed = 0
    for _ in range(120):
        low, high = intervals.bootstrap(rng.normal(1, 1, 40), np.mean, 0.9, rng=rng, resamples=300)
        missed += not low <= 1 <= high
    assert missed <= misses_allowed(120, 0.13)  # approximate: a little more than the 0.1 it aims at
    pairs = np.stack([rng.random(200), rng.random(200) + 1], axis=1)
    low, high = intervals.bootstrap(pairs, lambda x: x[:, 0].sum() / x[:, 1].sum(), rng=rng, resamples=200)
    assert low < 1 / 3 < high


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_a_quantile_of_a_sample_with_unequal_weights(q):
    rng = np.random.default_rng(9)
    population = rng.exponential(size=4000)
    chance = np.minimum(1, 0.02 + 0.05 * population)
    truth = np.sort(population)[int(q * 4000)]
    missed = 0
    for _ in range(300):
        drawn = rng.random(4000) < chance
        low, high = intervals.woodruff(population[drawn], q, 0.9, weights=1 / chance[drawn])
        missed += not low <= truth <= high
    assert missed <= misses_allowed(300, 0.12)  # approximate


def test_a_quantile_beyond_the_sample_is_open_on_that_side():
    low, high = intervals.woodruff(np.arange(10.0), 0.95)
    assert low > 4
    assert high == np.inf
    assert intervals.woodruff(np.arange(10.0), 0.05).low == -np.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intervals.hypergeometric_lower(3, 10, 2, 0.05), "3 hits in 2 rows drawn from 10"),
        (lambda: intervals.hypergeometric_upper(1, 10, 11, 0.05), "1 hits in 11 rows drawn from 10"),
        (lambda: intervals.hypergeometric_cdf(1, 10, 11, 5), "11 successes in a population of 10"),
        (lambda: intervals.binomial_lower(1, 2, 0.0), "delta"),
        (lambda: intervals.clopper_pearson(1, 2, 1.0), "probability"),
        (lambda: intervals.betting([0.5, 1.2]), "do not lie in"),
        (lambda: intervals.betting([0.5, np.nan]), "finite"),
        (lambda: intervals.betting([[0.5]]), "one dimension"),
        (lambda: intervals.betting([0.5, 0.5], population=1), "2 values drawn without replacement"),
        (lambda: intervals.betting([0.5], low=1, high=1), "is empty"),
        (lambda: intervals.empirical_bernstein([0.5]), "two values"),
        (lambda: intervals.student(np.arange(29)), "too few"),
        (lambda: intervals.student(np.full(100, 0.1)), "all values are the same"),
        (lambda: intervals.bootstrap(np.arange(9), np.mean, rng=np.random.default_rng(0)), "too few"),
        (lambda: intervals.bootstrap(np.ones(20), np.mean, rng=np.random.default_rng(0)), "same figure"),
        (lambda: intervals.woodruff([1, 2, 3], 1.0), "q must lie"),
        (lambda: intervals.woodruff([1], 0.5), "two values"),
        (lambda: intervals.woodruff([1, 2], 0.5, weights=[1, 0]), "above 0"),
    ],
)
def test_what_says_nothing_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
