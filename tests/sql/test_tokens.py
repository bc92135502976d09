"""Cutting a script into statements, as DuckDB does."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aidb.errors import SqlSyntaxError
from aidb.sql.tokens import RESERVED, blank, is_complete, name_of, scan, split, string_of


@pytest.mark.parametrize(
    ("script", "texts"),
    [
        ("", []),
        (" ;; -- nothing\n ; /* ; */", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;", ["SELECT 1"]),
        ("-- first; really\nSELECT 1;\n\nSELECT 2 -- ;\n", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT \"a;b\"", ["SELECT ';'", 'SELECT "a;b"']),
        ("SELECT 'it''s;'; SELECT 'a\\'; SELECT 3", ["SELECT 'it''s;'", "SELECT 'a\\'", "SELECT 3"]),
        ("SELECT e'a\\';b'; SELECT E'\\\\'; SELECT 3", ["SELECT e'a\\';b'", "SELECT E'\\\\'", "SELECT 3"]),
        ('SELECT "a"";"; SELECT 2', ['SELECT "a"";"', "SELECT 2"]),
        ("SELECT $$;$$; SELECT $a$ ;$$; $a$; SELECT $1", ["SELECT $$;$$", "SELECT $a$ ;$$; $a$", "SELECT $1"]),
        ("SELECT /* ; /* ; */ ; */ 1; SELECT 2", ["SELECT /* ; /* ; */ ; */ 1", "SELECT 2"]),
        ("SELECT 1 -- ;\r+ 2; SELECT 3", ["SELECT 1 -- ;\r+ 2", "SELECT 3"]),
        ("SELECT a$b$c; SELECT 1$$;$$", ["SELECT a$b$c", "SELECT 1$$;$$"]),
        ("SELECT 'ß;', ü; SELECT 2", ["SELECT 'ß;', ü", "SELECT 2"]),
        (
            "CREATE MODEL m USING x WITH (a = 'b;c'); DROP MODEL m",
            ["CREATE MODEL m USING x WITH (a = 'b;c')", "DROP MODEL m"],
        ),
    ],
)
def test_split(script, texts):
    pieces = split(script)
    assert [text for text, _ in pieces] == texts
    assert all(script[at : at + len(text)] == text for text, at in pieces)


FRAGMENTS = [
    "SELECT 1", "SELECT ';'", "SELECT 'it''s;'", "SELECT e'\\';'", 'SELECT 1 AS "a;""b"', "SELECT $$;'$$", "SELECT $x$;$$$x$",
    "SELECT /*;/*;*/;*/ 2", "SELECT 3 --;'\n", "SELECT 3 --;\r+4", "SELECT [1,2], {'a;': 3}", "SELECT (1), 5 - -2, 6 -/*;*/- 1",
    "FROM range(3)", "SELECT é$b FROM é", "SELECT 5 % 3", "SELECT $1",
    "SELECT x'00'", "SELECT 1_0, .5, 1e3, 0x1F", "SELECT 1\u00a0+\u20032",
]  # fmt: skip
BETWEEN = [";", " ; ", ";;", ";\n-- a;b\n", "; /* ; */ ", ";\t\r\n"]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(BETWEEN)), min_size=1, max_size=6))
def test_split_agrees_with_duckdb(parts):
    script = "".join(text + ("\n" if "--" in text else "") + gap for text, gap in parts)
    theirs = [s.query for s in duckdb.extract_statements(script)]
    ours = split(script)
    assert len(ours) == len(theirs) == len(parts)
    for (text, _), (fragment, _) in zip(ours, parts, strict=True):
        assert text == split(fragment)[0][0]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(alphabet="ab1 ;'\"$-/*\\eE\n(),.é?%", max_size=40))
def test_split_and_what_lies_between_give_the_script_back(script):
    try:
        pieces = split(script)
    except SqlSyntaxError:
        assert not is_complete(script)
        return
    at = 0
    for text, offset in pieces:
        assert not scan(script[at:offset].replace(";", " "))  # only space, comments and semicolons
        assert script[offset : offset + len(text)] == text
        at = offset + len(text)
    assert not scan(script[at:].replace(";", " "))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=60))
def test_tokens_lie_in_order_and_keep_their_place(text):
    try:
        tokens = scan(text)
    except SqlSyntaxError:
        return
    at = 0
    for token in tokens:
        assert at <= token.start < token.end <= len(text)
        at = token.end


@pytest.mark.parametrize(
    ("text", "complete"),
    [("", True), ("SELECT 1", False), ("SELECT 1;", True), ("SELECT 1; -- done", True), ("SELECT ';", False),
     ("SELECT 1; SELECT", False), ("SELECT /* ;", False), ("SELECT $$ ;", False)],
)  # fmt: skip
def test_a_shell_knows_when_a_statement_is_complete(text, complete):
    assert is_complete(text) is complete


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a''b'", "a'b"),
        ("E'a\\n\\x41\\u00e9\\101\\q'''", "a\nAéAq'"),
        ("$$a'b$$", "a'b"),
        ("$t$ $$ $t$", " $$ "),
        ("''", ""),
    ],
)
def test_strings_have_the_value_that_duckdb_gives_them(text, value):
    assert string_of(text, scan(text)[0]) == value
    if "\\q" not in text and "\\x" not in text:
        assert duckdb.sql(f"SELECT {text}").fetchall() == [(value,)]


def test_names_keep_their_case_and_lose_their_quotes():
    sql = 'Abc "A ""b"" c" ÄÖ'
    assert [name_of(sql, token) for token in scan(sql)] == ["Abc", 'A "b" c', "ÄÖ"]


def test_a_word_is_never_confused_with_a_quoted_one():
    assert [token.key for token in scan("recall \"recall\" 'recall' RECALL ıs")] == ["RECALL", "", "", "RECALL", "ıs"]


def test_reserved_words_are_duckdbs():
    rows = duckdb.sql(
        "SELECT upper(keyword_name) FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    ).fetchall()
    assert {row[0] for row in rows} == RESERVED


def test_blanking_keeps_lines_and_columns():
    assert blank("ab\ncd\r\nef", [(1, 6), (8, 9)]) == "a \n  \r\ne "
