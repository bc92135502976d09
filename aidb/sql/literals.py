"""The literals that stand after WITH and SET: strings, numbers, true, false, NULL, lists and structs."""

from __future__ import annotations

from aidb.sql.cursor import Cursor
from aidb.sql.tokens import string_of

_WORDS: dict[str, bool | None] = {"TRUE": True, "FALSE": False, "NULL": None}


def options(cursor: Cursor, into: dict[str, object]) -> None:
    """``WITH ( name = value, ... )`` from its opening bracket on; a name may stand once, in any letter case."""
    cursor.demand("(")
    taken = {name.lower() for name in into}
    while True:
        position = cursor.position
        token = cursor.token()
        hint = None
        if token and token.kind == "number":
            hint = "numbers here have no digit groups: write 10000 or 10_000"
        if token is None or token.kind not in ("word", "name"):
            raise cursor.expected("the name of an option", hint)
        # reserved words may be options without quotes: WITH (table = 'x', check = true)
        name = cursor.name("the name of an option") if token.kind == "name" else _word(cursor)
        if name.lower() in taken:
            raise cursor.fail(f"the option {name} stands here twice", at=position)
        taken.add(name.lower())
        cursor.demand("=")
        into[name] = value(cursor)
        if not cursor.take(","):
            if not cursor.at(")"):
                raise cursor.expected(", or )")
            cursor.demand(")")
            return


def value(cursor: Cursor) -> object:
    """One literal: str, int, float, bool, None, list or dict (of lists and dicts)."""
    token = cursor.token()
    if token is None:
        raise cursor.expected("a value")
    if token.kind == "string":
        cursor.i += 1
        return string_of(cursor.sql, token)
    if token.kind == "number" or (token.key in ("-", "+") and _number_follows(cursor)):
        return _number(cursor)
    if token.key in _WORDS:
        cursor.i += 1
        return _WORDS[token.key]
    if token.key == "[":
        return _list(cursor)
    if token.key == "{":
        return _struct(cursor)
    if token.key == "MAP" and cursor.key(1) == "{":
        cursor.i += 1
        return _struct(cursor)
    hint = "a value is a string, a number, true, false, NULL, a list [...] or a struct {...}"
    if token.kind in ("word", "name"):
        hint = f"text stands in single quotes: '{cursor.name('a value')}'"
        cursor.i -= 1
    elif token.kind == "parameter":
        hint = "parameters can't stand here; write the value"
    raise cursor.expected("a value", hint)


def _word(cursor: Cursor) -> str:
    token = cursor.tokens[cursor.i]
    cursor.i += 1
    return cursor.sql[token.start : token.end]


def _number_follows(cursor: Cursor) -> bool:
    token = cursor.token(1)
    return token is not None and token.kind == "number"


def _number(cursor: Cursor) -> int | float:
    sign = -1 if cursor.take("-") else 1
    cursor.take("+")
    token = cursor.tokens[cursor.i]
    text = cursor.sql[token.start : token.end].replace("_", "").lower()
    cursor.i += 1
    if cursor.at("%"):
        raise cursor.fail("a value has no percent sign", f"write {float(text) / 100:g}" if text[:2] != "0x" else None)
    if text.startswith("0x"):
        return sign * int(text, 16) if text[2:] else 0
    return sign * (int(text) if text.isdigit() else float(text))


def _list(cursor: Cursor) -> list[object]:
    cursor.demand("[")
    values: list[object] = []
    if cursor.take("]"):
        return values
    while True:
        values.append(value(cursor))
        if not cursor.take(","):
            if not cursor.at("]"):
                raise cursor.expected(", or ]")
            cursor.demand("]")
            return values


def _struct(cursor: Cursor) -> dict[object, object]:
    """``{'a': 1, b: 2}``; a key of a MAP may be any literal that can be one."""
    cursor.demand("{")
    values: dict[object, object] = {}
    if cursor.take("}"):
        return values
    while True:
        position = cursor.position
        token = cursor.token()
        bare = token is not None and token.kind in ("word", "name")
        key = cursor.name("a key") if bare else value(cursor)
        if isinstance(key, (list, dict)):
            raise cursor.fail("a list or struct can't be a key", at=position)
        if key in values:
            raise cursor.fail(f"the key {key} stands here twice", at=position)
        cursor.demand(":")
        values[key] = value(cursor)
        if not cursor.take(","):
            if not cursor.at("}"):
                raise cursor.expected(", or }")
            cursor.demand("}")
            return values
