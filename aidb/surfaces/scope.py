"""Which tables a cursor within a query can see: read from tokens, so that a query may be half written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aidb.sql.tokens import RESERVED, Token, name_of, words

_BEGINS = frozenset(("FROM", "JOIN", "UPDATE", "INTO"))
_NO_ALIAS = words(
    "LEFT RIGHT FULL INNER CROSS SEMI ANTI ASOF NATURAL POSITIONAL JOIN ERROR RECALL PRECISION BUDGET SEED GAP METHOD BY SET "
    "VALUES EXPECTED VERIFIED UNVERIFIED TABLESAMPLE"
)


class Source(NamedTuple):
    """Something that columns come from. name: as the query calls it. table: what it is; "" for a query in brackets.

    is_query: a common table expression, which may be named in FROM.
    """

    name: str
    table: str
    is_query: bool = False


def sources(sql: str, before: Sequence[Token], behind: Sequence[Token]) -> list[Source]:
    """What the place between these tokens can see: its own query's tables, those around it, common table expressions."""
    tokens = [*before, *behind]
    place = len(before)
    found: list[Source] = []
    begin, end, depth = place, place, _depth(before)
    while depth >= 0:
        while begin > 0 and tokens[begin - 1].depth >= depth:
            begin -= 1
        while end < len(tokens) and tokens[end].depth >= depth:
            end += 1
        found += _from(sql, [t for t in tokens[begin:end] if t.depth == depth])
        depth -= 1
    found += (Source(name, "", is_query=True) for name in _common(sql, tokens[:place]))
    return found


def _depth(before: Sequence[Token]) -> int:
    if not before:
        return 0
    last = before[-1]
    return last.depth + (last.key in ("(", "[", "{"))


def _from(sql: str, tokens: Sequence[Token]) -> Iterator[Source]:
    """The tables of one query: what follows FROM, JOIN, UPDATE and INTO, and the commas of FROM."""
    inside = False
    i = 0
    while i < len(tokens):
        token = tokens[i]
        i += 1
        if token.kind == "word" and token.key in RESERVED and token.key not in ("FROM", "AS", "ON", "USING", "LATERAL"):
            inside = False
        if token.key in _BEGINS:
            inside = True
        elif not (inside and token.key == ","):
            continue
        if i < len(tokens) and tokens[i].key == "LATERAL":
            i += 1
        parts: list[str] = []
        while i < len(tokens) and _is_name(tokens[i]):
            parts.append(name_of(sql, tokens[i]))
            i += 1
            if i < len(tokens) and tokens[i].key == ".":
                i += 1
            else:
                break
        while i < len(tokens) and tokens[i].key in ("(", ")"):
            i += 1  # a model's arguments, or a query in brackets
        if i < len(tokens) and tokens[i].key == "AS":
            i += 1
        if i < len(tokens) and _is_name(tokens[i]) and tokens[i].key not in _NO_ALIAS:
            yield Source(name_of(sql, tokens[i]), ".".join(parts))
            i += 1
        elif parts:
            yield Source(parts[-1], ".".join(parts))


def _common(sql: str, tokens: Sequence[Token]) -> Iterator[str]:
    """Names of common table expressions: a name, AS, and a bracket, somewhere behind WITH."""
    begun = False
    for token, as_, bracket in zip(tokens, tokens[1:], tokens[2:], strict=False):
        begun = begun or token.key == "WITH"
        if begun and _is_name(token) and as_.key == "AS" and bracket.key == "(":
            yield name_of(sql, token)


def _is_name(token: Token) -> bool:
    return token.kind == "name" or (token.kind == "word" and token.key not in RESERVED)
