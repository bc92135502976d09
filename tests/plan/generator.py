"""Random DuckDB statements over `worlds.street`: every construct that the planner has a rule for, and their mixtures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from tests.plan.worlds import COLUMNS

Item = tuple[str, list[str]]
"""An alias and its columns."""

SOURCES = [*COLUMNS, "frames", "box", "box", "color", "mood", "reviews"]


@dataclass
class Statement:
    """A statement to be checked.

    sql: the text. parameters: for the text. mode: ``rows`` (equal multisets), ``limit`` (any rows of the full answer),
    ``sorted`` (the first rows by the last ``keys`` columns). full: without LIMIT and OFFSET, for the last two.
    """

    sql: str
    parameters: object = None
    mode: str = "rows"
    full: str = ""
    keys: int = 0
    limit: int = 0
    offset: int = 0


class Generator:
    """Makes one statement."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.count = 0
        self.ctes: dict[str, list[str]] = {}
        self.values: dict[str, object] = {}

    # Small parts

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def alias(self) -> str:
        self.count += 1
        return f"{self.rng.choice(['a', 'b', 'T'])}{self.count}"

    def spelled(self, name: str) -> str:
        return self.rng.choice([name, name, name.upper(), name.capitalize(), f'"{name}"'])

    def number(self, low: int = 0, high: int = 4) -> str:
        value = self.rng.randint(low, high)
        if self.chance(0.04):
            name = f"p{len(self.values)}"
            self.values[name] = value
            return f"${name}"
        return str(value)

    def column(self, env: list[Item]) -> str:
        alias, columns = self.rng.choice(env)
        name = self.rng.choice(columns)
        unique = sum(name.lower() in map(str.lower, cs) for _, cs in env) == 1
        if unique and self.chance(0.25):
            return self.spelled(name)
        return f"{self.spelled(alias)}.{self.spelled(name)}"

    # Expressions

    def scalar(self, env: list[Item], depth: int) -> str:
        column = self.column(env)
        if self.chance(0.7):
            return column
        kinds = ["plus", "coalesce", "case", "function", "cast"] + (["query", "query"] if depth > 0 else [])
        match self.rng.choice(kinds):
            case "plus":
                return f"{column} {self.rng.choice(['+', '-', '*'])} {self.number(1, 2)}"
            case "coalesce":
                return f"coalesce({column}, {self.number()})"
            case "case":
                return f"CASE WHEN {self.predicate(env, 0)} THEN {self.number()} ELSE {column} END"
            case "function":
                return self.rng.choice(
                    [
                        f"abs({column})",
                        f"greatest({column}, {self.column(env)})",
                        f"list_sum([{column}, 1])",
                        f"len(list_filter([{column}, 2], lambda q: q > 1))",
                        f"struct_extract({{'k': {column}}}, 'k')",
                        f"nullif({column}, {self.number()})",
                        f"if({column} > 1, 1, {self.column(env)})",
                    ]
                )
            case "cast":
                return f"{column}::VARCHAR::INTEGER"
            case _:
                return f"({self.block(depth - 1, env, aggregate=True)[0]})"

    def predicate(self, env: list[Item], depth: int) -> str:
        rng = self.rng
        roll = rng.random()
        if depth > 0 and roll < 0.18:
            return f"({self.predicate(env, depth - 1)} {rng.choice(['AND', 'OR'])} {self.predicate(env, depth - 1)})"
        if depth > 0 and roll < 0.25:
            return f"NOT ({self.predicate(env, depth - 1)})"
        if depth > 0 and roll < 0.35:
            return f"{rng.choice(['', 'NOT '])}EXISTS ({self.query(depth - 1, env)[0]})"
        if depth > 0 and roll < 0.45:
            return f"{self.column(env)} {rng.choice(['', 'NOT '])}IN ({self.query(depth - 1, env, width=1)[0]})"
        if depth > 0 and roll < 0.48:
            compare = rng.choice(["= ANY", "< ALL", "> ALL", "<> ANY"])
            return f"{self.column(env)} {compare} ({self.query(depth - 1, env, width=1)[0]})"
        if roll < 0.53:
            return f"{self.column(env)} IS {rng.choice(['', 'NOT '])}NULL"
        if roll < 0.57:
            return f"({self.predicate(env, 0)}) IS {rng.choice(['NULL', 'TRUE', 'NOT TRUE', 'NOT NULL', 'FALSE'])}"
        if roll < 0.63:
            return (
                f"{self.column(env)} {rng.choice(['', 'NOT '])}IN ({self.number()}, {rng.choice(['NULL', '1', '2'])})"
            )
        if roll < 0.68:
            bounds = f"{self.number(0, 2)} AND {self.number(1, 4)}"
            return f"{self.column(env)} {rng.choice(['', 'NOT '])}BETWEEN {bounds}"
        if roll < 0.71:
            return f"{self.column(env)}::VARCHAR LIKE '{rng.choice(['%1%', '2', '_'])}'"
        if roll < 0.74:
            return f"CASE WHEN {self.column(env)} > 1 THEN {self.predicate(env, 0)} ELSE {self.column(env)} = 1 END"
        if roll < 0.88:
            compare = rng.choice(["=", "<", ">", "<=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
            return f"{self.scalar(env, depth)} {compare} {self.number()}"
        return f"{self.scalar(env, depth)} {rng.choice(['=', '<', '>=', '='])} {self.scalar(env, depth)}"

    # FROM

    def source(self, depth: int) -> tuple[str, Item]:
        alias = self.alias()
        roll = self.rng.random()
        if depth > 0 and roll < 0.18:
            text, columns = self.query(depth - 1, [], named=True)
            if self.chance(0.1):
                renamed = [f"r{n}" for n in range(len(columns))]
                return f"({text}) AS {alias}({', '.join(renamed)})", (alias, renamed)
            return f"({text}) AS {alias}", (alias, columns)
        if depth > 0 and roll < 0.2:
            return self.pivot(depth, alias)
        if self.ctes and roll < 0.35:
            name = self.rng.choice(list(self.ctes))
            return f"{name} {alias}", (alias, self.ctes[name])
        if roll < 0.38:
            return f"range({self.rng.randint(1, 4)}) {alias}(i)", (alias, ["i"])
        if roll < 0.41:
            return f"(VALUES (1, 2), (3, NULL)) {alias}(p, q)", (alias, ["p", "q"])
        name = self.rng.choice(SOURCES)
        if self.chance(0.04):
            return f"{name} AS {alias}(k1, k2)", (alias, ["k1", "k2", *COLUMNS[name][2:]])
        if self.chance(0.03):
            return f"(SELECT * FROM {name}) {alias}", (alias, COLUMNS[name])
        schema = "main." if self.chance(0) else ""
        return f"{schema}{self.spelled(name)} {self.rng.choice(['', 'AS '])}{alias}", (alias, COLUMNS[name])

    def pivot(self, depth: int, alias: str) -> tuple[str, Item]:
        text, columns = self.block(depth - 1, [], width=3)
        if self.chance(0.5):
            on, value, rest = columns[0], columns[1], columns[2]
            pivoted = f"PIVOT ({text}) ON {on} IN (0, 1, 2) USING sum({value}) GROUP BY {rest}"
            return f"({pivoted}) {alias}", (alias, [rest])
        casts = ", ".join(columns[1:])
        return f"(UNPIVOT ({text}) ON {casts} INTO NAME nm VALUE vl) {alias}", (alias, [columns[0], "vl"])

    def condition(self, env: list[Item], new: Item) -> str:
        shared = [(a, c) for a, cs in env for c in cs if c in new[1] and c.endswith("_id")]
        if shared and self.chance(0.8):
            alias, column = self.rng.choice(shared)
            text = f"{alias}.{column} = {new[0]}.{column}"
            return text + (f" AND {self.predicate([*env, new], 0)}" if self.chance(0.3) else "")
        return self.predicate([*env, new], self.rng.choice([0, 0, 1]) if self.chance(0.2) else 0)

    def from_clause(self, depth: int) -> tuple[str, list[Item]]:
        text, first = self.source(depth)
        env = [first]
        for _ in range(self.rng.choice([0, 0, 1, 1, 2, 3] if depth > 0 else [0, 0, 1])):
            more, items = self.join(depth, env)
            text += more
            env += items
        return text, env

    def join(self, depth: int, env: list[Item]) -> tuple[str, list[Item]]:
        rng, roll = self.rng, self.rng.random()
        if depth > 0 and roll < 0.08:
            alias = self.alias()
            query, columns = self.query(depth - 1, env, named=True)
            forms = [f", LATERAL ({query}) {alias}", f", ({query}) {alias}"]
            return rng.choice([*forms, f" LEFT JOIN LATERAL ({query}) {alias} ON true"]), [(alias, columns)]
        text, new = self.source(depth - 1)
        if roll < 0.16:
            return rng.choice([f", {text}", f" CROSS JOIN {text}"]), [new]
        if roll < 0.26:
            return f" {rng.choice(['SEMI', 'ANTI'])} JOIN {text} ON {self.condition(env, new)}", []
        if roll < 0.31:
            shared = [c for c in new[1] if sum(c in cs for _, cs in env) == 1]
            if shared:
                kind = rng.choice(["", "LEFT ", "RIGHT ", "FULL ", "SEMI ", "ANTI "])
                using = f" {kind}JOIN {text} USING ({rng.choice(shared)})"
                return using, [] if kind in ("SEMI ", "ANTI ") else [new]
        if roll < 0.35:
            left, columns = rng.choice(env)
            on = f"{left}.{columns[0]} = {new[0]}.{new[1][0]}"
            nearest = f"{left}.{rng.choice(columns)} {rng.choice(['>=', '<=', '>'])} {new[0]}.{rng.choice(new[1])}"
            return f" ASOF {rng.choice(['', 'LEFT '])}JOIN {text} ON {on} AND {nearest}", [new]
        if depth > 0 and roll < 0.39:
            third, newer = self.source(0)
            inner = f"{text} {rng.choice(['', 'LEFT ', 'RIGHT '])}JOIN {third} ON {self.condition([new], newer)}"
            return f" {rng.choice(['LEFT ', ''])}JOIN ({inner}) ON {self.condition(env, new)}", [new, newer]
        if roll < 0.41:
            return f" NATURAL {rng.choice(['', 'LEFT '])}JOIN {text}", [new]
        if roll < 0.43:
            column = self.column(env)
            alias = self.alias()
            return f", unnest([{column}, {self.number()}]) {alias}(u)", [(alias, ["u"])]
        kind = rng.choice(["", "", "INNER ", "LEFT ", "LEFT ", "RIGHT ", "FULL "])
        return f" {kind}JOIN {text} ON {self.condition(env, new)}", [new]

    # Queries

    def query(self, depth: int, outer: list[Item], *, width: int = 0, named: bool = False) -> tuple[str, list[str]]:
        """A query for a place inside another one; ``width`` columns if given."""
        if depth > 0 and (width or named) and self.chance(0.08):
            operator = self.rng.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL", "INTERSECT ALL"])
            left, names = self.block(depth - 1, outer, width=width or 2)
            right, _ = self.block(depth - 1, outer, width=width or 2)
            tail = f" ORDER BY ALL LIMIT {self.rng.randint(1, 4)}" if self.chance(0.15) else ""
            text = f"({left}) {operator} ({right}){tail}"
            return (f"SELECT * FROM ({text})" if tail else text), names
        return self.block(depth, outer, width=width)

    def with_clause(self, depth: int, share: float) -> str:
        if depth <= 0 or not self.chance(share):
            return ""
        if self.chance(0.15):
            start = self.rng.choice(["frame_id FROM mood WHERE mood > 1", "min(frame_id) FROM box"])
            step = "SELECT r1.k + 1 FROM r1 JOIN box b ON b.frame_id = r1.k WHERE r1.k < 5"
            self.ctes["r1"] = ["k"]
            return f"WITH RECURSIVE r1(k) AS (SELECT {start} UNION {step}) "
        text, columns = self.query(depth - 1, [], named=True)
        name = self.rng.choice(["c1", "c2", "c1", "box"])
        materialized = self.rng.choice(["", "", "MATERIALIZED ", "NOT MATERIALIZED "])
        self.ctes[name] = columns
        return f"WITH {name} AS {materialized}({text}) "

    def block(
        self, depth: int, outer: list[Item], *, width: int = 0, aggregate: bool = False, top: bool = False
    ) -> tuple[str, list[str]]:
        """One SELECT, maybe with CTEs."""
        saved = dict(self.ctes)
        prefix = self.with_clause(depth, 0.3 if top else 0.05)
        source, env = self.from_clause(depth)
        reach = env + (outer if self.chance(0.75) else [])
        where = self.where(depth, env, outer, reach)
        if aggregate:
            picked = self.rng.choice(["count(*)", f"max({self.column(env)})", f"sum({self.column(env)})"])
            self.ctes = saved
            return f"{prefix}SELECT {picked} FROM {source}{where}", ["v"]
        count = width or self.rng.randint(1, 3)
        names = [f"o{n}" for n in range(count)]
        picked = [self.scalar(reach if self.chance(0.3) else env, depth - 1) for _ in names]
        distinct, tail = self.shape(env, picked)
        order = ""
        if self.chance(0.15):
            order = " ORDER BY ALL"
            if self.chance(0.7):
                order += f" LIMIT {self.rng.randint(0, 5)}"
                order += f" OFFSET {self.rng.randint(0, 2)}" if self.chance(0.3) else ""
        elif not tail and not distinct and self.chance(0.05):
            distinct, order = f"DISTINCT ON ({picked[0]}) ", " ORDER BY ALL"
        listed = ", ".join(f"{e} AS {n}" for e, n in zip(picked, names, strict=True))
        self.ctes = saved
        if top and not (tail or distinct or order) and self.chance(0.1):
            return f"{prefix}SELECT * FROM {source}{where}", names
        if not prefix and self.chance(0.04):
            return f"FROM {source} SELECT {distinct}{listed}{where}{tail}{order}", names
        text = f"{prefix}SELECT {distinct}{listed} FROM {source}{where}{tail}{order}"
        return (f"(SELECT * FROM ({text}))" if (order or prefix) and not top else text), names

    def where(self, depth: int, env: list[Item], outer: list[Item], reach: list[Item]) -> str:
        parts = [self.predicate(reach, depth)] if self.chance(0.8) else []
        if self.chance(0.35):
            parts.append(self.predicate(reach, max(0, depth - 1)))
        if outer and self.chance(0.6):
            alias, columns = self.rng.choice(outer)
            shared = [(a, c) for a, cs in env for c in cs if c in columns]
            if shared:
                inner, column = self.rng.choice(shared)
                parts.append(f"{inner}.{column} = {alias}.{column}")
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def shape(self, env: list[Item], picked: list[str]) -> tuple[str, str]:
        """Turn a plain select list into a grouped, aggregated, windowed or distinct one."""
        rng, roll = self.rng, self.rng.random()
        if roll < 0.15:
            keys = [self.column(env) for _ in range(rng.randint(1, 2))]
            picked[0] = keys[0]
            for n in range(1, len(picked)):
                column = self.column(env)
                picked[n] = rng.choice(
                    [
                        "count(*)",
                        f"sum({column})",
                        f"max({column})",
                        f"count(DISTINCT {column})",
                        f"bool_or({column} > 1)::INT",
                    ]
                )
            listed = ", ".join(keys)
            group = rng.choice([listed, listed, listed, f"ROLLUP ({listed})", f"GROUPING SETS (({keys[0]}), ())"])
            if len(picked) > 1 and self.chance(0.15):
                group = "ALL"
            having = rng.choice(["count(*) > 1", f"max({self.column(env)}) > 1", f"{keys[0]} > 1"])
            return "", f" GROUP BY {group}" + (f" HAVING {having}" if self.chance(0.5) and group != "ALL" else "")
        if roll < 0.2:
            for n in range(len(picked)):
                column = self.column(env)
                picked[n] = rng.choice(["count(*)", f"sum({column})", f"min({column})", f"count({column})"])
            return "", ""
        if roll < 0.3:
            column = self.column(env)
            picked[-1] = rng.choice(
                [f"count(*) OVER (PARTITION BY {column})", f"sum({column}) OVER ()", f"rank() OVER (ORDER BY {column})"]
            )
            if self.chance(0.5):
                return "", f" QUALIFY count(*) OVER (PARTITION BY {self.column(env)}) {rng.choice(['> 1', '= 1'])}"
            return "", ""
        return ("DISTINCT " if roll > 0.9 else ""), ""

    # Statements

    def statement(self) -> Statement:
        roll = self.rng.random()
        if roll < 0.08:
            return self.limited()
        if roll < 0.16:
            return self.sorted()
        depth = self.rng.choice([0, 1, 1, 2, 2])
        if depth and self.chance(0.08):
            text, _ = self.query(depth, [], named=True)
        else:
            text, _ = self.block(depth, [], top=True)
        return self.bound(Statement(text))

    def plain(self) -> tuple[str, str, list[Item]]:
        """FROM and WHERE of a statement that is likely to be monotone."""
        depth = self.rng.choice([0, 0, 1])
        source, env = self.from_clause(depth)
        return source, self.where(depth, env, [], env), env

    def limited(self) -> Statement:
        source, where, env = self.plain()
        picked = ", ".join(f"{self.scalar(env, 0)} AS o{n}" for n in range(self.rng.randint(1, 3)))
        distinct = "DISTINCT " if self.chance(0.1) else ""
        full = f"SELECT {distinct}{picked} FROM {source}{where}"
        limit = self.rng.randint(1, 4)
        offset = self.rng.randint(0, 2) if self.chance(0.3) else 0
        tail = f" LIMIT {limit}" + (f" OFFSET {offset}" if offset else "")
        return self.bound(Statement(full + tail, None, "limit", full, 0, limit, offset))

    def sorted(self) -> Statement:
        source, where, env = self.plain()
        keys = [self.scalar(env, 0) for _ in range(self.rng.randint(1, 2))]
        names = [f"k{n}" for n in range(len(keys))]
        picked = [f"{self.scalar(env, 0)} AS o", *(f"{k} AS {n}" for k, n in zip(keys, names, strict=True))]
        distinct = "DISTINCT " if self.chance(0.15) else ""
        full = f"SELECT {distinct}{', '.join(picked)} FROM {source}{where}"
        directions = ["", " DESC", " ASC NULLS FIRST", " DESC NULLS FIRST", " DESC NULLS LAST"]
        spelled = names if distinct or self.chance(0.5) else keys
        order = ", ".join(f"{k}{self.rng.choice(directions)}" for k in spelled)
        limit, offset = self.rng.randint(1, 4), self.rng.choice([0, 0, 0, 1])
        tail = f" ORDER BY {order} LIMIT {limit}" + (f" OFFSET {offset}" if offset else "")
        return self.bound(Statement(full + tail, None, "sorted", full, len(keys), limit, offset))

    def bound(self, statement: Statement) -> Statement:
        """Attach parameters, at times as question marks."""
        self.values = {n: v for n, v in self.values.items() if re.search(rf"\${n}\b", statement.sql)}
        if not self.values:
            return statement
        statement.parameters = dict(self.values)
        if statement.mode == "rows" and self.chance(0.5):
            order: list[object] = []
            text = ""
            rest = statement.sql
            while "$p" in rest:
                before, _, after = rest.partition("$p")
                digits = len(after) - len(after.lstrip("0123456789"))
                order.append(self.values[f"p{after[:digits]}"])
                text += before + "?"
                rest = after[digits:]
            statement.sql, statement.parameters = text + rest, order
        return statement
