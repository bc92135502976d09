"""Scores of the open items: the value of the proxy for each, from stored columns, other models' answers, or a model.

A proxy may be anything; no guarantee rests on it. It is an exact query of its own, ``SELECT key, (expression)``, so that
its models run on the open items only, and their answers are kept like all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aidb.catalog.names import quoted
from aidb.catalog.relations import Relation
from aidb.errors import ProgrammingError, UnknownName
from aidb.exec.guarantees.items import OPEN, Items
from aidb.plan.units import fills_of, root_of
from aidb.sql.statements import Call

Exact = Callable[[str], pa.Table]
"""Answers a query in full, running the models that it needs."""


@dataclass(frozen=True)
class Scores:
    """values: one for each open item, NaN where there is none; None without a proxy. name: for the report."""

    values: npt.NDArray[np.float64] | None
    name: str | None = None
    notes: tuple[str, ...] = ()


def scores(items: Items, proxy: Call | None, exact: Exact) -> Scores:
    """The proxy's value for each open item. Raises `ProgrammingError` for what is no number of an item."""
    if proxy is None or not items.n:
        return Scores(None)
    return Scores(evaluated(items, expression(items, proxy), exact), described(proxy))


def described(proxy: Call) -> str:
    """The proxy as it was written."""
    return proxy.name + ("" if proxy.args is None else f"({', '.join(proxy.args)})")


def expression(items: Items, proxy: Call) -> str:
    """SQL over the unit's table, called ``t``."""
    relations = items.questions.relations
    unit = relations.get(items.unit.table)
    assert unit is not None
    if proxy.args is not None:
        return described(proxy)
    if proxy.name.lower() in {c.lower() for c in unit.columns}:
        return f"t.{quoted(proxy.name)}"
    if any(m.lower() == proxy.name.lower() for m in items.questions.registry.models):
        return _of_content(items, unit, proxy.name)
    found = _virtual_columns(items, proxy.name)
    if len(found) == 1:
        return _highest(items, found[0], proxy.name)
    if len(found) > 1:
        tables = ", ".join(r.name for r in found)
        raise ProgrammingError(f"the proxy {proxy.name} is a column of {tables}: write USING PROXY (expression)")
    raise UnknownName.of("proxy", proxy.name, [*unit.columns, *items.questions.registry.models])


def _of_content(items: Items, unit: Relation, model: str) -> str:
    """A model by its name alone sees the items' content."""
    if unit.content is None:
        raise ProgrammingError(f"{model} needs its inputs here: write USING PROXY {model}(column)")
    return f"{quoted(model)}(t.{quoted(unit.content)})"


def _virtual_columns(items: Items, name: str) -> list[Relation]:
    """Virtual tables over the same items that have a column of this name."""
    relations = items.questions.relations
    found = []
    for relation in relations.tables.values():
        if relation.fill is None or relation.name.startswith("__aidb"):
            continue
        roots = {root_of(f, relations)[0] for f in fills_of(relation)}
        if roots == {items.unit.table} and name.lower() in {c.lower() for c in relation.columns}:
            found.append(relation)
    return found


def _highest(items: Items, relation: Relation, name: str) -> str:
    """The highest value among an item's rows; an item without rows scores lowest."""
    own = {c.lower() for c in relation.columns}
    keys = [k if k.lower() in own else relation.columns[n] for n, k in enumerate(items.unit.keys)]
    same = " AND ".join(f"v.{quoted(k)} = t.{quoted(u)}" for k, u in zip(keys, items.unit.keys, strict=True))
    return f"(SELECT max(v.{quoted(name)}) FROM {quoted(relation.name)} v WHERE {same})"


def score_query(items: Items, proxy: Call) -> str:
    """The query that gives each open item's key and score, in the user's dialect."""
    return _keyed(items, expression(items, proxy))


def _keyed(items: Items, sql: str) -> str:
    unit = items.unit
    relation = items.questions.relations.get(unit.table)
    assert relation is not None
    same = "IS NOT DISTINCT FROM" if unit.null_safe else "="
    on = " AND ".join(f"o.__k{n} {same} t.{quoted(k)}" for n, k in enumerate(unit.keys))
    keys = ", ".join(f"t.{quoted(k)} AS __k{n}" for n, k in enumerate(unit.keys))
    return (
        f"SELECT {keys}, ({sql}) AS __score FROM {quoted(relation.name)} AS t "
        f"WHERE EXISTS (SELECT 1 FROM {OPEN} AS o WHERE {on})"
    )


def evaluated(items: Items, sql: str, exact: Exact) -> npt.NDArray[np.float64]:
    """The value of an expression over the unit's table (``t``) for each open item; the highest where rows share a unit."""
    unit = items.unit
    same = "IS NOT DISTINCT FROM" if unit.null_safe else "="
    found = exact(_keyed(items, sql))
    column = found.column("__score")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        elif not pa.types.is_null(column.type):
            raise ProgrammingError(f"the proxy must be a number for each item, and {sql} is {column.type}")
    values = pa.table({**{f"__k{n}": found.column(n) for n in range(len(unit.keys))}, "s": column.cast(pa.float64())})
    on = " AND ".join(f"o.__k{n} {same} v.__k{n}" for n in range(len(unit.keys)))
    items.questions.keep(
        "__aidb_scores",
        f"SELECT o.__row AS r, max(v.s) AS s FROM {OPEN} o JOIN aidb_values v ON {on} GROUP BY o.__row",
        aidb_values=values,
    )
    rows = items.questions.query("SELECT r, s FROM __aidb_scores")
    scored = np.full(items.n, np.nan)
    scored[rows.column("r").to_numpy()] = pc.fill_null(rows.column("s"), float("nan")).to_numpy()
    return scored
