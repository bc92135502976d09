"""A model that uses one processor, in this process and on two workers of Ray: the same query, in turns.

The model counts in Python, so that in one process its calls can't overlap. What a worker takes to start is apart: the
first query pays it, and it is measured as such. A machine that is busy with other work has no second core to give; what
holds there as well is the share of the time in which both workers are at the model.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks._measure import Figure, apart, command, cores, in_turn, median, ratio

ITEMS = 400
LOOPS = 400_000
"""Rounds of a loop for each item: some 20 milliseconds of a processor."""


def run(quick: bool = False) -> Iterator[Figure]:
    """Seconds of a query on one and on two processors, and how much faster the second is."""
    if importlib.util.find_spec("ray") is None:
        yield Figure("ray", "all", "", None, "", note="skipped: pip install 'aidb[ray]'")
        return
    yield from apart(_measured, ITEMS // 2 if quick else ITEMS, 2 if quick else 4)


def _measured(items: int, turns: int) -> list[Figure]:
    import aidb

    @aidb.model(outputs={"y": "BIGINT"}, batch_size=8, version="1")
    def tally(x: Any) -> Any:
        found = []
        for value in x.to_pylist():
            n = 0
            for step in range(LOOPS):
                n = (n + step * value) & 0xFFFF
            found.append(n)
        return {"y": found}

    with aidb.connect() as con:
        con.execute("SET aidb.ray_workers = '2'; SET aidb.progress = false; SET threads = 1")
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({items}) KEY (id)")
        con.register(tally)
        con.execute("CREATE VIRTUAL TABLE v AS tally(t.x)")

        def query(executor: str, n: int = items) -> list[tuple[Any, ...]]:
            con.execute(f"SET aidb.executor = '{executor}'")
            for fill in con.engine.registry.fills.values():
                con.engine.database.execute(f"DELETE FROM {fill.rows}; DELETE FROM {fill.ledger}")
            return con.execute(f"SELECT count(*), sum(y) FROM v WHERE id < {n}").fetchall()

        def at_model() -> float:
            return float(con.execute("SELECT coalesce(sum(seconds), 0) FROM aidb.calls").fetchall()[0][0])

        began = time.perf_counter()
        query("ray", 16)
        first = time.perf_counter() - began
        assert query("ray") == query("local")  # and both workers are there
        busy: list[float] = []

        def away() -> None:
            before, began = at_model(), time.perf_counter()
            query("ray")
            busy.append((at_model() - before) / (2 * (time.perf_counter() - began)))

        took = in_turn(turns, local=lambda: query("local"), ray=away)
        few = in_turn(turns * 2, local=lambda: query("local", 1), ray=lambda: query("ray", 1))
    case = f"{items} items, 2 workers, {cores()} cores"
    return [
        Figure("ray", case, "local", median(took["local"]), "s"),
        Figure("ray", case, "ray", median(took["ray"]), "s"),
        Figure("ray", case, "speed-up", 1 / ratio(took["ray"], took["local"]), "times", at_least=1.7),
        Figure("ray", case, "share of the time that both workers are at the model", statistics.median(busy), ""),
        Figure("ray", "1 item", "more than local", median(few["ray"]) - median(few["local"]), "s"),
        Figure("ray", "first query", "cluster and workers start", first, "s"),
    ]


if __name__ == "__main__":
    sys.exit(command({"ray": run}, __doc__))
