"""Groups that nobody named, and several aggregates at once: how often all their intervals hold together.

    python -m benchmarks.aggregation_groups [--trials 100] [--error .1] [--only counts,sums,three,three_groups] [--json]

80,000 rows, half of which match in one of eight groups (40% to 0.1% of the matches) with a skewed value; the proxy tells
matches, not groups. `together`: share of the trials in which every interval of every group seen and every aggregate
holds its truth. `within`: in which every targeted group is within the error. `unseen`: in which the bound holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from aidb.stats.aggregates import Answers, estimate_groups
from aidb.stats.aggregates.strata import Floats, Ints

ROWS = 80_000
SHARES = np.array([0.40, 0.25, 0.15, 0.10, 0.06, 0.029, 0.01, 0.001])
CASES = {
    "counts": (("count",), True),
    "sums": (("sum",), True),
    "three": (("count", "sum", "avg"), False),
    "three_groups": (("count", "sum", "avg"), True),
}


@dataclass(frozen=True)
class Line:
    """One case: shares from 0 to 1; calls and targeted groups are means over the trials."""

    case: str
    error: float
    together: float
    within: float
    unseen: float
    targeted: float
    calls: float
    trials: int
    rows: int = ROWS


class Table:
    """The rows, and what an oracle says of them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(11)
        match = rng.random(ROWS) < 0.5
        self.group = np.where(match, rng.choice(len(SHARES), ROWS, p=SHARES), -1)
        self.value = np.exp(0.5 * rng.standard_normal(ROWS))
        self.proxy = 1 / (1 + np.exp(-2 * (rng.standard_normal(ROWS) + 2 * match - 1)))

    def truth(self, kinds: Sequence[str], grouped: bool) -> Floats:
        """(groups, aggregates)."""
        match = self.group >= 0
        key = self.group[match] if grouped else np.zeros(int(match.sum()), np.int64)
        count, total = np.bincount(key), np.bincount(key, self.value[match])
        of = {"count": count, "sum": total, "avg": total / np.maximum(count, 1)}
        return np.column_stack([of[kind] for kind in kinds]).astype(np.float64)

    def label(self, rows: Ints, kinds: Sequence[str], grouped: bool) -> Answers:
        """What the oracle says."""
        here = np.flatnonzero(self.group[rows] >= 0)
        value, one = self.value[rows[here]], np.ones(len(here))
        of = {"count": one, "sum": value, "avg": np.column_stack((value, one))}
        return Answers(here, tuple(of[kind] for kind in kinds), self.group[rows[here]] if grouped else None)


def measure(case: str, error: float, trials: int, seed: int) -> Line:
    """Trials with generators of their own."""
    (kinds, grouped), table = CASES[case], Table()
    truth, sums = table.truth(kinds, grouped), np.zeros(5)
    for trial in range(trials):
        r = estimate_groups(
            table.proxy,
            lambda rows: table.label(rows, kinds, grouped),
            kinds,
            error=error,
            grouped=grouped,
            rng=np.random.default_rng([seed, len(case), trial]),
        )
        keys = [int(k) for k in r.groups] if grouped else [0]
        t = truth[keys]
        hair = 1e-9 * np.abs(t)
        hold = ((r.low - hair <= t) & (t <= r.high + hair)).all()
        near = (np.abs(r.value - t) <= error * np.abs(t) + hair)[r.targeted].all()
        missing = np.delete(table.truth(("count",), grouped)[:, 0], keys).sum() <= r.unseen + 1e-9
        sums += [hold, near, missing, r.targeted.sum(), r.labels_used]
    together, within, unseen, targeted, calls = (sums / max(trials, 1)).tolist()
    return Line(case, error, together, within, unseen, targeted, calls, trials)


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--error", type=float, default=0.1)
    parser.add_argument("--only", default=",".join(CASES), help="cases, separated by commas")
    parser.add_argument("--seed", type=int, default=20270101)
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    options = parser.parse_args(given)
    cases = options.only.split(",")
    if wrong := set(cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(wrong))}; there is {', '.join(CASES)}")
    found = [measure(case, options.error, options.trials, options.seed) for case in cases]
    if options.json:
        print(json.dumps([asdict(line) for line in found]))
        return 0
    print(
        "| case | error | together | within | unseen | targeted | calls | trials |\n|---|---|---|---|---|---|---|---|"
    )
    for f in found:
        shares = " | ".join(f"{100 * share:.1f}%" for share in (f.together, f.within, f.unseen))
        print(f"| {f.case} | {f.error:.0%} | {shares} | {f.targeted:.1f} | {f.calls:,.0f} | {f.trials} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
