"""Aggregates by group, with groups that nobody named beforehand, and several of them at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import bdtrik

from aidb.stats.aggregates import Answers, estimate_groups

SHARES = np.array([0.5, 0.3, 0.15, 0.048, 0.002])


class Grouped:
    """20,000 items, half of which match in one of five groups, with a value; the proxy tells matches."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.n = 20_000
        match = rng.random(self.n) < 0.5
        self.group = np.where(match, rng.choice(5, self.n, p=SHARES), -1)
        self.value = np.exp(0.5 * rng.standard_normal(self.n))
        self.proxy = np.clip(0.5 * match + 0.25 * rng.standard_normal(self.n) + 0.3, 0, None)
        self.counts = np.bincount(self.group[match], minlength=5)
        self.sums = np.bincount(self.group[match], self.value[match], minlength=5)

    def __call__(self, rows: np.ndarray) -> Answers:
        here = np.flatnonzero(self.group[rows] >= 0)
        value = self.value[rows[here]]
        return Answers(
            here, (np.ones(len(here)), value, np.column_stack((value, np.ones(len(here))))), self.group[rows[here]]
        )


KINDS = ("count", "sum", "avg")


@pytest.mark.parametrize(("kinds", "trials"), [(("count",), 30), (KINDS, 6)])
def test_all_intervals_of_all_groups_hold_together(kinds: tuple[str, ...], trials: int) -> None:
    data, missed, off = Grouped(), 0, 0

    def label(rows: np.ndarray) -> Answers:
        found = data(rows)
        return Answers(found.position, found.values[: len(kinds)], found.group)

    for t in range(trials):
        r = estimate_groups(data.proxy, label, kinds, error=0.2, rng=np.random.default_rng([1, t]))
        truth = np.column_stack((data.counts, data.sums, data.sums / data.counts))[list(r.groups), : len(kinds)]
        missed += not ((r.low <= truth) & (truth <= r.high)).all()
        off += not (np.abs(r.value - truth) <= 0.2 * truth)[r.targeted].all()
        assert r.met[r.targeted].all()
        unseen = [g for g in range(5) if g not in r.groups]
        assert data.counts[unseen].sum() <= r.unseen
    most = int(np.ceil(bdtrik(1 - 1e-6, trials, 0.05)))
    assert missed <= most
    assert off <= most


def test_a_group_too_small_is_reported_but_not_pursued() -> None:
    data = Grouped()
    r = estimate_groups(data.proxy, data, KINDS, error=0.25, rng=np.random.default_rng(3))
    small = [g for g, key in enumerate(r.groups) if key == 4]
    assert r.labels_used < data.n / 2
    assert r.targeted.sum() >= 3
    assert not r.targeted[small].any()
    assert (r.high > r.low).all()


def test_without_groups_several_aggregates_share_a_sample() -> None:
    data = Grouped()

    def label(rows: np.ndarray) -> Answers:
        found = data(rows)
        return Answers(found.position, found.values)

    r = estimate_groups(data.proxy, label, KINDS, error=(0.1, 0.1, 0.05), grouped=False, rng=np.random.default_rng(1))
    assert r.groups == (None,)
    assert r.met.all()
    truth = np.array([data.counts.sum(), data.sums.sum(), data.sums.sum() / data.counts.sum()])
    assert (np.abs(r.value[0] - truth) <= np.array([0.1, 0.1, 0.05]) * truth).all()
    assert r.labels_used < 2_000


def test_an_item_may_hold_several_groups() -> None:
    n = 600
    y = np.random.default_rng(0).integers(0, 3, (n, 2))

    def label(rows: np.ndarray) -> Answers:
        item, group = np.nonzero(y[rows])
        return Answers(item, (y[rows][item, group],), [("car", "bus")[g] for g in group])

    r = estimate_groups(None, label, rows=n, rng=np.random.default_rng(1))
    assert r.mode == "exact"
    assert dict(zip(r.groups, r.value[:, 0], strict=True)) == {"car": y[:, 0].sum(), "bus": y[:, 1].sum()}
    assert r.unseen == 0


def test_known_rows_bring_their_groups() -> None:
    data = Grouped()
    known = np.flatnonzero(data.group == 4)
    r = estimate_groups(data.proxy, data, KINDS, error=0.25, known=(known, data(known)), rng=np.random.default_rng(2))
    at = r.groups.index(4)
    assert r.low[at, 0] <= len(known) <= r.high[at, 0]
    assert r.value[at, 0] == pytest.approx(len(known))
    assert r.seen[at] == len(known)


def test_no_match_anywhere() -> None:
    def nothing(rows: np.ndarray) -> Answers:
        return Answers([], ([],), [])

    r = estimate_groups(None, nothing, error=0.1, budget=300, rows=5_000, rng=np.random.default_rng(1))
    assert r.groups == ()
    assert r.value.shape == (0, 1)
    assert 30 < r.unseen < 60
    alone = estimate_groups(
        None, nothing, grouped=False, error=0.1, budget=300, rows=5_000, rng=np.random.default_rng(1)
    )
    assert alone.groups == (None,)
    assert alone.high[0, 0] > 30


def test_failed_items_are_named_and_widen() -> None:
    data = Grouped()

    def label(rows: np.ndarray) -> Answers:
        found = data(rows)
        return Answers(found.position, found.values, found.group, np.flatnonzero(rows % 50 == 0))

    r = estimate_groups(data.proxy, label, KINDS, error=0.3, rng=np.random.default_rng(1))
    assert (r.failed % 50 == 0).all()
    assert len(r.failed) > 0
    assert r.unseen >= len(r.failed)


@pytest.mark.parametrize(
    ("aggregates", "how", "says"),
    [
        ((), {}, "at least one"),
        (("count", "max"), {}, "maximum"),
        (("count", "sum"), {"error": (0.1, None)}, "every aggregate"),
        (("count", "sum"), {"error": (0.1,)}, "1 values for 2"),
        (("count",), {"method": "clt"}, "without groups"),
    ],
)
def test_arguments_that_make_no_sense(aggregates: tuple[str, ...], how: dict[str, object], says: str) -> None:
    data = Grouped()
    with pytest.raises(ValueError, match=says):
        estimate_groups(data.proxy, data, aggregates, rng=np.random.default_rng(1), **how)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (lambda rows: Answers([len(rows)], ([1.0],)), "positions"),
        (lambda rows: Answers([0], ([1.0, 2.0],)), "shapes"),
        (lambda rows: Answers([0], ([1.0],), ["a", "b"]), "2 groups for 1 lines"),
    ],
)
def test_answers_that_do_not_fit(answers: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        estimate_groups(None, answers, rows=1_000, error=0.1, rng=np.random.default_rng(1))  # type: ignore[arg-type]
