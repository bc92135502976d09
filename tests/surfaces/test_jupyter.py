"""The notebook's magics in an IPython shell of this process: what they run, what they show, what they say of mistakes."""

from __future__ import annotations

import builtins
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import aidb
from aidb.connection import Connection
from aidb.errors import DataError, Error, InterfaceError, ProgrammingError, UnknownName
from aidb.exec.control import Progress
from aidb.surfaces.jupyter import order
from aidb.surfaces.jupyter.bars import bars
from aidb.surfaces.jupyter.completion import sql_at
from aidb.surfaces.jupyter.variables import given
from aidb.testing import MemoryConnector


@pytest.fixture(scope="module")
def ipython(tmp_path_factory: pytest.TempPathFactory) -> InteractiveShell:
    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor"
    settings.InteractiveShell.xmode = "Plain"
    settings.IPCompleter.use_jedi = False
    settings.InteractiveShell.ipython_dir = str(tmp_path_factory.mktemp("ipython"))
    return InteractiveShell(config=settings)


class Notebook:
    """Cells that are run one after the other."""

    def __init__(self, shell: InteractiveShell, told: Callable[[], str]) -> None:
        self.shell, self._told = shell, told
        self.names: dict[str, Any] = shell.user_ns
        self.told = ""

    def run(self, cell: str) -> Any:
        """The cell's value; what it printed is in `told`. Raises what ended the cell."""
        done = self.shell.run_cell(cell)
        self.told = self._told()
        done.raise_error()
        return done.result

    def wrong(self, cell: str) -> list[str]:
        """What is shown of the error of ours that ends a cell."""
        with pytest.raises(Error):
            self.run(cell)
        return re.sub(r"\x1b\[\d+m", "", self.told).rstrip("\n").splitlines()

    def html(self, cell: str) -> str:
        """What is shown of a cell's value."""
        shown, _ = self.shell.display_formatter.format(self.run(cell))  # type: ignore[union-attr]
        return str(shown["text/html"])


@pytest.fixture
def notebook(
    ipython: InteractiveShell, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    book = Notebook(ipython, lambda: capsys.readouterr().out)
    book.run("%load_ext aidb")
    yield book
    book.run("%unload_ext aidb")
    ipython.reset(new_session=False)


# ---- the first line


@pytest.mark.parametrize(
    ("line", "cell", "wanted"),
    [
        ("SELECT 1", None, {}),
        ("cars <<", "SELECT 1", {"name": "cars", "quiet": True}),
        ("cars = <<", "SELECT 1", {"name": "cars", "quiet": False}),
        ("cars=<< SELECT 1", None, {"name": "cars", "quiet": False}),
        ("-c con --limit 5 x << --explain SELECT 1", None,
         {"name": "x", "quiet": True, "connection": "con", "limit": 5, "explain": True}),
        ("x << -c 'my file.aidb'", "SELECT 1", {"name": "x", "quiet": True, "connection": "my file.aidb"}),
        ("--file=a.sql", None, {"file": "a.sql"}),
        ("-l 0", "SELECT 1", {"limit": 0}),
        ("SELECT 1 << 2", None, {}),
        ("-- a comment", "SELECT 1", {}),
        ("SELECT 'a -c b' --limit", None, {}),
    ],
)  # fmt: skip
def test_the_first_line_holds_options_a_name_and_sql(line: str, cell: str | None, wanted: dict[str, Any]) -> None:
    found = order.read(line, cell)
    plain = order.Order(text=found.text)
    assert {k: v for k, v in vars(found).items() if v != vars(plain)[k]} == {
        k: v for k, v in wanted.items() if v != vars(plain)[k]
    }
    if not found.file:
        assert found.text.endswith("SELECT 1") or line.endswith(found.text.strip())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--limt 5 SELECT 1", "--limt is no option of %aidb; there is -c, -f, --explain, --limit; a comment needs"),
        ("-x SELECT 1", "-x is no option"),
        ("-c", "-c needs a value"),
        ("--limit many SELECT 1", "--limit takes a number of rows, not 'many'"),
        ("-f a.sql SELECT 1", "give one of them"),
    ],
)
def test_a_first_line_that_can_not_be_read_is_refused(line: str, said: str) -> None:
    with pytest.raises(ProgrammingError, match=re.escape(said)):
        order.read(line)


# ---- variables


def test_only_what_is_a_parameter_takes_a_variable() -> None:
    sql = """SELECT $x, '$x :1 ?', "$x", $$ $x $$, $t$ $x $t$, 'x'[:2], {'a': 1}, [1, 2][:1], j->'$.x', 1::INT -- $x
    /* $x */ FROM t WHERE y = $y_2"""
    found = given(sql, {"x": 1, "y_2": "a", "z": 5})
    assert found.sql == sql
    assert found.parameters == {"x": 1, "y_2": "a"}


def test_relations_are_tables_for_the_statement() -> None:
    tables = {"t": pa.table({"a": [1]}), "df": pd.DataFrame({"a": [1, 2]}, index=[7, 8]), "p": pl.DataFrame({"b": [3]})}
    found = given("SELECT $df.a FROM $df JOIN $t USING (a), $p WHERE a > $n", {**tables, "n": np.int64(4)})
    assert found.sql == 'SELECT "$df".a FROM "$df" JOIN "$t" USING (a), "$p" WHERE a > $n'
    assert {name: table.column_names for name, table in found.relations.items()} == {
        '"$df"': ["a"], '"$t"': ["a"], '"$p"': ["b"],
    }  # fmt: skip
    assert found.parameters == {"n": 4}
    assert type(found.parameters["n"]) is int


def test_variables_that_are_not_there_or_can_not_be_values() -> None:
    with pytest.raises(UnknownName, match="unknown variable 'cuttof'; did you mean cutoff"):
        given("SELECT $cuttof", {"cutoff": 1, "_1": 2})
    for mark in ("?", "$1"):
        with pytest.raises(ProgrammingError, match=re.escape(f"{mark} has no value in a notebook: write $name")):
            given(f"SELECT {mark}", {})
    with pytest.raises(ProgrammingError, match="CREATE TABLE df AS FROM \\$df first"):
        given("CREATE BLOB TABLE r AS SELECT * FROM $df KEY (id)", {"df": pa.table({"id": [1]})})
    with pytest.raises(DataError, match=r"\$df can't become a table"):
        given("FROM $df", {"df": pd.DataFrame({"a": [object()]})})
    assert given("EXECUTE p(1)", {}).sql == "EXECUTE p(1)"


def test_sql_and_python_hand_values_to_each_other(notebook: Notebook) -> None:
    notebook.run("import pandas as pd, datetime, numpy as np\nlow = 2; day = datetime.date(2026, 1, 31)")
    notebook.run("df = pd.DataFrame({'id': [1, 2, 3], 'w': ['a', None, 'c']})")
    assert notebook.run("%%aidb big <<\nSELECT * FROM $df WHERE id >= $low") is None
    assert notebook.names["big"].df()["id"].tolist() == [2, 3]
    assert notebook.names["big"].arrow().num_rows == 2
    again = notebook.run(
        "%%aidb both = <<\nSELECT b.id, df.w, $day AS day FROM $big AS b JOIN $df AS df USING (id) ORDER BY 1"
    )
    assert again is notebook.names["both"]
    assert again.fetchall() == [(2, None, notebook.names["day"]), (3, "c", notebook.names["day"])]
    notebook.run("numbers = np.arange(4)\nn = %aidb SELECT list_sum($numbers) AS n")
    assert notebook.names["n"].fetchone() == (6,)
    left = notebook.run("%aidb SELECT table_name FROM duckdb_tables() WHERE table_name LIKE '$%'")
    assert left.fetchall() == []


def test_handles_of_a_dataframe_are_pictures_again(notebook: Notebook) -> None:
    con = pictures(notebook)
    notebook.names["df"] = con.execute("SELECT image_id, image FROM pics").df()
    cursor = notebook.run("%aidb SELECT image FROM $df WHERE image_id = 2")
    assert cursor.fetchone()[0].array().shape == (40, 60, 3)
    notebook.names["df"] = con.execute("SELECT image_id, image FROM pics").pl()
    assert notebook.run("%aidb SELECT image FROM $df").fetchone()[0].array().shape == (40, 60, 3)


# ---- connections


def test_the_connection_is_the_only_one_or_the_one_that_was_named(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("import aidb\ncon = aidb.connect()\ncon.execute('CREATE TABLE here AS SELECT 1 AS x')")
    assert notebook.run("%aidb FROM here").fetchall() == [(1,)]
    notebook.run("con = aidb.connect()\ncon.execute('CREATE TABLE here AS SELECT 2 AS x')")
    assert notebook.run("%aidb FROM here").fetchall() == [(2,)]  # the cell that connects was run again
    notebook.run("other = aidb.connect()\nother.execute('CREATE TABLE here AS SELECT 3 AS x')")
    assert notebook.wrong("%aidb FROM here") == [
        "ProgrammingError: which connection? There is con, other: %%aidb -c con"
    ]
    assert notebook.run("%aidb -c other FROM here").fetchall() == [(3,)]
    assert notebook.run("%aidb FROM here").fetchall() == [(3,)]
    file = notebook.run("%aidb -c new.aidb")
    assert isinstance(file, Connection)
    notebook.run("%aidb CREATE TABLE there AS SELECT 4 AS x")
    assert notebook.run("%aidb -c new.aidb FROM there").fetchall() == [(4,)]
    assert (tmp_path / "new.aidb").is_file()
    assert notebook.wrong("%aidb -c nothing FROM here")[0].startswith("ProgrammingError: there is no variable nothing")
    notebook.run("x = 1")
    assert notebook.wrong("%aidb -c x FROM here") == ["ProgrammingError: x is no connection of AIDB, but of type int"]
    notebook.run("other.close()")
    assert notebook.wrong("%aidb -c other FROM here") == ["InterfaceError: the connection other is closed"]
    notebook.run("%unload_ext aidb\n%load_ext aidb")
    with pytest.raises(InterfaceError):
        file.execute("SELECT 1")


def test_without_any_connection_there_is_one_in_memory(notebook: Notebook) -> None:
    assert notebook.run("%aidb SELECT 42 AS x").fetchall() == [(42,)]
    assert notebook.run("%aidb SELECT 43 AS x").connection is notebook.run("%aidb")


def test_a_file_of_sql_is_run_to_its_last_statement(notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "a b.sql").write_text("-- first\nCREATE TABLE t AS SELECT $n AS x;\nSELECT x + 1 AS y FROM t;", "utf-8")
    notebook.run("n = 1")
    assert notebook.run("%aidb -f 'a b.sql'").fetchall() == [(2,)]
    assert notebook.wrong("%aidb -f no.sql") == ["OperationalError: can't read no.sql: No such file or directory"]
    (tmp_path / "bad.sql").write_text("SELECT 1;\n\nSELECT * FORM t", "utf-8")
    assert notebook.wrong("%aidb -f bad.sql")[1].startswith("line 3, column ")


# ---- what is shown


def pictures(notebook: Notebook) -> Connection:
    """A table ``pics`` of three grey pictures; item-1 can't be read. Gives the notebook's connection ``con``."""
    con = aidb.connect()
    con.register_connector(
        MemoryConnector([np.full((40, 60, 3), 128, np.uint8)] * 3, broken=[1], content="image", key="image_id")
    )
    con.execute("CREATE BLOB TABLE pics FROM 'memory:*' USING memory")
    notebook.names["con"] = con
    return con


def test_pictures_stand_in_the_table_each_with_the_box_of_its_row(notebook: Notebook) -> None:
    pictures(notebook)
    shown = notebook.html(
        "%aidb SELECT name, image, x AS xmin, 5 AS ymin, x + 20 AS xmax, 30 AS ymax FROM pics, (VALUES (5), (30)) AS v(x) "
        "ORDER BY name, x"
    )
    sources = re.findall(
        r'<img width="60" height="40" alt="memory:item-\d" title="[^"]*" src="(data:image/jpeg[^"]*)"', shown
    )
    assert len(sources) == 4
    assert len(set(sources)) == 2  # the same picture, with the one box and with the other
    assert sources[:2] == sources[2:]
    assert shown.count("can&#x27;t be decoded") == 2
    assert "6 rows" in shown


def test_a_table_has_so_many_rows_and_bytes_and_says_what_is_left_out(notebook: Notebook) -> None:
    con = pictures(notebook)
    assert notebook.html("%aidb SELECT range AS n FROM range(1000)").count("<tr>") == 51
    shown = notebook.html("%aidb --limit 3 SELECT range AS n FROM range(1000)")
    assert shown.count("<tr>") == 4
    assert "997 more" in shown
    assert "1,000 rows" in shown
    from aidb.surfaces.jupyter.table import table

    shown = table(con.execute("SELECT image FROM pics WHERE image_id <> 1"), room=1000)
    assert shown.count("<img") == 1
    assert "1 pictures had no room" in shown


def test_everything_that_is_shown_is_escaped(notebook: Notebook) -> None:
    shown = notebook.html(
        "%%aidb\nSELECT '<script>alert(1)</script>' AS \"<b>&\", NULL AS n, repeat('x', 10_000) AS long, '日本 é\nb' AS u"
    )
    assert "<script>" not in shown
    assert "<th>&lt;b&gt;&amp;</th>" in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert '<td class="null">NULL</td>' in shown
    assert "… (10,000 characters)" in shown
    assert "日本 é\nb" in shown
    assert len(shown) < 5000


def test_a_terminal_shows_text_that_fits(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.delattr(builtins, "_", raising=False)  # where doctest left one, IPython leaves it alone
    notebook.run("%aidb -l 2 SELECT range AS n, repeat('x', 100) AS t FROM range(5)")
    lines = notebook.told.splitlines()
    assert max(map(len, lines)) <= 40
    assert "3 more" in lines
    assert "5 rows [" in notebook.told
    cursor = notebook.names["_"]
    assert cursor.fetchall()[4] == (4, "x" * 100)  # to be shown takes no rows away


def test_the_footer_says_calls_errors_notes_and_what_is_promised(notebook: Notebook) -> None:
    con = pictures(notebook)

    @aidb.model(outputs={"grey": "DOUBLE"}, version="1")
    def grey(images: list[np.ndarray]) -> dict[str, list[float]]:
        return {"grey": [float(i.mean()) for i in images]}

    con.register(grey)
    foot = notebook.html("%aidb SELECT name, grey(image) AS g FROM pics").split('<p class="foot">')[1]
    assert re.search(r"3 rows \[\d+\.\d\d s; grey: 3 calls, 1 failed\]<br>note: 1 item was left out", foot) or (
        "grey: 2 calls" in foot and "1 failed" in foot
    ), foot
    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, range % 3 AS x FROM range(4000) KEY (id)")
    con.register(
        aidb.model(outputs={"y": "BOOLEAN"}, version="1")(lambda x: {"y": [v == 0 for v in x.to_pylist()]}), "third"
    )
    foot = notebook.html("%aidb SELECT count(*) AS c FROM n WHERE third(x) ERROR TARGET 10% SEED 1")
    assert re.search(r"c lies between [\d,]+ and [\d,]+ with probability 95% \(asymptotic", foot)
    assert "nothing runs until" in notebook.html("%aidb CREATE VIRTUAL TABLE g AS grey(pics.image)")


def test_explain_runs_no_model(notebook: Notebook) -> None:
    con = pictures(notebook)
    con.register(aidb.model(outputs={"y": "BOOLEAN"}, version="1")(lambda images: 1 / 0), "never")
    cursor = notebook.run("%aidb --explain SELECT count(*) FROM pics WHERE never(image)")
    assert "never(pics.image): 3 items" in notebook.told
    assert not cursor.report.calls
    assert notebook.wrong("%aidb --explain SELECT 1; SELECT 2")[0].endswith("these are several statements")


def test_every_cursor_is_shown_whoever_executed_it(notebook: Notebook) -> None:
    pictures(notebook)
    assert "<img" in notebook.html("con.execute('SELECT image FROM pics')")
    notebook.run("cur = con.execute('SELECT 1 AS one')\ncon.close()\ncur")
    assert "Cursor" in notebook.told


def test_a_handle_shows_what_it_refers_to_or_why_it_can_not(notebook: Notebook) -> None:
    con = pictures(notebook)
    notebook.names["items"] = [row[0] for row in con.execute("SELECT image FROM pics ORDER BY image_id").fetchall()]
    assert '<img width="60" height="40"' in notebook.html("items[0]")
    assert "can&#x27;t be decoded" in notebook.html("items[1]")
    assert notebook.names["items"][0]._repr_png_().startswith(b"\x89PNG")
    assert notebook.names["items"][1]._repr_png_() is None


# ---- mistakes


def test_an_error_is_two_lines_and_ends_the_cell(notebook: Notebook) -> None:
    pictures(notebook)
    assert notebook.wrong("%%aidb\nSELECT 1;\nSELECT *\nFORM pics") == [
        'ProgrammingError: syntax error at or near "pics"',
        "line 4, column 6: FORM »pics  (hint: did you mean FROM?)",
    ]
    unknown = notebook.wrong("%aidb SELECT * FROM pic")
    assert len(unknown) == 2
    assert "pics" in unknown[1]
    assert notebook.wrong("%aidb SELECT $misspelt")[0].startswith("UnknownName: unknown variable 'misspelt'")
    long = notebook.wrong(f"%aidb SELECT '{'x' * 5000}' + nothing")
    assert all(len(line) < 700 for line in long)


def test_a_failing_model_names_its_own_line(notebook: Notebook) -> None:
    con = pictures(notebook)
    con.register(aidb.model(outputs={"y": "BOOLEAN"}, version="1")(lambda images: {"z": [True] * len(images)}), "wrong")
    lines = notebook.wrong("%aidb SELECT wrong(image) FROM pics")
    assert len(lines) <= 2
    assert "wrong" in lines[0]


def test_a_cell_of_python_keeps_its_tracebacks(notebook: Notebook) -> None:
    pictures(notebook)
    with pytest.raises(Error):
        notebook.run("con.execute('SELECT * FROM nowhere')")
    assert "Traceback" in notebook.told


def test_help_and_a_cell_of_comments(notebook: Notebook) -> None:
    assert notebook.run("%aidb --help") is None
    assert "--explain" in notebook.told
    assert notebook.run("%%aidb\n-- nothing to do") is None


# ---- progress and completion


def test_bars_are_lines_on_stderr_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with bars(notebook=False) as advance:
        advance(Progress("quick", 1, 10, 0.1, 0.0))
        for done in (1, 5, 10):
            advance(Progress("yolo", done, 10, 1.0 + done, 0.25, failed=1))
    told = err.getvalue()
    assert "quick" not in told
    assert "yolo" in told
    assert "10/10" in told
    assert "cost=0.25, failed=1" in told or "failed=1, cost=0.25" in told
    assert told.rstrip(" ").endswith("\r")


@pytest.mark.parametrize(
    ("cell", "line", "column", "found"),
    [
        ("%%aidb\nSELECT ", 1, 7, "SELECT "),
        ("%%aidb -c con x <<\nSELECT 1;\nSEL", 2, 3, "SEL"),
        ("a = 1\nb = %aidb -l 3 SELECT n", 1, 23, "SELECT n"),
        ("%%aidb -c co", 0, 12, ""),
        ("SELECT ", 0, 7, None),
        ("a = 1\n%aidb FROM ", 0, 3, None),
        ("%%aidb --lim", 0, 12, None),
    ],
)
def test_sql_is_found_in_a_cell(cell: str, line: int, column: int, found: str | None) -> None:
    there = sql_at(cell, line, column)
    assert (there is None) == (found is None)
    if there is not None and found is not None:
        assert there[0][: there[1]].strip().endswith(found.strip())


def test_tab_offers_names_in_cells_of_sql_and_nothing_elsewhere(notebook: Notebook) -> None:
    con = pictures(notebook)
    con.execute("CREATE TABLE pictograms AS SELECT 1 AS alpha")

    def offered(cell: str) -> list[str]:
        with provisionalcompleter():
            return [c.text for c in notebook.shell.Completer.completions(cell, len(cell))]

    assert {"pics", "pictograms"} <= set(offered("%%aidb\nSELECT 1 FROM pic"))
    assert "alpha" in offered("%%aidb\nSELECT 1;\nSELECT * FROM pictograms WHERE al")
    assert "image_id" in offered("x = %aidb SELECT * FROM pics WHERE image_")
    assert "pics" not in offered("pic")
    assert "print" in offered("prin")
