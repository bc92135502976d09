"""Run the benchmarks beside this file, all or those named: ``python -m benchmarks [--quick] [--json] [NAME ...]``.

Each is a command of its own as well: ``python -m benchmarks.overhead --json``. ``python -m benchmarks scale --help`` shows
the options of the largest.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from functools import partial

from benchmarks._measure import Figure, command

NAMES = ("imports", "shell", "planning", "overhead", "stream", "memory", "pipeline", "gpu", "serving", "ray", "scale")


def _run(name: str, quick: bool) -> Iterable[Figure]:
    """Import it only now: each brings libraries of its own."""
    found: Iterable[Figure] = importlib.import_module(f"benchmarks.{name}").run(quick)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["scale"]:  # which has options of its own
        from benchmarks import scale

        sys.exit(scale.main(sys.argv[2:]))
    sys.exit(command({name: partial(_run, name) for name in NAMES}, __doc__))
