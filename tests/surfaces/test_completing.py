"""What the prompt offers: names that fit the place, phrases of ours, paths, and nothing within strings."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

import aidb
from aidb.errors import SqlSyntaxError
from aidb.sql.clauses import OPENERS
from aidb.sql.definitions import _READERS
from aidb.sql.parse import parse
from aidb.sql.statements import Native, Query
from aidb.surfaces.commands import COMMANDS
from aidb.surfaces.completing import complete, complete_command
from aidb.surfaces.highlighting import AidbLexer
from aidb.surfaces.vocabulary import Known, Table, Vocabulary, read
from aidb.surfaces.words import CLAUSES, OURS, STATEMENTS

NAMES = Vocabulary(
    tables={
        "frames": Table("frames", "blob table", {"frame_id": "BIGINT", "file": "VARCHAR", "ts": "DOUBLE", "image": "STRUCT"}),
        "box": Table("box", "virtual table", {"frame_id": "BIGINT", "box_id": "BIGINT", "label": "VARCHAR", "xmin": "DOUBLE"}),
        "Odd name": Table("Odd name", "table", {"select": "INTEGER", "a b": "INTEGER"}),
        "aidb.models": Table("aidb.models", "table", {"name": "VARCHAR"}),
    },
    models=("yolo", "has_bus"),
    proxies=("hint",),
    providers=("onnx", "opencv"),
    connectors=("images", "video"),
    functions=("bit_count", "zstd"),
)  # fmt: skip


def offered(marked: str, *, asked: bool = True) -> list[str]:
    """What is offered where a bar stands in a text."""
    at = marked.index("|")
    return [c.text for c in complete(marked.replace("|", "", 1), at, NAMES, asked=asked)]


@pytest.mark.parametrize(
    ("marked", "first"),
    [
        ("SEL|", ["SELECT"]),
        ("sel|", ["select"]),
        ("SELECT fr| FROM frames", ["frame_id", "frames"]),
        ("SELECT * FROM |", ["frames", "box", '"Odd name"', "aidb.models", "yolo("]),
        ("SELECT * FROM frames, b|", ["box"]),
        ("SELECT * FROM BO|", ["box"]),
        ("SELECT f.| FROM frames f", ["frame_id", "file", "ts", "image"]),
        ("SELECT F.i| FROM Frames AS f", ["image"]),
        ("SELECT * FROM frames JOIN box b ON b.l|", ["label"]),
        ("SELECT id| FROM box", ["box_id", "frame_id"]),
        ("SELECT s| FROM \"Odd name\"", ['"select"']),
        ('SELECT "se| FROM "Odd name"', ['"select"']),
        ("SELECT * FROM (SELECT fi| FROM frames) WHERE 1", ["file"]),
        ("SELECT (SELECT b.x| FROM box b WHERE b.frame_id = f.frame_id) FROM frames f", ["xmin"]),
        ("SELECT (SELECT count(*) FROM box WHERE t| ) FROM frames", ["ts"]),
        ("WITH cars AS (SELECT 1) SELECT * FROM c|", ["cars"]),
        ("SELECT * FROM aidb.|", ["models"]),
        ("SELECT 1; SELECT * FROM b|", ["box"]),
        ("SELECT * FROM frames WHERE has|", ["has_bus("]),
        ("SELECT cou|", ["count("]),
        ("SELECT zs|", ["zstd("]),
        ("CREATE |", ["BLOB TABLE", "MODEL", "VIRTUAL TABLE"]),
        ("create bl|", ["blob table"]),
        ("CREATE MODEL m USING |", ["onnx", "opencv"]),
        ("CREATE BLOB TABLE t FROM 'x/*.mp4' USING |", ["images", "video"]),
        ("CREATE VIRTUAL TABLE v AS |", ["yolo(", "has_bus("]),
        ("CREATE VIRTUAL TABLE v AS yolo(|", ["frames.", "box."]),
        ("CREATE VIRTUAL TABLE v AS yolo(frames.im|", ["image"]),
        ("DROP VIRTUAL TABLE |", ["box"]),
        ("EXPORT VIRTUAL TABLE |", ["box"]),
        ("REFRESH BLOB TABLE |", ["frames"]),
        ("RETRY FAILED FOR |", ["yolo", "has_bus", "box"]),
        ("SHOW |", ["MODELS", "BLOB TABLES", "VIRTUAL TABLES"]),
        ("EXPLAIN |", ["ANALYZE", "COST", "SELECT"]),
        ("SET |", ["aidb.max_calls"]),
        ("SET aidb.max_ca|", ["max_calls"]),
        ("SELECT count(*) FROM box ERR|", ["ERROR TARGET", "ERROR WITHIN"]),
        ("SELECT count(*) FROM box ERROR T|", ["TARGET"]),
        ("SELECT * FROM box WHERE label = 'car' RE|", ["RECALL TARGET"]),
        ("SELECT * FROM box WHERE p RECALL TARGET 90% WITH PR|", ["PROBABILITY"]),
        ("SELECT * FROM box WHERE p ORACLE LIMIT 10 USING PROXY |", ["hint"]),
        ("SELECT * FROM box ORDER |", ["BY", "BY ALL"]),
    ],
)  # fmt: skip
def test_what_comes_first(marked: str, first: list[str]) -> None:
    assert offered(marked)[: len(first)] == first


@pytest.mark.parametrize(
    "marked",
    [
        "SELECT 'fr|", "SELECT 'it''s fr|", "SELECT 1 -- fr|", "SELECT /* fr|", "SELECT 'a'|", "SELECT 12|", "SELECT $$ fr|",
        "SELECT $fr|",
    ],
)  # fmt: skip
def test_nothing_is_offered_where_no_name_can_be(marked: str) -> None:
    assert offered(marked) == []


def test_other_tables_columns_and_clauses_are_kept_out_of_places_where_they_make_no_sense() -> None:
    assert "label" not in offered("SELECT | FROM frames")
    assert "ERROR TARGET" in offered("SELECT count(*) FROM box |")
    assert "ERROR TARGET" not in offered("CREATE BLOB TABLE t FROM 'x' |")
    assert "file" not in offered("SELECT file |")


def test_nothing_pops_up_before_a_letter_unless_it_was_asked_for() -> None:
    assert offered("SELECT | FROM frames", asked=False) == []
    assert offered("SELECT f| FROM frames", asked=False)[0] == "file"
    assert offered("SELECT frames.| FROM frames", asked=False)[0] == "frame_id"


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "it's a folder").mkdir()
    (tmp_path / "it.csv").touch()
    (tmp_path / ".hidden").touch()
    assert offered(f"SELECT * FROM '{tmp_path}/i|") == [
        f"{tmp_path}/it''s a folder/".replace("//", "/"), f"{tmp_path}/it.csv",
    ]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert offered("CREATE BLOB TABLE t FROM '|") == ["it''s a folder/", "it.csv"]
    assert offered("COPY box TO './it.|") == ["./it.csv"]
    assert offered("SELECT * FROM 'no such folder/|") == []
    commands = {name: command.completes for name, command in COMMANDS.items()}
    assert [c.text for c in complete_command(".read it", 8, NAMES, commands)] == ["it's a folder/", "it.csv"]


def test_commands() -> None:
    commands = {name: command.completes for name, command in COMMANDS.items()}
    at = lambda text: [c.text for c in complete_command(text, len(text), NAMES, commands)]  # noqa: E731
    assert at(".mo") == [".models", ".mode"]
    assert at(".mode js") == ["json", "jsonl"]
    assert at(".schema fr") == ["frames"]
    assert at(".tables ") == []
    assert at(".cost SELECT * FROM bo") == ["box"]
    (chosen,) = complete_command("  .cost SELECT * FROM bo", 24, NAMES, commands)
    assert chosen.start == 22


def test_five_hundred_tables_take_less_than_a_twentieth_of_a_second() -> None:
    many = Vocabulary(
        tables={
            f"t{k}": Table(f"t{k}", "table", {f"column_{k}_{j}": "INTEGER" for j in range(20)}) for k in range(500)
        },
        functions=tuple(f"function_{k}" for k in range(1200)),
    )
    text = "SELECT column_ FROM t7 JOIN t9 USING (id) WHERE co"
    begin = time.process_time()
    for _ in range(5):
        assert complete(text, len(text), many)
        assert complete("SELECT c", 8, many)
    assert (time.process_time() - begin) / 10 < 0.05


# ---- the vocabulary
def test_the_vocabulary_of_a_database(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    with aidb.connect() as con:
        con.execute(
            f"CREATE BLOB TABLE docs FROM '{tmp_path}/*.txt'; CREATE TEMP TABLE seen AS SELECT 1 AS a;"
            "CREATE MODEL paint USING color; CREATE SCHEMA s; CREATE TABLE s.inner AS SELECT 2 AS b"
        )
        names = read(con.engine)
        assert names.tables["docs"].kind == "blob table"
        assert "doc_id" in names.tables["docs"].columns
        assert list(names.tables["seen"].columns) == ["a"]
        assert list(names.tables["s.inner"].columns) == ["b"]
        assert "name" in names.tables["aidb.models"].columns
        assert not [name for name in names.tables if "internal" in name]
        assert names.models == ("paint",)
        assert {"color", "onnx"} <= set(names.providers)
        assert {"images", "video"} <= set(names.connectors)
        assert "count" in names.functions

        known = Known(lambda: con.engine)
        known.refresh()
        known.wait()
        assert set(known.now.tables) == set(names.tables)
    known.refresh()  # a closed connection is no reason to fail
    known.wait()
    assert known.now.models == ("paint",)


# ---- the words, against the parser
_BEHIND = {
    "WITH PROBABILITY": "RECALL 90% WITH PROBABILITY 90%",
    "WITH CONFIDENCE": "RECALL 90% WITH CONFIDENCE 90%",
    "WITH FAILURE PROBABILITY": "RECALL 90% WITH FAILURE PROBABILITY 5%",
    "USING PROXY": "USING PROXY p",
    "BY ORACLE": "BY ORACLE m",
    "METHOD": "METHOD auto",
    "VERIFIED": "RECALL 90% VERIFIED",
    "UNVERIFIED": "RECALL 90% ORACLE LIMIT 10 UNVERIFIED",
    "GAP": "LIMIT 5 GAP 10",
    "WITHIN": "WITHIN 5 SECONDS",
    "FNR WITHIN": "FNR WITHIN 5% FPR WITHIN 5%",
    "FPR WITHIN": "FNR WITHIN 5% FPR WITHIN 5%",
    "ORACLE LIMIT": "RECALL 90% ORACLE LIMIT 10",
    "BUDGET": "RECALL 90% BUDGET 10",
    "SEED": "SEED 7",
}


@pytest.mark.parametrize("clause", CLAUSES)
def test_a_clause_that_is_offered_is_one(clause: str) -> None:
    text = f"SELECT a FROM t {_BEHIND.get(clause, f'{clause} 5%')}"
    statement = parse(text)
    assert isinstance(statement, Query)
    assert statement.guarantee is not None


def test_every_opener_of_a_clause_has_a_colour() -> None:
    later = {"DURATION", "EXCLUDING", "RESOLVE", "FROM"}  # not there yet, but FROM, which is DuckDB's
    slips = {"ERROR", "ORACLE_LIMIT", "PROBABILITY", "FNR", "FPR", "EXPECTED"}  # what was meant by them is offered
    firsts = {phrase.split()[0] for phrase in OURS}
    assert OPENERS - later - slips <= firsts


@pytest.mark.parametrize(
    ("phrase", "rest"),
    [
        ("CREATE BLOB TABLE", "t FROM 'x'"),
        ("CREATE OR REPLACE MODEL", "m USING color"),
        ("CREATE VIRTUAL TABLE", "v AS m(a.b)"),
        ("CREATE PROXY", "p ON t FOR (a > 1) USING m(b)"),
        ("CREATE SEMANTIC INDEX", "i ON t USING m(b)"),
        ("REFRESH PROXY", "p"),
        ("RETRY FAILED FOR", "m"),
        ("DROP STALE", ""),
        ("SHOW GUARANTEES", ""),
        ("DROP SEMANTIC INDEX", "i"),
        ("SHOW COST OF", "SELECT 1"),
        ("EXPORT VIRTUAL TABLE", "v TO 'folder'"),
        ("ATTACH MATERIALIZED", "v FROM 'folder'"),
        ("CHECK CATALOG", ""),
    ],
)
def test_a_statement_that_is_offered_is_one(phrase: str, rest: str) -> None:
    assert phrase in STATEMENTS
    assert not isinstance(parse(f"{phrase} {rest}"), Native)


def test_every_first_word_of_a_statement_of_ours_is_offered() -> None:
    later = {"VALIDATE", "COLLECT"}  # not there yet
    assert set(_READERS) - later <= {phrase.split()[0] for phrase in STATEMENTS}


def test_colours() -> None:
    def coloured(text: str, kind: str) -> list[str]:
        return [word for token, word in AidbLexer().get_tokens(text) if str(token).endswith(kind)]

    query = "SELECT error, recall, seed FROM frames WHERE x > 10,000 ERROR TARGET 5% WITH FAILURE PROBABILITY 5% SEED 1; -- c"
    assert coloured(query, "Keyword.Pseudo") == ["ERROR TARGET", "WITH FAILURE PROBABILITY", "SEED"]
    assert coloured(query, "Keyword") == ["SELECT", "FROM", "WHERE"]
    assert coloured(query, "Number") == ["10,000", "5%", "5%", "1"]
    assert coloured("SELECT 'a ''b' /* x /* y */ z */ FROM \"from\"", "Keyword") == ["SELECT", "FROM"]
    assert coloured(".mode csv", "Decorator") == [".mode"]
    assert "".join(word for _, word in AidbLexer().get_tokens(query)).rstrip("\n") == query


def test_lexer_and_parser_agree_on_what_is_never_closed() -> None:
    for text in ("SELECT 'oops", 'SELECT "oops', "SELECT /* oops", "SELECT $$ oops"):
        with pytest.raises(SqlSyntaxError):
            parse(text)
        kinds = {str(token) for token, word in AidbLexer().get_tokens(text) if "oops" in word}
        assert kinds
        assert all(re.search("String|Comment|Name", kind) for kind in kinds)
