"""What a person waits for: the prompt of the shell, and the names that it offers while they type."""

from __future__ import annotations

import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import aidb
from aidb.surfaces.completing import complete
from aidb.surfaces.vocabulary import Vocabulary, read
from benchmarks._measure import Figure, command

TABLES, COLUMNS = 500, 20
_TYPED = (
    "SELECT ",
    "SELECT col",
    "SELECT * FROM t1",
    "SELECT a.c FROM table_7 a",
    "SELECT label FROM table_3 WHERE column_3_1",
)
"""What stands before the cursor, from nothing of a name to nearly all of it."""


def run(quick: bool = False) -> Iterator[Figure]:
    """Processor seconds up to the prompt; milliseconds for a list of names."""
    figure = partial(Figure, "shell")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.aidb"
        names = _many(path)
        if Path("/proc/self/stat").exists():  # where another program's processor time can be read
            turns = 3 if quick else 9
            bare = statistics.median(_spent("-c", "import duckdb") for _ in range(turns))
            for case, database in (("a new database", ":memory:"), (f"{TABLES} tables", str(path))):
                shown, left = zip(*(_prompt(database, Path(folder)) for _ in range(turns)), strict=True)
                yield figure(
                    case, "CPU to the prompt, beyond `import duckdb`", statistics.median(shown) - bare, "s", 0.6
                )
                more = "CPU until it is left at once, what is loaded behind the prompt included"
                yield figure(case, more, statistics.median(left) - bare, "s")
        worst = 0.0
        for text in _TYPED:
            begin = time.perf_counter()
            for _ in range(5):
                complete(text, len(text), names)
            worst = max(worst, (time.perf_counter() - begin) / 5)
        yield figure(
            f"{TABLES} tables of {COLUMNS} columns", "names for what is typed, slowest", 1000 * worst, "ms", 50
        )


def _many(path: Path) -> Vocabulary:
    columns = [", ".join(f"column_{t}_{c} INTEGER" for c in range(COLUMNS)) for t in range(TABLES)]
    with aidb.connect(path) as con:
        con.execute("BEGIN; " + "; ".join(f"CREATE TABLE table_{t} ({c})" for t, c in enumerate(columns)) + "; COMMIT")
        return read(con.engine)


def _spent(*arguments: str) -> float:
    """Processor seconds of a Python program, start to end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _prompt(database: str, home: Path) -> tuple[float, float]:
    """Processor seconds of a shell on a terminal, when its prompt stands, and in all; it is left (Ctrl-D) at once."""
    import pty

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    main, side = pty.openpty()
    kept = os.environ | {"TERM": "xterm", "XDG_STATE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    shell = subprocess.Popen(
        [sys.executable, "-m", "aidb", database], stdin=side, stdout=side, stderr=side, env=kept, start_new_session=True
    )
    os.close(side)
    seen, end, shown = b"", time.monotonic() + 60, 0.0
    while time.monotonic() < end:
        if select.select([main], [], [], 0.05)[0]:
            try:
                part = os.read(main, 65536)
            except OSError:  # it has left
                break
            if b"\x1b[6n" in part:  # it asks its terminal where the cursor stands
                os.write(main, b"\x1b[1;1R")
            if b"aidb>" not in seen and b"aidb>" in seen + part:
                user, system = Path(f"/proc/{shell.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
                shown = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
                os.write(main, b"\x04")
            seen += part
    code = shell.wait(timeout=30)
    os.close(main)
    if code or b"aidb>" not in seen:
        raise RuntimeError(f"the shell left with {code} and showed {seen[-300:]!r}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return shown, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    sys.exit(command({"shell": run}, __doc__))
