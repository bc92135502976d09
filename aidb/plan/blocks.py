"""A FROM-WHERE block over possible rows, and its SQL: cheap to run however much of it is unknown.

Relaxed join conditions may leave items that nothing ties to the rest, or only a condition such as ``a = b OR b is not
known yet``, which DuckDB can but run as a nested loop. The first become EXISTS; the second are split into one query for
the known rows, with a plain ``a = b``, and one for the unknown rows, with no condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from aidb.plan.scopes import TRUE, Predicate
from aidb.plan.sources import Flag

MAX_SPLITS = 3
"""Conditions that are split; with more, those that only tie unknown values are dropped, which costs model calls."""


@dataclass(frozen=True)
class Item:
    """One or more FROM items as text; aliases that it defines."""

    text: str
    aliases: frozenset[str]


@dataclass(frozen=True)
class Block:
    """Items, conjuncts, and the aliases that can't be read above."""

    items: tuple[Item, ...] = ()
    predicates: tuple[Predicate, ...] = ()
    dead: frozenset[str] = frozenset()


def select(
    what: str, block: Block, more: Iterable[Predicate] = (), reads: frozenset[str] | None = None, lateral: str = ""
) -> str:
    """Return a SELECT over a block.

    what: the select list. more: further conjuncts. reads: the aliases that ``what`` reads, None for any; items that
    nothing ties to them are only tested for existence. lateral: one more FROM item, which reads the others.
    """
    predicates = [p for p in (*block.predicates, *more) if p != TRUE]
    if not block.items:
        return _text(what, [], predicates, lateral)
    parts = list(_splits(block.items, predicates))
    union = " UNION " if what.startswith("DISTINCT") else " UNION ALL "
    return union.join(_tied(what, block.items, part, reads, lateral) for part in parts)


def _text(what: str, items: Sequence[Item], predicates: Sequence[Predicate], lateral: str = "") -> str:
    sources = [i.text for i in items] + ([lateral] if lateral else [])
    sql = f"SELECT {what}"
    if sources:
        sql += " FROM " + ", ".join(sources)
    return sql + (f" WHERE {' AND '.join(p.text for p in predicates)}" if predicates else "")


def _groups(items: Sequence[Item], predicates: Iterable[Predicate]) -> list[set[int]]:
    """Items that some predicate ties together, as sets of positions."""
    groups = [{n} for n in range(len(items))]
    for predicate in predicates:
        touched = [g for g in groups if any(items[n].aliases & predicate.aliases for n in g)]
        if len(touched) > 1:
            groups = [g for g in groups if g not in touched] + [set().union(*touched)]
    return groups


def _tied(
    what: str, items: Sequence[Item], predicates: Sequence[Predicate], reads: frozenset[str] | None, lateral: str
) -> str:
    """Return the SELECT, with items that are tied to none of ``reads`` tested for existence only."""
    if reads is None or len(items) == 1:
        return _text(what, items, predicates, lateral)
    kept: list[Item] = []
    loose: list[Predicate] = []
    used: set[int] = set()
    for group in _groups(items, predicates):
        members = [items[n] for n in sorted(group)]
        names = frozenset().union(*(m.aliases for m in members))
        inside = [n for n, p in enumerate(predicates) if p.aliases & names]
        if names & reads or any(not predicates[n].aliases <= names for n in inside):
            kept += members
        else:
            used.update(inside)
            loose.append(Predicate(f"EXISTS ({_text('1', members, [predicates[n] for n in inside])})"))
    return _text(what, kept, [p for n, p in enumerate(predicates) if n not in used] + loose, lateral)


def _splits(items: Sequence[Item], predicates: Sequence[Predicate]) -> Iterator[list[Predicate]]:
    """Yield lists of conjuncts whose results, taken together, are those of ``predicates``."""
    if len(items) == 1:
        yield list(predicates)
        return
    firm = _groups(items, [p for p in predicates if p.core is None])
    here = frozenset().union(*(i.aliases for i in items))

    def is_weak(p: Predicate) -> bool:
        spanned = [g for g in firm if any(items[n].aliases & p.aliases for n in g)]
        return p.core is not None and len(spanned) > 1 and all(f.alias in here for f in p.flags)

    flags = sorted({f for p in predicates if is_weak(p) for f in p.flags})
    if not flags:
        yield list(predicates)
    elif len(flags) > MAX_SPLITS:
        yield [p for p in predicates if not is_weak(p)]
    else:
        for chosen in product((True, False), repeat=len(flags)):
            unknown = {f for f, c in zip(flags, chosen, strict=True) if c}
            yield [s for p in predicates if (s := _given(p, unknown, set(flags))) != TRUE] + [
                Predicate(f.text if f in unknown else f"NOT ({f.text})", frozenset({f.alias})) for f in flags
            ]


def _given(predicate: Predicate, unknown: set[Flag], decided: set[Flag]) -> Predicate:
    """Simplify a guarded conjunct, once it is decided which flags hold."""
    if predicate.core is None or not decided & set(predicate.flags):
        return predicate
    if unknown & set(predicate.flags):
        return TRUE
    rest = tuple(f for f in predicate.flags if f not in decided)
    if rest:
        text = f"({predicate.core} OR {' OR '.join(f.text for f in rest)})"
        return predicate._replace(text=text, flags=rest)
    return Predicate(predicate.core, predicate.aliases)
