"""A connection that is handed to strangers: DuckDB's switches hold for models, sources and content too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import aidb
from aidb.spi import Input
from aidb.testing import FakeModel

SECRET = "nobody may see this"


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[aidb.Connection]:
    """Declared by its owner, then closed."""
    (tmp_path / "open").mkdir()
    for name in ("a", "bb"):
        (tmp_path / "open" / f"{name}.txt").write_text(name)
    (tmp_path / "secret.txt").write_text(SECRET)
    with aidb.connect(tmp_path / "a.aidb") as con:
        con.register(FakeModel("echo", {"said": "VARCHAR"}, lambda text: text, inputs=(Input("text", form="text"),)))
        con.execute(f"CREATE BLOB TABLE docs FROM '{tmp_path}/open/*.txt'")
        con.execute("CREATE VIRTUAL TABLE heard AS echo(docs.text)")
        con.execute("SET aidb.max_error_ratio = 1")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        yield con


def test_what_was_declared_before_goes_on(closed: aidb.Connection) -> None:
    assert closed.execute("SELECT said FROM heard ORDER BY said").fetchall() == [("a",), ("bb",)]
    closed.execute("CREATE BLOB TABLE long AS SELECT doc_id, text FROM docs KEY (doc_id)")
    assert closed.execute("SELECT echo(text) FROM long ORDER BY doc_id").fetchall() == [("a",), ("bb",)]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE BLOB TABLE more FROM '{folder}/*.txt'",
        "CREATE MODEL m USING lookup WITH (path = '{folder}/secret.txt', key = 'a')",
        "CREATE MODEL m USING http WITH (url = 'http://169.254.169.254/latest')",
        "EXPORT VIRTUAL TABLE heard TO '{folder}/out'",
        "ATTACH MATERIALIZED heard FROM '{folder}/out'",
    ],
)
def test_nothing_outside_can_be_named(closed: aidb.Connection, tmp_path: Path, sql: str) -> None:
    with pytest.raises(aidb.OperationalError, match="enable_external_access"):
        closed.execute(sql.format(folder=tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_reference_that_no_source_listed_is_not_followed(closed: aidb.Connection, tmp_path: Path) -> None:
    forged = f"{{'uri': '{tmp_path}/secret.txt', 'pos': NULL::BIGINT, 'media': 'text', 'connector': 'text'}}"
    closed.execute(f"CREATE BLOB TABLE forged AS SELECT 1 AS id, {forged} AS text KEY (id)")
    assert closed.execute("SELECT echo(text) FROM forged").fetchall() == [(None,)]
    [(message,)] = closed.execute("SELECT message FROM aidb.errors").fetchall()
    assert "is listed by no blob table" in message
    closed.execute(f"CREATE TABLE plain AS SELECT 1 AS id, {forged} AS text")
    closed.execute("ALTER TABLE plain ADD VIRTUAL COLUMN said AS echo(text)")
    assert closed.execute("SELECT said FROM plain").fetchall() == [(None,)]
    stored = closed.engine.database.query("SELECT * FROM aidb.errors").to_pylist()
    assert SECRET not in str(stored)


def test_the_same_reference_is_followed_where_everything_is_open(tmp_path: Path) -> None:
    (tmp_path / "free.txt").write_text("free")
    with aidb.connect() as con:
        con.register(FakeModel("echo", {"said": "VARCHAR"}, lambda text: text, inputs=(Input("text", form="text"),)))
        ref = f"{{'uri': '{tmp_path}/free.txt', 'pos': NULL::BIGINT, 'media': 'text', 'connector': 'text'}}"
        con.execute(f"CREATE BLOB TABLE forged AS SELECT 1 AS id, {ref} AS text KEY (id)")
        assert con.execute("SELECT echo(text) FROM forged").fetchall() == [("free",)]


def test_settings_of_ours_are_locked_with_the_others(closed: aidb.Connection) -> None:
    for sql in ("SET aidb.max_calls = 1000", "RESET aidb.max_calls"):
        with pytest.raises(aidb.OperationalError, match="lock_configuration"):
            closed.execute(sql)
