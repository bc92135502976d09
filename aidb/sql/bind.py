"""Binding: a query that calls models as functions becomes one over tables, for DuckDB and for the planner.

A call on a table's columns, ``has_bus(f.image)``, becomes a hidden column of that table's place in FROM. For DuckDB
that place holds a derived table that joins the stored answers; for the planner it bears the name of a synthetic
relation with a virtual column. A call in FROM becomes a join. The rest of the text stays as it was written.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from aidb.catalog.relations import Extension, Fill, Relation, Relations
from aidb.errors import InternalError, NotSupportedError, ProgrammingError
from aidb.sql.from_calls import FromCalls
from aidb.sql.fromless import fill_from
from aidb.sql.functions import MARK, Mention, ModelFunctions, marked, mentions
from aidb.sql.grouping import grouped_text
from aidb.sql.hiding import hide
from aidb.sql.layout import Layout
from aidb.sql.pairs import PairInExpression, join_pair
from aidb.sql.placing import ViewInTheWay, column_of, field_of, fill_of, lift, path_of, reference, target, widen
from aidb.sql.reading import Call, Reader, Work
from aidb.sql.render import quoted, relation_sql
from aidb.sql.scopes import Field, Item
from aidb.sql.views import expand_view


@dataclass(frozen=True)
class Bound:
    """A query with its models' calls turned into columns and joins.

    final: SQL for DuckDB, once everything is materialised; the text itself, byte for byte, if nothing was rewritten.
    planning: the same query for the planner, with synthetic relations by name.
    relations: the catalog's, and the synthetic ones. notes: what was filled in, for EXPLAIN and the report.
    """

    final: str
    planning: str
    relations: Relations
    notes: tuple[str, ...] = ()


def bind(core: str, relations: Relations, functions: ModelFunctions) -> Bound:
    """Resolve the models' calls of a query, and a FROM that was left out.

    core: one statement of DuckDB's SQL, guarantee clauses already cut out. Storage for new combinations of model and
    columns is made by ``functions.fill``. Raises `ProgrammingError` (`SqlSyntaxError`, `NotSupportedError`) naming the
    call and what to write instead.
    """
    layout = Layout(core)
    text, notes = fill_from(core, layout, relations, functions)
    while True:
        layout = layout if text == core else Layout(text)
        found = mentions(layout, functions)
        if not found:
            return Bound(text, text, relations, notes)
        try:
            final, planning, added = _bind_calls(text, layout, found, relations, functions)
        except ViewInTheWay as e:
            text = expand_view(text, e.item, relations)
            continue
        except PairInExpression as e:
            text = join_pair(text, e)
            continue
        if not added:
            return Bound(final, planning, relations, notes)
        # A chain, not a copy: the catalog may look tables up only as they are named.
        tables = ChainMap(added, cast("MutableMapping[str, Relation]", relations.tables))
        return Bound(final, planning, replace(relations, tables=tables), notes)


def _bind_calls(
    text: str, layout: Layout, found: list[Mention], relations: Relations, functions: ModelFunctions
) -> tuple[str, str, dict[str, Relation]]:
    """The two texts and the synthetic relations by lower-case name."""
    tree, found, marked_text = _parse(text, layout, found)
    if not found:
        return text, text, {}
    work = Work(marked_text, Layout(marked_text), found, relations, functions)
    from_calls = FromCalls()
    Reader(work, from_calls.read).read(tree)
    _refuse_elsewhere(work, tree, from_calls)
    for call in work.calls:
        _rewrite_call(work, call)
    hide(work)
    texts: dict[int, tuple[str, str]] = {}
    in_from = {id(c.item) for c in from_calls.found}
    for block in work.blocks:
        for item in block.items:
            if item.hidden or id(item) in in_from:
                texts[id(item)] = _relation_texts(work, item)
            if item.hidden and id(item) not in in_from:
                assert item.span is not None
                alias = "" if item.aliased else f" AS {quoted(item.name)}"
                final, planning = texts[id(item)]
                work.edits.replace(*item.span, final + alias, planning + alias)
    from_calls.rewrite(work, texts)
    final, planning = work.edits.apply(marked_text)
    if MARK in final:
        raise InternalError(f"a model's call was left in the rewritten query: {final}")
    return final, planning, work.synthetic


def _parse(text: str, layout: Layout, found: list[Mention]) -> tuple[exp.Expr, list[Mention], str]:
    """The tree, the mentions that are calls, and the text that was parsed: a column list behind an alias is no call."""
    for _ in range(2):
        marked_text = marked(text, layout, found)
        try:
            tree = sqlglot.parse_one(marked_text, dialect="duckdb")
        except SqlglotError as e:
            names = ", ".join(sorted({m.written for m in found}))
            raise NotSupportedError(
                f"this query calls {names}, and could not be analysed ({str(e).splitlines()[0]}); if DuckDB takes it "
                f"without the call, name the answers first: ALTER TABLE ... ADD VIRTUAL COLUMN, or CREATE VIRTUAL TABLE"
            ) from e
        if isinstance(tree, exp.Command):
            raise NotSupportedError(f"{found[0].written} can't be called in this statement")
        calls = {n.this for n in tree.find_all(exp.Anonymous) if isinstance(n.this, str)}
        kept = [m for n, m in enumerate(found) if f"{MARK}{n}" in calls]
        if len(kept) == len(found):
            break
        found = kept
    return tree, found, marked_text


def _refuse_elsewhere(work: Work, tree: exp.Expr, from_calls: FromCalls) -> None:
    """Calls in places that no SELECT evaluates, and statements that would keep a call for later."""
    first = work.mentions[0].written
    if isinstance(tree, exp.Create) and str(tree.args.get("kind")).upper() != "TABLE":
        raise NotSupportedError(
            f"a {str(tree.args.get('kind')).lower()} can't call {first}, since DuckDB would keep the text without it: "
            f"first name the answers, ALTER TABLE ... ADD VIRTUAL COLUMN or CREATE VIRTUAL TABLE ... AS {first}(...)"
        )
    met = {id(c.mention) for c in work.calls} | {id(c.mention) for c in from_calls.found}
    for mention in work.mentions:
        if id(mention) not in met:
            raise NotSupportedError(
                f"{mention.written} can't be called here; call it in a subquery, SELECT ..., {mention.written}(...) AS x"
            )


def _rewrite_call(work: Work, call: Call) -> None:
    mention, node, block = call.mention, call.node, call.block
    if block is None:
        raise NotSupportedError(
            f"{mention.written} can't be called outside of a SELECT's own clauses (in PIVOT, UPDATE, DELETE, or the "
            f"ORDER BY of a UNION); call it in a subquery, SELECT ..., {mention.written}(...) AS x"
        )
    if work.functions.rows(mention.model) == "many":
        arg = work.written(node.expressions[0]) if node.expressions else "frames.image"
        raise ProgrammingError(
            f"{mention.written} gives any number of rows for an item, so it can't stand in an expression; "
            f"put it in FROM, as in FROM frames, {mention.written}({arg}) AS {mention.model[:1].lower()}"
        )
    if isinstance(node.parent, exp.Window | exp.Filter | exp.IgnoreNulls) and node.arg_key == "this":
        raise ProgrammingError(f"{mention.written} is no aggregate or window function: OVER and FILTER don't apply")
    if not node.expressions:
        raise ProgrammingError(f"{mention.written}() needs the columns that the model shall see")
    columns = [column_of(work, mention, a) for a in node.expressions]
    fields = []
    for column in columns:
        field = field_of(column, block)
        if field is None:
            raise ProgrammingError(f"{mention.written}({work.written(column)}): no table in FROM has that column")
        fields.append(field)
    if len({id(f.item) for f in fields}) > 1 and len({id(f.block) for f in fields}) > 1:
        raise ProgrammingError(
            f"{mention.written}: its columns must come from one FROM, not from an inner and an outer"
        )
    paths = [path_of(f) for f in fields]
    fill = fill_of(work, mention, paths)
    if len(fill.parents) > 1:
        same = [c for c in work.calls if c.block is not None and _same_call(work, c, call, fields)]
        raise PairInExpression(work, fields[0].block, same, [_extent(work, c, fill) for c in same])
    chosen = target(work, mention, fill, paths)
    first, end, output = _extent(work, call, fill)
    hidden = lift(work, chosen, widen(work, chosen.base.item, fill, output, mention.model))
    text = grouped_text(work, call, fields, reference(chosen, hidden, block))
    work.edits.replace(work.layout.tokens[first].start, work.layout.tokens[end].end, text)


def _same_call(work: Work, one: Call, other: Call, fields: Sequence[Field]) -> bool:
    """Does a call mean the same as another one, whose arguments are these?"""
    if one.mention.model.lower() != other.mention.model.lower() or len(one.node.expressions) != len(fields):
        return False
    assert one.block is not None
    found = [field_of(column_of(work, one.mention, a), one.block) for a in one.node.expressions]
    return all(f is not None and f.same(g) for f, g in zip(found, fields, strict=True))


def _extent(work: Work, call: Call, fill: Fill) -> tuple[int, int, str]:
    """The call's first and last token, ``.output`` behind it included, and the output that it stands for."""
    layout = work.layout
    first = call.mention.place
    end = layout.closing(first + 1)
    outer: exp.Expr | None = call.node.parent
    around, beyond = first, end
    while isinstance(outer, exp.Paren):
        around, beyond, outer = around - 1, beyond + 1, outer.parent
    names = {o.lower(): o for o in fill.outputs}
    chosen = None
    if isinstance(outer, exp.Dot) and layout.key(beyond + 1) == ".":
        chosen = names.get(outer.expression.name.lower())
        last = beyond + 2
    elif isinstance(outer, exp.Bracket) and len(outer.expressions) == 1 and outer.expressions[0].is_string:
        chosen = names.get(outer.expressions[0].name.lower())
        last = beyond + 3
    if chosen is not None:
        return around, last, chosen
    if len(fill.outputs) != 1:
        written = call.mention.written
        raise ProgrammingError(
            f"{written} gives {', '.join(fill.outputs)}; say which, as in {written}(...).{fill.outputs[0]}"
        )
    return first, end, fill.outputs[0]


def _relation_texts(work: Work, item: Item) -> tuple[str, str]:
    """What stands for an item in FROM, in the two texts; the widened relation is put on record."""
    relation = item.relation
    assert relation is not None
    if item.hidden:
        own = relation.name in work.synthetic
        name = relation.name if own else work.name_relation(relation.name)
        relation = widened(relation, name, item.extensions)
        work.synthetic[name] = relation
    return f"({relation_sql(relation)})", quoted(relation.name)


def widened(relation: Relation, name: str, added: Sequence[tuple[Fill, str, str]]) -> Relation:
    """The relation under another name, with further virtual columns, each (fill, column, output), at its end."""
    fills: dict[str, tuple[Fill, dict[str, str]]] = {}
    for fill, column, output in added:
        fills.setdefault(fill.id, (fill, {}))[1][column] = output
    extensions = tuple(Extension(fill, columns) for fill, columns in fills.values())
    return replace(
        relation,
        name=name,
        columns=relation.columns + tuple(column for _, column, _ in added),
        extensions=relation.extensions + extensions,
    )
