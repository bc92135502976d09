"""A query inside another statement, as in CREATE TABLE ... AS query."""

from __future__ import annotations

from aidb.plan import parameters as bind_parameters
from aidb.storage.database import Parameters


def has_no_data(rest: str) -> bool:
    """Does CREATE TABLE ... AS query WITH NO DATA ask for the columns alone? rest: what stands after the query."""
    return rest.upper().split()[:3] == ["WITH", "NO", "DATA"]


def with_inner(
    sql: str, span: tuple[int, int], final: str, given: Parameters, parameters: Parameters
) -> tuple[str, Parameters]:
    """A statement with another query in the place of its own, whose parameters have names of the planner's."""
    if given is None:
        return sql[: span[0]] + final + sql[span[1] :], parameters
    whole = bind_parameters.Bound(sql, parameters)
    query = bind_parameters.Bound(sql[span[0] : span[1]], parameters)
    rest = whole.sql[span[0] + len(query.sql) :]  # nothing before a query takes parameters
    text = sql[: span[0]] + final + rest
    return text, whole.for_query(text)
