"""What a query costs beyond its models: a model that answers at once, over many items; and the same query once more.

The model looks answers up in a table in memory. The database is a file, as a user's is. The repeated query is compared
with DuckDB alone, over the table of answers that the first one left.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks._measure import Figure, apart, command, in_turn, median, peak_bytes, spent

QUERY = "SELECT count(*), avg(score) FROM {} WHERE score > 0.5"
REPEATS = 9


def run(quick: bool = False) -> Iterator[Figure]:
    """Microseconds an item, gigabytes, and the repeated query's milliseconds against its bound."""
    for n in (100_000,) if quick else (10_000, 100_000, 1_000_000):
        for rows in ("one", "many"):
            yield from apart(_measure, n, rows)


def _measure(n: int, rows: Literal["one", "many"]) -> list[Figure]:
    import numpy as np
    import pyarrow as pa

    import aidb
    from aidb.testing import table_model

    ids = np.arange(n) if rows == "one" else np.repeat(np.arange(n), 2)
    answers = pa.table({"id": ids, "score": np.random.default_rng(0).random(len(ids))})
    figure = partial(Figure, "overhead", f"rows={rows}, {n:,} items")
    with tempfile.TemporaryDirectory() as folder, aidb.connect(Path(folder) / "bench.aidb") as con:
        con.register(table_model("oracle", answers, "id", rows=rows))
        listing = spent(lambda: con.execute(f"CREATE BLOB TABLE items AS SELECT range AS id FROM range({n}) KEY (id)"))
        con.execute("CREATE VIRTUAL TABLE v AS oracle(items.id)")
        query = QUERY.format("v")
        first = spent(lambda: con.execute(query).fetchall())
        calls = con.execute("SELECT sum(items) FROM aidb.calls").fetchall()[0][0]
        assert calls == n, f"{calls} of {n} items were asked"
        plain = con.engine.database.cursor()
        stored = con.engine.registry.relation("v")
        assert stored is not None
        alone = QUERY.format(stored.base)
        assert plain.execute(alone).fetchall()[0][0] == con.execute(query).fetchall()[0][0]
        turns = in_turn(
            REPEATS,
            ours=lambda: con.execute(query).fetchall(),
            plain=lambda: plain.execute(alone).fetchall(),
        )
        plain.close()
    bound = 1000 * (1.5 * median(turns["plain"]) + 0.020)
    return [
        figure("CREATE BLOB TABLE, CPU an item", listing.cpu / n * 1e6, "us"),
        figure("query, CPU an item", first.cpu / n * 1e6, "us", 15.0),
        figure("query, wall time an item", first.wall / n * 1e6, "us"),
        figure("DuckDB alone on the answers", 1000 * median(turns["plain"]), "ms"),
        figure("the query again (bound: 1.5 x DuckDB alone + 20)", 1000 * median(turns["ours"]), "ms", bound),
        figure("peak memory", peak_bytes() / 2**30, "GiB", 4.0),
    ]


if __name__ == "__main__":
    sys.exit(command({"overhead": run}, __doc__))
