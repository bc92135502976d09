"""A small database with tables, models as DuckDB functions, and a `ModelFunctions` whose answers come from those.

So any query can be asked twice: as it is written, with the models as functions that DuckDB calls on every row; and
bound, over tables of answers. The two must agree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import duckdb

from aidb.catalog.relations import Fill, Relation, Relations
from aidb.errors import ProgrammingError
from aidb.sql.bind import Bound, bind
from aidb.sql.render import quoted

SETUP = """
SET threads = 1;
CREATE TABLE frames AS SELECT i::BIGINT AS frame_id, (i % 3)::BIGINT AS cam, i * 2.5 AS ts, 'pic' || i AS image
  FROM range(12) t(i);
CREATE TABLE docs AS SELECT i::BIGINT AS doc_id, 'text ' || i AS text, (i % 2)::BIGINT AS cam FROM range(5) t(i);
CREATE TABLE reviews AS SELECT * FROM (VALUES (1, 'good', 5), (2, 'bad', 1), (3, NULL, 3), (4, 'good', 4),
  (5, 'so so', NULL), (6, NULL, 2), (NULL, 'bad', 1)) r(id, body, stars);
CREATE TABLE "odd ""name" AS SELECT i::BIGINT AS "the key", 'p' || i AS "the picture" FROM range(4) t(i);
CREATE TABLE plain AS SELECT i::BIGINT AS frame_id, i * 10 AS weight FROM range(6) t(i);
CREATE TABLE box AS SELECT frame_id, n::BIGINT AS box_id, (frame_id * 7 + n * 31) % 100 AS xmin,
  ['bus', 'car', 'dog'][1 + (frame_id + n) % 3] AS label FROM frames, range(5) r(n) WHERE n < frame_id % 4;
CREATE TABLE paint AS SELECT frame_id, box_id, ['red', 'white'][1 + xmin % 2] AS color FROM box;
CREATE VIEW recent AS SELECT frame_id AS id, image, ts FROM frames WHERE ts > 5;
CREATE MACRO pose(x) AS {'lft': length(x), 'rgt': length(x) * 2};
CREATE MACRO "Odd Model"(x) AS x || '!';
CREATE SCHEMA store;
"""


def _number(text: str) -> int:
    return sum(map(ord, text))


MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "has_bus": ("one", ("label",)),
    "mood": ("one", ("score",)),
    "near": ("one", ("distance",)),
    "pose": ("one", ("lft", "rgt")),
    "odd model": ("one", ("out put",)),
    "upper": ("one", ("out",)),
    "yolo": ("many", ("xmin", "label")),
    "words": ("many", ("word",)),
}


class World:
    """The database, the catalog's snapshot of it, and the engine's side of the binder."""

    def __init__(self) -> None:
        self.con = duckdb.connect()
        for statement in SETUP.split(";\n"):
            if statement.strip():
                self.con.execute(statement)
        self.con.create_function("has_bus", lambda x: _number(x) % 2 == 0, ["VARCHAR"], "BOOLEAN")
        self.con.create_function("mood", lambda x: _number(x) % 7, ["VARCHAR"], "BIGINT")
        self.con.create_function("near", lambda x, y: (_number(x) * 3 + y) % 11, ["VARCHAR", "BIGINT"], "BIGINT")
        self.fills: dict[tuple[Any, ...], Fill] = {}
        self.box = Fill("yolo#1", "yolo", ("frames",), ("frame_id",), "none", "box", ("xmin", "label"), "box_id")
        self.paint = Fill("paint#1", "paint", ("box",), ("frame_id", "box_id"), "none", "paint", ("color",))
        self.fills["yolo", ("frames", "image")] = self.box
        tables = [
            Relation("frames", ("frame_id", "cam", "ts", "image"), "frames", ("frame_id",), content="image"),
            Relation("docs", ("doc_id", "text", "cam"), "docs", ("doc_id",)),
            Relation("reviews", ("id", "body", "stars"), "reviews"),
            Relation('odd "name', ("the key", "the picture"), '"odd ""name"', ("the key",)),
            Relation("plain", ("frame_id", "weight"), "plain"),
            Relation("box", ("frame_id", "box_id", "xmin", "label"), "box", ("frame_id", "box_id"), self.box),
            Relation("paint", ("frame_id", "box_id", "color"), "paint", ("frame_id", "box_id"), self.paint),
        ]
        views = {"recent": "CREATE VIEW recent AS SELECT frame_id AS id, image, ts FROM frames WHERE (ts > 5);"}
        self.relations = Relations(
            {r.name.lower(): r for r in tables}, views, aggregates=frozenset({"count", "sum", "list", "bool_or"})
        )
        self.asked: list[tuple[Any, ...]] = []

    def is_model(self, name: str) -> bool:
        return name.lower() in MODELS and (name.lower() != "upper" or self.with_upper)

    with_upper = False

    def rows(self, name: str) -> Literal["one", "many"]:
        return "many" if MODELS[name.lower()][0] == "many" else "one"

    def outputs(self, name: str) -> tuple[str, ...]:
        return MODELS[name.lower()][1]

    def fill(self, model: str, args: Sequence[tuple[str, str]]) -> Fill:
        key = (model.lower(), *args)
        self.asked.append(key)
        if key not in self.fills:
            self.fills[key] = self._fill(model.lower(), args, len(self.fills))
        return self.fills[key]

    def _fill(self, model: str, args: Sequence[tuple[str, str]], n: int) -> Fill:
        if model == "near" and len(args) != 2:
            raise ProgrammingError("near takes 2 columns")
        names = list(dict.fromkeys(r for r, _ in args))
        relations = sorted((self.relations.tables[r.lower()] for r in names), key=lambda r: -len(r.key))
        deepest = relations[0]
        if len(relations) > 1 and any(not set(r.key) & set(deepest.key) for r in relations):
            keys = tuple(k for r in relations for k in r.key)
            rows = f"store.{quoted(f'{model} {n}')}"
            called = ", ".join(f"{quoted(r)}.{quoted(c)}" for r, c in args)
            shown = ", ".join(f"{quoted(r.name)}.{quoted(k)}" for r in relations for k in r.key)
            source = ", ".join(quoted(r.name) for r in relations)
            self.con.execute(f"CREATE TABLE {rows} AS SELECT {shown}, {model}({called}) AS distance FROM {source}")
            return Fill(f"f{n}", model, tuple(r.name for r in relations), keys, "none", rows, self.outputs(model))
        keys = deepest.key or tuple(c for _, c in args)
        source = quoted(deepest.name)
        for other in relations[1:]:
            source += f" JOIN {quoted(other.name)} USING ({', '.join(map(quoted, other.key))})"
        shown = ", ".join(f"{quoted(deepest.name)}.{quoted(k)}" for k in keys)
        called = ", ".join(f"{quoted(r)}.{quoted(c)}" for r, c in args)
        outputs, ordinal = self.outputs(model), None
        if model == "words":
            ordinal, given = "words_id", "n AS words_id, w AS word"
            source += f", (SELECT unnest(string_split({called}, ' ')) AS w, generate_subscripts("
            source += f"string_split({called}, ' '), 1) - 1 AS n)"
        elif len(outputs) > 1:
            given = ", ".join(f"{model}({called}).{o} AS {o}" for o in outputs)
        else:
            given = f"{quoted(model)}({called}) AS {quoted(outputs[0])}"
        rows = f"store.{quoted(f'{model} {n}')}"
        self.con.execute(f"CREATE TABLE {rows} AS SELECT DISTINCT {shown}, {given}, now() AS _at FROM {source}")
        return Fill(f"f{n}", model, (deepest.name,), keys, "none", rows, outputs, ordinal, null_safe=not deepest.key)

    def bind(self, core: str) -> Bound:
        return bind(core, self.relations, self)

    def answer(self, sql: str) -> tuple[list[str], Counter[str]]:
        """Names of the columns, and the rows as a multiset."""
        cursor = self.con.execute(sql)
        return [d[0] for d in cursor.description or ()], Counter(map(repr, cursor.fetchall()))

    def check(self, core: str, reference: str | None = None, names: bool = True) -> Bound:
        """The bound query must answer as the reference does: by default the query itself, DuckDB calling the models.

        The planner's text, with the synthetic relations as views, must answer alike.
        """
        bound = self.bind(core)
        expected = self.answer(reference or core)
        found = self.answer(bound.final)
        assert found[1] == expected[1], f"{core}\n{bound.final}"
        for name, wanted in zip(found[0], expected[0], strict=True):
            # Around a call DuckDB prints the expression in a form of its own, so only plain names and calls are alike.
            if names and (wanted.isidentifier() or re.fullmatch(r"(has_bus|mood|near)\([\w., ]*\)", wanted)):
                assert name == wanted, bound.final
        self.check_planning(bound, found)
        return bound

    def check_planning(self, bound: Bound, found: tuple[list[str], Counter[str]]) -> None:
        from aidb.sql.render import relation_sql

        for name, relation in bound.relations.tables.items():
            if name.startswith("__"):
                self.con.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {relation_sql(relation)}")
        assert self.answer(bound.planning) == found, bound.planning
