"""Database files that are odd, foreign, old, locked, full or damaged: a clear error, and nothing lost."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import duckdb
import pytest

import aidb
from aidb.storage import schema
from aidb.testing import FakeModel, MemoryConnector


def filled(path: Path, *, read_only: bool = False) -> aidb.Connection:
    """A connection with a virtual table of which three of four items are answered."""
    con = aidb.connect(path, read_only=read_only)
    con.register_connector(MemoryConnector(["a", "bb", "ccc", "dddd"], content="text"))
    if not read_only:
        con.register(FakeModel("size", {"size": "INTEGER"}, len))
        con.execute("CREATE BLOB TABLE docs FROM 'memory:*' USING memory")
        con.execute("CREATE VIRTUAL TABLE long AS size(docs.text)")
        con.execute("SELECT * FROM long WHERE blob_id < 3")
    return con


def child(code: str, *args: object) -> subprocess.Popen[str]:
    """Another Python process; it says something when it is ready."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


NAMES = [
    *("aidb.aidb", "temp.db", "system.duckdb", "aidb.v2.db", "noending", "select.db"),
    *("with space.db", 'it\'s "odd".db', "größe.db"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    with filled(tmp_path / name) as con:
        con.execute("CREATE TABLE t AS SELECT 1 AS a")
    with aidb.connect(tmp_path / name) as con:
        assert con.execute("SELECT sum(size) FROM long WHERE blob_id < 3").fetchall() == [(6,)]
        assert con.execute("SELECT count(*) FROM aidb.models").fetchall() == [(1,)]
        assert con.execute("SELECT a FROM t").fetchall() == [(1,)]
    assert (tmp_path / name).exists()
    with aidb.connect(tmp_path / name, read_only=True) as con:
        assert con.execute("SELECT sum(size) FROM long WHERE blob_id < 3").fetchall() == [(6,)]


def test_two_connections_of_one_process_share_a_file(tmp_path: Path) -> None:
    for name in ("shared.db", "temp.db"):
        one = filled(tmp_path / name)
        other = aidb.connect(tmp_path / name)
        size = FakeModel("size", {"size": "INTEGER"}, len)
        other.register_connector(one.engine.connectors.get("memory"))
        other.register(size)
        assert other.execute("SELECT sum(size) FROM long").fetchall() == [(10,)]
        assert size.items == 1  # what the first connection had stored is known to the second
        other.execute("CREATE VIRTUAL TABLE more (n) AS size(docs.text)")
        other.execute("ALTER TABLE docs ADD VIRTUAL COLUMN letters AS size(text)")
        assert one.execute("SELECT sum(n) FROM more").fetchall() == [(10,)]
        assert one.execute("SELECT sum(letters) FROM docs").fetchall() == [(10,)]
        one.execute("DROP VIRTUAL TABLE more")
        with pytest.raises(aidb.ProgrammingError, match="more"):
            other.execute("SELECT sum(n) FROM more")
        other.execute("CREATE MACRO twice(x) AS x * 2")
        assert one.execute("SELECT twice(size) FROM long WHERE blob_id = 0").fetchall() == [(2,)]
        one.close()
        assert other.execute("SELECT 1").fetchall() == [(1,)]
        other.close()
        assert size.items == 1


def test_after_closing_another_process_may_open_the_file(tmp_path: Path) -> None:
    con = filled(tmp_path / "x.db")
    con.execute("SELECT * FROM long")
    con.close()
    count = "import sys, aidb; print(aidb.connect(sys.argv[1]).execute('SELECT count(*) FROM long').fetchone())"
    process = child(count, tmp_path / "x.db")
    out, err = process.communicate(timeout=60)
    assert out == "(4,)\n", err


def test_a_file_that_another_process_holds(tmp_path: Path) -> None:
    filled(tmp_path / "x.db").close()
    hold = "import sys, aidb; c = aidb.connect(sys.argv[1]); print('open', flush=True); input()"
    process = child(hold, tmp_path / "x.db")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(aidb.OperationalError, match=f"x.db is open in another process .process {process.pid}"):
            aidb.connect(tmp_path / "x.db")
    finally:
        process.communicate("\n", timeout=60)
    aidb.connect(tmp_path / "x.db").close()


def test_read_only(tmp_path: Path) -> None:
    filled(tmp_path / "x.db").close()
    with filled(tmp_path / "x.db", read_only=True) as con:
        assert con.execute("SELECT sum(size) FROM long WHERE blob_id < 3").fetchall() == [(6,)]
        for sql in (
            "CREATE VIRTUAL TABLE other AS size(docs.text)",
            "REFRESH BLOB TABLE docs",
            "DROP STALE",
            "CREATE MODEL c USING color",
        ):
            with pytest.raises(aidb.OperationalError, match="read-only: definitions can't be changed"):
                con.execute(sql)
        with pytest.raises(aidb.OperationalError, match=r"read-only, and 1 items of size\(docs.text\) have no answer"):
            con.execute("SELECT * FROM long")
        # A function that is known as it is may be registered; another one of its name may not.
        con.register(FakeModel("size", {"size": "INTEGER"}, len))
        with pytest.raises(aidb.OperationalError, match="read-only"):
            con.register(FakeModel("size", {"size": "INTEGER"}, len, version="2"))
        with pytest.raises(aidb.OperationalError, match="no stored answers here"):
            con.execute("SELECT size(name) FROM docs")


def test_read_only_needs_a_file_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(aidb.OperationalError, match=r"no.db does not exist, and read_only=True makes no new file"):
        aidb.connect(tmp_path / "no.db", read_only=True)
    assert not (tmp_path / "no.db").exists()
    with pytest.raises(aidb.OperationalError, match="can't open"):
        aidb.connect(tmp_path / "nowhere" / "x.db")
    with pytest.raises(aidb.OperationalError, match="can't open"):
        aidb.connect(tmp_path)


def test_a_plain_duckdb_file_becomes_one_of_ours(tmp_path: Path) -> None:
    plain = duckdb.connect(str(tmp_path / "x.db"))
    plain.execute(
        "CREATE TABLE reviews AS SELECT 1 AS id, 'red' AS body; CREATE SCHEMA aidb; CREATE TABLE aidb.own(a INT)"
    )
    plain.close()
    with aidb.connect(tmp_path / "x.db", read_only=True) as con:
        assert con.execute("SELECT body FROM reviews").fetchall() == [("red",)]
    with aidb.connect(tmp_path / "x.db") as con:
        con.register(FakeModel("size", {"size": "INTEGER"}, len))
        con.execute("ALTER TABLE reviews ADD VIRTUAL COLUMN size AS size(body)")
        assert con.execute("SELECT * FROM reviews").fetchall() == [(1, "red", 3)]
        assert con.execute("SELECT * FROM aidb.own").fetchall() == []
    # Plain DuckDB reads what was answered.
    plain = duckdb.connect(str(tmp_path / "x.db"))
    assert plain.execute("SELECT size FROM reviews").fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("CREATE SCHEMA aidb_internal", "has a schema aidb_internal that is not AIDB's"),
        ("CREATE SCHEMA aidb_internal; CREATE TABLE aidb_internal.meta (version VARCHAR)", "that is not AIDB's"),
        ("CREATE SCHEMA aidb_internal; CREATE TABLE aidb_internal.meta AS SELECT 'x' AS version", "that is not AIDB's"),
        ("CREATE SCHEMA aidb; CREATE TABLE aidb.calls (a INTEGER)", "has something of its own in the schema aidb"),
    ],
)
def test_foreign_schemas_are_left_alone(tmp_path: Path, made: str, said: str) -> None:
    plain = duckdb.connect(str(tmp_path / "x.db"))
    plain.execute(made)
    before = plain.execute("SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL").fetchall()
    plain.close()
    with pytest.raises(aidb.IntegrityError, match=said):
        aidb.connect(tmp_path / "x.db")
    plain = duckdb.connect(str(tmp_path / "x.db"))
    assert plain.execute("SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL").fetchall() == before


def _set_version(path: Path, version: int) -> None:
    plain = duckdb.connect(str(path))
    plain.execute("UPDATE aidb_internal.meta SET version = ?", [version])
    plain.close()


def test_a_file_of_a_newer_version(tmp_path: Path) -> None:
    filled(tmp_path / "x.db").close()
    _set_version(tmp_path / "x.db", schema.VERSION + 1)
    with pytest.raises(aidb.OperationalError, match=f"newer AIDB .layout {schema.VERSION + 1}, this one knows"):
        aidb.connect(tmp_path / "x.db")


def test_a_file_of_an_older_version_is_migrated_or_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.db"
    filled(path).close()
    now = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", now + 2)
    monkeypatch.setattr(schema, "MIGRATIONS", {now: "CREATE TABLE aidb_internal.one (a INTEGER)"})
    with pytest.raises(aidb.OperationalError, match=f"layout {now}, which this AIDB can't migrate"):
        aidb.connect(path)
    steps = {now: "CREATE TABLE aidb_internal.one (a INTEGER)", now + 1: "CREATE TABLE nonsense"}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with pytest.raises(aidb.ProgrammingError):
        aidb.connect(path)
    monkeypatch.setitem(steps, now + 1, "CREATE TABLE aidb_internal.two (a INTEGER)")
    with pytest.raises(aidb.OperationalError, match="open it once with write access to migrate it"):
        aidb.connect(path, read_only=True)
    for _ in range(2):
        with aidb.connect(path) as con:
            assert con.execute("SELECT count(*) FROM aidb_internal.one, aidb_internal.two").fetchall() == [(0,)]
            assert con.execute("SELECT sum(size) FROM long WHERE blob_id < 3").fetchall() == [(6,)]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(aidb.OperationalError, match=r"x\.db is damaged, or no database"):
        aidb.connect(tmp_path / "x.db")
    assert (tmp_path / "x.db").read_bytes() == b"this is not a database" * 1000


def test_a_file_of_rows_is_no_place_to_store(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,name\n1,owl\n")
    with pytest.raises(aidb.OperationalError, match=r"rows\.csv holds rows and is no database.* FROM '.*rows\.csv'"):
        aidb.connect(path)
    assert path.read_text() == "id,name\n1,owl\n"


@pytest.mark.parametrize("way", ["cut", "overwritten"])
def test_a_damaged_file_is_said_to_be(tmp_path: Path, way: str) -> None:
    with filled(tmp_path / "x.db") as con:
        con.execute("CREATE TABLE t AS SELECT random() AS a FROM range(100000)")
    data = bytearray((tmp_path / "x.db").read_bytes())
    if way == "cut":
        data = data[: len(data) // 2]
    else:
        data[12_288 + 8 : -1] = bytes(len(data) - 12_288 - 9)
    (tmp_path / "x.db").write_bytes(data)
    with pytest.raises(aidb.OperationalError, match="is damaged"), aidb.connect(tmp_path / "x.db") as con:
        con.execute("SELECT sum(a) FROM t")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk looks like to a process that may not fill a real one."""
    code = """
        import resource, sys
        import aidb
        from aidb.testing import FakeModel, MemoryConnector
        con = aidb.connect(sys.argv[1])
        con.register_connector(MemoryConnector([str(i) for i in range(600)], content="text"))
        noise = FakeModel("noise", {"noise": "BLOB"}, lambda t: __import__("random").Random(t).randbytes(20_000), batch_size=20)
        con.register(noise)
        con.execute("SET threads = 1; CREATE BLOB TABLE docs FROM 'memory:*' USING memory")
        con.execute("CREATE VIRTUAL TABLE long AS noise(docs.text)")
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, resource.RLIM_INFINITY))
        try:
            con.execute("SELECT count(noise) FROM long")
        except aidb.OperationalError as e:
            print("told", noise.items, str(e).replace(chr(10), " ")[:300])
    """
    process = child(code, tmp_path / "x.db")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    told, inferred, message = out.splitlines()[0].split(" ", 2)
    assert told == "told"
    assert "nothing more can be written (is the disk full?); what was stored before is kept" in message
    plain = duckdb.connect(str(tmp_path / "x.db"))
    counts = "SELECT count(*), count(DISTINCT blob_id) FROM aidb_internal."
    stored = plain.execute(f"{counts}ledger_2").fetchall()
    assert stored == plain.execute(f"{counts}rows_2").fetchall()
    assert 40 <= stored[0][0] == stored[0][1] < int(inferred) <= 600
    plain.close()
    with aidb.connect(tmp_path / "x.db") as con:
        con.register_connector(MemoryConnector([str(i) for i in range(600)], content="text"))
        noise = FakeModel("noise", {"noise": "BLOB"}, lambda t: t.encode(), batch_size=20)
        con.register(noise)
        assert con.execute("SELECT count(noise) FROM long").fetchall() == [(600,)]
        assert noise.items == 600 - stored[0][0]
