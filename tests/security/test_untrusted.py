"""SQL of strangers, on a connection closed as docs/security.md says: nothing outside, nothing of AIDB's own, no way back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import aidb
from aidb.catalog import discover
from aidb.protocol.tensors import Tensor
from aidb.serving.arguments import Argument, match, read
from aidb.spi import Input
from aidb.surfaces.shell import main
from aidb.testing import FakeModel

SECRET = "nobody may see this"
CLOSE = "SET enable_external_access = false; SET lock_configuration = true"

OUTSIDE = [
    "SELECT * FROM read_text('{folder}/secret.txt')",
    "SELECT * FROM read_blob('{folder}/secret.txt')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM sniff_csv('{folder}/secret.txt')",
    "COPY (SELECT 1) TO '{folder}/out/a.csv'",
    "CREATE TABLE x AS FROM read_csv('{folder}/secret.txt')",
    "ATTACH '{folder}/other.db' AS other",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "INSTALL httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE BLOB TABLE more FROM '{folder}/*.txt'",
    "CREATE BLOB TABLE more FROM 'file://{folder}/secret.txt'",
    "CREATE BLOB TABLE more FROM 'http://169.254.169.254/latest/meta-data/'",
    "CREATE MODEL m USING http WITH (url = 'http://169.254.169.254/')",
    "CREATE MODEL m USING lookup WITH (path = '{folder}/secret.txt', key = 'a')",
    "EXPORT VIRTUAL TABLE heard TO '{folder}/out'",
    "EXPORT VIRTUAL TABLE heard TO '{folder}/open/../out'",
    "ATTACH MATERIALIZED heard FROM '{folder}/out'",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "SET lock_configuration = false",
    "SET memory_limit = '100GB'",
    "SET aidb.follow_urls = 'any'",
    "RESET aidb.max_calls",
]
OWN = [
    "INSERT INTO aidb_internal.items_1 SELECT * FROM aidb_internal.items_1",
    "UPDATE aidb_internal.definitions SET definition = '{{}}'",
    "DELETE FROM AIDB_INTERNAL.meta",
    'UPDATE "aidb_internal" . "meta" SET version = 9',
    "WITH x AS (SELECT 1) UPDATE aidb_internal.meta SET version = 9",
    "WITH gone AS (DELETE FROM aidb_internal.meta RETURNING *) SELECT * FROM gone",
    "WITH gone AS (WITH x AS (SELECT 1) DELETE FROM aidb_internal.meta RETURNING *) SELECT * FROM gone",
    "CREATE TABLE x AS WITH gone AS (DELETE FROM aidb_internal.meta RETURNING *) SELECT * FROM gone",
    "CREATE BLOB TABLE x AS WITH gone AS (DELETE FROM aidb_internal.meta RETURNING *) SELECT * FROM gone",
    "EXPLAIN ANALYZE DELETE FROM aidb_internal.meta",
    "EXPLAIN (ANALYZE) DELETE FROM aidb_internal.meta",
    "PREPARE p AS DELETE FROM aidb_internal.meta",
    "PREPARE p AS EXPLAIN ANALYZE DELETE FROM aidb_internal.meta",
    "DROP SCHEMA aidb_internal CASCADE",
    "ALTER TABLE aidb_internal.meta ADD COLUMN x INTEGER",
    "ALTER DATABASE a SET ALIAS TO b",
    "CREATE OR REPLACE VIEW aidb.models AS SELECT 1",
    "UPDATE docs SET text = NULL",
    "USE aidb_internal",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untrusted")
    (folder / "open").mkdir()
    (folder / "open" / "a.txt").write_text("a")
    (folder / "secret.txt").write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def closed(folder: Path) -> Iterator[aidb.Connection]:
    """Declared by its owner, then closed."""
    with aidb.connect(folder / "a.db") as con:
        con.register(FakeModel("echo", {"said": "VARCHAR"}, lambda text: text, inputs=(Input("text", form="text"),)))
        con.execute(f"CREATE BLOB TABLE docs FROM '{folder}/open/*.txt'")
        con.execute("CREATE VIRTUAL TABLE heard AS echo(docs.text)")
        con.execute("SET aidb.max_calls = 1000")
        con.execute(CLOSE)
        yield con


@pytest.mark.parametrize("sql", OUTSIDE)
def test_nothing_outside_is_reached(closed: aidb.Connection, folder: Path, sql: str) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(aidb.DatabaseError) as wrong:
        closed.execute(sql.format(folder=folder))
    assert SECRET not in str(wrong.value)
    assert sorted(folder.iterdir()) == before
    assert closed.engine.settings.max_calls == 1000


@pytest.mark.parametrize("sql", OWN)
def test_nothing_of_ours_is_changed(closed: aidb.Connection, sql: str) -> None:
    """Also not on the way, prepared, or explained by running it: a forged listing would open every file."""
    with pytest.raises((aidb.ProgrammingError, aidb.NotSupportedError)):
        closed.execute(sql.format())
    assert closed.execute("CHECK CATALOG").fetchall() == []
    assert closed.execute("SELECT said FROM heard").fetchall() == [("a",)]


def test_what_is_everybodys_may_still_be_changed_on_the_way(closed: aidb.Connection) -> None:
    closed.execute('CREATE OR REPLACE TABLE t AS SELECT 1 AS "delete", 2 AS "update"')
    assert closed.execute("SELECT (delete), max(update) FROM t GROUP BY ALL").fetchall() == [(1, 2)]
    assert closed.execute("WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone").fetchall() == [(1, 2)]
    closed.execute(
        "PREPARE put AS INSERT INTO t VALUES (3, 4); EXECUTE put; EXPLAIN ANALYZE INSERT INTO t VALUES (5, 6)"
    )
    assert closed.execute("SELECT count(*) FROM t").fetchall() == [(2,)]


def test_a_reader_changes_nothing_at_all(folder: Path) -> None:
    """The recipe for those who only look: stored answers, and no model runs."""
    path = folder / "b.db"
    with aidb.connect(path) as con:
        con.register(FakeModel("echo", {"said": "VARCHAR"}, lambda text: text, inputs=(Input("text", form="text"),)))
        con.execute(f"CREATE BLOB TABLE docs FROM '{folder}/open/*.txt'")
        con.execute("CREATE VIRTUAL TABLE heard AS echo(docs.text)")
        con.execute("SELECT * FROM heard")
    before = path.read_bytes()
    with aidb.connect(path, read_only=True) as con:
        con.execute(CLOSE)
        assert con.execute("SELECT said FROM heard").fetchall() == [("a",)]
        for sql in (*OUTSIDE, *OWN, "CREATE TABLE x (a INTEGER)", "DROP MODEL echo CASCADE", "DROP STALE"):
            if "max_calls" not in sql:
                with pytest.raises(aidb.DatabaseError):
                    con.execute(sql.format(folder=folder))
        assert con.execute("SELECT said FROM heard").fetchall() == [("a",)]
    assert path.read_bytes() == before


def test_a_long_query_can_be_stopped(closed: aidb.Connection) -> None:
    """There is no cap on DuckDB's own time: whoever serves strangers interrupts."""
    over = threading.Event()

    def stop() -> None:
        while not over.wait(0.2):  # one that comes before the query begins is lost
            closed.interrupt()

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        with pytest.raises(aidb.Interrupted):
            closed.execute("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = 7")
    finally:
        over.set()
        thread.join()


def test_a_message_does_not_speak_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An error quotes data, or what a service said."""
    assert main(["--no-config", "-c", "SELECT error(chr(27) || ']0;title' || chr(7) || 'a' || chr(10) || 'b')"]) == 1
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert "\\x1b]0;title\\x07a\nb" in told


@pytest.mark.parametrize(
    "sent", ["file:///etc/passwd", "http://169.254.169.254/", "/etc/passwd", '{"uri": "/etc/passwd"}']
)
def test_a_request_to_the_server_names_no_file(sent: str) -> None:
    """What a client of `aidb serve-models` sends is content: as a picture it is none, as a text it is those letters."""
    tensor = Tensor.of_bytes("x", [sent.encode()])
    decode = discover.load("aidb.connectors", "images").decode
    [given], _ = match([Argument("x", "image")], False, [tensor])
    values, wrong = read(given, decode)
    assert values is None
    assert list(wrong) == [0]
    [given], _ = match([Argument("x", "text")], False, [tensor])
    values, wrong = read(given, decode)
    assert wrong == {}
    assert list(values or ()) == [sent]
