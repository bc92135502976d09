"""Random queries with calls of models in random places: the bound query answers as DuckDB calling the models does."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import duckdb
import pytest

from aidb.errors import Error

sys.path.insert(0, str(Path(__file__).parent))
from bind_world import World

COLUMNS = {  # table -> (numbers, a model's argument)
    "frames": (("frame_id", "cam"), "image"),
    "docs": (("doc_id", "cam"), "text"),
    "reviews": (("id", "stars"), "body"),
    "box": (("frame_id", "box_id", "xmin"), "label"),
}


class Writer:
    """Writes queries of the shapes that people write, over two tables at most a block, two blocks deep."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.names = 0

    def chance(self, p: float) -> bool:
        return self.r.random() < p

    def name(self) -> str:
        self.names += 1
        return self.r.choice(["{}", "T{}", '"q {}"']).format(f"t{self.names}")

    def query(self, depth: int = 0, outer: tuple = ()) -> str:
        ctes: list[str] = []
        items = [self.item(depth, ctes)]
        text = f"{items[0][0]} AS {items[0][1]}" if self.chance(0.9) else items[0][0]
        if text == items[0][0] and not text.startswith("("):
            items[0] = (text, text, items[0][2])
        elif text.startswith("(") and text.endswith(")"):
            text += f" {items[0][1]}"
        if self.chance(0.4):
            items.append(self.item(depth, ctes))
            kind = self.r.choice(
                [", ", " CROSS JOIN ", " JOIN ", " LEFT JOIN ", " FULL JOIN ", " SEMI JOIN ", " ANTI JOIN "]
            )
            text += f"{kind}{items[1][0]} AS {items[1][1]}"
            if kind not in (", ", " CROSS JOIN "):
                # DuckDB can't evaluate a model, or anything but comparisons of columns, on a FULL JOIN.
                same = f"{self.number(items[:1], False)} = {self.number(items[1:], False)}"
                text += f" ON {same}" if "FULL" in kind else f" ON {same} AND {self.boolean(items)}"
            if kind in (" SEMI JOIN ", " ANTI JOIN "):
                items.pop()
        scope = (*items, *outer)
        where = f" WHERE {self.boolean(scope, depth)}" if self.chance(0.7) else ""
        tail = ""
        if self.chance(0.3):
            keys = [self.r.choice([self.number(items), self.boolean(items), self.argument(items)]) for _ in range(2)]
            keys[0] = self.argument(items) if self.chance(0.5) else keys[0]
            model = f"mood({keys[0]})" if keys[0] in {self.argument([i]) for i in items} else "count(*)"
            shown = [f"{k} AS k{n}" for n, k in enumerate(keys)]
            shown += [f"sum({self.number(items)}) AS s", f"bool_or({self.boolean(items)}) AS o", f"{model} AS m"]
            tail = f" GROUP BY {', '.join(keys)}" if self.chance(0.7) else " GROUP BY 1, 2"
            if self.chance(0.5):
                tail += f" HAVING {model} > {self.r.randrange(3)}"
        elif self.chance(0.3):
            shown = [self.r.choice(["*", f"{items[0][1]}.*", "COLUMNS(*)", "*, 1 AS one"])]
        else:
            shown = [f"{self.number(scope)} AS a", f"{self.boolean(scope, depth)} AS b"]
            if self.chance(0.2):
                shown.append(f"rank() OVER (PARTITION BY {self.boolean(items)} ORDER BY {self.number(items)}) AS w")
        head = f"WITH {', '.join(ctes)} " if ctes else ""
        distinct = "DISTINCT " if self.chance(0.1) else ""
        return f"{head}SELECT {distinct}{', '.join(shown)} FROM {text}{where}{tail}"

    def item(self, depth: int, ctes: list[str]) -> tuple[str, str, str]:
        """(text, alias, table whose columns it has)."""
        table = self.r.choice(list(COLUMNS))
        alias = self.name()
        if self.chance(0.65):
            return table, alias, table
        inner = self.name()
        where = f" WHERE {self.boolean([(table, inner, table)], 1)}" if self.chance(0.6) else ""
        numbers, argument = COLUMNS[table]
        shown = self.r.choice(
            ["*", f"{inner}.*", f"{argument}, {', '.join(numbers)}", f"{', '.join(numbers)}, {argument}"]
        )
        body = f"SELECT {shown} FROM {table} AS {inner}{where}"
        if self.chance(0.4):
            name = self.name()
            ctes.append(f"{name} AS ({body})")
            return name, alias, table
        return f"({body})", alias, table

    def argument(self, items) -> str:
        _, alias, table = self.r.choice(list(items))
        return f"{alias}.{COLUMNS[table][1]}"

    def number(self, items, models: bool = True) -> str:
        _, alias, table = self.r.choice(list(items))
        if models and self.chance(0.3):
            return f"{self.r.choice(['mood', 'MOOD'])}({self.argument(items)})"
        if models and self.chance(0.15):
            return f"({self.number(items)} + {self.number(items)})"
        return f"{alias}.{self.r.choice(COLUMNS[table][0])}"

    def boolean(self, items, depth: int = 2) -> str:
        choice = self.r.random()
        if choice < 0.3:
            return f"has_bus({self.argument(items)})"
        if choice < 0.6:
            return f"{self.number(items)} {self.r.choice(['<', '=', '>='])} {self.number(items)}"
        if choice < 0.7:
            return f"mood({self.argument(items)}) IS NULL"
        if choice < 0.85 or depth >= 2:
            return f"({self.boolean(items, 2)} {self.r.choice(['AND', 'OR'])} NOT {self.boolean(items, 2)})"
        if self.chance(0.5):
            return f"EXISTS ({self.query(depth + 1, tuple(items))})"
        return f"{self.number(items)} IN (SELECT a FROM ({self.query(2)}) x)".replace(
            "SELECT a FROM", "SELECT count(*) FROM"
        )


def check_random(world: World, seeds: range) -> tuple[int, int]:
    """(queries compared, queries that DuckDB itself refused)."""
    compared = refused = 0
    for seed in seeds:
        core = Writer(seed).query()
        try:
            world.answer(core)
        except duckdb.Error:
            refused += 1
            continue
        try:
            world.check(core, names=False)
        except (Error, duckdb.Error) as e:
            pytest.fail(f"seed {seed}: {core}\n{type(e).__name__}: {e}")
        compared += 1
    return compared, refused


def test_random_queries():
    compared, refused = check_random(World(), range(160))
    assert compared > 110, refused  # a generator of refused queries would test nothing
