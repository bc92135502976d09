"""What is shown of a query and of its parts, to whoever reads the query around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from aidb.errors import NotSupportedError
from aidb.plan.nodes import expression_of, sql_of
from aidb.plan.ties import Items, Rows, Scope, Shown, Source
from aidb.plan.unit import Unit
from aidb.sql.render import quoted

Names = Mapping[str, "Cte"]
"""The CTEs that a query sees, by lower-case name."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Outputs = tuple[tuple[str | None, int | None], ...]
"""A query's columns: the name, None if DuckDB makes one up, and the place in the unit's key that it holds."""


@dataclass(eq=False)
class Query:
    """What is shown of one query.

    is_split: does each row belong to a unit, so that restricting gives some of them? hooks: items of queries around whose
    unit it depends on. outputs: its columns; complete: are they all? block, branches: what it is made of, for `widening`.
    """

    node: exp.Expr
    is_split: bool = False
    hooks: Items = frozenset()
    outputs: Outputs = ()
    complete: bool = False
    block: Block | None = None
    branches: tuple[Query, ...] = ()


@dataclass(eq=False)
class Cte:
    """A WITH query; read when it is first met, since one that nobody names may be anything."""

    node: exp.Expr
    names: Names
    outer: Block | None
    columns: tuple[str, ...]
    recursive: bool
    read: Query | None = None
    reading: bool = False


@dataclass(eq=False)
class Block:
    """One SELECT.

    scope: what its clauses can name by now. demanded, linked, outward: what queries inside depend on: items, links
    (`Source.links`), and items of queries around. certain: links of which WHERE says that they name a unit. rows: of its
    FROM and WHERE. split: the items whose unit is that of its rows; empty if they have no unit of their own. grouping: what
    GROUP BY says, places and names looked up; None without one.
    """

    node: exp.Select
    outer: Block | None
    sources: list[Source] = field(default_factory=list)
    scope: Scope = field(default_factory=Scope)
    demanded: set[Source] = field(default_factory=set)
    linked: set[Source] = field(default_factory=set)
    certain: set[Source] = field(default_factory=set)
    outward: set[Source] = field(default_factory=set)
    rows: Rows = field(default_factory=Rows)
    split: Items = frozenset()
    grouping: list[exp.Expr] | None = None

    def aliases(self) -> dict[str, exp.Expr]:
        """Names that the SELECT list gives, in lower case."""
        return {e.alias.lower(): expression_of(e) for e in self.node.expressions if isinstance(e, exp.Alias)}

    def shown(self, node: exp.Expr, *, columns_first: bool = True) -> Shown | None:
        """The column, here or of a query around, that an expression is; None if it is another one, or that is not certain.

        columns_first: does a column come before an alias of the SELECT list, as in WHERE, or may it be either?
        """
        node = node.unnest() if isinstance(node, exp.Paren) else node
        if isinstance(node, exp.Coalesce):
            parts = [self.shown(e, columns_first=columns_first) for e in (node.this, *node.expressions)]
            found = [p for p in parts if p is not None and p.place is not None]
            if len(found) == len(parts) and len({p.place for p in found}) == 1:
                return Shown("", tuple(s for p in found for s in p.of), found[0].place)
            return None
        if not isinstance(node, exp.Column) or isinstance(node.this, exp.Star) or node.args.get("db"):
            return None
        name, qualifier = node.name.lower(), node.table.lower()
        if qualifier:
            return self._qualified(node, qualifier, name)
        hits = [c for c in self.scope.columns if c.name.lower() == name]
        alias = self.aliases().get(name)
        if hits:
            certain = columns_first or alias is None or self.shown(alias) == hits[0]
            return hits[0] if len(hits) == 1 and certain else None
        if not self.scope.complete or alias is not None or any(s.alias == name for s in self.scope.sources):
            return None
        return None if self.outer is None else self.outer.shown(node)

    def _qualified(self, node: exp.Column, qualifier: str, name: str) -> Shown | None:
        sources = [s for s in self.scope.sources if s.alias == qualifier]
        if sources:
            hits = [c for c in sources[0].shown if c.name.lower() == name]
            return hits[0] if len(sources) == 1 and len(hits) == 1 else None
        if any(c.name.lower() == qualifier for c in self.scope.columns):  # a field of a STRUCT
            return None
        return None if self.outer is None else self.outer.shown(node)

    def find(self, column: exp.Expr) -> tuple[Source, str] | None:
        """The FROM item, here or further out, that a column belongs to, and its lower-case name."""
        found = self.shown(column)
        return None if found is None or not found.of else (found.of[0], found.name.lower())

    def holds(self, found: Shown | None) -> int | None:
        """The place in the key of the rows' unit that a column holds, whatever joins have left out."""
        if found is None:
            return None
        for column in (found, *_links(found)):
            if column.place is not None and self.rows.has_one(column.of):
                group = self.rows.group(column.items)
                if group is not None and (not self.split or group == self.split):
                    return column.place
        return None


def _links(column: Shown) -> list[Shown]:
    """The links that a column is part of."""
    links = column.of[0].links if len(column.of) == 1 else {}
    return [s for link in links.values() for s in link.shown if s.name == column.name.lower()]


def conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    """The parts of a condition that must all hold."""
    condition = condition.unnest() if isinstance(condition, exp.Paren) else condition
    if isinstance(condition, exp.And):
        return [*conjuncts(condition.left), *conjuncts(condition.right)]
    return [condition]


def unique_names(outputs: Outputs) -> list[str | None]:
    """Names by which a query's columns can be called from outside; None where DuckDB makes one up, or might."""
    seen: set[str] = set()
    names: list[str | None] = []
    for name, _ in outputs:
        low = "" if name is None else name.lower()
        numbered = re.fullmatch(r"(.+)_\d+", low)  # what the second column of a name is called
        names.append(None if low in seen or (numbered is not None and numbered[1] in seen) else name)
        seen.add(low)
    return names


def short(node: exp.Expr) -> str:
    """The beginning of a text, for messages."""
    text = sql_of(node)
    return text if len(text) <= 60 else f"{text[:57]}..."


def spelled(source: Source, column: str | None = None) -> str:
    """A FROM item, or a column of it, as the user may write it."""
    names = [source.node.alias_or_name, *([] if column is None else [column])]
    return ".".join(n if _PLAIN.fullmatch(n) else quoted(n) for n in names)


def refusal(unit: Unit, why: str) -> NotSupportedError:
    """The error that says why a query can't be sampled by units."""
    return NotSupportedError(
        f"the guarantee can't be given for this query, whose answer does not fall apart by rows of {unit.table}: {why}. "
        "Without the guarantee clauses the answer is exact"
    )
