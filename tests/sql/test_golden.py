"""The golden files: every statement of the grammar, with what it means or why it is refused.

A case is a statement, a line of dashes, and the answer; blank lines part the cases, and lines that begin with ``# ``
explain. ``AIDB_UPDATE_GOLDEN=1`` writes the answers anew, for a human to review in the diff.
"""

from __future__ import annotations

import os
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import duckdb
import pytest

from aidb.errors import NotSupportedError, SqlSyntaxError
from aidb.sql.guarantee import to_sql
from aidb.sql.parse import inner_query, parse, split
from aidb.sql.statements import Native, Query, Statement

FOLDER = Path(__file__).parent / "golden"
DASHES = "----"


@dataclass(frozen=True)
class Case:
    """One statement of a golden file; notes are the lines that explain it."""

    file: str
    line: int
    notes: tuple[str, ...]
    sql: str
    answer: str


def cases(path: Path) -> list[Case]:
    found: list[Case] = []
    block: list[str] = []
    first = 1
    for number, line in enumerate([*path.read_text(encoding="utf-8").split("\n"), ""], 1):
        if line.strip():
            first = first if block else number
            block.append(line)
            continue
        if block:
            found.append(_case(path.name, first, block))
        block = []
    return found


def _case(file: str, line: int, block: list[str]) -> Case:
    notes = tuple(text for text in block if text.startswith("# "))
    rest = [text for text in block if not text.startswith("# ")]
    cut = rest.index(DASHES) if DASHES in rest else len(rest)
    return Case(file, line, notes, "\n".join(rest[:cut]), "\n".join(rest[cut + 1 :]))


def write(path: Path) -> None:
    """The same file with today's answers."""
    blocks = []
    for case in cases(path):
        lines = list(case.notes)
        if case.sql:
            lines += [case.sql, DASHES, answer(case.sql)]
        blocks.append("\n".join(lines))
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def answer(sql: str) -> str:
    """What a statement is read as, in words that a reviewer can check."""
    try:
        return shown(parse(sql))
    except (SqlSyntaxError, NotSupportedError) as error:
        return f"{type(error).__name__}: {error}"


def shown(statement: Statement) -> str:
    if isinstance(statement, Native):
        return "Native"
    if isinstance(statement, Query):
        how = "Query" if statement.explain == "no" else f"Query, explain={statement.explain}"
        lines = [f"{how}: {' '.join(statement.core.split())}"]
        if (guarantee := statement.guarantee) is not None:
            default = "" if guarantee.probability_given or guarantee.expected else "  (probability: 95% by default)"
            lines.append(f"  {to_sql(guarantee)}{default}")
        return "\n".join(lines)
    lines = [type(statement).__name__]
    for field in fields(statement):
        value = getattr(statement, field.name)
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value != default or isinstance(value, bool) is not isinstance(default, bool):
            lines.append(f"  {field.name}: {value!r}")
    return "\n".join(lines)


FILES = sorted(FOLDER.glob("*.txt"))
if os.environ.get("AIDB_UPDATE_GOLDEN"):
    for file in FILES:
        write(file)
CASES = [case for file in FILES for case in cases(file) if case.sql]
IDS = [f"{case.file}:{case.line}" for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_reads_as_the_golden_file_says(case):
    assert answer(case.sql) == case.answer


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_what_is_left_for_duckdb_keeps_its_place_and_parses(case):
    try:
        statement = parse(case.sql)
    except (SqlSyntaxError, NotSupportedError):
        return
    if not isinstance(statement, Query | Native):
        return
    text = statement.core if isinstance(statement, Query) else statement.sql
    assert len(text) == len(case.sql)
    assert all(a in (b, " ") for a, b in zip(text, case.sql, strict=True))
    assert len(duckdb.extract_statements(text)) == 1


def test_every_file_has_cases():
    assert len(FILES) >= 12
    assert len(CASES) >= 200


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_golden_file_is_also_one_script(file):
    texts = [case.sql for case in cases(file) if case.sql and _is_one(case.sql)]
    pieces = split("\n;\n".join(texts))
    assert [piece for piece, _ in pieces] == [split(text)[0][0] for text in texts]


def _is_one(text):
    try:
        return len(split(text)) == 1
    except SqlSyntaxError:
        return False


def test_the_query_inside_of_native_golden_statements():
    found = {case.sql: inner_query(case.sql) for case in CASES if case.file == "native.txt"}
    inside = {sql[slice(*span)] for sql, span in found.items() if span}
    assert inside == {"SELECT 1 AS recall", "SELECT * FROM box"}
