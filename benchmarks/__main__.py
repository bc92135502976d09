"""Run the benchmarks beside this file, all or those named, and print one JSON line each: ``python -m benchmarks [NAME]``.

A benchmark is a module with ``run() -> dict[str, float]``: what was measured, with the unit at the end of its name.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(names: list[str]) -> int:
    """Run and print; give the exit code, 2 for a name that is no benchmark."""
    known = sorted(p.stem for p in Path(__file__).parent.glob("[!_]*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there is {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or known:
        measured = importlib.import_module(f"benchmarks.{name}").run()
        print(json.dumps({"benchmark": name, **measured}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
