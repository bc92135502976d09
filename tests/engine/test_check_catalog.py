"""CHECK CATALOG: nothing to say about what AIDB wrote, and a row for every way in which others spoil it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import aidb
from aidb.testing import FakeModel


def filled(path: Path) -> dict[str, str]:
    """A database with everything that has a table of its own; names of the tables by what they are."""
    with aidb.connect(path) as con:
        con.execute(
            "CREATE TABLE t AS SELECT range AS id, 'a' || range AS s, (range % 7)::DOUBLE AS score FROM range(40)"
        )
        con.execute("CREATE BLOB TABLE docs AS SELECT * FROM t KEY (id)")
        con.register(FakeModel("parts", {"part": "VARCHAR"}, lambda s: list(s), rows="many"))
        con.register(FakeModel("size", {"size": "INTEGER"}, _size))
        con.execute("CREATE VIRTUAL TABLE part AS parts(docs.s)")
        con.execute("ALTER TABLE docs ADD VIRTUAL COLUMN size AS size(s)")
        con.execute("SET aidb.max_error_ratio = 1")
        con.execute("SELECT id FROM docs WHERE size = 3 RECALL TARGET 50% USING PROXY score BUDGET 15 CALLS SEED 1")
        con.execute("SELECT count(*) FROM part, docs WHERE size > 0")
        con.execute("UPDATE t SET s = 'changed' WHERE id < 4")
        con.execute("DELETE FROM t WHERE id > 30")
        con.execute("REFRESH BLOB TABLE docs")
        assert con.execute("CHECK CATALOG").fetchall() == []
        fills = dict(con.engine.database.query("SELECT model, id FROM aidb_internal.fills").to_pydict().items())
    numbers = dict(zip(fills["model"], fills["id"], strict=True))
    return {
        "items": "aidb_internal.items_1",
        **{
            f"{kind} of {model}": f"aidb_internal.{kind}_{n}"
            for model, n in numbers.items()
            for kind in ("rows", "ledger")
        },
    }


def _size(text: str) -> int:
    if text == "a13":
        raise ValueError("unlucky")
    return len(text)


DAMAGE = [
    ("INSERT INTO {items} FROM {items} LIMIT 1", "keys that several items have"),
    ("UPDATE {items} SET id = NULL WHERE id = 20", "items without a key"),
    ("INSERT INTO {items}_gone FROM {items} LIMIT 2", "items listed that are also gone"),
    ("DELETE FROM {items} WHERE id = 20", "answers about items that docs does not list"),
    ("INSERT INTO {ledger of size} FROM {ledger of size} LIMIT 1", "items that the ledger has twice"),
    ("DELETE FROM aidb_internal.calls", "ledger entries of a call that is not recorded"),
    ("UPDATE aidb_internal.calls SET items = 1", "calls with more items in the ledger than they had"),
    ("DELETE FROM aidb_internal.errors", "failed items whose reason is not recorded"),
    ("DELETE FROM {ledger of parts} WHERE id = 20", "rows of items that the ledger does not have as answered"),
    ("DELETE FROM {rows of size} WHERE id = 20", "items that the ledger has as answered, without their row"),
    ("INSERT INTO {rows of size} FROM {rows of size} LIMIT 1", "items with several rows, of a model that gives one"),
    ("DELETE FROM {rows of parts} WHERE part_id = 0", "items whose rows are not numbered from 0 in part_id"),
    ("DELETE FROM {ledger of size}_stale", "stale rows of items that the stale ledger does not have"),
    ("DROP TABLE {ledger of size}", "the table is missing"),
    ("ALTER TABLE {rows of size} ADD COLUMN more INTEGER", "has the columns"),
    ("DROP VIEW main.part", "main has no view part"),
    ("INSERT INTO aidb_internal.definitions FROM aidb_internal.definitions LIMIT 1", "stands there twice"),
    ("UPDATE aidb_internal.fills SET lineage = 'same'", "two fills have one lineage"),
    ("DELETE FROM aidb_internal.fills", "names whose answers are not there"),
    ("INSERT INTO aidb_internal.meta FROM aidb_internal.meta", "has not just one row"),
    ("CREATE TABLE aidb_internal.mine (a INTEGER)", "belongs to nothing that is declared"),
    ("DELETE FROM aidb_internal.sampled", "belongs to nothing that is declared"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("sound") / "a.aidb"
    return path, filled(path)


@pytest.mark.parametrize(("damage", "problem"), DAMAGE, ids=[problem for _, problem in DAMAGE])
def test_each_damage_is_noticed(sound: tuple[Path, dict[str, str]], tmp_path: Path, damage: str, problem: str) -> None:
    path, tables = sound
    copy = tmp_path / "a.aidb"
    copy.write_bytes(path.read_bytes())
    with duckdb.connect(copy) as db:
        db.execute(damage.format_map(tables))
    with aidb.connect(copy, read_only=True) as con:
        found = con.execute("CHECK CATALOG").fetchall()
    assert any(problem in text for _, text, _ in found), found


@pytest.mark.parametrize(
    "change", ["definition = '{'", "definition = '[1]'", "definition = '{\"a\": 1}'", "kind = 'odd'"]
)
def test_a_definition_that_is_none_is_named_at_the_door(
    sound: tuple[Path, dict[str, str]], tmp_path: Path, change: str
) -> None:
    copy = tmp_path / "a.aidb"
    copy.write_bytes(sound[0].read_bytes())
    with duckdb.connect(copy) as db:
        db.execute(f"UPDATE aidb_internal.definitions SET {change} WHERE name = 'part'")
    with pytest.raises(aidb.IntegrityError, match="go back to a copy"):
        aidb.connect(copy)


def test_a_sound_database_is_said_to_be_so(sound: tuple[Path, dict[str, str]]) -> None:
    with aidb.connect(sound[0], read_only=True) as con:
        cursor = con.execute("check catalog")
        assert cursor.fetchall() == []
        assert cursor.message is not None
        assert cursor.message.endswith("is sound")
        assert cursor.report.calls == {}


def test_a_file_that_is_not_ours_has_nothing_to_check(tmp_path: Path) -> None:
    duckdb.connect(tmp_path / "plain.db").close()
    with aidb.connect(tmp_path / "plain.db", read_only=True) as con:
        assert con.execute("CHECK CATALOG").fetchall() == []


def test_a_word_behind_it_is_an_error() -> None:
    with aidb.connect() as con, pytest.raises(aidb.ProgrammingError, match="CATALOG"):
        con.execute("CHECK TABLES")
