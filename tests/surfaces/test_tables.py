"""Tables for eyes: they fit, they are aligned, and they say what was left out."""

from __future__ import annotations

import io
import os
import unicodedata
from collections.abc import Iterator

import pytest

import aidb
from aidb.surfaces.tables import ROWS_ON_SCREEN, write_table


class Screen(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def con(monkeypatch: pytest.MonkeyPatch) -> Iterator[aidb.Connection]:
    monkeypatch.setenv("COLUMNS", "80")  # so that it is as it was when the test ends, whatever it does to it
    monkeypatch.delenv("COLUMNS")
    with aidb.connect() as connection:
        yield connection


def drawn(con: aidb.Connection, sql: str, columns: int | None = None) -> tuple[list[str], str | None]:
    out: io.StringIO = io.StringIO()
    if columns is not None:
        out = Screen()
        os.environ["COLUMNS"] = str(columns)  # con's monkeypatch takes it away again
    note = write_table(con.execute(sql), out)
    return out.getvalue().splitlines(), note


def cells_of(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def test_columns_are_aligned_and_numbers_stand_at_the_right(con: aidb.Connection) -> None:
    lines, note = drawn(con, "SELECT * FROM (VALUES ('a', 1, 10.5), ('bcd', 200, 2)) AS t(name, n, x)")
    assert lines == [
        "name    n     x",
        "----  ---  ----",
        "a       1  10.5",
        "bcd   200   2.0",
    ]
    assert note is None


def test_null_and_the_empty_text_and_the_word_null_are_three_things(con: aidb.Connection) -> None:
    lines, _ = drawn(con, "SELECT unnest([NULL, '', 'NULL']) AS x")
    assert lines[2:] == ["NULL", "", "'NULL'"]


def test_no_value_can_break_a_line_or_speak_to_the_terminal(con: aidb.Connection) -> None:
    lines, _ = drawn(
        con, "SELECT 'a' || chr(10) || 'b' || chr(27) || '[31m' || chr(9) || chr(8238) AS x, 1 AS \"a\nb\""
    )
    assert len(lines) == 3
    assert "a\\nb\\x1b[31m\\t\\u202e" in lines[2]
    assert "a\\nb" in lines[0]


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal(con: aidb.Connection, columns: int) -> None:
    sql = (
        "SELECT range AS id, repeat('long ', 30) AS text, '漢字' || repeat('é', range::INT) AS wide, "
        "sqrt(range) AS root, '/a/path/to/some/file-' || range || '.jpg' AS file FROM range(50)"
    )
    lines, note = drawn(con, sql, columns)
    assert len(lines) == 52
    assert max(map(cells_of, lines)) <= columns
    assert (note is None) == (columns >= 80)
    if note:
        assert "of 5 columns" in note


def test_a_file_of_any_width_has_everything(con: aidb.Connection) -> None:
    lines, note = drawn(con, "SELECT repeat('x', 5000) AS a, range AS b FROM range(300)")
    assert len(lines) == 302
    assert lines[2].startswith("x" * 5000)
    assert note is None


def test_a_screen_shows_the_first_rows_and_says_so(con: aidb.Connection) -> None:
    lines, note = drawn(con, "SELECT range AS n FROM range(1234567)", 80)
    assert len(lines) == ROWS_ON_SCREEN + 2
    assert note is not None
    assert "first 100 of 1,234,567 rows" in note


def test_of_a_path_the_end_is_kept_and_of_a_text_the_beginning(con: aidb.Connection) -> None:
    lines, _ = drawn(con, "SELECT '/home of/x/a/b/c/picture.jpg' AS t, '/some/where/else/picture.jpg' AS p", 30)
    text, path = lines[2].split("  ")
    assert text.endswith("…")
    assert path.startswith("/…")
    assert path.endswith("picture.jpg")


def test_fractions_are_rounded_only_where_there_is_too_little_room(con: aidb.Connection) -> None:
    sql = (
        "SELECT 0.123456789012::DOUBLE AS a, 123456789.5::DOUBLE AS b, 'nan'::DOUBLE AS c, 1e-9::DOUBLE AS d, 12.5 AS e"
    )
    full, _ = drawn(con, sql, 80)
    assert full[2].split() == ["0.123456789012", "123456789.5", "nan", "1e-09", "12.5"]
    short, _ = drawn(con, sql, 44)
    assert short[2].split() == ["0.123457", "123456789.5", "nan", "1e-09", "12.5"]


def test_the_drawing_of_a_plan_is_left_as_it_is(con: aidb.Connection) -> None:
    lines, _ = drawn(con, "EXPLAIN SELECT 1")
    assert len(lines) > 3
    assert "explain_key" not in lines[0]


def test_no_rows_still_show_the_columns(con: aidb.Connection) -> None:
    assert drawn(con, "SELECT 1 AS a, 2 AS b WHERE false")[0] == ["a  b", "-  -"]
