"""What `Units` accepts falls apart by units. ``python -m tests.plan.partition`` tries as many statements as you like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from aidb.plan.parts import Parts
from aidb.plan.units import Units
from aidb.sql.render import quoted, relation_sql
from tests.plan.partition import run
from tests.sql.bind_world import World as BindWorld


@pytest.mark.parametrize("seed", [301, 302])
def test_the_parts_of_random_statements_make_up_their_answer(seed: int) -> None:
    summary = run(35, seed)
    counts = summary.counts
    assert not summary.problems, "\n".join(summary.problems)
    assert summary.refused < 0.45, summary.reasons
    assert min(counts[k] for k in ("rows", "shares", "planned", "portions")) > 2, counts
    assert counts["undetermined"] <= 0.03 * counts["accepted"], counts


@pytest.fixture(scope="module")
def bound() -> Iterator[BindWorld]:
    world = BindWorld()
    yield world
    world.con.close()


@pytest.mark.parametrize(
    "core",
    [
        "SELECT frame_id, ts FROM frames WHERE has_bus(image)",
        "SELECT f.cam, mood(f.image) AS m FROM frames f JOIN plain p ON p.frame_id = f.frame_id",
        "SELECT frame_id FROM frames f, yolo(f.image) AS b WHERE b.xmin > 3",
        "SELECT f.cam, y.label FROM frames f LEFT JOIN yolo(f.image) y ON y.xmin > 50",
        "SELECT box_id FROM box WHERE xmin > 50 AND frame_id IN (SELECT frame_id FROM frames WHERE has_bus(image))",
        "SELECT b.label FROM box b JOIN frames f USING (frame_id) WHERE mood(f.image) > 2",
        "SELECT id, has_bus(body) AS h FROM reviews WHERE stars > 1",
        "SELECT r.id FROM reviews r WHERE has_bus(r.body) IS NOT TRUE",
        "SELECT id FROM recent WHERE has_bus(image)",
        'SELECT "the key" FROM "odd ""name" WHERE has_bus("the picture")',
        "SELECT frame_id FROM frames WHERE has_bus(image) UNION SELECT frame_id FROM box WHERE label = 'bus'",
        "SELECT n FROM (SELECT count(*) AS n FROM frames f, yolo(f.image) GROUP BY frame_id)",
    ],
)
def test_models_called_as_functions(bound: BindWorld, core: str) -> None:
    made = bound.bind(core)
    for name, relation in made.relations.tables.items():
        if name.startswith("__"):
            bound.con.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {relation_sql(relation)}")
    units = Units.of(made.planning, made.relations)
    parts = Parts(units, made.relations.aggregates)
    base = made.relations.tables[units.unit.table].base
    keys = ", ".join(f"{quoted(k)} AS __k{n}" for n, k in enumerate(units.unit.keys))
    together: Counter[str] = Counter()
    for n in range(3):
        bound.con.execute(
            f"CREATE OR REPLACE TEMP TABLE batch AS SELECT * FROM (SELECT DISTINCT {keys} FROM {base}) WHERE hash(__k0) % 3 = {n}"
        )
        found = bound.answer(parts.rows(only="batch"))[1]
        bound.con.execute(
            f"CREATE OR REPLACE TEMP TABLE rest AS SELECT * FROM (SELECT DISTINCT {keys} FROM {base}) WHERE hash(__k0) % 3 != {n}"
        )
        assert bound.answer(parts.rows(without="rest"))[1] == found
        together += found
    whole = bound.answer(made.final)[1]
    if parts.is_distinct:
        together = Counter(set(together))
    assert together == whole
    assert sum(whole.values()) > 1
