"""Aggregates as sums over units: COUNT, SUM and AVG by group, one line for each unit and group that occur together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from aidb.errors import NotSupportedError
from aidb.plan.mixing import has_sets
from aidb.plan.naming import default_name
from aidb.plan.nodes import expression_of, function_name, is_aggregate, is_star, listed, parse, sql_of, walk_own
from aidb.plan.units import Units

_QUANTILES = ("median", "quantile", "percentile", "approx_quantile", "mad", "mode")
_QUANTILE_NODES = (exp.Median, exp.Quantile, exp.PercentileCont, exp.PercentileDisc, exp.ApproxQuantile)

Kind = Literal["count", "sum", "avg"]


@dataclass(frozen=True)
class Aggregate:
    """One aggregate of the SELECT list. name: of the output column. place: of its first column among the shares.

    Its share of a unit is one column (count, sum) or two (avg: the sum and the number of values). per_unit: FCOUNT
    divides by the number of units.
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


class ShareReader:
    """Reads the SELECT list of one query. functions: names of DuckDB's aggregates."""

    def __init__(self, units: Units, functions: frozenset[str]) -> None:
        self.top, self.functions = units.top, functions

    def read(self, tree: exp.Select, keys: list[exp.Expr]) -> Shares:
        """The shares of a tree that is the query restricted; it is used up."""
        for clause, why in (("having", "HAVING"), ("qualify", "QUALIFY"), ("distinct", "DISTINCT")):
            if tree.args.get(clause):
                raise NotSupportedError(
                    f"{why} can't be decided on estimates: leave it out and filter the result, or leave out ERROR TARGET"
                )
        self.order()  # a result that can't be sorted is refused before anything is asked
        groups = self._groups(tree)
        meant = [self.meaning(g) for g in groups]
        columns: list[str] = []
        outputs: list[tuple[Literal["group", "aggregate"], int]] = []
        aggregates: list[Aggregate] = []
        names: dict[int, str] = {}
        for item in tree.expressions:
            name = self._name(item)
            meaning = self.meaning(expression_of(item))
            place = next((n for n, g in enumerate(meant) if g == meaning), None)
            if place is not None:
                if names.get(place, name) != name:  # the same under two names is two columns
                    place = len(groups)
                    groups.append(expression_of(item).copy())
                outputs.append(("group", place))
                names.setdefault(place, name)
                continue
            kind, parts, per_unit = self._share(expression_of(item))
            outputs.append(("aggregate", len(aggregates)))
            aggregates.append(Aggregate(name, kind, len(columns), per_unit))
            columns += parts
        for clause in ("order", "limit", "offset"):
            tree.set(clause, None)
        own = [exp.alias_(g.copy(), f"__g{n}", quoted=True) for n, g in enumerate(groups)]
        sums = [exp.alias_(_expression(c), f"__s{n}", quoted=True) for n, c in enumerate(columns)]
        tree.set("expressions", [*keys, *own, *sums])
        tree.set("group", exp.Group(expressions=[*(expression_of(k).copy() for k in keys), *groups]))
        labels = tuple(names.get(n, self._name(g)) for n, g in enumerate(groups))
        return Shares(sql_of(tree), labels, tuple(aggregates), len(columns), tuple(outputs))

    def meaning(self, node: exp.Expr) -> exp.Expr:
        """The expression with each column under the one name that is certain, to be compared with others."""
        node = node.unnest() if isinstance(node, exp.Paren) else node
        return node.copy().transform(self._resolved)

    def _resolved(self, node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Identifier):
            return exp.to_identifier(node.name.lower())
        if not isinstance(node, exp.Column):
            return node
        found = self.top.shown(node)
        if found is None or not found.of:
            return node
        return exp.column(found.name.lower(), "+".join(s.alias for s in found.of), quoted=False)

    def _name(self, item: exp.Expr) -> str:
        """The output column's name, as DuckDB would give it."""
        if isinstance(item, exp.Alias):
            return item.alias
        found = self.top.shown(item)
        return found.name if found is not None and found.name else default_name(item)

    # ---- groups

    def _groups(self, tree: exp.Select) -> list[exp.Expr]:
        group = tree.args.get("group")
        if group is None:
            return []
        if has_sets(group):
            raise NotSupportedError("grouping sets can't be estimated: ask for one GROUP BY at a time")
        items = list(tree.expressions)
        if any(is_star(expression_of(i)) or isinstance(expression_of(i), exp.Columns) for i in items):
            raise NotSupportedError("write out the columns that * stands for: ERROR TARGET needs to know each of them")
        if group.args.get("all"):
            return [expression_of(i).copy() for i in items if not self._has_aggregate(i)]
        found: list[exp.Expr] = []
        for expression in group.expressions:
            item = expression
            if isinstance(item, exp.Literal) and item.is_int and 0 < int(item.name) <= len(items):
                item = expression_of(items[int(item.name) - 1])
            elif isinstance(item, exp.Column) and not item.table and self.top.shown(item) is None:
                named = self.top.aliases().get(item.name.lower())
                if named is not None and not self.top.scope.complete:
                    raise NotSupportedError(
                        f"GROUP BY {item.name} may mean a column or the expression named so: write out which"
                    )
                item = item if named is None or self._is_column(item) else named
            found.append(item.copy())
        return found

    def _is_column(self, column: exp.Column) -> bool:
        return any(c.name.lower() == column.name.lower() for c in self.top.scope.columns)

    def _has_aggregate(self, item: exp.Expr) -> bool:
        return any(is_aggregate(n, self.functions) or function_name(n) == "fcount" for n in walk_own(item))

    # ---- aggregates

    def _share(self, node: exp.Expr) -> tuple[Kind, list[str], bool]:
        """Kind, the sums over a unit's rows that make it up, and whether it is divided by the number of units."""
        condition = ""
        call = node
        if isinstance(node, exp.Filter):
            condition = f" FILTER ({sql_of(node.expression).strip()})"
            call = node.this
        inside = call.this if isinstance(call, exp.Func) else None
        if isinstance(inside, exp.Distinct) or any(isinstance(n, exp.Columns) for n in walk_own(call)):
            inside, call = None, node
        elif isinstance(call, exp.Count) and not listed(call.expressions):
            counted = "*" if call.this is None or isinstance(call.this, exp.Star) else sql_of(call.this)
            return "count", [f"count({counted}){condition}"], False
        elif isinstance(call, exp.CountIf):
            return "count", [f"count_if({sql_of(call.this)}){condition}"], False
        elif isinstance(call, exp.Sum):
            return "sum", [f"CAST(sum({sql_of(call.this)}){condition} AS DOUBLE)"], False
        elif isinstance(call, exp.Avg):
            value = sql_of(call.this)
            return "avg", [f"CAST(sum({value}){condition} AS DOUBLE)", f"count({value}){condition}"], False
        elif function_name(call) in ("fcount", "count_star"):
            return "count", [f"count(*){condition}"], function_name(call) == "fcount"
        if function_name(call).startswith(_QUANTILES) or isinstance(call, _QUANTILE_NODES):
            raise NotSupportedError(
                f"{sql_of(node)} can't be estimated here: an error target on a quantile would be one on its rank. "
                "aidb.stats.quantile gives one for a number an item; COUNT(*) ... WHERE x < 5 with ERROR TARGET tells how many "
                "lie below a value; leave out ERROR TARGET for the exact answer"
            )
        raise NotSupportedError(
            f"{sql_of(node)} can't be estimated: with ERROR TARGET the SELECT list holds COUNT, SUM and AVG, each alone, "
            "and columns of GROUP BY; compute with them in Python, or leave out ERROR TARGET"
        )

    # ---- the tail

    def order(self) -> str:
        """ORDER BY in terms of the result's own columns, empty if there is none."""
        tree = self.top.node
        clause = tree.args.get("order")
        if clause is None:
            return ""
        items = list(tree.expressions)
        starred = any(is_star(expression_of(i)) or isinstance(expression_of(i), exp.Columns) for i in items)
        meant = [] if starred else [self.meaning(expression_of(i)) for i in items]
        names = {i.alias.lower() for i in items if isinstance(i, exp.Alias)}
        clause = clause.copy()
        for ordered in clause.expressions:
            node = ordered.this
            place = next((n for n, m in enumerate(meant) if m == self.meaning(node)), None)
            is_alias = isinstance(node, exp.Column) and not node.table and node.name.lower() in names
            if is_alias or isinstance(node, exp.Literal | exp.Var) or node.name.upper() == "ALL":
                continue
            if place is not None:
                ordered.set("this", exp.Literal.number(place + 1))
            elif starred and isinstance(node, exp.Column):
                node.set("table", None)
            elif not _is_of(node, names):
                raise NotSupportedError(
                    f"ORDER BY {sql_of(node)}: the result can be sorted by its own columns only; select it, or sort in Python"
                )
        return sql_of(clause).strip()


def _is_of(node: exp.Expr, names: set[str]) -> bool:
    """Is it an expression over named columns of the result alone?"""
    columns = list(node.find_all(exp.Column))
    own = all(not c.table and c.name.lower() in names for c in columns)
    return own and not node.find(exp.AggFunc, exp.Query)


def _expression(text: str) -> exp.Expr:
    tree = parse(f"SELECT {text}")
    return expression_of(tree.expressions[0])
