"""What the planner asks of sqlglot's trees: kinds of nodes, nested queries, and text that is safe to read again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import sqlglot
from sqlglot import exp

DIALECT = "duckdb"

VOLATILE = frozenset(
    [
        *("random", "rand", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "nextval", "currval", "setseed"),
        *("txid_current", "query", "query_table", "getvariable", "write_log", "sleep_ms"),
    ]
)
"""Functions whose value changes from one evaluation to the next, or that read what their text doesn't show."""

CLOCK = frozenset(
    [
        *("now", "today", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"),
        *("transaction_timestamp", "get_current_time", "get_current_timestamp"),
        *("currentdate", "currenttime", "currenttimestamp"),
    ]
)
"""Functions of the current moment; they are read as known, at the moment of each round."""

_NOT_FUNCTIONS = (exp.Cast, exp.TryCast, exp.And, exp.Or, exp.Case, exp.Exists, exp.In, exp.Any, exp.All)

_PLAIN_NAMES = (exp.Sum, exp.Count, exp.Max, exp.Min, exp.Avg, exp.Coalesce, exp.Abs, exp.Lower, exp.Upper, exp.Length)
"""Functions that are printed under their own name, so that it needn't be printed to be known."""


def sql_of(node: exp.Expr) -> str:
    """Return the node as DuckDB SQL."""
    return node.sql(DIALECT)


@lru_cache(maxsize=256)
def _parsed(sql: str) -> exp.Expr:
    return parse(sql)


def parse(sql: str) -> exp.Expr:
    """Return a tree of one statement, free to be changed."""
    tree = sqlglot.parse_one(sql, dialect=DIALECT)
    for call in [n for n in tree.find_all(exp.Anonymous) if n.name.upper() == "ALL" and len(n.expressions) == 1]:
        call.replace(exp.All(this=call.expressions[0]))  # ``ALL ((SELECT ...))`` is no function, whatever sqlglot says
    return tree


def view_query(sql: str) -> tuple[exp.Expr, list[str]]:
    """Return the query of a view and its column names, if it lists them; takes SELECT or CREATE VIEW.

    The tree is cached and must not be changed.
    """
    tree = _parsed(sql)
    if not isinstance(tree, exp.Create):
        return tree, []
    names = [c.name for c in tree.this.expressions] if isinstance(tree.this, exp.Schema) else []
    return tree.expression, names


def listed(value: object) -> list[exp.Expr]:
    """Return an argument of a node as a list of nodes."""
    values = value if isinstance(value, list) else [value]
    return [v for v in values if isinstance(v, exp.Expr)]


def children(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the direct children."""
    for value in node.args.values():
        yield from listed(value)


def walk_own(node: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the node and all below it, without what lies inside nested queries."""
    todo = [node]
    while todo:
        current = todo.pop()
        yield current
        if not isinstance(current, exp.Query):
            todo.extend(children(current))


def nested_queries(node: exp.Expr) -> list[exp.Expr]:
    """Return the outermost queries in an expression, in its order."""
    if isinstance(node, exp.Query):
        return [node]
    return [q for child in children(node) for q in nested_queries(child)]


def unwrapped(query: exp.Expr) -> exp.Expr:
    """Return the query inside redundant parentheses."""
    while isinstance(query, exp.Subquery) and set(filter(query.args.get, query.args)) <= {"this"}:
        query = query.this
    return query


def expression_of(node: exp.Expr) -> exp.Expr:
    """Return a select item without its alias."""
    return node.this if isinstance(node, exp.Alias) else node


def function_name(node: exp.Expr) -> str:
    """Return the name of a function as DuckDB sees it, in lower case; empty for other nodes."""
    if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
        return node.name.lower()
    if not isinstance(node, exp.Func) or isinstance(node, _NOT_FUNCTIONS):
        return ""
    if isinstance(node, _PLAIN_NAMES):
        return type(node).__name__.lower()
    return re.split(r"[^a-z_0-9]", sql_of(node).lower(), maxsplit=1)[0]


def is_aggregate(node: exp.Expr, aggregates: frozenset[str]) -> bool:
    """Is this an aggregate function? ``aggregates`` has DuckDB's own names; sqlglot doesn't know them all."""
    if isinstance(node, exp.AggFunc):
        return True
    return function_name(node) in aggregates


def is_volatile(node: exp.Expr) -> bool:
    """May two evaluations of this function differ?"""
    return isinstance(node, exp.Rand | exp.Uuid) or function_name(node) in VOLATILE


def has_volatile(node: exp.Expr) -> bool:
    """Is there a volatile function or a sample anywhere below, nested queries included?"""
    return any(isinstance(n, exp.TableSample) or is_volatile(n) for n in node.find_all(exp.Func, exp.TableSample))


def is_star(node: exp.Expr) -> bool:
    """Is a select item ``*`` or ``alias.*``?"""
    return isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))


def table_name(node: exp.Expr) -> str:
    """Return the lower-case name that a table reference looks up, or '' if it isn't a plain name of the default schema."""
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier) or node.args.get("catalog"):
        return ""
    schema = node.args.get("db")
    return node.name.lower() if schema is None or schema.name.lower() == "main" else ""


def name_span(node: exp.Table) -> tuple[int, int] | None:
    """Return where a table's name stands in the text that was parsed, end excluded."""
    first = node.args.get("db") or node.this
    start, end = first.meta.get("start"), node.this.meta.get("end")
    return None if start is None or end is None else (start, end + 1)


def is_bare(node: exp.Expr) -> bool:
    """May a table reference name a CTE (no schema before it)?"""
    return isinstance(node, exp.Table) and not node.args.get("db")


def output_name(item: exp.Expr) -> str | None:
    """Return the name of a select item, None if DuckDB makes one up or there are many."""
    if isinstance(item, exp.Alias):
        return item.alias
    if isinstance(item, exp.Column) and not isinstance(item.this, exp.Star) and not item.args.get("db"):
        return item.name
    return None
