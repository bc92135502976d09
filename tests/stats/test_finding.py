"""Finding k rows after few calls, never more than the rule allows."""

from __future__ import annotations

import numpy as np
import pytest

from aidb.stats import search

RNG = np.random.default_rng


class Oracle:
    """Counts what it is asked, and refuses to be asked twice."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.asked: set[int] = set()
        self.batches: list[int] = []

    def __call__(self, items: np.ndarray) -> np.ndarray:
        assert items.dtype == np.int64
        assert len(set(items.tolist())) == len(items) > 0
        assert not self.asked & set(items.tolist())
        self.asked |= set(items.tolist())
        self.batches.append(len(items))
        return self.rows[items]


def rare(n: int = 20_000, share: float = 0.01, seed: int = 1) -> np.ndarray:
    return RNG(seed).random(n) < share


def calls(scores, rows, k, trials=20, **given) -> float:
    return float(np.mean([search(scores, Oracle(rows), k, rng=RNG(t), **given).labels_used for t in range(trials)]))


def test_a_good_proxy_is_followed():
    rows = rare()
    scores = rows + 0.3 * RNG(2).normal(size=len(rows))
    assert calls(scores, rows, 10) <= 13
    assert calls(scores, rows, 100) <= 120


def test_a_proxy_upside_down_costs_little_more_than_chance():
    rows = rare()
    expected = 10 * (len(rows) + 1) / (rows.sum() + 1)
    assert calls(0.3 * RNG(2).normal(size=len(rows)) - rows, rows, 10) <= 1.05 * expected


@pytest.mark.parametrize("kind", ["constant", "random", "nan"])
def test_a_useless_proxy_costs_no_more_than_chance(kind):
    """The wait for 20 of 80 matches varies by about a fifth: the mean of 40 by 3%, and five of that are allowed."""
    n, ratios = 4_000, []
    for seed in range(40):
        rng = RNG([3, seed])
        rows = rng.permutation(n) < 80
        scores = {"constant": np.ones(n), "random": rng.random(n), "nan": np.full(n, np.nan)}[kind]
        ratios.append(search(scores, Oracle(rows), 20, rng=rng).labels_used / (20 * (n + 1) / 81))
    assert np.mean(ratios) <= 1 + 5 * 0.2 / np.sqrt(40)


def test_matches_that_lie_side_by_side_are_found_side_by_side():
    rows = np.zeros(100_000, bool)
    for start in (20_000, 20_500, 90_000):
        rows[start : start + 200] = True
    random = 100 * len(rows) / rows.sum()
    assert calls(None, rows, 100, positions=np.arange(len(rows))) < random / 20


def test_neighbours_are_those_by_position_and_group():
    """The table is shuffled, the positions say where each frame belongs."""
    rows = np.zeros(60_000, bool)
    rows[20_000:20_300] = True
    shuffled = RNG(4).permutation(len(rows))
    given = {"positions": shuffled % 10_000 / 30, "groups": np.array([f"video {i}" for i in shuffled // 10_000])}
    random = 100 * len(rows) / rows.sum()
    assert calls(None, rows[shuffled], 100, **given) < random / 20


def test_embeddings_lead_from_match_to_match():
    rng = RNG(5)
    centres = 3 * rng.normal(size=(40, 16))
    cluster = rng.integers(0, 40, 8_000)
    x = centres[cluster] + rng.normal(size=(8_000, 16))
    rows = (cluster == 3) & (rng.random(8_000) < 0.5)
    assert calls(None, rows, 20, embeddings=x, trials=5) < 20 * len(rows) / rows.sum() / 4


def test_broken_embeddings_hide_no_match():
    x = RNG(6).normal(size=(300, 4))
    x[:150] = np.nan
    rows = np.arange(300) < 150
    found = search(None, Oracle(rows), 150, embeddings=x, rng=RNG(0))
    assert found.rows == 150


@pytest.mark.parametrize("seed", range(20))
def test_chosen_items_are_more_than_the_gap_apart(seed):
    rng = RNG(seed)
    n = 3_000
    groups, positions = rng.integers(0, 3, n), rng.integers(0, 500, n) / 10
    rows = rng.random(n) < 0.05
    gap = [0.0, 0.3, 5.0, 100.0][seed % 4]
    found = search(
        rng.random(n) if seed % 2 else None,
        Oracle(rows), 40, gap=gap, positions=positions, groups=groups, batch=1 + 7 * (seed % 3), rng=rng,
    )  # fmt: skip
    assert rows[found.indices].all()
    assert found.rows == len(found.indices)
    for group in range(3):
        at = np.sort(positions[found.indices][groups[found.indices] == group])
        assert (np.diff(at) > gap).all()
    if found.rows < 40:  # then nothing fits any more
        assert found.complete
        for item in np.flatnonzero(rows):
            same = positions[found.indices][groups[found.indices] == groups[item]]
            assert (np.abs(same - positions[item]) <= gap).any()


def test_the_neighbourhood_of_a_match_is_not_asked():
    rows = np.ones(1_000, bool)
    oracle = Oracle(rows)
    found = search(None, oracle, 4, gap=240, positions=np.arange(1_000), rng=RNG(0))
    assert found.complete
    assert len(oracle.asked) == len(found.indices) <= 5


def test_rows_of_one_item_count_each_but_not_with_a_gap():
    rows = np.full(50, 4)
    found = search(None, Oracle(rows), 10, positions=np.arange(50), rng=RNG(0))
    assert (found.rows, len(found.indices)) == (12, 3)
    found = search(None, Oracle(rows), 3, gap=0, positions=np.arange(50), rng=RNG(0))
    assert (found.rows, len(found.indices)) == (3, 3)


def test_a_batch_asks_no_more_than_would_do_if_all_matched():
    rows = np.ones(5_000, bool)
    oracle = Oracle(rows)
    found = search(RNG(0).random(5_000), oracle, 10, batch=256, rng=RNG(0))
    assert found.labels_used == len(oracle.asked) == 10


def test_batches_are_few():
    rows = rare(100_000, 0.001)
    oracle = Oracle(rows)
    search(None, oracle, 50, positions=np.arange(len(rows)), batch=32, rng=RNG(0))
    assert len(oracle.batches) < 150
    assert max(oracle.batches) > 1_000


def test_what_is_known_is_not_asked_again_and_counts():
    rows = rare()
    known = np.flatnonzero(rows)[:7]
    oracle = Oracle(rows)
    found = search(rows * 1.0, oracle, 10, known=(known, rows[known]), rng=RNG(0))
    assert set(known.tolist()) <= set(found.indices.tolist())
    assert not set(known.tolist()) & oracle.asked
    assert found.labels_used < 8
    enough = search(None, Oracle(rows), 5, positions=np.arange(len(rows)), known=(known, rows[known]), rng=RNG(0))
    assert (enough.rows, enough.labels_used) == (5, 0)


def test_known_matches_are_chosen_so_that_most_fit():
    rows = np.zeros(1_000, bool)
    known = np.array([500, 250, 0, 750])
    rows[known] = True
    found = search(None, Oracle(rows), 9, gap=400, positions=np.arange(1_000), known=(known, rows[known]), rng=RNG(0))
    assert found.indices.tolist() == [0, 500]


def test_a_budget_ends_the_search_and_says_so():
    rows = rare()
    found = search(None, Oracle(rows), 1_000, positions=np.arange(len(rows)), budget=300, rng=RNG(0))
    assert found.labels_used == 300
    assert not found.complete
    assert "budget of 300 calls" in found.notes[0]


def test_all_is_looked_at_before_there_are_said_to_be_fewer():
    rows = rare(2_000, 0.005)
    found = search(RNG(0).random(2_000), Oracle(rows), 500, embeddings=RNG(1).normal(size=(2_000, 3)), rng=RNG(0))
    assert found.complete
    assert found.labels_used == 2_000
    assert found.indices.tolist() == np.flatnonzero(rows).tolist()


def test_failed_items_are_named_and_are_no_matches():
    values = rare(500, 0.1).astype(float)
    values[::7] = np.nan
    found = search(None, Oracle(values), 500, positions=np.arange(500), rng=RNG(0))
    assert found.failed.tolist() == list(range(0, 500, 7))
    assert found.indices.tolist() == np.flatnonzero(values == 1).tolist()
    assert "72 items could not be answered" in found.notes[-1]


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_tiny_tables(n, k):
    given = {"embeddings": np.ones((n, 2)), "positions": np.arange(n), "gap": 1.0}
    found = search(np.arange(n), Oracle(np.ones(n)), k, **given, rng=RNG(0))
    assert found.rows == len(found.indices) == min(n, k, 1)
    assert search(np.arange(n), Oracle(np.ones(n)), k, rng=RNG(0)).rows == min(n, k)


def test_the_same_seed_gives_the_same_search():
    rows = rare(2_000)
    x = RNG(1).normal(size=(len(rows), 4))
    first, second = (search(x[:, 0], Oracle(rows), 30, embeddings=x, rng=RNG(9)) for _ in range(2))
    assert first.indices.tolist() == second.indices.tolist()
    assert first.labels_used == second.labels_used


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"k": -1}, "k is the number"),
        ({"gap": -1}, "gap"),
        ({"gap": float("nan")}, "gap"),
        ({"batch": 0}, "batch"),
        ({"budget": -1}, "budget"),
        ({"scores": None}, "how many items"),
        ({"positions": [0, 1]}, "as many of each"),
        ({"positions": [0, np.nan, 2]}, "finite"),
        ({"embeddings": np.zeros(3)}, "embeddings"),
        ({"scores": [[1.0], [2.0], [3.0]]}, "scores"),
        ({"known": ([0, 0], [1, 1])}, "known"),
        ({"known": ([5], [1])}, "known"),
        ({"label": lambda items: [1, 1, 1, 1]}, "shape"),
        ({"label": lambda items: -np.ones(len(items))}, "numbers of rows"),
        ({"label": lambda items: np.full(len(items), 0.5)}, "numbers of rows"),
    ],
)
def test_bad_input_is_refused(given, says):
    plain = {"scores": [1.0, 2.0, 3.0], "label": lambda items: np.zeros(len(items)), "k": 3, "rng": RNG(0)}
    with pytest.raises(ValueError, match=says):
        search(**{**plain, **given})
