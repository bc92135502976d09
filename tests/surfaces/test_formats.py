"""Each form that the shell writes, read back by a reader that is not ours."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import math
import re
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import aidb
from aidb.errors import ProgrammingError
from aidb.surfaces.formats import FORMATS, ONE_RESULT, Writer

TRICKY = """
SELECT * REPLACE (ratio::FLOAT AS ratio) FROM (VALUES
    (1, 'plain', '0.1', DATE '2024-02-29', 1.50::DECIMAL(9, 2)),
    (2, '', 'nan', DATE 'infinity', NULL),
    (3, NULL, 'inf', NULL, -0.01),
    (4, 'a,b "c"' || chr(13) || chr(10) || 'd|*e*|\\<br>&amp;`', '-inf', DATE '0001-01-01', 0),
    (5, '  edges ', '1e30', DATE '1970-01-01', 1),
    (6, 'NULL', '0', DATE '1970-01-01', 1),
    (7, '*NULL*', '0', DATE '1970-01-01', 1),
    (8, 'Grüße 漢字 🙂', '0', DATE '1970-01-01', 1)
) AS t(id, "text, ""or"" so", ratio, day, price)
"""
TEXTS = [
    "plain", "", None, 'a,b "c"\r\nd|*e*|\\<br>&amp;`', "  edges ", "NULL", "*NULL*", "Grüße 漢字 🙂",
]  # fmt: skip
NAMES = ["id", 'text, "or" so', "ratio", "day", "price"]
NESTED = """
SELECT [1, NULL, 3] AS list, {'a': 'it''s', 'b': 'nan'::DOUBLE} AS struct, MAP {'k': 1} AS map, '\\xAA\\x00'::BLOB AS blob,
    TIMESTAMP '2024-01-01 10:00:00.123456' AS at, INTERVAL '3 months' AS span,
    170141183460469231731687303715884105727::HUGEINT AS huge, true AS yes, '[1,\n 2]'::JSON AS json
"""


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as connection:
        yield connection


def written(con: aidb.Connection, form: str, *statements: str) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
    writer = Writer(form, out)
    for sql in statements:
        writer.write(con.execute(sql))
    return out.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_csv_by_pythons_reader(con: aidb.Connection) -> None:
    rows = list(csv.reader(io.StringIO(written(con, "csv", TRICKY), newline="")))
    assert rows[0] == NAMES
    assert [row[1] for row in rows[1:]] == [text or "" for text in TEXTS]
    assert [row[2] for row in rows[1:5]] == ["0.1", "nan", "inf", "-inf"]


def test_csv_by_duckdb_with_null_and_empty_apart(con: aidb.Connection, tmp_path: Any) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(written(con, "csv", TRICKY).encode())
    types = "{'id': 'INTEGER', 'text': 'VARCHAR', 'ratio': 'FLOAT', 'day': 'DATE', 'price': 'DECIMAL(9,2)'}"
    # Strict mode wants one kind of line end in the whole file, quoted or not.
    options = f"columns = {types}, header = true, quote = '\"', escape = '\"', strict_mode = false, allow_quoted_nulls = false"
    with duckdb.connect() as plain:
        got = plain.sql(f"SELECT * FROM read_csv('{path}', {options})").fetchall()
        wanted = plain.sql(TRICKY).fetchall()
    assert [row[1] for row in got] == TEXTS
    assert repr(got) == repr(wanted)


def test_csv_of_nested_values_is_read_by_casts(con: aidb.Connection) -> None:
    header, values = csv.reader(io.StringIO(written(con, "csv", NESTED), newline=""))
    types = [column[1] for column in con.execute(NESTED).description or ()]
    with duckdb.connect() as plain:
        casts = ", ".join(f"?::{type_}" for type_ in types)
        assert repr(plain.execute(f"SELECT {casts}", values).fetchall()) == repr(plain.execute(NESTED).fetchall())
    assert header == ["list", "struct", "map", "blob", "at", "span", "huge", "yes", "json"]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json(con: aidb.Connection, form: str) -> None:
    text = written(con, form, TRICKY)
    rows = json.loads(text) if form == "json" else [json.loads(line) for line in text.splitlines()]
    assert [list(row) for row in rows] == [NAMES] * len(TEXTS)
    assert [row[NAMES[1]] for row in rows] == TEXTS
    assert [row["ratio"] for row in rows][:5] == [0.1, "NaN", "Infinity", "-Infinity", 1e30]
    assert rows[0]["price"] == 1.5
    assert rows[1]["price"] is None


def test_json_by_duckdb(con: aidb.Connection, tmp_path: Any) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(written(con, "jsonl", TRICKY), encoding="utf-8")
    keys = NAMES[1].replace('"', '""')
    with duckdb.connect() as plain:
        types = f"id: 'INTEGER', \"{keys}\": 'VARCHAR', ratio: 'FLOAT', day: 'DATE', price: 'DECIMAL(9, 2)'"
        sql = f"SELECT COLUMNS(*)::VARCHAR FROM read_json('{path}', columns = {{{types}}})"
        assert plain.sql(sql).fetchall() == plain.sql(f"SELECT COLUMNS(*)::VARCHAR FROM ({TRICKY})").fetchall()


def test_json_of_nested_values(con: aidb.Connection) -> None:
    (line,) = written(con, "jsonl", NESTED).splitlines()
    row = json.loads(line)
    assert row["list"] == [1, None, 3]
    assert row["struct"] == {"a": "it's", "b": "NaN"}
    assert row["map"] == {"k": 1}
    assert row["at"] == "2024-01-01 10:00:00.123456"
    assert row["huge"] == 2**127 - 1
    assert row["yes"] is True
    assert row["json"] == [1, 2]


def test_json_without_rows_and_with_a_name_twice(con: aidb.Connection) -> None:
    assert json.loads(written(con, "json", "SELECT 1 AS a WHERE false")) == []
    assert written(con, "jsonl", "SELECT 1 AS a WHERE false") == ""
    assert json.loads(written(con, "json", "SELECT 1 AS a, 2 AS a")) == [{"a": 1, "a_1": 2}]


def test_parquet(con: aidb.Connection) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    Writer("parquet", out).write(con.execute(TRICKY))
    table = pq.read_table(io.BytesIO(out.buffer.getvalue()))  # type: ignore[attr-defined]
    assert table.column_names == NAMES
    assert table.column(1).to_pylist() == TEXTS
    assert math.isnan(table.column("ratio")[1].as_py())


@pytest.mark.parametrize("form", sorted(ONE_RESULT))
def test_some_files_hold_one_result(con: aidb.Connection, form: str) -> None:
    with pytest.raises(ProgrammingError, match="one result"):
        written(con, form, "SELECT 1", "SELECT 2")


def test_tsv(con: aidb.Connection, tmp_path: Any) -> None:
    text = written(con, "tsv", f"SELECT *, 'tab' || chr(9) || 'bed' AS tabbed FROM ({TRICKY})")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    assert rows[0] == [*NAMES, "tabbed"]
    assert [row[1] for row in rows[1:]] == [text or "" for text in TEXTS]
    assert rows[1][5] == "tab\tbed"
    assert "a,b" in rows[4][1]


def test_arrow(con: aidb.Connection) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    Writer("arrow", out).write(con.execute(TRICKY))
    table = pa.ipc.open_file(out.buffer.getvalue()).read_all()  # type: ignore[attr-defined]
    assert table.column_names == NAMES
    assert table.column(1).to_pylist() == TEXTS


@pytest.mark.parametrize("form", sorted(ONE_RESULT))
def test_files_of_columns_hold_many_batches_enums_and_a_name_twice(con: aidb.Connection, form: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sql = "SELECT range AS a, ['x', 'y'][range % 2 + 1]::ENUM ('x', 'y') AS a, [range] AS l FROM range(150000)"
    Writer(form, out).write(con.execute(sql))
    data = out.buffer.getvalue()  # type: ignore[attr-defined]
    table = pq.read_table(io.BytesIO(data)) if form == "parquet" else pa.ipc.open_file(data).read_all()
    assert table.column_names == ["a", "a_1", "l"]
    assert table.num_rows == 150_000
    assert [str(value) for value in table.column(1)[149_998:]] == ["x", "y"]
    assert table.column(2)[149_999].as_py() == [149_999]


def lined(text: str) -> list[list[tuple[str, str | None]]]:
    """Rows of names and values: DuckDB reads those that are literals."""
    rows: list[list[tuple[str, str | None]]] = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        at = min(line.index(" = ") for line in lines if " = " in line)
        row: list[list[str]] = []
        for line in filter(None, lines):
            if line[at : at + 3] == " = ":
                row.append([line[:at].strip(), line[at + 3 :]])
            else:
                row[-1][1] += "\n" + line[at + 3 :]
        rows.append([(name, _value(value)) for name, value in row])
    return rows


def _value(shown: str) -> str | None:
    if shown == "NULL":
        return None
    if shown.startswith(("'", "E'")):
        with duckdb.connect() as plain:
            return str(plain.sql(f"SELECT {shown}").fetchall()[0][0])
    return shown


def test_line(con: aidb.Connection) -> None:
    rows = lined(written(con, "line", TRICKY, "SELECT 1 AS a"))
    assert [name for name, _ in rows[0]] == NAMES
    assert [row[1][1] for row in rows[:-1]] == TEXTS
    assert rows[-1] == [("a", "1")]
    odd = ["two\nlines", "E'x'", "'quoted'", "\x1b[31m red \\ it's\n", "\u202e\x85", "a = b"]
    sql = "SELECT " + ", ".join(f"chr(97) || '{k}' AS n{k}" for k in range(2)) + ", unnest($odd) AS longer_name"
    texts = lined(written_with(con, "line", sql, {"odd": odd}))
    assert [row[2][1] for row in texts] == odd


def written_with(con: aidb.Connection, form: str, sql: str, parameters: dict[str, Any]) -> str:
    out = io.StringIO()
    Writer(form, out).write(con.execute(sql, parameters))
    return out.getvalue()


def test_line_shows_nothing_that_speaks_to_the_terminal(con: aidb.Connection) -> None:
    text = written(con, "line", "SELECT chr(27) || '[2J' || chr(8238) AS \"a\nb\"")
    assert text == "a\\nb = E'\\x1b[2J\\xe2\\x80\\xae'\n"


def unmarked(cell: str) -> str | None:
    """What a renderer of Markdown makes of a cell."""
    if cell == "*NULL*":
        return None
    text = re.sub(r"\\([\\|*`])", r"\1", cell.replace("<br>", "\n"))
    return html.unescape(text)


def test_markdown(con: aidb.Connection) -> None:
    heading, rule, *lines = written(con, "markdown", TRICKY).splitlines()
    rows = [[unmarked(cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in [heading, *lines]]
    assert rows[0] == NAMES
    assert [row[1] for row in rows[1:]] == TEXTS
    assert rule == "| --: | --- | --: | --- | --: |"
    assert written(con, "markdown", "SELECT 1 AS a", "SELECT 2 AS b").count("\n\n") == 1


class Tables(html.parser.HTMLParser):
    """Texts of all cells, by table and row; None for those of class null."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(None if ("class", "null") in attrs else "")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    inside = False

    def handle_data(self, data: str) -> None:
        if self.inside and self.tables[-1][-1][-1] is not None:
            self.tables[-1][-1][-1] += data


def test_html(con: aidb.Connection) -> None:
    text = written(con, "html", TRICKY, "SELECT 1 AS a")
    reader = Tables()
    reader.feed(text)
    first, second = reader.tables
    assert first[0] == NAMES
    assert [row[1] for row in first[1:]] == TEXTS
    assert second == [["a"], ["1"]]
    assert text.count("<!doctype") == text.count('<meta charset="utf-8">') == 1


def test_content_is_a_reference_for_programs_and_a_name_for_eyes(con: aidb.Connection) -> None:
    sql = "SELECT {'uri': '/a b/bus.jpg', 'pos': NULL::BIGINT, 'media': 'image', 'connector': 'images'} AS image"
    con.execute(f"CREATE TABLE t AS {sql}")
    found = json.loads(written(con, "json", "FROM t"))[0]["image"]
    assert found == {"uri": "/a b/bus.jpg", "pos": None, "media": "image", "connector": "images"}
    for form in ("table", "markdown", "html"):
        assert "image bus.jpg" in written(con, form, "FROM t")
    ((_, value),) = [list(csv.reader(io.StringIO(written(con, "csv", "FROM t"))))]
    with duckdb.connect() as plain:
        type_ = "STRUCT(uri VARCHAR, pos BIGINT, media VARCHAR, connector VARCHAR)"
        assert plain.execute(f"SELECT ?::{type_}", value).fetchall() == plain.execute(sql).fetchall()


@pytest.mark.parametrize("form", sorted(set(FORMATS) - ONE_RESULT))
def test_ten_thousand_rows_arrive(con: aidb.Connection, form: str) -> None:
    text = written(con, form, "SELECT range AS n, 'row ' || range AS name FROM range(70000)")
    assert text.count("row ") == 70_000
    assert "row 69999" in text
