"""Possible rows: what a relation holds now, and stand-ins ("ghosts") for rows and values that models may still add.

A relation with unknown parts is replaced, in the queries that look for items worth running, by the rows that are
stored plus one ghost for each item that its model has not seen. A *state* says how much of a row is unknown: 0 stands
for "nothing", any other for the next fill to run so that more becomes known. Each column is unknown in a fixed set of
states, so "may this predicate still become true?" is plain SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aidb.catalog.relations import Extension, Fill, Relation, Relations
from aidb.plan.names import is_row_each, key_extensions, parents_of, quote, with_keys

STATE = "__u"


@dataclass(frozen=True)
class State:
    """One way to be incomplete: ``fill`` runs next, and none of ``missing`` has run on this row."""

    fill: Fill
    missing: frozenset[Fill]


@dataclass(frozen=True)
class Ghosts:
    """Rows with states: those that a virtual table may still gain, with or without the stored ones (state 0).

    sql: SELECT of columns and the state. states: states[i - 1] describes state i.
    unknown: lower-case column -> the states in which it is NULL because a fill has not run.
    """

    sql: str
    states: tuple[State, ...]
    unknown: Mapping[str, frozenset[int]]


@dataclass(frozen=True)
class Unknown:
    """One source of unknown values in a relation, with the fills that would resolve it.

    marker: column that holds the state of each row (0: known; -1: nothing to ask yet). states: as in `Ghosts`.
    keys: key columns carried under private names, aligned with ``fill.keys`` of the deepest fill.
    """

    marker: str
    fill: Fill
    keys: tuple[str, ...]
    states: tuple[State, ...]

    def complete(self, fill: Fill) -> list[int]:
        """Return the states in which this fill, own or ancestor, has run."""
        return [0] + [n for n, s in enumerate(self.states, 1) if fill not in s.missing]


@dataclass(frozen=True)
class Possible:
    """Possible rows of one relation.

    sql: SELECT of the visible columns, then hidden virtual columns, then private ones. columns: names in that order.
    unknown: lower-case column -> condition on a private column, with ``{}`` for the alias; absent if always known;
    None if its value is not computed here. sources: what may be missing.
    """

    sql: str
    columns: tuple[str, ...]
    unknown: Mapping[str, str | None]
    sources: tuple[Unknown, ...]


def matches(left: str, right: str, keys: Sequence[str], null_safe: bool = False) -> str:
    """Return the condition that two aliases agree on key columns."""
    op = "IS NOT DISTINCT FROM" if null_safe else "="
    return " AND ".join(f"{left}.{quote(k)} {op} {right}.{quote(k)}" for k in keys) or "TRUE"


def missing_items(fill: Fill, relations: Relations) -> str:
    """Return a SELECT of the keys of all items that could run now: parents known, not in the ledger."""
    keys = ", ".join(f"{alias}.{quote(k)} AS {quote(k)}" for k, alias in _owners(fill, relations).items())
    distinct = "" if is_row_each(fill, relations) else "DISTINCT "
    return (
        f"SELECT {distinct}{keys} FROM {_items(fill, relations)} "
        f"ANTI JOIN {fill.ledger} l ON {_ledger_match(fill, relations)}"
    )


def ghosts(fill: Fill, relations: Relations) -> Ghosts:
    """Return the rows that a virtual table filled by ``fill`` may still gain."""
    parents = parents_of(fill, relations)
    if len(parents) == 2:
        return _pair_ghosts(fill, relations, parents[0], parents[1])
    (parent,) = parents
    if key_extensions(fill, parent):
        raise LookupError(f"{fill.id}: rows keyed by virtual columns of {parent.name} can't be told in advance")
    keys = [quote(k) for k in fill.keys]
    ready = (
        f"SELECT {', '.join(f'a.{k} AS {k}' for k in keys)}, 1 AS {STATE} FROM {parent.base} a "
        f"ANTI JOIN {fill.ledger} l ON {matches('a', 'l', fill.keys, fill.null_safe)}"
    )
    own = State(fill, frozenset({fill}))
    if parent.fill is None:
        return Ghosts(ready, (own,), {})
    above = ghosts(parent.fill, relations)
    inherited = {k.lower() for k in parent.fill.keys}
    selected = ", ".join(f"{quote(k)}" if k.lower() in inherited else f"NULL AS {quote(k)}" for k in fill.keys)
    states = (own, *(State(s.fill, s.missing | {fill}) for s in above.states))
    later = frozenset(range(2, len(states) + 1))
    unknown = {}
    for key in fill.keys:
        where = later if key.lower() not in inherited else {n + 1 for n in above.unknown.get(key.lower(), ())}
        if where:
            unknown[key.lower()] = frozenset(where)
    return Ghosts(f"{ready} UNION ALL SELECT {selected}, {STATE} + 1 FROM ({above.sql})", states, unknown)


def _pair_ghosts(fill: Fill, relations: Relations, left: Relation, right: Relation) -> Ghosts:
    """Ghosts of a model over pairs: possible rows of one side with possible rows of the other.

    State ``1 + a * (states of the right side + 1) + b`` stands for state a on the left and state b on the right.
    """
    sides = [_rows(r, relations) for r in (left, right)]
    states_a, states_b = (side.states for side in sides)
    step = len(states_b) + 1
    marks = [f"{alias}.{STATE}" if side.states else "0" for alias, side in zip("ab", sides, strict=True)]
    owners = _owners(fill, relations)
    states = []
    unknown: dict[str, set[int]] = {}
    for a in range(len(states_a) + 1):
        for b in range(step):
            above = ([states_a[a - 1]] if a else []) + ([states_b[b - 1]] if b else [])
            missing = frozenset({fill}).union(*(s.missing for s in above))
            states.append(State(above[0].fill if above else fill, missing))
            for key, owner in owners.items():
                side, n = (sides[0], a) if owner == "a" else (sides[1], b)
                if n in side.unknown.get(key.lower(), ()):
                    unknown.setdefault(key.lower(), set()).add(len(states))
    links = []
    for key in _shared(fill, left, right):
        doubts = [
            f"{mark} IN ({_listed(side.unknown[key.lower()])})"
            for mark, side in zip(marks, sides, strict=True)
            if key.lower() in side.unknown
        ]
        links.append(f"({' OR '.join([matches('a', 'b', [key]), *doubts])})")
    known = " AND ".join(f"{m} = 0" for m in marks if m != "0") or "TRUE"
    sql = (
        f"SELECT {', '.join(f'{alias}.{quote(k)} AS {quote(k)}' for k, alias in owners.items())}, "
        f"1 + {marks[0]} * {step} + {marks[1]} AS {STATE} "
        f"FROM (({sides[0].sql}) a JOIN ({sides[1].sql}) b ON {' AND '.join(links) or 'TRUE'}) "
        f"ANTI JOIN {fill.ledger} l ON {_ledger_match(fill, relations)} AND {known}"
    )
    return Ghosts(sql, tuple(states), {k: frozenset(v) for k, v in unknown.items()})


def _rows(relation: Relation, relations: Relations) -> Ghosts:
    """Stored rows and ghosts of a relation, without its virtual columns and, if it has a fill, with private keys."""
    virtual = {c.lower() for e in relation.extensions for c in e.columns}
    stored = [c for c in relation.columns if c.lower() not in virtual]
    body = f"SELECT {', '.join(quote(c) for c in stored)}"
    if relation.fill is None:
        return Ghosts(f"{body} FROM {relation.base}", (), {})
    gone = ghosts(relation.fill, relations)
    names = {k.lower() for k in relation.fill.keys}
    carried = ", ".join(f"{quote(k)} AS __k{n}" for n, k in enumerate(relation.fill.keys))
    missing = ", ".join(quote(c) if c.lower() in names else "NULL" for c in stored)
    sql = (
        f"{body}, {carried}, 0 AS {STATE} FROM {relation.base} UNION ALL "
        f"SELECT {missing}, {', '.join(quote(k) for k in relation.fill.keys)}, {STATE} FROM ({gone.sql})"
    )
    every = frozenset(range(1, len(gone.states) + 1))
    unknown = {
        c.lower(): where
        for c in stored
        if (where := gone.unknown.get(c.lower(), frozenset()) if c.lower() in names else every)
    }
    return Ghosts(sql, gone.states, unknown)


def _when(states: frozenset[int], total: int) -> str:
    """Return the condition, with ``{}`` for the alias, that a row is in one of these states."""
    if states == frozenset(range(min(states), total + 1)):
        return f"{{}}.{STATE} >= {min(states)}"
    return f"{{}}.{STATE} IN ({_listed(states)})"


def _listed(states: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(states)))


def _shared(fill: Fill, left: Relation, right: Relation) -> list[str]:
    names = {c.lower() for c in left.columns} & {c.lower() for c in right.columns}
    return [k for k in fill.keys if k.lower() in names]


def _owners(fill: Fill, relations: Relations) -> dict[str, str]:
    """Key -> alias (a or b) of the parent that has it."""
    parents = parents_of(fill, relations)
    first = {c.lower() for c in parents[0].columns}
    return {k: "a" if len(parents) == 1 or k.lower() in first else "b" for k in fill.keys}


def _items(fill: Fill, relations: Relations) -> str:
    """FROM text of the items whose parents are known."""
    parents = parents_of(fill, relations)
    known = [_known(fill, p, relations) for p in parents]
    if len(parents) == 1:
        return f"{known[0]} a"
    return f"({known[0]} a JOIN {known[1]} b ON {matches('a', 'b', _shared(fill, *parents))})"


def _known(fill: Fill, parent: Relation, relations: Relations) -> str:
    """Rows of a parent; of those, if virtual columns are keys of the fill, the ones where these are known."""
    extensions = with_keys(key_extensions(fill, parent), parent)
    if not extensions:
        return parent.base
    rows = possible(parent, extensions, relations)
    return f"(SELECT * FROM ({rows.sql}) WHERE {' AND '.join(f'{s.marker} = 0' for s in rows.sources)})"


def _ledger_match(fill: Fill, relations: Relations) -> str:
    op = "IS NOT DISTINCT FROM" if fill.null_safe else "="
    return " AND ".join(f"{a}.{quote(k)} {op} l.{quote(k)}" for k, a in _owners(fill, relations).items())


def possible(relation: Relation, extensions: Sequence[Extension], relations: Relations) -> Possible:
    """Return the possible rows of a relation, with the values of the virtual columns that are asked for.

    extensions: the virtual columns, in the order of `names.with_keys`. Others are there as NULL, so that names
    resolve, and are reported as not computed.
    """
    rows = _rows(relation, relations)
    virtual = {c.lower() for e in relation.extensions for c in e.columns}
    unknown: dict[str, str | None] = dict.fromkeys(virtual)
    unknown.update({c: _when(where, len(rows.states)) for c, where in rows.unknown.items()})
    body = rows.sql
    sources = []
    private: list[str] = []
    if relation.fill is not None:
        carried = tuple(f"__k{n}" for n in range(len(relation.fill.keys)))
        private = [*carried, STATE]
        sources.append(Unknown(STATE, relation.fill, carried, rows.states))
    if not extensions and not virtual:
        return Possible(body, relation.columns, unknown, tuple(sources))
    values = {c.lower(): "NULL" for c in virtual}
    joins = ""
    states: dict[Fill, str] = {}
    for n, extension in enumerate(extensions):
        fill = extension.fill
        keys = {k: values[k.lower()] if k.lower() in virtual else f"r.{quote(k)}" for k in fill.keys}
        for column, output in extension.columns.items():
            values[column.lower()] = f"e{n}.{quote(output)}"
            unknown[column.lower()] = f"{{}}.__x{n} <> 0"
        op = "IS NOT DISTINCT FROM" if fill.null_safe else "="
        on_row, on_done = (
            " AND ".join(f"{k} {op} {alias}.{quote(name)}" for name, k in keys.items()) for alias in (f"e{n}", f"l{n}")
        )
        joins += (
            f" LEFT JOIN {fill.rows} e{n} ON {on_row}"
            f" LEFT JOIN (SELECT {', '.join(map(quote, fill.keys))}, TRUE AS __done FROM {fill.ledger}) l{n} ON {on_done}"
        )
        waits = [f"r.{STATE} > 0"] if relation.fill is not None else []
        waits += [f"{states[e.fill]} <> 0" for e in key_extensions(fill, relation)]
        ghost = f"WHEN {' OR '.join(waits)} THEN -1 " if waits else ""
        states[fill] = f"(CASE {ghost}WHEN l{n}.__done THEN 0 ELSE 1 END)"
        private += [f"{k} AS __e{n}_{i}" for i, k in enumerate(keys.values())]
        private.append(f"{states[fill]} AS __x{n}")
        carried = tuple(f"__e{n}_{i}" for i in range(len(fill.keys)))
        sources.append(Unknown(f"__x{n}", fill, carried, (State(fill, frozenset({fill})),)))
    hidden = [
        c for e in relation.extensions for c in e.columns if c.lower() not in {x.lower() for x in relation.columns}
    ]
    columns = (*relation.columns, *hidden)
    shown = [f"{values[c.lower()]} AS {quote(c)}" if c.lower() in values else f"r.{quote(c)}" for c in columns]
    return Possible(f"SELECT {', '.join([*shown, *private])} FROM ({body}) r{joins}", columns, unknown, tuple(sources))
