"""What the statistics themselves take: the semantic index, a search, a selection, a round of an aggregate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from benchmarks._measure import Figure, apart, command, peak_bytes, spent

MIB = 2**20


def run(quick: bool = False) -> Iterator[Figure]:
    """Processor time and peak memory, each in a process of its own; a tenth of the items if quick."""
    part = 10 if quick else 1
    for work, *arguments in (
        (_index, 1_000_000 // part, 1000 // part, "farthest"),
        (_index, 1_000_000 // part, 1000 // part, "means"),
        (_search, 1_000_000 // part, False),
        (_search, 1_000_000 // part, True),
        (_select, 1_000_000 // part, 2.0),
        (_select, 10_000_000 // part, 25.0),
        (_estimate, 1_000_000 // part),
    ):
        yield from apart(work, *arguments)


def _index(n: int, m: int, method: str) -> list[Figure]:
    from aidb.stats.index import build

    rng = np.random.default_rng(1)
    vectors = _vectors(n, rng)
    case = f"{n:,} x 128, {m:,} representatives, {method}"
    indices = []
    built = spent(lambda: indices.append(build(vectors, m, method=method, rng=rng)))
    labels = rng.random(m)
    spread = spent(lambda: indices[0].propagate(labels))
    more = rng.choice(n, m // 10, replace=False)
    cracked = spent(lambda: indices[0].crack(vectors, more))
    return [
        Figure("index", case, "build, CPU", built.cpu, "s", at_most=120),
        Figure("index", case, "propagate, CPU", spread.cpu, "s"),
        Figure("index", case, f"crack with {len(more):,} answers, CPU", cracked.cpu, "s"),
        Figure("index", case, "peak memory, embeddings included", peak_bytes() / MIB, "MiB", at_most=1024),
    ]


def _search(n: int, embedded: bool) -> list[Figure]:
    from aidb.stats import search

    rng = np.random.default_rng(2)
    rows = rng.random(n) < 0.0005
    vectors = _vectors(n, rng) if embedded else None
    if vectors is not None:
        vectors[rows] += 0.7
    scores = rows + rng.normal(0, 0.3, n)
    calls = []
    took = spent(
        lambda: calls.append(search(scores, lambda i: rows[i], 100, embeddings=vectors, batch=32, rng=rng).labels_used)
    )
    case = f"{n:,} scores{', 128-d embeddings' if embedded else ''}, 100 rows in {calls[0]:,} calls"
    return [Figure("search", case, "CPU", took.cpu, "s")]


def _select(n: int, bound: float) -> list[Figure]:
    from aidb.stats import select

    rng = np.random.default_rng(3)
    scores = rng.beta(0.01, 1, n)
    truth = rng.random(n) < scores
    figures = []
    for target in ("recall", "precision"):
        took, waited = _without_oracle(
            lambda label, t=target: select(scores, label, **{t: 0.9}, budget=10_000, rng=rng), lambda i: truth[i]
        )
        case = f"{n:,} scores, {target} 90%, 10,000 labels"
        figures.append(Figure("select", case, f"CPU, {waited} batches", took, "s", at_most=bound))
    figures.append(Figure("select", f"{n:,} scores", "peak memory", peak_bytes() / MIB, "MiB", at_most=2048))
    return figures


def _estimate(n: int) -> list[Figure]:
    from aidb.stats import estimate

    rng = np.random.default_rng(4)
    values = rng.poisson(0.4, n).astype(np.float64)
    scores = values + rng.normal(0, 0.5, n)
    took, rounds = _without_oracle(lambda label: estimate(scores, label, error=0.02, rng=rng), lambda i: values[i])
    case = f"{n:,} scores, count within 2%"
    return [Figure("estimate", case, f"CPU a round, of {rounds}", took / rounds, "s", at_most=0.2)]


def _without_oracle(
    work: Callable[[Callable[[npt.NDArray[np.int64]], object]], object],
    answer: Callable[[npt.NDArray[np.int64]], object],
) -> tuple[float, int]:
    """Processor time of a call, and how often it asked."""
    asked = []

    def label(items: npt.NDArray[np.int64]) -> object:
        asked.append(len(items))
        return answer(items)

    return spent(lambda: work(label)).cpu, len(asked)


def _vectors(n: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """200 clusters and noise, 128 dimensions, made block by block."""
    centres = rng.standard_normal((200, 128), dtype=np.float32)
    vectors = rng.standard_normal((n, 128), dtype=np.float32)
    for start in range(0, n, 10_000):
        block = vectors[start : start + 10_000]
        block += centres[rng.integers(0, 200, len(block))]
    return vectors


if __name__ == "__main__":
    sys.exit(command({"index": run}, __doc__))
