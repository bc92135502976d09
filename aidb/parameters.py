"""Values for the parameters of a statement: do they fit, and if not, which one is wrong?"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aidb.errors import ProgrammingError
from aidb.sql.tokens import scan

Parameters = Sequence[Any] | Mapping[str, Any] | None


class Placeholders:
    """What a statement asks values for: how many ``?``, and the names after ``$``, each once.

    A PREPARE asks for none: its values come later.
    """

    def __init__(self, sql: str) -> None:
        self.marks = 0
        names: dict[str, None] = {}
        tokens = scan(sql) if "?" in sql or "$" in sql else []
        if tokens and tokens[0].key != "PREPARE":
            for token, after in zip(tokens, [*tokens[1:], None], strict=True):
                if token.kind != "parameter":
                    continue
                text = sql[token.start + 1 : token.end]
                if not text and after is not None and after.kind == "number" and after.start == token.end:
                    text = sql[after.start : after.end]  # ?1
                if text:
                    names[text] = None
                else:
                    self.marks += 1
        self.names = tuple(names)

    def check(self, parameters: object, where: str = "") -> None:
        """Raise `ProgrammingError` if these are not just as many values, and under the names, as are asked for.

        where: what the message begins with.
        """
        if self.marks and self.names:
            raise ProgrammingError(f"{where}? and $name can't both stand in one statement")
        wrong = self._wrong(parameters)
        if wrong is not None:
            raise ProgrammingError(where + wrong)

    def _wrong(self, parameters: object) -> str | None:
        if parameters is None:
            return f"the statement has {self}, and no values were given" if self.marks or self.names else None
        if isinstance(parameters, Mapping):
            if self.marks:
                return f"the statement has {self}: give a sequence of values, not a mapping"
            return self._wrong_names([str(n) for n in parameters])
        if isinstance(parameters, str | bytes | bytearray) or not isinstance(parameters, Sequence):
            return f"parameters are a sequence of values, [x, y], or a mapping, {{'name': x}}; not {_kind(parameters)}"
        if any(not n.isdigit() for n in self.names):
            return f"the statement has {self}: give a mapping from names to values, not a sequence"
        wanted = self.marks or max(map(int, self.names), default=0)
        if wanted == len(parameters):
            return None
        were = "was" if len(parameters) == 1 else "were"
        return (
            f"the statement has {_counted(wanted, 'parameter')}, and {_counted(len(parameters), 'value')} {were} given"
        )

    def _wrong_names(self, given: list[str]) -> str | None:
        folded, asked = {n.lower() for n in given}, {n.lower() for n in self.names}
        missing = [n for n in self.names if n.lower() not in folded]
        extra = [n for n in given if n.lower() not in asked]
        if missing:
            near = difflib.get_close_matches(missing[0], extra, n=1)
            hint = f"; is {near[0]!r} meant for it?" if near else ""
            return f"no value for {', '.join(f'${n}' for n in missing)}{hint}"
        if extra:
            return f"the statement has {self}, and a value for {', '.join(map(repr, extra))} was given"
        return None

    def __str__(self) -> str:
        if self.marks:
            return _counted(self.marks, "parameter") + " (?)"
        if not self.names:
            return "no parameters"
        return f"the parameter{'' if len(self.names) == 1 else 's'} {', '.join(f'${n}' for n in self.names)}"


def wrong_value(parameters: Parameters, is_usable: Callable[[Any], bool]) -> ProgrammingError | None:
    """The error that names the value which a statement can't take, after it failed; None if all can be used."""
    if not parameters:
        return None
    pairs = parameters.items() if isinstance(parameters, Mapping) else enumerate(parameters, 1)
    for name, value in pairs:
        if not is_usable(value):
            called = f"${name}" if isinstance(parameters, Mapping) else str(name)
            return ProgrammingError(f"parameter {called}, {_kind(value)}, fits no SQL type")
    return None


def _counted(n: int, what: str) -> str:
    return f"{n or 'no'} {what}{'' if n == 1 else 's'}"


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
