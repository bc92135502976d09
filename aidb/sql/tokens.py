"""The words of a text, as DuckDB would cut it, with the position of each.

A scanner of our own, because every character must keep its place: clauses are cut out of the text by position, and
errors point into what the user wrote. It knows DuckDB's strings, quoted names, dollar quotes and nested comments, and
nothing of SQL's grammar; whatever it can't read is an error that DuckDB would give too.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from aidb.errors import SqlSyntaxError

Kind = Literal["word", "name", "string", "number", "parameter", "symbol"]


class Token(NamedTuple):
    """One token.

    kind: ``word`` is an unquoted identifier or keyword, ``name`` a quoted identifier.
    key: what to compare with: a word in upper case, a symbol as it is, and "" for the rest, so that ``"recall"`` and
        ``'recall'`` never pass for the word RECALL.
    start, end: character offsets. depth: how many brackets are open around it (a bracket counts as outside).
    """

    kind: Kind
    key: str
    start: int
    end: int
    depth: int


def words(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


RESERVED = words(
    "ALL ANALYSE ANALYZE AND ANY ARRAY AS ASC ASYMMETRIC BOTH CASE CAST CHECK COLLATE COLUMN CONSTRAINT CREATE DEFAULT "
    "DEFERRABLE DESC DESCRIBE DISTINCT DO ELSE END EXCEPT FALSE FETCH FOR FOREIGN FROM GROUP HAVING IN INITIALLY "
    "INTERSECT INTO LAMBDA LATERAL LEADING LIMIT NOT NULL OFFSET ON ONLY OR ORDER PIVOT PIVOT_LONGER PIVOT_WIDER "
    "PLACING PRIMARY QUALIFY REFERENCES RETURNING SELECT SHOW SOME SUMMARIZE SYMMETRIC TABLE THEN TO TRAILING TRUE "
    "UNION UNIQUE UNPIVOT USING VARIADIC WHEN WHERE WINDOW WITH"
)
"""DuckDB's reserved words: an object may bear such a name only in double quotes."""

_SPACES = r"\s\u00a0\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff"
_LETTER = rf"[A-Za-z_]|[^\x00-\x7f{_SPACES}]"
_LETTER_ON = rf"[A-Za-z0-9_$]|[^\x00-\x7f{_SPACES}]"
_TOKEN = re.compile(
    rf"""
      (?P<space>[{_SPACES}]+|--[^\r\n]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'[^'\\]*(?:(?:''|\\.)[^'\\]*)*(?P<escaped_end>'?))
    | (?P<word>(?:{_LETTER})(?:{_LETTER_ON})*)
    | (?P<number>0[xX][0-9a-fA-F_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?)
    | (?P<string>'[^']*(?:''[^']*)*(?P<string_end>'?))
    | (?P<name>"[^"]*(?:""[^"]*)*(?P<name_end>"?))
    | (?P<dollar>\$(?:(?:{_LETTER})(?:[A-Za-z0-9_]|[^\x00-\x7f{_SPACES}])*)?\$)
    | (?P<parameter>\$(?:\d+|(?:{_LETTER})(?:[A-Za-z0-9_]|[^\x00-\x7f{_SPACES}])*)|\?)
    | (?P<symbol>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def scan(sql: str) -> list[Token]:
    """All tokens of a text, comments and space left out. SqlSyntaxError for an open string, name or comment."""
    tokens: list[Token] = []
    append, match = tokens.append, _TOKEN.match
    at, depth, length = 0, 0, len(sql)
    while at < length:
        found = match(sql, at)
        assert found is not None  # the last alternative takes any character
        kind, start, at = found.lastgroup, at, found.end()
        if kind == "space":
            continue
        if kind == "word":
            text = found.group()
            append(Token("word", text.upper() if text.isascii() else text, start, at, depth))
        elif kind == "symbol":
            key = found.group()
            if key in "([{":
                append(Token("symbol", key, start, at, depth))
                depth += 1
                continue
            if key in ")]}" and depth:
                depth -= 1
            append(Token("symbol", key, start, at, depth))
        elif kind == "number":
            append(Token("number", "", start, at, depth))
        elif kind == "comment":
            at = _end_of_comment(sql, start)
        elif kind == "parameter":
            append(Token("parameter", "", start, at, depth))
        elif kind == "dollar":
            close = sql.find(found.group(), at)
            if close < 0:
                raise SqlSyntaxError(f"the string that {found.group()} opens is never closed", sql, start)
            at = close + at - start
            append(Token("string", "", start, at, depth))
        else:
            append(_quoted(sql, found, depth))
    return tokens


def _quoted(sql: str, found: re.Match[str], depth: int) -> Token:
    """A string or quoted name; the regular expression took the rest of the text where the closing quote is missing."""
    kind = "name" if found.group("name") is not None else "string"
    if not (found.group("name_end") or found.group("string_end") or found.group("escaped_end")):
        what = "quoted name" if kind == "name" else "string"
        raise SqlSyntaxError(f"this {what} is never closed", sql, found.start())
    return Token("name" if kind == "name" else "string", "", found.start(), found.end(), depth)


def _end_of_comment(sql: str, start: int) -> int:
    """The end of the comment that opens at ``start``; comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise SqlSyntaxError("this comment is never closed", sql, start)


def split(script: str) -> list[tuple[str, int]]:
    """The statements of a script with their offsets: ``script[offset:offset + len(text)] == text``.

    A text runs from its first token to its last; the semicolons, and the space and comments between statements,
    belong to none. SqlSyntaxError where a string or a comment is never closed.

    >>> split("SELECT 1; -- one; done\\nSELECT ';';")
    [('SELECT 1', 0), ("SELECT ';'", 23)]
    """
    statements: list[tuple[str, int]] = []
    start = end = -1
    for token in scan(script):
        if token.key == ";":
            if start >= 0:
                statements.append((script[start:end], start))
            start = -1
        else:
            start, end = (token.start if start < 0 else start), token.end
    if start >= 0:
        statements.append((script[start:end], start))
    return statements


def is_complete(script: str) -> bool:
    """Has the last statement been ended by a semicolon? What a shell asks before it runs what was typed."""
    try:
        tokens = scan(script)
    except SqlSyntaxError:
        return False
    return not tokens or tokens[-1].key == ";"


def name_of(sql: str, token: Token) -> str:
    """What an identifier names: quotes are taken off, the letter case stays as it was written."""
    text = sql[token.start : token.end]
    return text[1:-1].replace('""', '"') if token.kind == "name" else text


_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)|''", re.DOTALL)
_CONTROL = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def string_of(sql: str, token: Token) -> str:
    """The value of a string: ``'it''s'``, ``E'a\\n'``, ``$$as it is$$``."""
    text = sql[token.start : token.end]
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    if text[0] == "$":
        tag = text.index("$", 1) + 1
        return text[tag:-tag]
    return _ESCAPE.sub(_unescape, text[2:-1])


def _unescape(found: re.Match[str]) -> str:
    code = found.group(1)
    if code is None:
        return "'"
    if code[0] in "xuU" and len(code) > 1:
        number = int(code[1:], 16)
    elif code[0] in "01234567":
        number = int(code, 8)
    else:
        return _CONTROL.get(code, code)
    return chr(number) if number < 0x110000 else "\ufffd"


def shown(sql: str, token: Token | None) -> str:
    """A token as an error message quotes it."""
    if token is None:
        return "the end of the statement"
    text = sql[token.start : token.end]
    return text if len(text) <= 30 else text[:27] + "..."


def blank(sql: str, spans: list[tuple[int, int]]) -> str:
    """The text with these spans made blank; line breaks stay, so that lines and columns do too."""
    parts: list[str] = []
    at = 0
    for start, end in sorted(spans):
        parts.append(sql[at:start])
        parts.append(_NOT_BREAK.sub(" ", sql[start:end]))
        at = end
    parts.append(sql[at:])
    return "".join(parts)


_NOT_BREAK = re.compile(r"[^\r\n]")
