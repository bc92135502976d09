"""The whole engine against DuckDB: random statements over models that run lazily, and over tables that are complete.

    python -m tests.engine.differential --queries 5000 --seed 1 [--executor ray]

The statements are the planner's (`tests.plan.generator`); the models, the ledger, the views and the pipeline are real.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import duckdb
import pyarrow as pa

import aidb
from aidb.spi import Input, ItemError, ModelSpec, Output
from tests.plan.fuzz import agrees
from tests.plan.generator import Generator
from tests.plan.harness import multiset

STORED = {"frames": "frame_id cam ts", "Docs": "doc_id cam n", "reviews": "rid body stars"}
VIRTUAL = {
    "box": ("frames.frame_id", "x cls", "many"),
    "color": ("box.frame_id, box.box_id", "color x", "one"),
    "shade": ("color.frame_id, color.box_id", "shade", "one"),
    "mood": ("frames.frame_id", "mood n", "one"),
    "Tag": ("Docs.doc_id", "cls n", "many"),
    "match": ("frames.frame_id, Docs.doc_id", "score", "one"),
    "seen": ("match.frame_id, match.doc_id", "who", "one"),
    "near": ("box.frame_id, box.box_id, mood.frame_id", "n", "many"),
}
COLUMNS = {"frames": ("frame_id", "dark"), "box": ("frame_id, box_id", "hue"), "reviews": ("body", "tone lang")}
VIEWS = {
    "vbox": "SELECT b.*, f.cam FROM box b JOIN frames f ON b.frame_id = f.frame_id WHERE x > 0",
    "vagg": "SELECT frame_id, count(*) AS n FROM box GROUP BY frame_id",
    "vu": "SELECT frame_id, x FROM box UNION ALL SELECT frame_id, mood FROM mood",
    "vrev": "SELECT * FROM reviews WHERE stars > 0",
}


class Oracle:
    """A model that makes its answers up, the same ones for the same item; fails on some, and counts them all."""

    def __init__(self, name: str, inputs: int, outputs: str, rows: str, seed: int) -> None:
        self.name, self.seed = name, seed
        self.outputs = outputs.split()
        self.asked: Counter[tuple[Any, ...]] = Counter()
        self.spec = ModelSpec(
            tuple(Input(f"in{n}", "value") for n in range(inputs)),
            tuple(Output(o, "INTEGER") for o in self.outputs),
            rows,  # type: ignore[arg-type]
            f"{name}-{seed}",
            batch_size=3,
        )

    def load(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _answers(self, item: tuple[Any, ...]) -> list[list[int | None]]:
        rng = Random(repr((self.name, self.seed, item)))
        if rng.random() < 0.04:
            raise ItemError("this item is beyond me")
        n = 1 if self.spec.rows == "one" else rng.choice([0, 0, 1, 2, 3])
        return [[rng.choice([None, 0, 1, 2, 3, 4]) for _ in self.outputs] for _ in range(n)]

    def predict(self, inputs: Any, *, restart: bool = False) -> dict[str, list[Any]]:
        items = list(zip(*(column.to_pylist() for column in inputs), strict=True))
        answers = [self._answers(item) for item in items]
        self.asked.update(items)
        rows = [(n, row) for n, found in enumerate(answers) for row in found]
        columns: dict[str, list[Any]] = {o: [row[i] for _, row in rows] for i, o in enumerate(self.outputs)}
        if self.spec.rows == "many":
            columns["_row"] = [n for n, _ in rows]
        return columns


@dataclass
class World:
    """One data set: a lazy connection, and DuckDB with everything filled in."""

    con: aidb.Connection
    eager: duckdb.DuckDBPyConnection
    models: list[Oracle]

    @classmethod
    def make(cls, rng: Random, executor: str) -> World:
        seed = rng.randrange(1 << 30)
        con = aidb.connect()
        con.execute("SET aidb.max_error_ratio = 1; SET threads = 1")

        def value() -> int | None:
            return rng.choice([None, 0, 1, 2, 3, 4])

        rows = {
            "frames": [(i, value(), rng.randint(0, 5)) for i in range(rng.randint(2, 8))],
            "Docs": [(i, value(), value()) for i in range(rng.randint(0, 5))],
            "reviews": [(i, value(), value()) for i in range(rng.randint(0, 7))],
        }
        models = []
        for name, columns in STORED.items():
            typed = ", ".join(f"{c} INTEGER" for c in columns.split())
            con.execute(f"CREATE TABLE source_{name} ({typed})")
            if rows[name]:
                values = ", ".join(str(r).replace("None", "NULL") for r in rows[name])
                con.execute(f"INSERT INTO source_{name} VALUES {values}")
            if name == "reviews":
                con.execute("CREATE TABLE reviews AS FROM source_reviews")
            else:
                key = columns.split()[0]
                con.execute(f"CREATE BLOB TABLE {name} AS SELECT * FROM source_{name} KEY ({key})")
        for name, (args, outputs, kind) in VIRTUAL.items():
            models.append(Oracle(f"model_{name}", args.count(",") + 1, outputs, kind, seed))
            con.register(models[-1])
            con.execute(f"CREATE VIRTUAL TABLE {name} AS model_{name}({args})")
        for name, (args, columns) in COLUMNS.items():
            models.append(Oracle(f"more_{name}", args.count(",") + 1, columns, "one", seed))
            con.register(models[-1])
            many = f"COLUMNS ({columns.replace(' ', ', ')})" if " " in columns else f"COLUMN {columns}"
            con.execute(f"ALTER TABLE {name} ADD VIRTUAL {many} AS more_{name}({args})")
        for name, text in VIEWS.items():
            con.execute(f"CREATE VIEW {name} AS {text}")
        world = cls(con, duckdb.connect(config={"threads": 1}), models)
        world._fill_eagerly()
        con.execute(f"SET aidb.executor = '{executor}'")
        return world

    def _fill_eagerly(self) -> None:
        self.con.execute("SET aidb.optimizer = false")
        for name in [*STORED, *VIRTUAL]:
            table: pa.Table = self.con.execute(f"SELECT * FROM {name}").arrow()
            self.eager.register("complete", table)
            self.eager.execute(f"CREATE TABLE {name} AS FROM complete")
            self.eager.unregister("complete")
        for name, text in VIEWS.items():
            self.eager.execute(f"CREATE VIEW {name} AS {text}")
        self.con.execute("SET aidb.optimizer = true")
        self.reset()

    def reset(self) -> None:
        """Forget all answers."""
        engine = self.con.engine
        for fill in engine.registry.fills.values():
            engine.database.execute(f"DELETE FROM {fill.rows}")
            engine.database.execute(f"DELETE FROM {fill.ledger}")
        for model in self.models:
            model.asked.clear()

    @property
    def _is_here(self) -> bool:
        return self.con.engine.settings.executor == "local"

    def asked(self) -> int:
        """Items that models were asked about; of models in other processes, those that have an answer."""
        if self._is_here:
            return sum(m.asked.total() for m in self.models)
        return int(self.con.execute("SELECT coalesce(sum(items), 0) FROM aidb.calls").fetchall()[0][0])

    def twice(self) -> list[Any]:
        """Items that were asked or stored twice."""
        if self._is_here:
            return [(m.name, item) for m in self.models for item, n in m.asked.items() if n > 1]
        db, fills = self.con.engine.database, self.con.engine.registry.fills.values()
        return [
            row
            for fill in fills
            for row in db.execute(
                f"SELECT * EXCLUDE (_call, _failed), count(*) FROM {fill.ledger} GROUP BY ALL HAVING count(*) > 1"
            ).tuples()
        ]

    def close(self) -> None:
        self.con.close()
        self.eager.close()


@dataclass
class Summary:
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def run(queries: int, seed: int, *, verbose: bool = False, executor: str = "local") -> Summary:
    """Check about ``queries`` valid statements."""
    summary, rng = Summary(), Random(seed)
    while summary.counts["checked"] < queries:
        world = World.make(rng, executor)
        for _ in range(40):
            problem = _check(world, rng, summary)
            if problem:
                summary.differences.append(problem)
                if verbose:
                    print(problem, flush=True)
            if summary.counts["checked"] >= queries:
                break
        world.close()
    return summary


def _check(world: World, rng: Random, summary: Summary) -> str | None:
    try:
        statement = Generator(Random(rng.randrange(1 << 30))).statement()
    except IndexError:
        return None
    values: Any = statement.parameters
    try:
        want = (
            world.eager.execute(statement.sql, values).fetchall()
            if values
            else world.eager.execute(statement.sql).fetchall()
        )
        full: list[Any] = []
        if statement.full:
            full = (
                world.eager.execute(statement.full, values) if values else world.eager.execute(statement.full)
            ).fetchall()
    except duckdb.Error:
        summary.counts["invalid"] += 1
        return None
    way = rng.choice(["cold", "cold", "warm", "everything"])
    if way != "warm":
        world.reset()
    world.con.execute(f"SET aidb.optimizer = {str(way != 'everything').lower()}")
    before = world.asked()
    try:
        cursor = world.con.execute(statement.sql, values)
        got = cursor.fetchall()
    except aidb.Error as e:
        return f"---- {way}: {type(e).__name__}: {e}\n{statement.sql}\n{values}"
    summary.counts["checked"] += 1
    for note in cursor.report.notes:
        if note.startswith("everything was materialised") and way != "everything":
            summary.counts["fallback"] += 1
            summary.reasons[note.splitlines()[0][:120]] += 1
    asked = world.asked() - before
    summary.counts["calls"] += asked
    if cursor.report.oracle_calls < asked:
        return f"---- report says {cursor.report.oracle_calls}, models were asked {asked}\n{statement.sql}"
    twice = world.twice()
    if twice:
        return f"---- asked twice: {twice[:3]}\n{statement.sql}"
    if agrees(statement, want, got, full) or _moves(world, statement.sql, values, want):
        return None
    return f"---- {way} ({statement.mode})\n{statement.sql}\n{values}\nwant {want[:6]}\ngot  {got[:6]}\n{cursor.report.notes}"


def _moves(world: World, sql: str, values: Any, want: list[Any]) -> bool:
    """Does DuckDB's own answer depend on the physical order of rows?"""
    db = world.eager
    for turn in range(6):
        for name in [*STORED, *VIRTUAL]:
            db.execute(f"CREATE OR REPLACE TEMP TABLE shuffled AS FROM {name} ORDER BY hash(rowid + {turn})")
            db.execute(f"DELETE FROM {name}")
            db.execute(f"INSERT INTO {name} FROM shuffled")
        again = (db.execute(sql, values) if values else db.execute(sql)).fetchall()
        if multiset(again) != multiset(want):
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    given = parser.parse_args()
    with aidb.connect() as keeper:
        if given.executor == "ray":  # one cluster for all worlds: who asks first starts it, who leaves last ends it
            keeper.execute("SET aidb.executor = 'ray'; CREATE TABLE t AS SELECT 1 AS x")
            keeper.register(Oracle("any", 1, "y", "one", 0))
            keeper.execute("SELECT any(x) FROM t")
        summary = run(given.queries, given.seed, verbose=True, executor=given.executor)
    for reason, count in summary.reasons.most_common(20):
        print(f"{count:6d}  {reason}")
    print(dict(summary.counts), f"{len(summary.differences)} differences")
    return min(99, len(summary.differences))


if __name__ == "__main__":
    sys.exit(main())
