"""What all fuzzers share: cases that a number gives again, a clock for each, and a line for what was found.

With ``--coverage`` inputs that reach new code are mutated further (atheris, Linux alone: ``pip install atheris``).
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECONDS = 1.0
"""Processor time that no case may take."""


class TooLong(BaseException):
    """A case took more than `SECONDS`; no ``except Exception`` may hide it."""


@dataclass(frozen=True)
class Fuzzer:
    """make: a case from random numbers. check: what is wrong with it, or None; may raise, which is wrong as well.

    mutate: another case from one, for ``--coverage``.
    """

    name: str
    make: Callable[[Random], str]
    check: Callable[[str], str | None]
    mutate: Callable[[str, Random], str]


@dataclass
class Summary:
    cases: int = 0
    slowest: float = 0.0
    problems: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What is wrong, shortened -> the case's number and its text, of the first such case."""


@contextmanager
def watched(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `TooLong` in the main thread once so much processor time is spent; a busy machine does not count."""

    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def problem_of(fuzzer: Fuzzer, case: str) -> str | None:
    """What is wrong with a case; exceptions by their kind and the line that raised them."""
    try:
        with watched():
            return fuzzer.check(case)
    except TooLong:
        return f"takes longer than {SECONDS} s"
    except Exception as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        return f"{type(e).__name__} at {Path(last.filename).name}:{last.lineno}: {str(e)[:200]}"


def run(fuzzer: Fuzzer, seed: int, *, minutes: float = 1e9, cases: int = 1 << 60, loud: bool = False) -> Summary:
    """Make and check cases; case n of a seed is always the same."""
    summary, until = Summary(), time.monotonic() + 60 * minutes
    while summary.cases < cases and time.monotonic() < until:
        number = f"{seed}-{summary.cases}"
        case = fuzzer.make(Random(number))
        began = time.thread_time()
        problem = problem_of(fuzzer, case)
        summary.slowest = max(summary.slowest, time.thread_time() - began)
        summary.cases += 1
        if problem is not None and (key := problem.split(": ")[0][:120]) not in summary.problems:
            summary.problems[key] = (number, case)
            if loud:
                print(f"case {number}: {problem}\n  {case[:2000]!r}", flush=True)
    return summary


def command(fuzzer: Fuzzer, about: str | None) -> int:
    """The command line; its exit code is 1 if anything was found."""
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.fuzz.{fuzzer.name}", description=(about or "").split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", metavar="SEED-N", help="only this case, and show it")
    parser.add_argument("--coverage", action="store_true", help="let atheris choose what is mutated further")
    given = parser.parse_args()
    if given.case:
        case = fuzzer.make(Random(given.case))
        print(repr(case), problem_of(fuzzer, case) or "is well", sep="\n")
        return 0
    if given.coverage:
        _with_coverage(fuzzer, given.minutes, given.seed)
    summary = run(fuzzer, given.seed, minutes=given.minutes, loud=True)
    print(f"{summary.cases:,} cases, the slowest {summary.slowest:.3f} s CPU; {len(summary.problems)} problems")
    return 1 if summary.problems else 0


def _with_coverage(fuzzer: Fuzzer, minutes: float, seed: int) -> None:
    """Does not come back: atheris ends the process, at the first problem or after the time."""
    import atheris

    def mutated(data: bytes, size: int, number: int) -> bytes:
        rng = Random(number)
        case = data.decode("utf-8", "ignore") if data and rng.random() < 0.9 else fuzzer.make(rng)
        return fuzzer.mutate(case, rng).encode("utf-8", "ignore")[:size]

    def one(data: bytes) -> None:
        case = data.decode("utf-8", "ignore")
        problem = problem_of(fuzzer, case)
        if problem is not None:
            raise AssertionError(f"{problem}\n  {case!r}")

    atheris.instrument_all()
    options = [f"-max_total_time={int(60 * minutes)}", f"-seed={seed + 1}", "-max_len=4000", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options], one, custom_mutator=mutated)
    atheris.Fuzz()
