"""A query as it was written: what its conditions are, to tell which proxies were made for them.

Conditions are compared as text, without aliases, brackets and letter case of names. Whether two of them mean the same
matters for the choice of a proxy alone, so that a miss costs calls, never truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from sqlglot import exp
from sqlglot.errors import SqlglotError

from aidb.plan.nodes import listed, parse, sql_of, table_name, unwrapped
from aidb.plan.units import conjuncts
from aidb.sql.tokens import scan

Topic = tuple[frozenset[str], frozenset[str]]
"""Conditions that must all hold, and the tables besides the items' own whose rows they are about."""


@dataclass(frozen=True)
class Written:
    """topic: of WHERE and FROM. numbers: what is summed or averaged. aliases: of tables in FROM, by lower-case name."""

    topic: Topic = (frozenset(), frozenset())
    numbers: frozenset[str] = frozenset()
    aliases: tuple[tuple[str, str], ...] = ()

    @staticmethod
    def of(sql: str, table: str) -> Written:
        """Of a query over the items of a table; nothing is known of what can't be read."""
        try:
            tree = unwrapped(parse(sql))
        except SqlglotError:
            return Written()
        if not isinstance(tree, exp.Select):
            return Written()
        numbers = {_plain(n.this) for e in tree.expressions for n in e.find_all(exp.Sum, exp.Avg)}
        aliases = tuple((table_name(t), t.alias) for t in _from(tree) if t.alias)
        return Written(_topic(tree, table), frozenset(numbers), aliases)

    def place(self, table: str, text: str) -> str | None:
        """The alias of a table that a text refers to by it; None where it does not."""
        keys = [t.key for t in scan(text)]
        for name, alias in self.aliases:
            if name == table.lower() and (alias.upper(), ".") in pairwise(keys):
                return alias
        return None

    def matches(self, target: str, table: str) -> int:
        """How many conditions of the query a proxy's target covers; 0 if it is about something else."""
        try:
            node = parse(f"SELECT {target}").expressions[0]
        except SqlglotError:
            return 0
        node = node.unnest() if isinstance(node, exp.Paren) else node
        if _plain(node) in self.numbers:
            return 1
        inner = unwrapped(node.this) if isinstance(node, exp.Exists | exp.Subquery) else None
        if isinstance(inner, exp.Select):
            conditions, tables = _topic(inner, table)
            if tables and conditions <= self.topic[0] and tables <= self.topic[1]:
                return 1 + len(conditions)
        conditions = frozenset(_plain(c) for c in conjuncts(node))
        return len(conditions) if conditions <= self.topic[0] else 0


def _topic(tree: exp.Select, table: str) -> Topic:
    where = tree.args.get("where")
    found = conjuncts(where.this) if where is not None else []
    tables = frozenset(table_name(t) for t in _from(tree)) - {table.lower(), ""}
    return frozenset(_plain(c) for c in found if not _ties(c)), tables


def _from(tree: exp.Select) -> list[exp.Table]:
    first = tree.args.get("from_") or tree.args.get("from")
    nodes = [first.this] if first is not None else []
    nodes += [j.this for j in listed(tree.args.get("joins"))]
    return [n for n in nodes if isinstance(n, exp.Table)]


def _ties(condition: exp.Expr) -> bool:
    """Does it only say that two tables' columns of one name agree?"""
    if not isinstance(condition, exp.EQ):
        return False
    a, b = condition.left, condition.right
    return isinstance(a, exp.Column) and isinstance(b, exp.Column) and a.name.lower() == b.name.lower()


def _plain(node: exp.Expr) -> str:
    """A condition's text without what does not change its meaning."""
    made = node.copy()
    while isinstance(made, exp.Paren):
        made = made.this
    for part in list(made.walk()):
        if isinstance(part, exp.Column):
            part.set("table", None)
        elif isinstance(part, exp.Table):
            part.set("alias", None)
        elif isinstance(part, exp.Identifier):
            part.set("this", part.name.lower())
            part.set("quoted", False)
    if isinstance(made, exp.EQ | exp.NEQ) and sql_of(made.left) > sql_of(made.right):
        left, right = made.left.copy(), made.right.copy()
        made.set("this", right)
        made.set("expression", left)
    return sql_of(made).lower() if not made.find(exp.Literal) else sql_of(made)
