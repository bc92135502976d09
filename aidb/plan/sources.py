"""What stands in a FROM clause, as the analysis sees it: leaves, joins of leaves, and the unknown parts of leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sqlglot import exp

from aidb.catalog.relations import Fill
from aidb.plan.names import quote
from aidb.plan.possible import Unknown


class Fallback(Exception):
    """The analysis can't read a statement; everything that it touches is to be materialised."""


class Flag(NamedTuple):
    """A condition, on a private column of a FROM item, under which a value is unknown."""

    alias: str
    text: str


Flags = frozenset[Flag] | None
"""When a value is unknown: never (empty), if any of the flags holds, or always (None)."""

KNOWN: frozenset[Flag] = frozenset()


@dataclass(frozen=True)
class Ask:
    """What a query over possible rows is made for.

    Normally: items worth running. With ``survivors_of``: items of that fill that have run and still matter. With
    ``order``: also the values by which the statement's rows are sorted, under the names ``__o0``...
    """

    survivors_of: Fill | None = None
    order: tuple[exp.Expr, ...] = ()


@dataclass(eq=False)
class Target:
    """A reference to a relation with something unknown: each gets a query for the items that it still needs.

    number: names its columns where it is carried through derived tables. leaf: where it stands.
    """

    number: int
    leaf: Leaf
    unknown: Unknown

    @property
    def flag(self) -> Flag:
        """The condition that holds whenever this target's own outputs are unknown."""
        op = ">= 1" if self.unknown.marker == "__u" else "<> 0"
        return Flag(self.leaf.alias, f"{quote(self.leaf.alias)}.{self.unknown.marker} {op}")


class Rows(Protocol):
    """A nested query as the rows that it may yield."""

    def targets(self) -> list[Target]:
        """The targets inside that predicates outside can prune."""

    def possible(self, target: Target | None, ask: Ask) -> str:
        """SELECT of the outputs, a flag ``__n{i}`` for each, and the target's key and state if one is asked for."""


@dataclass(eq=False)
class Leaf:
    """One FROM item.

    alias: lower case. columns: lower-case name -> when its value is unknown; None where the names can't be listed.
    text: FROM text, or None if ``rows`` makes it. names: output names, for ``rows``. row_state: does it have ghosts?
    virtual: may anything in it be unknown? opaque: left out of every query; its columns are always unknown.
    """

    alias: str
    columns: Mapping[str, Flags] | None
    text: str | None = None
    rows: Rows | None = None
    names: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    row_state: bool = False
    virtual: bool = False
    opaque: bool = False
    own: list[Target] = field(default_factory=list)

    def targets(self) -> list[Target]:
        """The unknown parts that this item brings into the query."""
        return self.own + (self.rows.targets() if self.rows is not None else [])

    def sql(self, target: Target | None, ask: Ask) -> str:
        """Return the FROM text, with the target's key where it is carried out of a nested query."""
        if self.rows is None:
            assert self.text is not None
            return self.text
        inner = self.rows.possible(target if target in self.rows.targets() else None, ask)
        return f"({inner}) AS {quote(self.alias)}({', '.join(map(quote, self.names))})"

    def key_columns(self, target: Target) -> list[str]:
        """Return the SQL of the target's key columns here."""
        alias = quote(self.alias)
        if target in self.own:
            return [f"{alias}.{k}" for k in target.unknown.keys]
        return [f"{alias}.__t{target.number}_{n}" for n in range(len(target.unknown.keys))]

    def state_column(self, target: Target) -> str:
        """Return the SQL of the target's state here."""
        name = target.unknown.marker if target in self.own else f"__t{target.number}_u"
        return f"{quote(self.alias)}.{name}"

    def when_unknown(self, column: str) -> Flags:
        """Return when a column is unknown; of an item that stands outside the catalog all columns are taken as known."""
        if self.columns is None:
            return None if self.opaque or self.virtual else KNOWN
        return self.columns.get(column)


@dataclass(frozen=True)
class Pair:
    """Two columns that USING or NATURAL compares; None where it isn't known whose column it is."""

    left: Leaf
    right: Leaf
    column: str
    operator: str


@dataclass(eq=False)
class Join:
    """A join of two trees. kind: inner, left, right, full, semi, anti, asof or asofleft.

    complete: do ``on`` and ``pairs`` say all that it compares (not so where USING's columns can't be told)?
    """

    kind: str
    left: Tree
    right: Tree
    on: exp.Expr | None = None
    pairs: list[Pair] = field(default_factory=list)
    complete: bool = True
    leaves: tuple[Leaf, ...] = ()
    visible: tuple[Leaf, ...] = ()
    """Items that ON can name."""

    def __post_init__(self) -> None:
        self.leaves = leaves(self.left) + leaves(self.right)
        unseen = hidden(self.left) + hidden(self.right)
        self.visible = tuple(x for x in self.leaves if x not in unseen)


Tree = Leaf | Join


def leaves(tree: Tree | None) -> tuple[Leaf, ...]:
    """Return the FROM items of a tree, left to right."""
    if tree is None:
        return ()
    return (tree,) if isinstance(tree, Leaf) else tree.leaves


def joins(tree: Tree | None) -> list[Join]:
    """Return the joins of a tree, outermost first."""
    if tree is None or isinstance(tree, Leaf):
        return []
    return [tree, *joins(tree.left), *joins(tree.right)]


def aliases(tree: Tree) -> frozenset[str]:
    """Return the aliases of a tree."""
    return frozenset(x.alias for x in leaves(tree))


def hidden(tree: Tree | None) -> tuple[Leaf, ...]:
    """Return the items that can't be named above their join: right sides of SEMI and ANTI."""
    if not isinstance(tree, Join):
        return ()
    own = leaves(tree.right) if tree.kind in ("semi", "anti") else ()
    return hidden(tree.left) + hidden(tree.right) + own
