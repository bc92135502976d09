"""A query restricted to some units: its rows, how many rows each unit gives, and each unit's share of its aggregates.

All are plain SQL over the catalogue's relations, to be planned and materialised like any query. Which units are meant is
said by a table of their keys, ``__k0``.., that the caller fills.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from aidb.errors import NotSupportedError
from aidb.plan.nodes import is_star, listed, parse, sql_of, walk_own
from aidb.plan.shares import Aggregate as Aggregate
from aidb.plan.shares import ShareReader
from aidb.plan.shares import Shares as Shares
from aidb.plan.unit import Unit
from aidb.plan.units import Units
from aidb.sql.render import quoted

MARK = "aidb_unit"


class Parts:
    """Texts of one query, restricted. aggregates: names of DuckDB's aggregate functions."""

    def __init__(self, units: Units, aggregates: frozenset[str]) -> None:
        self._units, self._functions = units, aggregates
        for n, (node, _) in enumerate(units.restricted):
            node.meta[MARK] = n

    @property
    def units(self) -> Units:
        """The query that this restricts."""
        return self._units

    @property
    def unit(self) -> Unit:
        """What the query is sampled by."""
        return self._units.unit

    @property
    def is_distinct(self) -> bool:
        """Does the query drop rows that are the same?"""
        return self._units.tree.args.get("distinct") is not None

    def rows(
        self, *, only: str | None = None, without: str | None = None, more: Sequence[str] = (), tail: bool = True
    ) -> str:
        """The query itself, for the units in the table ``only``, or for all but those in ``without``.

        more: further items of the SELECT list, such as ``TRUE AS x``. tail: with its ORDER BY and LIMIT. Raises
        `NotSupportedError` if the rows sum up many units.
        """
        if self._units.mixes:
            raise NotSupportedError(
                "RECALL TARGET, PRECISION TARGET and GAP choose rows of single items, and a row of this query sums up many: "
                "write ERROR TARGET instead, or GROUP BY the key"
            )
        tree = self._restricted(only, without)
        if not tail:
            _drop(tree, "limit", "offset", *(() if _is_distinct_on(tree) else ("order",)))
        for item in more:
            tree.select(item, dialect="duckdb", copy=False)
        return sql_of(tree)

    @property
    def keys(self) -> tuple[str, ...]:
        """Items of a SELECT list that show a row's unit: ``t.key AS __u0``.."""
        return tuple(map(sql_of, self._keys()))

    def counts(self, *, only: str | None = None, without: str | None = None) -> str:
        """How many rows each of some units gives: columns ``__u0``.. and ``__rows``; units that give none are left out.

        DISTINCT counts where rows of two units are never the same. Of a query that sums up units it is the rows summed up.
        """
        tree = self._restricted(only, without)
        keeps_distinct = self._units.shows_key or _is_distinct_on(tree)
        if self._units.mixes:
            _drop(tree, "distinct", "group", "having", "qualify", "order")
            tree.set("expressions", [])
        elif not keeps_distinct:
            tree.set("distinct", None)
        if not _is_distinct_on(tree):
            tree.set("order", None)
        _drop(tree, "limit", "offset")
        if tree.args.get("distinct") is None:
            tree.set("expressions", [e for e in tree.expressions if self._is_needed(e, tree)])
        tree.set("expressions", [*tree.expressions, *self._keys()])
        names = ", ".join(f"__u{n}" for n in range(len(self.unit.keys)))
        return f"SELECT {names}, count(*) AS __rows FROM ({sql_of(tree)}) AS __part GROUP BY {names}"

    def shares(self, *, only: str | None = None, without: str | None = None) -> Shares:
        """Each unit's share of the aggregates, by group. Raises `NotSupportedError` for what is no sum over units."""
        return ShareReader(self._units, self._functions).read(self._restricted(only, without), self._keys())

    @property
    def is_cut(self) -> bool:
        """Do LIMIT or OFFSET leave rows of the answer out?"""
        return any(self._units.tree.args.get(clause) for clause in ("limit", "offset"))

    def tail(self) -> str:
        """ORDER BY and LIMIT of the query, to be applied to its estimated result.

        Raises `NotSupportedError` for an order by what the result doesn't show.
        """
        tree = self._units.tree
        order = ShareReader(self._units, self._functions).order()
        rest = [sql_of(tree.args[c]).strip() for c in ("limit", "offset") if tree.args.get(c)]
        return " ".join([*([order] if order else []), *rest])

    # ---- rewriting

    def _restricted(self, only: str | None, without: str | None) -> exp.Select:
        tree = self._units.tree.copy()
        marked = [n for n in tree.walk() if n.meta.get(MARK) is not None]
        for node in marked:
            key = self._units.restricted[node.meta.pop(MARK)][1]
            restricted(node, key, self.unit, only, without)
        return tree

    def _keys(self) -> list[exp.Expr]:
        return [exp.alias_(k.copy(), f"__u{n}", quoted=True) for n, k in enumerate(self._units.keys)]

    def _is_needed(self, item: exp.Expr, tree: exp.Select) -> bool:
        """May the number of rows depend on an item: does a clause name it, or does it give many rows?"""
        if any(isinstance(n, exp.Explode | exp.Unnest) for n in walk_own(item)):
            return True
        group = tree.args.get("group")
        if group is not None and (group.args.get("all") or any(isinstance(e, exp.Literal) for e in group.expressions)):
            return True
        if is_star(item) or not isinstance(item, exp.Alias):
            return False
        name = item.alias.lower()
        parts = [e for c in ("where", "group", "having", "qualify", "windows") for e in listed(tree.args.get(c))]
        parts += [e for e in tree.expressions if e is not item]
        return any(c.name.lower() == name and not c.table for p in parts for c in p.find_all(exp.Column))


def _drop(tree: exp.Select, *clauses: str) -> None:
    for clause in clauses:
        tree.set(clause, None)


def _is_distinct_on(tree: exp.Select) -> bool:
    distinct = tree.args.get("distinct")
    return distinct is not None and distinct.args.get("on") is not None


def restricted(node: exp.Expr, key: tuple[str, ...], unit: Unit, only: str | None, without: str | None) -> None:
    """Put a derived table with some units' rows in the place of a FROM item, or of a whole query."""
    inner = "__aidb_t"
    bare = node.copy()
    if isinstance(node, exp.Table | exp.Subquery | exp.Values):
        columns = [c.copy() for c in listed((node.args.get("alias") or exp.TableAlias()).args.get("columns"))]
        bare.set("joins", None)
        bare.set("alias", exp.TableAlias(this=exp.to_identifier(inner), columns=columns))
    elif isinstance(node, exp.Lateral):
        bare = exp.Subquery(this=node.this.copy(), alias=exp.TableAlias(this=exp.to_identifier(inner)))
        columns = [c.copy() for c in listed((node.args.get("alias") or exp.TableAlias()).args.get("columns"))]
        bare.args["alias"].set("columns", columns)
    else:
        bare = exp.Subquery(this=bare, alias=exp.TableAlias(this=exp.to_identifier(inner)))
    condition = chosen(inner, key, unit, only, without)
    query = parse(f"SELECT * FROM __aidb_all WHERE {condition}")
    query.args["from_"].set("this", bare)
    if isinstance(node, exp.Lateral):
        node.set("this", exp.Subquery(this=query))
    elif isinstance(node, exp.Table | exp.Subquery | exp.Values):
        alias = exp.TableAlias(this=exp.to_identifier(node.alias_or_name, quoted=True))
        node.replace(exp.Subquery(this=query, alias=alias, joins=node.args.get("joins")))
    else:
        node.replace(query)


def chosen(alias: str, key: tuple[str, ...], unit: Unit, only: str | None, without: str | None) -> str:
    """The condition that a row's unit is in the table ``only``, or not in ``without``."""
    listed_in = only or without
    assert listed_in is not None
    columns = [f"{alias}.{quoted(k)}" for k in key]
    if len(key) == 1 and not unit.null_safe and only is not None:
        return f"{columns[0]} IN (SELECT __aidb_k.__k0 FROM {listed_in} AS __aidb_k)"
    same = "IS NOT DISTINCT FROM" if unit.null_safe else "="
    on = " AND ".join(f"__aidb_k.__k{n} {same} {column}" for n, column in enumerate(columns))
    return f"{'' if only is not None else 'NOT '}EXISTS (SELECT 1 FROM {listed_in} AS __aidb_k WHERE {on})"
