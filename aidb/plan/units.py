"""Does a query's answer fall apart into one part for each item? A sample of items then tells of the whole.

A query can be sampled by units if restricting every reference that descends from the blob table to some units gives exactly
these units' part of the answer. That holds where all such references are tied together by the key: by joins, by
correlation, by IN, or inside subqueries that keep the rows of each unit apart. `Units.of` proves it or raises
`NotSupportedError` naming what is not tied; it never guesses.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import SqlglotError

from aidb.catalog.relations import Relations
from aidb.errors import NotSupportedError
from aidb.plan.names import fills_of as fills_of
from aidb.plan.nodes import (
    function_name,
    has_volatile,
    is_volatile,
    listed,
    parse,
    sql_of,
    table_name,
    unwrapped,
    view_query,
)
from aidb.plan.splits import Block
from aidb.plan.splits import conjuncts as conjuncts
from aidb.plan.splitting import Splitting
from aidb.plan.tied_from import WRITTEN
from aidb.plan.ties import Source
from aidb.plan.touching import Touching
from aidb.plan.unit import Unit as Unit
from aidb.plan.unit import root_of as root_of
from aidb.plan.unit import unit_of
from aidb.plan.widening import Widening


@dataclass(frozen=True)
class Units:
    """A query that can be sampled by units.

    tree: the query; views that ask models are expanded in it, a set operation at the top stands in brackets. unit: see
    `Unit`. restricted: what must be restricted to some units (nodes of the tree) with its key columns. top: the outermost
    block. key: a FROM item there that shows the key. tied: all of them with the same key. keys: expressions of its SELECT
    list that hold the key. mixes: why its rows belong to many units at once, empty if they don't. shows_key: can rows of
    two units never be the same?
    """

    tree: exp.Select
    unit: Unit
    restricted: tuple[tuple[exp.Expr, tuple[str, ...]], ...]
    top: Block
    key: Source
    tied: tuple[Source, ...]
    keys: tuple[exp.Expr, ...]
    mixes: str
    shows_key: bool

    @staticmethod
    def of(sql: str, relations: Relations) -> Units:
        """Raises `NotSupportedError` where the query can't be sampled by units."""
        try:
            tree = unwrapped(parse(sql))
        except SqlglotError as error:
            raise NotSupportedError(
                f"the guarantee can't be given: the query could not be analysed ({str(error).splitlines()[0]}). Without the "
                "guarantee clauses the answer is exact"
            ) from error
        for table in tree.find_all(exp.Table):
            table.meta[WRITTEN] = True
        touching = Touching(relations, tree)
        unit = unit_of(tree, relations, touching)
        splitting = Splitting(relations, unit, touching)
        if isinstance(tree, exp.SetOperation):
            tree = _in_brackets(tree, splitting)
        if not isinstance(tree, exp.Select):
            raise splitting.refused(f"{type(tree).__name__.upper()} can't be sampled by items: put it into a subquery")
        _check_stable(tree, splitting)
        query = splitting.query(tree, {}, None, top=True)
        block = query.block
        assert block is not None
        if not block.split:
            raise splitting.refused("nothing in its FROM depends on a model")
        mixes = splitting.mixing.why(block)
        widening = Widening(unit, splitting.blocks)
        keys = widening.keys(block, grouped=not mixes)
        widening.hide()
        _drop_schema(tree)
        tied = tuple(s for s in block.sources if s in block.split)
        shown = [s for s in tied if s.key is not None] or [*tied, *sorted(block.split, key=lambda s: s.alias)]
        shows_key = splitting.mixing.shows_key(query)
        return Units(tree, unit, tuple(splitting.restricted), block, shown[0], tied, keys, mixes, shows_key)


def _in_brackets(tree: exp.SetOperation, splitting: Splitting) -> exp.Expr:
    """``a UNION b`` as SELECT DISTINCT * FROM (a UNION ALL b), so that the statement is always a SELECT."""
    clauses = {c: tree.args.get(c) for c in ("order", "limit", "offset") if tree.args.get(c)}
    order = clauses.get("order")
    for ordered in order.expressions if order is not None else ():
        if not isinstance(ordered.this, exp.Literal | exp.Column | exp.Var) or ordered.this.args.get("table"):
            raise splitting.refused(
                f"ORDER BY {sql_of(ordered)} over a {tree.key.upper()}: name a column of its result"
            )
    for clause in clauses:
        tree.set(clause, None)
    is_distinct = isinstance(tree, exp.Union) and bool(tree.args.get("distinct"))
    todo: list[exp.Expr] = [tree]
    while is_distinct and todo:
        part = todo.pop()
        if isinstance(part, exp.Union) and not any(part.args.get(c) for c in ("limit", "offset")):
            part.set("distinct", False)
            todo += [unwrapped(part.this), unwrapped(part.expression)]
    alias = exp.TableAlias(this=exp.to_identifier("__aidb_all", quoted=True))
    made = exp.select("*", dialect="duckdb").from_(exp.Subquery(this=tree, alias=alias), copy=False)
    if is_distinct:
        made.set("distinct", exp.Distinct())
    for clause, node in clauses.items():
        made.set(clause, node)
    return made


def _check_stable(tree: exp.Select, splitting: Splitting) -> None:
    """A guarantee is about one answer, and only what the text shows can be restricted."""
    relations = splitting.relations
    clauses = [e for name, value in tree.args.items() if name != "order" for e in listed(value)]
    names = {table_name(t) for t in tree.find_all(exp.Table)}
    texts = [*clauses, *(view_query(relations.views[n])[0] for n in names if n in relations.views)]
    for text in texts:
        for node in text.walk():
            if isinstance(node, exp.Func) and function_name(node) in relations.macros:
                raise splitting.refused(f"the macro {function_name(node)} may read anything: write out what it does")
            if isinstance(node, exp.TableSample) or (isinstance(node, exp.Func) and is_volatile(node)):
                raise splitting.refused(f"{sql_of(node).strip()} gives something else each time")
        if has_volatile(text):
            raise splitting.refused("it samples by itself")


def _drop_schema(tree: exp.Select) -> None:
    """``main.box.x`` as ``box.x``: what is restricted is a table of the default schema no more."""
    for column in tree.find_all(exp.Column):
        schema = column.args.get("db")
        if schema is not None and schema.name.lower() == "main" and not column.args.get("catalog"):
            column.set("db", None)
