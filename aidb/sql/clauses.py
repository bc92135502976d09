"""Cutting the guarantee clauses out of a query.

No word is reserved. A clause is known by its opener with look-ahead (``RECALL`` before a number, ``ORACLE LIMIT``
before a number), outside all brackets, and only where the words before it could stand complete: in
``FROM oracle LIMIT 10`` and ``ORDER BY oracle LIMIT 10`` the word is a name, in ``WHERE p ORACLE LIMIT 10`` a clause.
What the clauses ask for together is the business of `aidb.sql.guarantee`.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

from aidb.errors import SqlSyntaxError
from aidb.sql.cursor import Cursor, Number, later, number_at
from aidb.sql.statements import Call
from aidb.sql.tokens import RESERVED, Token, name_of, shown, words


class Clause(NamedTuple):
    """One clause as written.

    kind: error | within | recall | precision | fnr | fpr | probability | failure | budget | time_limit | gap | seed |
        proxy | oracle | method | verified. label: its words, for messages. unit: the word after the number, if any.
    first, after: indices of its first token, and of the token behind it.
    """

    kind: str
    label: str
    value: Number | Call | str | bool
    first: int
    after: int
    position: int
    unit: str = ""
    expected: bool = False


class _Form(NamedTuple):
    words: tuple[str, ...]
    kind: str
    expected: bool = False


SECONDS = {
    "MS": 0.001, "SECOND": 1.0, "SECONDS": 1.0, "MINUTE": 60.0, "MINUTES": 60.0, "HOUR": 3600.0, "HOURS": 3600.0,
}  # fmt: skip
_SINGULAR = ("SECOND", "MINUTE", "HOUR")
SELECTION_METHODS = ("auto", "exact", "cells", "supg", "calibrated", "uniform")
AGGREGATE_METHODS = ("auto", "exact", "asr", "clt", "ppi", "abae", "ebs", "betting", "bootstrap")
_METHODS = tuple(dict.fromkeys(SELECTION_METHODS + AGGREGATE_METHODS))
_UNITS: dict[str, tuple[str, ...]] = {
    "budget": ("CALLS", "ROWS", "USD", "EUR", *SECONDS),
    "gap": ("FRAMES", "ROWS", *SECONDS),
    "time_limit": tuple(SECONDS),
}


def _forms() -> dict[str, tuple[_Form, ...]]:
    """Every opener that a number follows, by its first word, the longest first."""
    forms = [
        _Form(("ERROR_TARGET",), "error"), _Form(("ERROR", "TARGET"), "error"), _Form(("WITH", "ERROR"), "error"),
        _Form(("WITH", "ERROR", "TARGET"), "error"),
        _Form(("ERROR", "WITHIN"), "within"), _Form(("WITH", "ERROR", "WITHIN"), "within"),
        _Form(("ACCURACY",), "recall"), _Form(("RECALL_TARGET",), "recall"), _Form(("PRECISION_TARGET",), "precision"),
        _Form(("FNR", "WITHIN"), "fnr"), _Form(("FPR", "WITHIN"), "fpr"),
        _Form(("CONFIDENCE",), "probability"), _Form(("AT", "CONFIDENCE"), "probability"),
        _Form(("WITH", "CONFIDENCE"), "probability"), _Form(("WITH", "PROBABILITY"), "probability"),
        _Form(("WITH", "SUCCESS", "PROBABILITY"), "probability"),
        _Form(("WITH", "FAILURE", "PROBABILITY"), "failure"),
        _Form(("ORACLE", "LIMIT"), "budget"), _Form(("BUDGET",), "budget"),
        _Form(("GAP",), "gap"), _Form(("SEED",), "seed"), _Form(("WITHIN",), "time_limit"),
    ]  # fmt: skip
    for target in ("RECALL", "PRECISION"):
        forms.extend(
            _Form((*head, target, *tail), target.lower(), "EXPECTED" in head)
            for head in ((), ("WITH",), ("EXPECTED",), ("WITH", "EXPECTED"))
            for tail in ((), ("TARGET",))
        )
    by_first: dict[str, list[_Form]] = {}
    for form in sorted(forms, key=lambda f: -len(f.words)):
        by_first.setdefault(form.words[0], []).append(form)
    return {word: tuple(those) for word, those in by_first.items()}


_NUMERIC = _forms()
_WORDY = words("USING BY ORACLE METHOD REPEATABLE DURATION EXCLUDING WITH RESOLVE FROM VERIFIED UNVERIFIED")
_SLIPS = {
    "ERROR": "ERROR TARGET", "ORACLE_LIMIT": "ORACLE LIMIT", "PROBABILITY": "WITH PROBABILITY",
    "FNR": "FNR WITHIN", "FPR": "FPR WITHIN", "EXPECTED": "EXPECTED RECALL",
}  # fmt: skip
"""What was meant by a word that stands before a number and is no clause by itself."""
OPENERS = frozenset(_NUMERIC) | _WORDY | frozenset(_SLIPS)
"""Words that may open a clause, if what follows fits."""

_INCOMPLETE = words(
    "SELECT DISTINCT FROM JOIN WHERE AND OR NOT ON BY HAVING QUALIFY AS IN LIKE ILIKE GLOB SIMILAR TO BETWEEN SYMMETRIC "
    "IS CASE WHEN THEN ELSE LIMIT OFFSET UNION EXCEPT INTERSECT ANY SOME COLLATE OVER WINDOW WITH RECURSIVE USING ESCAPE "
    "LATERAL TABLE INTO VALUES RETURNING GROUP ORDER PARTITION DESCRIBE SUMMARIZE SHOW PIVOT UNPIVOT FOR "
    "DEFAULT CAST FETCH"
)
"""Words after which a name or expression must come, so that what follows them is never a clause."""
_MAY_FOLLOW = words("ORDER LIMIT OFFSET GROUP HAVING QUALIFY WINDOW WHERE FROM FETCH SELECT")
"""DuckDB's words that may come right behind a clause of ours."""
_SET_OPERATORS = frozenset(("UNION", "INTERSECT", "EXCEPT"))
_NO_ORACLE = words("NULL NOT TRUE FALSE DISTINCT UNKNOWN JSON")


def cut(sql: str, tokens: list[Token], start: int = 0) -> list[Clause]:
    """The clauses among ``tokens[start:]``, which are a query, in the order of the text.

    SqlSyntaxError for a clause inside brackets, a clause without its number, or something odd behind a clause.
    """
    return _Cutter(sql, tokens, start).run()


class _Cutter:
    def __init__(self, sql: str, tokens: list[Token], start: int) -> None:
        self.sql, self.tokens, self.start = sql, tokens, start
        self.clauses: list[Clause] = []
        self.after = -1  # index behind the clause just read: what comes there continues the run of clauses
        self.run_has_limit = False
        self.seen_from = self.seen_sample = False

    def run(self) -> list[Clause]:
        loose: list[int] = []  # VERIFIED and UNVERIFIED that don't follow a clause: theirs is decided at the end
        tokens, i = self.tokens, self.start
        while i < len(tokens):
            key = tokens[i].key
            if key in OPENERS and self.can_start(i):
                if key in ("VERIFIED", "UNVERIFIED") and i != self.after:
                    loose.append(i)
                elif found := self.match(i):
                    i = self.record(found)
                    continue
            if i == self.after:
                self.check_follower(tokens[i])
            if tokens[i].depth == 0:
                self.note(tokens[i])
            i += 1
        if self.clauses:
            self.settle(loose)
        return sorted(self.clauses, key=lambda clause: clause.first)

    def note(self, token: Token) -> None:
        """Remember what decides about later words."""
        if token.key in _SET_OPERATORS:
            if self.clauses:
                hint = "put it at the end, behind the last part"
                raise self.fail("a guarantee belongs to the whole query, not to one part of it", self.clauses[0], hint)
            self.seen_from = False
        elif token.key == "FROM":
            self.seen_from = True
        elif token.key in ("SAMPLE", "TABLESAMPLE"):
            self.seen_sample = True

    def record(self, found: list[Clause]) -> int:
        clause = found[0]
        if self.tokens[clause.first].depth > 0:
            raise self.fail(
                f"{clause.label} stands inside brackets: a guarantee belongs to the outermost result",
                clause,
                "put it behind the whole query; a name that reads like a clause needs double quotes",
            )
        if clause.first != self.after:
            self.run_has_limit = False
        self.run_has_limit = self.run_has_limit or clause.kind == "budget"
        self.clauses.extend(found)
        self.after = found[-1].after
        return self.after

    def settle(self, loose: list[int]) -> None:
        """A lone VERIFIED is ours if the query has another clause, and nothing follows that makes it an alias."""
        starts = {clause.first for clause in self.clauses}
        for i in loose:
            follower = self.key(i + 1)
            if self.tokens[i].depth == 0 and (
                i + 1 >= len(self.tokens) or i + 1 in starts or follower in _MAY_FOLLOW - {"FROM", "WHERE", "SELECT"}
            ):
                self.clauses.append(self.verified(i))

    # looking

    def key(self, i: int) -> str:
        return self.tokens[i].key if 0 <= i < len(self.tokens) else ""

    def is_name(self, i: int) -> bool:
        """Can this token be somebody's name?"""
        if i >= len(self.tokens):
            return False
        token = self.tokens[i]
        return token.kind == "name" or (token.kind == "word" and token.key not in RESERVED)

    def can_start(self, i: int) -> bool:
        """Could the words before the i-th token stand complete?"""
        if i == self.after:
            return True
        if i <= self.start:
            return False
        before = self.tokens[i - 1]
        key = before.key
        if before.kind == "symbol":
            if key == "*":
                return self.key(i - 2) in ("SELECT", ",", ".", "DISTINCT", "ALL")
            if key == "%":
                return i >= 3 and self.tokens[i - 2].kind == "number" and self.key(i - 3) in ("LIMIT", "SAMPLE")
            return key in (")", "]", "}")
        if key == "ALL":
            return self.key(i - 2) in ("BY", "LIMIT")
        if key == "ZONE":
            return self.key(i - 2) != "TIME"
        return key not in _INCOMPLETE

    # matching

    def match(self, i: int) -> list[Clause] | None:
        """The clause that opens at the i-th token (two for a joint target), or None."""
        key = self.tokens[i].key
        if key in _NUMERIC and (found := self.numeric(i)):
            return found
        found_one = self.wordy(i) if key in _WORDY else None
        if found_one is None and key in _SLIPS and (number := number_at(self.sql, self.tokens, i + 1)):
            hint = f"write {_SLIPS[key]} {number.text}"
            raise SqlSyntaxError(f"{key} {number.text} is no clause", self.sql, self.tokens[i].start, hint)
        return [found_one] if found_one else None

    def numeric(self, i: int) -> list[Clause] | None:
        for form in _NUMERIC[self.tokens[i].key]:
            n = len(form.words)
            if any(self.key(i + k) != form.words[k] for k in range(1, n)):
                continue
            label = " ".join(form.words)
            number = number_at(self.sql, self.tokens, i + n)
            if number is None:
                self.check_number_missing(i, n, label)
                continue
            clause = self.with_unit(Clause(form.kind, label, number, i, number.next, self.tokens[i].start))
            if clause is None:
                continue
            clause = clause._replace(expected=form.expected)
            return self.joint(clause) if form.kind == "recall" else [clause]
        return None

    def check_number_missing(self, i: int, n: int, label: str) -> None:
        """Complain where the words can't be SQL of DuckDB's, or stand right behind another clause of ours."""
        behind = self.tokens[i + n] if i + n < len(self.tokens) else None
        if self.tokens[i].depth > 0:
            return
        if behind is not None and behind.kind == "parameter":
            hint = "write the number itself; a name that reads like a clause needs double quotes"
            raise SqlSyntaxError(f"a parameter can't stand after {label}", self.sql, behind.start, hint)
        if n == 1 and i != self.after:
            return  # RECALL alone is a name like any other
        if label.startswith("WITH") and self.key(i + n) in ("AS", "("):
            return  # a common table expression
        if label == "ORACLE LIMIT" and behind is not None and behind.key in ("ALL", "("):
            return  # a table aliased as oracle, and DuckDB's LIMIT
        position = behind.start if behind else self.tokens[-1].end
        raise SqlSyntaxError(f"expected a number after {label}, found {shown(self.sql, behind)}", self.sql, position)

    def with_unit(self, clause: Clause) -> Clause | None:
        """Take the unit behind the number."""
        if clause.label == "ORACLE LIMIT" or clause.kind not in _UNITS:
            return clause
        unit = self.key(clause.after)
        if unit in _UNITS[clause.kind]:
            return clause._replace(unit=unit, after=clause.after + 1)
        if clause.kind == "time_limit":
            position = self.position(clause.after)
            raise SqlSyntaxError(
                f"expected a unit of time after {self.text(clause)}",
                self.sql,
                position,
                "MS, SECONDS, MINUTES or HOURS",
            )
        return clause

    def joint(self, recall: Clause) -> list[Clause]:
        """``RECALL 90% [AND] PRECISION [TARGET] 80%``."""
        i = recall.after + (self.key(recall.after) == "AND")
        n = 2 if self.key(i + 1) == "TARGET" else 1
        number = number_at(self.sql, self.tokens, i + n)
        if self.key(i) != "PRECISION" or number is None:
            return [recall]
        position = self.tokens[i].start
        # the word AND belongs to the clause, so that it is cut out with it
        return [
            recall,
            Clause("precision", "PRECISION", number, recall.after, number.next, position, "", recall.expected),
        ]

    def wordy(self, i: int) -> Clause | None:
        """Clauses that are known by words, not by a number."""
        key, second = self.tokens[i].key, self.key(i + 1)
        if key == "USING":
            return self.proxy(i)
        if key in ("VERIFIED", "UNVERIFIED"):
            return self.verified(i) if i == self.after else None
        if key == "METHOD":
            return self.method(i)
        if key == "REPEATABLE":
            return self.repeatable(i)
        if (key, second) == ("BY", "ORACLE") and self.is_name(i + 2):
            return self.oracle(i, "BY ORACLE")
        if (key, second) == ("ORACLE", "IS") and self.is_name(i + 2) and self.key(i + 2) not in _NO_ORACLE:
            return self.oracle(i, "ORACLE IS")
        if self.tokens[i].depth == 0:
            self.check_later(i, key, second)
        return None

    def check_later(self, i: int, key: str, second: str) -> None:
        what = ""
        if key == "EXCLUDING" and second == "VIOLATIONS":
            what = "EXCLUDING VIOLATIONS"
        elif key == "WITH" and second == "VIOLATIONS" and self.key(i + 2) not in ("AS", "("):
            what = "WITH VIOLATIONS"
        elif key == "RESOLVE" and second == "LABELS" and self.key(i + 2) == "BY":
            what = "RESOLVE LABELS BY"
        elif key == "FROM" and second == "LABELER" and self.seen_from and self.is_name(i + 2):
            what = "FROM LABELER"
        elif key == "DURATION":
            number = number_at(self.sql, self.tokens, i + 1)
            timed = number is not None and self.key(number.next) in SECONDS
            if timed or second == "INTERVAL" or (i + 1 < len(self.tokens) and self.tokens[i + 1].kind == "string"):
                what = "DURATION (queries over streams)"
        if what:
            raise later(self.sql, self.tokens[i].start, what)

    def proxy(self, i: int) -> Clause | None:
        """``USING PROXY p [(args)]``, ``USING PROXY (expression)``; ``USING p [(args)]`` among clauses with ORACLE LIMIT."""
        if self.key(i + 1) == "PROXY" and self.key(i + 2) == "(":
            cursor = Cursor(self.sql, self.tokens)
            cursor.i = i + 2
            call = Call("", (cursor.bracketed("an expression"),))
            return Clause("proxy", "USING PROXY", call, i, cursor.i, self.tokens[i].start)
        named = self.key(i + 1) == "PROXY" and self.is_name(i + 2) and not self.opens(i + 2)
        if not named and (i != self.after or not self.is_name(i + 1) or self.key(i + 1) == "SAMPLE"):
            return None
        name = i + 2 if named else i + 1
        if not named and not self.run_has_limit:
            what = shown(self.sql, self.tokens[name])
            hint = "write USING PROXY and its name" if what.upper() == "PROXY" else f"write USING PROXY {what}"
            message = "without the word PROXY, USING names a proxy only after ORACLE LIMIT n"
            raise SqlSyntaxError(message, self.sql, self.tokens[i].start, hint)
        call, after = self.call(name)
        return Clause("proxy", "USING PROXY", call, i, after, self.tokens[i].start)

    def opens(self, i: int) -> bool:
        """Does a clause open at the i-th token, given that the one before it is complete?"""
        key = self.tokens[i].key
        if key in ("VERIFIED", "UNVERIFIED"):
            return True
        if key not in _NUMERIC:
            return (key, self.key(i + 1)) == ("BY", "ORACLE") or (key == "METHOD" and self.is_name(i + 1))
        return any(
            all(self.key(i + k) == word for k, word in enumerate(form.words))
            and number_at(self.sql, self.tokens, i + len(form.words))
            for form in _NUMERIC[key]
        )

    def method(self, i: int) -> Clause | None:
        if not self.is_name(i + 1):
            if i == self.after:
                hint = "there is " + ", ".join(_METHODS)
                raise SqlSyntaxError("expected a method after METHOD", self.sql, self.position(i + 1), hint)
            return None
        call, after = self.call(i + 1)
        if call.name.lower() not in _METHODS:
            ends = after >= len(self.tokens) or self.opens(after)
            if i != self.after and not ends:
                return None
            near = difflib.get_close_matches(call.name.lower(), _METHODS, 1)
            hint = f"did you mean {near[0]}?" if near else "there is " + ", ".join(_METHODS)
            raise SqlSyntaxError(f"unknown method {call.name}", self.sql, self.tokens[i + 1].start, hint)
        call = Call(call.name.lower(), call.args)
        return Clause("method", "METHOD", call, i, after, self.tokens[i].start)

    def repeatable(self, i: int) -> Clause | None:
        """``REPEATABLE (n)``, which after USING SAMPLE is DuckDB's own."""
        number = number_at(self.sql, self.tokens, i + 2)
        if self.key(i + 1) != "(" or number is None or self.key(number.next) != ")":
            return None
        if self.seen_sample and i != self.after:
            return None
        return Clause("seed", "REPEATABLE", number, i, number.next + 1, self.tokens[i].start)

    def oracle(self, i: int, label: str) -> Clause:
        name = name_of(self.sql, self.tokens[i + 2])
        return Clause("oracle", label, name, i, i + 3, self.tokens[i].start)

    def verified(self, i: int) -> Clause:
        word = self.tokens[i].key
        return Clause("verified", word, word == "VERIFIED", i, i + 1, self.tokens[i].start)

    def call(self, i: int) -> tuple[Call, int]:
        """A name with or without arguments."""
        cursor = Cursor(self.sql, self.tokens)
        cursor.i = i
        name = cursor.name("a name")
        return Call(name, cursor.arguments()), cursor.i

    # failing

    def check_follower(self, token: Token) -> None:
        """Right behind a clause comes another one, or a part of the query; anything else is a slip."""
        if token.key in _MAY_FOLLOW or token.key in _SET_OPERATORS:
            return
        if token.key == "USING" and self.key(self.after + 1) == "SAMPLE":
            return
        last = self.clauses[-1]
        hint = self.hint_at(token, last)
        message = f"unexpected {shown(self.sql, token)} after {self.text(last)}"
        raise SqlSyntaxError(message, self.sql, token.start, hint)

    def hint_at(self, token: Token, last: Clause) -> str:
        """What may have been meant by a token that can't follow this clause."""
        number = last.value if isinstance(last.value, Number) else None
        if number and token.key == "PERCENT":
            return f"write {number.text}%"
        if token.kind == "word":
            candidates = [*OPENERS, "AND", *_MAY_FOLLOW, *_UNITS.get(last.kind, ())]
            near = difflib.get_close_matches(token.key, candidates, 1, 0.75)
            if near and near[0] != token.key:
                return f"did you mean {near[0]}?"
            if last.kind in ("budget", "gap") and last.label != "ORACLE LIMIT" and not last.unit:
                return "the unit may be " + ", ".join(unit for unit in _UNITS[last.kind] if unit not in _SINGULAR)
        behind = self.tokens[self.after + 1].kind if self.after + 1 < len(self.tokens) else ""
        if number and not number.percent and (token.kind == "number" or (token.key == "," and behind == "number")):
            return "groups of digits have three digits and no space: 10,000"
        if token.key == ",":
            return "clauses follow one another without commas"
        if last.kind == "proxy" and token.kind == "symbol":
            return "an expression that is a proxy stands in brackets, all of it: USING PROXY (box.score + 1)"
        return "a guarantee stands behind the query: after WHERE and GROUP BY, before or after ORDER BY and LIMIT"

    def fail(self, message: str, clause: Clause, hint: str) -> SqlSyntaxError:
        return SqlSyntaxError(message, self.sql, clause.position, hint)

    def text(self, clause: Clause) -> str:
        """The clause as it was written, in one line."""
        end = self.tokens[clause.after - 1].end
        return " ".join(self.sql[clause.position : end].split())

    def position(self, i: int) -> int:
        return self.tokens[i].start if i < len(self.tokens) else self.tokens[-1].end
