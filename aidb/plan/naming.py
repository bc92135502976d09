"""The name that DuckDB gives a column without an alias: ``count_star()``, ``sum((x + 1))``.

Exact for columns, numbers, arithmetic, comparisons and calls of functions; a good guess for the rest, and for names that
are words of SQL, which DuckDB puts into quotes.
"""

from __future__ import annotations

import re

from sqlglot import exp

from aidb.plan.nodes import function_name, is_star, listed, sql_of

_SIGNS: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.IntDiv: "//",
    exp.Mod: "%",
    exp.EQ: "=",
    exp.NEQ: "!=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.And: "AND",
    exp.Or: "OR",
}

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def default_name(node: exp.Expr) -> str:
    """See the module."""
    if isinstance(node, exp.Paren):
        return default_name(node.this)
    if isinstance(node, exp.Column):
        return node.name
    return _text(node)


def _text(node: exp.Expr) -> str:
    if isinstance(node, exp.Paren):
        return _text(node.this)
    if isinstance(node, exp.Column) and not is_star(node):
        return ".".join(_word(p) for p in node.parts)
    if isinstance(node, exp.Filter):
        return f"{_text(node.this)} FILTER (WHERE {_text(node.expression.this)})"
    if isinstance(node, exp.Count) and (node.this is None or isinstance(node.this, exp.Star)):
        return "count_star()"
    if isinstance(node, exp.Distinct):
        return "DISTINCT " + ", ".join(_text(e) for e in node.expressions)
    sign = _SIGNS.get(type(node))
    if sign is not None and isinstance(node, exp.Binary):
        return f"({_text(node.left)} {sign} {_text(node.right)})"
    if isinstance(node, exp.Neg):
        inside = _text(node.this)
        return f"-{inside}" if isinstance(node.this, exp.Literal) else f"(-({inside}))"
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return f"({_text(node.this)} IS NULL)"
    if isinstance(node, exp.Not) and isinstance(node.this, exp.Is) and isinstance(node.this.expression, exp.Null):
        return f"({_text(node.this.this)} IS NOT NULL)"
    if type(node) is exp.Cast:
        return f"CAST({_text(node.this)} AS {sql_of(node.args['to'])})"
    name = function_name(node)
    if name and set(filter(node.args.get, node.args)) <= {"this", "expressions", "big_int"}:
        given = [*listed(node.this), *node.expressions]
        return f"{name}({', '.join(map(_text, given))})"
    return sql_of(node)


def _word(name: exp.Expr) -> str:
    return name.name if _PLAIN.fullmatch(name.name) else f'"{name.name}"'
