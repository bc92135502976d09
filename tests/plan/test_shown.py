"""The columns that views and derived tables show: told where they can be, and used to prune joins by USING."""

from __future__ import annotations

from random import Random

import pytest

from aidb.catalog.relations import Relation, Relations
from aidb.plan.nodes import parse
from aidb.plan.scopes import Cte
from aidb.plan.shown import shown_columns
from tests.plan.harness import Spec, World, multiset

TABLES = Relations(
    {"t": Relation("t", ("id", "a"), '"t"'), "u": Relation("u", ("ID", "b"), '"u"')},
    views={"v": "SELECT * FROM t WHERE a > 1", "named": "CREATE VIEW named(x) AS SELECT * FROM t"},
)


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT * FROM t", "id a"),
        ("SELECT a AS c, * FROM t", "c id a"),
        ("SELECT p.*, b FROM t p JOIN u ON p.id = u.id", "id a b"),
        ("SELECT * FROM t JOIN u USING (id)", "id a b"),
        ("SELECT * FROM t LEFT JOIN u USING (Id)", "id a b"),
        ("SELECT * FROM v", "id a"),
        ("SELECT * FROM named", "x a"),
        ("SELECT * FROM t AS p(k)", "k a"),
        ("SELECT * FROM (SELECT * FROM t) AS p(k, l)", "k l"),
        ("WITH c AS (SELECT * FROM t) SELECT * FROM c", "id a"),
        ("WITH c(q) AS (SELECT * FROM t) SELECT * FROM c", "q a"),
        ("SELECT * FROM t UNION ALL SELECT * FROM u", "id a"),
        ("SELECT * FROM t, u", None),  # two columns of one name
        ("SELECT * FROM t NATURAL JOIN u", None),
        ("SELECT * FROM t UNION BY NAME SELECT * FROM u", None),
        ("SELECT * EXCLUDE (a) FROM t", None),
        ("SELECT COLUMNS(*) FROM t", None),
        ("SELECT a + 1 FROM t", None),
        ("SELECT * FROM unheard_of", None),
        ("SELECT * FROM outer_cte", None),
        ("SELECT * FROM read_csv('x.csv')", None),
        ("SELECT * FROM t SEMI JOIN u USING (id)", None),
        ("SELECT u.* FROM t JOIN u USING (id)", None),
        ("WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c) SELECT * FROM c", None),
    ],
)
def test_columns_shown(sql: str, names: str | None) -> None:
    shown = shown_columns(parse(sql), {"outer_cte": Cte(None, {})}, TABLES)
    assert shown == (None if names is None else tuple(names.split()))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM box JOIN early USING (frame_id)",
        "SELECT * FROM box JOIN (SELECT * FROM frames WHERE frame_id < 5) e USING (frame_id)",
        "WITH e AS (SELECT * FROM frames WHERE frame_id < 5) SELECT * FROM box JOIN e USING (frame_id)",
        "SELECT * FROM box WHERE frame_id IN (SELECT frame_id FROM early)",
        "SELECT * FROM box b WHERE EXISTS (SELECT 1 FROM early e WHERE e.frame_id = b.frame_id AND cam = 1 OR cam <> 1)",
    ],
)
def test_a_view_prunes_as_its_tables_do(sql: str) -> None:
    spec, rng = Spec(), Random(8)
    spec.store("frames", "frame_id cam", [(n, n % 2) for n in range(50)])
    spec.table("box", "frames", "frame_id", "x", [(n, 0, rng.randrange(9)) for n in range(50)], many=True)
    spec.views["early"] = "SELECT * FROM frames WHERE frame_id < 5"
    world = World(spec)
    rows, plan = world.lazy(sql)
    assert plan.fallback is None
    assert multiset(rows) == multiset(world.eager(sql))
    if "OR cam" not in sql:
        assert world.calls == {"box": 5}
