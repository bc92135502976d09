"""Two processes and one file: the second is told who has it, and may read what is stored by now; nothing is damaged."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

import aidb
from aidb.storage import copying
from tests.engine.storing import check_storage

HOLD = """
    import sys, aidb
    from aidb.testing import FakeModel
    con = aidb.connect(sys.argv[1])
    con.execute("SET threads = 1")
    con.execute("CREATE BLOB TABLE IF NOT EXISTS t AS SELECT range AS id, range::INTEGER AS x FROM range(1000) KEY (id)")
    con.register(FakeModel("m", {"y": "INTEGER"}, lambda x: x, batch_size=10))
    con.execute("CREATE VIRTUAL TABLE IF NOT EXISTS v AS m(t.x)")
    print("open", flush=True)
    for line in sys.stdin:
        cur = con.execute(line)
        print(cur.fetchall() if cur.description else [], flush=True)
"""
"""Obeys: a statement a line."""


class Holder:
    """Another process that has the file open for writing."""

    def __init__(self, path: Path, code: str = HOLD) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.said() == "open"

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, sql: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()

    def run(self, sql: str) -> str:
        self.tell(sql)
        return self.said()


@contextmanager
def holding(path: Path) -> Iterator[Holder]:
    holder = Holder(path)
    try:
        yield holder
    finally:
        holder.process.communicate(timeout=60)


def reading(path: Path) -> aidb.Connection:
    with pytest.warns(UserWarning, match=r"is being written by another process: this is a copy as of \d\d:\d\d:\d\d"):
        return aidb.connect(path, read_only=True)


def test_the_second_is_told_who_has_it_and_reads_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with holding(path) as holder:
        assert holder.run("SELECT count(*) FROM v WHERE id < 300") == "[(300,)]"
        with pytest.raises(aidb.OperationalError) as wrong:
            aidb.connect(path)
        assert f"open in another process (process {holder.process.pid})" in str(wrong.value)
        assert "read_only=True" in str(wrong.value)
        assert "--readonly" in str(wrong.value)
        with reading(path) as con:
            assert con.as_of is not None
            assert con.execute("SELECT count(*), sum(y) FROM v WHERE id < 300").fetchall() == [(300, sum(range(300)))]
            with pytest.raises(aidb.OperationalError, match="read-only, and 700 items"):
                con.execute("SELECT count(*) FROM v")
            with pytest.raises(aidb.OperationalError, match="read-only"):
                con.execute("DROP STALE")
            assert holder.run("SELECT count(*) FROM v WHERE id < 400") == "[(400,)]"
            with reading(path) as other:  # shares what this process has open
                assert other.as_of == con.as_of
            folder = Path(con.engine.database.shared.copy.path).parent  # type: ignore[union-attr]
            assert folder.exists()
        assert not folder.exists()
        with reading(path) as con:
            assert con.execute("SELECT count(*) FROM v WHERE id < 400").fetchall() == [(400,)]
    with aidb.connect(path) as con:
        assert con.as_of is None
        assert check_storage(con) == {"m": 400}


def test_copies_are_sound_whatever_the_writer_does(tmp_path: Path) -> None:
    """It answers, checkpoints, drops and makes anew while copies are taken: each is a state that there was."""
    path = tmp_path / "a.db"
    with holding(path) as holder:
        seen = 0
        for step in range(6):
            holder.tell(f"SELECT count(*) FROM v WHERE id < {150 * (step + 1)}")
            if step % 2:
                holder.tell("CREATE OR REPLACE TABLE noise AS SELECT i, random() AS r FROM range(200000) x(i)")
            holder.tell("CHECKPOINT")
            with reading(path) as con:
                done = check_storage(con).get("m", 0)
                assert done >= seen
                seen = done
                [(answers,)] = con.execute("SELECT answers FROM aidb.virtual_tables").fetchall()
                stored = con.engine.database.query(f"SELECT y FROM {answers} ORDER BY y")
                assert stored.column("y").to_pylist() == list(range(done))
                tables = {n for (n,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
                if "noise" in tables:
                    assert con.execute("SELECT count(*), max(i) FROM noise").fetchall() == [(200_000, 199_999)]
    with aidb.connect(path) as con:
        assert check_storage(con) == {"m": 900}


def test_a_copy_that_is_none_is_taken_again_or_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db"
    with holding(path) as holder:
        copyfile, copies = copying.shutil.copyfile, []

        def slow(source: object, target: object) -> object:
            copies.append(str(source))
            if copies.count(str(path)) == 1 and copies[-1] == str(path):  # after the log, before the file
                holder.run("SELECT count(*) FROM v")
                holder.run("CHECKPOINT")
            return copyfile(source, target)  # type: ignore[type-var]

        monkeypatch.setattr(copying.shutil, "copyfile", slow)
        with reading(path) as con:
            assert con.execute("SELECT count(*) FROM v").fetchall() == [(1000,)]
        assert copies.count(str(path)) == 2, "the first did not belong together"

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(copying.shutil, "copyfile", full)
        with pytest.raises(aidb.OperationalError, match="can't be copied to be read: No space left on device"):
            aidb.connect(path, read_only=True)
        with monkeypatch.context() as patch:
            patch.setattr(copying.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
            with pytest.raises(aidb.OperationalError, match=r"the copy takes \d+ MiB, and .* has 0 .TMPDIR names"):
                aidb.connect(path, read_only=True)
        monkeypatch.setattr(copying, "_PAUSE", 0)
        monkeypatch.setattr(copying.Copy, "take", lambda self: False)
        with pytest.raises(aidb.OperationalError, match="faster than it can be copied"):
            aidb.connect(path, read_only=True)
        monkeypatch.setattr(copying.Copy, "take", lambda self: Path(self.path).write_bytes(b"no database" * 9999))
        with pytest.raises(aidb.OperationalError, match=r"a copy of it can't be opened: .*not a valid DuckDB"):
            aidb.connect(path, read_only=True)


def test_the_shell_says_both(tmp_path: Path) -> None:
    path = tmp_path / "temp.db"  # a name that DuckDB would take for one of its own
    command = [sys.executable, "-m", "aidb", "--no-config", str(path), "-c", "SELECT count(*) AS n FROM v WHERE id < 5"]
    with holding(path) as holder:
        holder.run("SELECT count(*) FROM v WHERE id < 5")
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 1
        assert f"process {holder.process.pid}" in refused.stderr
        assert "aidb --readonly" in refused.stderr
        read = subprocess.run([*command, "--readonly", "--format", "csv"], capture_output=True, text=True, timeout=60)
        assert read.returncode == 0, read.stderr
        assert read.stdout == "n\n5\n"
        assert "this is a copy as of" in read.stderr


def test_many_may_read_and_none_write_then(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Holder(path).process.communicate(timeout=60)
    reader = """
        import sys, aidb
        con = aidb.connect(sys.argv[1], read_only=True)
        print("open", flush=True)
        sys.stdin.read()
    """
    holder = Holder(path, reader)
    try:
        with aidb.connect(path, read_only=True) as con:
            assert con.as_of is None
        with pytest.raises(aidb.OperationalError, match="open in another process"):
            aidb.connect(path)
    finally:
        holder.process.communicate(timeout=60)
    plain = duckdb.connect(str(path), read_only=True)
    assert plain.execute("SELECT count(*) FROM t").fetchall() == [(1000,)]
    plain.close()
