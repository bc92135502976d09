"""Models in expressions: the bound query answers as DuckDB does when it calls the models itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from bind_world import World


@pytest.fixture(scope="module")
def world():
    return World()


CLAUSES = [
    "SELECT frame_id FROM frames WHERE has_bus(image)",
    "SELECT frame_id FROM frames WHERE HAS_BUS(IMAGE)",
    'SELECT frame_id FROM "Frames" WHERE "has_bus"("image")',
    "SELECT frame_id FROM frames WHERE NOT has_bus(image) AND cam = 1",
    "SELECT has_bus(image) FROM frames",
    "SELECT has_bus(f.image) FROM frames f",
    "SELECT has_bus(image) AS b, mood(image) + 1 AS m FROM frames AS f",
    "SELECT f.frame_id, has_bus (f.image) b FROM main.frames f",
    "SELECT main.frames.frame_id FROM main.frames WHERE has_bus(image)",
    "SELECT main.frames.frame_id, main.frames.cam FROM frames WHERE has_bus(main.frames.image)",
    "SELECT has_bus(image), count(*) FROM frames GROUP BY has_bus(image)",
    "SELECT has_bus(image) AS b, count(*) FROM frames GROUP BY 1",
    "SELECT has_bus(image) AS b, count(*) FROM frames GROUP BY b",
    "SELECT has_bus(image) AS b, count(*) FROM frames GROUP BY ALL",
    "SELECT cam, count(*) FILTER (WHERE has_bus(image)) FROM frames GROUP BY cam",
    "SELECT cam, sum(mood(image)) FROM frames GROUP BY cam HAVING sum(mood(image)) > 4",
    "SELECT cam, max(CASE WHEN has_bus(image) THEN frame_id END) AS m FROM frames GROUP BY cam ORDER BY sum(mood(image))",
    "SELECT body, count(*) FROM reviews GROUP BY body HAVING mood(body) > 2",
    "SELECT body AS b, mood(body) AS m, count(*) FROM reviews GROUP BY b",
    "SELECT body AS b, mood(body) AS m, count(*) FROM reviews GROUP BY 1 ORDER BY mood(body)",
    "SELECT body, mood(body) AS m, count(*) FROM reviews GROUP BY body, mood(body)",
    "SELECT mood(body) AS m, count(*) FROM reviews GROUP BY mood(body) % 2, mood(body)",
    "SELECT mood(body) % 2 AS m, count(*) FROM reviews GROUP BY mood(body) % 2",
    "SELECT frame_id FROM frames ORDER BY mood(image), frame_id LIMIT 3",
    "SELECT frame_id, row_number() OVER (PARTITION BY has_bus(image) ORDER BY mood(image), frame_id) AS r FROM frames",
    "SELECT frame_id FROM frames QUALIFY row_number() OVER (PARTITION BY has_bus(image) ORDER BY frame_id) = 1",
    "SELECT DISTINCT has_bus(image) AS b FROM frames",
    "SELECT DISTINCT ON (has_bus(image)) has_bus(image) AS b FROM frames",
    "SELECT f.frame_id, d.doc_id FROM frames f JOIN docs d ON mood(f.image) = mood(d.text)",
    "SELECT f.frame_id, d.doc_id FROM frames f LEFT JOIN docs d ON mood(f.image) = mood(d.text) AND has_bus(f.image)",
    "SELECT f.frame_id, d.doc_id FROM frames f FULL JOIN docs d ON mood(f.image) = mood(d.text)",
    "SELECT a.frame_id, b.frame_id FROM frames a, frames b WHERE has_bus(a.image) AND mood(b.image) = mood(a.image)",
    "SELECT id, mood(body) AS m FROM reviews",
    "SELECT id FROM reviews WHERE mood(body) IS NULL",
    "SELECT sum(mood(body)), count(*) FROM reviews r",
    "SELECT frame_id FROM frames f WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id AND has_bus(f.image))",
    "SELECT (SELECT max(mood(f.image) + b.xmin) FROM box b WHERE b.frame_id = f.frame_id) AS x FROM frames f",
    "SELECT frame_id FROM frames WHERE mood(image) IN (SELECT mood(text) FROM docs)",
    "SELECT frame_id FROM frames WHERE frame_id IN (SELECT frame_id FROM frames WHERE has_bus(image))",
    "SELECT f.frame_id FROM frames f, LATERAL (SELECT count(*) AS n FROM docs d WHERE mood(d.text) < mood(f.image)) t "
    "WHERE n > 1",
    "SELECT frame_id FROM frames WHERE has_bus(image) UNION ALL SELECT doc_id FROM docs WHERE mood(text) > 2",
    "SELECT mood(image) AS m FROM frames INTERSECT SELECT mood(text) FROM docs ORDER BY m",
    "SELECT image AS i, mood(i) AS m FROM frames",
    "SELECT i FROM (SELECT image AS i FROM frames) WHERE has_bus(i)",
    "SELECT pose(image).lft, pose(image).rgt AS r FROM frames",
    "SELECT (pose(image)).rgt + 1 AS x FROM frames WHERE pose(f.image)['lft'] > 4".replace("f.image", "image"),
    'SELECT "Odd Model"("the picture") AS o FROM "odd ""name" o WHERE "ODD MODEL"(o."the picture") > \'p1\'',
    "SELECT near(f.image, b.xmin) AS n FROM frames f JOIN box b USING (frame_id)",
    "SELECT b.box_id FROM frames f JOIN box b ON f.frame_id = b.frame_id WHERE near(f.image, b.xmin) > 4",
    "SELECT b.box_id FROM frames f, box b WHERE f.frame_id = b.frame_id AND near(f.image, b.xmin) > 4",
    "SELECT f.frame_id, near(f.image, b.xmin) AS n FROM frames f LEFT JOIN box b ON f.frame_id = b.frame_id",
    "SELECT mood(label) AS m, count(*) FROM box GROUP BY 1",
    "SELECT x FROM (SELECT unnest([mood(image), 1]) AS x FROM frames)",
    "SELECT list_transform([1, 2], lambda x: x + mood(image)) AS l FROM frames",
    "SELECT extract(year FROM DATE '2020-01-01') + mood(image) AS y FROM frames WHERE cam IS DISTINCT FROM 1",
    "SELECT frame_id, -- has_bus(image)\n 'has_bus(image)' AS t FROM frames /* mood( */ WHERE has_bus(image)",
    "FROM frames WHERE has_bus(image)",
    "FROM frames SELECT frame_id WHERE has_bus(image)",
    "SELECT count(*) FROM frames WHERE has_bus(image)",
    "SELECT frame_id, FROM frames WHERE has_bus(image)",
    "SELECT f.a, f.d FROM frames AS f(a, b, c, d) WHERE has_bus(f.d)",
    "SELECT a, cam FROM frames AS f(a) WHERE has_bus(image)",
    "SELECT frame_id FROM frames TABLESAMPLE 100% WHERE has_bus(image)",
    "SELECT frame_id FROM (frames f JOIN plain p USING (frame_id)) WHERE has_bus(image) AND weight > 5",
    "SELECT m: mood(image), frame_id FROM frames",
    "DESCRIBE SELECT * FROM frames WHERE has_bus(image)",
    "CREATE OR REPLACE TEMP TABLE kept AS SELECT frame_id FROM frames WHERE has_bus(image)",
]

CTES = [
    "WITH t AS (SELECT * FROM frames WHERE cam = 1) SELECT frame_id FROM t WHERE has_bus(image)",
    "WITH t AS (SELECT * FROM frames WHERE cam = 1) SELECT * FROM t WHERE has_bus(image)",
    "WITH t AS (FROM frames) FROM t WHERE has_bus(image)",
    "WITH t(a, b) AS (SELECT frame_id, image FROM frames) SELECT * FROM t WHERE has_bus(b)",
    "WITH t AS (SELECT image AS i, cam FROM frames), u AS (SELECT i AS j FROM t WHERE cam > 0) SELECT * FROM u WHERE has_bus(j)",
    "WITH t AS (SELECT image, frame_id FROM frames) SELECT a.frame_id, b.* FROM t a JOIN t b USING (frame_id) "
    "WHERE has_bus(a.image) AND mood(b.image) > 1",
    "WITH t AS (SELECT image, frame_id FROM frames) SELECT * FROM t a JOIN t b USING (frame_id) WHERE has_bus(a.image)",
    "WITH t AS MATERIALIZED (SELECT image, frame_id, FROM frames) SELECT * FROM t WHERE has_bus(image)",
    "WITH t AS (SELECT frame_id, has_bus(image) AS b FROM frames) SELECT * FROM t WHERE b",
    "WITH t AS (SELECT frame_id, has_bus(image) FROM frames) SELECT * FROM t",
    "WITH has_bus AS (SELECT 1 AS x) SELECT x, mood(image) AS m FROM has_bus, frames",
    "WITH mood(a) AS (SELECT 3) SELECT a, frame_id FROM mood, frames WHERE has_bus(image)",
    "WITH frames AS (SELECT doc_id AS frame_id, text AS image FROM docs) SELECT frame_id FROM frames WHERE has_bus(image)",
    "SELECT t.frame_id FROM (SELECT frame_id, image FROM frames ORDER BY frame_id LIMIT 5) t WHERE has_bus(t.image)",
    "SELECT * FROM (SELECT frame_id, image FROM frames ORDER BY frame_id LIMIT 5) WHERE has_bus(image)",
    "SELECT * FROM (SELECT f.image, b.xmin FROM frames f JOIN box b USING (frame_id)) t WHERE near(image, xmin) > 3",
    "SELECT * FROM (FROM (FROM frames)) WHERE has_bus(image)",
    "SELECT id FROM recent WHERE has_bus(image)",
    "SELECT * FROM recent r WHERE has_bus(r.image) AND mood(image) > 1",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) "
    "SELECT i, frame_id FROM n, frames WHERE has_bus(image) AND frame_id = i",
]

STARS = [
    "SELECT * FROM frames WHERE has_bus(image)",
    "SELECT f.* FROM frames f WHERE has_bus(image)",
    "SELECT *, mood(image) AS m FROM frames",
    "SELECT * EXCLUDE (cam) FROM frames WHERE has_bus(image)",
    "SELECT * EXCLUDE cam FROM frames WHERE has_bus(image)",
    "SELECT f.* EXCLUDE (cam, ts) FROM frames f WHERE has_bus(image)",
    "SELECT * REPLACE (cam + 1 AS cam) FROM frames WHERE has_bus(image)",
    "SELECT * EXCLUDE (ts) REPLACE (cam + 1 AS cam) FROM frames f WHERE has_bus(image)",
    "SELECT * RENAME (cam AS camera) FROM frames WHERE has_bus(image)",
    "SELECT * LIKE '%a%' FROM frames WHERE has_bus(image)",
    "SELECT COLUMNS(*) FROM frames WHERE has_bus(image)",
    "SELECT COLUMNS(f.*) FROM frames f WHERE has_bus(image)",
    "SELECT COLUMNS('a') FROM frames WHERE has_bus(image)",
    "SELECT COLUMNS('.*') FROM frames WHERE has_bus(image)",
    "SELECT COLUMNS(lambda c: c LIKE '%a%' OR c LIKE '%') FROM frames WHERE has_bus(image)",
    "SELECT COLUMNS(lambda c: c <> 'x') FROM frames WHERE has_bus(image)",
    "SELECT max(COLUMNS(*)) FROM frames WHERE has_bus(image)",
    "SELECT COLUMNS(* EXCLUDE (image)) FROM frames WHERE has_bus(image)",
    "SELECT * FROM frames f JOIN box b USING (frame_id) WHERE has_bus(f.image)",
    "SELECT * FROM frames f FULL JOIN plain p USING (frame_id) WHERE has_bus(f.image)",
    "SELECT * FROM frames f RIGHT JOIN plain p USING (frame_id) WHERE has_bus(f.image) IS NOT FALSE",
    "SELECT * FROM frames NATURAL JOIN plain WHERE has_bus(image)",
    "SELECT * FROM frames a JOIN frames b USING (frame_id) WHERE has_bus(a.image) AND has_bus(b.image)",
    "SELECT * FROM frames, range(2) r(i) WHERE has_bus(image)",
    "SELECT * FROM frames SEMI JOIN box USING (frame_id) WHERE has_bus(image)",
    "SELECT * FROM frames f ANTI JOIN box b ON f.frame_id = b.frame_id AND mood(label) > 2",
    "SELECT frame_id, cam, ts, image FROM frames EXCEPT SELECT * FROM frames WHERE has_bus(image)",
    "SELECT * FROM (SELECT * FROM frames WHERE has_bus(image)) t",
    "SELECT f FROM frames f WHERE has_bus(image)",
    "SELECT f.cam, f AS g FROM frames f WHERE has_bus(image)",
    "SELECT count(f) FROM frames f WHERE has_bus(image)",
    "SELECT unnest(f) FROM frames f WHERE has_bus(image)",
    "SELECT (SELECT f) AS r FROM frames f WHERE has_bus(image)",
    "SUMMARIZE SELECT * FROM frames WHERE has_bus(image)",
    "INSERT INTO frames SELECT * FROM frames WHERE has_bus(image) AND false",
    "SELECT * FROM frames WHERE has_bus(image) ORDER BY ALL",
    "SELECT * FROM frames POSITIONAL JOIN docs WHERE has_bus(image)",
    "SELECT * FROM (frames f JOIN plain p USING (frame_id)) WHERE has_bus(image)",
]


PAIRS = [
    "SELECT near(f.image, d.cam) FROM frames f, docs d",
    "SELECT frame_id, doc_id FROM frames f, docs d WHERE near(image, d.cam) > 5",
    "SELECT * FROM frames f, docs d WHERE near(f.image, d.cam) > 5 AND NEAR(image, d.cam) < 9",
    "SELECT d.*, near(f.image, d.cam) + 1 AS n FROM frames f CROSS JOIN docs d ORDER BY near(f.image, d.cam)",
    "SELECT * FROM frames f JOIN docs d ON near(f.image, d.cam) > 5 AND f.cam = d.cam",
    "SELECT * FROM frames f JOIN docs d ON near(f.image, d.cam) > 5 JOIN plain p USING (frame_id) WHERE f.ts > 3 OR weight = 0",
    "SELECT near(f.image, d.cam) AS n, count(*) FROM frames f, docs d GROUP BY near(f.image, d.cam)",
    "SELECT frame_id FROM frames f WHERE EXISTS (SELECT 1 FROM docs d, frames g WHERE near(g.image, d.cam) = f.cam)",
    "SELECT f.frame_id, d.doc_id, p.weight FROM plain p, frames f, docs d LEFT JOIN box b ON b.frame_id = d.doc_id "
    "WHERE near(f.image, d.cam) > 5 AND has_bus(f.image)",
    "SELECT * FROM (SELECT image AS i FROM frames) f, docs d WHERE near(i, d.cam) > 5",
]


MORE = [  # traps
    "SELECT frame_id FROM frames AS f WHERE has_bus(f.image) UNION SELECT * FROM (SELECT frame_id FROM frames WHERE mood(image) = 2)",  # noqa: E501
    "SELECT a.* FROM frames a JOIN frames b ON a.frame_id = b.frame_id AND has_bus(a.image) AND has_bus(b.image)",
    "SELECT count(DISTINCT has_bus(image)) FROM frames",
    "SELECT list(has_bus(image) ORDER BY mood(image), frame_id) AS l FROM frames",
    "SELECT frame_id FROM frames WINDOW w AS (PARTITION BY has_bus(image) ORDER BY frame_id) QUALIFY row_number() OVER w = 1",
    "SELECT * FROM frames WHERE has_bus(image) LIMIT (SELECT max(mood(text)) FROM docs)",
    "SELECT f.* FROM frames f WHERE (SELECT has_bus(f.image))",
    "SELECT frame_id FROM frames WHERE (has_bus(image), cam) IN (SELECT true, cam FROM docs)",
    "SELECT CASE WHEN has_bus(image) THEN 'a' ELSE CAST(mood(image) AS VARCHAR) END AS c FROM frames",
    "SELECT has_bus(image) has, mood(image)::DOUBLE AS d FROM frames",
    "SELECT frame_id FROM frames f WHERE has_bus((image))",
    "VALUES ((SELECT count(*) FROM frames WHERE has_bus(image)))",
    "SELECT * FROM (VALUES (1)) v(x), frames WHERE has_bus(image)",
    "SELECT * FROM unnest([1,2]) u(x), frames WHERE has_bus(image)",
    "SELECT f.image, (SELECT count(*) FROM frames f WHERE has_bus(f.image)) AS n FROM frames f WHERE NOT has_bus(f.image)",
    "SELECT (SELECT max(g.cam) FROM frames f JOIN frames g ON g.frame_id = f.frame_id AND mood(g.image) = mood(frames.image)) AS n FROM frames",  # noqa: E501
    "SELECT id, (SELECT count(*) FROM box r WHERE r.xmin > id AND mood(body) > 1) AS n FROM reviews r",
    "SELECT * FROM frames f JOIN LATERAL (SELECT * FROM box b WHERE b.frame_id = f.frame_id AND mood(b.label) > mood(f.image)) t ON true",  # noqa: E501
    "WITH t AS (SELECT * FROM frames), u AS (SELECT * FROM t) SELECT u.* FROM u JOIN t USING (frame_id) WHERE has_bus(u.image) AND NOT has_bus(t.image) IS NULL",  # noqa: E501
    "WITH t AS (SELECT * FROM frames) SELECT * FROM t UNION ALL SELECT * FROM t WHERE has_bus(image)",
    "WITH t AS (SELECT * FROM frames) SELECT count(*) FROM t, (SELECT * FROM t WHERE has_bus(image)) x",
    "WITH t AS (SELECT f.*, 1 AS one FROM frames f) SELECT * FROM t WHERE has_bus(image)",
    "WITH t AS (SELECT * EXCLUDE (cam) FROM frames) SELECT * FROM t WHERE has_bus(image)",
    "WITH t AS (SELECT * EXCLUDE (cam) RENAME (image AS i) FROM frames) SELECT ts FROM t WHERE has_bus(i)",
    "SELECT DISTINCT image FROM frames WHERE has_bus(image)",
    "SELECT image FROM frames GROUP BY image HAVING bool_and(has_bus(image))",
    "SELECT cam, image FROM frames GROUP BY ALL HAVING has_bus(image)",
    "SELECT image AS cam2 FROM frames GROUP BY image ORDER BY mood(image), image",
    "SELECT upper(image) AS u FROM frames GROUP BY image HAVING NOT has_bus(image)",
    "SELECT COUNT(*) FROM frames f, docs d, reviews r WHERE has_bus(f.image) AND mood(d.text) = mood(r.body)",
    "SELECT has_bus(image), * FROM frames",
    "SELECT frame_id, sum(mood(image)) OVER (ORDER BY frame_id ROWS 2 PRECEDING) AS s FROM frames",
    "select frame_id from frames where has_bus(image) and cam in (1,2) order by 1 desc nulls last limit 2 offset 1;",
    "SELECT frame_id FROM frames WHERE has_bus(image) USING SAMPLE 100%",
    "SELECT * FROM frames ASOF JOIN docs ON frames.frame_id >= docs.doc_id WHERE has_bus(image)",
    "SELECT frame_id FROM box b WHERE mood(b.label) = ANY (SELECT mood(text) FROM docs)",
    "SELECT {'a': has_bus(image), 'b': [mood(image)]} AS s FROM frames",
    "SELECT * FROM frames WHERE has_bus(image) AND frame_id BETWEEN mood(image) AND 9",
    "SELECT recent.id FROM recent, docs WHERE has_bus(recent.image) AND mood(docs.text) > 1",
    "SELECT * FROM recent, (SELECT * FROM recent WHERE has_bus(image)) z WHERE recent.id = z.id",
]


@pytest.mark.parametrize("core", CLAUSES + CTES + STARS + PAIRS + MORE)
def test_answers_as_duckdb_does(world, core):
    bound = world.check(core)
    assert bound.final != core


def test_nothing_of_ours_stays_byte_for_byte(world):
    for core in (
        "select  *\nfrom frames -- has_bus(image)\n",
        "SELECT 'has_bus(image)', upper(image) FROM frames",
        "SELECT frame_id FROM box AS yolo(a, b)",
        "WITH mood(a) AS (SELECT 3) SELECT a FROM mood",
        "SELECT main.has_bus(image) FROM frames",
        "SELECT 1",
        "SELECT now(), $x",
        "",
    ):
        bound = world.bind(core)
        assert bound.final is core or bound.final == core
        assert bound.planning == core
        assert bound.relations is world.relations
        assert bound.notes == ()


def test_one_call_is_one_hidden_column(world):
    bound = world.bind(
        "SELECT has_bus(image), HAS_BUS(f.image) FROM frames f WHERE has_bus(F.Image) ORDER BY mood(image)"
    )
    relation = bound.relations.tables["__aidb_frames_1"]
    assert relation.columns == ("frame_id", "cam", "ts", "image", "__has_bus_1", "__mood_1")
    assert [dict(e.columns) for e in relation.extensions] == [{"__has_bus_1": "label"}, {"__mood_1": "score"}]
    assert relation.key == ("frame_id",)
    assert '"__aidb_frames_1" f' in bound.planning
    assert bound.relations.get("frames") is world.relations.get("frames")


def test_each_item_has_its_own_relation(world):
    bound = world.bind("SELECT 1 FROM frames a, frames b WHERE has_bus(a.image) AND has_bus(b.image)")
    assert bound.relations.tables["__aidb_frames_1"].columns[-1] == "__has_bus_1"
    assert bound.relations.tables["__aidb_frames_2"].columns[-1] == "__has_bus_2"


def test_a_model_hides_a_function_of_duckdb(world):
    world.with_upper = True
    try:
        bound = world.check("SELECT upper(image) AS u, lower(upper(image)) AS l FROM frames WHERE Upper(image) > 'P'")
    finally:
        world.with_upper = False
    assert "upper" in bound.relations.tables["__aidb_frames_1"].columns[-1]


def test_names_of_results(world):
    bound = world.bind("SELECT has_bus( image ), 1 + mood(image), pose(image).lft, mood(f.image) x FROM frames f")
    assert world.answer(bound.final)[0] == ["has_bus(image)", "1 + mood(image)", "lft", "x"]
