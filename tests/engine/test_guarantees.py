"""Guarantee clauses in SQL: rows and numbers are right, calls are as few as said, and what can't be promised is said."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aidb
from aidb.spi import ItemError
from aidb.testing import FakeModel

N = 4000
RNG = np.random.default_rng(5)
SCORE = RNG.beta(0.2, 1.2, N).round(6)
HIT = RNG.random(N) < SCORE
BOXES = np.where(HIT, 1 + RNG.poisson(1.0, N), 0)
TRUE_IDS = {int(i) for i in np.flatnonzero(HIT)}


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.execute("CREATE TABLE source (id BIGINT, score DOUBLE, file VARCHAR, hits INTEGER)")
        con.execute(
            "INSERT INTO source SELECT unnest($i), unnest($s), 'f' || (unnest($i) % 4), unnest($h)",
            {"i": list(range(N)), "s": SCORE.tolist(), "h": BOXES.tolist()},
        )
        con.execute("CREATE BLOB TABLE items AS SELECT * FROM source KEY (id)")
        yield con


@pytest.fixture
def oracle(con: aidb.Connection) -> FakeModel:
    """A Boolean of an item, ``hit``."""
    model = FakeModel("oracle", {"hit": "BOOLEAN"}, lambda hits: hits > 0)
    con.register(model)
    con.execute("ALTER TABLE items ADD VIRTUAL COLUMN hit AS oracle(hits)")
    return model


@pytest.fixture
def boxes(con: aidb.Connection) -> FakeModel:
    """Rows of an item, ``box``, each with a class and a size."""
    model = FakeModel(
        "detect",
        {"class": "VARCHAR", "size": "DOUBLE"},
        lambda hits: [("bus" if n == 0 else "car", float(n + 1)) for n in range(hits)],
        rows="many",
    )
    con.register(model)
    con.execute("CREATE VIRTUAL TABLE box AS detect(items.hits)")
    return model


RECALL = "RECALL TARGET 90% WITH PROBABILITY 95% USING PROXY score SEED 1"


def test_a_verified_answer_has_true_rows_only_and_enough_of_them(con: aidb.Connection, oracle: FakeModel) -> None:
    cur = con.execute(f"SELECT id, hit FROM items WHERE hit {RECALL}")
    rows = cur.fetchall()
    assert {r[0] for r in rows} <= TRUE_IDS
    assert len(rows) >= 0.9 * len(TRUE_IDS)
    assert all(r[1] is True and r[2] is True for r in rows)
    assert [d[0] for d in cur.description or ()] == ["id", "hit", "_verified"]
    report = cur.report
    assert report.target == {"recall": 0.9}
    assert report.probability == 0.95
    assert report.mode in ("exact", "guaranteed")
    assert report.seed == 1
    assert report.proxy == "score"
    assert report.calls == {"oracle": oracle.items}
    assert report.oracle_calls == oracle.items < N


def test_an_unverified_answer_keeps_to_its_budget_and_says_which_rows_were_checked(
    con: aidb.Connection, oracle: FakeModel
) -> None:
    cur = con.execute(f"SELECT id FROM items WHERE hit ORACLE LIMIT 600 {RECALL}")
    rows = cur.fetchall()
    found = {r[0] for r in rows}
    assert oracle.items <= 600
    assert cur.report.oracle_calls == oracle.items
    assert len(found & TRUE_IDS) >= 0.9 * len(TRUE_IDS)
    assert {r[0] for r in rows if r[1]} <= TRUE_IDS
    assert any(not r[1] for r in rows)
    assert cur.report.mode in ("guaranteed", "asymptotic")
    assert len(rows) == len(found)


def test_a_limit_cuts_what_the_targets_count(con: aidb.Connection, oracle: FakeModel) -> None:
    cur = con.execute(f"SELECT id FROM items WHERE hit ORACLE LIMIT 600 {RECALL} LIMIT 5")
    assert len(cur.fetchall()) == 5
    assert "LIMIT and OFFSET cut the answer: the targets count the rows before the cut" in cur.report.notes


def test_nothing_is_left_behind_but_the_answer(con: aidb.Connection, oracle: FakeModel) -> None:
    before = con.execute("SHOW TABLES").fetchall()
    con.execute(f"EXPLAIN SELECT id FROM items WHERE hit {RECALL}")
    assert con.execute("SHOW TABLES").fetchall() == before
    assert con.execute(f"SELECT id FROM items WHERE hit ORACLE LIMIT 600 {RECALL}").fetchall()
    assert con.execute("SHOW TABLES").fetchall() == before


def test_rows_of_boxes_are_chosen_by_their_item(con: aidb.Connection, boxes: FakeModel) -> None:
    cur = con.execute(f"SELECT id, size FROM box WHERE class = 'bus' {RECALL}")
    rows = cur.fetchall()
    assert {r[0] for r in rows} <= TRUE_IDS
    assert len(rows) >= 0.9 * len(TRUE_IDS)
    assert all(r[1] == 1.0 for r in rows)
    assert cur.report.oracle_calls == boxes.items
    unverified = con.execute(f"SELECT id FROM box WHERE class = 'bus' ORACLE LIMIT 500 {RECALL}").fetchall()
    assert len({r[0] for r in unverified} & TRUE_IDS) >= 0.9 * len(TRUE_IDS)


def test_a_join_and_a_filter_on_what_is_stored_shrink_the_population(con: aidb.Connection, boxes: FakeModel) -> None:
    con.execute("CREATE TABLE meta AS SELECT 'f' || range AS file, range AS camera FROM range(4)")
    where = "JOIN items i ON b.id = i.id JOIN meta m ON i.file = m.file WHERE b.class = 'car' AND m.camera = 1 AND i.id < 2000"
    cur = con.execute(f"SELECT b.id, m.camera FROM box b {where} {RECALL}")
    truth = {i for i in range(2000) if i % 4 == 1 and BOXES[i] > 1}
    found = {r[0] for r in cur.fetchall()}
    assert found <= truth
    assert len(found) >= 0.9 * len(truth)
    assert boxes.items <= 500


def test_what_is_known_is_free_and_counts(con: aidb.Connection, oracle: FakeModel) -> None:
    con.execute("SELECT count(*) FROM items WHERE hit AND id < 3000").fetchall()
    before = oracle.items
    cur = con.execute(f"SELECT id FROM items WHERE hit {RECALL}")
    found = {r[0] for r in cur.fetchall()}
    assert {i for i in TRUE_IDS if i < 3000} <= found <= TRUE_IDS
    assert len(found) >= 0.9 * len(TRUE_IDS)
    assert oracle.items - before == cur.report.oracle_calls <= 1000


def test_everything_known_is_answered_exactly_for_nothing(con: aidb.Connection, oracle: FakeModel) -> None:
    con.execute("SELECT count(*) FROM items WHERE hit").fetchall()
    cur = con.execute(f"SELECT id FROM items WHERE hit {RECALL}")
    assert {r[0] for r in cur.fetchall()} == TRUE_IDS
    assert (cur.report.mode, cur.report.oracle_calls) == ("exact", 0)
    cur = con.execute("SELECT count(*) AS n FROM items WHERE hit ERROR TARGET 5%")
    assert cur.fetchall() == [(len(TRUE_IDS),)]
    assert (cur.report.mode, cur.report.oracle_calls) == ("exact", 0)


@pytest.mark.parametrize("target", ["PRECISION TARGET 90%", "RECALL 80% PRECISION 80%"])
def test_precision_and_joint_targets(con: aidb.Connection, oracle: FakeModel, target: str) -> None:
    limit = "ORACLE LIMIT 800" if "RECALL" not in target else ""
    cur = con.execute(f"SELECT id FROM items WHERE hit {limit} USING PROXY score {target} SEED 3")
    found = {r[0] for r in cur.fetchall()}
    wanted = cur.report.target or {}
    assert len(found & TRUE_IDS) >= wanted["precision"] * len(found)
    assert len(found & TRUE_IDS) >= wanted.get("recall", 0) * len(TRUE_IDS)
    assert cur.report.oracle_calls == oracle.items < N


def test_count_sum_and_average_come_with_intervals(con: aidb.Connection, boxes: FakeModel) -> None:
    cur = con.execute(
        "SELECT count(*) AS n, sum(size) AS s, avg(size) FROM box WHERE class = 'car' OR size > 0 "
        "ERROR TARGET 10% WITH PROBABILITY 95% USING PROXY score SEED 2"
    )
    [row] = cur.fetchall()
    sizes = [n + 1.0 for b in BOXES for n in range(b)]
    truth = {"n": len(sizes), "s": sum(sizes), "avg(size)": sum(sizes) / len(sizes)}
    assert [d[0] for d in cur.description or ()] == list(truth)
    for value, (name, right) in zip(row, truth.items(), strict=True):
        low, high = cur.report.intervals[name]
        assert low <= value <= high
        assert low <= right <= high
        assert abs(value - right) <= 0.1 * right
    assert cur.report.target == {"error": 0.1}
    assert cur.report.oracle_calls == boxes.items < N


def test_groups_that_nobody_named(con: aidb.Connection, boxes: FakeModel) -> None:
    cur = con.execute(
        "SELECT file, count(*) AS n FROM box JOIN items USING (id) WHERE class = 'bus' GROUP BY file ORDER BY file "
        "ERROR TARGET 20% SEED 2 USING PROXY score"
    )
    rows = cur.fetchall()
    assert [r[0] for r in rows] == ["f0", "f1", "f2", "f3"]
    for file, value in rows:
        right = sum(1 for i in TRUE_IDS if f"f{i % 4}" == file)
        low, high = cur.report.intervals["n"][file]
        assert low <= right <= high
        assert abs(value - right) <= 0.2 * right


def test_limit_by_search_gives_true_rows_and_stops(con: aidb.Connection, oracle: FakeModel) -> None:
    cur = con.execute("SELECT id FROM items WHERE hit LIMIT 5 USING PROXY score SEED 1")
    rows = cur.fetchall()
    assert len(rows) == 5
    assert {r[0] for r in rows} <= TRUE_IDS
    assert oracle.items <= 20


def test_limit_with_a_gap_keeps_rows_apart_within_a_file(con: aidb.Connection, boxes: FakeModel) -> None:
    cur = con.execute("SELECT id, file FROM box JOIN items USING (id) WHERE class = 'bus' LIMIT 12 GAP 400 ROWS SEED 4")
    rows = cur.fetchall()
    assert len(rows) == 12
    assert {r[0] for r in rows} <= TRUE_IDS
    for file in {r[1] for r in rows}:
        ids = sorted(r[0] for r in rows if r[1] == file)
        assert all(b - a > 400 for a, b in itertools.pairwise(ids))
    again = con.execute("SELECT id FROM box WHERE class = 'bus' LIMIT 3 GAP 400 ROWS")
    assert len(again.fetchall()) == 3
    assert again.report.oracle_calls == 0


def test_failed_items_are_named_and_never_taken_for_negatives(con: aidb.Connection) -> None:
    def judge(hits: int) -> bool:
        if hits == 1:
            raise ItemError("one is beyond me")
        return hits > 0

    model = FakeModel("judge", {"hit": "BOOLEAN"}, judge)
    con.register(model)
    con.execute("SET aidb.max_error_ratio = 1")
    con.execute("ALTER TABLE items ADD VIRTUAL COLUMN hit AS judge(hits)")
    cur = con.execute("SELECT count(*) AS n FROM items WHERE hit ERROR TARGET 10% SEED 1")
    cur.fetchall()
    low, high = cur.report.intervals["n"]
    certain = int((BOXES > 1).sum())
    assert cur.report.failed > 0
    assert low <= certain
    assert high >= certain + 0.5 * (BOXES == 1).sum()
    chosen = con.execute("SELECT id FROM items WHERE hit RECALL TARGET 90% USING PROXY score SEED 1")
    assert {r[0] for r in chosen.fetchall()} <= {int(i) for i in np.flatnonzero(BOXES > 1)}
    assert chosen.report.failed > 0
    assert any("failed" in note for note in chosen.report.notes)


def test_a_budget_of_money(con: aidb.Connection) -> None:
    model = FakeModel("priced", {"hit": "BOOLEAN"}, lambda hits: hits > 0, price_per_call=0.01)
    con.register(model)
    con.execute("ALTER TABLE items ADD VIRTUAL COLUMN hit AS priced(hits)")
    cur = con.execute("SELECT id FROM items WHERE hit BUDGET 5 USD USING PROXY score RECALL TARGET 90% SEED 1")
    cur.fetchall()
    assert model.items <= 500
    assert math.isclose(cur.report.cost, model.items * 0.01)
    assert cur.report.cost <= 5


@pytest.mark.parametrize(
    ("proxy", "sql"),
    [("constant", "1.0"), ("null", "CAST(NULL AS DOUBLE)"), ("nan", "'nan'::DOUBLE"), ("reversed", "1 - s.score")],
)
def test_a_useless_proxy_costs_calls_and_never_the_guarantee(con: aidb.Connection, proxy: str, sql: str) -> None:
    con.execute(f"CREATE TABLE other AS SELECT s.id, s.hits, {sql} AS p FROM source s")
    con.execute("CREATE BLOB TABLE again AS SELECT * FROM other KEY (id)")
    model = FakeModel("oracle", {"hit": "BOOLEAN"}, lambda hits: hits > 0)
    con.register(model)
    con.execute("ALTER TABLE again ADD VIRTUAL COLUMN hit AS oracle(hits)")
    cur = con.execute("SELECT id FROM again WHERE hit RECALL TARGET 90% USING PROXY p SEED 7")
    found = {r[0] for r in cur.fetchall()}
    assert found <= TRUE_IDS
    assert len(found) >= 0.9 * len(TRUE_IDS)


@pytest.mark.parametrize("limit", [1, 5, N, 10 * N])
@pytest.mark.parametrize("matching", ["all", "none", "some"])
def test_any_budget_on_any_table(con: aidb.Connection, oracle: FakeModel, limit: int, matching: str) -> None:
    ids = {"all": TRUE_IDS, "none": set(range(N)) - TRUE_IDS, "some": range(N)}[matching]
    con.execute("CREATE TABLE chosen (id BIGINT)")
    con.execute("INSERT INTO chosen SELECT unnest($i)", {"i": sorted(i for i in ids if i < 300)})
    sql = (
        "SELECT id FROM items WHERE hit AND id IN (FROM chosen) RECALL TARGET 90% USING PROXY 300 * score - 100 SEED 1"
    )
    cur = con.execute(
        sql.replace("USING PROXY 300 * score - 100", f"USING PROXY (300 * score - 100) ORACLE LIMIT {limit}")
    )
    found = {r[0] for r in cur.fetchall()}
    truth = {i for i in ids if i < 300} & TRUE_IDS
    assert len(found & truth) >= 0.9 * len(truth)
    assert oracle.items <= limit
    assert (cur.report.mode == "exact") == (limit >= N)


@pytest.mark.parametrize("limit", [10, 300])
def test_a_limit_holds_for_a_chain_of_models_too(con: aidb.Connection, boxes: FakeModel, limit: int) -> None:
    paint = FakeModel("paint", {"color": "VARCHAR"}, lambda size: "red" if size > 1 else "grey")
    con.register(paint)
    con.execute("CREATE VIRTUAL TABLE color AS paint(box.size)")
    sql = f"SELECT id FROM color WHERE color = 'red' RECALL TARGET 90% USING PROXY score SEED 1 ORACLE LIMIT {limit}"
    with contextlib.suppress(aidb.BudgetExceeded):  # what an item costs turned out to be more than the first ones did
        con.execute(sql)
    assert 0 < boxes.items + paint.items <= limit
    before = boxes.items
    con.execute(f"{sql} BY ORACLE detect")
    assert before < boxes.items <= before + limit


def test_rates_of_false_rows(con: aidb.Connection, oracle: FakeModel) -> None:
    checked = con.execute(
        "SELECT id FROM items WHERE hit FNR WITHIN 10% FPR WITHIN 1% CONFIDENCE 95% USING PROXY score SEED 1"
    )
    found = {r[0] for r in checked.fetchall()}
    assert found <= TRUE_IDS
    assert checked.report.target == {"recall": 0.9, "fpr": 0.01}
    assert checked.report.certified["fpr"] == 0


def test_a_rate_of_false_rows_is_certified_or_the_report_says_how_far_off_it_is(
    con: aidb.Connection, oracle: FakeModel
) -> None:
    clauses = "FNR WITHIN 20% CONFIDENCE 95% ORACLE LIMIT 1500 METHOD exact USING PROXY score SEED 1"
    cur = con.execute(f"SELECT id FROM items WHERE hit FPR WITHIN 0.1% {clauses}")
    found = {r[0] for r in cur.fetchall()}
    most = cur.report.certified["fpr"]
    assert len(found - TRUE_IDS) <= most * (N - len(TRUE_IDS))
    assert len(found & TRUE_IDS) >= 0.8 * len(TRUE_IDS)
    assert any("FPR WITHIN 0.001 was not reached" in n for n in cur.report.notes) == (most > 0.001)


def test_nothing_matches(con: aidb.Connection, boxes: FakeModel) -> None:
    cur = con.execute(f"SELECT id FROM box WHERE class = 'tram' {RECALL}")
    assert cur.fetchall() == []
    cur = con.execute("SELECT count(*) AS n, avg(size) AS a FROM box WHERE class = 'tram' ERROR TARGET 5% SEED 1")
    [(n, average)] = cur.fetchall()
    assert n == 0
    assert average is None


def test_an_empty_table(con: aidb.Connection, boxes: FakeModel) -> None:
    cur = con.execute(f"SELECT id FROM box JOIN items USING (id) WHERE class = 'bus' AND items.id < 0 {RECALL}")
    assert cur.fetchall() == []
    assert (cur.report.mode, boxes.items) == ("exact", 0)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (f"SELECT id, class FROM box WHERE class = 'bus' ORACLE LIMIT 50 {RECALL}", "has no class"),
        ("SELECT id FROM box PRECISION TARGET 90%", "ORACLE LIMIT"),
        ("SELECT a.id FROM box a, box b WHERE a.size < b.size RECALL TARGET 90%", "not tied"),
        ("SELECT count(*) / 2 AS half FROM box ERROR TARGET 5%", "COUNT, SUM and AVG, each alone"),
        ("SELECT id FROM box RECALL TARGET 90% USING PROXY scor", "scor"),
        ("SELECT id FROM items RECALL TARGET 90% USING PROXY file", "changes nothing"),
        ("SELECT id FROM box WHERE class = 'bus' RECALL TARGET 90% USING PROXY file", "must be a number"),
        ("SELECT id FROM box ORDER BY size LIMIT 3 GAP 10", "ORDER BY"),
        ("CREATE TABLE x AS SELECT id FROM box RECALL TARGET 90%", "run it by itself"),
        ("SELECT id FROM box FPR WITHIN 5%", "alone is met by an empty answer"),
        ("SELECT id FROM box FNR WITHIN 10% FPR WITHIN 5%", "add ORACLE LIMIT 1000, or WITH PROBABILITY"),
        ("SELECT id FROM box EXPECTED RECALL 90%", "add ORACLE LIMIT 1000"),
        ("SELECT id FROM box VERIFIED PRECISION TARGET 90% ORACLE LIMIT 50", "contradict each other"),
        ("SELECT id FROM box RECALL 90% METHOD calibrated(2, 3) ORACLE LIMIT 50", "one number"),
        ("SELECT id FROM box RECALL 90% METHOD calibrated(x) ORACLE LIMIT 50", "one number"),
        ("SELECT id FROM box RECALL 90% METHOD exact(2)", "no arguments"),
        ("SELECT id FROM box RECALL 90% METHOD cells", "is not known for a verified answer"),
        ("SELECT count(*) FROM box ERROR TARGET 5% METHOD abae(7)", "always makes five strata"),
        ("SELECT count(*) FROM box ERROR TARGET 5% METHOD bootstrap(100)", "no arguments"),
        ("SELECT id FROM box RECALL 90% BY ORACLE spare", "asks detect, not spare"),
        ("SELECT id FROM box BY ORACLE spare", "asks detect, not spare"),
        ("SELECT id FROM box RECALL 90% BY ORACLE nobody", "nobody"),
        ("SELECT min(size) FROM box ERROR TARGET 5%", "can't be estimated"),
        ("SELECT count(DISTINCT class) FROM box ERROR TARGET 5%", "leave out ERROR TARGET"),
        ("SELECT median(size) FROM box ERROR TARGET 5%", "aidb.stats.quantile"),
        ("SELECT quantile_cont(size, 0.9) FROM box ERROR TARGET 5%", "aidb.stats.quantile"),
        ("SELECT id FROM box RECALL 90% ERROR TARGET 5%", "contradict"),
        ("SELECT id FROM box RECALL 90% ORACLE LIMIT 0", "at least 1"),
    ],
)
def test_what_can_not_be_done_is_said_before_any_model_runs(
    con: aidb.Connection, boxes: FakeModel, sql: str, message: str
) -> None:
    con.register(FakeModel("spare", {"spare": "BOOLEAN"}, lambda hits: hits > 0))
    if message == "changes nothing":
        assert any("change nothing" in n for n in con.execute(sql).report.notes)
    else:
        with pytest.raises(aidb.Error, match=message):
            con.execute(sql)
    assert boxes.items == 0


def test_explain_tells_what_can_be_promised_before_anything_is_spent(con: aidb.Connection, oracle: FakeModel) -> None:
    told = con.explain(f"SELECT id FROM items WHERE hit ORACLE LIMIT 600 {RECALL}")
    assert told.calls == {"oracle": 600}
    text = str(told)
    assert "4,000 rows of items are open" in text
    assert "270 if 0.1 of them match" in text
    assert "guaranteed if more than 4.50% match" in text
    assert oracle.items == 0
    rows = con.execute("EXPLAIN SELECT count(*) FROM items WHERE hit ERROR TARGET 5%").fetchall()
    assert any("within 5.00%" in str(r[-1]) for r in rows)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT id FROM items WHERE hit RECALL 90%", "VERIFIED: every returned row is checked"),
        ("SELECT id FROM items WHERE hit RECALL 90% ORACLE LIMIT 5000", "mode exact"),
        ("SELECT id FROM items WHERE hit EXPECTED RECALL 90% ORACLE LIMIT 500", "mode expected"),
        ("SELECT id FROM items WHERE hit PRECISION 90% ORACLE LIMIT 500", "the whole limit of 500 calls is spent"),
        ("SELECT id FROM items WHERE hit RECALL 90% PRECISION 90%", "target: recall 0.9 and precision 0.9"),
        ("SELECT count(*) FROM items WHERE hit ERROR TARGET 5% METHOD clt", "mode asymptotic, or exact if"),
        ("SELECT count(*) FROM items WHERE hit ERROR TARGET 5% METHOD exact", "mode exact"),
        (
            "SELECT id FROM items WHERE hit LIMIT 5 GAP 10",
            "mode exact: looks at the likeliest items until there are 5 rows",
        ),
    ],
)
def test_explain_of_each_kind_of_question(con: aidb.Connection, oracle: FakeModel, sql: str, said: str) -> None:
    assert said in str(con.explain(sql))
    assert oracle.items == 0


def test_one_row_costs_few_items_without_a_proxy_too(con: aidb.Connection, oracle: FakeModel) -> None:
    first = min(TRUE_IDS)
    assert con.execute("SELECT id FROM items WHERE hit LIMIT 1").fetchall() == [(first,)]
    assert oracle.items <= 2 * (first + 1)


def test_parameters_are_bound_in_every_question(con: aidb.Connection, boxes: FakeModel) -> None:
    cur = con.execute(f"SELECT id, ? AS tag FROM box WHERE class = ? AND size >= ? {RECALL}", ["t", "car", 2])
    rows = cur.fetchall()
    truth = {int(i) for i in np.flatnonzero(BOXES > 1)}
    assert {r[0] for r in rows} <= truth
    assert {r[1] for r in rows} == {"t"}
    assert len({r[0] for r in rows}) >= 0.9 * len(truth)


def test_a_model_in_an_expression(con: aidb.Connection) -> None:
    model = FakeModel("has_bus", {"has_bus": "BOOLEAN"}, lambda hits: hits > 0)
    cheap = FakeModel("cheap", {"cheap": "DOUBLE"}, lambda hits: min(hits, 2) + 0.5)
    con.register(model)
    con.register(cheap)
    cur = con.execute(
        "SELECT id FROM items WHERE has_bus(hits) ORACLE LIMIT 700 USING cheap(hits) RECALL TARGET 90% SEED 5"
    )
    found = {r[0] for r in cur.fetchall()}
    assert len(found & TRUE_IDS) >= 0.9 * len(TRUE_IDS)
    assert cur.report.calls == {"has_bus": model.items, "cheap": N}
    assert cur.report.oracle_calls == model.items <= 700


def test_a_model_in_an_expression_of_the_first_query_of_all() -> None:
    with aidb.connect() as con:
        con.execute("CREATE BLOB TABLE items AS SELECT range AS id, range::INTEGER AS x FROM range(50) KEY (id)")
        con.register(FakeModel("odd", {"odd": "BOOLEAN"}, lambda x: x % 2 == 1))
        assert len(con.execute("SELECT id FROM items WHERE odd(x) RECALL TARGET 90%").fetchall()) >= 23


def test_a_plain_table_with_a_virtual_column(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE texts AS SELECT id, 'text ' || (id % 700) AS body, score FROM source")
    model = FakeModel("mood", {"mood": "VARCHAR"}, lambda body: "good" if int(body[5:]) % 7 == 0 else "bad")
    con.register(model)
    con.execute("ALTER TABLE texts ADD VIRTUAL COLUMN mood AS mood(body)")
    cur = con.execute("SELECT id, body FROM texts WHERE mood = 'good' RECALL TARGET 90% SEED 1")
    rows = cur.fetchall()
    truth = {i for i in range(N) if (i % 700) % 7 == 0}
    assert {r[0] for r in rows} <= truth
    bodies = {f"text {i}" for i in range(0, 700, 7)}
    assert len({r[1] for r in rows}) >= 0.9 * len(bodies)
    assert model.items <= 700


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT id FROM items WHERE hit ORACLE LIMIT 600 {RECALL}",
        "SELECT file, count(*) AS n FROM items WHERE hit GROUP BY file ORDER BY file ERROR TARGET 30%",
        "SELECT avg(score) AS a FROM items WHERE hit ERROR TARGET 15%",
    ],
)
def test_the_same_question_again_draws_no_second_sample(con: aidb.Connection, oracle: FakeModel, sql: str) -> None:
    first = con.execute(sql)
    rows, asked = first.fetchall(), oracle.items
    again = con.execute(sql)
    assert again.fetchall() == rows
    assert again.description == first.description
    assert oracle.items == asked
    for name in ("mode", "target", "probability", "intervals", "method", "certified", "labels", "seed", "proxy"):
        assert getattr(again.report, name) == getattr(first.report, name), name
    assert (again.report.oracle_calls, sum(again.report.calls.values())) == (0, 0)
    assert any("costs nothing and risks nothing" in n for n in again.report.notes)
    assert con.execute("SELECT count(*) FROM aidb.guarantees").fetchall() == [(1,)]


def test_a_kept_answer_is_of_the_tables_as_they_were(con: aidb.Connection, oracle: FakeModel) -> None:
    con.execute("CREATE TABLE chosen AS SELECT 'f1' AS file")
    sql = f"SELECT i.id FROM items i JOIN chosen c ON c.file = i.file WHERE hit {RECALL}"
    first = {r[0] for r in con.execute(sql).fetchall()}
    con.execute("INSERT INTO chosen VALUES ('f2')")
    second = {r[0] for r in con.execute(sql).fetchall()}
    assert {i % 4 for i in first} == {1}
    assert {i % 4 for i in second} == {1, 2}


def test_kept_answers_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "kept.aidb"
    asked = 0
    for n in range(2):
        model = FakeModel("oracle", {"hit": "BOOLEAN"}, lambda x: x % 9 == 0)
        with aidb.connect(path) as con:
            con.register(model)
            if not n:
                con.execute(
                    "CREATE BLOB TABLE items AS SELECT range AS id, range::INTEGER AS x FROM range(3000) KEY (id)"
                )
                con.execute("ALTER TABLE items ADD VIRTUAL COLUMN hit AS oracle(x)")
            con.execute("SELECT count(*) FROM items WHERE hit ERROR TARGET 20%").fetchall()
        asked += model.items
        assert (model.items > 0) == (n == 0)
