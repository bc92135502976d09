"""Stopping early: when are n rows of the answer certain, though not all that could be run has run?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from aidb.plan.analysis import Analysis
from aidb.plan.from_clause import Extended
from aidb.plan.monotone import Monotony
from aidb.plan.names import quote
from aidb.plan.nodes import expression_of, is_star, output_name, parse, sql_of
from aidb.plan.parameters import Bound
from aidb.plan.possible import matches


@dataclass(frozen=True)
class EarlyStop:
    """How a statement with LIMIT may stop early.

    rows: LIMIT plus OFFSET. visible: how many rows the statement itself then shows. sql: the statement over the rows
    whose virtual columns are known; its own text where there are none. order: the sort values, empty without ORDER BY;
    sort: the ORDER BY list over their names ``__o0``.... certain: SELECT of the sort values of all certain rows.
    """

    rows: int
    visible: int
    sql: str
    order: tuple[exp.Expr, ...] = ()
    sort: str = ""
    certain: str = ""


def early_stop(tree: exp.Expr, bound: Bound, analysis: Analysis) -> EarlyStop | None:
    """Return how a statement may stop early, None if it may not."""
    counts = [_number(tree.args.get(k), bound.values) for k in ("limit", "offset")]
    if counts[0] is None or (tree.args.get("offset") is not None and counts[1] is None):
        return None
    if analysis.everything or any(e.span is None for e in analysis.items.extended):
        return None
    left_out = frozenset({"limit", "offset", "order"})
    if not Monotony(analysis.touching).holds(tree, {}, ignore=left_out):
        return None
    sql = _certain_text(bound.sql, analysis.items.extended)
    rows, visible = counts[0] + (counts[1] or 0), counts[0]
    if not tree.args.get("order"):
        return EarlyStop(rows, visible, sql)
    order = _order(tree)
    if order is None:
        return None
    values, sort = order
    certain = tree.copy() if sql == bound.sql else parse(sql)
    for key in left_out:
        certain.set(key, None)
    kept = certain.expressions if certain.args.get("distinct") or certain.args.get("group") else []
    certain.set("expressions", [*kept, *(exp.alias_(v.copy(), f"__o{n}") for n, v in enumerate(values))])
    return EarlyStop(rows, visible, sql, values, sort, sql_of(certain))


def _number(clause: exp.Expr | None, values: Mapping[str, object]) -> int | None:
    """Return the number of LIMIT or OFFSET, if it is a literal or a parameter."""
    if clause is None or clause.args.get("expressions"):
        return None
    options = clause.args.get("limit_options")
    if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
        return None
    number = clause.args.get("expression")
    if isinstance(number, exp.Literal) and not number.is_string and number.name.isdigit():
        return int(number.name)
    value = values.get(number.name) if isinstance(number, exp.Placeholder) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _certain_text(sql: str, extended: Sequence[Extended]) -> str:
    """Return the statement with each table whose virtual columns it reads cut down to the rows that have them."""
    for use in sorted({e.span: e for e in extended}.values(), key=lambda e: e.span or (0, 0), reverse=True):
        assert use.span is not None
        start, end = use.span
        name = sql[start:end]
        done = "".join(
            f" SEMI JOIN {e.fill.ledger} l{n} ON {matches('r', f'l{n}', e.fill.keys, e.fill.null_safe)}"
            for n, e in enumerate(use.extensions)
        )
        alias = "" if use.aliased else f" AS {quote(use.relation.name)}"
        sql = f"{sql[:start]}(SELECT r.* FROM {name} r{done}){alias}{sql[end:]}"
    return sql


def _order(tree: exp.Expr) -> tuple[tuple[exp.Expr, ...], str] | None:
    """Return the values that a SELECT is sorted by and the ORDER BY list over them; None if that isn't certain."""
    if not isinstance(tree, exp.Select):
        return None
    aliases = {e.alias.lower(): e.this for e in tree.expressions if isinstance(e, exp.Alias)}
    outputs = [expression_of(e) for e in tree.expressions]
    shown: dict[str, list[exp.Expr]] = {}
    for e in tree.expressions if not any(is_star(o) for o in outputs) else ():
        shown.setdefault((output_name(e) or "").lower(), []).append(expression_of(e))
    values: list[exp.Expr] = []
    sort: list[str] = []
    for n, ordered in enumerate(tree.args["order"].expressions):
        value, collation = ordered.this, ""
        if isinstance(value, exp.Collate):
            value, collation = value.this, f" COLLATE {sql_of(value.expression)}"
        if isinstance(value, exp.Literal):
            if value.is_string or not value.name.isdigit() or any(is_star(o) for o in outputs):
                return None
            if not 0 < int(value.name) <= len(outputs):
                return None
            value = outputs[int(value.name) - 1]
        elif isinstance(value, exp.Column) and not value.table and value.name.lower() in aliases:
            value = aliases[value.name.lower()]
        elif isinstance(value, exp.Column) and not value.table and len(shown.get(value.name.lower(), ())) == 1:
            value = shown[value.name.lower()][0]
        elif any(not c.table and c.name.lower() in aliases for c in value.find_all(exp.Column)):
            return None
        if value.find(exp.Var, exp.Collate, exp.Query) is not None or isinstance(value, exp.Var):
            return None
        if (tree.args.get("distinct") or tree.args.get("group")) and value not in outputs:
            return None
        values.append(value.copy())
        suffix = exp.Ordered(
            this=exp.column(f"__o{n}"), desc=ordered.args.get("desc"), nulls_first=ordered.args.get("nulls_first")
        )
        sort.append(sql_of(suffix).replace(f"__o{n}", f"__o{n}{collation}", 1))
    return tuple(values), ", ".join(sort)
