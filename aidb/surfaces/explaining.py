"""What is wrong with a statement: where, in the person's own text, and what may have been meant."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from aidb.errors import Error, ProgrammingError, SqlSyntaxError
from aidb.sql.tokens import Token, scan
from aidb.surfaces.words import KEYWORDS, OURS, STATEMENTS

_PLACED = re.compile(
    r"\A(?:Parser|Binder|Catalog) Error: (?P<what>.*?)\n\nLINE (?P<line>\d+): (?P<shown>.*)\n(?P<caret> *)\^", re.DOTALL
)
_FIRST = sorted({phrase.split()[0] for phrase in STATEMENTS})
_WORDS = sorted(KEYWORDS | {word for phrase in OURS for word in phrase.split()})


@dataclass(frozen=True)
class Place:
    """Where a statement stands in a script: the script's name and whole text, its number, and its offset."""

    script: str
    text: str
    number: int
    offset: int

    def __str__(self) -> str:
        line = self.text.count("\n", 0, self.offset) + 1
        return f"{self.script}, line {line}, statement {self.number}"


def explained(wrong: Error, sql: str, place: Place | None) -> str:
    """The message of an error; if it knows its position, with line and column as they are in the script."""
    if isinstance(wrong, ProgrammingError) and not isinstance(wrong, SqlSyntaxError):
        wrong = _of_duckdb(str(wrong), sql) or wrong
    if place is None or not isinstance(wrong, SqlSyntaxError) or wrong.position is None:
        return str(wrong).rstrip()
    if place.text[place.offset :].startswith(wrong.sql):
        return str(SqlSyntaxError(wrong.message, place.text, place.offset + wrong.position, wrong.hint))
    return str(wrong).rstrip()


def _of_duckdb(message: str, sql: str) -> SqlSyntaxError | None:
    """DuckDB's message with its position in the statement as the person wrote it; None if it is about another text."""
    found = _PLACED.search(message)
    if found is None:
        return None
    lines = sql.split("\n")
    k = int(found["line"]) - 1
    # A long line is shown in part, with dots where it goes on.
    shown = found["shown"]
    part = shown.removeprefix("...").removesuffix("...")
    at = lines[k].find(part) if k < len(lines) and part else -1
    if at < 0:
        return None
    within = len(found["caret"]) - len(f"LINE {found['line']}: ") - (len(shown) - len(shown.removeprefix("...")))
    position = sum(len(line) + 1 for line in lines[:k]) + at + max(0, within)
    return SqlSyntaxError(found["what"], sql, min(position, len(sql)), _meant(sql, position))


def _meant(sql: str, position: int) -> str | None:
    """A guess at what the word at the fault, or the one before it, should have been; or the bracket that was forgotten."""
    try:
        tokens = scan(sql)
    except SqlSyntaxError:
        return None
    at = next((k for k, token in enumerate(tokens) if token.end > position), len(tokens))
    for k in (at, at - 1):
        if 0 <= k < len(tokens) and tokens[k].kind == "word":
            known = _FIRST if k == 0 else _WORDS
            swapped = [word for word in known if sorted(word) == sorted(tokens[k].key)]  # FORM is rather FROM than FOR
            near = swapped or difflib.get_close_matches(tokens[k].key, known, 1, 0.74)
            if near and tokens[k].key not in near:
                return f"did you mean {near[0]}?"
    open_ = _open_bracket(tokens)
    if open_ is not None:
        line = sql.count("\n", 0, open_.start) + 1
        column = open_.start - (sql.rfind("\n", 0, open_.start) + 1) + 1
        return f"the bracket at line {line}, column {column} is never closed"
    return None


def _open_bracket(tokens: list[Token]) -> Token | None:
    stack: list[Token] = []
    for token in tokens:
        if token.kind == "symbol" and token.key in "([{":
            stack.append(token)
        elif token.kind == "symbol" and token.key in ")]}" and stack:
            stack.pop()
    return stack[-1] if stack else None
