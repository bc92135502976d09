"""Reading a statement of ours from left to right: ask for what may come, demand what must, and say where it went wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from aidb.errors import NotSupportedError, SqlSyntaxError
from aidb.sql.tokens import RESERVED, Token, name_of, scan, shown, string_of


class Number(NamedTuple):
    """A number as a clause writes it: ``10,000``, ``5 %``, ``0.95``; value is as written, not divided by 100."""

    text: str
    value: Decimal
    percent: bool
    start: int
    end: int
    next: int


class Cursor:
    """A place among the tokens of one statement. A closing semicolon counts as the end."""

    def __init__(self, sql: str, tokens: list[Token] | None = None) -> None:
        self.sql = sql
        scanned = scan(sql) if tokens is None else tokens
        self.tokens = _one_statement(sql, scanned)
        self.semicolons = [token.start for token in scanned if token.key == ";"]
        self.i = 0

    # looking

    def token(self, ahead: int = 0) -> Token | None:
        """The token here, or ``ahead`` of here; None past the end."""
        i = self.i + ahead
        return self.tokens[i] if 0 <= i < len(self.tokens) else None

    def key(self, ahead: int = 0) -> str:
        """The key of that token, "" past the end."""
        token = self.token(ahead)
        return token.key if token else ""

    def at(self, *words: str) -> bool:
        """Do these words or symbols come next?"""
        return all(self.key(n) == word for n, word in enumerate(words))

    @property
    def done(self) -> bool:
        """Is nothing left?"""
        return self.i >= len(self.tokens)

    @property
    def position(self) -> int:
        """Character offset of the next token, or of the end of the last one."""
        token = self.token()
        if token:
            return token.start
        return self.tokens[-1].end if self.tokens else 0

    # taking

    def take(self, *words: str) -> bool:
        """Step over these words if all of them come next."""
        if self.at(*words):
            self.i += len(words)
            return True
        return False

    def demand(self, *words: str, hint: str | None = None) -> None:
        """Step over these words, or fail at the first that is missing."""
        for word in words:
            if not self.take(word):
                raise self.expected(word, hint)

    def name(self, what: str) -> str:
        """An identifier, as it was written but for its quotes. Reserved words need the quotes, as in DuckDB."""
        token = self.token()
        if token and (token.kind == "name" or (token.kind == "word" and token.key not in RESERVED)):
            name = name_of(self.sql, token)
            if not name:
                raise self.fail(f"{what} can't be empty")
            self.i += 1
            return name
        hint = None
        if token and token.kind == "word":
            hint = f'{token.key} is a reserved word; as a name it needs double quotes: "{name_of(self.sql, token)}"'
        elif token and token.kind == "string":
            hint = "a name stands in double quotes or in none; single quotes make a string"
        raise self.expected(what, hint)

    def object_name(self, what: str) -> str:
        """The name of a thing of ours, which takes no schema before it."""
        name = self.name(what)
        if self.at("."):
            raise self.fail(
                "this name takes no schema or catalog before it", "AIDB's objects live in the default schema"
            )
        return name

    def names(self, what: str) -> tuple[str, ...]:
        """``( name, name ... )``, each once."""
        self.demand("(")
        names: list[str] = []
        while True:
            position = self.position
            name = self.name(what)
            if name.lower() in (n.lower() for n in names):
                raise self.fail(f"{name} stands here twice", at=position)
            names.append(name)
            if not self.take(","):
                self.demand(")")
                return tuple(names)

    def string(self, what: str, hint: str | None = None) -> str:
        """A string literal's value."""
        token = self.token()
        if token is None or token.kind != "string":
            raise self.expected(what, hint)
        self.i += 1
        return string_of(self.sql, token)

    def number(self) -> Number | None:
        """The number here, with digit groups and percent sign; None if there is none. Does not step."""
        return number_at(self.sql, self.tokens, self.i)

    def integer(self, what: str, least: int = 1) -> int:
        """A whole number, digit groups allowed."""
        number = self.number()
        if number is None:
            raise self.expected(what)
        if number.percent or not least <= number.value < 2**63 or number.value != int(number.value):
            raise self.fail(f"{what} must be a whole number, at least {least}, not {number.text}")
        self.i = number.next
        return int(number.value)

    def fraction(self, what: str) -> float:
        """A share between 0 and 1, both excluded, as ``20%`` or ``0.2``."""
        number = self.number()
        if number is None:
            raise self.expected(f"a percentage or a fraction after {what}")
        share = float(number.value / 100 if number.percent else number.value)  # 0.99999999999999999999 is 1 then
        if not 0 < share < 1:
            raise self.fail(f"{what} takes a percentage or a fraction between 0 and 1, not {number.text}")
        self.i = number.next
        return share

    def bracketed(self, what: str) -> str:
        """``( anything )``: the text between, which must not be empty."""
        opening = self.token()
        if opening is None or opening.key != "(":
            raise self.expected("(")
        end = next((i for i in range(self.i + 1, len(self.tokens)) if self.tokens[i].depth <= opening.depth), None)
        if end is None or self.tokens[end].key != ")":
            raise self.fail("this bracket is never closed")
        if end == self.i + 1:
            self.i = end
            raise self.expected(what)
        text = self.sql[self.tokens[self.i + 1].start : self.tokens[end - 1].end]
        self.i = end + 1
        return text

    def arguments(self) -> tuple[str, ...] | None:
        """``( text, text ... )`` cut at the outer commas, or None where no bracket opens."""
        opening = self.token()
        if opening is None or opening.key != "(":
            return None
        if self.key(1) == ")":
            self.i += 2
            return ()
        first = self.i + 1
        self.bracketed("an argument")
        parts: list[str] = []
        for i in range(first, self.i):
            token = self.tokens[i]
            if i == self.i - 1 or (token.key == "," and token.depth == opening.depth + 1):
                if i == first:
                    raise self.fail("an argument is missing here", at=token.start)
                parts.append(self.sql[self.tokens[first].start : self.tokens[i - 1].end])
                first = i + 1
        return tuple(parts)

    # failing

    def end(self, hint: str | None = None) -> None:
        """Nothing may follow."""
        if not self.done:
            raise self.expected("the end of the statement", hint)

    def expected(self, what: str, hint: str | None = None) -> SqlSyntaxError:
        """Fail here: ``what`` should have come."""
        return self.fail(f"expected {what}, found {shown(self.sql, self.token())}", hint)

    def fail(self, message: str, hint: str | None = None, at: int | None = None) -> SqlSyntaxError:
        """Fail at a position, here if none is given."""
        return SqlSyntaxError(message, self.sql, self.position if at is None else at, hint)

    def one_of(self, words: Sequence[str]) -> str:
        """One of these words, stepped over; names the nearest if it is none."""
        key = self.key()
        if key in words:
            self.i += 1
            return key
        near = difflib.get_close_matches(key, words, 1, 0.6) if key else []
        listed = words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1]
        raise self.expected(near[0] if near else listed)


_GROUP = re.compile(r"[0-9]{3}(?![0-9_])")


def number_at(sql: str, tokens: list[Token], i: int) -> Number | None:
    """The number whose first token is the i-th, or None. Groups count only where no space parts them: ``10,000``."""
    if i >= len(tokens) or tokens[i].kind != "number":
        return None
    first = last = tokens[i]
    i += 1
    while (
        last.end - last.start <= 3
        and i + 1 < len(tokens)
        and tokens[i].key == ","
        and tokens[i].start == last.end
        and tokens[i + 1].kind == "number"
        and tokens[i + 1].start == tokens[i].end
        and _GROUP.match(sql, tokens[i + 1].start, tokens[i + 1].end)
    ):
        last = tokens[i + 1]
        i += 2
    text = sql[first.start : last.end]
    value = _decimal(text.replace(",", "").replace("_", ""))
    if i < len(tokens) and tokens[i].key == "%":
        return Number(text + "%", value, True, first.start, tokens[i].end, i + 1)
    return Number(text, value, False, first.start, last.end, i)


def _decimal(digits: str) -> Decimal:
    """The value; whatever is too large to matter (``1e999999``) is one very large number that every range refuses."""
    if digits[:2] in ("0x", "0X"):
        value = Decimal(int(digits[2:30] or "0", 16))
    else:
        mantissa, _, exponent = digits.lower().partition("e")
        huge = len(mantissa) > 40 or len(exponent) > 3
        value = (
            Decimal(10) ** 300 if huge and not exponent.startswith("-") else Decimal(digits[:40] if huge else digits)
        )
    return value


def later(sql: str, position: int, what: str) -> NotSupportedError:
    """The error for a form that the grammar has room for and this version does not know yet."""
    return unsupported(sql, position, f"{what} comes later; this version does not have it")


def unsupported(sql: str, position: int, message: str, hint: str | None = None) -> NotSupportedError:
    """A NotSupportedError that shows the place, like SqlSyntaxError."""
    return NotSupportedError(str(SqlSyntaxError(message, sql, position, hint)))


def _one_statement(sql: str, tokens: list[Token]) -> list[Token]:
    """The tokens without leading and closing semicolons; an error if another statement follows one."""
    first = next((i for i, token in enumerate(tokens) if token.key != ";"), len(tokens))
    last = next((i for i in range(first, len(tokens)) if tokens[i].key == ";"), len(tokens))
    for token in tokens[last:]:
        if token.key != ";":
            raise SqlSyntaxError("a second statement begins here", sql, token.start, "run them one by one")
    return tokens[first:last]
