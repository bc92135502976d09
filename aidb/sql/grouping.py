"""A call in a query with GROUP BY: ``GROUP BY body HAVING mood(body) > 0`` means the answer of the group's body."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from aidb.errors import NotSupportedError
from aidb.sql.reading import Call, Work
from aidb.sql.scopes import Block, Field, Unresolved, clause_of, resolve


def grouped_text(work: Work, call: Call, fields: Sequence[Field], text: str) -> str:
    """The hidden column, made an aggregate where only its arguments are keys of the group.

    A function of the keys is known for a group; the hidden column is a column of its own to DuckDB, so any one of the
    group's equal values is taken. Where the call itself is a key, or stands inside an aggregate, nothing changes.
    """
    block = call.block
    assert block is not None
    group = block.select.args.get("group")
    if group is None or group.args.get("all") or any(f.block is not block for f in fields):
        return text
    if clause_of(call.node, block) not in ("expressions", "having", "order", "qualify", "windows", "distinct"):
        return text
    if _in_aggregate(work, call.node):
        return text
    plain, sets = _keys(group)
    keys = [_projection(block, k) for k in plain + sets]
    forms = {_form(work, k, block) for k in keys}
    around: exp.Expr | None = call.node
    while around is not None and around is not block.select:
        if _form(work, around, block) in forms:
            return text  # part of a key that DuckDB finds again
        around = around.parent
    known = [f for k in keys if isinstance(k, exp.Column) and (f := _field(k, block)) is not None]
    if not all(any(f.same(k) for k in known) for f in fields):
        return text
    if sets:
        raise NotSupportedError(
            f"{call.mention.written} in a query with ROLLUP, CUBE or GROUPING SETS: call it in a subquery below"
        )
    return f"any_value({text})"


def _in_aggregate(work: Work, node: exp.Expr) -> bool:
    outer = node.parent
    while outer is not None and not isinstance(outer, exp.Select):
        name = outer.name if isinstance(outer, exp.Anonymous) else ""
        aggregate = isinstance(outer, exp.AggFunc) or name.lower() in work.relations.aggregates
        window = outer.find_ancestor(exp.Window, exp.Select) if aggregate else None
        if aggregate and not (isinstance(window, exp.Window) and outer.arg_key == "this"):
            return True
        outer = outer.parent
    return False


def _keys(group: exp.Expr) -> tuple[list[exp.Expr], list[exp.Expr]]:
    plain: list[exp.Expr] = []
    sets: list[exp.Expr] = []
    for e in group.expressions:
        if isinstance(e, exp.Rollup | exp.Cube | exp.GroupingSets):
            sets += list(e.find_all(exp.Column, exp.Anonymous))
        else:
            plain.append(e)
    return plain, sets


def _projection(block: Block, key: exp.Expr) -> exp.Expr:
    """What a key stands for: ``GROUP BY 1`` and ``GROUP BY name`` point into the select list."""
    key = key.unnest()
    shown = block.select.expressions
    if isinstance(key, exp.Literal) and not key.is_string and key.name.isdigit() and 0 < int(key.name) <= len(shown):
        found: exp.Expr = shown[int(key.name) - 1].unalias()
        return found
    if isinstance(key, exp.Column) and not key.table and _field(key, block, aliases=False) is None:
        return block.alias(key.name) or key
    return key


def _field(column: exp.Column, block: Block, aliases: bool = True) -> Field | None:
    own = any(i.index(column.name) is not None for i in block.items)
    if not aliases and not own and block.alias(column.name) is not None:
        return None
    try:
        return resolve(column, block)
    except Unresolved:
        return None


def _form(work: Work, node: exp.Expr, block: Block) -> object:
    """Equal for expressions that mean the same to GROUP BY: brackets, letter case and qualifiers don't matter."""
    if isinstance(node, exp.Paren):
        return _form(work, node.this, block)
    if isinstance(node, exp.Column) and (found := _field(node, block)) is not None:
        return id(found.item), found.place
    mention = work.mention(node)
    if mention is not None:
        return mention.model.lower(), *(_form(work, a, block) for a in node.expressions)
    parts = [type(node).__name__]
    inner: list[object] = []
    for key, value in node.args.items():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, exp.Expr):
                inner.append((key, _form(work, child, block)))
            elif child is not None and child is not False:
                parts.append(f"{key}={str(child).lower() if isinstance(node, exp.Identifier) else child}")
    return tuple(parts), *inner
