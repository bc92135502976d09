"""What `import aidb` costs a fresh interpreter, beyond starting it."""

from __future__ import annotations

import subprocess
import sys
import time

REPEATS = 7


def run() -> dict[str, float]:
    """Milliseconds of wall time, the best of some runs, since the machine may be busy."""
    bare, ours = (min(_seconds(code) for _ in range(REPEATS)) for code in ("pass", "import aidb"))
    return {"bare_ms": round(1000 * bare, 1), "import_aidb_ms": round(1000 * (ours - bare), 1)}


def _seconds(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin
