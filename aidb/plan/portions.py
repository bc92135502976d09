"""A query's own text, restricted to some units: for an exact answer that is handed out portion by portion.

`parts` prints a restricted query anew from its tree. An exact answer is DuckDB's to the text as it was written, so here
the text stays, and only the tables in it that must be restricted are put in brackets:

    SELECT label FROM box WHERE score > 0.9
    SELECT label FROM (SELECT * FROM box AS __aidb_t WHERE __aidb_t.frame_id IN (...)) AS "box" WHERE score > 0.9
"""

from __future__ import annotations

from typing import cast

from sqlglot import exp
from sqlglot.errors import SqlglotError

from aidb.catalog.relations import Relations
from aidb.errors import NotSupportedError
from aidb.plan.nodes import CLOCK, function_name, parse, table_name, unwrapped, view_query
from aidb.plan.parts import chosen
from aidb.plan.tied_from import WRITTEN, Written, written
from aidb.plan.touching import Touching
from aidb.plan.unit import Unit
from aidb.plan.units import Units
from aidb.sql.render import quoted

_INNER = "__aidb_t"
_OURS = frozenset({"aidb", "aidb_internal", "information_schema"})
"""Schemas whose tables change while models run."""


class Portions:
    """A query whose rows can be had unit by unit, in any order: together they are its answer.

    names: of all tables and views that it reads, views looked through.
    """

    def __init__(self, sql: str, unit: Unit, names: frozenset[str], places: list[Written]) -> None:
        self.sql, self.unit, self.names = sql, unit, names
        self._places = sorted(places, key=lambda p: p.span, reverse=True)

    @staticmethod
    def of(sql: str, relations: Relations) -> Portions | None:
        """None where the query has an order or a LIMIT, where it sums up units, or where that is not certain."""
        try:
            tree = unwrapped(parse(sql))
            views = Touching(relations, tree).views_read
            texts = [tree, *(view_query(relations.views[v])[0] for v in views)]
            if not _is_unordered(tree) or not all(map(_is_still, texts)):
                return None
            units = Units.of(sql, relations)
        except (NotSupportedError, SqlglotError):
            return None
        distinct = units.tree.args.get("distinct")
        if units.mixes or (distinct is not None and (distinct.args.get("on") is not None or not units.shows_key)):
            return None
        places = [_place(node, key) for node, key in units.restricted]
        found = {p.span: p for p in places if p is not None}
        names = {table_name(t) for text in texts for t in text.find_all(exp.Table)} - {""}
        return Portions(sql, units.unit, frozenset(names), list(found.values())) if None not in places else None

    def rows(self, *, only: str | None = None, without: str | None = None) -> str:
        """The query for the units in the table ``only``, or for all rows but those of units in ``without``."""
        sql = self.sql
        for place in self._places:
            start, end = place.span
            columns = f"({', '.join(map(quoted, place.columns))})" if place.columns else ""
            alias = f" AS {quoted(place.name)}" if place.name else ""
            condition = chosen(_INNER, place.key, self.unit, only, without)
            inner = f"(SELECT * FROM {sql[start:end]} AS {_INNER}{columns} WHERE {condition}){alias}"
            sql = sql[:start] + inner + sql[end:]
        return sql


def _is_unordered(tree: exp.Expr) -> bool:
    return isinstance(tree, exp.Select | exp.SetOperation) and not any(
        tree.args.get(c) for c in ("order", "limit", "offset")
    )


def _is_still(text: exp.Expr) -> bool:
    """Does a text mean the same from the first portion to the last, as long as nobody else writes?"""
    for node in text.walk():
        if isinstance(node, exp.Func) and function_name(node) in CLOCK:
            return False
        if isinstance(node, exp.Table) and {node.text("db").lower(), node.text("catalog").lower()} & _OURS:
            return False
        if isinstance(node, exp.Column) and node.args.get("db"):
            return False  # ``main.box.x``: what is restricted is a table of the schema no more
    return True


def _place(node: exp.Expr, key: tuple[str, ...]) -> Written | None:
    """What of the text must be restricted for a node; None if it does not stand there as the name of a table."""
    if isinstance(node, exp.Table) and node.meta.get(WRITTEN):
        return written(node, key)
    child, around = node, node.parent
    while around is not None and not isinstance(around.meta.get(WRITTEN), Written):
        child, around = around, around.parent
    # What a view is joined with may hang on the view's own node.
    return None if around is None or child.arg_key == "joins" else cast("Written", around.meta[WRITTEN])
