"""Random statements whose FROM items are mostly tied by the key, in every way that SQL has, and sometimes not quite.

`worlds` are small databases for them: pictures with boxes, clips with a key of two columns and odd names, and a plain table
with virtual columns whose inputs may be NULL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from tests.plan.harness import Spec, World
from tests.plan.worlds import VIEWS, street

Item = tuple[str, list[str]]
"""An alias and its columns, spelled as SQL needs them."""


@dataclass(frozen=True)
class Names:
    """What statements may name. key: of the unit. tables: with their columns. plain: those that no model fills."""

    key: tuple[str, ...]
    tables: Mapping[str, Sequence[str]]
    plain: frozenset[str] = frozenset()


FRAMES = Names(
    ("frame_id",),
    {
        "frames": ["frame_id", "cam", "ts", "dark"],
        "box": ["frame_id", "box_id", "x", "cls", "hue"],
        "color": ["frame_id", "box_id", "color", "x"],
        "shade": ["frame_id", "box_id", "shade"],
        "mood": ["frame_id", "mood", "n"],
        "near": ["frame_id", "box_id", "near_id", "n"],
        "vbox": ["frame_id", "box_id", "x", "cls", "hue", "cam"],
        "vagg": ["frame_id", "n"],
        "vu": ["frame_id", "x"],
        "vcam": ["frame_id", "cam"],
        "notes": ["frame_id", "cls", "w"],
        "cams": ["cam", "w"],
    },
    frozenset({"notes", "cams", "vcam"}),
)
REVIEWS = Names(
    ("body",),
    {
        "reviews": ["rid", "body", "stars", "tone", "lang", "echo"],
        "vrev": ["rid", "body", "stars", "tone", "lang", "echo"],
        "notes": ["frame_id", "cls", "w"],
    },
    frozenset({"notes"}),
)
CLIPS = Names(
    ('"cam no"', '"Zeit"'),
    {
        "clips": ['"cam no"', '"Zeit"', "note", "bright"],
        '"spot é"': ['"cam no"', '"Zeit"', '"spot é_id"', "x", "cls"],
        "tint": ['"cam no"', '"Zeit"', '"spot é_id"', "tint", "x"],
        "pace": ['"cam no"', '"Zeit"', "speed"],
        "cams": ["cam", "w"],
    },
    frozenset({"cams"}),
)


def worlds(rng: Random) -> list[tuple[World, Names]]:
    """Databases and what to name in them; some names belong to one database."""
    spec = street(rng)
    for name in ("vbox", "vagg", "vu", "vrev"):
        spec.views[name] = VIEWS[name]
    spec.views["vcam"] = "SELECT frame_id, cam FROM frames WHERE cam > 0"
    _stored(spec, rng)
    world = _world(spec, {"reviews": ()})
    return [(world, FRAMES), (world, REVIEWS), (_world(_clips(rng), {"clips": ("cam no", "Zeit")}), CLIPS)]


def _stored(spec: Spec, rng: Random) -> None:
    spec.store("notes", "frame_id cls w", [(rng.choice([None, 0, 1, 2, 9]), rng.randint(0, 3), n) for n in range(5)])
    spec.store("cams", "cam w", [(c, rng.randint(0, 3)) for c in (None, 0, 1, 2, 3)])


def _world(spec: Spec, keys: Mapping[str, tuple[str, ...]]) -> World:
    world = World(spec)
    plain = {"notes": (), "cams": (), **keys}
    tables = {n: replace(r, key=plain.get(n, r.key)) if n in plain else r for n, r in world.relations.tables.items()}
    world.relations = replace(world.relations, tables=tables)
    return world


def _clips(rng: Random) -> Spec:
    def value() -> int | None:
        return rng.choice([None, 0, 1, 2, 3, 4])

    spec = Spec()
    clips = [(c, t, value()) for c in range(3) for t in range(rng.randint(0, 3))]
    spec.stored["clips"], spec.rows["clips"] = ["cam no", "Zeit", "note"], clips
    keys = ("cam no", "Zeit")
    spots = [(*c[:2], j, value(), value()) for c in clips for j in range(rng.choice([0, 1, 2]))]

    def fill(name: str, parent: str, own: tuple[str, ...], outputs: str, rows: list, many: bool = False):
        made = spec.fill(name, "p", "k", outputs, rows, ordinal=f"{name}_id" if many else None)
        made = replace(made, parents=(parent,), keys=own)
        return replace(made, ledger=f'"aidb_internal"."ledger_{name}"', rows=f'"aidb_internal"."rows_{name}"')

    spec.tables["spot é"] = fill("spot é", "clips", keys, "x cls", spots, many=True)
    tints = [(*s[:3], value(), value()) for s in spots]
    spec.tables["tint"] = fill("tint", "spot é", (*keys, "spot é_id"), "tint x", tints)
    spec.tables["pace"] = fill("pace", "clips", keys, "speed", [(*c[:2], value()) for c in clips])
    bright = fill("clips_bright", "clips", keys, "out_bright", [(*c[:2], value()) for c in clips])
    spec.extensions.append(("clips", bright, {"bright": "out_bright"}))
    _stored(spec, rng)
    return spec


class TiedGenerator:
    """Makes one statement over some names."""

    def __init__(self, rng: Random, names: Names) -> None:
        self.rng, self.names = rng, names
        self.count = 0
        self.ctes: dict[str, list[str]] = {}
        self.bare: set[str] = set()
        self.pending: list[str] = []

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def alias(self) -> str:
        self.count += 1
        return self.rng.choice([f"t{self.count}", f"T{self.count}", f'"q é{self.count}"'])

    # ---- expressions

    def column(self, env: list[Item]) -> str:
        alias, columns = self.rng.choice(env)
        name = self.rng.choice(columns)
        alone = sum(name.lower() in map(str.lower, cs) for _, cs in env) == 1
        if alone and self.chance(0.3):
            return name
        plain = name.isidentifier() and name.isascii()
        return f"{alias}.{name.upper() if plain and self.chance(0.1) else name}"

    def scalar(self, env: list[Item], depth: int) -> str:
        column = self.column(env)
        roll = self.rng.random()
        if roll < 0.7:
            return column
        if roll < 0.78:
            return f"{column} + 1"
        if roll < 0.84:
            return f"coalesce({column}, {self.column(env)})"
        if depth > 0 and roll < 0.95:
            return f"({self.nested(env, depth - 1, 'scalar')})"
        return f"CASE WHEN {self.predicate(env, 0)} THEN 1 ELSE {column} END"

    def predicate(self, env: list[Item], depth: int) -> str:
        rng, roll = self.rng, self.rng.random()
        if depth > 0 and roll < 0.12:
            return f"({self.predicate(env, depth - 1)} {rng.choice(['AND', 'OR'])} {self.predicate(env, depth - 1)})"
        if depth > 0 and roll < 0.18:
            return f"NOT ({self.predicate(env, depth - 1)})"
        if depth > 0 and roll < 0.32:
            return f"{rng.choice(['', '', 'NOT '])}EXISTS ({self.nested(env, depth - 1, 'exists')})"
        if depth > 0 and roll < 0.44:
            return self.member(env, depth - 1)
        if roll < 0.52:
            return f"{self.column(env)} IS {rng.choice(['', 'NOT '])}NULL"
        if roll < 0.6:
            return f"{self.column(env)} IN ({rng.randint(0, 4)}, {rng.choice(['NULL', '1'])})"
        return f"{self.scalar(env, depth)} {rng.choice(['=', '<', '>', '<=', '<>', 'IS DISTINCT FROM'])} {rng.randint(0, 4)}"

    def keyed(self, env: list[Item]) -> list[Item]:
        return [e for e in env if all(k in e[1] for k in self.names.key)]

    def tie(self, one: str, other: str, exact: float = 0.94) -> str:
        """The condition that two items belong to one unit, or nearly that."""
        keys = list(self.names.key)
        if not self.chance(exact):
            keys = keys[:-1] or keys
            sign = self.rng.choice(["<", "<>", "IS NOT DISTINCT FROM"])
        else:
            sign = "=" if self.chance(0.95) else "IS NOT DISTINCT FROM"
        parts = [
            f"{a}.{k} {sign} {b}.{k}" for k in keys for a, b in [(one, other) if self.chance(0.5) else (other, one)]
        ]
        return " AND ".join(parts)

    def member(self, env: list[Item], depth: int) -> str:
        text, columns = self.select(depth, env, wanted="key")
        holders = self.keyed(env)
        chosen = self.rng.choice(["IN", "IN", "NOT IN", "= ANY"])
        keys = self.names.key
        if not holders or self.chance(0.1) or (chosen == "= ANY" and len(keys) > 1):
            return f"{self.column(env)} {chosen} (SELECT {columns[0]} FROM ({text}) z)"
        alias = self.rng.choice(holders)[0]
        value = ", ".join(f"{alias}.{k}" for k in keys)
        if len(keys) == 1 and self.chance(0.1):
            return f"({value}, {self.column(env)}) {chosen.replace('= ANY', 'IN')} (SELECT {columns[0]}, 1 FROM ({text}) z)"
        return f"{value if len(keys) == 1 else f'({value})'} {chosen} ({text})"

    def nested(self, env: list[Item], depth: int, kind: str) -> str:
        """A subquery that is correlated by the key, most of the time."""
        source, inner = self.from_clause(depth)
        parts = [self.predicate(inner + env, depth)] if self.chance(0.6) else []
        holders, own = self.keyed(env), self.keyed(inner)
        if holders and own and self.chance(0.9):
            parts.insert(0, self.tie(self.rng.choice(own)[0], self.rng.choice(holders)[0]))
        where = f" WHERE {' AND '.join(parts)}" if parts else ""
        if kind == "exists":
            return f"SELECT {self.rng.choice(['1', '*'])} FROM {source}{where}"
        picked = self.rng.choice(["count(*)", f"max({self.column(inner)})", f"sum({self.column(inner)})"])
        return f"SELECT {picked} FROM {source}{where}"

    # ---- FROM

    def source(self, depth: int) -> tuple[str, Item]:
        alias, roll = self.alias(), self.rng.random()
        if depth > 0 and roll < 0.2:
            text, columns = self.query(depth - 1)
            if self.chance(0.1):
                renamed = [f"r{n}" for n in range(len(columns))]
                return f"({text}) AS {alias}({', '.join(renamed)})", (alias, renamed)
            return f"({text}) AS {alias}", (alias, columns)
        if self.ctes and roll < 0.4:
            name = self.rng.choice(list(self.ctes))
            return f"{name} {alias}", (alias, self.ctes[name])
        name = self.rng.choice(list(self.names.tables))
        columns = list(self.names.tables[name])
        if self.chance(0.04):
            return f"{name} AS {alias}(k1)", (alias, ["k1", *columns[1:]])
        if self.chance(0.06) and name not in self.bare:
            self.bare.add(name)
            return name, (name, columns)
        return f"{name} AS {alias}", (alias, columns)

    def from_clause(self, depth: int) -> tuple[str, list[Item]]:
        text, first = self.source(depth)
        env, self.pending = [first], []
        for _ in range(self.rng.choice([0, 0, 1, 1, 1, 2, 3] if depth > 0 else [0, 0, 1])):
            more, items = self.join(depth, env)
            text, env = text + more, env + items
        return text, env

    def join(self, depth: int, env: list[Item]) -> tuple[str, list[Item]]:
        rng, keys = self.rng, self.names.key
        if depth > 0 and self.keyed(env) and self.chance(0.08):
            alias = self.alias()
            inner = self.nested(env, depth - 1, "scalar")
            return f"{rng.choice([', LATERAL', ', '])} ({inner}) {alias}(v)", [(alias, ["v"])]
        if depth > 0 and self.chance(0.06):
            (one, first), (two, second) = self.source(0), self.source(0)
            on = self.tie(first[0], second[0]) if self.keyed([first]) and self.keyed([second]) else "true"
            inside = f"({one} {rng.choice(['', 'LEFT ', 'FULL '])}JOIN {two} ON {on})"
            return f" {rng.choice(['', 'LEFT ', 'RIGHT '])}JOIN {inside} ON {self.on(env, first)}", [first, second]
        text, new = self.source(depth - 1)
        kind = rng.choice(["", "", "", "INNER ", "LEFT ", "LEFT ", "RIGHT ", "FULL ", "SEMI ", "ANTI "])
        shown = [] if kind in ("SEMI ", "ANTI ") else [new]
        both = self.keyed(env) and self.keyed([new])
        unique = all(sum(k in cs for _, cs in env) == 1 for k in keys)
        roll = rng.random()
        if both and unique and roll < 0.25:
            return f" {kind}JOIN {text} USING ({', '.join(keys)})", shown
        if roll < 0.3:
            return f" NATURAL {rng.choice(['', 'LEFT ', 'FULL '])}JOIN {text}", [new]
        if roll < 0.34 and both:
            near = f"{env[0][0]}.{rng.choice(env[0][1])} >= {new[0]}.{rng.choice(new[1])}"
            return f" ASOF {rng.choice(['', 'LEFT '])}JOIN {text} ON {self.tie(env[0][0], new[0])} AND {near}", [new]
        if roll < 0.45:
            if both:
                self.pending.append(self.tie(rng.choice(self.keyed(env))[0], new[0]))
            return f", {text}", [new]
        return f" {kind}JOIN {text} ON {self.on(env, new)}", shown

    def on(self, env: list[Item], new: Item) -> str:
        holders = self.keyed(env)
        parts = [self.tie(self.rng.choice(holders)[0], new[0])] if holders and self.keyed([new]) else []
        if not parts or self.chance(0.2):
            parts.append(self.predicate([*env, new], 1 if self.chance(0.15) else 0))
        self.rng.shuffle(parts)
        return " AND ".join(parts)

    # ---- queries

    def query(self, depth: int) -> tuple[str, list[str]]:
        """A query for FROM, with its columns."""
        if depth > 0 and self.chance(0.15):
            left, columns = self.select(depth - 1, [], wanted="key")
            right, _ = self.select(depth - 1, [], wanted="key")
            sign = self.rng.choice(["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "EXCEPT ALL", "UNION ALL BY NAME"])
            return f"{left} {sign} {right}", columns
        return self.select(depth, [], wanted="key" if self.chance(0.75) else "")

    def select(self, depth: int, outer: list[Item], *, wanted: str = "", top: bool = False) -> tuple[str, list[str]]:
        """One SELECT and the names of its columns. wanted: ``key`` if it should show the key first."""
        saved = dict(self.ctes)
        prefix = self.with_clause(depth) if self.chance(0.3 if top else 0.05) else ""
        source, env = self.from_clause(depth)
        parts = list(self.pending)
        self.pending = []
        if self.chance(0.6):
            parts.append(self.predicate(env + (outer if self.chance(0.3) else []), depth))
        self.rng.shuffle(parts)
        where = f" WHERE {' AND '.join(parts)}" if parts else ""
        holders = self.keyed(env)
        keys: list[str] = []
        if holders and (wanted == "key" or self.chance(0.5)):
            alias = self.rng.choice(holders)[0]
            keys = [f"{alias}.{k}" for k in self.names.key]
        named = list(self.names.key) if keys else []
        distinct, listed, names, tail = self.shape(env, keys, named, depth, wanted)
        self.ctes = saved
        text = f"{prefix}SELECT {distinct}{listed} FROM {source}{where}{tail}"
        return (f"SELECT * FROM ({text})" if prefix and not top else text), names

    def shape(
        self, env: list[Item], keys: list[str], named: list[str], depth: int, wanted: str
    ) -> tuple[str, str, list[str], str]:
        """DISTINCT, the SELECT list, its names, and what stands behind WHERE."""
        rng, roll = self.rng, self.rng.random()
        width = 0 if wanted == "key" and keys and self.chance(0.4) else rng.randint(1, 2)
        names = [self.name(n, env) for n in range(width)]
        if roll < 0.2:
            aggregates = [self.aggregate(env) for _ in range(max(1, width))]
            names = [f"o{n}" for n in range(len(aggregates))]
            groups = list(keys) if keys and self.chance(0.85) else []
            if self.chance(0.3):
                groups.append(self.column(env))
            items = [*groups, *(f"{a} AS {n}" for a, n in zip(aggregates, names, strict=True))]
            having = (
                f" HAVING {rng.choice(['count(*) > 1', f'max({self.column(env)}) > 1'])}" if self.chance(0.3) else ""
            )
            how = rng.choice([", ".join(groups), "ALL", ", ".join(str(n + 1) for n in range(len(groups)))])
            shown = [g.rpartition(".")[2] for g in groups]
            return "", ", ".join(items), [*shown, *names], f" GROUP BY {how}{having}" if groups else having
        picked = [f"{self.scalar(env, depth - 1)} AS {n}" for n in names]
        if roll < 0.26 and not keys and self.chance(0.5):
            return "", "*", [c for _, cs in env for c in cs], ""
        tail = ""
        if roll < 0.34 and picked:
            over = ", ".join(keys) if keys and self.chance(0.8) else self.column(env)
            window = rng.choice([f"count(*) OVER (PARTITION BY {over})", f"sum({self.column(env)}) OVER w"])
            picked[-1] = f"{window} AS {names[-1]}"
            tail = f" WINDOW w AS (PARTITION BY {over})" if window.endswith("w") else ""
            tail += f" QUALIFY count(*) OVER (PARTITION BY {over}) > 1" if self.chance(0.3) and not tail else ""
        if not keys and not picked:
            picked, names = [f"{self.column(env)} AS o0"], ["o0"]
        distinct = "DISTINCT " if self.chance(0.15) else ""
        if distinct and self.chance(0.2):
            on = keys if keys and self.chance(0.6) else [self.column(env)]
            distinct = f"DISTINCT ON ({', '.join(on)}) "
        items = [*keys, *picked]
        shown = [*named, *names]
        if wanted != "key" and self.chance(0.3):
            order = list(range(len(items)))
            rng.shuffle(order)
            items, shown = [items[n] for n in order], [shown[n] for n in order]
        return distinct, ", ".join(items), shown, tail

    def name(self, n: int, env: list[Item]) -> str:
        """A name for a column; sometimes that of another one."""
        if self.chance(0.12):
            return self.rng.choice(self.rng.choice(env)[1])
        return f"o{n}"

    def aggregate(self, env: list[Item]) -> str:
        column = self.column(env)
        return self.rng.choice(["count(*)", f"sum({column})", f"max({column})", f"count(DISTINCT {column})"])

    def with_clause(self, depth: int) -> str:
        texts = []
        for name in self.rng.choice([["c1"], ["c1"], ["c1", "c2"], [self.rng.choice(list(self.names.tables))]]):
            text, columns = self.query(depth - 1 if depth > 0 else 0)
            kept = self.rng.choice(["", "", "MATERIALIZED ", "NOT MATERIALIZED "])
            texts.append(f"{name} AS {kept}({text})")
            self.ctes[name] = columns
        return f"WITH {', '.join(texts)} "

    # ---- statements

    def statement(self) -> str:
        depth = self.rng.choice([0, 1, 1, 2])
        roll = self.rng.random()
        if roll < 0.25:
            return self.totals(depth)
        if roll < 0.35:
            (left, _), (right, _) = self.select(depth, [], wanted="key"), self.select(depth, [], wanted="key")
            return f"{left} {self.rng.choice(['UNION ALL', 'UNION'])} {right}"
        text, names = self.select(depth, [], top=True)
        if self.chance(0.15):
            text += f" ORDER BY {self.rng.randint(1, max(1, len(names)))}"
        return text

    def totals(self, depth: int) -> str:
        """COUNT, SUM and AVG by group, as ERROR TARGET takes them."""
        prefix = self.with_clause(depth) if self.chance(0.2) else ""
        source, env = self.from_clause(depth)
        parts = list(self.pending)
        if self.chance(0.6):
            parts.append(self.predicate(env, depth))
        where = f" WHERE {' AND '.join(parts)}" if parts else ""
        column = self.column(env)
        kinds = ["count(*)", f"count({column})", f"sum({column})", f"avg({column})", f"AVG({column} + 1)"]
        kinds += [f"count(*) FILTER ({column} > 1)", f"sum({column}) FILTER (WHERE {self.column(env)} > 1)"]
        picked = [self.rng.choice(kinds) for _ in range(self.rng.randint(1, 3))]
        picked = [f"{p} AS s{n}" if self.chance(0.3) else p for n, p in enumerate(picked)]
        groups = [self.column(env) for _ in range(self.rng.choice([0, 0, 1, 1, 2]))]
        named = [f"{g} AS g{n}" if self.chance(0.3) else g for n, g in enumerate(groups)]
        how = self.rng.choice([", ".join(groups), "ALL", ", ".join(str(n + 1) for n in range(len(groups)))])
        tail = f" GROUP BY {how}" if groups else ""
        if groups and self.chance(0.2):
            tail += f" ORDER BY {self.rng.choice([groups[0], picked[0].partition(' AS ')[0], '1 DESC', 'ALL'])}"
        return f"{prefix}SELECT {', '.join([*named, *picked])} FROM {source}{where}{tail}"
