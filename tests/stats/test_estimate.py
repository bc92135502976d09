"""Counts, sums and averages within an error: they keep it, stay cheap, and take what comes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import bdtrik

from aidb.stats.aggregates import Estimate, estimate
from aidb.stats.aggregates.regression import Sample, fit
from aidb.stats.aggregates.strata import packed
from benchmarks.populations import Population, make

FALSE_ALARM = 1e-6


def allowed(trials: int, failure: float) -> int:
    """Misses that a right build exceeds less than once in a million runs."""
    return int(np.ceil(bdtrik(1 - FALSE_ALARM, trials, failure)))


class Oracle:
    """Answers from a population; refuses to be asked twice, and counts."""

    def __init__(self, p: Population, failing: np.ndarray | None = None) -> None:
        self.p, self.asked, self.calls = p, np.zeros(p.n, dtype=bool), 0
        self.failing = np.zeros(p.n, dtype=bool) if failing is None else failing

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        assert rows.dtype == np.int64
        assert len(np.unique(rows)) == len(rows)
        assert not self.asked[rows].any()
        self.asked[rows] = True
        self.calls += 1
        return np.where(self.failing[rows], np.nan, self.p.label(rows).T).T


def runs(name: str, trials: int, error: float = 0.1, **how: object) -> tuple[Population, list[Estimate]]:
    p = make(name)
    return p, [
        estimate(p.proxy, Oracle(p), aggregate=p.aggregate, error=error, rng=np.random.default_rng([7, t]), **how)
        for t in range(trials)
    ]


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("counts40_r0.8", 480),
        ("counts4_r0.8", 4_200),
        ("lognormal", 2_300),
        ("abae", 280),
        ("T_rev", 480),
        ("T_const", 1_700),
        ("T_burst", 1_100),
        ("T_outlier", 550),
        ("T_avg8", 4_500),
    ],
)
def test_the_answer_is_within_the_error_and_its_interval_holds_the_truth(name: str, calls: int) -> None:
    p, found = runs(name, 40)
    assert sum(abs(e.value - p.truth) > 0.1 * abs(p.truth) for e in found) <= allowed(40, 0.05)
    assert sum(not e.low <= p.truth <= e.high for e in found) <= allowed(40, 0.05)
    assert all(e.met for e in found)
    assert all(max(e.high - e.value, e.value - e.low) <= 0.1 * abs(e.value) for e in found)
    assert np.mean([e.labels_used for e in found]) <= calls


def test_labels_used_are_the_rows_asked() -> None:
    p = make("counts40_r0.8")
    oracle = Oracle(p)
    found = estimate(p.proxy, oracle, error=0.05, rng=np.random.default_rng(1))
    assert found.labels_used == oracle.asked.sum() == found.history[-1][0]
    assert oracle.calls == len(found.history) <= 10
    assert found.population == p.n


def test_the_same_generator_gives_the_same_answer() -> None:
    p = make("counts40_r0.8")
    first, second = (estimate(p.proxy, Oracle(p), error=0.1, rng=np.random.default_rng(5)) for _ in range(2))
    assert (first.value, first.low, first.labels_used) == (second.value, second.low, second.labels_used)


def test_an_outlier_that_the_proxy_shows_is_taken_with_certainty() -> None:
    p = make("T_outlier")
    at = int(np.argmax(p.y))
    for t in range(5):
        oracle = Oracle(p)
        estimate(p.proxy, oracle, error=0.1, rng=np.random.default_rng([3, t]))
        assert oracle.asked[at]


def test_a_budget_is_kept_and_the_interval_reached_is_told() -> None:
    p = make("counts40_r0.8")
    covered = 0
    for t in range(40):
        e = estimate(p.proxy, Oracle(p), error=0.01, budget=400, rng=np.random.default_rng([4, t]))
        assert e.labels_used == 400
        assert e.met is False
        assert "budget" in e.notes[0]
        covered += e.low <= p.truth <= e.high
    assert 40 - covered <= allowed(40, 0.05)


def test_without_an_error_the_budget_is_spent() -> None:
    p = make("counts4_r0.95")
    e = estimate(p.proxy, Oracle(p), budget=3_000, rng=np.random.default_rng(1))
    assert e.labels_used == 3_000
    assert e.met is None
    assert e.low <= p.truth <= e.high
    assert e.high - e.low < 0.1 * p.truth


@pytest.mark.parametrize("how", [{"budget": 10**9}, {}, {"method": "exact", "error": 0.05}])
def test_all_rows_give_the_exact_answer(how: dict[str, object]) -> None:
    p = make("N_tiny")
    e = estimate(p.proxy, Oracle(p), rng=np.random.default_rng(1), **how)
    assert (e.value, e.low, e.high) == (p.truth,) * 3
    assert (e.mode, e.method, e.labels_used) == ("exact", "exact", p.n)


@pytest.mark.parametrize("kind", ["count", "sum", "avg"])
def test_an_empty_table(kind: str) -> None:
    e = estimate([], Oracle(make("N_tiny")), aggregate=kind, error=0.1, rng=np.random.default_rng(1))
    assert e.mode == "exact"
    assert e.labels_used == 0
    assert np.isnan(e.value) if kind == "avg" else e.value == 0


@pytest.mark.parametrize("budget", [0, 1, 2, 7])
def test_tiny_budgets_give_an_interval_that_holds(budget: int) -> None:
    p = make("counts40_r0.8")
    e = estimate(p.proxy, Oracle(p), error=0.05, budget=budget, rng=np.random.default_rng(2))
    assert e.labels_used == budget
    assert e.low <= e.value <= e.high
    assert e.high >= p.truth or budget > 0
    assert e.met is False


def test_where_nothing_matches_the_rule_of_three_bounds_the_count() -> None:
    def nothing(rows: np.ndarray) -> np.ndarray:
        return np.zeros(len(rows))

    e = estimate(None, nothing, error=0.1, budget=300, rows=10_000, rng=np.random.default_rng(1))
    assert (e.value, e.low) == (0, 0)
    assert 3 * 9_700 / 300 * 0.9 < e.high < 3 * 10_000 / 300 * 1.05
    s = estimate(None, nothing, aggregate="sum", budget=300, rows=10_000, rng=np.random.default_rng(1))
    assert (s.low, s.high) == (-np.inf, np.inf)


def test_few_matches_give_a_wide_interval_that_holds() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.004).astype(float)
    missed = 0
    for t in range(200):
        e = estimate(None, lambda i: y[i], budget=800, rows=20_000, rng=np.random.default_rng([1, t]))
        missed += not e.low <= y.sum() <= e.high
    assert missed <= allowed(200, 0.05)


@pytest.mark.parametrize(("seen", "matches"), [(0, 2.0), (1, 2.67), (4, 5.33), (30, 31)])
def test_stopping_early_is_paid_for_with_one_more_match(seen: int, matches: float) -> None:
    """x matches in n rows of a block: a standard error of sqrt(x + 1) N / n, and of twice the 1 where there was none."""
    n, rows = 10_000, np.array([1_000_000, 20])
    codes = np.repeat([0, 1], [n, 20])
    strata = packed(np.zeros(rows.sum()), np.repeat(np.array([0, 1], np.uint8), rows), (1,))
    y = np.where(codes == 1, 1.0, 0.0)
    y[:seen] = 1.0
    found = fit(Sample(strata, codes, np.zeros(len(y)), np.array([n, 20])), y, None)
    assert found.variance == pytest.approx(matches * (rows[0] / n) ** 2 * (1 - n / rows[0]), rel=0.02)


def test_stopping_at_few_matches_keeps_the_promise() -> None:
    """Half of some 16 matches is allowed: here a rule that trusts its own standard error covers 89%."""
    y = (np.random.default_rng(0).random(60_000) < 0.004).astype(float)
    found = [
        estimate(None, lambda i: y[i], error=1.0, rows=len(y), rng=np.random.default_rng([2, t])) for t in range(300)
    ]
    assert all(e.met for e in found)
    assert sum(not e.low <= y.sum() <= e.high for e in found) <= 24


def test_values_that_are_all_the_same_do_not_give_an_interval_without_width() -> None:
    d = (np.random.default_rng(0).random(20_000) < 0.3).astype(float)
    e = estimate(
        None,
        lambda i: np.column_stack((7 * d[i], d[i])),
        aggregate="avg",
        error=0.05,
        rows=20_000,
        rng=np.random.default_rng(1),
    )
    assert e.labels_used < 400
    assert e.low < 7 < e.high


def test_known_rows_are_free_and_exact() -> None:
    p = make("counts40_r0.8")
    known = np.argsort(p.y)[-20_000:]  # nothing like a random sample
    oracle = Oracle(p)
    oracle.asked[known] = True
    missed = 0
    for t in range(40):
        oracle.asked[:] = False
        oracle.asked[known] = True
        e = estimate(p.proxy, oracle, error=0.05, known=(known, p.y[known]), rng=np.random.default_rng([6, t]))
        missed += not e.low <= p.truth <= e.high
        assert e.low >= p.y[known].sum()
    assert missed <= allowed(40, 0.05)
    assert e.labels_used < 700
    oracle.asked[:] = False
    assert (
        estimate(p.proxy, oracle, error=0.05, known=(np.arange(p.n), p.y), rng=np.random.default_rng(1)).mode == "exact"
    )


def test_failed_items_widen_the_interval_and_are_named() -> None:
    p = make("counts40_r0.8")
    failing = np.random.default_rng(0).random(p.n) < 0.03
    e = estimate(p.proxy, Oracle(p, failing), error=0.05, rng=np.random.default_rng(1))
    clean = estimate(p.proxy, Oracle(p), error=0.05, rng=np.random.default_rng(1))
    assert failing[e.failed].all()
    assert len(e.failed) > 0
    assert e.high - e.low > clean.high - clean.low
    assert e.low <= p.truth <= e.high
    assert "gave no answer" in e.notes[0]
    every = estimate(p.proxy, lambda i: np.full(len(i), np.nan), budget=50, rng=np.random.default_rng(1))
    assert np.isinf(every.high)
    assert len(every.failed) == 50


def test_scores_of_any_sort_are_taken() -> None:
    p = make("counts40_r0.8")
    bad = p.proxy.copy()
    bad[::7], bad[1::7], bad[2::7] = np.nan, np.inf, -np.inf
    for scores in (bad, np.full(p.n, np.nan), np.zeros(p.n), p.proxy * 1e9 - 1e12, p.proxy.astype(np.float32)):
        e = estimate(scores, Oracle(p), error=0.1, rng=np.random.default_rng(3))
        assert abs(e.value - p.truth) < 0.12 * p.truth
        assert e.labels_used < 2_000


def test_a_total_near_zero_asks_every_row_and_says_what_would_not() -> None:
    y = np.random.default_rng(0).normal(0, 1, 5_000)
    y -= y.mean() - 0.001
    rng = np.random.default_rng(1)
    e = estimate(None, lambda i: y[i], aggregate="sum", error=0.05, rows=len(y), rng=rng)
    assert e.mode == "exact"
    assert any("absolute error" in note for note in e.notes)
    a = estimate(None, lambda i: y[i], aggregate="sum", error=500, relative=False, rows=len(y), rng=rng)
    assert a.labels_used < 1_000
    assert not a.notes
    plain = estimate(None, lambda i: np.abs(y[i]), aggregate="sum", method="exact", error=0.05, rows=len(y), rng=rng)
    assert not plain.notes


def test_an_absolute_error() -> None:
    p, missed = make("N_signs"), 0
    for t in range(10):
        e = estimate(
            p.proxy, Oracle(p), aggregate="sum", error=3_000, relative=False, rng=np.random.default_rng([5, t])
        )
        assert e.met
        assert e.high - e.low <= 6_000 * (1 + 1e-9)
        missed += not e.low <= p.truth <= e.high
    assert missed <= allowed(10, 0.05)


@pytest.mark.parametrize("method", ["clt", "ppi", "abae", "bootstrap"])
def test_the_plainer_methods_keep_the_error_too(method: str) -> None:
    p, found = runs("counts60_r0.8", 40, method=method)
    assert sum(abs(e.value - p.truth) > 0.1 * p.truth for e in found) <= allowed(40, 0.07)
    assert {e.method for e in found} == {method}


@pytest.mark.parametrize("method", ["ebs", "betting"])
def test_the_methods_within_bounds_are_guaranteed(method: str) -> None:
    y = np.random.default_rng(0).random(20_000)
    missed = 0
    for t in range(20):
        e = estimate(
            None,
            lambda i: y[i],
            aggregate="sum",
            error=0.1,
            method=method,
            bounds=(0, 1),
            rows=len(y),
            rng=np.random.default_rng([8, t]),
        )
        missed += not e.low <= y.sum() <= e.high
        assert e.mode == "guaranteed"
        assert e.met
    assert missed <= allowed(20, 0.05)


def test_a_round_over_a_million_rows_is_quick() -> None:
    rng = np.random.default_rng(0)
    y = rng.poisson(0.5, 1_000_000).astype(np.float64)
    proxy = (y + rng.normal(0, 1, len(y))).astype(np.float32)
    e = estimate(proxy, lambda i: y[i], error=0.02, rng=rng)
    assert e.labels_used < 60_000
    assert len(e.history) <= 10


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"aggregate": "max"}, "maximum"),
        ({"aggregate": "median"}, "must be one of"),
        ({"method": "magic"}, "method must be one of"),
        ({"error": 0}, "positive"),
        ({"error": np.nan}, "positive"),
        ({"probability": 1.0}, "between 0 and 1"),
        ({"budget": -1}, "negative"),
        ({"method": "ebs", "error": 0.1}, "needs bounds"),
        ({"method": "betting", "aggregate": "avg", "bounds": (0, 1)}, "ratio"),
        ({"method": "ebs", "error": 0.1, "bounds": (1, 0)}, "lower first"),
        ({"method": "exact", "budget": 3}, "budget is 3"),
        ({"known": ([1, 1], [0.0, 0.0])}, "twice"),
        ({"known": ([1_000_000], [0.0])}, "between 0 and"),
        ({"known": ([1], [np.nan])}, "leave out"),
        ({"rows": 5}, "rows=5"),
    ],
)
def test_arguments_that_make_no_sense(how: dict[str, object], says: str) -> None:
    p = make("N_tiny")
    with pytest.raises(ValueError, match=says):
        estimate(p.proxy, Oracle(p), rng=np.random.default_rng(1), **how)


def test_scores_and_answers_of_the_wrong_shape() -> None:
    p = make("N_tiny")
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="numbers"):
        estimate(["high", "low"], Oracle(p), rng=rng)
    with pytest.raises(ValueError, match="one dimension"):
        estimate(np.zeros((2, 2)), Oracle(p), rng=rng)
    with pytest.raises(ValueError, match="rows="):
        estimate(None, Oracle(p), rng=rng)
    with pytest.raises(ValueError, match="needs a proxy"):
        estimate(None, Oracle(p), method="ppi", rows=10, rng=rng)
    with pytest.raises(ValueError, match="shape"):
        estimate(p.proxy, lambda i: np.zeros(3), rng=rng)
