"""EXPORT VIRTUAL TABLE and ATTACH MATERIALIZED: answers that another database paid for, and only those that hold here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

import aidb
from aidb.spi import Input
from aidb.testing import FakeModel
from tests.engine.storing import check_storage, rows

QUERIES = [
    "SELECT id, k FROM docs ORDER BY id",
    "SELECT s, n, w FROM notes JOIN part USING (blob_id) ORDER BY ALL",
    "SELECT s, w, u FROM notes JOIN part USING (blob_id) JOIN shout USING (blob_id, part_id) ORDER BY ALL",
    "SELECT id, size FROM plain ORDER BY id",
]


def database(path: Path, *, order: str = "ASC", count: int = 60, version: str = "1") -> aidb.Connection:
    """The same items under other keys if ``order`` differs; four models of every kind of item."""
    con = aidb.connect(path)
    con.execute(f"CREATE TABLE t AS SELECT range AS id, 'a' || range AS s FROM range({count}) ORDER BY id {order}")
    con.execute("CREATE TABLE plain AS SELECT id, s FROM t UNION ALL SELECT -1, NULL")
    con.execute("CREATE BLOB TABLE docs AS SELECT * FROM t KEY (id)")
    con.execute("CREATE BLOB TABLE notes AS SELECT s FROM t")
    con.register(FakeModel("parts", {"n": "INTEGER", "w": "VARCHAR"}, _parts, rows="many", version=version))
    con.register(FakeModel("size", {"size": "INTEGER"}, _size, version=version))
    con.register(FakeModel("loud", {"u": "VARCHAR"}, lambda s, w: s + w.upper(), inputs=("s", "w")))
    con.execute("SET aidb.max_error_ratio = 1")
    con.execute("CREATE VIRTUAL TABLE part AS parts(notes.s)")
    con.execute("CREATE VIRTUAL TABLE shout AS loud(notes.s, part.w)")
    con.execute("ALTER TABLE docs ADD VIRTUAL COLUMN k AS size(s)")
    con.execute("ALTER TABLE plain ADD VIRTUAL COLUMN size AS size(s)")
    return con


def _parts(s: str) -> list[dict[str, object]]:
    return [{"n": n, "w": letter} for n, letter in enumerate(s)]


def _size(s: str | None) -> int | None:
    if s == "a7":
        raise ValueError("unlucky")
    return None if s is None else len(s)


TABLES = ["docs", "part", "shout", "plain"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, aidb.Connection]]:
    folder = tmp_path_factory.mktemp("exported")
    with database(folder / "a.aidb") as con:
        for sql in QUERIES:
            con.execute(sql)
        for table in TABLES:
            con.execute(f"EXPORT VIRTUAL TABLE {table} TO '{folder / table}'")
        yield folder, con


def test_nothing_is_asked_again_under_other_keys(exported: tuple[Path, aidb.Connection], tmp_path: Path) -> None:
    folder, first = exported
    with database(tmp_path / "b.aidb", order="DESC") as con:
        said = [con.execute(f"ATTACH MATERIALIZED {table} FROM '{folder / table}'").message for table in TABLES]
        assert said[0] is not None
        assert said[0].startswith(
            f"docs: 59 items have their answers from {folder / 'docs'} now, 0 had theirs, 0 are not"
        )
        for sql in QUERIES:
            again = con.execute(sql)
            assert again.fetchall() == rows(first, sql)
            # What failed there is tried here.
            assert again.report.oracle_calls <= 1, again.report
        check_storage(con)


class _Remembering(LocalFileSystem):
    """A store that keeps what it once knew of its files, as those of object stores do; its paths are paths here."""

    protocol = "remembering"
    known: ClassVar[dict[str, bool]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("remembering://")))

    def exists(self, path: str, **more: Any) -> bool:
        return self.known.setdefault(path, super().exists(path, **more))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.known.clear()


def test_a_store_by_its_address_shows_what_others_have_written_since(
    exported: tuple[Path, aidb.Connection], tmp_path: Path
) -> None:
    folder, first = exported
    fsspec.register_implementation("remembering", _Remembering, clobber=True)
    with database(tmp_path / "b.aidb") as con:
        attach = f"ATTACH MATERIALIZED docs FROM 'remembering://{tmp_path}/bucket/docs'"
        with pytest.raises(aidb.OperationalError, match="holds no export"):
            con.execute(attach)
        shutil.copytree(folder / "docs", tmp_path / "bucket/docs")  # by another process
        assert "59 items have their answers" in str(con.execute(attach).message)
        assert rows(con, QUERIES[0]) == rows(first, QUERIES[0])
        export = f"EXPORT VIRTUAL TABLE docs TO 'remembering://{tmp_path}/bucket/again'"
        con.execute(export)
        with pytest.raises(aidb.OperationalError, match="holds an export already"):
            con.execute(export)


class _Refusing(LocalFileSystem):
    """A store that says at the end of a file that it can't have it."""

    protocol = "refusing"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("refusing://")))

    def _open(self, path: str, mode: str = "rb", **more: Any) -> Any:
        file = super()._open(path, mode, **more)
        return _Lost(file) if "rows" in path else file


class _Lost:
    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def close(self) -> None:
        self.file.close()
        raise OSError("the bucket is full")


def test_a_part_that_a_store_did_not_take_is_no_export(exported: tuple[Path, aidb.Connection], tmp_path: Path) -> None:
    _, con = exported
    fsspec.register_implementation("refusing", _Refusing, clobber=True)
    with pytest.raises(aidb.OperationalError, match="rows: the bucket is full"):
        con.execute(f"EXPORT VIRTUAL TABLE docs TO 'refusing://{tmp_path}/out'")
    assert (tmp_path / "out/0/rows").exists()
    assert not (tmp_path / "out/manifest.json").exists()


def test_what_was_known_stays_and_what_failed_is_settled(
    exported: tuple[Path, aidb.Connection], tmp_path: Path
) -> None:
    folder, first = exported
    with database(tmp_path / "b.aidb") as con:
        bad = FakeModel("size", {"size": "INTEGER"}, lambda s: 1 // 0 if s == "a3" else len(s))
        con.register(bad)
        con.execute("SELECT k FROM docs WHERE id < 10")
        assert rows(con, "SELECT count(*) FROM aidb.errors") == [(1,)]
        said = con.execute(f"ATTACH MATERIALIZED docs FROM '{folder / 'docs'}'").message
        assert said is not None
        assert "51 items have their answers" in said
        assert "8 had theirs" in said
        assert rows(con, "SELECT count(*) FROM aidb.errors") == [(0,)]
        assert rows(con, "SELECT k FROM docs WHERE id = 3") == rows(first, "SELECT k FROM docs WHERE id = 3") == [(2,)]
        check_storage(con, retried=True)
        again = con.execute(f"ATTACH MATERIALIZED docs FROM '{folder / 'docs'}'").message
        assert again is not None
        assert ": 0 items have" in again


def test_changed_and_unlisted_items_are_left_out(exported: tuple[Path, aidb.Connection], tmp_path: Path) -> None:
    folder, _ = exported
    with database(tmp_path / "b.aidb", count=20) as con:
        con.execute("UPDATE t SET s = 'other' WHERE id = 5")
        con.execute("REFRESH BLOB TABLE docs")
        said = con.execute(f"ATTACH MATERIALIZED docs FROM '{folder / 'docs'}'").message
        assert said is not None
        assert said.endswith(
            ": 18 items have their answers from X now, 0 had theirs, 41 are not listed here or not the same".replace(
                "X", str(folder / "docs")
            ).removeprefix(": ")
        )
        cursor = con.execute("SELECT k FROM docs WHERE id = 5")
        assert cursor.fetchall() == [(5,)]
        assert cursor.report.calls == {"size": 1}


def test_answers_that_rest_on_others_need_those(exported: tuple[Path, aidb.Connection], tmp_path: Path) -> None:
    folder, _ = exported
    with database(tmp_path / "b.aidb") as con:
        # shout's items are rows of part, and none is here yet.
        said = con.execute(f"ATTACH MATERIALIZED shout FROM '{folder / 'shout'}'").message
        assert said is not None
        assert "shout: 0 items" in said


def test_another_model_s_answers_are_refused(exported: tuple[Path, aidb.Connection], tmp_path: Path) -> None:
    folder, _ = exported
    with database(tmp_path / "b.aidb", version="2") as con:
        with pytest.raises(aidb.ProgrammingError, match="other weights, options or code: fingerprint"):
            con.execute(f"ATTACH MATERIALIZED docs FROM '{folder / 'docs'}'")
        with pytest.raises(aidb.ProgrammingError, match="fingerprint"):
            con.execute(f"ATTACH MATERIALIZED part FROM '{folder / 'docs'}'")


def test_a_folder_that_is_cut_short_leaves_nothing_behind(
    exported: tuple[Path, aidb.Connection], tmp_path: Path
) -> None:
    import shutil

    folder, _ = exported
    copy = tmp_path / "copy"
    shutil.copytree(folder / "part", copy)
    part = copy / "0" / "rows" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:200])
    with database(tmp_path / "b.aidb") as con:
        with pytest.raises(aidb.OperationalError, match="part-00000"):
            con.execute(f"ATTACH MATERIALIZED part FROM '{copy}'")
        assert rows(con, "SELECT count(*) FROM aidb.calls") == [(0,)]
        check_storage(con)
        part.unlink()
        with pytest.raises(aidb.OperationalError, match="not complete"):
            con.execute(f"ATTACH MATERIALIZED part FROM '{copy}'")
        (copy / "manifest.json").write_text('{"format": 99}')
        with pytest.raises(aidb.OperationalError, match="newer AIDB"):
            con.execute(f"ATTACH MATERIALIZED part FROM '{copy}'")
        (copy / "manifest.json").write_text("{")
        with pytest.raises(aidb.OperationalError, match=r"manifest\.json"):
            con.execute(f"ATTACH MATERIALIZED part FROM '{copy}'")
        (copy / "manifest.json").unlink()
        with pytest.raises(aidb.OperationalError, match="not finished"):
            con.execute(f"ATTACH MATERIALIZED part FROM '{copy}'")


def test_what_cannot_be_carried_says_why(exported: tuple[Path, aidb.Connection], tmp_path: Path) -> None:
    folder, con = exported
    for sql, says in [
        (f"EXPORT VIRTUAL TABLE docs TO '{folder / 'docs'}'", "holds an export already"),
        (f"EXPORT VIRTUAL TABLE nothing TO '{tmp_path}'", "unknown virtual table"),
        (f"EXPORT VIRTUAL TABLE notes TO '{tmp_path / 'n'}'", "no virtual columns"),
        ("EXPORT VIRTUAL TABLE docs TO 'nix://bucket/x'", "nix"),
        ("EXPORT VIRTUAL TABLE docs TO 's3://user:word@host/x'", "password"),
        ("EXPORT VIRTUAL TABLE docs", "TO"),
        ("ATTACH MATERIALIZED docs", "FROM"),
        ("EXPORT VIRTUAL docs TO 'x'", "TABLE"),
    ]:
        with pytest.raises(aidb.Error, match=says):
            con.execute(sql)


def test_an_export_can_be_read_by_anything_and_holds_no_keys(exported: tuple[Path, aidb.Connection]) -> None:
    folder, _ = exported
    ledger = pq.read_table(folder / "part" / "0" / "ledger")
    assert ledger.column_names == ["_item", "key0_content", "key0_copy", "_version", "_call"]
    assert pq.read_table(folder / "part" / "0" / "rows").column_names == ["_item", "part_id", "n", "w"]
    manifest = json.loads((folder / "part" / "manifest.json").read_text())
    assert manifest["table"] == "part"


def test_a_read_only_database_can_be_exported(exported: tuple[Path, aidb.Connection], tmp_path: Path) -> None:
    with database(tmp_path / "b.aidb", count=5) as con:
        con.execute("SELECT k FROM docs").fetchall()
    with aidb.connect(tmp_path / "b.aidb", read_only=True) as con:
        con.register(FakeModel("size", {"size": "INTEGER"}, _size))
        con.execute(f"EXPORT VIRTUAL TABLE docs TO '{tmp_path / 'out'}'")
        with pytest.raises(aidb.OperationalError, match="read-only"):
            con.execute(f"ATTACH MATERIALIZED docs FROM '{tmp_path / 'out'}'")


def test_files_travel_by_name_and_content_id(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a", "bb", "ccc"):
        (folder / f"{name}.txt").write_text(name)

    def listing(path: Path) -> aidb.Connection:
        con = aidb.connect(path)
        con.register(FakeModel("size", {"size": "INTEGER"}, len, inputs=(Input("text", form="text"),)))
        con.execute(f"CREATE BLOB TABLE docs FROM '{folder}/*.txt'")
        con.execute("CREATE VIRTUAL TABLE long AS size(docs.text)")
        return con

    with listing(tmp_path / "a.aidb") as con:
        assert rows(con, "SELECT sum(size) FROM long") == [(6,)]
        con.execute(f"EXPORT VIRTUAL TABLE long TO '{tmp_path / 'out'}'")
    (folder / "bb.txt").write_text("changed")
    (folder / "aa.txt").write_text("new, and now the second by name")
    with listing(tmp_path / "b.aidb") as con:
        said = con.execute(f"ATTACH MATERIALIZED long FROM '{tmp_path / 'out'}'").message
        assert said is not None
        assert "2 items have their answers" in said
        cursor = con.execute("SELECT sum(size) FROM long WHERE size < 9")
        assert cursor.fetchall() == [(1 + 7 + 3,)]
        assert cursor.report.calls == {"size": 2}
