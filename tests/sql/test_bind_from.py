"""Models in FROM, and a FROM that was left out: compared with the same query over the table of answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aidb.errors import ProgrammingError

sys.path.insert(0, str(Path(__file__).parent))
from bind_world import World


@pytest.fixture(scope="module")
def world():
    return World()


SHOWN = "f.*, b.box_id AS b_id, b.xmin, b.label"
JOINED = "frames f JOIN box b ON f.frame_id = b.frame_id"
FROM = [
    ("SELECT * FROM frames f, yolo(f.image) AS b", f"SELECT {SHOWN} FROM {JOINED}"),
    ("SELECT * FROM frames f, YOLO(F.Image) b WHERE B.xmin > 30 AND cam = 1",
     f"SELECT {SHOWN} FROM {JOINED} WHERE xmin > 30 AND cam = 1"),
    ("SELECT * FROM frames, yolo(frames.image)",
     "SELECT f.*, box_id AS yolo_id, xmin, label FROM frames f JOIN box USING (frame_id)"),
    ("SELECT * FROM frames f JOIN yolo(f.image) b ON true", f"SELECT {SHOWN} FROM {JOINED}"),
    ("SELECT * FROM frames f CROSS JOIN yolo(image) b", f"SELECT {SHOWN} FROM {JOINED}"),
    ("SELECT * FROM frames f CROSS JOIN LATERAL yolo(f.image) b", f"SELECT {SHOWN} FROM {JOINED}"),
    ("SELECT * FROM frames f, LATERAL yolo(f.image) b", f"SELECT {SHOWN} FROM {JOINED}"),
    ("SELECT * FROM frames f JOIN yolo(f.image) b", f"SELECT {SHOWN} FROM {JOINED}"),
    ("SELECT * FROM frames f JOIN yolo(f.image) b USING (frame_id)", f"SELECT {SHOWN} FROM {JOINED}"),
    ("SELECT * FROM frames f LEFT JOIN yolo(f.image) b ON true",
     f"SELECT {SHOWN} FROM frames f LEFT JOIN box b ON f.frame_id = b.frame_id"),
    ("SELECT * FROM frames f LEFT JOIN LATERAL yolo(f.image) b ON (TRUE) WHERE xmin IS NULL",
     f"SELECT {SHOWN} FROM frames f LEFT JOIN box b ON f.frame_id = b.frame_id WHERE xmin IS NULL"),
    ("SELECT * FROM frames f LEFT JOIN yolo(f.image) b ON b.xmin > 30 OR label = 'dog' WHERE cam = 1",
     f"SELECT {SHOWN} FROM frames f LEFT JOIN box b ON f.frame_id = b.frame_id AND (xmin > 30 OR label = 'dog') WHERE cam = 1"),
    ("SELECT frame_id FROM frames f LEFT JOIN yolo(f.image) b ON b.xmin > 30 ORDER BY frame_id",
     "SELECT f.frame_id FROM frames f LEFT JOIN box b ON f.frame_id = b.frame_id AND xmin > 30"),
    ("SELECT frame_id, count(*) AS n FROM frames f, yolo(f.image) b GROUP BY frame_id",
     "SELECT frame_id, count(*) AS n FROM box GROUP BY 1"),
    ("SELECT frame_id, b.frame_id AS g, b.b_id FROM frames f, yolo(f.image) b",
     "SELECT frame_id, frame_id AS g, box_id AS b_id FROM box"),
    ("SELECT f.cam, b.i, b.x FROM frames f, yolo(f.image) AS b(i, x)",
     f"SELECT cam, box_id AS i, xmin AS x FROM {JOINED}"),
    ("SELECT * FROM frames f(k, c, t, p), yolo(f.p) b", "SELECT f.frame_id AS k, cam AS c, ts AS t, image AS p, "
     f"box_id AS b_id, xmin, label FROM {JOINED}"),
    ("SELECT * FROM docs d, frames f, yolo(f.image) b WHERE d.doc_id = f.frame_id",
     f"SELECT d.*, {SHOWN} FROM docs d, {JOINED} WHERE d.doc_id = f.frame_id"),
    ("SELECT * FROM frames f, docs d, yolo(f.image) b WHERE d.doc_id = f.frame_id",
     f"SELECT f.*, d.*, b.box_id AS b_id, xmin, label FROM docs d, {JOINED} WHERE d.doc_id = f.frame_id"),
    ("SELECT f.frame_id, label, weight FROM frames f, docs d RIGHT JOIN plain p ON p.frame_id = d.doc_id, yolo(f.image) b",
     f"SELECT f.frame_id, label, weight FROM plain p, {JOINED}"),
    ("SELECT f.frame_id, label, weight FROM frames f, docs d LEFT JOIN plain p ON p.frame_id = d.doc_id "
     "JOIN yolo(f.image) b ON true",
     f"SELECT f.frame_id, label, weight FROM docs d LEFT JOIN plain p ON p.frame_id = d.doc_id, {JOINED}"),
    ("SELECT f.cam, b.label, p.weight FROM frames f JOIN plain p USING (frame_id), yolo(f.image) b",
     f"SELECT f.cam, b.label, p.weight FROM {JOINED} JOIN plain p ON f.frame_id = p.frame_id"),
    ("SELECT frame_id, label, weight FROM frames f, yolo(f.image) b JOIN plain p USING (frame_id)",
     f"SELECT f.frame_id, b.label, p.weight FROM {JOINED} JOIN plain p ON f.frame_id = p.frame_id"),
    ("SELECT * FROM frames f JOIN plain p ON p.frame_id = f.frame_id, yolo(f.image) b",
     f"SELECT f.*, p.*, b.box_id AS b_id, xmin, label FROM {JOINED} JOIN plain p ON f.frame_id = p.frame_id"),
    ("SELECT b.label, c.color FROM frames f, yolo(f.image) b, paint c WHERE c.frame_id = b.frame_id AND b_id = c.box_id",
     "SELECT label, color FROM box JOIN paint USING (frame_id, box_id)"),
    ("SELECT b.label, c.label FROM frames f, yolo(f.image) b, frames g, yolo(g.image) c WHERE f.frame_id = g.cam",
     f"SELECT b.label, c.label FROM {JOINED}, frames g JOIN box c ON c.frame_id = g.frame_id WHERE f.frame_id = g.cam"),
    ("SELECT count(*) AS n FROM frames f, yolo(f.image) b, yolo(f.image) c WHERE b.xmin < c.xmin",
     "SELECT count(*) AS n FROM box b JOIN box c USING (frame_id) WHERE b.xmin < c.xmin"),
    ("SELECT frame_id FROM frames f SEMI JOIN yolo(f.image) b ON b.label = 'bus'",
     "SELECT frame_id FROM frames WHERE frame_id IN (SELECT frame_id FROM box WHERE label = 'bus')"),
    ("SELECT * FROM frames f ANTI JOIN yolo(f.image) b ON b.label = 'bus'",
     "SELECT * FROM frames WHERE frame_id NOT IN (SELECT frame_id FROM box WHERE label = 'bus')"),
    ("SELECT * FROM yolo(frames.image)", "SELECT frame_id, box_id AS yolo_id, xmin, label FROM box"),
    ("SELECT * FROM yolo(image) AS b WHERE b_id > 1", "SELECT frame_id, box_id AS b_id, xmin, label FROM box WHERE box_id > 1"),
    ("FROM yolo(frames.image) b JOIN frames USING (frame_id) SELECT cam, label", f"SELECT cam, label FROM {JOINED}"),
    ("SELECT frame_id, (SELECT count(*) FROM yolo(f.image) b WHERE xmin > 20) AS n FROM frames f",
     "SELECT frame_id, (SELECT count(*) FROM box b WHERE b.frame_id = f.frame_id AND xmin > 20) AS n FROM frames f"),
    ("SELECT frame_id FROM frames f WHERE EXISTS (FROM yolo(f.image) b WHERE xmin > 60)",
     "SELECT DISTINCT frame_id FROM box WHERE xmin > 60"),
    ("SELECT t.n FROM frames f, (SELECT count(*) AS n FROM yolo(f.image)) t",
     "SELECT (SELECT count(*) FROM box b WHERE b.frame_id = f.frame_id) AS n FROM frames f"),
    ("SELECT f.cam, b.label FROM (SELECT * FROM frames WHERE cam = 1) f, yolo(f.image) b",
     f"SELECT cam, label FROM {JOINED} WHERE cam = 1"),
    ("SELECT * FROM (SELECT image AS i, cam FROM frames WHERE cam = 1) f, yolo(f.i) b",
     f"SELECT image AS i, cam, box_id AS b_id, xmin, label FROM {JOINED} WHERE cam = 1"),
    ("WITH f AS (SELECT image AS i FROM frames WHERE cam = 1) SELECT b.* EXCLUDE (frame_id) FROM f, yolo(f.i) b",
     f"SELECT box_id AS b_id, xmin, label FROM {JOINED} WHERE cam = 1"),
    ("SELECT * FROM reviews r, words(r.body) w",
     "SELECT r.*, n.i AS w_id, string_split(body, ' ')[i + 1] AS word FROM reviews r, range(2) n(i) "
     "WHERE i < len(string_split(body, ' '))"),
    ("SELECT id, word FROM reviews, words(reviews.body) WHERE words_id > 0", "SELECT id, 'so' AS word FROM reviews WHERE id = 5"),
    ("SELECT frame_id, b.label FROM frames f, yolo(f.image) b WHERE has_bus(f.image) AND mood(b.label) > 1",
     f"SELECT f.frame_id, b.label FROM {JOINED} WHERE has_bus(f.image) AND mood(b.label) > 1"),
    ("SELECT * FROM frames f, yolo(f.image) b WHERE has_bus(image) AND mood(b.label) > 1 AND near(image, xmin) > 2",
     f"SELECT {SHOWN} FROM {JOINED} WHERE has_bus(f.image) AND mood(b.label) > 1 AND near(image, xmin) > 2"),
    ("SELECT b FROM frames f, yolo(f.image) b WHERE mood(b.label) > 1 AND cam = 1",
     "SELECT {'frame_id': b.frame_id, 'b_id': box_id, 'xmin': xmin, 'label': label} AS b "
     f"FROM {JOINED} WHERE mood(b.label) > 1 AND cam = 1"),
    ("SELECT frame_id, b.label FROM frames f, has_bus(f.image) b",
     "SELECT frame_id, has_bus(image) AS label FROM frames"),
    ("SELECT * FROM frames f JOIN (plain p JOIN docs d ON d.doc_id = p.frame_id) ON f.frame_id = weight / 10, yolo(f.image) b",
     "SELECT f.*, p.*, d.*, b.box_id AS b_id, xmin, label FROM frames f JOIN plain p ON f.frame_id = weight / 10 "
     "JOIN docs d ON d.doc_id = p.frame_id JOIN box b ON f.frame_id = b.frame_id"),
    ("SELECT * FROM frames f, docs d, near(f.image, d.cam) n WHERE distance > 5",
     "SELECT f.*, d.*, near(f.image, d.cam) AS distance FROM frames f, docs d WHERE near(f.image, d.cam) > 5"),
    ("SELECT n.label FROM (frames f JOIN yolo(f.image) n ON true)", "SELECT label FROM box"),
    ("SELECT * FROM frames f NATURAL JOIN plain p, yolo(f.image) b",
     "SELECT f.*, p.weight, b.box_id AS b_id, b.xmin, b.label FROM frames f JOIN plain p USING (frame_id) "
     "JOIN box b ON b.frame_id = f.frame_id"),
    ("SELECT f.frame_id, y.label FROM frames f JOIN docs d ON d.doc_id = f.frame_id, yolo(f.image) y WHERE has_bus(f.image)",
     "SELECT frame_id, label FROM box JOIN docs ON doc_id = frame_id JOIN frames USING (frame_id) WHERE has_bus(image)"),
    ("SELECT x.n FROM (SELECT count(*) AS n, f.cam FROM frames f, yolo(f.image) y GROUP BY f.cam) x",
     "SELECT count(*) AS n FROM box JOIN frames USING (frame_id) GROUP BY cam"),
    ("SELECT y.* FROM frames f, yolo(f.image) y",
     "SELECT frame_id, box_id AS y_id, xmin, label FROM box"),
    ("SELECT f.* FROM frames f, yolo(f.image) y",
     "SELECT f.* FROM frames f JOIN box USING (frame_id)"),
    ("SELECT * FROM docs d JOIN frames f ON d.doc_id = f.frame_id LEFT JOIN yolo(f.image) y ON y.xmin > d.doc_id",
     "SELECT d.*, f.*, b.box_id AS y_id, xmin, label FROM docs d JOIN frames f ON d.doc_id=f.frame_id LEFT JOIN box b ON b.frame_id=f.frame_id AND xmin > doc_id"),  # noqa: E501
    ("SELECT * FROM plain p, frames f, yolo(f.image) y WHERE p.frame_id = f.frame_id",
     "SELECT p.*, f.*, box_id AS y_id, xmin, label FROM plain p, frames f JOIN box b USING (frame_id) WHERE p.frame_id=f.frame_id"),  # noqa: E501
    ("SELECT * FROM plain p JOIN frames f ON p.frame_id = f.frame_id, yolo(f.image) y",
     "SELECT p.*, f.*, box_id AS y_id, xmin, label FROM plain p, frames f JOIN box b ON f.frame_id=b.frame_id WHERE p.frame_id=f.frame_id"),  # noqa: E501
    ("SELECT * FROM range(3) r(i), frames f, yolo(f.image) y WHERE i = cam",
     "SELECT i, f.*, box_id AS y_id, xmin, label FROM range(3) r(i), frames f JOIN box b USING (frame_id) WHERE i=cam"),
    ("SELECT * FROM range(3) r(i) JOIN frames f ON i = cam, yolo(f.image) y",
     "SELECT i, f.*, box_id AS y_id, xmin, label FROM range(3) r(i), frames f JOIN box b USING (frame_id) WHERE i=cam"),
    ("SELECT * FROM frames f JOIN yolo(f.image) y ON true JOIN LATERAL (SELECT y.xmin + 1 AS z) q ON true",
     "SELECT f.*, box_id AS y_id, xmin, label, xmin+1 AS z FROM frames f JOIN box USING (frame_id)"),
]  # fmt: skip


@pytest.mark.parametrize(("core", "reference"), FROM)
def test_rows_are_those_of_the_table(world, core, reference):
    world.check(core, reference)


def test_the_planner_sees_a_virtual_table(world):
    bound = world.bind("SELECT frame_id FROM frames f, yolo(f.image) AS b WHERE b.xmin > 3")
    relation = bound.relations.tables["__aidb_yolo_1"]
    assert relation.fill is world.box
    assert relation.columns == ("frame_id", "box_id", "xmin", "label")
    assert relation.key == ("frame_id", "box_id")
    assert bound.planning == (
        'SELECT frame_id FROM frames f JOIN "__aidb_yolo_1" AS "b"("frame_id", "b_id", "xmin", "label")'
        ' USING ("frame_id") WHERE b.xmin > 3'
    )


FILLED = [
    ("SELECT frame_id WHERE xmin < 50", "FROM box"),
    ("SELECT frame_id WHERE xmin < 50 ORDER BY frame_id LIMIT 3", "FROM box"),
    ("SELECT COUNT(box_id) AS n WHERE color = 'white'", "FROM paint"),
    ("SELECT cam, color WHERE ts > 3", "FROM frames JOIN paint USING (frame_id)"),
    ("SELECT label, color", "FROM box JOIN paint USING (frame_id, box_id)"),
    (
        "SELECT cam, label, color WHERE ts > 3",
        "FROM frames JOIN box USING (frame_id) JOIN paint USING (frame_id, box_id)",
    ),
    ("SELECT paint.box_id WHERE color = 'red'", "FROM paint"),
    ("SELECT frame_id WHERE has_bus(image)", "FROM frames"),
    ("SELECT has_bus(frame) AS b, ts", "FROM frames"),
    ("SELECT count(*) AS n WHERE HAS_BUS(frames)", "FROM frames"),
    ("WITH t AS (SELECT 1 AS a FROM docs) SELECT DISTINCT frame_id WHERE xmin > (SELECT max(a) FROM t)", "FROM box"),
    ("SELECT frame_id, xmin AS x GROUP BY ALL HAVING sum(xmin) > 3", "FROM box"),
    ('SELECT "the key"', 'FROM "odd ""name"'),
]


@pytest.mark.parametrize(("core", "clause"), FILLED)
def test_a_missing_from_is_filled_in(world, core, clause):
    bound = world.bind(core)
    assert bound.notes == (f"{clause} was filled in",)
    places = [i for i in (core.find(w) for w in (" WHERE", " ORDER", " GROUP")) if i > 0]
    at = min(places, default=len(core)) if not core.startswith("WITH") else core.index(" WHERE xmin")
    reference = f"{core[:at]} {clause}{core[at:]}"
    if "has_bus(" not in core.lower():
        assert bound.final == reference
    else:
        reference = reference.replace("(frame)", "(image)").replace("(frames)", "(image)")
    assert world.answer(bound.final) == world.answer(reference)


@pytest.mark.parametrize(
    ("core", "words"),
    [
        ("SELECT cam", ["FROM frames", "FROM docs", "more than one"]),
        ("SELECT count(*) WHERE has_bus(record)", ["FROM frames", "FROM docs"]),
        ("SELECT box_id", ["FROM box", "FROM paint"]),
        ("SELECT text, ts", ["no tables that share keys", "text, ts"]),
        ("SELECT frame_id WHERE colour = 'red'", ["no table has the column colour"]),
    ],
)
def test_a_missing_from_that_is_not_clear(world, core, words):
    with pytest.raises(ProgrammingError) as e:
        world.bind(core)
    for word in words:
        assert word in str(e.value)


@pytest.mark.parametrize("core", ["SELECT 1", "SELECT now() AS frame_id", "SELECT nothing WHERE nobody", "VALUES (1)"])
def test_constants_need_no_from(world, core):
    assert world.bind(core).final == core


@pytest.mark.parametrize(
    ("core", "reference"),
    [
        ("SELECT frame_id FROM frames WHERE HAS_BUS(record)", "SELECT frame_id FROM frames WHERE has_bus(image)"),
        ("SELECT frame_id FROM frames WHERE has_bus(frame)", "SELECT frame_id FROM frames WHERE has_bus(image)"),
        ("SELECT frame_id FROM frames f WHERE has_bus(f)", "SELECT frame_id FROM frames WHERE has_bus(image)"),
        (
            "SELECT frame_id FROM (SELECT * FROM frames) WHERE has_bus(frame)",
            "SELECT frame_id FROM frames WHERE has_bus(image)",
        ),
        ("SELECT mood(record) AS m FROM docs JOIN plain ON doc_id = frame_id", "SELECT mood(text) AS m FROM docs"),
        (
            "SELECT frame_id, label FROM frames, yolo(frame) b",
            "SELECT frame_id, label FROM box",
        ),
        (
            "SELECT d.doc_id FROM docs d WHERE EXISTS (FROM box WHERE frame_id = doc_id AND mood(record) > 2)",
            "SELECT d.doc_id FROM docs d WHERE EXISTS (FROM box WHERE frame_id = doc_id) AND mood(text) > 2",
        ),
    ],
)
def test_a_record_is_the_item_itself(world, core, reference):
    world.check(core, reference)
