"""The front door of SQL: a statement's text becomes one of the values of `aidb.sql.statements`."""

from __future__ import annotations

import logging
from typing import Literal

from aidb.errors import SqlSyntaxError
from aidb.sql.clauses import cut
from aidb.sql.cursor import Cursor, unsupported
from aidb.sql.definitions import define, shows_a_table
from aidb.sql.guarantee import combine
from aidb.sql.statements import Native, Query, Statement
from aidb.sql.tokens import Token, blank, is_complete, scan, split, words

__all__ = ["inner_query", "is_complete", "parse", "split"]

_QUERY = words("SELECT FROM VALUES TABLE DESCRIBE DESC SUMMARIZE PIVOT UNPIVOT PIVOT_WIDER PIVOT_LONGER ( WITH")
# What sqlglot can't read it takes for a command and warns of; whether that matters is ours to say, see `aidb.plan`.
logging.getLogger("sqlglot").addFilter(lambda record: "Falling back to parsing" not in record.msg)
_CHANGES = words("INSERT UPDATE DELETE MERGE")


def parse(sql: str) -> Statement:
    """Read one statement; a closing semicolon may stand.

    Queries come back as `Query` with our clauses cut out, our own statements as what they define, all others
    untouched as `Native`. Raises SqlSyntaxError with position and hint, and NotSupportedError for forms that come later.

    >>> parse("SELECT COUNT(*) FROM box ERROR TARGET 5%").core
    'SELECT COUNT(*) FROM box                '
    """
    tokens = scan(sql)
    cursor = Cursor(sql, tokens)
    if cursor.done:
        raise SqlSyntaxError("expected a statement, found nothing", sql, 0)
    key = cursor.key()
    if key == "EXPLAIN":
        return _explain(cursor)
    if key == "SHOW" and cursor.at("SHOW", "COST", "OF"):
        cursor.demand("SHOW", "COST", "OF")
        return _query(cursor, "cost")
    if _begins_query(cursor) or (key == "SHOW" and shows_a_table(cursor)):
        return _query(cursor, "no")
    return define(cursor) or Native(sql)


def _begins_query(cursor: Cursor) -> bool:
    """Does a query begin here? One that begins with WITH may end in an INSERT, which is DuckDB's."""
    key = cursor.key()
    if key == "WITH":
        verb = _verb_after_with(cursor.tokens, cursor.i)
        return verb is None or verb.key not in _CHANGES
    return key in _QUERY


def _verb_after_with(tokens: list[Token], i: int) -> Token | None:
    """What follows the last common table expression: its body's bracket closes, and no comma comes."""
    for before, token in zip(tokens[i:], tokens[i + 1 :], strict=False):
        if before.depth == token.depth == 0 and before.key == ")" and token.key not in (",", "AS", "USING"):
            return token
    return None


def _explain(cursor: Cursor) -> Statement:
    cursor.demand("EXPLAIN")
    how: Literal["explain", "analyze", "cost"] = "explain"
    if cursor.take("ANALYZE") or cursor.take("ANALYSE"):
        how = "analyze"
    elif cursor.take("COST"):
        how = "cost"
    if how == "cost" and not _begins_query(cursor):
        raise cursor.expected("a query", "EXPLAIN COST estimates a query's calls, seconds and price")
    if cursor.at("(") and cursor.key(1) not in _QUERY:
        return Native(cursor.sql)  # EXPLAIN (FORMAT json) ...
    return _query(cursor, how) if _begins_query(cursor) else Native(cursor.sql)


def _query(cursor: Cursor, explain: Literal["no", "explain", "analyze", "cost"]) -> Query:
    """The query from the cursor on."""
    sql, tokens, first = cursor.sql, cursor.tokens, cursor.i
    if not _begins_query(cursor) and explain == "cost":
        raise cursor.expected("a query")
    clauses = cut(sql, tokens, first)
    spans = [(tokens[clause.first].start, tokens[clause.after - 1].end) for clause in clauses]
    if first:
        spans.append((tokens[0].start, tokens[first - 1].end))
    spans += [(at, at + 1) for at in cursor.semicolons]
    core = blank(sql, spans) if spans else sql
    _check_fcount(sql, tokens)
    return Query(sql, core, combine(sql, core, tokens, clauses), explain)


def _check_fcount(sql: str, tokens: list[Token]) -> None:
    """FrameQL's FCOUNT(*) needs to know which table counts the frames, which only the user can say."""
    for i, token in enumerate(tokens):
        if token.key == "FCOUNT" and [t.key for t in tokens[i + 1 : i + 4]] == ["(", "*", ")"]:
            hint = "write COUNT(*) / (SELECT COUNT(*) FROM frames WHERE ...), with the conditions on frames alone"
            raise unsupported(sql, token.start, "FCOUNT(*), rows for each frame, is not supported", hint)


def inner_query(sql: str) -> tuple[int, int] | None:
    """Where the query stands inside INSERT ... SELECT, CREATE TABLE or VIEW ... AS SELECT, or COPY (SELECT ...) TO.

    ``sql[start:end]`` is a text for `parse`, and may carry guarantee clauses of its own; of INSERT, VALUES is a query
    too. None for any other statement, and for ``WITH ... INSERT``, whose query is no one piece of the text.
    """
    cursor = Cursor(sql)
    tokens = cursor.tokens
    if cursor.at("COPY", "("):
        inside = [i for i in range(2, len(tokens)) if tokens[i].depth == 0 and tokens[i].key == ")"]
        return _span(tokens, 2, inside[0]) if inside and tokens[2].key in _QUERY else None
    if cursor.at("CREATE"):
        return _inner_of_create(cursor)
    return _inner_of_insert(tokens) if cursor.at("INSERT") else None


def _inner_of_create(cursor: Cursor) -> tuple[int, int] | None:
    """``CREATE [OR REPLACE] [TEMP] TABLE | VIEW name [(columns)] AS query [WITH [NO] DATA]``."""
    tokens = cursor.tokens
    kind = next((i for i, t in enumerate(tokens[:6]) if t.key in ("TABLE", "VIEW")), None)
    if kind is None or any(t.key in ("VIRTUAL", "BLOB", "MACRO", "FUNCTION") for t in tokens[1:kind]):
        return None
    start = next((i + 1 for i in range(kind + 1, len(tokens)) if tokens[i].key == "AS" and tokens[i].depth == 0), None)
    if start is None or start >= len(tokens) or tokens[start].key not in _QUERY:
        return None
    end = len(tokens)
    if tokens[end - 1].key == "DATA" and tokens[end - 2].key in ("WITH", "NO"):
        end -= 2 if tokens[end - 2].key == "WITH" else 3
    return _span(tokens, start, end)


def _inner_of_insert(tokens: list[Token]) -> tuple[int, int] | None:
    """``INSERT [OR ...] INTO name [AS alias] [(columns)] [BY NAME] query [ON CONFLICT ...] [RETURNING ...]``."""
    start = next((j for j in range(1, len(tokens)) if tokens[j].depth == 0 and _starts_rows(tokens, j)), None)
    if start is None:
        return None
    end = len(tokens)
    for j in range(start + 1, len(tokens)):
        if tokens[j].depth == 0 and (
            tokens[j].key == "RETURNING"
            or (tokens[j].key == "ON" and tokens[j + 1 : j + 2] and tokens[j + 1].key == "CONFLICT")
        ):
            end = j
            break
    return _span(tokens, start, end)


def _starts_rows(tokens: list[Token], j: int) -> bool:
    """Does the query begin at this token: not ``INTO table``, not the bracket of the column list?"""
    token = tokens[j]
    if token.key == "(":
        return j + 1 < len(tokens) and tokens[j + 1].key in _QUERY
    return token.key in _QUERY and tokens[j - 1].key not in ("INTO", ".", "AS", "DEFAULT")


def _span(tokens: list[Token], first: int, end: int) -> tuple[int, int] | None:
    return (tokens[first].start, tokens[end - 1].end) if first < end else None
