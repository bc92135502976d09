"""Changed statements: whatever the text, AIDB reads it or says where it can't, at once, and leaves DuckDB's SQL as it is.

python -m tests.fuzz.parser --minutes 10 --seed 1 [--coverage]
"""

from __future__ import annotations

import sys

from aidb.errors import NotSupportedError, SqlSyntaxError
from aidb.parameters import Placeholders
from aidb.sql.guarantee import to_sql
from aidb.sql.many import many_rows
from aidb.sql.parse import inner_query, parse
from aidb.sql.select_list import aggregates_in, select_columns
from aidb.sql.statements import Native, Query
from tests.fuzz.driving import Fuzzer, command
from tests.fuzz.statements import mutated, statement


def check(text: str) -> str | None:
    """What is wrong with how a text is read, or None."""
    try:
        found = parse(text)
    except (SqlSyntaxError, NotSupportedError) as e:
        return _wrong_error(text, e)
    if isinstance(found, Native):
        return _wrong_pieces(text) if found.sql == text else "a native statement was changed"
    if isinstance(found, Query):
        return _wrong_query(text, found) or _wrong_pieces(text)
    return None


def _wrong_error(text: str, error: SqlSyntaxError | NotSupportedError) -> str | None:
    if isinstance(error, SqlSyntaxError):
        if error.position is None or not 0 <= error.position <= len(text) or error.sql != text:
            return f"an error without its place: position {error.position}, {error.message}"
    elif "line " not in str(error) or "column " not in str(error):
        return f"a refusal without its place: {error}"
    return "an error that is too long to read" if len(str(error)) > 1000 + len(text) else None


def _wrong_query(text: str, query: Query) -> str | None:
    if query.sql != text or len(query.core) != len(text):
        return "what is left for DuckDB has another length"
    if any(a not in (b, " ") for a, b in zip(query.core, text, strict=True)):
        return "what is left for DuckDB has other characters"
    if query.guarantee is None and query.explain == "no" and ";" not in text and query.core != text:
        return "a query without our clauses was changed"
    if _is_left_over(text, query):
        return "what is left for DuckDB still has clauses of ours"
    if query.guarantee is not None:
        said = parse(f"SELECT a FROM t WHERE b LIMIT 9 {to_sql(query.guarantee)}")
        if isinstance(said, Query) and said.guarantee is not None and to_sql(said.guarantee) == to_sql(query.guarantee):
            return None
        return "a guarantee that is not read as it is written"
    return None


def _is_left_over(text: str, query: Query) -> bool:
    """Is a clause left that stood in the text as it is, and does not come of words that met when others were cut out?"""
    try:
        again = parse(query.core)
    except (SqlSyntaxError, NotSupportedError):
        return False
    if not isinstance(again, Query) or again.core == query.core:
        return False
    cut = [n for n, (a, b) in enumerate(zip(query.core, again.core, strict=True)) if a != b]
    return text[cut[0] : cut[-1] + 1] == query.core[cut[0] : cut[-1] + 1]


def _wrong_pieces(text: str) -> str | None:
    """What else is read from a text that was parsed."""
    span = inner_query(text)
    if span is not None and not 0 <= span[0] < span[1] <= len(text):
        return f"the inner query stands at {span}"
    Placeholders(text), many_rows(text)
    aggregates_in(text), select_columns(text)
    return None


FUZZER = Fuzzer("parser", statement, check, mutated)

if __name__ == "__main__":
    sys.exit(command(FUZZER, __doc__))
