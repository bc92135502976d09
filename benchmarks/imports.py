"""What `import aidb`, `connect` and the start of the shell cost a fresh interpreter, beyond starting it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from benchmarks._measure import Figure, command

HEAVY = ("numpy", "pyarrow", "duckdb", "sqlglot", "torch")
_CASES = {
    "import aidb": (["-c", "import aidb"], 50.0),
    "connect(':memory:')": (["-c", "import aidb; aidb.connect().close()"], None),
    "aidb --version": (["-m", "aidb", "--version"], None),
    "aidb -c 'SELECT 1'": (["-m", "aidb", "-c", "SELECT 1"], None),
}


def run(quick: bool = False) -> Iterator[Figure]:
    """Milliseconds of wall time above a bare interpreter's, and which heavy modules are loaded."""
    figure = partial(Figure, "imports")
    for case, (arguments, limit) in _CASES.items():
        extra = [_seconds(*arguments) - _seconds("-c", "pass") for _ in range(5 if quick else 15)]
        yield figure(case, "time beyond the interpreter's", 1000 * statistics.median(extra), "ms", limit)
    heavy = f"import sys, aidb; print(sum(m in sys.modules for m in {HEAVY}))"
    yield figure("import aidb", f"of {', '.join(HEAVY)}", float(_output("-c", heavy)), "loaded", 0)
    every = "import sys; before = set(sys.modules); import aidb; print(len(set(sys.modules) - before))"
    yield figure("import aidb", "modules", float(_output("-c", every)), "loaded")


def _seconds(*arguments: str) -> float:
    begin = time.perf_counter()
    _output(*arguments)
    return time.perf_counter() - begin


def _output(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(command({"imports": run}, __doc__))
