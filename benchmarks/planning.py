"""What a statement costs before anything runs: five virtual tables joined, in a catalogue of fifty.

Everything is answered already, so the statement's whole way is measured: parsing, binding, the catalogue, the plan, the
queries that find nothing left to run, DuckDB's answer, the report. DuckDB's own time for the same join is taken off.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from benchmarks._measure import Figure, command

TABLES, ITEMS = 50, 100
JOIN = (
    "SELECT v0.a, count(*) AS n FROM v0 JOIN v10 USING (id) JOIN v20 USING (id) JOIN v30 USING (id) JOIN v40 USING (id) "
    "WHERE v10.a > 0.1 AND v20.a < 0.9 AND (v30.a > 0.5 OR v40.a > 0.5) GROUP BY v0.a ORDER BY n DESC LIMIT 10"
)


def run(quick: bool = False) -> Iterator[Figure]:
    """Milliseconds, the median of many statements."""
    import aidb
    from aidb.testing import FakeModel

    figure = partial(Figure, "planning", f"5 of {TABLES} virtual tables joined")
    with aidb.connect() as con:
        con.execute(f"CREATE BLOB TABLE items AS SELECT range AS id FROM range({ITEMS}) KEY (id)")
        con.register(FakeModel("m", {"a": "DOUBLE"}, lambda x: x / ITEMS))
        for n in range(TABLES):
            con.register(FakeModel("m", {"a": "DOUBLE"}, lambda x: x / ITEMS, version=str(n)), f"m{n}")
            con.execute(f"CREATE VIRTUAL TABLE v{n} AS m{n}(items.id)")
        repeats = 15 if quick else 60
        plans = _Plans(con)
        yield figure("parse, bind, catalogue and plan, CPU", plans.milliseconds(repeats), "ms", 10.0)
        con.execute(JOIN).fetchall()
        database = con.engine.database
        whole = _milliseconds(lambda: con.execute(JOIN).fetchall(), repeats)
        alone = _milliseconds(lambda: database.query(JOIN), repeats)
        yield figure("the statement again, everything known, CPU", whole, "ms")
        yield figure("DuckDB alone, CPU", alone, "ms")


class _Plans:
    """The engine's way to a plan, as `Engine.run` goes it."""

    def __init__(self, con: object) -> None:
        self.engine = con.engine  # type: ignore[attr-defined]

    def once(self) -> None:
        from aidb.sql.parse import parse
        from aidb.sql.statements import Query

        statement = parse(JOIN)
        assert isinstance(statement, Query)
        with self.engine._bound(statement.core) as bound:
            plan = self.engine._plan(bound, None)
            assert plan is not None
            assert len(plan.fills) == 5
            assert plan.fallback is None

    def milliseconds(self, repeats: int) -> float:
        return _milliseconds(self.once, repeats)


def _milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The median of the processor time; the first call, which imports, is left out."""
    work()
    found = []
    for _ in range(repeats):
        begin = time.process_time_ns()
        work()
        found.append((time.process_time_ns() - begin) / 1e6)
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(command({"planning": run}, __doc__))
