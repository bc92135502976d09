"""Which queries fall apart by items, which don't, and what is said of those."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aidb.catalog.relations import Extension, Fill, Relation, Relations
from aidb.errors import NotSupportedError
from aidb.plan.units import Unit, Units, root_of


def fill(name: str, parent: str, keys: str, outputs: str, ordinal: str | None = None, null_safe: bool = False) -> Fill:
    names = tuple(keys.split()), tuple(outputs.split())
    return Fill(name, f"m_{name}", tuple(parent.split()), names[0], "l", f"rows_{name}", names[1], ordinal, null_safe)


BOX = fill("box", "frames", "frame_id", "x cls", "box_id")
COLOR = fill("color", "box", "frame_id box_id", "color")
MOOD = fill("mood", "frames", "frame_id", "mood")
DARK = fill("dark", "frames", "frame_id", "dark")
TAG = fill("tag", "docs", "doc_id", "tag")
PAIR = fill("pair", "frames docs", "frame_id doc_id", "score")
TONE = fill("tone", "reviews", "body", "tone", null_safe=True)
ECHO = fill("echo", "reviews", "tone", "echo", null_safe=True)
# A virtual table that gives its columns names of its own, and one over it.
SPOT = fill("spot", "frames", "frame_id", "x", "spot_id")
TINT = fill("tint", "spots", "fid sid", "tint")

TABLES = [
    Relation("frames", ("frame_id", "cam", "ts", "dark"), "b_frames", ("frame_id",), None, (Extension(DARK, {"dark": "dark"}),)),
    Relation("docs", ("doc_id", "cam"), "b_docs", ("doc_id",)),
    Relation("box", ("frame_id", "box_id", "x", "cls"), "rows_box", ("frame_id", "box_id"), BOX),
    Relation("color", ("frame_id", "box_id", "color"), "rows_color", ("frame_id", "box_id"), COLOR),
    Relation("mood", ("frame_id", "mood"), "rows_mood", ("frame_id",), MOOD),
    Relation("tag", ("doc_id", "tag"), "rows_tag", ("doc_id",), TAG),
    Relation("pair", ("frame_id", "doc_id", "score"), "rows_pair", ("frame_id", "doc_id"), PAIR),
    Relation("spots", ("fid", "sid", "frame_id"), "rows_spot", ("fid", "sid"), SPOT),
    Relation("tint", ("fid", "sid", "tint"), "rows_tint", ("fid", "sid"), TINT),
    Relation("notes", ("frame_id", "cls", "w"), "notes"),
    Relation(
        "reviews",
        ("rid", "body", "tone", "echo"),
        "b_reviews",
        (),
        None,
        (Extension(TONE, {"tone": "tone"}), Extension(ECHO, {"echo": "echo"})),
    ),
]  # fmt: skip

RELATIONS = Relations(
    {r.name: r for r in TABLES},
    {
        "vbox": "SELECT b.*, f.cam FROM box b JOIN frames f ON b.frame_id = f.frame_id",
        "vcam": "CREATE VIEW vcam (k, cam) AS SELECT frame_id, cam FROM frames",
        "vn": "SELECT cls, count(*) AS n FROM box GROUP BY cls",
    },
    frozenset({"boxes_of"}),
    frozenset({"count", "sum", "max", "min", "avg", "any_value", "list"}),
)


def units(sql: str) -> Units:
    return Units.of(sql, RELATIONS)


@pytest.mark.parametrize(
    "sql",
    [
        # joins
        "SELECT * FROM box",
        "SELECT x FROM box b JOIN color c USING (frame_id, box_id)",
        "SELECT x FROM color NATURAL JOIN box",
        "SELECT x FROM box b, color c WHERE c.frame_id = b.frame_id",
        "SELECT x FROM box b JOIN frames f ON f.frame_id = b.frame_id JOIN mood m ON m.frame_id = f.frame_id",
        "SELECT x FROM frames f LEFT JOIN box b ON b.frame_id = f.frame_id",
        "SELECT x FROM box b RIGHT JOIN frames f USING (frame_id)",
        "SELECT x FROM box b FULL JOIN mood m ON b.frame_id = m.frame_id",
        "SELECT x FROM mood m FULL JOIN box b USING (frame_id) LEFT JOIN color c USING (frame_id)",
        "SELECT x FROM frames f LEFT JOIN box b ON b.frame_id IS NOT DISTINCT FROM f.frame_id",
        "SELECT 1 FROM (SELECT frame_id FROM box RIGHT JOIN frames USING (frame_id)) t FULL JOIN mood m USING (frame_id)",
        "SELECT 1 FROM (SELECT frame_id FROM box FULL JOIN mood USING (frame_id)) t FULL JOIN color USING (frame_id)",
        "SELECT x FROM box b LEFT JOIN notes n ON n.cls = b.cls",
        "SELECT x FROM notes n RIGHT JOIN box b ON n.cls = b.cls",
        "SELECT x FROM notes n JOIN box b ON n.cls = b.cls",
        "SELECT x FROM box b SEMI JOIN mood m ON m.frame_id = b.frame_id",
        "SELECT cam FROM frames f ANTI JOIN box b ON f.frame_id = b.frame_id AND b.x > 3",
        "SELECT x FROM box b ASOF JOIN mood m ON b.frame_id = m.frame_id AND b.x >= m.mood",
        "SELECT x FROM frames f LEFT JOIN (box b JOIN color c USING (frame_id, box_id)) ON f.frame_id = b.frame_id",
        "SELECT x FROM box AS b(k, n) JOIN mood m ON m.frame_id = b.k",
        "FROM box b JOIN mood m ON b.frame_id = m.frame_id SELECT x",
        # subqueries in FROM
        "SELECT x FROM (SELECT x FROM box)",
        "SELECT n FROM (SELECT count(*) AS n FROM box GROUP BY frame_id)",
        "SELECT n FROM (SELECT frame_id, count(*) AS n FROM box GROUP BY ALL) t JOIN mood m USING (frame_id)",
        "SELECT n FROM (SELECT DISTINCT frame_id, cls AS n FROM box)",
        "SELECT n FROM (SELECT count(*) OVER (PARTITION BY frame_id) AS n FROM box)",
        "SELECT n FROM (SELECT count(*) OVER w AS n FROM box WINDOW w AS (PARTITION BY frame_id))",
        "SELECT t.k FROM (SELECT frame_id AS k FROM frames) t LEFT JOIN box b ON b.frame_id = t.k",
        "SELECT t.k FROM vcam t LEFT JOIN box b ON b.frame_id = t.k",
        "SELECT cam FROM vbox JOIN color USING (frame_id)",
        "WITH c AS (SELECT * FROM box) SELECT 1 FROM c a JOIN c b ON a.frame_id = b.frame_id",
        "WITH c AS (SELECT * FROM box LIMIT 3) SELECT mood FROM mood",
        "WITH box AS (SELECT 1 AS z) SELECT mood FROM mood, box",
        "WITH box AS (SELECT 1 AS z) SELECT cam FROM vbox JOIN color USING (frame_id), box",
        "SELECT v FROM frames f, LATERAL (SELECT max(x) AS v FROM box b WHERE b.frame_id = f.frame_id)",
        # subqueries in expressions
        "SELECT cam FROM frames f WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = f.frame_id)",
        "SELECT cam FROM frames f WHERE NOT EXISTS (SELECT 1 FROM box b JOIN color c USING (frame_id, box_id) "
        "WHERE b.frame_id = f.frame_id LIMIT 1)",
        "SELECT cam, (SELECT count(*) FROM box b WHERE b.frame_id = f.frame_id) AS n FROM frames f",
        "SELECT cam FROM frames WHERE frame_id IN (SELECT frame_id FROM box)",
        "SELECT cam FROM frames WHERE frame_id NOT IN (SELECT frame_id FROM box UNION ALL SELECT frame_id FROM mood)",
        "SELECT cam FROM frames WHERE frame_id = ANY (SELECT frame_id FROM box)",
        "SELECT cam FROM frames f "
        "WHERE EXISTS (SELECT 1 FROM notes s LEFT JOIN box b ON b.cls = s.cls AND b.frame_id = f.frame_id)",
        "SELECT x FROM box WHERE x > (SELECT max(w) FROM notes)",
        # a stored table whose rows need not name an item, where only those count that do
        "SELECT w FROM notes n WHERE n.frame_id IN (SELECT frame_id FROM box)",
        "SELECT w FROM notes n WHERE EXISTS (SELECT 1 FROM box b WHERE b.frame_id = n.frame_id) "
        "AND NOT EXISTS (SELECT 1 FROM mood m WHERE m.frame_id = n.frame_id)",
        "SELECT w FROM notes n LEFT JOIN mood m ON m.frame_id = n.frame_id WHERE n.frame_id = ANY (SELECT frame_id FROM box)",
        "SELECT w FROM notes n JOIN box b ON b.frame_id = n.frame_id LEFT JOIN mood m ON m.frame_id = n.frame_id",
        "SELECT count(*) OVER (PARTITION BY n.frame_id) FROM notes n JOIN box b ON b.frame_id = n.frame_id",
        "SELECT (SELECT max(x) FROM box b WHERE b.frame_id = n.frame_id) FROM notes n JOIN mood m USING (frame_id)",
        "SELECT cam FROM frames f WHERE cam IN (SELECT frame_id FROM box)",
        # set operations
        "SELECT frame_id FROM box UNION ALL SELECT frame_id FROM mood",
        "SELECT x FROM box UNION SELECT mood FROM mood ORDER BY x LIMIT 3",
        "SELECT 1 FROM (SELECT frame_id, x FROM box EXCEPT SELECT frame_id, w FROM notes)",
        "SELECT 1 FROM (SELECT frame_id FROM frames UNION ALL SELECT frame_id FROM box)",
        "WITH c AS (SELECT x FROM box) SELECT x FROM c UNION ALL SELECT x + 1 FROM c",
        # what stands above FROM at the top is somebody else's business
        "SELECT cls, count(*) FROM box GROUP BY cls",
        "SELECT DISTINCT cls FROM box ORDER BY cls LIMIT 3",
        "SELECT main.box.x FROM main.box",
    ],
)  # fmt: skip
def test_accepted(sql: str) -> None:
    assert units(sql).unit == Unit("frames", ("frame_id",), False)


REFUSED = [
    # joins
    ("SELECT 1 FROM box a, box b WHERE a.x < b.x", "b is not tied to a by the key: add a.frame_id = b.frame_id"),
    ("SELECT 1 FROM box a JOIN box b ON a.frame_id = b.frame_id OR a.x = b.x", "b is not tied to a"),
    ("SELECT 1 FROM box a JOIN box b ON NOT (a.frame_id = b.frame_id)", "b is not tied to a"),
    ("SELECT 1 FROM box a JOIN box b ON a.box_id = b.box_id", "b is not tied to a"),
    ("SELECT 1 FROM box a JOIN color b USING (box_id)", "b is not tied to a"),
    ("SELECT 1 FROM notes n LEFT JOIN box b ON b.frame_id = n.frame_id", "n, which has no such column: join frames"),
    ("SELECT 1 FROM notes n FULL JOIN box b ON b.frame_id = n.frame_id", "n, which has no such column: join frames"),
    ("SELECT 1 FROM frames f LEFT JOIN box b ON b.x = f.cam", "b is not tied to f by the key: add f.frame_id = b.frame_id"),
    ("SELECT 1 FROM notes n LEFT JOIN frames f ON f.cam = n.w LEFT JOIN box b ON b.frame_id = f.frame_id", "f is not tied"),
    ("SELECT 1 FROM frames f ANTI JOIN box b ON f.cam = b.x", "b is not tied to f"),
    ("SELECT 1 FROM notes n ANTI JOIN box b ON n.frame_id = b.frame_id", "n, which has no such column"),
    ("SELECT 1 FROM box b RIGHT JOIN notes n ON b.cls = n.cls", "n, which has no such column"),
    (
        "SELECT 1 FROM frames f LEFT JOIN box b USING (frame_id) JOIN mood m ON m.frame_id IS NOT DISTINCT FROM b.frame_id",
        "m is not tied to b",
    ),
    (
        "SELECT 1 FROM frames f LEFT JOIN box b USING (frame_id) LEFT JOIN mood m ON m.frame_id IS NOT DISTINCT FROM b.frame_id",
        "m is not tied to",
    ),
    ("SELECT 1 FROM box POSITIONAL JOIN notes", "looks at all rows at once"),
    (
        "SELECT 1 FROM box b JOIN (SELECT x AS frame_id FROM box) c USING (frame_id)",
        "c does not show the key frame_id: select it",
    ),
    # a name that is not what it seems
    (
        "SELECT 1 FROM (SELECT n.frame_id, b.frame_id FROM notes n JOIN box b ON n.cls = b.cls) t JOIN mood m USING (frame_id)",
        "t does not show the key frame_id: select it there",
    ),
    (
        "SELECT 1 FROM (SELECT b.frame_id FROM frames f LEFT JOIN box b USING (frame_id)) t FULL JOIN mood m USING (frame_id)",
        "t does not show the key",
    ),
    ("SELECT count(*) OVER (PARTITION BY b.frame_id) FROM frames f LEFT JOIN box b USING (frame_id)", "PARTITION BY frame_id"),
    ("SELECT x AS frame_id FROM box QUALIFY count(*) OVER (PARTITION BY frame_id) > 1", "PARTITION BY frame_id"),
    ("SELECT 1 FROM spots s JOIN mood m ON s.frame_id = m.frame_id", "m is not tied to s by the key: add s.fid = m.frame_id"),
    # subqueries in FROM
    ("SELECT 1 FROM (SELECT frame_id FROM box LIMIT 3)", "LIMIT in a subquery depends on all items at once"),
    ("SELECT n FROM (SELECT count(*) AS n FROM box)", "an aggregate in a subquery depends on all items at once"),
    ("SELECT n FROM (SELECT cls, count(*) AS n FROM box GROUP BY cls)", "its GROUP BY lacks the key frame_id, and mixes items"),
    ("SELECT n FROM vn", "its GROUP BY lacks the key frame_id"),
    ("SELECT n FROM (SELECT frame_id, count(*) AS n FROM box GROUP BY ROLLUP (frame_id))", "grouping sets mix items"),
    ("SELECT 1 FROM (SELECT DISTINCT cls FROM box)", "DISTINCT in a subquery mixes items: select the key frame_id"),
    ("SELECT 1 FROM (SELECT DISTINCT ON (cls) frame_id FROM box)", "DISTINCT ON chooses among all items: name the key"),
    ("SELECT 1 FROM (SELECT rank() OVER (ORDER BY x) FROM box)", "a window reaches over items: PARTITION BY frame_id there"),
    ("SELECT 1 FROM (SELECT cls FROM box UNION SELECT mood FROM mood)", "UNION mixes items: select the key frame_id"),
    ("SELECT 1 FROM (SELECT frame_id, x FROM box EXCEPT SELECT box_id, frame_id FROM color)", "EXCEPT mixes items"),
    ("SELECT 1 FROM (SELECT frame_id, w FROM notes EXCEPT SELECT frame_id, x FROM box)", "the other has rows of no item"),
    (
        "SELECT 1 FROM (SELECT a.frame_id AS i, b.frame_id AS j FROM frames a, frames b) t JOIN box x ON x.frame_id = t.i "
        "JOIN mood m ON m.frame_id = t.j",
        "m is not tied to x",
    ),
    ("SELECT 1 FROM (SELECT w FROM notes UNION ALL SELECT x FROM box)", "the other has rows of no item"),
    ("WITH RECURSIVE r AS (SELECT frame_id FROM box UNION SELECT frame_id + 1 FROM r) SELECT 1 FROM r", "r is recursive"),
    ("SELECT 1 FROM (PIVOT box ON cls USING count(*))", "reads models in a way that can't be split"),
    ("SELECT 1 FROM box TABLESAMPLE 10%", "gives something else each time"),
    # subqueries in expressions
    (
        "SELECT 1 FROM frames WHERE EXISTS (SELECT 1 FROM box)",
        "the subquery (SELECT 1 FROM box) is not tied to the row around it by the key frame_id",
    ),
    ("SELECT 1 FROM frames f WHERE cam > (SELECT avg(x) FROM box)", "an aggregate in a subquery depends on all items"),
    ("SELECT 1 FROM frames f WHERE cam NOT IN (SELECT frame_id FROM box)", "is not tied to the row around it"),
    ("SELECT 1 FROM frames f WHERE frame_id IN (SELECT x FROM box)", "is not tied to the row around it"),
    (
        "SELECT 1 FROM frames f LEFT JOIN mood m USING (frame_id) WHERE m.frame_id NOT IN (SELECT frame_id FROM box)",
        "is not tied to the row around it",
    ),
    ("SELECT 1 FROM frames f WHERE (frame_id, cam) NOT IN (SELECT frame_id, x FROM box)", "is not tied to the row around it"),
    (
        "SELECT 1 FROM frames f WHERE EXISTS (SELECT 1 FROM notes n LEFT JOIN box b ON b.x = n.w WHERE n.frame_id = f.frame_id)",
        "n, which has no such column",
    ),
    (
        "SELECT 1 FROM frames f WHERE EXISTS (SELECT 1 FROM notes frame_id, box b WHERE b.frame_id = frame_id.cls)",
        "is not tied",
    ),
    # a stored table whose rows need not name an item
    ("SELECT 1 FROM notes n WHERE n.frame_id NOT IN (SELECT frame_id FROM box)", "is not tied to the row around it"),
    (
        "SELECT 1 FROM notes n WHERE NOT EXISTS (SELECT 1 FROM box b WHERE b.frame_id = n.frame_id)",
        "n is not tied by the key frame_id",
    ),
    (
        "SELECT 1 FROM notes n WHERE EXISTS (SELECT count(*) FROM box b WHERE b.frame_id = n.frame_id)",
        "n is not tied by the key frame_id",
    ),
    (
        "SELECT 1 FROM notes n WHERE EXISTS (SELECT 1 FROM notes s LEFT JOIN box b ON b.frame_id = n.frame_id)",
        "n is not tied by the key frame_id",
    ),
    ("SELECT (SELECT max(x) FROM box b WHERE b.frame_id = n.frame_id) FROM notes n", "n is not tied by the key frame_id"),
    (
        "SELECT 1 FROM notes n LEFT JOIN box b ON b.frame_id = n.frame_id LEFT JOIN mood m ON m.frame_id = n.frame_id",
        "b is not tied by the key frame_id to n",
    ),
    # what is sampled
    ("SELECT 1 FROM pair", "m_pair sees pairs of frames and docs"),
    ("SELECT 1 FROM box, tag", "asks models about docs and frames"),
    ("SELECT cam FROM docs", "asks no model for anything"),
    ("SELECT cam FROM frames", "asks no model for anything"),
    # what changes by itself, or may read anything
    ("SELECT 1 FROM box WHERE random() < 0.5", "gives something else each time"),
    ("SELECT boxes_of(frame_id) FROM box", "the macro boxes_of may read anything"),
    ("SELECT DISTINCT ON (cls) x FROM box", "DISTINCT ON chooses among all items"),
    ("SELECT x FROM box UNION ALL SELECT mood FROM mood ORDER BY x + 1", "name a column of its result"),
    ("SELECT FROM WHERE", "could not be analysed"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "words"), REFUSED)
def test_refused_and_why(sql: str, words: str) -> None:
    with pytest.raises(NotSupportedError) as caught:
        units(sql)
    assert words in str(caught.value)
    assert "guarantee" in str(caught.value)


def test_a_table_whose_virtual_columns_nobody_reads_asks_no_model() -> None:
    found = units("SELECT b.x FROM box b JOIN frames f ON f.frame_id = b.frame_id AND f.cam > 1")
    assert [n.name for n, _ in found.restricted] == ["box"]
    found = units("SELECT b.x FROM box b JOIN frames f ON f.frame_id = b.frame_id AND f.dark > 1")
    assert [n.name for n, _ in found.restricted] == ["box", "frames"]


def test_what_an_outer_join_keeps_is_restricted_though_no_model_changes_it() -> None:
    found = units("SELECT 1 FROM (SELECT frame_id AS k FROM frames) t LEFT JOIN box b ON b.frame_id = t.k")
    assert [(n.alias_or_name, k) for n, k in found.restricted] == [("t", ("k",)), ("b", ("frame_id",))]


def test_columns_with_names_of_their_own_hold_the_key_by_their_place() -> None:
    found = units("SELECT 1 FROM tint t JOIN spots s ON t.fid = s.fid JOIN frames f ON f.frame_id = s.fid")
    assert [k for _, k in found.restricted] == [("fid",), ("fid",)]


def test_the_unit_of_a_plain_table_is_what_its_models_see() -> None:
    assert units("SELECT rid FROM reviews WHERE tone = 'good'").unit == Unit("reviews", ("body",), True)
    assert units("SELECT rid, echo FROM reviews").unit == Unit("reviews", ("body",), True)
    assert root_of(ECHO, RELATIONS) == ("reviews", ("body",), True)


def test_no_key_of_a_plain_table_is_compared_where_an_unknown_may_hide() -> None:
    assert units("SELECT 1 FROM reviews a WHERE body IN (SELECT body FROM reviews b WHERE b.tone = 1) AND a.rid > 1")
    with pytest.raises(NotSupportedError, match="is not tied"):
        units("SELECT 1 FROM reviews a WHERE body NOT IN (SELECT body FROM reviews b WHERE b.tone = 1)")


def test_a_key_of_two_columns_is_tied_by_both() -> None:
    spot = fill("spot", "clips", "cam at", "x")
    tables = [
        Relation("clips", ("cam", "at", "note"), "b_clips", ("cam", "at")),
        Relation("spot", ("cam", "at", "x"), "rows_spot", ("cam", "at"), spot),
    ]
    relations = replace(RELATIONS, tables={r.name: r for r in tables})
    both = "SELECT 1 FROM clips c LEFT JOIN spot s ON s.cam = c.cam AND c.at = s.at"
    assert Units.of(both, relations).unit == Unit("clips", ("cam", "at"), False)
    assert Units.of("SELECT 1 FROM clips WHERE (at, cam) IN (SELECT at, cam FROM spot)", relations)
    for one in ("s.cam = c.cam", "s.cam = c.at AND s.at = c.cam", "s.cam = c.cam AND s.cam = c.cam"):
        with pytest.raises(NotSupportedError, match=r"add c.cam = s.cam AND c.at = s.at"):
            Units.of(f"SELECT 1 FROM clips c LEFT JOIN spot s ON {one}", relations)
