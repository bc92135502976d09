"""What AIDB itself costs over very many items: its tables, the questions it asks of them, the design of a sample.

    python -m benchmarks scale --sizes 1e6 1e7 [--steps build again ...] [--folder DIR] [--json]

A database is made by AIDB's own statements: an archive of video, a cheap model, a first answer. DuckDB then writes as
many rows into just those tables as listing and asking so many items would have written: one item a frame, an answer and
a ledger entry for each, a call for each batch of 64. What is measured after that is ordinary use; models answer at once.

Each step has a process of its own, so that its peak of memory is its own. With ``--folder`` the databases stay there,
and a later run may leave out ``build``. DuckDB may use the memory that ``--memory`` says (80% of the machine's by
default); what does not fit goes to disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._measure import Figure, apart, peak_bytes, spent, table

FILE = 100_000
"""Frames of one video: an hour at 30 a second."""
BATCH = 64
"""Items of a call."""
NEW = 100
"""One item in so many is new in the end."""
CALLS = 10_000
"""The ORACLE LIMIT of a selection."""

Row = tuple[str, float, str]
"""What was measured, the value, its unit."""


def run(quick: bool = False) -> Iterator[Figure]:
    """All steps, at one size that takes seconds or a few minutes."""
    with tempfile.TemporaryDirectory() as folder:
        yield from measure(100_000 if quick else 10_000_000, Path(folder), tuple(STEPS), None)


def measure(n: int, folder: Path, steps: Sequence[str], memory: str | None) -> Iterator[Figure]:
    """Figures of some steps over n items, in the order of `STEPS`."""
    for step in (s for s in STEPS if s in steps):
        yield from apart(_step, step, n, str(folder), memory)


def _step(step: str, n: int, folder: str, memory: str | None) -> list[Figure]:
    case = f"{n:,}, {step}"
    if step == "design":
        rows = list(_design(n))
    else:
        if step == "ledger":
            folder = tempfile.mkdtemp(dir=folder)
        with _opened(folder, memory) as con:
            rows = list(STEPS[step](n, con))
    return [Figure("scale", case, *row) for row in (*rows, ("peak memory", peak_bytes() / 2**30, "GiB"))]


class Archive:
    """A connector of many videos, of which it lists one frame: the others are written for it."""

    name = "archive"
    extensions: frozenset[str] = frozenset()
    priority = 0

    def claims(self, source: str) -> int:
        return int(source.startswith("archive:"))

    def schema(self, scan: Any) -> Any:
        from aidb_connectors.video import Video

        return Video().schema(scan)

    def items(self, scan: Any) -> Iterator[Any]:
        import pyarrow as pa

        from aidb.spi import CONTENT_TYPE, arrow_type

        ref = {"uri": "archive/0.mp4", "pos": 0, "media": "image", "connector": self.name}
        row = ("archive/0.mp4", 0, 0, 0.0, 1920, 1080, ref, "v1")
        columns = self.schema(scan).columns
        types = [CONTENT_TYPE if name == "image" else arrow_type(type_) for name, type_ in columns]
        arrays = [pa.array([v], t) for v, t in zip(row, [*types, pa.string()], strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=[*(name for name, _ in columns), "content_id"])

    def read(self, refs: Any, *, encoded: bool = False) -> Iterator[Any]:
        raise AssertionError("nothing is decoded here")


def _hashed(ids: Any, factor: int) -> Any:
    """Numbers from 0 to 1 that look random, the same ones as in `_HASHED`."""
    return (ids * factor % 2**32) / 2**32


_HASHED = "(r * 2654435761 % 4294967296) / 4294967296"


@contextmanager
def _opened(folder: str, memory: str | None) -> Iterator[Any]:
    """A connection with the connector and two models: ``cheap``, the proxy, and ``sure``, which was asked nothing yet.

    Of frames with score s a share s is sure, and 1 in 21 of all.
    """
    import aidb

    def cheap(ids: Any) -> Any:
        return {"score": _hashed(ids.to_numpy(), 2654435761) ** 20}

    def sure(ids: Any) -> Any:
        return {"sure": _hashed(ids.to_numpy(), 1597334677) < _hashed(ids.to_numpy(), 2654435761) ** 20}

    with aidb.connect(Path(folder) / "scale.aidb") as con:
        con.register_connector(Archive())
        con.register(aidb.model(outputs={"score": "DOUBLE"}, version="1", batch_size=2048)(cheap))
        con.register(aidb.model(outputs={"sure": "BOOLEAN"}, version="1", batch_size=2048)(sure))
        if memory:
            con.execute(f"SET memory_limit = '{memory}'")
        yield con


def _build(n: int, con: Any) -> Iterator[Row]:
    con.execute("CREATE BLOB TABLE frames FROM 'archive:*' USING archive")
    con.execute("CREATE VIRTUAL TABLE score AS cheap(frames.frame_id)")
    con.execute("SELECT * FROM score").fetchall()
    fill = con.engine.registry.relation("score").fill
    call = con.execute("SELECT call_id, fill FROM aidb.calls").fetchone()
    batches, left = f"range((({n} - 1) + {BATCH - 1}) // {BATCH})", f"least({BATCH}, {n} - 1 - r * {BATCH})"
    parts = {
        "items": _frames(con, 1, n),
        "calls": f"INSERT INTO aidb_internal.calls SELECT nextval('aidb_internal.call_ids'), {call[1]}, "
        f"TIMESTAMP '2026-01-01' + to_seconds(r // 4), 0.25 + r % 10 / 100, {left}, {left}, 0, 'cuda:0' FROM {batches} t(r)",
        "ledger": f"INSERT INTO {fill.ledger} SELECT r, {call[0]} + 1 + (r - 1) // {BATCH}, false FROM range(1, {n}) t(r)",
        "answers": f"INSERT INTO {fill.rows} SELECT r, power({_HASHED}, 20) FROM range(1, {n}) t(r)",
    }
    before = _on_disk(con)
    for part, sql in parts.items():
        took = spent(lambda sql=sql: con.engine.database.execute(sql))  # type: ignore[misc]
        now = _on_disk(con)
        yield f"{part}: on disk", (now - before) / n, "bytes an item"
        yield f"{part}: written by DuckDB alone, CPU", took.cpu, "s"
        before = now


def _ledger(n: int, con: Any) -> Iterator[Row]:
    """The ledger alone, in a database of its own, for sizes at which the rest takes too long: can it be held, and read?"""
    con.execute("CREATE BLOB TABLE frames FROM 'archive:*' USING archive")
    con.execute("CREATE VIRTUAL TABLE score AS cheap(frames.frame_id)")
    con.execute("SELECT * FROM score").fetchall()
    ledger = con.engine.registry.relation("score").fill.ledger
    before = _on_disk(con)
    sql = f"INSERT INTO {ledger} SELECT r, 2 + (r - 1) // {BATCH}, false FROM range(1, {n}) t(r)"
    took = spent(lambda: con.engine.database.execute(sql))
    yield "ledger alone: on disk", (_on_disk(con) - before) / n, "bytes an item"
    yield "ledger alone: written by DuckDB alone, CPU", took.cpu, "s"
    digest = f"SELECT bit_xor(hash(frame_id)), sum(hash(frame_id)), count(*) FROM {ledger}"
    took = spent(lambda: con.engine.database.execute(digest))
    yield "ledger alone: its digest", took.wall, "s"
    yield "ledger alone: its digest, CPU", took.cpu, "s"


def _frames(con: Any, first: int, last: int) -> str:
    """Items as the video connector would list them."""
    name = f"'archive/' || (r // {FILE}) || '.mp4'"
    at = f"r % {FILE}"
    return (
        f"INSERT INTO {con.engine.registry.relation('frames').base} SELECT r, file, {at}, ({at}) * 512, ({at}) / 30, 1920, 1080, "
        f"{{'uri': file, 'pos': ({at}) * 512, 'media': 'image', 'connector': 'archive'}}, 'v1', 0 "
        f"FROM (SELECT r, {name} AS file FROM range({first}, {last}) t(r))"
    )


def _on_disk(con: Any) -> int:
    """Bytes of the file that are in use."""
    cursor = con.engine.database.cursor()
    try:
        cursor.execute("CHECKPOINT")
        return int(cursor.execute("SELECT used_blocks * block_size FROM pragma_database_size()").fetchall()[0][0])
    finally:
        cursor.close()


def _timed(con: Any, what: str, sql: str) -> Iterator[Row]:
    took = spent(lambda: con.execute(sql).fetchall())
    yield what, took.wall, "s"
    yield f"{what}, CPU", took.cpu, "s"


def _again(n: int, con: Any) -> Iterator[Row]:
    """Everything is known: what does AIDB add to DuckDB's own time?"""
    query = "SELECT count(*), avg(score) FROM score WHERE score > 0.5"
    yield from _timed(con, "all known, first query of a process", query)
    yield from _timed(con, "all known, again", query)
    assert not any(con.execute(query).report.calls.values())
    base = con.engine.registry.relation("score").base
    yield from _timed(con, "DuckDB alone on the answers", query.replace("FROM score", f"FROM {base}"))
    yield from _timed(con, "one item by its key", f"SELECT score FROM score WHERE frame_id = {n // 2}")


def _few(n: int, con: Any) -> Iterator[Row]:
    """Stored conditions leave few items of an archive that the model has never seen."""
    where = f"file = 'archive/{n // FILE // 2}.mp4' AND ts BETWEEN 60 AND 120"
    yield from _timed(
        con, "1,801 frames of one file, never asked", f"SELECT count(*) FROM frames WHERE {where} AND sure(frame_id)"
    )
    yield from _timed(
        con, "LIMIT 10, never asked", "SELECT frame_id FROM frames WHERE ts > 200 AND sure(frame_id) LIMIT 10"
    )
    yield from _timed(
        con, "EXPLAIN of everything, never asked", "EXPLAIN SELECT count(*) FROM frames WHERE sure(frame_id)"
    )


def _estimate(n: int, con: Any) -> Iterator[Row]:
    """A sample of items that the model has never seen, by a score that is stored for all."""
    sql = "SELECT count(*) AS c FROM frames WHERE sure(frame_id) ERROR TARGET 5% USING PROXY cheap(frame_id) SEED 1"
    labels: list[int] = []
    took = spent(lambda: labels.append(con.execute(sql).report.labels))
    yield "ERROR TARGET 5%", took.wall, "s"
    yield "ERROR TARGET 5%, CPU", took.cpu, "s"
    yield "items asked", labels[0], ""


def _select(n: int, con: Any) -> Iterator[Row]:
    clauses = f"RECALL TARGET 90% ORACLE LIMIT {CALLS} USING PROXY cheap(frame_id) SEED 1"
    sql = f"SELECT frame_id FROM frames WHERE sure(frame_id) {clauses}"
    found: list[int] = []
    took = spent(lambda: found.append(con.execute(sql).rowcount))
    yield f"RECALL TARGET 90%, {CALLS:,} calls", took.wall, "s"
    yield f"RECALL TARGET 90%, {CALLS:,} calls, CPU", took.cpu, "s"
    yield "rows of the answer", found[0], ""


def _new(n: int, con: Any) -> Iterator[Row]:
    """One item in a hundred is new: a query that asks about those, and no others."""
    con.engine.database.execute(_frames(con, n, n + n // NEW))
    query = "SELECT count(*), avg(score) FROM score WHERE score > 0.5"
    yield from _timed(con, "EXPLAIN: which items are new?", f"EXPLAIN {query}")
    took = spent(lambda: con.execute(query).fetchall())
    yield f"asking {n // NEW:,} new items", took.wall, "s"
    yield f"asking {n // NEW:,} new items, CPU", took.cpu, "s"


def _check(n: int, con: Any) -> Iterator[Row]:
    found: list[Any] = []
    took = spent(lambda: found.extend(con.execute("CHECK CATALOG").fetchall()))
    assert not found, found
    yield "CHECK CATALOG", took.wall, "s"
    yield "CHECK CATALOG, CPU", took.cpu, "s"


def _design(n: int) -> Iterator[Row]:
    """The statistics alone, over arrays: no database, no model."""
    import numpy as np

    from aidb.stats import select

    scores = _hashed(np.arange(n), 2654435761) ** 20
    yield "one array of scores", scores.nbytes / 2**30, "GiB"
    yield "memory before", peak_bytes() / 2**30, "GiB"

    def label(rows: Any) -> Any:
        return _hashed(rows, 1597334677) < scores[rows]

    took = spent(lambda: select(scores, label, recall=0.9, budget=CALLS, rng=np.random.default_rng(1)))
    yield "select, recall 90%", took.wall, "s"
    yield "select, recall 90%, CPU", took.cpu, "s"


STEPS: dict[str, Callable[..., Iterator[Row]]] = {
    "build": _build,
    "again": _again,
    "few": _few,
    "estimate": _estimate,
    "select": _select,
    "new": _new,
    "check": _check,
    "design": _design,
    "ledger": _ledger,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e6], help="items, such as 1e7")
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where databases are, and stay")
    parser.add_argument("--memory", help="DuckDB's memory limit, such as 4GB")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.add_argument("--quick", action="store_true", help="a small size, in seconds")
    given = parser.parse_args(arguments)
    if given.quick:
        given.sizes = [1e5]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in given.sizes:
            folder = (given.folder or Path(temporary)) / f"{int(size)}"
            folder.mkdir(parents=True, exist_ok=True)
            for figure in measure(int(size), folder, given.steps, given.memory):
                figures.append(figure)
                print(
                    figure.case, figure.what, f"{figure.value:,.4g}", figure.unit, sep="  ", file=sys.stderr, flush=True
                )
    print(json.dumps([asdict(f) for f in figures]) if given.json else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
