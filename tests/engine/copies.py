"""``python -m tests.engine.copies [SECONDS]``: copies of a file that is written without a pause, each looked at whole.

A slower proof of what tests/engine/test_two_clients.py samples: a writer inserts, updates, drops and checkpoints as fast
as it can, over a hundred megabytes, and each copy must hold one state that there was.
"""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import aidb

WRITER = """
import random, sys, duckdb, aidb
aidb.connect(sys.argv[1]).close()
con = duckdb.connect(sys.argv[1])
chance = random.Random(1)
con.execute("SET checkpoint_threshold = '8MB'; CREATE TABLE a AS SELECT 0 AS step; CREATE TABLE b AS SELECT 0 AS step")
con.execute("CREATE TABLE big AS SELECT i, random() AS r, 0 AS step FROM range(8000000) t(i)")
print("open", flush=True)
step = 0
while True:
    step += 1
    con.execute("BEGIN")
    con.execute("UPDATE a SET step = ?; ", [step])
    low = chance.randrange(7_900_000)
    con.execute("UPDATE big SET step = ? WHERE i BETWEEN ? AND ?", [step, low, low + 100_000])
    if chance.random() < 0.2:
        con.execute("CREATE OR REPLACE TABLE extra AS SELECT i, ? AS step FROM range(400000) t(i)", [step])
    con.execute("UPDATE b SET step = ?", [step])
    con.execute("COMMIT")
    if chance.random() < 0.3:
        con.execute("CHECKPOINT")
"""


ROWS = 8_000_000


def main(seconds: float) -> None:
    """Say how many copies were looked at, and how many states were seen; raise if one is none."""
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        copies, refused, states, sizes = 0, 0, set(), []
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                try:
                    con = aidb.connect(path, read_only=True)
                except aidb.OperationalError as e:
                    if "faster than it can be copied" not in str(e):
                        raise
                    refused += 1
                    continue
                with con:
                    [(a, b)] = con.execute("SELECT a.step, b.step FROM a, b").fetchall()
                    assert a == b, "half of a transaction"
                    [(n, distinct, last)] = con.execute(
                        "SELECT count(*), count(DISTINCT i), max(step) FROM big WHERE r BETWEEN 0 AND 1"
                    ).fetchall()
                    assert (n, distinct) == (ROWS, ROWS)
                    assert last == a
                    assert con.execute("CHECK CATALOG").fetchall() == []
                    copies, states = copies + 1, states | {a}
                    sizes.append(path.stat().st_size)
        finally:
            writer.kill()
            writer.wait()
        print(f"{copies} copies of {max(sizes, default=0) / 2**20:.0f} MiB, {len(states)} states, {refused} given up")
        with aidb.connect(path) as con:
            [(a, b)] = con.execute("SELECT a.step, b.step FROM a, b").fetchall()
            assert a == b
            assert con.execute("CHECK CATALOG").fetchall() == []


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
