"""The loop around the plan: how many queries, which fill first, what runs together, when it stops."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pyarrow as pa
import pytest

from aidb.catalog.relations import Fill
from aidb.errors import ModelError
from aidb.exec.rounds import PILOT, run_rounds
from tests.plan.harness import Spec, World, multiset

ITEMS = 1000


class Watched(World):
    """Notes each call of `materialise`."""

    batches: list[dict[str, int]]

    def materialise(self, items: Sequence[tuple[Fill, pa.Table]]) -> None:
        self.__dict__.setdefault("batches", []).append({f.id: k.num_rows for f, k in items})
        super().materialise(items)


@pytest.fixture
def world() -> Watched:
    rng = Random(5)
    spec = Spec()
    spec.store("frames", "frame_id cam", [(n, n % 10) for n in range(ITEMS)])
    box = [(n, j, rng.randrange(10)) for n in range(ITEMS) for j in range(rng.choice([0, 1, 2]))]
    spec.table("box", "frames", "frame_id", "x", box, many=True)
    spec.table("color", "box", "frame_id box_id", "color", [(b[0], b[1], rng.randrange(8)) for b in box])
    spec.table("mood", "frames", "frame_id", "mood", [(n, rng.randrange(20)) for n in range(ITEMS)])
    spec.table("night", "frames", "frame_id", "dark", [(n, n % 2) for n in range(ITEMS)])
    spec.extend("frames", "glare", "frame_id", [(n, rng.randrange(10)) for n in range(ITEMS)])
    return Watched(spec)


def test_one_model_and_no_pruning_takes_one_query(world: Watched) -> None:
    run_rounds(world.plan("SELECT * FROM box"), world)
    assert world.queries == 1
    assert world.batches == [{"box": ITEMS}]


def test_nothing_to_do_takes_one_query(world: Watched) -> None:
    run_rounds(world.plan("SELECT * FROM box"), world)
    world.queries = 0
    run_rounds(world.plan("SELECT * FROM box"), world)
    assert world.queries == 1
    assert len(world.batches) == 1


def test_children_come_after_their_parents(world: Watched) -> None:
    run_rounds(world.plan("SELECT * FROM color WHERE frame_id < 100"), world)
    assert [list(b) for b in world.batches] == [["box"], ["color"]]
    assert world.calls["box"] == 100


def test_fills_that_rule_nothing_out_run_together(world: Watched) -> None:
    sql = "SELECT f.frame_id, m.mood, n.dark FROM frames f JOIN mood m USING (frame_id) JOIN night n USING (frame_id)"
    run_rounds(world.plan(sql), world)
    assert world.batches[0] == {"mood": PILOT, "night": PILOT}
    assert world.batches[1:] == [{"mood": ITEMS - PILOT, "night": ITEMS - PILOT}]


def test_the_better_filter_goes_first(world: Watched) -> None:
    sql = (
        "SELECT f.frame_id FROM frames f JOIN mood m USING (frame_id) JOIN night n USING (frame_id)"
        " WHERE m.mood = 3 AND n.dark = 1"
    )
    rows, _ = world.lazy(sql)
    assert multiset(rows) == multiset(world.eager(sql))
    assert list(world.batches[1]) == ["mood"], "one in 20 survives mood, one in 2 survives night"
    world.reset()
    world.batches.clear()
    world.costs = {"mood": 100.0, "night": 1.0}
    world.lazy(sql)
    assert [list(b) for b in world.batches] == [["night"], ["mood"], ["night"], ["mood"]], "unless mood is far dearer"


@pytest.mark.parametrize("where", ["m.mood = 3 AND n.dark = 1", "n.dark = 1 AND m.mood = 3"])
def test_a_dear_model_runs_only_where_a_cheap_one_let_items_pass(world: Watched, where: str) -> None:
    world.costs = {"mood": 100.0, "night": 1.0}
    world.lazy(
        f"SELECT f.frame_id FROM frames f JOIN mood m USING (frame_id) JOIN night n USING (frame_id) WHERE {where}"
    )
    assert world.calls == {"night": ITEMS, "mood": ITEMS / 2}


def test_a_dear_model_waits_for_the_cheap_one_under_limit_too(world: Watched) -> None:
    world.costs = {"mood": 1.0, "night": 100.0}
    sql = "SELECT f.frame_id FROM frames f JOIN mood m USING (frame_id) JOIN night n USING (frame_id)"
    rows, _ = world.lazy(f"{sql} WHERE m.mood = 3 AND n.dark = 1 LIMIT 3")
    assert len(rows) == 3
    assert world.calls["night"] < world.calls["mood"] / 10


def test_models_of_unknown_cost_are_measured_on_an_item_each(world: Watched) -> None:
    class Learning(Watched):
        def measured(self, fill: Fill) -> bool:
            return self.calls[fill.id] > 0

        def cost(self, fill: Fill) -> float:
            return {"mood": 100.0, "night": 1.0}[fill.id] if self.measured(fill) else 5.0

    learning = Learning(world.spec)
    learning.lazy(
        "SELECT f.frame_id FROM frames f JOIN mood m USING (frame_id) JOIN night n USING (frame_id)"
        " WHERE m.mood = 3 AND n.dark = 1"
    )
    assert learning.calls["night"] >= ITEMS - 1
    assert learning.calls["mood"] <= ITEMS / 2 + 1


def test_without_optimiser_everything_touched_runs(world: Watched) -> None:
    sql = "SELECT frame_id FROM box WHERE frame_id = 3 LIMIT 1"
    rows, _ = world.lazy(sql, optimise=False)
    assert world.calls == {"box": ITEMS}
    assert multiset(rows) == multiset(world.eager(sql))


def test_a_limit_stops_with_few_items_and_few_queries(world: Watched) -> None:
    rows, _ = world.lazy("SELECT frame_id FROM box WHERE x = 4 LIMIT 5")
    assert len(rows) == 5
    assert world.calls["box"] <= 96


def test_a_limit_that_is_never_met_takes_few_rounds(world: Watched) -> None:
    rows, _ = world.lazy("SELECT frame_id FROM box WHERE x = -1 LIMIT 5")
    assert rows == []
    assert world.calls["box"] == ITEMS
    assert len(world.batches) <= 25


@pytest.mark.parametrize(
    "order",
    [
        "f.cam DESC, f.frame_id",
        "cam, 1 DESC",
        "f.cam + 1, f.frame_id DESC NULLS FIRST",
        "c, frame_id",
        "f.cam DESC, frame_id % 7, 1",
    ],
)
def test_a_sorted_limit_stops_at_the_last_certain_row(world: Watched, order: str) -> None:
    body = "SELECT f.frame_id, f.cam AS c, b.x FROM frames f JOIN box b USING (frame_id) WHERE b.x > 2"
    sql = f"{body} ORDER BY {order} LIMIT 7 OFFSET 2"
    rows, plan = world.lazy(sql)
    assert plan.ordered
    assert [r[:2] for r in rows] == [r[:2] for r in world.eager(sql)]
    assert world.calls["box"] < ITEMS / 2


def test_a_sorted_limit_finishes_ties(world: Watched) -> None:
    sql = "SELECT f.cam FROM frames f JOIN box b USING (frame_id) WHERE b.x > 2 ORDER BY f.cam LIMIT 3"
    world.lazy(sql)
    assert world.calls["box"] == ITEMS / 10, "all frames of the first camera, none of another"


def test_a_sorted_limit_with_exists(world: Watched) -> None:
    sql = (
        "SELECT frame_id FROM frames f WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND b.x = 3)"
        " ORDER BY frame_id DESC LIMIT 4"
    )
    rows, plan = world.lazy(sql)
    assert plan.ordered
    assert rows == world.eager(sql)
    assert world.calls["box"] < ITEMS / 4


def test_a_failing_model_ends_the_run_and_loses_nothing(world: Watched) -> None:
    class Dies(Watched):
        def materialise(self, items: Sequence[tuple[Fill, pa.Table]]) -> None:
            super().materialise(items)
            raise ModelError("out of order")

    dying = Dies(world.spec)
    with pytest.raises(ModelError):
        run_rounds(dying.plan("SELECT * FROM color WHERE frame_id < 10"), dying)
    assert dying.calls == {"box": 10}
    assert dying.plan("SELECT * FROM box WHERE frame_id < 10").wanted(dying.query) == {}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT frame_id FROM box WHERE x > 2 GROUP BY frame_id HAVING count(*) >= 2 ORDER BY frame_id LIMIT 4",
        "SELECT f.cam, f.frame_id FROM frames f JOIN box b USING (frame_id) GROUP BY ALL HAVING 1 < count(b.x)"
        " ORDER BY cam DESC, 2 LIMIT 3 OFFSET 1",
        "SELECT frame_id AS f FROM box GROUP BY f HAVING count(DISTINCT x) > 1 AND f > 100 ORDER BY f DESC LIMIT 3",
    ],
)
def test_groups_that_can_only_gain_rows_stop_a_sorted_limit(world: Watched, sql: str) -> None:
    rows, plan = world.lazy(sql)
    assert plan.ordered
    assert rows == world.eager(sql)
    assert world.calls["box"] <= ITEMS / 10


def test_groups_that_can_only_gain_rows_stop_a_limit(world: Watched) -> None:
    rows, _ = world.lazy("SELECT frame_id FROM box GROUP BY frame_id HAVING count(*) >= 2 LIMIT 4")
    full = world.eager("SELECT frame_id FROM box GROUP BY frame_id HAVING count(*) >= 2")
    assert len(rows) == 4
    assert set(rows) <= set(full)
    assert world.calls["box"] < ITEMS / 10


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT frame_id FROM box GROUP BY frame_id HAVING count(*) < 2 LIMIT 4",
        "SELECT frame_id FROM box GROUP BY frame_id HAVING NOT count(*) >= 2 LIMIT 4",
        "SELECT frame_id FROM box GROUP BY frame_id HAVING count(*) = 2 LIMIT 4",
        "SELECT frame_id FROM box GROUP BY frame_id HAVING 2 >= count(*) LIMIT 4",
        "SELECT frame_id FROM box GROUP BY frame_id HAVING max(x) > 3 LIMIT 4",
        "SELECT frame_id FROM box GROUP BY frame_id HAVING count(*) >= min(x) LIMIT 4",
        "SELECT frame_id, count(*) FROM box GROUP BY frame_id LIMIT 4",
        "SELECT frame_id FROM box GROUP BY frame_id ORDER BY count(*) LIMIT 4",
        "SELECT frame_id FROM box GROUP BY ROLLUP (frame_id) LIMIT 4",
        "SELECT frame_id FROM box GROUP BY frame_id HAVING count(*) > (SELECT min(mood) FROM mood) LIMIT 4",
    ],
)
def test_groups_that_may_change_do_not(world: Watched, sql: str) -> None:
    assert world.plan(sql).limit is None
