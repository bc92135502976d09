"""Workers of Ray are killed at random, again and again, while a statement runs; not an item may be lost or doubled.

python -m tests.distributed.kills --kills 12 --seed 1
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import aidb
from tests.engine.storing import check_storage

ITEMS = 6000


@aidb.model(outputs={"part": "INTEGER"}, rows="many", batch_size=16)
def parts(x: Any) -> Any:
    """0, 1 or 2 rows an item, after five milliseconds."""
    time.sleep(0.005 * len(x))
    items = [(row, value * 10 + part) for row, value in enumerate(x.to_pylist()) for part in range(value % 3)]
    return {"_row": [row for row, _ in items], "part": [part for _, part in items]}


def workers() -> list[int]:
    """Processes below this one in which Ray runs our workers."""
    parents, found = {}, []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if (folder / "cmdline").read_bytes().startswith(b"ray::RemoteWorker"):
                    found.append(int(folder.name))
            except OSError:
                continue  # it has ended meanwhile
    return [pid for pid in found if os.getpid() in _above(pid, parents)]


def _above(pid: int, parents: dict[int, int]) -> set[int]:
    above: set[int] = set()
    while pid in parents and pid not in above:
        above.add(pid)
        pid = parents[pid]
    return above


def killer(kills: int, rng: random.Random, killed: list[int], over: threading.Event) -> None:
    while len(killed) < kills and not over.wait(rng.uniform(0.5, 8.0)):
        for pid in rng.sample(found := workers(), min(1, len(found))):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    killed: list[int] = []
    right = (sum(i % 3 for i in range(ITEMS)), sum(i * 10 + p for i in range(ITEMS) for p in range(i % 3)))
    rounds = 0
    with aidb.connect() as con:
        con.execute("SET aidb.executor = 'ray'; SET aidb.ray_workers = '2'; SET aidb.progress = false; SET threads = 1")
        con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({ITEMS}) KEY (id)")
        con.register(parts)
        con.execute("CREATE VIRTUAL TABLE v AS parts(t.x)")
        over = threading.Event()
        thread = threading.Thread(
            target=killer, args=(given.kills, random.Random(given.seed), killed, over), daemon=True
        )
        thread.start()
        while len(killed) < given.kills:
            rounds += 1
            for fill in con.engine.registry.fills.values():
                for table in (fill.rows, fill.ledger, "aidb_internal.calls"):
                    con.engine.database.execute(f"DELETE FROM {table}")
            began = time.monotonic()
            cursor = con.execute("SELECT count(*), sum(part) FROM v")
            answer = cursor.fetchall()[0]
            print(
                f"round {rounds}: {time.monotonic() - began:.1f} s, {len(killed)} workers killed so far, "
                f"calls {dict(cursor.report.calls)}, failed {cursor.report.failed}",
                flush=True,
            )
            assert answer == right, (answer, right)
            assert (dict(cursor.report.calls), cursor.report.failed) == ({"parts": ITEMS}, 0)
            assert check_storage(con) == {"parts": ITEMS}
        over.set()
        thread.join()
    print(f"{len(killed)} workers killed: every answer right, every item once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
