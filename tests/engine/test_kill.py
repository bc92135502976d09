"""kill -9 at ten moments of a long query: no finished batch is asked again, no row is doubled or missing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import aidb
from tests.engine.storing import check_storage, rows

N = 400
BATCH = 10
CHILD = """
import os, sys, time
import aidb
from aidb.testing import FakeModel

side = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def answer(x):
    time.sleep(0.0005)
    os.write(side, f"{x}\\n".encode())
    return list(range(x % 3))

con = aidb.connect(sys.argv[1])
con.execute("SET threads = 1")
con.execute("CREATE BLOB TABLE IF NOT EXISTS t AS SELECT range AS id, range::INTEGER AS x FROM range(400) KEY (id)")
con.register(FakeModel("m", {"part": "INTEGER"}, answer, rows="many", batch_size=10, delay=0.01))
con.execute("CREATE VIRTUAL TABLE IF NOT EXISTS v AS m(t.x)")
print("ready", flush=True)
print(con.execute("SELECT count(*), sum(part) FROM v").fetchall(), flush=True)
"""
RIGHT = (sum(i % 3 for i in range(N)), sum(p for i in range(N) for p in range(i % 3)))


def test_kill_at_ten_moments(tmp_path: Path) -> None:
    chance = random.Random(20)
    database, side = tmp_path / "a.db", tmp_path / "asked"
    command = [sys.executable, "-c", CHILD, str(database), str(side)]
    done: set[int] = set()
    ended = killed = 0
    while killed < 10 and not ended:
        before = len(_asked(side))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            _until_asked(side, before + chance.randrange(1, 4 * BATCH))
            time.sleep(chance.uniform(0, 0.01))
            child.send_signal(signal.SIGKILL)
            killed += 1
            assert child.wait(10) == -signal.SIGKILL
        asked = _asked(side)[before:]
        again = done & set(asked)
        assert again == set(), "an item of a batch that was stored was asked again"
        with aidb.connect(database) as con:
            con.execute("SET threads = 1")
            stored = check_storage(con).get("m", 0)
            ledgers = con.engine.database.query("SELECT 'aidb_internal.ledger_' || id AS name FROM aidb_internal.fills")
            name = ledgers.column("name")[0].as_py()
            now = set(con.engine.database.query(f"SELECT id FROM {name}").column("id").to_pylist())
            assert len(now) == stored
            assert done <= now, "what was stored once stays"
            assert len(asked) - len(now - done) <= 2 * BATCH + 64, "no more is lost than what was in flight"
            done = now
    assert 0 < len(done) < N
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2], check=True)
    assert out.stdout.splitlines()[-1] == str([RIGHT])
    with aidb.connect(database) as con:
        assert check_storage(con) == {"m": N}
        assert rows(con, "SELECT count(*), sum(part) FROM v") == [RIGHT]
    asked = _asked(side)
    assert set(asked) == set(range(N))


def _asked(side: Path) -> list[int]:
    return [int(x) for x in side.read_text().split()] if side.exists() else []


def _until_asked(side: Path, n: int) -> None:
    deadline = time.monotonic() + 20
    while len(_asked(side)) < n:
        assert time.monotonic() < deadline, "the query does not go on"
        time.sleep(0.002)
