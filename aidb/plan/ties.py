"""FROM items that are tied by a key: in every row of a FROM clause they belong to the same unit.

A row of a join is a choice of one row, or none, of each FROM item. If the items whose rows a model may change are all
tied, then each row of the join belongs to one unit, and restricting these items to some units gives these units' rows. The
rules below say when that holds, join by join; where none says so, it is taken not to hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

from sqlglot import exp

from aidb.catalog.relations import Relation

if TYPE_CHECKING:
    from aidb.plan.splits import Query


@dataclass(eq=False)
class Source:
    """One FROM item.

    alias: in lower case, never empty. places: how many columns the unit's key has. shown: its columns in order; complete:
    are these all? asks: do its rows depend on a model? relation: of the catalog, if it is one. made: what a derived table,
    a view or a CTE consists of. links: columns of it that conditions compare with the key, each set as an item of its own,
    whose owner it is: ``notes.frame_id`` names a frame wherever it equals one's key, though rows of notes need not have one.
    """

    alias: str
    node: exp.Expr
    places: int
    shown: tuple[Shown, ...] = ()
    complete: bool = False
    asks: bool = False
    relation: Relation | None = None
    made: Query | None = None
    links: dict[tuple[str, ...], Source] = field(default_factory=dict)
    owner: Source | None = None

    @property
    def columns(self) -> frozenset[str] | None:
        """Lower-case names of its columns, None if they aren't known."""
        return frozenset(c.name.lower() for c in self.shown) if self.complete else None

    @property
    def key(self) -> tuple[str, ...] | None:
        """Names of its columns that hold the unit's key, None if it doesn't show all of it."""
        found = [next((c.name for c in self.shown if c.place == p), None) for p in range(self.places)]
        names = tuple(n for n in found if n is not None)
        return names if len(names) == self.places else None

    def link(self, names: tuple[str, ...]) -> Source:
        """The item that some of its columns, in the order of the key, are."""
        if names not in self.links:
            made = Source(self.alias, self.node, self.places, owner=self)
            made.show((name, place) for place, name in enumerate(names))
            self.links[names] = made
        return self.links[names]

    def show(self, columns: Iterable[tuple[str, int | None]]) -> None:
        """Set the columns: names, and the place in the key that each one holds."""
        self.shown = tuple(Shown(name, (self,), place) for name, place in columns)


class Shown(NamedTuple):
    """A column. of: the items it comes from, the first one that is there (USING merges several). place: in the key."""

    name: str
    of: tuple[Source, ...]
    place: int | None

    @property
    def items(self) -> frozenset[Source]:
        """`of` as a set."""
        return frozenset(self.of)


class Scope(NamedTuple):
    """Columns that a clause can name without saying whose. complete: are these all?"""

    columns: tuple[Shown, ...] = ()
    complete: bool = True
    sources: tuple[Source, ...] = ()


Items = frozenset[Source]


class Tie(NamedTuple):
    """Two sets of items with equal keys, each set standing for whichever of its items is there. safe: are NULLs equal?"""

    one: Items
    other: Items
    safe: bool = False


How = Literal["inner", "left", "right", "full", "semi", "anti", "asof", "asofleft", "whole"]


@dataclass(eq=False)
class Joined:
    """Two parts of a FROM clause. scope: what can be named of them together."""

    how: How
    left: Source | Joined
    right: Source | Joined
    ties: list[Tie] = field(default_factory=list)
    scope: Scope = field(default_factory=Scope)


Tree = Source | Joined


def scope_of(tree: Tree) -> Scope:
    """What can be named of a part of FROM."""
    return Scope(tree.shown, tree.complete, (tree,)) if isinstance(tree, Source) else tree.scope


def sources_of(tree: Tree) -> list[Source]:
    """All FROM items, in their order."""
    return [tree] if isinstance(tree, Source) else [*sources_of(tree.left), *sources_of(tree.right)]


def equal_keys(equalities: Iterable[tuple[Shown, Shown, bool]], places: int) -> list[Tie]:
    """The pairs of items of which equalities compare the whole key, place by place."""
    met: dict[tuple[Items, Items, bool], set[int]] = {}
    linked: dict[tuple[Items, Source, bool], dict[int, str]] = {}
    for one, other, safe in equalities:
        if one.items == other.items:
            continue
        if one.place is not None and one.place == other.place:
            pair = (one.items, other.items) if _order(one) <= _order(other) else (other.items, one.items)
            met.setdefault((*pair, safe), set()).add(one.place)
        for key, column in ((one, other), (other, one)):
            if key.place is not None and column.place is None and len(column.of) == 1 and not safe:
                linked.setdefault((key.items, column.of[0], safe), {})[key.place] = column.name.lower()
    ties = [Tie(*pair) for pair, found in met.items() if len(found) == places]
    for (items, source, safe), names in linked.items():
        if len(names) == places:
            ties.append(Tie(items, frozenset({source.link(tuple(names[p] for p in range(places)))}), safe))
    return ties


def _order(column: Shown) -> list[int]:
    return sorted(map(id, column.of))


# ---- what is known of the rows


@dataclass(frozen=True)
class Rows:
    """What is known of each row of a part of FROM.

    groups: of the items in one group, all that are there have the same key (an item of a query around is always there).
    present: of each of these sets, one item at least is there: an outer join may leave the others out.
    """

    groups: tuple[Items, ...] = ()
    present: frozenset[Items] = frozenset()

    def group(self, items: Items) -> Items | None:
        """The group that all of these are in."""
        return next((g for g in self.groups if items <= g), None)

    def has_one(self, items: Collection[Source]) -> bool:
        """Is in every row one of these there?"""
        return any(p <= frozenset(items) for p in self.present)


class Untied(Exception):
    """An item that must be tied by the key is not. to: what it should be tied to, if that is known."""

    def __init__(self, source: Source, to: Source | None, why: str = "") -> None:
        super().__init__(source.alias)
        self.source, self.to, self.why = source, to, why


class Needed(Exception):
    """An item that no model changes must be restricted all the same: an outer join keeps its rows."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.alias)
        self.source = source


class Rules:
    """The rules of joins. own: the items of this FROM clause. restricted: those whose rows depend on the units chosen."""

    def __init__(self, own: Collection[Source], restricted: Collection[Source]) -> None:
        self.own = frozenset(own) | {link for s in own for link in s.links.values()}
        self.restricted = frozenset(restricted)

    def is_open(self, group: Items) -> bool:
        """Does a group's part of the row belong to a unit that is not the one of the query around?"""
        return bool(group & self.restricted) and group <= self.own

    def rows(self, tree: Tree) -> Rows:
        """What holds in each row. Raises `Untied` or `Needed` where rows don't belong to units."""
        if isinstance(tree, Source):
            alone = frozenset({tree})
            return Rows((alone, *(frozenset({x}) for x in tree.links.values())), frozenset({alone}))
        left, right = self.rows(tree.left), self.rows(tree.right)
        match tree.how:
            case "inner":
                both = Rows((*left.groups, *right.groups), left.present | right.present)
                return self.filtered(both, tree.ties)
            case "left" | "asofleft":
                return Rows(self._attached(left, right, tree.ties), left.present)
            case "asof":
                return Rows(self._attached(left, right, tree.ties), left.present | right.present)
            case "right":
                return Rows(self._attached(right, left, tree.ties), right.present)
            case "semi" | "anti":
                self._attached(left, right, tree.ties)
                return left
            case "full":
                return self._full(left, right, tree.ties)
        for group in (*left.groups, *right.groups):
            if self.is_open(group):
                raise Untied(self._some(group), None, "such a JOIN looks at all rows at once")
        return Rows((*left.groups, *right.groups))

    def filtered(self, rows: Rows, ties: Sequence[Tie]) -> Rows:
        """Rows for which conditions hold: both sides of each tie are there and equal."""
        groups = list(rows.groups)
        there = {items for t in ties if not t.safe for items in (t.one, t.other)}
        for _ in ties:  # a tie of merged columns counts once other ties made them one group
            for tie in ties:
                if tie.safe and not (rows.has_one(tie.one) and rows.has_one(tie.other)):
                    continue
                first, second = self._find(groups, tie.one), self._find(groups, tie.other)
                if first is not None and second is not None and first != second:
                    groups = [g for g in groups if g not in (first, second)] + [first | second]
        return Rows(tuple(groups), rows.present | there)

    def _find(self, groups: Sequence[Items], items: Items) -> Items | None:
        found = next((g for g in groups if items <= g), None)
        # An item of a query around joins the groups when it is first met.
        return items if found is None and len(items) == 1 and not items & self.own else found

    def _attached(self, kept: Rows, other: Rows, ties: Sequence[Tie]) -> tuple[Items, ...]:
        """Groups of rows that are all kept on one side; the other side comes with them where it matches."""
        groups = list(kept.groups)
        for group in other.groups:
            target = self._target(group, kept, [t for t in ties if not t.safe or _is_sure(t, kept, other)])
            if target is None:
                groups.append(group)
                continue
            before = self._find(groups, target)
            groups = [g for g in groups if g != before] + [(before or target) | group]
        return tuple(groups)

    def _target(self, group: Items, kept: Rows, ties: Sequence[Tie]) -> Items | None:
        """What a group of the other side is tied to, in every row in which it is there."""
        ends = [t.other if t.one <= group else t.one for t in ties if t.one <= group or t.other <= group]
        inside = [e for e in ends if kept.group(e) is not None]
        outside = [e for e in ends if len(e) == 1 and not e & self.own]
        best = [e for e in inside if (kept.group(e) or e) & self.restricted] + outside
        if best:
            return best[0]
        if not self.is_open(group):
            return inside[0] if inside else None
        for end in inside:
            self._restrict(end)
        raise Untied(self._some(group), self._one_of(kept), "an outer join keeps rows that belong to no item")

    def _full(self, left: Rows, right: Rows, ties: Sequence[Tie]) -> Rows:
        present = frozenset(a | b for a, b in product(left.present, right.present))
        groups = (*left.groups, *right.groups)
        open_groups = [[g for g in side.groups if self.is_open(g)] for side in (left, right)]
        if not any(open_groups):
            return Rows(groups, present)
        for tie in ties:
            for one, other in ((tie.one, tie.other), (tie.other, tie.one)):
                here, there = left.group(one), right.group(other)
                if here is None or there is None or tie.safe:
                    continue
                ends = here, there
                for end, items in zip(ends, (one, other), strict=True):
                    if not end & self.restricted:
                        self._restrict(items)
                if all(e & self.restricted for e in ends) and all(g in ends for side in open_groups for g in side):
                    rest = tuple(g for g in groups if g not in ends)
                    return Rows((*rest, here | there), present)
        mine, theirs = (left, right) if open_groups[0] else (right, left)
        raise Untied(
            self._some(next(g for g in mine.groups if self.is_open(g))),
            self._one_of(theirs),
            "an outer join keeps rows that belong to no item",
        )

    @staticmethod
    def _restrict(items: Items) -> None:
        """Ask for these to be restricted as well, unless they only link: their rows need not belong to any unit."""
        for source in sorted(items, key=lambda s: s.alias):
            if source.owner is None:
                raise Needed(source)

    def _some(self, group: Items) -> Source:
        return min(group & self.restricted, key=lambda s: s.alias)

    def _one_of(self, rows: Rows) -> Source | None:
        found = sorted((s for g in rows.groups for s in g if s in self.own), key=lambda s: s.alias)
        return next((s for s in found if s.relation is not None or s.asks), found[0] if found else None)


def _is_sure(tie: Tie, one: Rows, other: Rows) -> bool:
    """Are both ends of a tie there in all rows of their side, so that no NULL of a join is taken for one of the key?"""
    return all(one.has_one(end) or other.has_one(end) for end in (tie.one, tie.other))
