"""What a plan says about itself: fallbacks and their reasons, EXPLAIN, parameters, the safety net, its cost."""

from __future__ import annotations

import time
from random import Random

import pyarrow as pa
import pytest

from aidb.catalog.relations import Fill, Relation, Relations
from aidb.errors import Interrupted
from aidb.plan.calls import plan_calls
from aidb.plan.names import unquoted
from tests.plan.harness import Spec, World, multiset
from tests.plan.worlds import street


@pytest.fixture
def world() -> World:
    return World(street(Random(3), (6, 6), (4, 4)))


def ids(fills: object) -> list[str]:
    return [f.id for f in fills]


def test_unreadable_text_falls_back_to_what_duckdb_says_it_touches(world: World) -> None:
    sql = "SELECT x FROM box WHERE 3 ! = 6 AND frame_id > 2"
    want = world.eager(sql)
    rows, plan = world.lazy(sql)
    assert plan.fallback is not None
    assert multiset(rows) == multiset(want)
    assert ids(plan.fills) == ["box", "box_hue"]


def test_a_macro_may_read_anything() -> None:
    spec = street(Random(3), (6, 6), (4, 4))
    spec.macros["boxes"] = "(f) AS (SELECT count(*) FROM box WHERE frame_id = f)"
    world = World(spec)
    sql = "SELECT frame_id, boxes(frame_id) FROM frames WHERE cam > 1"
    rows, plan = world.lazy(sql)
    assert plan.fallback is not None
    assert "boxes" in plan.fallback
    assert multiset(rows) == multiset(world.eager(sql))


def test_the_binder_may_not_see_more_than_the_analysis() -> None:
    world = World(street(Random(3), (6, 6), (4, 4)))
    hidden = "SELECT x FROM box"
    for schema in ("main", "eager"):
        world.con.execute(f"SET schema='{schema}'; CREATE VIEW {schema}.unlisted AS {hidden}")
    world.con.execute("SET schema='main'")
    rows, plan = world.lazy("SELECT u.x, f.frame_id FROM unlisted u, frames f WHERE f.frame_id = 1")
    assert plan.fallback is not None
    assert "rows_box" in plan.fallback
    assert multiset(rows) == multiset(
        world.eager("SELECT u.x, f.frame_id FROM unlisted u, frames f WHERE f.frame_id = 1")
    )


def test_names_in_the_text_stand_in_for_a_binder_that_can_not_say(world: World) -> None:
    plan = plan_calls("SELECT 3 ! + x FROM color", world.relations, lambda sql: None)
    assert plan.fallback is not None
    assert ids(plan.fills) == ["box", "color"]
    plan = plan_calls("SELECT 3 ! + x FROM vagg", world.relations, lambda sql: None)
    assert {"box", "color", "match", "seen", "near"} <= set(ids(plan.fills)), "a view may read anything"


def test_a_query_for_items_that_fails_ends_in_a_fallback() -> None:
    spec = Spec()
    spec.store("frames", "frame_id s_code", [(0, "1"), (1, "2"), (2, "bad")])
    spec.table("box", "frames", "frame_id", "x", [(0, 0, 1), (1, 0, 2)], many=True)
    spec.table("mood", "frames", "frame_id", "mood", [(0, 1), (1, 2), (2, 3)])
    world = World(spec)
    sql = (
        "SELECT m.mood FROM box b JOIN frames f USING (frame_id) JOIN mood m USING (frame_id)"
        " WHERE f.s_code::INTEGER + b.x > 2"
    )
    rows, plan = world.lazy(sql)
    assert rows == world.eager(sql) == [(2,)]
    assert plan.fallback is not None
    assert "bad" in plan.fallback


def test_an_interruption_is_no_reason_to_fall_back(world: World) -> None:
    def query(sql: str, parameters: object) -> pa.Table:
        raise Interrupted

    plan = world.plan("SELECT x FROM box")
    with pytest.raises(Interrupted):
        plan.wanted(query)
    assert plan.fallback is None


def test_explain_tells_pruned_from_whole(world: World) -> None:
    plan = world.plan("SELECT x FROM box WHERE frame_id = 2")
    (box,) = plan.explain(world.query)
    assert (box.fill.id, box.pruned, box.items, box.missing) == ("box", True, 1, 6)
    plan = world.plan("SELECT * FROM (PIVOT box ON cls IN (1, 2) USING sum(x) GROUP BY frame_id)")
    whole = {p.fill.id: (p.pruned, p.items, p.missing) for p in plan.explain(world.query)}
    assert whole == {"box": (False, 6, 6), "box_hue": (False, 0, 0)}
    assert plan.fallback is None


def test_fills_come_ancestors_first(world: World) -> None:
    plan = world.plan("SELECT shade FROM shade")
    assert ids(plan.fills) == ["box", "color", "shade"]
    assert [plan.depth(f) for f in plan.fills] == [0, 1, 2]


def test_columns_nobody_reads_cost_nothing(world: World) -> None:
    assert ids(world.plan("SELECT count(*), max(x) FROM box").fills) == ["box"]
    assert ids(world.plan("SELECT rid FROM (SELECT * FROM reviews) t").fills) == []
    assert ids(world.plan("SELECT * EXCLUDE (tone, lang, echo) FROM reviews").fills) == []
    assert ids(world.plan("SELECT tone FROM (SELECT * FROM reviews) t").fills) == ["reviews_tone_lang"]
    assert ids(world.plan("SELECT count(*) FROM (SELECT DISTINCT body, tone FROM reviews) t").fills) == [
        "reviews_tone_lang"
    ]


def test_only_mentioned_parameters_go_with_a_query(world: World) -> None:
    asked: list[tuple[str, dict[str, object]]] = []

    def query(sql: str, parameters: dict[str, object]) -> pa.Table:
        asked.append((sql, dict(parameters)))
        return world.query(sql, parameters)

    sql = "SELECT x + ? FROM box WHERE frame_id = ? AND x > ?"
    plan = world.plan(sql, [100, 2, 3])
    wanted = plan.wanted(query)
    assert [t.to_pydict() for t in wanted.values()] == [{"frame_id": [2]}]
    assert [p for _, p in asked] == [{"__p2": 2}]


@pytest.mark.parametrize(
    ("sql", "parameters", "limit"),
    [
        ("SELECT x FROM box LIMIT 3", None, 3),
        ("SELECT x FROM box LIMIT 3 OFFSET 2", None, 5),
        ("SELECT x FROM box LIMIT ? OFFSET ?", [4, 1], 5),
        ("SELECT x FROM box LIMIT $n", {"n": 2}, 2),
        ("SELECT DISTINCT x FROM box LIMIT 3", None, 3),
        ("SELECT x FROM box WHERE x > 1 UNION ALL SELECT mood FROM mood LIMIT 3", None, 3),
        ("SELECT x FROM box ORDER BY frame_id LIMIT 3", None, 3),
        ("SELECT x FROM box ORDER BY x LIMIT 3", None, None),
        ("SELECT x FROM box LIMIT 10%", None, None),
        ("SELECT x FROM box LIMIT (SELECT 2)", None, None),
        ("SELECT count(*) FROM box LIMIT 3", None, None),
        ("SELECT sum(x) OVER () FROM box LIMIT 3", None, None),
        ("SELECT x FROM box WHERE random() < 2 LIMIT 3", None, None),
        ("SELECT f.cam FROM frames f LEFT JOIN box b USING (frame_id) LIMIT 3", None, None),
        ("SELECT b.x FROM box b LEFT JOIN frames f USING (frame_id) LIMIT 3", None, 3),
        ("SELECT x FROM box EXCEPT SELECT mood FROM mood LIMIT 3", None, None),
        ("SELECT x FROM box WHERE frame_id NOT IN (SELECT frame_id FROM mood) LIMIT 3", None, None),
        ("SELECT x FROM box WHERE frame_id IN (SELECT frame_id FROM mood) LIMIT 3", None, 3),
        ("SELECT x FROM (SELECT x FROM box LIMIT 5) t LIMIT 3", None, None),
        ("SELECT tone FROM reviews LIMIT 3", None, 3),
        ("SELECT tone FROM vrev LIMIT 3", None, None),
        ("SELECT frame_id FROM frames LIMIT 3", None, None),
    ],
)
def test_which_limits_stop_early(world: World, sql: str, parameters: object, limit: int | None) -> None:
    plan = world.plan(sql, parameters)
    assert plan.fallback is None
    assert plan.limit == limit


def test_an_early_stop_leaves_out_rows_whose_virtual_columns_are_unknown() -> None:
    spec = Spec()
    spec.store("notes", "id body", [(n, n % 40) for n in range(200)])
    spec.extend("notes", "tone", "body", [(n, n * 10) for n in range(40)], null_safe=True)
    world = World(spec)
    for sql in (
        "SELECT id, tone FROM notes LIMIT 5",
        "SELECT n.id, n.tone FROM Main.notes AS n WHERE n.tone IS NOT NULL OR true LIMIT 5",
        "WITH c AS (SELECT * FROM notes) SELECT id, tone FROM c WHERE tone >= 0 LIMIT 5",
    ):
        world.reset()
        rows, plan = world.lazy(sql)
        assert plan.fallback is None
        assert len(rows) == 5
        assert all(tone == id_ % 40 * 10 for id_, tone in rows), rows
        assert world.calls["notes_tone"] <= 16


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT b.x FROM box b, color c WHERE b.cls = c.color",
        "SELECT b.x FROM box b, color c, mood m WHERE b.cls = c.color AND m.mood = c.x",
        "SELECT b.x FROM box b JOIN mood m ON b.x = m.mood AND b.cls = m.n WHERE b.frame_id < 4",
        "SELECT cam FROM frames WHERE frame_id NOT IN (SELECT frame_id FROM box WHERE x > 1)",
        "SELECT x FROM box WHERE x IN (SELECT mood FROM mood)",
        "SELECT tone FROM reviews r JOIN frames f ON r.tone = f.cam",
    ],
)
def test_no_query_for_items_needs_a_nested_loop(world: World, sql: str) -> None:
    """Joins whose condition is "equal, or not known yet" would compare all rows with all rows."""

    def query(text: str, parameters: dict[str, object]) -> pa.Table:
        tree = "\n".join(r[1] for r in world.con.execute(f"EXPLAIN {text}").fetchall())
        assert "NESTED_LOOP" not in tree, text
        assert "BLOCKWISE" not in tree, text
        return world.query(text, parameters)

    for share in (0.0, 0.5):
        world.reset()
        world.materialise_some(Random(1), share)
        plan = world.plan(sql)
        plan.wanted(query)
        assert plan.fallback is None


def test_physical_names_are_read_as_duckdb_writes_them() -> None:
    assert unquoted('aidb_internal.rows_1 AS "my box"') == "aidb_internal.rows_1"
    assert unquoted('"aidb_internal"."my ""rows"""') == 'aidb_internal.my "rows"'
    assert unquoted('memory.main."Plain"') == "memory.main.plain"
    assert unquoted('"main"."Plain"') == "plain"


def big_catalog() -> Relations:
    tables = {"frames": Relation("frames", ("frame_id", "cam", "ts"), '"aidb_internal"."base_frames"', ("frame_id",))}
    for n in range(50):
        fill = Fill(f"v{n}", f"m{n}", ("frames",), ("frame_id",), f'"i"."l{n}"', f'"i"."r{n}"', ("x", "y"), f"v{n}_id")
        columns = ("frame_id", f"v{n}_id", "x", "y")
        tables[f"v{n}"] = Relation(f"v{n}", columns, fill.rows, columns[:2], fill)
    return Relations(tables, aggregates=World.aggregates)


def test_planning_five_joins_over_fifty_tables_is_fast(world: World) -> None:
    joins = " ".join(f"JOIN v{n} t{n} ON t{n}.frame_id = f.frame_id AND t{n}.x > {n}" for n in (3, 14, 15, 9))
    sql = f"SELECT f.frame_id, t3.x FROM frames f {joins} WHERE f.cam = 1 AND (t3.y < 2 OR t14.y = t9.x)"
    relations = big_catalog()
    times = []
    for _ in range(12):
        start = time.process_time()
        plan = plan_calls(sql, relations, lambda text: set())
        times.append(time.process_time() - start)
        assert plan.fallback is None
        assert len(plan.fills) == 4
    assert min(times) < 0.02, "10 ms on an idle core"
