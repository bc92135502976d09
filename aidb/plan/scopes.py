"""One SELECT and its names: which FROM item a column belongs to, and when its value is unknown.

The rules of names are DuckDB's as far as they are certain: letter case doesn't count, the innermost query comes
first, a column comes before an alias of the select list, ON sees only the join's own sides. Whatever isn't certain
resolves to "unknown", which costs model calls and never an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sqlglot import exp

from aidb.plan.sources import Ask, Flag, Flags, Leaf, Target, Tree, hidden, leaves


class Inner(NamedTuple):
    """A query over possible rows on its way outwards, one level at a time.

    linked: it ends with the columns ``__y0``, ``__yu`` (see `nested.Link`); link_known: ``__yu`` is FALSE throughout.
    ordered: it has the sort values.
    """

    sql: str
    linked: bool = False
    link_known: bool = False
    ordered: bool = False


Place = Callable[[Inner, Ask], Inner]
"""Puts the candidates of a nested query under the rows of the query around it."""


def at_top(inner: Inner, ask: Ask) -> Inner:
    """Return a query that stands alone as it is."""
    return inner


class Predicate(NamedTuple):
    """A condition over possible rows.

    aliases: FROM items that it reads, here or further out. core, flags: if it has the form "core, unless one of the
    flags holds", these parts, so that they can be told apart; else core is None.
    """

    text: str
    aliases: frozenset[str] = frozenset()
    core: str | None = None
    flags: tuple[Flag, ...] = ()


TRUE = Predicate("TRUE")
FALSE = Predicate("FALSE")


class Filter(Protocol):
    """A nested query as a predicate on the rows of the query around it: EXISTS and IN."""

    def exists(self, positive: bool) -> Predicate | None:
        """EXISTS over possible rows (positive) or over certain ones; None if it can't be said."""

    def contains(self, value: str, positive: bool) -> Predicate | None:
        """``value IN (...)``, likewise."""


class LinkColumns(Protocol):
    """Extra columns that candidates of an IN's query carry out, to be compared with the value on its left."""

    def columns(self, scope: Scope, dead: frozenset[str]) -> tuple[str, bool]:
        """Select items ``__y0`` and ``__yu``, with a leading comma; whether the first is always known."""


@dataclass(frozen=True)
class Cte:
    """A WITH query. env: what it sees. node: None for the recursive reference to itself."""

    node: exp.Expr | None
    env: Mapping[str, Cte]
    columns: tuple[str, ...] = ()
    recursive: bool = False


@dataclass(frozen=True)
class Outer:
    """The query around, as a nested query sees it.

    visible: its items that can be named from there; None for all. usable: may its rows be used as a filter?
    aliases_first: might a name mean an alias of its select list before a column?
    """

    scope: Scope
    visible: tuple[Leaf, ...] | None = None
    usable: bool = True
    aliases_first: bool = False


class Resolved(NamedTuple):
    """The item that a column belongs to, if that is certain, and when its value is unknown."""

    leaf: Leaf | None
    flags: Flags


NOWHERE = Resolved(None, None)


@dataclass(eq=False)
class Scope:
    """One SELECT.

    outer: the query around a correlated one. place: see `Place`. link: set for the query of an IN.
    demanded: does somebody read all its columns by position, so that ``*`` really asks for all?
    using, merged: names that USING merges, and whether that makes a COALESCE of them.
    plain: only FROM, WHERE, a select list, DISTINCT. prunable: may predicates outside reach into FROM (plain, or a
    plain GROUP BY: whole groups fall out together)?
    """

    node: exp.Expr
    env: dict[str, Cte]
    outer: Outer | None
    place: Place
    link: LinkColumns | None = None
    demanded: bool = True
    top: bool = False
    tree: Tree | None = None
    where: exp.Expr | None = None
    select_aliases: frozenset[str] = frozenset()
    using: set[str] = field(default_factory=set)
    merged: bool = False
    grouped: bool = False
    grouping_sets: bool = False
    aggregated: bool = False
    windowed: bool = False
    plain: bool = False
    prunable: bool = False
    filters: dict[int, Filter] = field(default_factory=dict)
    known_queries: set[int] = field(default_factory=set)
    named_inside: set[str] = field(default_factory=set)
    """Aliases of this scope that nested queries read."""
    laterals: list[Callable[[], None]] = field(default_factory=list)
    context_dead: frozenset[str] = frozenset()
    """Aliases whose columns nested queries may not read from the possible rows of this scope."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """All FROM items."""
        return leaves(self.tree)

    @property
    def nameable(self) -> tuple[Leaf, ...]:
        """The FROM items that WHERE and the select list can name."""
        unseen = hidden(self.tree)
        return tuple(x for x in self.leaves if x not in unseen)

    def targets(self) -> list[Target]:
        """All unknown parts in FROM, those inside derived tables included."""
        return [t for x in self.leaves for t in x.targets()]

    @property
    def always_one_row(self) -> bool:
        """Does it yield a row even where no row of FROM is kept (an aggregate without GROUP BY, a grand total)?"""
        return self.grouping_sets or (self.aggregated and not self.grouped)

    def resolve(
        self,
        column: exp.Column,
        dead: frozenset[str],
        visible: tuple[Leaf, ...] | None = None,
        aliases_first: bool = False,
    ) -> Resolved:
        """Find what a column is and, if that is certain, qualify it, so that it means the same in any other query.

        dead: aliases whose columns mean something else above the joins than in the items. visible: the items that
        can be named from here, None for all.
        """
        found = self._find(column, dead, visible, aliases_first)
        if found.leaf is not None and not column.table:
            column.set("table", exp.to_identifier(found.leaf.alias, quoted=True))
        return found

    def _find(
        self, column: exp.Column, dead: frozenset[str], visible: tuple[Leaf, ...] | None, aliases_first: bool
    ) -> Resolved:
        qualifier, name = column.table.lower(), column.name.lower()
        if column.args.get("db"):
            return NOWHERE
        here = self.nameable if visible is None else visible
        if qualifier:
            hits = [x for x in here if x.alias == qualifier]
            beyond = any(x.alias == qualifier for x in self.leaves)
        else:
            if any(x.columns is None for x in self.leaves):
                return NOWHERE
            hits = [x for x in here if x.columns is not None and name in x.columns]
            beyond = any(x.columns is not None and name in x.columns for x in self.leaves)
            if name in self.select_aliases and (aliases_first or not hits):
                return NOWHERE
            if len(hits) > 1 and name in self.using and not self.merged:
                hits = hits[:1]
        if len(hits) > 1 or (beyond and not hits):
            return NOWHERE
        if not hits:
            return self._find_outside(column)
        leaf = hits[0]
        return Resolved(leaf, None if leaf.alias in dead else leaf.when_unknown(name))

    def _find_outside(self, column: exp.Column) -> Resolved:
        if self.outer is None:
            return NOWHERE
        around = self.outer.scope
        leaf, flags = around._find(column, around.context_dead, self.outer.visible, self.outer.aliases_first)
        if leaf is None or not self.outer.usable or any(x.alias == leaf.alias for x in self.leaves):
            return NOWHERE
        around.named_inside.add(leaf.alias)
        return Resolved(leaf, flags)
