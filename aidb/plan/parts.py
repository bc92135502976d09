"""A query restricted to some units: its rows, how many rows each unit gives, and each unit's share of its aggregates.

All are plain SQL over the catalogue's relations, to be planned and materialised like any query. Which units are meant is
said by a table of their keys that the caller fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from aidb.errors import NotSupportedError
from aidb.plan.nodes import expression_of, is_aggregate, is_star, listed, parse, sql_of, walk_own
from aidb.plan.units import Source, Unit, Units
from aidb.sql.render import quoted

MARK = "aidb_unit"

Kind = Literal["count", "sum", "avg"]


@dataclass(frozen=True)
class Aggregate:
    """One aggregate of the SELECT list. name: of the output column. place: of its first column among the shares.

    Its share of a unit is one column (count, sum) or two (avg: the sum and the number of values). scale: FCOUNT divides
    by the number of units.
    """

    name: str
    kind: Kind
    place: int
    per_unit: bool = False


@dataclass(frozen=True)
class Shares:
    """The units' shares of a query's aggregates. sql: rows of (keys ``__u0``.., groups ``__g0``.., shares ``__s0``..).

    groups: output names of the GROUP BY columns. columns: how many shares there are. outputs: the SELECT list, in order,
    as (kind, index) into groups or aggregates.
    """

    sql: str
    groups: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]
    columns: int
    outputs: tuple[tuple[Literal["group", "aggregate"], int], ...]


class Parts:
    """Texts of one query, restricted."""

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

        more: further items of the SELECT list, such as ``TRUE AS x``. tail: with its ORDER BY and LIMIT.
        """
        tree = self._restricted(only, without)
        if not tail:
            for clause in ("order", "limit", "offset"):
                tree.set(clause, None)
        for item in more:
            tree.select(item, dialect="duckdb", copy=False)
        return sql_of(tree)

    @property
    def keys(self) -> tuple[str, ...]:
        """Items of a SELECT list that show a row's unit: ``t.key AS __u0``.."""
        return tuple(sql_of(k) for k in self._keys(self._units.top.node))

    def counts(self, *, only: str | None = None, without: str | None = None) -> str:
        """How many rows each of some units gives: columns ``__u0``.. and ``__rows``; units that give none are left out."""
        tree = self._restricted(only, without)
        for clause in ("distinct", "order", "limit", "offset"):
            tree.set(clause, None)
        kept = [e for e in tree.expressions if self._is_mentioned(e, tree)]
        tree.set("expressions", [*kept, *self._keys(tree)])
        names = ", ".join(self._key_names())
        return f"SELECT {names}, count(*) AS __rows FROM ({sql_of(tree)}) AS __part GROUP BY {names}"

    def shares(self, *, only: str | None = None, without: str | None = None) -> Shares:
        """Each unit's share of the aggregates, by group. Raises `NotSupportedError` for what is no sum over units."""
        tree = self._restricted(only, without)
        for clause, why in (("having", "HAVING"), ("qualify", "QUALIFY"), ("distinct", "DISTINCT")):
            if tree.args.get(clause):
                raise NotSupportedError(
                    f"{why} can't be decided on estimates: leave it out and filter the result, or leave out ERROR TARGET"
                )
        groups = self._groups(tree)
        columns: list[str] = []
        outputs: list[tuple[Literal["group", "aggregate"], int]] = []
        aggregates: list[Aggregate] = []
        names: dict[int, str] = {}
        for item in tree.expressions:
            inner = expression_of(item)
            name = item.alias if isinstance(item, exp.Alias) else _default_name(item)
            place = next((n for n, g in enumerate(groups) if g == inner or (g.name and g == exp.column(name))), None)
            if place is not None:
                outputs.append(("group", place))
                names[place] = name
                continue
            kind, parts, per_unit = self._share(inner)
            outputs.append(("aggregate", len(aggregates)))
            aggregates.append(Aggregate(name, kind, len(columns), per_unit))
            columns += parts
        for clause in ("order", "limit", "offset"):
            tree.set(clause, None)
        keys = self._keys(tree)
        own = [exp.alias_(g.copy(), f"__g{n}", quoted=True) for n, g in enumerate(groups)]
        sums = [exp.alias_(_expression(c), f"__s{n}", quoted=True) for n, c in enumerate(columns)]
        tree.set("expressions", [*keys, *own, *sums])
        tree.set("group", exp.Group(expressions=[*(expression_of(k).copy() for k in keys), *groups]))
        labels = tuple(names.get(n, sql_of(g)) for n, g in enumerate(groups))
        return Shares(sql_of(tree), labels, tuple(aggregates), len(columns), tuple(outputs))

    def tail(self) -> str:
        """ORDER BY and LIMIT of the query, to be applied to its estimated result."""
        tree = self._units.tree
        return " ".join(sql_of(tree.args[c]).strip() for c in ("order", "limit", "offset") if tree.args.get(c))

    # ---- rewriting

    def _restricted(self, only: str | None, without: str | None) -> exp.Select:
        tree = self._units.tree.copy()
        assert isinstance(tree, exp.Select)
        for node in list(tree.find_all(exp.Table)):
            place = node.meta.get(MARK)
            if place is None:
                continue
            key = self._units.restricted[place][1]
            node.replace(_restricted(node, key, self.unit, only, without))
        return tree

    def _keys(self, tree: exp.Select) -> list[exp.Expr]:
        source = self._units.key
        assert source.key is not None
        alias = exp.to_identifier(_alias(source), quoted=True)
        return [
            exp.alias_(exp.Column(this=exp.to_identifier(k, quoted=True), table=alias.copy()), f"__u{n}", quoted=True)
            for n, k in enumerate(source.key)
        ]

    def _key_names(self) -> list[str]:
        return [f"__u{n}" for n in range(len(self.unit.keys))]

    def _is_mentioned(self, item: exp.Expr, tree: exp.Select) -> bool:
        """May a clause other than the SELECT list name this item, by its alias or its place?"""
        if tree.args.get("group") is not None and (
            tree.args["group"].args.get("all")
            or any(isinstance(e, exp.Literal) for e in tree.args["group"].expressions)
        ):
            return True
        if not isinstance(item, exp.Alias):
            return False
        name = item.alias.lower()
        parts = [e for c in ("where", "group", "having", "qualify") for e in listed(tree.args.get(c))]
        parts += [e for e in tree.expressions if e is not item]
        return any(c.name.lower() == name and not c.table for p in parts for c in p.find_all(exp.Column))

    # ---- aggregates

    def _groups(self, tree: exp.Select) -> list[exp.Expr]:
        group = tree.args.get("group")
        if group is None:
            return []
        if any(group.args.get(a) for a in ("grouping_sets", "cube", "rollup", "totals")):
            raise NotSupportedError("grouping sets can't be estimated: ask for one GROUP BY at a time")
        items = list(tree.expressions)
        if group.args.get("all"):
            return [expression_of(i).copy() for i in items if not self._has_aggregate(i)]
        found: list[exp.Expr] = []
        for expression in group.expressions:
            item = expression
            if isinstance(item, exp.Literal) and item.is_int:
                item = expression_of(items[int(item.name) - 1])
            elif isinstance(item, exp.Column) and not item.table and self._units.top.find(item) is None:
                named = [i for i in items if isinstance(i, exp.Alias) and i.alias.lower() == item.name.lower()]
                item = expression_of(named[0]) if named else item
            found.append(item.copy())
        return found

    def _has_aggregate(self, item: exp.Expr) -> bool:
        return any(is_aggregate(n, self._functions) for n in walk_own(item))

    def _share(self, node: exp.Expr) -> tuple[Kind, list[str], bool]:
        """Kind, the sums over a unit's rows that make it up, and whether it is divided by the number of units."""
        condition = ""
        call = node
        if isinstance(node, exp.Filter):
            condition = f" FILTER ({sql_of(node.expression).strip()})"
            call = node.this
        text = sql_of(call)
        if isinstance(call, exp.Count) and not isinstance(call.this, exp.Distinct):
            if call.this is None or is_star(call.this):
                return "count", [f"count(*){condition}"], False
            if not call.expressions:
                return "count", [f"count({sql_of(call.this)}){condition}"], False
        if isinstance(call, exp.Anonymous) and call.name.upper() == "FCOUNT":
            return "count", [f"count(*){condition}"], True
        if isinstance(call, exp.Sum) and not isinstance(call.this, exp.Distinct):
            return "sum", [f"CAST(sum({sql_of(call.this)}){condition} AS DOUBLE)"], False
        if isinstance(call, exp.Avg) and not isinstance(call.this, exp.Distinct):
            value = sql_of(call.this)
            sums = [f"CAST(sum({value}){condition} AS DOUBLE)", f"count({value}){condition}"]
            return "avg", sums, False
        if isinstance(call, exp.CountIf):
            return "count", [f"{text}{condition}"], False
        raise NotSupportedError(
            f"{sql_of(node)} can't be estimated: with ERROR TARGET the SELECT list holds COUNT, SUM and AVG, each alone, "
            "and columns of GROUP BY; compute with them in Python, or leave out ERROR TARGET"
        )


def _restricted(node: exp.Table, key: tuple[str, ...], unit: Unit, only: str | None, without: str | None) -> exp.Expr:
    """A reference to a table as a derived table that holds some units' rows."""
    alias = exp.to_identifier(node.alias_or_name, quoted=True)
    bare = node.copy()
    bare.set("alias", None)
    bare.meta.pop(MARK, None)
    inner = "__aidb_t"
    listed_in = only or without
    assert listed_in is not None
    if len(key) == 1 and not unit.null_safe and only is not None:
        condition = f"{inner}.{quoted(key[0])} IN (SELECT __k0 FROM {listed_in})"
    else:
        same = "IS NOT DISTINCT FROM" if unit.null_safe else "="
        on = " AND ".join(f"__aidb_k.__k{n} {same} {inner}.{quoted(k)}" for n, k in enumerate(key))
        condition = f"{'' if only is not None else 'NOT '}EXISTS (SELECT 1 FROM {listed_in} AS __aidb_k WHERE {on})"
    text = f"SELECT * FROM {sql_of(bare)} AS {inner} WHERE {condition}"
    return exp.Subquery(this=parse(text), alias=exp.TableAlias(this=alias))


def _alias(source: Source) -> str:
    node = source.node
    return node.alias_or_name


def _default_name(item: exp.Expr) -> str:
    """The name that DuckDB gives a column without an alias."""
    if isinstance(item, exp.Column):
        return item.name
    if isinstance(item, exp.Count) and (item.this is None or is_star(item.this)):
        return "count_star()"
    return sql_of(item).lower() if isinstance(item, exp.AggFunc) else sql_of(item)


def _expression(text: str) -> exp.Expr:
    tree = parse(f"SELECT {text}")
    return expression_of(tree.expressions[0])
