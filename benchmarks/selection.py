"""How often the targets of a selection are met, and what is returned, over many draws of the labels.

    python -m benchmarks.selection --data tacred --recall .9 --budget 1000 --method auto --trials 1000
    python -m benchmarks.selection --csv FILE --precision .9 --budget 1000
    python -m benchmarks.selection --data tacred --recall .9 --method verified --beside
    python -m benchmarks.selection --suite --recall .9 --budget 500 1000 2000 --markdown

A CSV has the columns id, label and proxy_score. Beside the method that was asked for run, on the same tables,
`supg-published`, the algorithms of SUPG with an answer as in their paper, which keeps the rows above the threshold that
were found to be negative; and `uniform`, labels spread evenly with an exact binomial bound (recall only).
coverage is the share of the trials whose answer met the target (both, if both were asked).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from aidb.stats.selection import _home, _method
from aidb.stats.selection.population import NO, UNKNOWN, YES, Label, Population
from aidb.stats.selection.result import Chosen
from benchmarks.selection_sets import Table, load, names, read

PUBLISHED = "supg-published"
VERIFIED = "verified"
"""Recall with every returned row labelled, at as few labels as can be; takes no budget."""


@dataclass(frozen=True)
class Row:
    """One method on one table. target: in words. precision, recall, calls: means over the trials."""

    data: str
    method: str
    target: str
    budget: int | None
    trials: int
    coverage: float
    precision: float
    recall: float
    calls: float


class Ranked(Population):
    """A population that is ranked already: sorting a million scores takes longer than all the rest of a trial."""

    def __init__(self, base: Population, truth: Label, budget: int | None) -> None:
        self.n, self.order, self.scores, self.unscored = base.n, base.order, base.scores, base.unscored
        self.labels = np.full(self.n, UNKNOWN, dtype=np.int8)
        self.budget, self.used, self._label = self.n if budget is None else budget, 0, truth


def measure(
    table: Table,
    method: str,
    recall: float | None,
    precision: float | None,
    budget: int | None,
    trials: int,
    *,
    probability: float = 0.95,
    seed: int = 0,
    seconds: float = np.inf,
) -> Row:
    """Trials of one method; fewer of them if the seconds are over.

    Ties are broken anew for each trial, as an answer does, where more than one row in a hundred has the score of another.
    """
    base = Population(table.scores, _never, 0, np.random.default_rng(seed))
    above = np.concatenate([[0], np.cumsum(table.truth[base.order])])
    tied = len(np.unique(table.scores)) < 0.99 * len(table.scores)
    targets = [target for target in (recall, precision) if target is not None]
    decide = _decide(method, recall, precision)
    met, got = 0, []
    budget = None if method == VERIFIED else budget
    start = time.monotonic()
    for trial in range(trials):
        if tied and trial:
            base = Population(table.scores, _never, 0, np.random.default_rng((seed, trial, 1)))
            above = np.concatenate([[0], np.cumsum(table.truth[base.order])])
        population = Ranked(base, lambda rows: table.truth[rows], budget)
        if population.left >= population.n and len(targets) == 1 and method != VERIFIED:
            population.ask(population.unknown())
            cut = 0
        else:
            cut = decide(population, *targets, 1 - probability, np.random.default_rng((seed, trial))).cut
        labels = population.labels
        beyond = np.count_nonzero(labels[cut:] == YES)
        right = int(above[cut]) + beyond
        returned = cut + beyond - (0 if method == PUBLISHED else np.count_nonzero(labels[:cut] == NO))
        share = right / above[-1] if above[-1] else 1.0
        pure = right / returned if returned else 1.0
        got.append((pure, share, population.used))
        met += (recall is None or share >= recall - 1e-12) and (precision is None or pure >= precision - 1e-12)
        if time.monotonic() - start > seconds:
            break
    mean = np.mean(got, axis=0)
    words = " and ".join(f"{w} {t:g}" for w, t in (("recall", recall), ("precision", precision)) if t is not None)
    return Row(table.name, method, words, budget, len(got), float(met / len(got)), *(float(x) for x in mean))


def _decide(method: str, recall: float | None, precision: float | None) -> Callable[..., Chosen]:
    if method == VERIFIED:
        return _method(_home("auto", recall, precision, False, True))
    return _method(_home("supg" if method == PUBLISHED else method, recall, precision, False, False))


def _never(rows: np.ndarray) -> np.ndarray:
    raise AssertionError("a ranking asks nothing")


def beside(recall: float | None, precision: float | None) -> list[str]:
    """What is compared with, if nothing else is asked for."""
    return [PUBLISHED] if recall is None or precision is not None else [PUBLISHED, "uniform"]


def markdown(rows: Sequence[Row]) -> str:
    """One line a table and budget; a method has `precision/coverage`, or `recall/coverage` for a precision target."""
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = ["| data | target | budget | trials | " + " | ".join(methods) + " |", "|" + "---|" * (4 + len(methods))]
    for key in dict.fromkeys((row.data, row.target, row.budget) for row in rows):
        mine = {row.method: row for row in rows if (row.data, row.target, row.budget) == key}
        cells = [_cell(mine[name]) if name in mine else "" for name in methods]
        trials = "/".join(str(row.trials) for row in mine.values())
        trials = trials.split("/")[0] if len(set(trials.split("/"))) == 1 else trials
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | {trials} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    if "and" in row.target or row.method == VERIFIED:
        return f"{row.calls:,.0f} calls / {row.coverage:.3f}"
    return f"{row.recall if row.target.startswith('precision') else row.precision:.3f} / {row.coverage:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--csv", type=Path, metavar="FILE", help="a table with the columns id, label, proxy_score")
    what.add_argument("--data", nargs="+", metavar="NAME", help=f"tables by name: {', '.join(names())}")
    what.add_argument("--suite", action="store_true", help="all tables")
    parser.add_argument("--recall", type=float)
    parser.add_argument("--precision", type=float)
    parser.add_argument("--probability", type=float, default=0.95)
    parser.add_argument("--budget", type=int, nargs="+", default=[1000], help="labels; one run for each")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--beside", nargs="*", metavar="METHOD", help="what to compare with; nothing if empty")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=np.inf, help="no longer than so for one line")
    parser.add_argument("--seed", type=int, default=0)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a list of objects")
    shape.add_argument("--markdown", action="store_true", help="a table for people (the default)")
    given = parser.parse_args(arguments)
    if given.recall is None and given.precision is None:
        parser.error("a target is missing: --recall, --precision or both")
    for option in ("recall", "precision", "probability"):
        value = getattr(given, option)
        if value is not None and not 0 < value < 1:
            parser.error(f"--{option} must lie between 0 and 1, both excluded")
    if given.trials < 1 or min(given.budget) < 1:
        parser.error("--trials and --budget must be 1 or more")
    rivals = beside(given.recall, given.precision) if given.beside is None else given.beside
    methods = list(dict.fromkeys([given.method, *rivals]))
    for method in methods:
        try:
            _decide(method, given.recall, given.precision)
        except ValueError as error:
            parser.error(str(error))
    rows = []
    for name in names() if given.suite else given.data or [""]:
        table = read(given.csv) if given.csv else load(name)
        for budget in given.budget:
            for method in methods:
                rows.append(
                    measure(
                        table,
                        method,
                        given.recall,
                        given.precision,
                        budget,
                        given.trials,
                        probability=given.probability,
                        seed=given.seed,
                        seconds=given.seconds,
                    )
                )
                print(rows[-1], file=sys.stderr, flush=True)
    print(json.dumps([asdict(row) for row in rows]) if given.json else markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
