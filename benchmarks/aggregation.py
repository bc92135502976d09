"""Aggregates within an error: calls, and how often the answer and its interval are right, ours beside others.

    python -m benchmarks.aggregation --csv FILE --aggregate count --error .05 --trials 500
    python -m benchmarks.aggregation --suite [--part held] [--error .05,.1] [--only NAMES] [--methods asr,ppi] [--json]

A table has the columns `label` or `value` (both, for an average of the value over the rows with a label), and
`proxy_score`. `within`: share of the trials whose value lies within the error of the truth. `coverage`: whose interval
holds it. `calls`: mean number of rows asked. With --json one object for each row, as a list.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from aidb.stats.aggregates import estimate
from benchmarks.populations import Population, make, names, read
from benchmarks.rivals import RIVALS, Answer

OURS = ("asr", "clt", "ppi", "abae")
METHODS = (*OURS, *RIVALS)


@dataclass(frozen=True)
class Line:
    """One method on one population at one error."""

    data: str
    method: str
    aggregate: str
    error: float
    within: float
    coverage: float
    trials: int
    calls: float
    rows: int


def measure(p: Population, method: str, error: float, trials: int, seed: int) -> Line:
    """Trials with generators of their own: any of them can be run again alone."""
    within = covered = calls = 0
    truth, hair = p.truth, 1e-9 * abs(p.truth)
    for trial in range(trials):
        found = _once(p, method, error, np.random.default_rng([seed, zlib.crc32(p.name.encode()), trial]))
        within += abs(found.value - truth) <= error * abs(truth) + hair
        covered += found.low - hair <= truth <= found.high + hair
        calls += found.calls
    count = max(trials, 1)
    return Line(p.name, method, p.aggregate, error, within / count, covered / count, trials, calls / count, p.n)


def _once(p: Population, method: str, error: float, rng: np.random.Generator) -> Answer:
    if method in RIVALS:
        return RIVALS[method](p, error, 0.05, rng)
    e = estimate(p.proxy, p.label, aggregate=p.aggregate, error=error, method=method, rng=rng)
    return Answer(e.value, e.low, e.high, e.labels_used)


def lines(
    populations: Sequence[Population],
    methods: Sequence[str],
    errors: Sequence[float],
    trials: int,
    seed: int,
    others: int,
) -> Iterator[Line]:
    """Every method on every population; `others`: trials of the methods that are not ours."""
    for p in populations:
        for error in errors:
            for method in methods:
                if method == "blazeit" and p.aggregate == "avg":
                    continue
                yield measure(p, method, error, trials if method == "asr" else others, seed)


def table(found: Sequence[Line]) -> str:
    """Markdown: a row for each population and error, a column for each method: calls (within / coverage, in percent)."""
    methods = list(dict.fromkeys(line.method for line in found))
    cells = {(line.data, line.error, line.method): line for line in found}
    rows = ["| population | error | " + " | ".join(methods) + " |", "|---|---|" + "---|" * len(methods)]
    for data, error in dict.fromkeys((line.data, line.error) for line in found):
        shown = [_cell(cells.get((data, error, m))) for m in methods]
        rows.append(f"| {data} | {error:.0%} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def _cell(line: Line | None) -> str:
    if line is None:
        return ""
    return f"{line.calls:,.0f} ({100 * line.within:.1f}/{100 * line.coverage:.1f}) [{line.trials}]"


def summary(found: Sequence[Line]) -> str:
    """Geometric means of the calls of others over ours, and our worst cells."""
    ours = {(line.data, line.error): line for line in found if line.method == "asr"}
    said = []
    for error in dict.fromkeys(line.error for line in found):
        for method in dict.fromkeys(line.method for line in found if line.method != "asr"):
            ratios = [
                line.calls / ours[line.data, error].calls
                for line in found
                if line.method == method and line.error == error and (line.data, error) in ours
            ]
            if ratios:
                mean = np.exp(np.mean(np.log(ratios)))
                said.append(
                    f"{error:.0%}: calls of {method} over ours: geometric mean {mean:.2f} ({len(ratios)} populations)"
                )
    for what in ("within", "coverage"):
        worst = sorted(ours.values(), key=lambda line: getattr(line, what))[:5]
        if worst:
            cells = ", ".join(f"{w.data} {w.error:.0%} {100 * getattr(w, what):.1f}" for w in worst)
            said.append(f"lowest {what} of ours: {cells}")
    return "\n".join(f"- {line}" for line in said)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, help="a table to draw from")
    parser.add_argument("--aggregate", choices=("count", "sum", "avg"), default="count")
    parser.add_argument("--suite", action="store_true", help="the populations of benchmarks.populations")
    parser.add_argument("--part", choices=("tuning", "held"), help="only one part of the suite")
    parser.add_argument("--only", help="only these populations, separated by commas")
    parser.add_argument("--error", default=".05", help="relative errors, separated by commas")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--others", type=int, help="trials of the other methods; as many by default")
    parser.add_argument("--methods", default=",".join(METHODS), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--seed", type=int, default=20270101)
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    options = parser.parse_args(given)
    methods = options.methods.split(",")
    if wrong := set(methods) - set(METHODS):
        parser.error(f"no such method: {', '.join(sorted(wrong))}; there is {', '.join(METHODS)}")
    if options.csv is None and not options.suite:
        parser.error("give --csv FILE or --suite")
    try:
        errors = [float(e) for e in options.error.split(",")]
        if options.csv is not None:
            populations = [read(options.csv, options.aggregate)]
        else:
            wanted = options.only.split(",") if options.only else names(options.part)
            if missing := [name for name in wanted if name not in names()]:
                parser.error(f"no such population: {', '.join(missing)}; there is {', '.join(names())}")
            populations = [make(name) for name in wanted]
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    others = options.trials if options.others is None else options.others
    found = []
    for line in lines(populations, methods, errors, options.trials, options.seed, others):
        found.append(line)
        if not options.json and sys.stderr.isatty():
            print(f"{line.data} {line.method} {line.error:.0%}", file=sys.stderr, flush=True)
    print(json.dumps([asdict(line) for line in found]) if options.json else f"{table(found)}\n\n{summary(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
