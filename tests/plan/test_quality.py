"""How few items are asked for: realistic statements over 2,000 frames, with counts that must not rise."""

from __future__ import annotations

from random import Random

import pytest

from tests.plan.harness import Spec, World, multiset

FRAMES = 2000
COST = {"box": 30.0, "color": 1.0, "plate": 100.0, "mood": 5.0, "night": 1.0, "senti": 10.0}
SLACK = 1.1

BOX = "JOIN box b ON b.frame_id = f.frame_id"
COLOR = "JOIN color c ON c.frame_id = b.frame_id AND c.box_id = b.box_id"
PLATE = "JOIN plate p ON p.frame_id = b.frame_id AND p.box_id = b.box_id"

QUERIES: list[tuple[str, int, float]] = [
    ("SELECT frame_id FROM box WHERE x < 100", 2000, 60000),
    (f"SELECT f.ts, count(*) FROM frames f {BOX} WHERE f.cam = 3 GROUP BY f.ts", 200, 6000),
    (f"SELECT f.frame_id FROM frames f {BOX} {COLOR} WHERE f.cam = 1 AND b.cls = 2 AND c.color = 5", 262, 6062),
    (
        "SELECT count(*) FROM color c JOIN box b USING (frame_id, box_id) WHERE b.cls = 3 AND frame_id < 500",
        614,
        15114,
    ),
    (
        "SELECT f.frame_id, b.x FROM frames f LEFT JOIN box b ON b.frame_id = f.frame_id AND b.cls = 1"
        " WHERE f.cam IN (1, 2)",
        400,
        12000,
    ),
    (
        "SELECT f.frame_id FROM frames f LEFT JOIN box b ON b.frame_id = f.frame_id"
        " WHERE f.cam = 2 AND b.frame_id IS NULL",
        200,
        6000,
    ),
    (
        "SELECT frame_id FROM frames f WHERE cam = 4"
        " AND EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND b.cls = 3)",
        200,
        6000,
    ),
    (
        "SELECT frame_id FROM frames f WHERE ts < 100"
        " AND NOT EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND b.cls = 0)",
        400,
        12000,
    ),
    ("SELECT frame_id FROM frames WHERE cam = 5 AND frame_id IN (SELECT frame_id FROM box WHERE x > 900)", 200, 6000),
    (
        "SELECT frame_id FROM frames WHERE cam = 5 AND frame_id NOT IN (SELECT frame_id FROM mood WHERE mood > 3)",
        200,
        1000,
    ),
    (
        f"WITH cars AS (SELECT b.*, f.cam FROM frames f {BOX} WHERE b.cls = 2)"
        " SELECT cam, count(*) FROM cars WHERE cam < 3 GROUP BY cam",
        600,
        18000,
    ),
    (
        "WITH n AS (SELECT frame_id, count(*) AS k FROM box GROUP BY frame_id)"
        " SELECT * FROM n JOIN frames f USING (frame_id) WHERE f.cam = 1 AND k > 2",
        200,
        6000,
    ),
    (
        "WITH c1 AS (SELECT * FROM box WHERE frame_id < 200)"
        " SELECT a.frame_id FROM c1 a JOIN c1 b ON a.frame_id = b.frame_id + 1 WHERE a.cls = 3 AND b.cls = 3",
        200,
        6000,
    ),
    (
        f"SELECT f.frame_id, p.plate FROM frames f JOIN night n ON n.frame_id = f.frame_id {BOX} {PLATE}"
        " WHERE n.dark = 1 AND b.cls = 2 AND f.cam = 7",
        287,
        3300,
    ),
    (
        f"SELECT f.frame_id FROM frames f JOIN mood m ON m.frame_id = f.frame_id"
        f" JOIN night n ON n.frame_id = f.frame_id {BOX} WHERE m.mood = 3 AND n.dark = 1 AND b.cls = 1",
        2702,
        7035,
    ),
    (
        f"SELECT b.frame_id, p.plate FROM box b {COLOR} {PLATE} WHERE c.color = 1 AND b.x < 200 AND b.frame_id < 800",
        1183,
        31115,
    ),
    (
        "SELECT frame_id, x, row_number() OVER (PARTITION BY frame_id ORDER BY x) AS r FROM box"
        " WHERE frame_id BETWEEN 10 AND 50 QUALIFY r = 1",
        41,
        1230,
    ),
    (
        "SELECT frame_id FROM box WHERE cls = 1 AND frame_id < 300"
        " EXCEPT SELECT frame_id FROM mood WHERE mood = 1 AND frame_id < 300",
        600,
        10500,
    ),
    (
        "SELECT f.frame_id, s.score FROM frames f JOIN docs d ON d.frame_id = f.frame_id"
        " JOIN senti s USING (doc_id) WHERE d.n > 80 AND f.cam < 5",
        40,
        400,
    ),
    (
        f"SELECT g.district, count(*) FROM gps g JOIN frames f ON f.ts = g.ts {BOX}"
        " WHERE g.district = 2 AND b.cls = 1 GROUP BY 1",
        288,
        8640,
    ),
    (
        "SELECT frame_id, (SELECT count(*) FROM box b WHERE b.frame_id = f.frame_id) AS k FROM frames f"
        " WHERE cam = 9 AND ts > 400",
        40,
        1200,
    ),
    (
        "SELECT f.frame_id FROM frames f,"
        " LATERAL (SELECT max(x) AS mx FROM box b WHERE b.frame_id = f.frame_id) t WHERE f.cam = 8 AND t.mx > 900",
        200,
        6000,
    ),
    (
        "SELECT frame_id FROM mood WHERE mood = 2 OR frame_id IN (SELECT frame_id FROM night WHERE dark = 1)",
        4000,
        12000,
    ),
    (
        "SELECT m.frame_id FROM mood m ANTI JOIN box b ON b.frame_id = m.frame_id AND b.cls = 3 WHERE m.mood = 7",
        2136,
        14080,
    ),
    ("SELECT f.frame_id, b.x FROM frames f FULL JOIN box b ON f.frame_id = b.frame_id WHERE f.cam = 1", 200, 6000),
]
"""Statement, items, cost of the items. The first numbers that were reached; `SLACK` is allowed above them."""

LIMITED: list[tuple[str, int]] = [
    ("SELECT frame_id FROM box WHERE x < 100 LIMIT 10", 36),
    (f"SELECT f.frame_id FROM frames f {BOX} {COLOR} WHERE b.cls = 2 AND c.color = 5 LIMIT 5", 240),
    (
        "SELECT frame_id FROM frames f"
        " WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND b.cls = 3) LIMIT 10",
        88,
    ),
    ("SELECT frame_id, x FROM box WHERE x < 100 ORDER BY frame_id DESC LIMIT 10", 53),
    (
        "SELECT f.ts, b.x FROM frames f JOIN box b USING (frame_id) WHERE b.cls = 3 ORDER BY f.ts, b.frame_id LIMIT 5",
        18,
    ),
    ("SELECT ts, glare FROM gps LIMIT 10", 16),
    ("SELECT ts FROM gps WHERE glare > 5 AND district = 3 LIMIT 10", 48),
]
"""Statement that may stop early, and how many items it may take."""


def city() -> Spec:
    rng = Random(0)
    spec = Spec()
    spec.store("frames", "frame_id cam ts", [(i, i % 10, i // 4) for i in range(FRAMES)])
    spec.store("docs", "doc_id frame_id n", [(i, rng.randrange(FRAMES), rng.randrange(100)) for i in range(500)])
    spec.store("gps", "ts district", [(t, t % 7) for t in range(FRAMES // 4)])
    box = [
        (f, j, rng.randrange(1000), rng.choice([0, 0, 0, 0, 1, 1, 2, 3]))
        for f in range(FRAMES)
        for j in range(rng.choice([0, 0, 1, 2, 3, 6]))
    ]
    spec.table("box", "frames", "frame_id", "x cls", box, many=True)
    spec.table("color", "box", "frame_id box_id", "color", [(b[0], b[1], rng.randrange(8)) for b in box])
    spec.table("plate", "box", "frame_id box_id", "plate", [(b[0], b[1], rng.randrange(500)) for b in box])
    spec.table("mood", "frames", "frame_id", "mood", [(f, rng.randrange(20)) for f in range(FRAMES)])
    spec.table("night", "frames", "frame_id", "dark", [(f, int(rng.random() < 0.3)) for f in range(FRAMES)])
    spec.table("senti", "docs", "doc_id", "score", [(d, rng.randrange(10)) for d in range(500)])
    spec.extend("gps", "glare", "ts", [(t, rng.randrange(10)) for t in range(FRAMES // 4)])
    return spec


@pytest.fixture(scope="module")
def world() -> World:
    world = World(city())
    world.costs = COST
    return world


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_items_and_cost_do_not_rise(world: World, number: int) -> None:
    sql, items, cost = QUERIES[number]
    world.reset()
    rows, plan = world.lazy(sql)
    assert multiset(rows) == multiset(world.eager(sql))
    assert plan.fallback is None
    assert sum(world.calls.values()) <= items * SLACK
    assert sum(COST[f] * n for f, n in world.calls.items()) <= cost * SLACK


@pytest.mark.parametrize("number", range(len(LIMITED)))
def test_a_limit_stops_early(world: World, number: int) -> None:
    sql, items = LIMITED[number]
    world.reset()
    rows, _ = world.lazy(sql)
    full = world.eager(sql[: sql.index("LIMIT")])
    want = world.eager(sql)
    assert len(rows) == len(want)
    assert not multiset(rows) - multiset(full)
    if "ORDER BY" in sql:
        assert [r[0] for r in rows] == [r[0] for r in want]
    assert sum(world.calls.values()) <= items
