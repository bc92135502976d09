"""LIMIT: oracle calls until k matching rows are found, ours beside other orders, on the same data with the same seeds.

    python -m benchmarks.limit [--quick] [--json] [--trials 30] [--only digits,taipei] [--csv FILE --k 10 --gap 300]

A CSV needs a column `label` or `value` (matching rows, or true and false) and may have `proxy_score`; its order is taken
for the order in time. The orders to compare with are our own implementations of what was published: TASTI and the public
AIDB ask all representatives first, then go by the propagated score (Kang et al., SIGMOD 2022); ExSample samples stretches
of a video, or clusters, by Thompson's rule (Moll et al., ICDE 2022); BlazeIt goes by the proxy (Kang et al., VLDB 2020).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aidb.stats import search
from aidb.stats.index import build
from benchmarks._measure import SHARED

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """rows: (n,) matching rows of each item. representatives: of the index that TASTI asks first."""

    data: str
    k: int
    rows: Ints
    scores: Array | None = None
    embeddings: npt.NDArray[np.float32] | None = None
    gap: int | None = None
    in_time: bool = False
    representatives: int = 0


@dataclass(frozen=True)
class Result:
    """Calls of one order on one problem. true: every row that was returned matched. apart: every gap was kept."""

    data: str
    method: str
    k: int
    gap: int | None
    trials: int
    calls: float
    median: float
    p90: float
    true: bool = True
    apart: bool = True
    unit: str = "calls"


Draw = Callable[[np.random.Generator], Problem]


# The data. Each is drawn anew for a trial, as far as chance has a part in it.


@lru_cache
def _digits() -> tuple[npt.NDArray[np.float64], Ints]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data / 16.0, data.target


def digits(k: int, positives: int, copies: int) -> Draw:
    """Handwritten digits (UCI): a few of one digit among all of the others, each of those several times with jitter."""

    def draw(rng: np.random.Generator) -> Problem:
        pixels, digit = _digits()
        wanted = digit == rng.integers(10)
        few = rng.choice(np.flatnonzero(wanted), positives, replace=False)
        chosen = rng.permutation(np.concatenate([np.repeat(np.flatnonzero(~wanted), copies), few]))
        x = pixels[chosen] + (0.05 * rng.standard_normal((len(chosen), 64)) if copies > 1 else 0.0)
        x -= x.mean(axis=0)
        axes = np.linalg.svd(x, full_matrices=False)[2][:32]
        name = f"digits, {positives} of {len(chosen):,}"
        embeddings = (x @ axes.T).astype(np.float32)
        reps = 150 if copies > 1 else 60
        return Problem(name, k, wanted[chosen].astype(np.int64), embeddings=embeddings, representatives=reps)

    return draw


def blobs(k: int, with_proxy: bool) -> Draw:
    """120 clusters of unequal size in 32 dimensions; 70% of the matches fill one side of some small ones, 30% are strewn."""

    def draw(rng: np.random.Generator) -> Problem:
        n, dim, clusters, matches = 10_000, 32, 120, 100
        centres = rng.standard_normal((clusters, dim))
        weight = rng.dirichlet(np.full(clusters, 0.7)) + 0.2 / clusters
        cluster = rng.choice(clusters, n, p=weight / weight.sum())
        x = centres[cluster] + 0.6 * rng.standard_normal((n, dim))
        rows = np.zeros(n, dtype=np.int64)
        sizes = np.bincount(cluster, minlength=clusters)
        small = rng.permutation(np.flatnonzero((sizes > 20) & (sizes < n // 60)))
        missing = int(0.7 * matches)
        for c in small:
            members = np.flatnonzero(cluster == c)
            side = members[np.argsort((x[members] - centres[c]) @ rng.standard_normal(dim))][: len(members) // 2][
                :missing
            ]
            rows[side] = 1
            missing -= len(side)
        near = np.argsort(((centres - centres[small[0]]) ** 2).sum(axis=1))[1:21]
        elsewhere = np.flatnonzero(np.isin(cluster, near) & (rows == 0))
        rows[rng.choice(elsewhere, matches - int(rows.sum()), replace=False)] = 1
        scores = rows * 1.6 + rng.standard_normal(n) if with_proxy else None
        name = "blobs, 100 of 10,000" + (", proxy" if with_proxy else "")
        return Problem(name, k, rows, scores, x.astype(np.float32), representatives=200)

    return draw


def table(name: str, k: int, turned: bool = False) -> Draw:
    """A table of the SUPG paper: labels and a real proxy, here also turned upside down."""

    def draw(_: np.random.Generator) -> Problem:
        rows, scores = _csv(SHARED / "data" / f"{name}.csv")
        assert scores is not None
        return Problem(f"{name}{', proxy reversed' if turned else ''}", k, rows, -scores if turned else scores)

    return draw


def hostile(k: int, kind: str) -> Draw:
    """A proxy that is worth nothing, or less: all the same, drawn by lot, upside down, or its best tenth without a match."""

    def draw(rng: np.random.Generator) -> Problem:
        n, matches = 20_000, 200
        rows = (rng.permutation(n) < matches).astype(np.int64)
        lot = rng.random(n)
        scores = {
            "constant": np.ones(n),
            "by lot": lot,
            "upside down": 0.3 * rng.standard_normal(n) - rows,
            "empty top": np.where(rows, 0.9 * lot, lot),
        }[kind]
        return Problem(f"200 of 20,000, proxy {kind}", k, rows, scores)

    return draw


@lru_cache
def _counts(name: str) -> Ints:
    return np.loadtxt(SHARED / "data" / f"{name}_counts.csv", dtype=np.int64)


def video(name: str, k: int, cars: int, gap: int | None = None, noise: float | None = None, steady: int = 1) -> Draw:
    """Frames of a street with at least so many cars; the proxy is the true count with Gaussian noise.

    steady: frames for which the noise stays the same, as the mistakes of a real detector do.
    """

    def draw(rng: np.random.Generator) -> Problem:
        counts = _counts(name)
        title, scores = f"{name}, >= {cars} cars", None
        if noise is not None:
            scores = counts + np.repeat(rng.normal(0, noise, len(counts) // steady + 1), steady)[: len(counts)]
            slow = f" for {steady} frames" if steady > 1 else ""
            title += f", proxy r = {np.corrcoef(counts, scores)[0, 1]:.2f}{slow}"
        return Problem(title, k, (counts >= cars).astype(np.int64), scores, gap=gap, in_time=True)

    return draw


SUITE: dict[str, list[Draw]] = {
    "digits": [digits(10, 45, 5), digits(40, 45, 5), digits(10, 12, 1)],
    "blobs": [blobs(10, False), blobs(50, False), blobs(10, True), blobs(50, True)],
    "imagenet": [table("imagenet", 10), table("imagenet", 45), table("imagenet", 10, turned=True)],
    "tacred": [table("tacred", 10), table("tacred", 100), table("tacred", 10, turned=True)],
    "hostile": [hostile(k, kind) for k in (10, 50) for kind in ("constant", "by lot", "upside down", "empty top")],
    "taipei": [video("taipei", k, 6) for k in (10, 50, 100)]
    + [video("taipei", 10, 6, gap=300), video("taipei", 50, 6, gap=300), video("taipei", 50, 6, gap=300, noise=1.0)],
    "night_street": [video("night_street", k, 5) for k in (10, 50, 100)]
    + [video("night_street", 10, 5, gap=300)]
    + [video("night_street", 10, 5, gap=300, noise=s) for s in (0.5, 1.0)]
    + [video("night_street", 10, 5, gap=300, noise=1.0, steady=30)],
}
QUICK = {"digits": SUITE["digits"][2:], "blobs": SUITE["blobs"][2:3]}
"""Needs no data but what scikit-learn brings."""


# The orders.


def walk(order: Ints, rows: Ints, k: int, gap: int | None) -> int:
    """Calls until k rows are found in a fixed order, passing over what lies within the gap of a match."""
    if gap is None:
        found = np.cumsum(rows[order])
        return min(int(np.searchsorted(found, k)) + 1, len(order))
    when = np.empty(len(order), dtype=np.int64)
    when[order] = np.arange(len(order))
    skipped = np.zeros(len(order), dtype=np.bool_)
    matches = np.flatnonzero(rows)
    found, end = 0, len(order)
    for item in matches[np.argsort(when[matches])]:
        if not skipped[item]:
            near = slice(max(0, item - gap), item + gap + 1)
            skipped[near] |= when[near] > when[item]
            found += 1
            if found == k:
                end = int(when[item]) + 1
                break
    return end - int((when[skipped] < end).sum())


def exsample(chunk: Ints, rows: Ints, k: int, gap: int | None, rng: np.random.Generator) -> int:
    """Thompson's rule over chunks: Gamma(results + 0.1, samples + 1), an item of the best at random."""
    order = rng.permutation(len(rows))
    order = order[np.argsort(chunk[order], kind="stable")]
    sizes = np.bincount(chunk)
    members = np.split(order, np.cumsum(sizes)[:-1])
    done, hits, calls = np.zeros(len(sizes), dtype=np.int64), np.zeros(len(sizes)), np.zeros(len(sizes))
    blocked = np.zeros(len(rows), dtype=np.bool_)
    found = 0
    while found < k and (done < sizes).any():
        draws = rng.standard_gamma(hits + 0.1) / (calls + 1.0)
        best = int(np.where(done < sizes, draws, -1.0).argmax())
        item = members[best][done[best]]
        done[best] += 1
        if blocked[item]:
            continue
        calls[best] += 1
        if rows[item]:
            hits[best] += 1
            found += int(rows[item]) if gap is None else 1
            if gap is not None:
                blocked[max(0, item - gap) : item + gap + 1] = True
    return int(calls.sum())


def methods(problem: Problem, rng: np.random.Generator) -> Iterator[tuple[str, int, bool, bool]]:
    """Each method with its calls: one trial."""
    rows, k, gap, n = problem.rows, problem.k, problem.gap, len(problem.rows)
    yield "random order", walk(rng.permutation(n), rows, k, gap), True, True
    if problem.in_time:
        yield "in sequence", walk(np.arange(n), rows, k, gap), True, True
    if problem.in_time and problem.scores is None:  # it knows no proxy, so that it does there what it does without
        yield "ExSample, 128 chunks", exsample(np.arange(n) * 128 // n, rows, k, gap, rng), True, True
    if problem.scores is not None:
        yield "proxy order", walk(np.lexsort((rng.random(n), -problem.scores)), rows, k, gap), True, True
    if problem.embeddings is not None:
        index = build(problem.embeddings, problem.representatives, rng=rng)
        asked = index.representatives
        score = index.propagate(rows[asked].astype(np.float64)) - 1e-6 * index.distances[:, 0]
        score[asked] = np.inf
        yield "TASTI, representatives asked", walk(np.argsort(-score, kind="stable"), rows, k, gap), True, True
        yield "ExSample, clusters", exsample(index.nearest[:, 0].astype(np.int64), rows, k, gap, rng), True, True
    yield _ours("AIDB", problem, rng)
    if problem.embeddings is not None and problem.scores is not None:
        yield _ours("AIDB, proxy only", replace(problem, embeddings=None), rng)


def _ours(name: str, problem: Problem, rng: np.random.Generator) -> tuple[str, int, bool, bool]:
    asked: list[int] = []

    def label(items: Ints) -> Ints:
        asked.extend(items.tolist())
        return problem.rows[items]

    positions = np.arange(len(problem.rows)) if problem.in_time else None
    given = {"embeddings": problem.embeddings, "positions": positions, "gap": problem.gap}
    found = search(problem.scores, label, problem.k, **given, rng=rng)
    assert len(set(asked)) == len(asked) == found.labels_used
    assert found.rows >= min(problem.k, problem.rows.sum()) or problem.gap is not None
    apart = problem.gap is None or bool((np.diff(found.indices) > problem.gap).all())
    return name, found.labels_used, bool((problem.rows[found.indices] > 0).all()), apart


# The command.


def measure(draw: Draw, trials: int, seed: int = 1) -> list[Result]:
    """Every method on one problem, the same draws for all."""
    found: dict[str, list[tuple[int, bool, bool]]] = {}
    for trial in range(trials):
        problem = draw(np.random.default_rng([seed, trial]))
        for name, *outcome in methods(problem, np.random.default_rng([seed, trial, zlib.crc32(problem.data.encode())])):
            found.setdefault(name, []).append((outcome[0], outcome[1], outcome[2]))
    results = []
    for name, outcomes in found.items():
        calls, true, apart = (np.array(column) for column in zip(*outcomes, strict=True))
        middle, most = np.percentile(calls, (50, 90))
        results.append(
            Result(
                problem.data, name, problem.k, problem.gap, trials,
                float(calls.mean()), float(middle), float(most), bool(true.all()), bool(apart.all()),
            )
        )  # fmt: skip
    return results


def _csv(path: Path) -> tuple[Ints, Array | None]:
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    column = next((c for c in ("value", "label") if lines and c in lines[0]), None)
    if column is None:
        raise SystemExit(f"{path}: a column `label` or `value` is needed, and a row")
    words = {"true": "1", "false": "0"}
    rows = np.array([float(words.get(line[column].lower(), line[column])) for line in lines])
    scores = np.array([float(line["proxy_score"]) for line in lines]) if "proxy_score" in lines[0] else None
    return rows.astype(np.int64), scores


def text(results: list[Result]) -> str:
    """A table in Markdown."""
    lines = ["| data | k | gap | method | mean calls | median | 90% | trials |", "|---|---|---|---|---|---|---|---|"]
    for r in results:
        numbers = " | ".join(f"{x:,.0f}" for x in (r.calls, r.median, r.p90))
        wrong = "" if r.true and r.apart else " (WRONG ROWS)"
        lines.append(f"| {r.data} | {r.k} | {r.gap or ''} | {r.method}{wrong} | {numbers} | {r.trials} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 1 if a row was returned that is no match, or a gap not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.add_argument("--quick", action="store_true", help="little data, few trials")
    parser.add_argument("--trials", type=int, help="30 by default, 3 if quick")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help=f"some of {', '.join(SUITE)}")
    parser.add_argument("--csv", type=Path, help="a table of your own")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--gap", type=int)
    given = parser.parse_args(arguments)
    if given.csv:
        rows, scores = _csv(given.csv)
        own = Problem(given.csv.name, given.k, rows, scores, gap=given.gap, in_time=True)
        draws: list[Draw] = [lambda _: own]
    else:
        suite = QUICK if given.quick else SUITE
        names = given.only.split(",") if given.only else list(suite)
        unknown = sorted(set(names) - set(suite))
        if unknown:
            parser.error(f"no such data: {', '.join(unknown)}; there is {', '.join(suite)}")
        draws = [draw for name in names for draw in suite[name]]
    trials = given.trials or (3 if given.quick else 30)
    results: list[Result] = []
    for draw in draws:
        results += measure(draw, trials, given.seed)
    print(json.dumps([asdict(r) for r in results]) if given.json else text(results))
    return 0 if all(r.true and r.apart for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
