"""Proxies in SQL: expressions, trained ones, semantic indexes, and the choice where none is named; on handwritten digits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aidb_models.lookup import Lookup

import aidb
from aidb.exec.guarantees.written import Written
from aidb.exec.proxies import learning
from aidb.exec.proxies.reading import vectors
from aidb.testing import FakeModel

datasets = pytest.importorskip("sklearn.datasets")
N = 600
PIXELS = datasets.load_digits().data[:N].astype(np.float32)
DIGITS = datasets.load_digits().target[:N]
TRUTH = pa.table({"id": np.arange(N), "digit": DIGITS})
EMBEDDINGS = pa.table({"id": np.arange(N), "vector": pa.array(PIXELS.tolist(), pa.list_(pa.float32()))})
THREES = {int(i) for i in np.flatnonzero(DIGITS == 3)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images as 64 numbers each, and their ink."""
    path = tmp_path_factory.mktemp("digits") / "digits.parquet"
    pixels = pa.array(PIXELS.tolist(), pa.list_(pa.float32()))
    columns = {"id": np.arange(N), "pixels": pixels, "ink": PIXELS.sum(axis=1), "high": PIXELS[:, :32].sum(axis=1)}
    pq.write_table(pa.table(columns), path)
    return path


class World:
    """A database with the digits; the oracle ``truth`` reads a digit, ``embed`` gives the pixels. Both count."""

    def __init__(self, file: Path, path: Path | str = ":memory:") -> None:
        self.truth = Lookup.of("truth", TRUTH, "id", version="1")
        self.embed = Lookup.of("embed", EMBEDDINGS, "id", outputs={"vector": "FLOAT[64]"}, version="1")
        self.con = aidb.connect(path)
        self.con.execute("SET threads = 1")
        if not self.con.execute("SELECT 1 FROM aidb.blob_tables").fetchall():
            self.con.register(self.truth, "truth")
            self.con.register(self.embed, "embed")
            self.con.execute(f"CREATE BLOB TABLE digits AS SELECT * FROM '{file}' KEY (id)")
            self.con.execute("ALTER TABLE digits ADD VIRTUAL COLUMN digit AS truth(id)")
            self.con.execute("CREATE VIRTUAL TABLE seen AS embed(digits.id)")

    def run(self, sql: str) -> aidb.Cursor:
        return self.con.execute(sql)

    def message(self, sql: str) -> str:
        return str(self.con.execute(sql).message)

    def known(self) -> set[int]:
        """The images whose digit is known."""
        ledger = self.run("SELECT ledger FROM aidb.virtual_tables WHERE model = 'truth'").fetchall()[0][0]
        return {i for (i,) in self.run(f"SELECT id FROM {ledger}").fetchall()}


@pytest.fixture
def world(file: Path) -> Iterator[World]:
    world = World(file)
    yield world
    world.con.close()


@pytest.fixture(scope="module")
def shared(file: Path) -> Iterator[World]:
    """For what is refused and changes nothing."""
    world = World(file)
    world.run("CREATE TABLE plain (a INTEGER, b DOUBLE)")
    world.run("CREATE PROXY taken ON digits FOR (digit = 7) USING ink")
    yield world
    world.con.close()


def ids(cursor: aidb.Cursor) -> set[int]:
    return {row[0] for row in cursor.fetchall()}


# ---- expressions


@pytest.mark.parametrize(
    ("sql", "asks_embed"),
    [
        ("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 200 RECALL TARGET 80% USING PROXY (ink / 2 - high)", False),
        ("SELECT id FROM digits d WHERE d.digit = 3 ORACLE LIMIT 200 RECALL TARGET 80% USING PROXY (d.ink + digits_of.n)", None),
        ("SELECT id FROM digits d WHERE d.digit = 3 ORACLE LIMIT 200 RECALL TARGET 80% USING PROXY (d.ink)", False),
        ("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 200 RECALL TARGET 80% USING PROXY (ink > 300)", False),
        (
            "SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 200 RECALL TARGET 80% "
            "USING PROXY ((SELECT max(vector[20]) FROM seen WHERE seen.id = digits.id) + ink)",
            True,
        ),
        ("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 200 RECALL TARGET 80% USING PROXY (embed(id)[20])", True),
    ],
)  # fmt: skip
def test_a_proxy_may_be_any_number_of_an_item(world: World, sql: str, asks_embed: bool | None) -> None:
    if asks_embed is None:
        with pytest.raises(aidb.ProgrammingError, match="digits_of"):
            world.run(sql)
        return
    report = world.run(sql).report
    assert report.proxy == sql.partition("USING PROXY ")[2]
    assert 100 < report.oracle_calls == world.truth.items <= 200  # a budget is a ceiling: a lucky sample ends sooner
    assert world.embed.items == (N if asks_embed else 0)


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("inc", r"unknown proxy 'inc'; did you mean ink\?"),
        ("takn", r"did you mean taken\?"),
        ("embd(id)", r"unknown proxy 'embd'; did you mean embed\?"),
        ("pixels", r"the proxy must be a number for each item, and .*pixels is list"),
        ("(ink, high)", "must be a number for each item"),
        ("vector", "must be a number for each item"),
    ],
)
def test_a_wrong_proxy_is_told_before_the_oracle_is_asked(shared: World, proxy: str, message: str) -> None:
    before = shared.truth.items
    with pytest.raises(aidb.ProgrammingError, match=message):
        shared.run(f"SELECT id FROM digits WHERE digit = 3 RECALL TARGET 90% USING PROXY {proxy}")
    assert shared.truth.items == before


# ---- trained proxies


def test_a_proxy_learns_from_labels_that_are_paid_once(world: World) -> None:
    said = world.message("CREATE PROXY three ON digits FOR (digit = 3) USING logistic(pixels) TRAIN ON 300 LABELS")
    assert said.startswith("proxy three: logistic(pixels) from 300 labels, ")
    assert world.truth.items == 300
    trained = world.known()
    (auc, correlation, held_out, useless, labels), = world.run(
        "SELECT auc, correlation, held_out, useless, labels FROM aidb.proxies"
    ).fetchall()  # fmt: skip
    assert auc > 0.95
    assert correlation > 0.7
    assert (held_out, useless, labels) == (60, False, 300)
    cursor = world.run("SELECT id FROM digits WHERE digit = 3 RECALL TARGET 90% ORACLE LIMIT 200 SEED 1")
    found, report = ids(cursor), cursor.report
    assert report.proxy == "three"
    assert any("three was chosen, as it was made for (digit = 3): AUC" in n for n in report.notes)
    assert len(found & THREES) >= 0.9 * len(THREES)
    # What it learned from is known, is no part of the sample, and costs nothing.
    assert report.oracle_calls == world.truth.items - 300 <= 200
    assert len(world.known() - trained) == report.oracle_calls
    assert any(n.startswith(f"{len(THREES & trained)} matching items were known beforehand") for n in report.notes)
    # The same sample again, as far as it goes.
    before = world.truth.items
    assert "300 labels" in world.message("REFRESH PROXY three")
    world.run("CREATE PROXY five ON digits FOR (digit = 5) USING logistic(pixels) TRAIN ON 300 LABELS")
    assert world.truth.items == before


def test_rows_that_trained_a_proxy_certify_nothing(world: World) -> None:
    """A proxy that knows its labels by heart, and nothing else, must not make the sample look better than the rest."""
    noise = np.random.default_rng(1).normal(size=(N, 400)).tolist()
    world.con.register(
        Lookup.of("noise", {"id": list(range(N)), "v": noise}, "id", outputs={"v": "FLOAT[400]"}), "noise"
    )
    world.run("CREATE PROXY parrot ON digits FOR (digit = 3) USING logistic(noise(id)) TRAIN ON 300 LABELS HOLDOUT 1%")
    known = world.known()
    for seed in range(2):
        question = f"SELECT id FROM digits WHERE digit = 3 PRECISION TARGET 80% ORACLE LIMIT 20 SEED {seed}"
        report = world.run(f"{question} USING PROXY parrot").report
        assert len(report.arrays["scores"]) == N - len(known)  # the population that is sampled
        asked = world.known() - known
        assert report.oracle_calls == len(asked) == 20
        known |= asked


@pytest.mark.parametrize(
    "using",
    [
        "logistic(vector) TRAIN ON 200 LABELS",
        "logistic(embed(id)) TRAIN ON 200 LABELS CALIBRATE platt",
        "logistic(pixels) TRAIN ON 200 LABELS CALIBRATE isotonic HOLDOUT 30%",
        "logistic(ink, high, (ink / high)) TRAIN ON 200 LABELS WHERE (ink > 10)",
        "(ink - high) TRAIN ON 200 LABELS CALIBRATE platt",
        "ink TRAIN ON 200 LABELS",
        "ink",
    ],
)
def test_what_a_proxy_may_learn_from(world: World, using: str) -> None:
    assert "proxy p: " in world.message(f"CREATE PROXY p ON digits FOR (digit = 0) USING {using}")
    assert world.truth.items == (200 if "TRAIN" in using else 0)
    report = world.run("SELECT id FROM digits WHERE digit = 0 ORACLE LIMIT 100 RECALL TARGET 80% USING PROXY p").report
    assert report.proxy == "p"
    scores = report.arrays["scores"]
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 100
    if "logistic" in using or "CALIBRATE" in using:
        assert 0 <= scores.min() <= scores.max() <= 1


def test_a_number_is_learned_by_ridge(world: World) -> None:
    world.run("CREATE PROXY size ON digits FOR (digit) USING ridge(pixels) TRAIN ON 300 LABELS")
    report = world.run("SELECT sum(digit) AS s FROM digits ERROR TARGET 20% SEED 3").report
    assert report.proxy == "size"
    low, high = report.intervals["s"]
    assert low <= DIGITS.sum() <= high


def test_a_useless_proxy_is_kept_but_not_chosen(world: World) -> None:
    said = world.message("CREATE PROXY dice ON digits FOR (digit = 3) USING (hash(id) % 1000) TRAIN ON 300 LABELS")
    assert said.endswith("useless: it is kept, but used only where it is named")
    question = "SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50% SEED 1"
    report = world.run(question).report
    assert report.proxy is None
    assert any("dice was left aside" in n for n in report.notes)
    assert world.run(f"{question} USING PROXY dice").report.proxy == "dice"
    assert "useless: " in world.run("SHOW PROXIES WHERE (name = 'dice')").fetchall()[0][4]


def test_labels_that_are_all_alike_teach_nothing(world: World) -> None:
    said = world.message("CREATE PROXY none ON digits FOR (digit = 11) USING logistic(pixels) TRAIN ON 100 LABELS")
    assert "100 labels, 0 of them true" in said
    assert "useless" in said


def test_a_proxy_of_a_changed_model_is_left_aside(world: World) -> None:
    world.run("CREATE PROXY p ON digits FOR (digit = 3) USING logistic(vector) TRAIN ON 200 LABELS")
    question = "SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50% SEED 1"
    assert world.run(question).report.proxy == "p"
    changed = Lookup.of(
        "embed", {"id": list(range(N)), "vector": PIXELS.tolist()}, "id", outputs={"vector": "FLOAT[64]"}, version="2"
    )
    world.con.register(changed, "embed")
    report = world.run(question.replace("SEED 1", "SEED 2")).report  # an answer that is kept would be given again
    assert report.proxy is None
    assert any("a model behind it has changed, REFRESH PROXY" in n for n in report.notes)
    world.run("REFRESH PROXY p")
    assert world.run(question.replace("SEED 1", "SEED 3")).report.proxy == "p"


def test_a_proxy_that_can_not_be_read_any_more_does_not_end_a_query(world: World) -> None:
    world.run(
        "CREATE PROXY p ON digits FOR (digit = 3) USING vector TRAIN ON 50 LABELS".replace("vector", "(embed(id)[30])")
    )
    world.run("DROP MODEL embed CASCADE")
    question = "SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50% SEED 1"
    report = world.run(question).report
    assert report.proxy is None
    assert any("the proxy p was left aside" in n for n in report.notes)
    with pytest.raises(aidb.ProgrammingError):
        world.run(f"{question} USING PROXY p")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("CREATE PROXY p ON digit FOR (digit = 3) USING ink", r"unknown table of items 'digit'; did you mean digits\?"),
        ("CREATE PROXY p ON seen FOR (digit = 3) USING ink", "write ON digits"),
        ("CREATE PROXY p ON digits FOR (digt = 3) USING ink", '"digt" not found'),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING inq", "unknown proxy 'inq'; did you mean ink"),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING logistic(pixels)", "add TRAIN ON 500 LABELS"),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING ink CALIBRATE platt", "CALIBRATE needs labels"),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING logistic TRAIN ON 9 LABELS", r"logistic\(embedding\)"),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING logistic(pixls) TRAIN ON 9 LABELS", "did you mean pixels"),
        ("CREATE PROXY p ON digits FOR (digit) USING logistic(pixels) TRAIN ON 9 LABELS", r"USING ridge\(...\)"),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING logistic(pixels, ink) TRAIN ON 9 LABELS", "one column of lists, or"),
        ("CREATE PROXY p ON digits FOR (pixels) USING ink TRAIN ON 9 LABELS", "what FOR names must be a number"),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING ink WITH (a = 1)", "unknown option of proxy p 'a'"),
        ("CREATE PROXY p ON digits FOR (digit = 3) USING ink TRAIN ON 9 LABELS WHERE (id < 0)", "nothing to train on"),
        ("CREATE PROXY taken ON digits FOR (digit = 3) USING ink", "already: CREATE OR REPLACE PROXY"),
        ("CREATE SEMANTIC INDEX taken ON digits USING pixels", "there is a proxy 'taken' already"),
        ("CREATE SEMANTIC INDEX i ON digits USING pixels WITH (representatives = 0)", "representatives must be"),
        ("CREATE SEMANTIC INDEX i ON digits USING pixels WITH (method = 'nearest')", "'farthest' or 'means'"),
        ("CREATE SEMANTIC INDEX i ON digits USING pixels WITH (reps = 3)", "unknown option of semantic index i 'reps'"),
        ("CREATE SEMANTIC INDEX i ON plain USING b", "CREATE BLOB TABLE"),
        ("REFRESH PROXY tken", r"unknown proxy 'tken'; did you mean taken\?"),
        ("REFRESH SEMANTIC INDEX i", "unknown semantic index 'i'"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(shared: World, sql: str, message: str) -> None:
    with pytest.raises(aidb.ProgrammingError, match=message):
        shared.run(sql)
    assert [row[0] for row in shared.run("SHOW PROXIES").fetchall()] == ["taken"]


def test_without_scikit_learn_nothing_is_paid_and_stored_proxies_work(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(file)
    create = "CREATE PROXY three ON digits FOR (digit = 3) USING logistic(pixels) TRAIN ON 100 LABELS"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(aidb.OperationalError, match=r"pip install 'aidb\[learn\]'"):
            world.run(create)
        assert world.truth.items == 0
    world.run(create)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    report = world.run("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50%").report
    assert report.proxy == "three"
    world.con.close()


# ---- semantic indexes


def test_an_index_spreads_what_is_known_to_what_is_open(world: World) -> None:
    said = world.message("CREATE SEMANTIC INDEX near ON digits USING pixels WITH (representatives = 60)")
    assert said == "semantic index near: 60 representatives of 600 rows of digits, 64 numbers each"
    assert world.truth.items == 0
    question = "SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 160 RECALL TARGET 80% SEED 1"
    assert world.run(question.replace("160", "8")).report.proxy is None  # too little is known to spread
    # Named, it may ask some of its representatives first; they are part of the budget.
    before = world.truth.items
    report = world.run(f"{question} USING PROXY near").report
    assert report.proxy == "near"
    assert any("spreads" in n for n in report.notes)
    assert report.oracle_calls == world.truth.items - before <= 160
    # Another question about the same items, of which now enough are answered.
    before = world.truth.items
    report = world.run("SELECT id FROM digits WHERE digit = 5 ORACLE LIMIT 50 RECALL TARGET 80% SEED 1").report
    assert report.proxy == "near"
    assert any("the semantic index near was chosen" in n for n in report.notes)
    assert world.truth.items - before == report.oracle_calls <= 50
    scores, open_ids = report.arrays["scores"], sorted(set(range(N)) - (world.known() - _last(world, before)))
    assert len(scores) == len(open_ids)
    assert np.corrcoef(scores, DIGITS[open_ids] == 5)[0, 1] > 0.7


def _last(world: World, before: int) -> set[int]:
    """The images that were asked after the first so many."""
    ledger = world.run("SELECT ledger FROM aidb.virtual_tables WHERE model = 'truth'").fetchall()[0][0]
    return {i for (i,) in world.run(f"SELECT id FROM {ledger} ORDER BY _call, rowid OFFSET {before}").fetchall()}


def test_answers_are_spread_as_far_as_stored_conditions_let_them_in(world: World) -> None:
    world.run("SELECT digit FROM digits WHERE id < 200")
    world.run("CREATE SEMANTIC INDEX near ON digits USING embed(id)")
    assert world.embed.items == N
    report = world.run(
        "SELECT id FROM digits WHERE digit = 3 AND ink > 310 ORACLE LIMIT 60 RECALL TARGET 80% SEED 1"
    ).report
    count = int((PIXELS[:200].sum(axis=1) > 310).sum())
    assert any(f"the index near spreads {count} answers" in n for n in report.notes)
    assert world.embed.items == N


def test_a_search_follows_the_index(world: World) -> None:
    world.run("CREATE SEMANTIC INDEX near ON digits USING pixels")
    world.run("SELECT digit FROM digits WHERE id < 100")
    cursor = world.run("SELECT id FROM digits WHERE digit = 3 LIMIT 20 USING PROXY near SEED 2")
    found, report = ids(cursor), cursor.report
    assert found <= THREES
    assert len(found) == 20
    assert report.proxy == "near"
    assert report.oracle_calls == world.truth.items - 100 < 40  # one in ten is a three, and some ten are known


def test_an_index_with_nothing_to_say_is_not_used(world: World) -> None:
    world.con.register(FakeModel("dice", {"d": "FLOAT[2]"}, lambda i: [i * 7919 % 101, i * 104729 % 103]), "dice")
    world.run("CREATE SEMANTIC INDEX junk ON digits USING dice(id)")
    world.run("SELECT digit FROM digits WHERE id < 200")
    report = world.run("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50% SEED 1").report
    assert report.proxy is None
    assert any("so it was not used" in n for n in report.notes)


# ---- the choice where none is named


def test_a_stored_number_that_agrees_with_known_answers_is_taken(world: World) -> None:
    for name, values in (
        ("noise", np.random.default_rng(0).random(N)),
        ("hint", (DIGITS == 3) + 0.1 * np.arange(N) / N),
    ):
        model = FakeModel(name, {f"{name}_value": "DOUBLE"}, lambda i, values=values: float(values[i]))
        world.con.register(model, name)
        world.run(f"CREATE VIRTUAL TABLE {name}s AS {name}(digits.id)")
    question = "SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50% SEED"
    world.run("SELECT digit FROM digits WHERE id < 150")
    assert world.run(f"{question} 1").report.proxy is None  # nothing is stored, and nothing runs unasked
    world.run("SELECT count(noise_value) FROM noises")
    assert world.run(f"{question} 2").report.proxy is None  # what is stored says nothing
    world.run("SELECT count(hint_value) FROM hints")
    report = world.run(f"{question} 3").report
    assert report.proxy == "max(hints.hint_value)"
    assert any("it is stored for every item, and agrees with" in n for n in report.notes)
    assert set(report.calls) == {"truth"} or not any(report.calls[m] for m in report.calls if m != "truth")
    assert world.run(f"{question} 3 METHOD uniform").report.proxy is None


def test_without_known_answers_a_telling_name_is_taken(world: World) -> None:
    world.con.register(FakeModel("net", {"confidence": "DOUBLE", "xmin": "DOUBLE"}, lambda i: (i / N, 0.5)), "net")
    world.run("CREATE VIRTUAL TABLE box AS net(digits.id)")
    world.run("SELECT * FROM box")
    report = world.run("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50% SEED 1").report
    assert report.proxy == "max(box.confidence)"
    assert any("chosen for its name" in n for n in report.notes)


BUSES = "FROM box WHERE box.id = t.id AND label = 'bus'"


@pytest.mark.parametrize(
    ("query", "target", "covers"),
    [
        ("SELECT id FROM t WHERE label = 'Bus'", "label = 'Bus'", 1),
        ("SELECT id FROM t WHERE label = 'Bus'", "label = 'bus'", 0),
        ("SELECT id FROM t x WHERE (X.label = 'bus') AND n > 3", "'bus' = LABEL", 1),
        ("SELECT id FROM t WHERE label = 'bus' AND n > 3 AND m", "m AND label = 'bus'", 2),
        ("SELECT id FROM t WHERE label = 'bus' OR n > 3", "label = 'bus'", 0),
        ("SELECT id FROM t WHERE has_bus(t.image)", "has_bus(image)", 1),
        ("SELECT sum(size) FROM t", "size", 1),
        ("SELECT DISTINCT id FROM box WHERE label = 'bus'", f"EXISTS (SELECT 1 {BUSES})", 2),
        ("SELECT t.id FROM t JOIN box b ON t.id = b.id WHERE b.label = 'bus'", f"EXISTS ({BUSES})", 2),
        ("SELECT count(*) FROM box WHERE label = 'bus'", f"(SELECT count(*) {BUSES})", 2),
        ("SELECT count(*) FROM box WHERE label = 'car'", f"(SELECT count(*) {BUSES})", 0),
        ("SELECT id FROM t", "label = 'bus'", 0),
        ("PIVOT t ON label USING count(*)", "label = 'bus'", 0),
    ],
)  # fmt: skip
def test_whether_a_proxy_was_made_for_a_question(query: str, target: str, covers: int) -> None:
    assert Written.of(query, "t").matches(target, "t") == covers


def test_the_proxy_that_covers_more_of_the_question_is_taken(world: World) -> None:
    world.run("CREATE PROXY one ON digits FOR (digit > 2) USING high")
    world.run("CREATE PROXY narrow ON digits FOR (digit < 5 AND digit > 2) USING ink")
    question = "SELECT id FROM digits WHERE digit > 2 AND digit < 5 AND ink > 9 ORACLE LIMIT 50 RECALL TARGET 50%"
    assert world.run(question).report.proxy == "narrow"
    assert world.run(question.replace("digit < 5", "digit < 4")).report.proxy == "one"
    assert world.run(question.replace("digit > 2", "digit > 1")).report.proxy is None


def test_explain_names_the_proxy_and_runs_nothing(world: World) -> None:
    world.run("CREATE PROXY three ON digits FOR (digit = 3) USING logistic(vector) TRAIN ON 100 LABELS")
    before = world.truth.items, world.embed.items
    said = str(world.con.explain("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50%"))
    assert "first the proxy three, on all of them" in said
    assert f"embed(digits.id): {N - 100} items" in said
    assert (world.truth.items, world.embed.items) == before


# ---- life


def test_proxies_and_indexes_outlive_the_process(file: Path, tmp_path: Path) -> None:
    world = World(file, tmp_path / "x.db")
    world.run("CREATE PROXY three ON digits FOR (digit = 3) USING logistic(pixels) TRAIN ON 200 LABELS")
    world.run("CREATE SEMANTIC INDEX near ON digits USING pixels WITH (representatives = 50)")
    first = world.run("SHOW PROXIES").fetchall()
    world.con.close()
    again = World(file, tmp_path / "x.db")
    assert again.run("SHOW PROXIES").fetchall() == first
    assert [c[0] for c in again.run("SHOW PROXIES").description] == [
        "name", "table", "target", "using", "quality", "labels", "created",
    ]  # fmt: skip
    assert [row[:4] for row in first] == [
        ("near", "digits", "anything", "pixels"), ("three", "digits", "digit = 3", "logistic(pixels)"),
    ]  # fmt: skip
    keys, count = again.run("SELECT keys, representatives FROM aidb.indexes").fetchall()[0]
    assert (
        again.run(f"SELECT count(DISTINCT __k0), max(place) FROM {keys}").fetchall()
        == [(count, count - 1)]
        == [(50, 49)]
    )
    again.con.register(again.truth, "truth")
    report = again.run("SELECT id FROM digits WHERE digit = 3 ORACLE LIMIT 50 RECALL TARGET 50%").report
    assert report.proxy == "three"
    with pytest.raises(aidb.ProgrammingError, match="three, near rest on blob table digits"):
        again.run("DROP VIRTUAL TABLE seen; DROP BLOB TABLE digits")
    assert again.message("DROP SEMANTIC INDEX near").startswith("dropped semantic index near")
    with pytest.raises(aidb.ProgrammingError, match="does not exist"):
        again.run(f"FROM {keys}")
    again.run("DROP BLOB TABLE digits CASCADE")
    assert again.run("SHOW PROXIES").fetchall() == []
    again.con.close()


def test_a_proxy_is_replaced_only_if_it_is_said(world: World) -> None:
    world.run("CREATE PROXY p ON digits FOR (digit = 3) USING ink")
    world.run("CREATE OR REPLACE PROXY p ON digits FOR (digit = 4) USING (high)")
    assert world.run('SELECT name, target, "using" FROM aidb.proxies').fetchall() == [("p", "digit = 4", "(high)")]
    assert world.message("REFRESH PROXY p") == "proxy p has learned nothing that could be out of date"


def test_an_index_is_refreshed_with_its_table(world: World, file: Path) -> None:
    world.run(f"CREATE TABLE source AS SELECT * FROM '{file}' WHERE id < 100")
    world.run("CREATE BLOB TABLE few AS SELECT * FROM source KEY (id)")
    world.run("CREATE SEMANTIC INDEX i ON few USING pixels WITH (representatives = 90, share = 0.5, method = 'means')")
    world.run(f"INSERT INTO source SELECT * FROM '{file}' WHERE id BETWEEN 100 AND 149")
    world.run("REFRESH BLOB TABLE few")
    assert "90 representatives of 150 rows" in world.message("REFRESH SEMANTIC INDEX i")


def test_a_file_of_the_first_layout_gets_the_views(file: Path, tmp_path: Path) -> None:
    World(file, tmp_path / "x.db").con.close()
    plain = duckdb.connect(str(tmp_path / "x.db"))
    plain.execute(
        "DROP VIEW aidb.proxies; DROP VIEW aidb.indexes; DROP VIEW aidb.guarantees; DROP TABLE aidb_internal.sampled"
    )
    plain.execute("UPDATE aidb_internal.meta SET version = 1")
    plain.close()
    world = World(file, tmp_path / "x.db")
    world.run("CREATE PROXY p ON digits FOR (digit = 3) USING ink")
    assert world.run("SELECT name FROM aidb.proxies").fetchall() == [("p",)]
    assert world.run("SELECT name FROM aidb.indexes").fetchall() == []
    world.con.close()


# ---- numbers


def test_embeddings_are_lists_or_columns() -> None:
    lists = pa.chunked_array(
        [pa.array([[1.0, 2.0], None], pa.list_(pa.float32())), pa.array([[3.0, None]], pa.list_(pa.float32()))]
    )
    expected = np.array([[1, 2], [np.nan, np.nan], [3, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(vectors([lists], ["e"]), expected)
    fixed = pa.chunked_array([pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2))])
    np.testing.assert_array_equal(vectors([fixed], ["e"]), expected)
    columns = [pa.chunked_array([pa.array([1, None, 3])]), pa.chunked_array([pa.array([True, None, None])])]
    np.testing.assert_array_equal(vectors(columns, ["a", "b"]), [[1, 1], [np.nan, np.nan], [3, np.nan]])
    with pytest.raises(aidb.ProgrammingError, match="lists of 1 to 2 numbers"):
        vectors([pa.chunked_array([pa.array([[1.0], [1.0, 2.0]])])], ["e"])


def test_calibrated_scores_are_probabilities_and_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(size=2000).astype(np.float32)
    labels = (rng.random(2000) < 1 / (1 + np.exp(-3 * raw))).astype(float)
    for kind in ("platt", "isotonic"):
        trained = learning.train(None, raw[:, None], labels, calibrate=kind, holdout=0.5, rng=rng)
        scores = learning.score(trained.model, trained.calibration, raw[:, None])
        assert (np.diff(scores[np.argsort(raw)]) >= 0).all()
        assert len(np.unique(scores)) > 1900
        for low in (0.1, 0.4, 0.7):
            band = (scores > low) & (scores < low + 0.2)
            assert abs(labels[band].mean() - scores[band].mean()) < 0.12
        assert trained.quality is not None
        assert trained.quality.labels == 1000
        assert not trained.useless
