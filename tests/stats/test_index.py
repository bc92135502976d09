"""Representatives of many embeddings, and what they say of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from aidb.stats.index import Index, build

RNG = np.random.default_rng


def cloud(n: int = 3_000, d: int = 8, seed: int = 1) -> np.ndarray:
    return RNG(seed).normal(size=(n, d)).astype(np.float32)


def by_hand(x: np.ndarray, representatives: np.ndarray, neighbours: int) -> np.ndarray:
    distances = np.linalg.norm(x[:, None, :].astype(float) - x[representatives][None].astype(float), axis=2)
    return np.sort(distances, axis=1)[:, :neighbours]


@pytest.mark.parametrize("method", ["farthest", "means"])
@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
def test_every_item_has_its_nearest_representatives(method, share, monkeypatch):
    monkeypatch.setattr("aidb.stats.index._CELLS", 10_000)  # many blocks
    x = cloud()
    index = build(x, 40, neighbours=3, method=method, share=share, rng=RNG(0))
    assert len(set(index.representatives.tolist())) == 40
    assert np.allclose(index.distances, by_hand(x, index.representatives, 3), atol=1e-5)
    chosen = x[index.representatives][index.nearest]
    assert np.allclose(np.linalg.norm(chosen - x[:, None, :], axis=2), index.distances, atol=1e-5)


def test_farthest_points_reach_clusters_that_chance_misses():
    centres = 20 * cloud(30, seed=2)
    sizes = np.array([2_000] + [3] * 29)
    x = np.repeat(centres, sizes, axis=0) + 0.1 * cloud(sizes.sum(), seed=3)
    reached = {
        method: build(x, 40, neighbours=1, method="farthest", share=share, rng=RNG(0)).distances.max()
        for method, share in (("mixed", 0.75), ("random", 0.0))
    }
    assert reached["mixed"] < 2 < reached["random"]


def test_means_cover_the_bulk_better_than_farthest_points():
    x = cloud(seed=4)
    mean = {
        m: build(x, 30, neighbours=1, method=m, share=1, rng=RNG(0)).distances.mean() for m in ("means", "farthest")
    }
    assert mean["means"] < mean["farthest"]


def test_propagation_weighs_by_the_distances_of_the_others():
    index = Index(
        np.array([0, 1]), np.array([[0, 1], [1, 0], [0, 1]], np.int32), np.array([[0, 4], [0, 4], [1, 3.0]], np.float32)
    )
    assert index.propagate([10.0, 20.0]).tolist() == [10.0, 20.0, 12.5]
    assert index.propagate([[10.0, 0], [20.0, 4]]).tolist() == [[10, 0], [20, 4], [12.5, 1]]
    assert index.propagate([np.nan, 20.0]).tolist() == [20.0, 20.0, 20.0]
    assert np.isnan(index.propagate([np.nan, np.nan])).all()
    kind, share = index.vote(["cat", "dog"])
    assert kind.tolist() == ["cat", "dog", "cat"]
    assert share.tolist() == [1.0, 1.0, 0.75]


def test_one_neighbour_and_equal_points_do_not_divide_by_zero():
    x = np.zeros((6, 2), np.float32)
    for neighbours in (1, 3):
        index = build(x, 3, neighbours=neighbours, rng=RNG(0))
        assert np.isfinite(index.propagate([1.0, 1.0, 4.0])).all()
        assert index.propagate([2.0, 2.0, 2.0]).tolist() == [2.0] * 6


def test_what_is_smooth_in_the_embedding_is_propagated():
    x = cloud(5_000, 3, seed=5)
    truth = np.sin(x[:, 0]) + x[:, 1]
    index = build(x, 300, rng=RNG(0))
    assert np.corrcoef(index.propagate(truth[index.representatives]), truth)[0, 1] > 0.95


def test_cracking_gives_the_index_that_would_have_been_built():
    x = cloud()
    index = build(x, 20, neighbours=4, rng=RNG(0))
    more = RNG(1).choice(len(x), 50, replace=False)
    cracked = index.crack(x, np.concatenate([more, more[:5], index.representatives[:3]]))
    assert set(cracked.representatives.tolist()) == set(index.representatives.tolist()) | set(more.tolist())
    assert cracked.representatives[:20].tolist() == index.representatives.tolist()
    assert np.allclose(cracked.distances, by_hand(x, cracked.representatives, 4), atol=1e-5)
    assert np.all(cracked.distances <= index.distances + 1e-6)
    assert cracked.crack(x, more) is cracked


def test_known_answers_are_representatives_beyond_the_number_asked():
    x = cloud()
    known = np.array([7, 5, 7])
    index = build(x, 20, known=known, rng=RNG(0))
    assert len(index.representatives) == 22
    assert {5, 7} <= set(index.representatives.tolist())


def test_broken_embeddings_are_left_out():
    x = cloud(200)
    x[3], x[4, 0] = np.nan, np.inf
    index = build(x, 190, known=[3], rng=RNG(0))
    assert not {3, 4} & set(index.representatives.tolist())
    assert index.nearest[3].tolist() == [-1] * 5
    assert np.isinf(index.distances[4]).all()
    values = index.propagate(np.ones(len(index.representatives)))
    assert np.isnan(values[[3, 4]]).all()
    assert np.isfinite(np.delete(values, [3, 4])).all()
    assert index.crack(x, [3, 4]) is index
    assert np.isnan(index.vote(np.ones(len(index.representatives)))[1][3])


@pytest.mark.parametrize("method", ["farthest", "means"])
def test_more_representatives_than_items(method):
    x = cloud(7)
    index = build(x, 50, neighbours=9, method=method, rng=RNG(0))
    assert sorted(index.representatives.tolist()) == list(range(7))
    assert (index.nearest[:, 7:] == -1).all()
    assert index.propagate(index.representatives.astype(float)).tolist() == list(range(7))


@pytest.mark.parametrize("n", [0, 5])
def test_no_representatives(n):
    index = build(cloud(n), 0, rng=RNG(0))
    assert index.nearest.shape == (n, 5)
    assert np.isnan(index.propagate([])).all()


def test_the_same_seed_gives_the_same_index():
    x = cloud()
    assert np.array_equal(build(x, 30, rng=RNG(3)).representatives, build(x, 30, rng=RNG(3)).representatives)


@pytest.mark.parametrize(
    "call",
    [
        lambda: build(np.zeros(3), 2, rng=RNG(0)),
        lambda: build(cloud(9), -1, rng=RNG(0)),
        lambda: build(cloud(9), 2, neighbours=0, rng=RNG(0)),
        lambda: build(cloud(9), 2, share=1.5, rng=RNG(0)),
        lambda: build(cloud(9), 2, method="best", rng=RNG(0)),
        lambda: build(cloud(9), 2, rng=RNG(0)).propagate([1.0]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError):
        call()
