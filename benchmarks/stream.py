"""The first row of a long scan: with rows handed out while models are at work, and after the last item.

Three models that take time without a processor's help, as a service or a GPU does: 0.1 ms an item in batches of 100 (and
the same in two steps, the second over what the first lets through), and one that looks answers up and takes none. The
database is a file. Both ways run in turns, each time in a new file; what counts is the median of neighbours' ratios.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks._measure import Figure, apart, command

if TYPE_CHECKING:
    import aidb

SECONDS_PER_ITEM = 1e-4


def run(quick: bool = False) -> Iterator[Figure]:
    """Seconds to the first row and to the last, and what handing rows out early costs."""
    items, turns = (20_000, 2) if quick else (100_000, 3)
    for case in ("0.1 ms an item", "two models", "half is known", "no time at all"):
        yield from apart(_measure, case, items, turns)


@dataclass(frozen=True)
class _Read:
    """Seconds until execute returned, until the first row, until the last one, and of processor time."""

    execute: float
    first: float
    last: float
    cpu: float
    rows: int


def _measure(case: str, items: int, turns: int) -> list[Figure]:
    reads: dict[str, list[_Read]] = {"auto": [], "off": []}
    for turn in range(turns + 1):
        for mode in sorted(reads, reverse=bool(turn % 2)):
            with tempfile.TemporaryDirectory() as folder:
                read = _read(Path(folder), case, items, mode)
            if turn:  # the first one loads libraries
                reads[mode].append(read)
    ours, whole = reads["auto"], reads["off"]
    assert {r.rows for r in ours} == {r.rows for r in whole}

    def ratio(one: Callable[[_Read], float], other: Callable[[_Read], float]) -> float:
        return median(one(a) / other(b) for a, b in zip(ours, whole, strict=True))

    figure = partial(Figure, "stream", f"{case}, {items:,} items")
    return [
        figure("first row", median(r.first for r in ours), "s"),
        figure("first row, aidb.stream = off", median(r.first for r in whole), "s"),
        figure(
            "first row / whole scan",
            ratio(lambda a: a.first, lambda b: b.last),
            "",
            at_most=None if case == "no time at all" else 0.05,
        ),
        figure("last row", median(r.last for r in ours), "s"),
        figure("last row, aidb.stream = off", median(r.last for r in whole), "s"),
        figure("last row / whole scan", ratio(lambda a: a.last, lambda b: b.last), ""),
        figure("CPU more than the whole scan", median(r.cpu for r in ours) - median(r.cpu for r in whole), "s"),
    ]


def _read(folder: Path, case: str, items: int, mode: str) -> _Read:
    import aidb

    with aidb.connect(folder / "bench.aidb") as con:
        sql = _prepare(con, case, items)
        con.execute(f"SET aidb.stream = '{mode}'")
        began, cpu = time.perf_counter(), time.process_time()
        cursor = con.execute(sql)
        executed = time.perf_counter() - began
        assert cursor.fetchone() is not None
        first = time.perf_counter() - began
        rows = 1 + len(cursor.fetchall())
        return _Read(executed, first, time.perf_counter() - began, time.process_time() - cpu, rows)


def _prepare(con: aidb.Connection, case: str, items: int) -> str:
    """Make tables and models; the query to read."""
    import pyarrow.compute as pc

    import aidb

    pause: Callable[[int], Any] = (lambda n: None) if case == "no time at all" else _pause
    batch = None if case == "no time at all" else 100

    @aidb.model(outputs={"y": "BIGINT"}, version="1", batch_size=batch)
    def step(x: Any) -> dict[str, Any]:
        pause(len(x))
        return {"y": pc.add(x, 1)}

    con.register(step, "step")
    con.execute(f"CREATE BLOB TABLE items AS SELECT range AS id, range AS x FROM range({items}) KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS step(items.x)")
    if case == "half is known":
        con.execute(f"SELECT count(y) FROM v WHERE id >= {items // 2}").fetchall()
    if case == "two models":
        con.register(step, "other")
        return "SELECT id FROM items WHERE step(x) % 4 = 1 AND other(x) > 0"
    return "SELECT id, y FROM v WHERE y % 2 = 0"


def _pause(n: int) -> None:
    time.sleep(n * SECONDS_PER_ITEM)


if __name__ == "__main__":
    sys.exit(command({"stream": run}, __doc__))
