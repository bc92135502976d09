"""Tab in a cell of SQL: names of tables, columns, models and options, and our clauses, as in the shell."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from aidb.errors import Error
from aidb.surfaces.completing import complete
from aidb.surfaces.jupyter import order
from aidb.surfaces.jupyter.connections import Connections
from aidb.surfaces.vocabulary import read

_CELL = re.compile(r"\s*%%aidb\b")
_LINE = re.compile(r"(?:\s*|.*=\s*)%aidb\b")


def matcher(connections: Connections, variables: Callable[[], Mapping[str, Any]]) -> Any:
    """What IPython's completer asks: candidates in cells and lines of ours, and nothing elsewhere."""
    functions: tuple[str, ...] | None = None

    @context_matcher()  # type: ignore[untyped-decorator]
    def aidb_matcher(context: CompletionContext) -> SimpleMatcherResult:
        nonlocal functions
        found = sql_at(context.full_text, context.cursor_line, context.cursor_position)
        connection = None if found is None else connections.known(variables())
        if found is None or connection is None:
            return SimpleMatcherResult(completions=[])
        text, at = found
        try:
            names = read(connection.engine, functions)
        except Error:  # within a transaction that has failed, say
            return SimpleMatcherResult(completions=[])
        functions = names.functions
        candidates = complete(text, at, names)
        start = candidates[0].start if candidates else at
        return SimpleMatcherResult(
            completions=[SimpleCompletion(c.text, type=c.kind) for c in candidates],
            matched_fragment=text[start:at],
            suppress=True,
            ordered=True,
        )

    return aidb_matcher


def sql_at(cell: str, line: int, column: int) -> tuple[str, int] | None:
    """The SQL of a cell, all else made blank, and the cursor's place in it; None where the cursor is in no SQL of ours.

    >>> sql_at("%%aidb -c con\\nSELECT ", 1, 7)
    ('             \\nSELECT ', 21)
    """
    begun = _CELL.match(cell)
    if begun is not None:
        first, _, below = cell[begun.end() :].partition("\n")
        at = sum(len(text) + 1 for text in cell.split("\n")[:line]) + column
    else:
        cell = cell.split("\n")[line]
        begun = _LINE.match(cell)
        if begun is None:
            return None
        first, below, at = cell[begun.end() :], "", column
    if at < begun.end():
        return None
    try:
        sql = order.read(first, below if "\n" in cell else None).text
    except Error:  # an option that is being typed
        return None
    return " " * begun.end() + sql, at
