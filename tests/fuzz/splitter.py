"""Changed scripts: they are cut into statements where DuckDB cuts them, and nothing of them is lost.

python -m tests.fuzz.splitter --minutes 10 --seed 1 [--coverage]
"""

from __future__ import annotations

import sys
from itertools import pairwise

import duckdb

from aidb.errors import SqlSyntaxError
from aidb.sql.parse import is_complete, split
from aidb.sql.tokens import scan
from tests.fuzz.driving import Fuzzer, command
from tests.fuzz.statements import mutated, script


def check(text: str) -> str | None:
    """What is wrong with how a script is cut, or None."""
    complete = is_complete(text)
    try:
        tokens = scan(text)
    except SqlSyntaxError as e:
        if e.position is None or not 0 <= e.position < len(text):
            return f"an error without its place: {e.message}"
        return "a script that can't be read counts as complete" if complete else None
    if any(not a.start < a.end <= b.start for a, b in pairwise(tokens)):
        return "tokens overlap"
    parts = split(text)
    return _wrong_parts(text, parts) or _other_than_duckdb(text, parts)


def _wrong_parts(text: str, parts: list[tuple[str, int]]) -> str | None:
    end = 0
    for part, at in parts:
        if at < end or text[at : at + len(part)] != part:
            return "a statement does not stand where it is said to"
        if any(t.key != ";" for t in scan(text[end:at])):
            return "something between two statements is lost"
        if split(part) != [(part, 0)]:
            return "a statement is cut once more"
        end = at + len(part)
    return "something at the end is lost" if any(t.key != ";" for t in scan(text[end:])) else None


def _other_than_duckdb(text: str, parts: list[tuple[str, int]]) -> str | None:
    """DuckDB's own cut, of a script that it can read."""
    try:
        found = duckdb.extract_statements(text)
    except duckdb.Error:
        return None
    if "\x00" in text:
        return None  # where a text ends for DuckDB
    if len(found) != len(parts):
        return f"DuckDB finds {len(found)} statements, we {len(parts)}"
    return None


FUZZER = Fuzzer("splitter", script, check, mutated)

if __name__ == "__main__":
    sys.exit(command(FUZZER, __doc__))
