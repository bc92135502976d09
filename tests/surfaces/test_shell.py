"""The shell without a person: arguments, scripts, pipes, exit codes, and what goes to which stream."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import aidb
from aidb.surfaces.commands import COMMANDS
from aidb.surfaces.formats import FORMATS, ONE_RESULT
from aidb.surfaces.shell import _FORMATS

Aidb = Callable[..., Any]  # see conftest
Program = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three pictures of one colour, and one file that is none."""
    folder = tmp_path / "my pictures"
    folder.mkdir()
    for name, color in (("a", (255, 0, 0)), ("b", (0, 0, 255)), ("c", (255, 0, 0))):
        Image.fromarray(np.full((8, 8, 3), color, np.uint8)).save(folder / f"{name}.png")
    (folder / "d.png").write_bytes(b"no picture")
    return folder


def define(pictures: Path) -> str:
    return (
        f"CREATE BLOB TABLE photos FROM '{pictures}/*.png'; CREATE MODEL paint USING color;"
        "CREATE VIRTUAL TABLE hue AS paint(photos.image)"
    )


# ---- rows and the rest
def test_rows_go_to_stdout_and_the_rest_to_stderr(aidb_: Aidb, pictures: Path, tmp_path: Path) -> None:
    db = tmp_path / "x.aidb"
    made = aidb_(db, "-c", define(pictures))
    assert (made.code, made.out) == (0, "")
    assert "4 items" in made.err

    asked = aidb_(db, "--format", "csv", "-c", "SELECT color, COUNT(*) AS n FROM hue GROUP BY 1 ORDER BY 1")
    assert asked.out == "color,n\nblue,1\nred,2\n"
    assert "2 rows" in asked.err
    assert "paint: 3 calls" in asked.err
    assert "1 failed" in asked.err
    assert "RETRY FAILED" in asked.err

    again = aidb_(db, "--format", "csv", "-c", "SELECT COUNT(*) AS n FROM hue")
    assert again.out == "n\n3\n"
    assert "0 calls + " in again.err


def test_statements_come_from_arguments_files_and_stdin_in_their_order(aidb_: Aidb, tmp_path: Path) -> None:
    script = tmp_path / "s.sql"
    script.write_text("\ufeffINSERT INTO t VALUES (2); -- two\nINSERT INTO t VALUES (3)", encoding="utf-8")
    done = aidb_(
        "--format", "csv", "-c", "CREATE TABLE t AS SELECT 1 AS a", "-f", script, "-f", "-", "-c", "FROM t ORDER BY a",
        stdin="INSERT INTO t VALUES (4)",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "a\n1\n2\n3\n4\n")
    assert "1 row changed" in done.err


def test_a_pipe_needs_no_argument(aidb_: Aidb, tmp_path: Path) -> None:
    assert aidb_("--format", "csv", stdin="SELECT 42 AS a;\n").out == "a\n42\n"
    assert aidb_(tmp_path / "x.aidb", stdin="CREATE TABLE t AS SELECT 1 AS a").code == 0
    assert aidb_(tmp_path / "x.aidb", "--format", "csv", stdin="FROM t").out == "a\n1\n"
    nothing = aidb_(stdin="-- nothing\n;")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "")


def test_a_pipe_is_not_read_where_arguments_say_what_to_do(aidb_: Aidb) -> None:
    assert aidb_("--format", "csv", "-c", "SELECT 1 AS a", stdin="SELECT 2 AS b").out == "a\n1\n"


@pytest.mark.parametrize("form", sorted(set(FORMATS) - ONE_RESULT))
def test_every_format_can_be_asked_for(aidb_: Aidb, form: str) -> None:
    assert "wörd" in aidb_("--format", form, "-c", "SELECT 'wörd' AS a").out


def test_parquet_and_arrow_go_to_a_pipe(program: Program) -> None:
    done = program("--format", "parquet", "-c", "SELECT range AS a FROM range(3)")
    assert pq.read_table(io.BytesIO(done.stdout)).to_pydict() == {"a": [0, 1, 2]}
    done = program("-arrow", "-c", "SELECT range AS a FROM range(3)")
    assert pa.ipc.open_file(done.stdout).read_all().to_pydict() == {"a": [0, 1, 2]}


def test_formats_of_the_parser_are_those_that_there_are() -> None:
    assert tuple(FORMATS) == _FORMATS


# ---- errors
def test_an_error_in_sql_is_code_1_with_position_and_hint(aidb_: Aidb) -> None:
    done = aidb_("-c", "CREATE MODEL paint USSING color")
    assert (done.code, done.out) == (1, "")
    assert "line 1, column 20" in done.err
    assert "^" in done.err
    assert "Traceback" not in done.err


def test_a_script_stops_at_its_first_error_and_says_where(aidb_: Aidb, tmp_path: Path) -> None:
    script = tmp_path / "report.sql"
    script.write_text("SELECT 1 AS a;\n\n-- a comment; with a semicolon\nSELECT\n  nothing;\nSELECT 3 AS c;\n")
    done = aidb_("--format", "csv", "-f", script, "-c", "SELECT 4 AS d")
    assert (done.code, done.out) == (1, "a\n1\n")
    assert f"{script}, line 4, statement 2: " in done.err


def test_the_position_in_a_script_counts_from_its_beginning(aidb_: Aidb) -> None:
    done = aidb_(stdin="SELECT 1;\nCREATE MODEL paint\n  USSING color;")
    assert done.code == 1
    assert "stdin, line 2, statement 2" in done.err
    assert "line 3, column 3" in done.err


def test_a_text_that_is_never_closed(aidb_: Aidb) -> None:
    done = aidb_(stdin="SELECT 1;\nSELECT 'oops;")
    assert (done.code, done.out) == (1, "")
    assert "line 2" in done.err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--formt", "csv"], "--formt"),
        (["--format", "xml"], "xml"),
        (["a.aidb", "b.aidb"], "b.aidb"),
        (["-f", "no such script.sql"], "no such script.sql"),
        (["--readonly", "-c", "SELECT 1"], "--readonly"),
        (["-c"], "-c"),
    ],
)
def test_usage_is_code_2(aidb_: Aidb, arguments: list[str], named: str) -> None:
    done = aidb_(*arguments)
    assert (done.code, done.out) == (2, "")
    assert named in done.err


def test_a_script_that_is_no_text(aidb_: Aidb, tmp_path: Path) -> None:
    (tmp_path / "x.sql").write_bytes(b"SELECT '\xff'")
    done = aidb_("-f", tmp_path / "x.sql")
    assert done.code == 1
    assert "UTF-8" in done.err


def test_a_database_that_can_not_be_opened(aidb_: Aidb, tmp_path: Path) -> None:
    (tmp_path / "x.aidb").write_bytes(b"this is no database, whatever its name says" * 100)
    for arguments in ([tmp_path / "x.aidb"], [tmp_path / "none" / "x.aidb"], [tmp_path / "y.aidb", "--readonly"]):
        done = aidb_(*arguments, "-c", "SELECT 1")
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ")
        assert "Traceback" not in done.err


def test_readonly(aidb_: Aidb, tmp_path: Path) -> None:
    db = tmp_path / "x.aidb"
    assert aidb_(db, "-c", "CREATE TABLE t AS SELECT 1 AS a").code == 0
    assert aidb_(db, "--readonly", "--format", "csv", "-c", "FROM t").out == "a\n1\n"
    assert aidb_(db, "--readonly", "-c", "INSERT INTO t VALUES (2)").code == 1


# ---- what it says about itself
def test_help_is_short_and_true(aidb_: Aidb) -> None:
    told = aidb_("--help")
    assert told.code == 0
    assert len(told.out.splitlines()) <= 32
    assert max(map(len, told.out.splitlines())) <= 100
    for option in ("-c", "-f", "--format", "--readonly", "--no-progress", "--version", "demo"):
        assert option in told.out
    for form in FORMATS:
        assert form in told.out


def test_version_and_help_load_nothing_heavy(aidb_: Aidb, program: Program) -> None:
    assert aidb_("--version").out == f"aidb {aidb.__version__}\n"
    code = "import sys; from aidb.surfaces.shell import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & {"duckdb", "sqlglot", "pyarrow", "numpy", "rich"}


def test_the_prompt_waits_for_nothing_heavy() -> None:
    """What plans queries is loaded behind it."""
    code = "import sys; import aidb.surfaces.prompt, aidb.surfaces.history, aidb.surfaces.highlighting; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "prompt_toolkit" in loaded
    assert not loaded & {"duckdb", "sqlglot", "pyarrow", "numpy", "rich"}


def test_the_demo_is_a_command(aidb_: Aidb) -> None:
    assert "DIR" in aidb_("demo", "--help").out


# ---- commands
def test_commands_tell_what_there_is(aidb_: Aidb, pictures: Path, tmp_path: Path) -> None:
    db = tmp_path / "x.aidb"
    aidb_(db, "-c", define(pictures), "-c", "CREATE TABLE plain AS SELECT 1 AS a; CREATE VIEW seen AS FROM plain")
    asked = aidb_(db, "--format", "json", "-c", ".tables")
    assert [(row["name"], row["kind"]) for row in json.loads(asked.out)] == [
        ("photos", "blob table"), ("hue", "virtual table"), ("plain", "table"), ("seen", "view"),
    ]  # fmt: skip
    assert json.loads(aidb_(db, "--format", "json", "-c", ".models").out)[0]["name"] == "paint"
    assert "no model has run" in aidb_(db, "-c", ".cost").err
    assert "no item has failed" in aidb_(db, "-c", ".errors").err
    assert "no answer is stale" in aidb_(db, "-c", ".stale").err

    aidb_(db, "-c", "SELECT * FROM hue")
    (cost,) = json.loads(aidb_(db, "--format", "json", "-c", ".cost").out)
    assert (cost["model"], cost["failed"]) == ("paint", 1)
    (error,) = json.loads(aidb_(db, "--format", "json", "-c", ".errors").out)
    assert error["model"] == "paint"
    assert "0 items" in aidb_(db, "-c", ".cost SELECT * FROM hue WHERE image_id < 3").out

    aidb_(db, "-c", "CREATE OR REPLACE MODEL paint USING color WITH (middle = 0.25)")
    stale = aidb_(db, "--format", "json", "-c", ".stale")
    assert [(row["model"], row["items"]) for row in json.loads(stale.out)] == [("paint", 4)]


def test_schema_makes_everything_anew(aidb_: Aidb, pictures: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.aidb", tmp_path / "two.aidb"
    aidb_(
        one, "-c",
        "CREATE TABLE plain AS SELECT 1 AS a, 'x' AS \"order\"; CREATE VIEW seen AS FROM plain;"
        "CREATE BLOB TABLE \"odd name\" AS SELECT a, \"order\" FROM plain KEY (a);" + define(pictures),
    )  # fmt: skip
    first = aidb_(one, "-c", ".schema").out
    made = aidb_(two, stdin=first)
    assert made.code == 0, made.err
    assert aidb_(two, "-c", ".schema").out == first
    assert aidb_(one, "-c", ".schema hue").out.startswith("CREATE VIRTUAL TABLE hue AS paint(photos.image);")
    unknown = aidb_(one, "-c", ".schema nothing")
    assert unknown.code == 1
    assert "nothing" in unknown.err


def test_a_script_may_hold_commands(aidb_: Aidb, tmp_path: Path) -> None:
    inner = tmp_path / "inner file.sql"
    inner.write_text("SELECT 'inner' AS a")
    done = aidb_(stdin=f".mode csv\n.timer off\nSELECT 1 +\n.5 AS a;\n.read {inner}\n.quit\nSELECT 3;\n")
    assert (done.code, done.out) == (0, "a\n1.5\na\ninner\n"), done.err
    assert "row" not in done.err.replace("rows, seconds and calls", "")


def test_a_mistaken_command_is_code_1_with_a_hint(aidb_: Aidb) -> None:
    done = aidb_("-c", ".tabels")
    assert done.code == 1
    assert ".tables" in done.err
    assert aidb_("-c", ".mode xml").code == 1
    assert aidb_("-c", ".timer maybe").code == 1
    assert aidb_("-c", ".read").code == 1
    assert aidb_("-c", ".quit now").code == 1
    told = aidb_("-c", ".help").err
    assert all(f"\n  {name} " in told for name in COMMANDS)


# ---- the other end of the pipe
def test_a_reader_that_has_enough_costs_no_word() -> None:
    command = f"'{sys.executable}' -m aidb --format csv -c 'SELECT range AS a FROM range(2000000)' | head -n 2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("a\n0\n", "")


# ---- where rows go
def test_results_go_to_files_in_the_form_that_their_names_say(aidb_: Aidb, tmp_path: Path) -> None:
    one, all_ = tmp_path / "one file.parquet", tmp_path / "all.txt"
    all_.write_text("what was there before")
    done = aidb_(
        "--format", "csv", "-c",
        f".output {all_}\n.once '{one}'\nSELECT 1 AS a;\nSELECT 2 AS b;\nSELECT 3 AS c;\n.output\nSELECT 4 AS d;",
    )  # fmt: skip
    assert (done.code, done.out) == (0, "d\n4\n"), done.err
    assert pq.read_table(one).to_pydict() == {"a": [1]}
    assert all_.read_text() == "b\n2\nc\n3\n"
    assert f"the next result goes to {one}, as parquet" in done.err


def test_mode_holds_for_files_whose_name_says_nothing(aidb_: Aidb, tmp_path: Path) -> None:
    script = "SELECT 1 AS a;\n.mode json\nSELECT 2 AS b;\n"
    assert aidb_("-csv", "-c", f".output {tmp_path}/x\n{script}.output {tmp_path}/x.tsv\n{script}").code == 0
    assert (tmp_path / "x").read_text() == 'a\n1\n[{"b": 2}]\n'
    assert (tmp_path / "x.tsv").read_text() == "a\n1\nb\n2\n"


def test_a_statement_that_fails_leaves_the_file_alone(aidb_: Aidb, tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    kept.write_text("what was there before")
    assert aidb_("-c", f".once {kept}\nSELECT nothing").code == 1
    assert kept.read_text() == "what was there before"


@pytest.mark.parametrize("name", ["", "none/x.csv", "."])
def test_a_file_that_can_not_be_written_is_said_before_anything_runs(aidb_: Aidb, tmp_path: Path, name: str) -> None:
    done = aidb_("-c", f".output {tmp_path / name}\nSELECT 1")
    assert (done.code, done.out) == (1, "")
    assert "can't write" in done.err
    assert aidb_("-c", ".once").code == 1


def test_a_full_disk_is_an_error_of_the_statement(aidb_: Aidb) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    done = aidb_("--format", "csv", "-c", ".once /dev/full\nSELECT range AS a FROM range(100000);")
    assert done.code == 1
    assert "/dev/full: No space left" in done.err


# ---- what comes first, and what a config says
def test_init_and_cmd_come_before_all_else(aidb_: Aidb, tmp_path: Path) -> None:
    init = tmp_path / "init.sql"
    init.write_text("CREATE TABLE t AS SELECT 1 AS a;")
    done = aidb_("-c", "FROM t ORDER BY a", "-cmd", ".mode csv", "-cmd", "INSERT INTO t VALUES (2)", "-init", init)
    assert (done.code, done.out) == (0, "a\n1\n2\n")
    assert aidb_("-init", tmp_path / "none.sql").code == 2
    failed = aidb_("-cmd", "SELECT nothing", "-c", "SELECT 1")
    assert (failed.code, failed.out) == (1, "")
    assert "-cmd, line 1" in failed.err


def test_a_config_caps_scripts_too_but_never_changes_what_they_write(
    aidb_: Aidb, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "aidb").mkdir()
    file = tmp_path / "aidb" / "config.toml"
    file.write_text('[shell]\nformat = "json"\ntimer = false\n[settings]\nmax_calls = 2\n')
    db = tmp_path / "x.aidb"
    aidb_(db, "-c", define(pictures))
    capped = aidb_(db, "-c", "SELECT count(*) AS n FROM hue")
    assert (capped.code, capped.out) == (1, "")
    assert "max_calls" in capped.err
    free = aidb_(db, "--no-config", "-c", "SELECT count(*) AS n FROM hue")
    assert (free.code, free.out) == (0, "n\n-\n3\n")
    for text in ("[settings]\nmax_calls = -1", "[settings]\nmax_cals = 1", "nonsense"):
        file.write_text(text)
        refused = aidb_(db, "-c", "SELECT 1")
        assert (refused.code, refused.out) == (2, "")
        assert str(file) in refused.err


# ---- commands, continued
def test_more_commands(aidb_: Aidb, tmp_path: Path) -> None:
    db = tmp_path / "x.aidb"
    aidb_(db, "-c", "CREATE TABLE t AS SELECT 1 AS a, 'x' AS b")
    assert "a            INTEGER" in aidb_(db, "-c", "\\d t").out
    assert "t     table" in aidb_(db, "-c", "\\dt").out
    assert str(db) in aidb_(db, "--format", "csv", "-c", ".databases").out
    line = aidb_(db, "-c", "\\x\nFROM t;\n\\x\nFROM t;").out
    assert line.startswith("a = 1\nb = x\n")
    assert line.endswith("a  b\n-  -\n1  x\n")
    assert aidb_(db, "-c", ".explain SELECT * FROM t").code == 0
    assert "Seq Scan" in aidb_(db, "-c", "FROM t;\n.explain").out
    assert aidb_("-c", ".explain").code == 1
    assert aidb_("-c", ".pager less -S\n.pager off").code == 0
    assert "did you mean" in aidb_("-c", "\\timin").err


def test_show_writes_the_pictures_of_the_last_result(
    aidb_: Aidb, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = f"{define(pictures)};\nSELECT image, color FROM photos LEFT JOIN hue USING (image_id);\n.show\n.show\n.show x.png\n"
    done = aidb_("-c", script)
    assert done.code == 0, done.err
    assert "pictures.html: 4 pictures, 1 of them can't be read" in done.err
    assert (tmp_path / "pictures-2.html").is_file()
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.width > 100
    for wrong in (".show", "SELECT 1 AS a;\n.show", f"{define(pictures)};\nSELECT image FROM photos;\n.show x.bmp"):
        assert aidb_("-c", wrong).code == 1


# ---- what is wrong, in words
@pytest.mark.parametrize(
    ("sql", "hint"),
    [
        ("SELEC 1", "did you mean SELECT?"),
        ("SELECT 1 FORM t", "did you mean FROM?"),
        ("SELECT * FROM range(3)\nWERE range > 1", "did you mean WHERE?"),
        ("SELECT (1", "the bracket at line 1, column 8 is never closed"),
        ("SELECT 1 ERROR TARGT 5%", "did you mean TARGET?"),
        ("CREATE TABL t (a INTEGER)", "did you mean TABLE?"),
    ],
)
def test_a_slip_is_placed_and_guessed(aidb_: Aidb, sql: str, hint: str) -> None:
    done = aidb_("-c", f"SELECT 1;\n{sql}")
    assert done.code == 1
    assert "-c, line 2, statement 2: syntax error at or near " in done.err
    assert f"line {1 + len(sql.splitlines())}, column " in done.err
    assert f"hint: {hint}" in done.err


def test_a_fault_in_a_long_line_is_shown_with_what_is_around_it(aidb_: Aidb) -> None:
    done = aidb_("-c", f"SELECT {'1, ' * 5000} 1 a b {', 1' * 5000}")
    assert done.code == 1
    assert max(map(len, done.err.splitlines())) < 250
    shown, caret = done.err.splitlines()[2:4]
    assert shown[caret.index("^") :].startswith("b ")
