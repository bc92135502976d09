"""What all benchmarks share: clocks, medians, a process of one's own, and the table at the end.

The machine may be busy with other things. So processor time is measured beside wall time, what is compared runs in turn
in one process, again and again, and the median of the ratios counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Videos and weights, where there are any; they are no part of the repository."""


@dataclass(frozen=True)
class Figure:
    """One thing that was measured. at_most, at_least: what it must keep to; ``note`` says why there is no value."""

    benchmark: str
    case: str
    what: str
    value: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool | None:
        """Is the bound kept? None where there is none."""
        if self.value is None or (self.at_most is None and self.at_least is None):
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


@dataclass(frozen=True)
class Spent:
    """Seconds of wall time, and of processor time of all threads, user and system together."""

    wall: float
    cpu: float


Run = Callable[[bool], Iterable[Figure]]
"""A benchmark: told whether it must be quick, it gives its figures one by one."""


def spent(work: Callable[[], object]) -> Spent:
    """What a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def in_turn(repeats: int, **works: Callable[[], object]) -> dict[str, list[Spent]]:
    """What each of several calls takes, one after the other, in turns whose order is reversed each time."""
    found: dict[str, list[Spent]] = {name: [] for name in works}
    for turn in range(repeats):
        for name in sorted(works, reverse=bool(turn % 2)):
            found[name].append(spent(works[name]))
    return found


def ratio(ours: Sequence[Spent], theirs: Sequence[Spent], clock: str = "wall") -> float:
    """The median of the ratios of neighbouring turns."""
    return statistics.median(getattr(a, clock) / getattr(b, clock) for a, b in zip(ours, theirs, strict=True))


def median(values: Sequence[Spent], clock: str = "wall") -> float:
    """The middle one."""
    return statistics.median(getattr(v, clock) for v in values)


def peak_bytes() -> int:
    """The most memory that this process ever held, without what its parent held when it was forked."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def apart(work: Callable[..., T], *arguments: Any) -> T:
    """The result of a module's function in a fresh interpreter: nothing that ran before is in its memory."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def table(figures: Sequence[Figure]) -> str:
    """The figures as Markdown."""
    head = ("benchmark", "case", "measured", "value", "bound", "kept")
    lines = [head, *(_line(f) for f in figures)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    shown = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([shown[0], rule, *shown[1:]])


def _line(figure: Figure) -> tuple[str, ...]:
    bound = ""
    if figure.at_most is not None:
        bound = f"<= {_number(figure.at_most)} {figure.unit}".rstrip()
    elif figure.at_least is not None:
        bound = f">= {_number(figure.at_least)} {figure.unit}".rstrip()
    value = figure.note if figure.value is None else f"{_number(figure.value)} {figure.unit}".rstrip()
    kept = {True: "yes", False: "NO", None: ""}[figure.kept]
    return figure.benchmark, figure.case, figure.what, value, bound, kept


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def command(benchmarks: Mapping[str, Run], about: str | None) -> int:
    """Run benchmarks by name and print their figures; the exit code. A bound that is not kept is shown, and no error."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.add_argument("--quick", action="store_true", help="smaller inputs and fewer repeats")
    if len(benchmarks) > 1:
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(benchmarks)}; all by default")
    given = parser.parse_args()
    names = getattr(given, "names", None) or list(benchmarks)
    unknown = [name for name in names if name not in benchmarks]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there is {', '.join(benchmarks)}")
    figures: list[Figure] = []
    for name in names:
        if sys.stderr.isatty():
            print(f"{name} ...", file=sys.stderr, flush=True)
        figures += benchmarks[name](given.quick)
    if given.json:
        print(json.dumps([{k: v for k, v in {**asdict(f), "kept": f.kept}.items() if v is not None} for f in figures]))
    else:
        print(table(figures))
    return 0


class Loaded:
    """A model that is loaded already, and stays so when a connection closes."""

    def __init__(self, model: object) -> None:
        self._model = model

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def load(self) -> None:
        """It is."""

    def close(self) -> None:
        """It will be used again."""
