"""What the text of a query alone says of its outermost SELECT list.

Names are not resolved here: that takes the catalog. These functions serve checks that need no more than the words.
"""

from __future__ import annotations

from typing import NamedTuple

from aidb.sql.tokens import RESERVED, Token, name_of, scan, words

AGGREGATES = words(
    "ANY_VALUE APPROX_COUNT_DISTINCT APPROX_QUANTILE APPROX_TOP_K ARBITRARY ARG_MAX ARG_MIN ARRAY_AGG AVG BIT_AND BIT_OR "
    "BIT_XOR BOOL_AND BOOL_OR CORR COUNT COUNTIF COUNT_IF COUNT_STAR COVAR_POP COVAR_SAMP ENTROPY FAVG FCOUNT FIRST FSUM "
    "GEOMEAN GEOMETRIC_MEAN GROUP_CONCAT HISTOGRAM KAHAN_SUM KURTOSIS LAST LIST LISTAGG MAD MAX MAX_BY MEAN MEDIAN MIN "
    "MIN_BY MODE PRODUCT QUANTILE QUANTILE_CONT QUANTILE_DISC REGR_SLOPE SEM SKEWNESS STDDEV STDDEV_POP STDDEV_SAMP "
    "STRING_AGG SUM SUMKAHAN SUM_NO_OVERFLOW VARIANCE VAR_POP VAR_SAMP"
)
"""DuckDB's usual aggregates. A user's macro may hide another: who has the catalog knows better."""

_END = words("FROM WHERE GROUP HAVING QUALIFY WINDOW ORDER LIMIT OFFSET FETCH UNION INTERSECT EXCEPT USING ;")
_BODY = frozenset(("SELECT", "FROM", "WITH", "VALUES", "TABLE"))
_OPERATORS = words("AND OR NOT IN IS LIKE ILIKE BETWEEN CASE WHEN THEN ELSE DISTINCT ALL ANY SOME")


class AggregateCall(NamedTuple):
    """One aggregate call. name: in upper case. argument: the text in its brackets, without DISTINCT."""

    name: str
    distinct: bool
    argument: str
    position: int


class ColumnUse(NamedTuple):
    """One column as the text names it; ``*`` is a column too. table: the qualifier before the dot, if any."""

    table: str | None
    column: str
    position: int


def aggregates_in(core: str) -> tuple[AggregateCall, ...]:
    """Aggregate calls of the outermost SELECT lists; those in subqueries or with OVER are none of them."""
    tokens = scan(core)
    calls: list[AggregateCall] = []
    for i in _listed(tokens):
        token = tokens[i]
        if token.key not in AGGREGATES or not _calls(tokens, i):
            continue
        close = _close(tokens, i + 1)
        if _is_windowed(tokens, close):
            continue
        first = i + 2
        distinct = first < close and tokens[first].key == "DISTINCT"
        first += distinct
        argument = core[tokens[first].start : tokens[close - 1].end] if first < close else ""
        calls.append(AggregateCall(token.key, distinct, argument, token.start))
    return tuple(calls)


def is_aggregate(core: str) -> bool:
    """Does the outermost query give one row of aggregates (no GROUP BY)?"""
    return not any(t.key == "GROUP" and t.depth == 0 for t in scan(core)) and bool(aggregates_in(core))


def is_limited(core: str) -> bool:
    """Does the outermost query say how many rows are enough, and not which: LIMIT without ORDER BY?"""
    keys = {t.key for t in scan(core) if t.depth == 0}
    return "LIMIT" in keys and "ORDER" not in keys


def select_columns(core: str) -> tuple[ColumnUse, ...]:
    """Columns that the outermost SELECT lists name, in order; a query that begins with FROM selects ``*``.

    >>> [c.column for c in select_columns("SELECT frame_id, b.xmin + 1 AS x, upper(label) FROM box b")]
    ['frame_id', 'xmin', 'label']
    """
    tokens = scan(core)
    if tokens and tokens[0].key == "FROM" and not any(t.key == "SELECT" and t.depth == 0 for t in tokens):
        return (ColumnUse(None, "*", tokens[0].start),)
    uses: list[ColumnUse] = []
    indices = _listed(tokens)
    for i in indices:
        token = tokens[i]
        before = tokens[i - 1]
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        if token.key == "*":
            if before.key in ("SELECT", ",", "DISTINCT", "ALL"):
                uses.append(ColumnUse(None, "*", token.start))
            elif before.key == ".":
                uses.append(ColumnUse(name_of(core, tokens[i - 2]), "*", token.start))
            continue
        if token.kind not in ("word", "name") or token.key in RESERVED or token.key in _OPERATORS:
            continue
        if (after and after.key in ("(", ".")) or before.key == "AS" or _is_alias(before):
            continue
        table = name_of(core, tokens[i - 2]) if before.key == "." and i >= 2 else None
        uses.append(ColumnUse(table, name_of(core, token), token.start))
    return tuple(uses)


def _is_alias(before: Token) -> bool:
    """A name that follows something complete, without AS, is an alias: ``xmin + 1 x``."""
    if before.kind == "word":
        return before.key == "END" or (before.key not in RESERVED and before.key not in _OPERATORS)
    return before.kind != "symbol" or before.key in (")", "]", "}")


def _listed(tokens: list[Token]) -> list[int]:
    """Indices of the tokens of the outermost SELECT lists, subqueries in them left out."""
    found: list[int] = []
    inside, skip = False, -1
    for i, token in enumerate(tokens):
        if 0 <= skip < token.depth:
            continue
        skip = -1
        if token.depth == 0 and token.key == "SELECT":
            inside = True
        elif token.depth == 0 and token.key in _END and not (token.key == "FROM" and tokens[i - 1].key == "DISTINCT"):
            inside = False
        elif inside:
            if token.key == "(" and i + 1 < len(tokens) and tokens[i + 1].key in _BODY:
                skip = token.depth
            found.append(i)
    return found


def _calls(tokens: list[Token], i: int) -> bool:
    return i + 1 < len(tokens) and tokens[i + 1].key == "("


def _close(tokens: list[Token], opening: int) -> int:
    """Index of the bracket that closes this one, or of the end."""
    depth = tokens[opening].depth
    return next((i for i in range(opening + 1, len(tokens)) if tokens[i].depth <= depth), len(tokens))


def _is_windowed(tokens: list[Token], close: int) -> bool:
    """``sum(x) [FILTER (...)] OVER ...`` gives a value for each row."""
    i = close + 1
    if i + 1 < len(tokens) and tokens[i].key == "FILTER" and tokens[i + 1].key == "(":
        i = _close(tokens, i + 1) + 1
    return i < len(tokens) and tokens[i].key == "OVER"
