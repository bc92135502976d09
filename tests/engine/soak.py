"""One process, one file, everything at once and for long: queries, new and changed items, faults, cancellations, caps.

    python -m tests.engine.soak --minutes 30 --seed 1

Every minute a line with what the process and the file hold. Every so often, and at the end, nothing may be wrong:
``CHECK CATALOG`` finds nothing, and answers equal those of DuckDB over complete tables. The exit code is 1 if something was.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import aidb
from aidb.spi import ItemError, ServiceError
from aidb.testing import FailingModel, FakeModel, MemoryConnector
from tests.engine.storing import check_quiet, check_storage
from tests.plan.harness import multiset

DOCS, NUMS, REVIEWS = 120, 3000, 60
"""So many of each there are, give or take what was added or taken away last."""
COLOURS = ("red", "green", "blue", "violet", "white", "", "black", "ochre")
PROBABILITY = 0.9

EXACT = (
    "SELECT count(*), sum(letters) FROM word",
    "SELECT word, count(*) AS n FROM word JOIN docs USING (doc_id) WHERE n % {a} = 0 GROUP BY word",
    "SELECT doc_id FROM docs WHERE NOT EXISTS (SELECT 1 FROM word w WHERE w.doc_id = docs.doc_id AND w.letters > {a})",
    "SELECT rhyme, max(n) FROM rhyme JOIN docs USING (doc_id) WHERE n < {b} GROUP BY ALL",
    "SELECT w.doc_id, w.word_id, rhyme FROM word w LEFT JOIN rhyme r USING (doc_id, word_id) WHERE letters = {a}",
    "SELECT rid, tone FROM reviews WHERE stars > {a}",
    "SELECT tone, count(*) FROM reviews GROUP BY tone HAVING count(*) > 2",
    "SELECT id, grade, rank() OVER (ORDER BY grade, id) FROM grade WHERE id % {b} = 1",
    "SELECT count(*) FROM nums LEFT JOIN grade USING (id) WHERE x < {b} * 100 AND grade > 50",
    "WITH t AS (SELECT id FROM grade WHERE grade = {a}) SELECT count(*) FROM t JOIN nums USING (id)",
    "SELECT word FROM word WHERE letters > {a} UNION SELECT rhyme FROM rhyme",
    "SELECT count(*) FROM grade WHERE grade < {b}",
)
FIRST = (
    "SELECT id FROM grade WHERE grade < {b} LIMIT {a}",
    "SELECT doc_id, word FROM word WHERE letters > 3 LIMIT {a}",
    "SELECT n, word FROM docs JOIN word USING (doc_id) ORDER BY n DESC LIMIT {a}",
)
ESTIMATED = (
    "SELECT count(*) AS c FROM nums WHERE grade_of(x) < {b} ERROR TARGET 20% WITH PROBABILITY 90% USING PROXY hint"
)
SELECTED = "SELECT id FROM nums WHERE grade_of(x) < {b} {how} ORACLE LIMIT 400 WITH PROBABILITY 90% USING PROXY hint"


def words(text: str) -> list[tuple[str, int]]:
    if "blue blue" in text:
        raise ItemError("too blue")
    return [(w, len(w)) for w in text.split()]


def tone(body: str | None) -> str | None:
    return None if body is None else "warm" if "red" in body else "cold"


def grade(x: int, version: int) -> int:
    return (x * 7919 + version) % 101


@dataclass
class Found:
    """What a run did and found."""

    done: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    promised: Counter[str] = field(default_factory=Counter)
    """Kind of guarantee -> answers that were looked at; "missed ..." -> those that did not keep it."""
    samples: list[tuple[float, float, float, int]] = field(default_factory=list)
    """Minutes, MB of the process, MB of the file, statements."""


class Soak:
    """A world that changes all the time."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng, self.found = folder, Random(seed), Found()
        self.versions: Counter[str] = Counter()
        self.texts = MemoryConnector(
            {f"d{n}": self.text() for n in range(DOCS)}, content="text", key="doc_id",
            columns={"n": ("INTEGER", list(range(DOCS)))},
        )  # fmt: skip
        self.numbered, self.next_num, self.cursors = DOCS, NUMS, []  # type: ignore[var-annotated]
        self.models = {name: self.made(name) for name in ("words", "rhyme_of", "tone_of", "grade_of")}
        self.con = self.connected()
        for sql in (
            f"CREATE TABLE base AS SELECT range AS id, (hash(range) % 10000)::INTEGER AS x FROM range({NUMS})",
            "CREATE BLOB TABLE docs FROM 'memory:*' USING memory",
            f"CREATE BLOB TABLE nums AS {self.nums} KEY (id)",
            "CREATE TABLE reviews AS SELECT range AS rid, ['red', 'cold', NULL, 'a red day'][1 + range % 4] AS body, "
            f"range % 7 AS stars FROM range({REVIEWS})",
            "CREATE VIRTUAL TABLE word AS words(docs.text)",
            "CREATE VIRTUAL TABLE rhyme AS rhyme_of(word.word)",
            "CREATE VIRTUAL TABLE grade AS grade_of(nums.x)",
            "ALTER TABLE reviews ADD VIRTUAL COLUMN tone AS tone_of(body)",
        ):
            self.con.execute(sql)

    nums = "SELECT id, x, ((x * 7919) % 101 + hash(id) % 40)::DOUBLE AS hint FROM base"

    def text(self) -> str:
        return " ".join(self.rng.choice(COLOURS) for _ in range(self.rng.randrange(5)))

    def made(self, name: str) -> FailingModel:
        version = self.versions[name]
        outputs, answer, more = {
            "words": ({"word": "VARCHAR", "letters": "INTEGER"}, words, {"inputs": ["text"], "rows": "many"}),
            "rhyme_of": ({"rhyme": "VARCHAR"}, lambda word: None if word is None else word[-2:], {"inputs": ["word"]}),
            "tone_of": ({"tone": "VARCHAR"}, tone, {"inputs": ["body"]}),
            "grade_of": ({"grade": "INTEGER"}, lambda x: grade(x, version), {"inputs": ["x"]}),
        }[name]
        return FailingModel(FakeModel(name, outputs, answer, version=str(version), backoff=0.001, retries=2, **more))  # type: ignore[arg-type]

    def connected(self) -> aidb.Connection:
        con = aidb.connect(self.folder / "soak.aidb")
        con.register_connector(self.texts)
        for model in self.models.values():
            con.register(model)
        con.execute(
            "SET threads = 1; SET memory_limit = '400MB'; SET aidb.max_error_ratio = 1; SET aidb.progress = false"
        )
        return con

    # ---- steps

    def step(self) -> None:
        """One thing, chosen at random, perhaps with a fault; whatever it may not raise is a problem."""
        steps: dict[Callable[[], None], int] = {
            self.exact: 30, self.first: 12, self.estimated: 5, self.selected: 5, self.streamed: 8, self.cancelled: 8,
            self.capped: 6, self.more_nums: 5, self.more_docs: 5, self.other_version: 2, self.again_declared: 3,
            self.exchanged: 2, self.explained: 4, self.rewritten: 2, self.retried: 1, self.dropped: 1,
        }  # fmt: skip
        chosen = self.rng.choices(list(steps), list(steps.values()))[0]
        faulty = self.rng.random() < 0.25
        if faulty:
            self.break_something()
        self.found.done[chosen.__name__] += 1
        began = time.monotonic()
        try:
            chosen()
        except aidb.OperationalError as e:  # of which BudgetExceeded, Interrupted and ModelError are kinds
            name = type(e).__name__
            self.found.raised[name] += 1
            is_told = (chosen.__name__, name) in {("capped", "BudgetExceeded"), ("cancelled", "Interrupted")}
            # Where the few new items are all of those that always fail, a statement ends.
            if not (faulty or is_told or isinstance(e, aidb.TooManyFailures)):
                self.problem(chosen.__name__, e)
        except Exception as e:
            self.problem(chosen.__name__, e)
        finally:
            self.found.seconds[chosen.__name__] += time.monotonic() - began  # type: ignore[assignment]
            self.mend()

    def problem(self, what: str, why: object) -> None:
        kind = type(why).__name__ if isinstance(why, Exception) else ""
        self.found.problems.append(f"{what}: {kind} {why}"[:1000])

    def query(self, sql: str) -> str:
        return sql.format(a=self.rng.randrange(1, 7), b=self.rng.randrange(2, 60), how="")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.con.execute(sql).fetchall()

    def settled(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows, once what fails has failed and is known to."""
        try:
            return self.rows(sql)
        except aidb.TooManyFailures:
            return self.rows(sql)

    def exact(self) -> None:
        self.rows(self.query(self.rng.choice(EXACT)))

    def first(self) -> None:
        self.rows(self.query(self.rng.choice(FIRST)))

    def estimated(self) -> None:
        b = self.rng.randrange(10, 60)
        cursor = self.con.execute(f"{ESTIMATED.format(b=b)} SEED {self.rng.randrange(1 << 30)}")
        low, high = cursor.report.intervals["c"]
        if not cursor.report.failed:
            self.keep("error", low <= len(self.graded(b)) <= high)

    def selected(self) -> None:
        b, how = self.rng.randrange(10, 60), self.rng.choice(("RECALL TARGET 80%", "PRECISION TARGET 80%"))
        cursor = self.con.execute(f"{SELECTED.format(b=b, how=how)} SEED {self.rng.randrange(1 << 30)}")
        got, right = {row[0] for row in cursor.fetchall()}, self.graded(b)
        if not cursor.report.failed and got and right:
            self.keep(how, len(got & right) / len(right if how[0] == "R" else got) >= 0.8)

    def graded(self, b: int) -> set[int]:
        """The true answer of both; DuckDB finds it alone."""
        version = self.versions["grade_of"]
        return {row[0] for row in self.rows(f"SELECT id FROM nums WHERE (x::BIGINT * 7919 + {version}) % 101 < {b}")}

    def keep(self, what: str, is_kept: bool) -> None:
        self.found.promised[what] += 1
        self.found.promised[f"missed {what}"] += not is_kept

    def streamed(self) -> None:
        """Begin to read, and go on later or never."""
        if len(self.cursors) > 2:
            cursor = self.cursors.pop(self.rng.randrange(3))
            try:
                self.rng.choice((cursor.fetchall, cursor.fetchone, cursor.close, lambda: cursor.report))()
            except aidb.OperationalError as e:  # its models may be others by now
                self.found.raised[f"streamed {type(e).__name__}"] += 1
            return
        self.con.execute(f"SET aidb.stream = '{self.rng.choice(('on', 'auto'))}'")
        try:
            cursor = self.con.cursor().execute(self.query("SELECT id, grade FROM grade WHERE grade < {b}"))
            cursor.fetchmany(self.rng.randrange(20))
            if self.rng.random() < 0.6:
                self.cursors.append(cursor)
        finally:
            self.con.execute("RESET aidb.stream")

    def cancelled(self) -> None:
        cursor = self.con.cursor()
        stop = self.rng.choice((cursor.cancel, self.con.interrupt))
        timer = threading.Timer(self.rng.random() ** 2 * 0.1, stop)
        timer.start()
        try:
            cursor.execute(self.query(self.rng.choice((*EXACT, *FIRST, ESTIMATED)))).fetchall()
        finally:
            timer.cancel()
            timer.join()

    def capped(self) -> None:
        what, most = self.rng.choice((("max_calls", self.rng.randrange(300)), ("max_seconds", 0.01)))
        self.con.execute(f"SET aidb.{what} = {most}")
        try:
            self.rows(self.query(self.rng.choice((*EXACT, *FIRST))))
        finally:
            self.con.execute(f"RESET aidb.{what}")

    def more_nums(self) -> None:
        n = self.rng.randrange(1, 60)
        self.con.execute(
            f"INSERT INTO base SELECT range, (hash(range) % 10000)::INTEGER FROM range({self.next_num}, {self.next_num + n})"
        )
        self.next_num += n
        self.con.execute(f"DELETE FROM base WHERE id < {self.next_num - NUMS}")
        if self.rng.random() < 0.3:
            self.con.execute(f"UPDATE base SET x = (x + 1) % 10000 WHERE id % 500 = {self.rng.randrange(500)}")
        self.con.execute("REFRESH BLOB TABLE nums")

    def more_docs(self) -> None:
        names = list(self.texts._items)
        for _ in range(self.rng.randrange(4)):
            self.texts.add(f"d{self.numbered}", self.text(), self.numbered % 200)
            self.numbered += 1
        for name in self.rng.sample(names, self.rng.randrange(3)):
            self.texts.replace(name, self.text())
        while len(self.texts._items) > DOCS:
            self.texts.remove(next(iter(self.texts._items)))
        self.con.execute("REFRESH BLOB TABLE docs")

    def other_version(self) -> None:
        name = self.rng.choice(list(self.models))
        self.versions[name] += self.rng.choice((1, 1, -1)) if self.versions[name] else 1
        self.models[name] = self.made(name)
        self.con.register(self.models[name])
        if self.rng.random() < 0.5:
            self.con.execute("DROP STALE")

    def again_declared(self) -> None:
        name, made = self.rng.choice((("rhyme", "rhyme_of(word.word)"), ("grade", "grade_of(nums.x)")))
        self.con.execute(f"DROP VIRTUAL TABLE {name}")
        self.con.execute(f"CREATE VIRTUAL TABLE {name} AS {made}")

    def exchanged(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            self.con.execute(f"EXPORT VIRTUAL TABLE grade TO '{folder}/grade'")
            self.con.execute(f"ATTACH MATERIALIZED grade FROM '{folder}/grade'")

    def explained(self) -> None:
        self.rows("EXPLAIN " + self.query(self.rng.choice((*EXACT, *FIRST, ESTIMATED))))

    def rewritten(self) -> None:
        self.con.execute(
            f"UPDATE reviews SET body = 'day {self.rng.randrange(1000)}' WHERE rid = {self.rng.randrange(REVIEWS)}"
        )

    def retried(self) -> None:
        self.con.execute("RETRY FAILED")

    def dropped(self) -> None:
        self.con.execute("DROP STALE")

    # ---- faults

    def break_something(self) -> None:
        model = self.rng.choice(list(self.models.values()))
        soon = model.calls + self.rng.randrange(1, 4)
        match self.rng.randrange(6):
            case 0:
                model.on_call, model.error = (soon,), RuntimeError("out of order")
            case 1:
                model.service_errors, model.retry = soon, self.rng.random() < 0.5
            case 2:
                model.corrupt = self.rng.choice(("short", "long", "missing", "type", "nothing"))
            case 3:
                model.max_batch = self.rng.randrange(1, 20)
            case 4:
                model.slow = 0.02
            case 5:
                model.on_call, model.error = (soon,), ServiceError("gone", retry=False)

    def mend(self) -> None:
        for model in self.models.values():
            model.on_call, model.service_errors, model.corrupt, model.max_batch, model.slow = (), 0, None, None, 0.0
            model.model.reset()  # type: ignore[attr-defined]  what it has seen is no leak of AIDB's

    # ---- what must hold

    def check(self) -> None:
        """Everything is in order, and a few answers are the true ones."""
        try:
            self.con.engine.materialiser.settle()
            for cursor in self.cursors:
                cursor.close()
            self.cursors.clear()
            self.con.execute("RETRY FAILED")
            with duckdb.connect() as truth:
                self.complete(truth)
                for sql in self.rng.sample(EXACT, 6):
                    text = self.query(sql)
                    if multiset(self.settled(text)) != multiset(truth.execute(text).fetchall()):
                        self.problem("another answer than over complete tables", text)
            check_storage(self.con, retried=True)
            check_quiet(self.con)
        except Exception as e:
            self.problem("check", e)

    def complete(self, truth: duckdb.DuckDBPyConnection) -> None:
        """Every table as if all models had run on everything."""
        docs = self.rows("SELECT doc_id, name, n FROM docs")
        word: list[tuple[Any, ...]] = []
        for doc, name, _ in docs:
            text = str(self.texts._items[name])
            word += [] if "blue blue" in text else [(doc, n, *row) for n, row in enumerate(words(text))]
        nums = self.rows("SELECT id, x FROM nums")
        reviews = self.rows("SELECT rid, body, stars FROM reviews")
        version = self.versions["grade_of"]
        for name, columns, rows in (
            ("docs", "doc_id BIGINT, name VARCHAR, n INTEGER", docs),
            ("word", "doc_id BIGINT, word_id BIGINT, word VARCHAR, letters INTEGER", word),
            ("rhyme", "doc_id BIGINT, word_id BIGINT, rhyme VARCHAR", [(d, w, t[-2:]) for d, w, t, _ in word]),
            ("nums", "id BIGINT, x INTEGER", nums),
            ("grade", "id BIGINT, grade INTEGER", [(i, grade(x, version)) for i, x in nums]),
            ("reviews", "rid BIGINT, body VARCHAR, stars BIGINT, tone VARCHAR", [(r, b, s, tone(b)) for r, b, s in reviews]),
        ):  # fmt: skip
            names = [c.split()[0] for c in columns.split(", ")]
            rows_ = pa.table({n: list(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)})  # noqa: F841
            truth.execute(f"CREATE TABLE {name} ({columns}); INSERT INTO {name} SELECT * FROM rows_")

    def reopen(self) -> None:
        for cursor in self.cursors:
            cursor.close()
        self.cursors.clear()
        self.con.close()
        self.con = self.connected()

    def sample(self, minutes: float) -> tuple[float, float, float, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
        size = sum(f.stat().st_size for f in self.folder.glob("soak.aidb*"))
        now = (minutes, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, size / 2**20, self.found.done.total())
        self.found.samples.append(now)
        return now


def run(seed: int, *, seconds: float = 1e9, steps: int = 1 << 60, loud: bool = False) -> Found:
    """Live for so long, or so many steps."""
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), seed)
        began, minute = time.monotonic(), 1
        for n in range(1, steps + 1):
            soak.step()
            if n % 200 == 0:
                soak.check()
            if n % 2500 == 0:
                soak.reopen()
            if (now := time.monotonic() - began) > 60 * minute:
                _, memory, size, done = soak.sample(now / 60)
                kinds = Counter(type(o).__name__ for o in gc.get_objects()).total()
                handles = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
                if loud:
                    print(
                        f"{minute:3} min: {memory:7.1f} MB, file {size:6.1f} MB, {done:7,} statements, {kinds:,} objects, "
                        f"{threading.active_count()} threads, {handles} handles, {len(soak.found.problems)} problems",
                        flush=True,
                    )
                minute += 1
            if now > seconds:
                break
        soak.check()
        soak.con.close()
        return soak.found


def slope(samples: list[tuple[float, float, float, int]], column: int) -> tuple[float, float]:
    """Change a minute, and its standard error, over the last two thirds."""
    late = np.array(samples[len(samples) // 3 :], dtype=float)
    if len(late) < 4:
        return float("nan"), float("nan")
    x, y = late[:, 0] - late[:, 0].mean(), late[:, column]
    b = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - b * x
    return b, float(np.sqrt((rest @ rest) / (len(x) - 2) / (x @ x)))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = run(given.seed, seconds=60 * given.minutes, loud=True)
    print(f"done: {dict(found.done)}\nraised: {dict(found.raised)}\nguarantees: {dict(found.promised)}")
    print("seconds:", {kind: round(n) for kind, n in found.seconds.items()})
    for what, column in (("memory", 1), ("file", 2)):
        change, error = slope(found.samples, column)
        print(f"{what}: {change:+.3f} +- {error:.3f} MB a minute over the last two thirds")
    if len(found.samples) > 1:
        (_, _, size, _), (_, _, last, _) = found.samples[len(found.samples) // 3], found.samples[-1]
        done = found.samples[-1][3] - found.samples[len(found.samples) // 3][3]
        print(f"file: {(last - size) * 2**20 / max(done, 1):,.0f} bytes a statement over the same time")
    for problem in dict.fromkeys(found.problems):
        print("PROBLEM", problem)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
