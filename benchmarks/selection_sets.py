"""Tables with a proxy and the truth for the benchmark of selection: real, simulated, and meant to deceive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks._measure import SHARED

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Pair = tuple[Floats, Flags]


@dataclass(frozen=True)
class Table:
    """name, scores (n,) as the proxy gave them, truth (n,)."""

    name: str
    scores: Floats
    truth: Flags


def read(path: Path) -> Table:
    """A table of a CSV file with the columns id, label (true or false, 1 or 0) and proxy_score (empty: none)."""
    if not path.exists():
        raise SystemExit(f"there is no file {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    head = [name.strip() for name in lines[0].split(",")] if lines else []
    if "label" not in head or "proxy_score" not in head:
        raise SystemExit(f"{path} needs the columns id,label,proxy_score; its first line is {lines[:1]}")
    label, score = head.index("label"), head.index("proxy_score")
    cells = [line.split(",") for line in lines[1:] if line.strip()]
    truth = np.array([row[label].strip().lower() in ("true", "t", "1", "1.0") for row in cells])
    scores = np.array([float(row[score]) if row[score].strip() else np.nan for row in cells])
    return Table(path.stem, scores, truth)


def load(name: str) -> Table:
    """The table of this name; the same one each time."""
    if name in FILES:
        path = SHARED / "data" / f"{name}.csv"
        if not path.exists():
            raise SystemExit(
                f"{name} needs the file {path}, which is no part of the repository: a CSV with the columns "
                "id,label,proxy_score"
            )
        return read(path)
    if name not in MADE:
        raise SystemExit(f"no such table: {name}; there are {', '.join(names())}")
    scores, truth = MADE[name]()
    return Table(name, scores, truth)


def names() -> tuple[str, ...]:
    """The tables that can be loaded here, those of files only if they are there."""
    return tuple(name for name in FILES if (SHARED / "data" / f"{name}.csv").exists()) + tuple(MADE)


def _beta(a: float, b: float, n: int, seed: int = 3212142) -> Pair:
    """Calibrated: scores of a Beta distribution, each row positive with its score's probability."""
    random = np.random.RandomState(seed)  # the generator with which these tables were published
    scores = random.beta(a, b, size=n)
    return scores, random.binomial(1, scores).astype(bool)


def _noisy(deviation: float, pair: Pair) -> Pair:
    scores, truth = pair
    return np.clip(scores + np.random.default_rng(11).normal(scale=deviation, size=len(scores)), 0, 1), truth


def _shuffled(share: float, pair: Pair) -> Pair:
    """A share of all rows carry the score of another row."""
    random = np.random.default_rng(11)
    scores, truth = pair[0].copy(), pair[1]
    moved = random.random(len(scores)) < share
    scores[moved] = random.permutation(scores[moved])
    return scores, truth


def _buried(share: float, pair: Pair) -> Pair:
    """A share of the positives lie at score 0."""
    random = np.random.default_rng(11)
    scores, truth = pair[0].copy(), pair[1]
    positive = np.flatnonzero(truth)
    scores[random.choice(positive, int(share * len(positive)), replace=False)] = 0
    return scores, truth


def _overlooked(share: float, pair: Pair) -> Pair:
    """A share of the positives carry the score of a random row: nothing in the head tells of it."""
    random = np.random.default_rng(12)
    scores, truth = pair[0].copy(), pair[1]
    positive = np.flatnonzero(truth)
    lost = random.choice(positive, int(share * len(positive)), replace=False)
    scores[lost] = random.choice(pair[0], len(lost))
    return scores, truth


def _useless(n: int = 20_000, share: float = 0.05) -> Pair:
    random = np.random.default_rng(11)
    truth = random.random(n) < share
    return random.random(n), truth


def _digits(digit: int = 8) -> Pair:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    pixels, digits = load_digits(return_X_y=True)
    truth = digits == digit
    seen = pixels[:, [20, 27, 28, 35, 36, 43]]
    proxy = LogisticRegression(max_iter=2000).fit(seen[:200], truth[:200])
    return proxy.predict_proba(seen)[:, 1], truth


def _power(a: float, share: float, n: int) -> Pair:
    """Positives thin out by rank as rank ** -a: no end of the tail."""
    random = np.random.default_rng(13)
    rank = np.arange(n) + 20.0
    density = rank**-a
    chance = np.minimum(density * share * n / density.sum(), 0.9)
    return -np.log(rank), random.random(n) < chance


def _bells(apart: float, share: float, n: int, tails: float = np.inf) -> Pair:
    """Two bell curves; the scores are no probabilities. tails: degrees of freedom of Student's t."""
    random = np.random.default_rng(14)
    truth = random.random(n) < share
    noise = random.normal(size=n) if np.isinf(tails) else random.standard_t(tails, size=n)
    return noise + apart * truth, truth


def _logistic(apart: float, share: float, n: int, slope: float) -> Pair:
    """Two bell curves behind a logistic curve, over-confident for slope > 1."""
    scores, truth = _bells(apart, share, n)
    logit = slope * (apart * (scores - apart / 2) + np.log(share / (1 - share)))
    return 1 / (1 + np.exp(-logit)), truth


def _kinds(weak: float, share: float, n: int) -> Pair:
    """Two kinds of positives: most are far from the negatives, a share of them is hardly told apart."""
    random = np.random.default_rng(36)
    truth = random.random(n) < share
    return random.normal(size=n) + np.where(random.random(n) < weak, 0.7, 4.0) * truth, truth


def _frames(n: int = 2624, scored: int = 65, seen: int = 47, positives: int = 97) -> Pair:
    """Frames of a video: nearly all have the score 0, and with it half of the positives."""
    random = np.random.default_rng(37)
    scores, truth = np.zeros(n), np.zeros(n, dtype=bool)
    scores[:scored] = random.random(scored)
    truth[:seen] = truth[scored + random.permutation(n - scored)[: positives - seen]] = True
    return scores, truth


def _missing(share: float, pair: Pair) -> Pair:
    scores, truth = pair[0].copy(), pair[1]
    scores[np.random.default_rng(15).random(len(scores)) < share] = np.nan
    return scores, truth


FILES = ("imagenet", "tacred")
"""Tables of files: 50 of 50,000 photographs, and 534 of 22,631 sentences, as the authors of SUPG published them."""

MADE: dict[str, Callable[[], Pair]] = {
    "digits": _digits,
    "beta1_1e5": lambda: _beta(0.01, 1, 100_000),
    "beta2_1e5": lambda: _beta(0.01, 2, 100_000),
    "beta1_1e6": lambda: _beta(0.01, 1, 1_000_000),
    "beta2_1e6": lambda: _beta(0.01, 2, 1_000_000),
    "rare": lambda: _beta(0.01, 10, 1_000_000),
    # noisy
    "pow": lambda: (_beta(0.01, 2, 1_000_000)[0] ** 3, _beta(0.01, 2, 1_000_000)[1]),
    "noise02": lambda: _noisy(0.02, _beta(0.01, 2, 1_000_000)),
    "noise05": lambda: _noisy(0.05, _beta(0.01, 2, 1_000_000)),
    "noise02_1e5": lambda: _noisy(0.02, _beta(0.01, 2, 100_000)),
    "noise05_1e5": lambda: _noisy(0.05, _beta(0.01, 2, 100_000)),
    "useless": _useless,
    # hostile
    "adv15": lambda: _buried(0.15, _beta(0.01, 2, 1_000_000)),
    "lab20": lambda: _shuffled(0.2, _beta(0.01, 2, 1_000_000)),
    "adv15_1e5": lambda: _buried(0.15, _beta(0.01, 2, 100_000)),
    "lab20_1e5": lambda: _shuffled(0.2, _beta(0.01, 2, 100_000)),
    # degenerate
    "constant": lambda: (np.zeros(50_000), np.random.default_rng(16).random(50_000) < 0.03),
    "reversed": lambda: (-_beta(0.01, 1, 100_000)[0], _beta(0.01, 1, 100_000)[1]),
    "nan30": lambda: _missing(0.3, _beta(0.01, 1, 100_000)),
    "ties": lambda: (np.round(_beta(0.01, 1, 100_000)[0], 1), _beta(0.01, 1, 100_000)[1]),
    # run once before the last warnings of `aidb.stats.selection.promise` were added, which they led to
    "held_beta": lambda: _beta(0.03, 1.5, 200_000, seed=5),
    "held_sparse": lambda: _beta(0.003, 1, 500_000, seed=6),
    "held_flat": lambda: _beta(0.1, 8, 100_000, seed=7),
    "held_bells": lambda: _bells(3, 0.01, 200_000),
    "held_student": lambda: _bells(5, 0.01, 200_000, tails=4),
    "held_sure": lambda: _logistic(2.5, 0.01, 200_000, slope=2),
    "held_timid": lambda: _logistic(2.5, 0.02, 100_000, slope=0.5),
    "held_power": lambda: _power(1.5, 0.01, 200_000),
    "held_heavy": lambda: _power(1.1, 0.01, 200_000),
    "held_noise": lambda: _noisy(0.1, _beta(0.02, 1, 200_000, seed=8)),
    "held_shuffled": lambda: _shuffled(0.15, _beta(0.02, 1, 200_000, seed=9)),
    "held_lost05": lambda: _overlooked(0.05, _beta(0.02, 1, 200_000, seed=10)),
    "held_lost15": lambda: _overlooked(0.15, _beta(0.02, 1, 200_000, seed=10)),
    "held_digit3": lambda: _digits(3),
    "held_digit9": lambda: _digits(9),
    "held_ties": lambda: (np.round(_beta(0.03, 1.5, 100_000, seed=5)[0], 2), _beta(0.03, 1.5, 100_000, seed=5)[1]),
    # not run before the methods were frozen
    "fresh_beta": lambda: _beta(0.02, 4, 300_000, seed=21),
    "fresh_bells": lambda: _bells(2.2, 0.02, 150_000),
    "fresh_student": lambda: _bells(4, 0.03, 100_000, tails=3),
    "fresh_sure": lambda: _logistic(3, 0.02, 150_000, slope=3),
    "fresh_timid": lambda: _logistic(3, 0.005, 300_000, slope=0.7),
    "fresh_power": lambda: _power(1.35, 0.02, 150_000),
    "fresh_steep": lambda: _power(2, 0.004, 300_000),
    "fresh_noise": lambda: _noisy(0.03, _beta(0.03, 2, 150_000, seed=22)),
    "fresh_shuffled": lambda: _shuffled(0.25, _beta(0.015, 1, 300_000, seed=23)),
    "fresh_lost10": lambda: _overlooked(0.1, _beta(0.02, 3, 150_000, seed=24)),
    "fresh_nan5": lambda: _missing(0.05, _beta(0.02, 1, 150_000, seed=25)),
    "fresh_digit5": lambda: _digits(5),
    # made up before the misses on the tables above were looked into
    "later_beta": lambda: _beta(0.015, 3, 120_000, seed=31),
    "later_shuffled": lambda: _shuffled(0.1, _beta(0.02, 2, 120_000, seed=32)),
    "later_power": lambda: _power(1.7, 0.006, 150_000),
    "later_bells": lambda: _bells(2.6, 0.015, 120_000),
    "later_reversed": lambda: (-_beta(0.02, 1.5, 120_000, seed=33)[0], _beta(0.02, 1.5, 120_000, seed=33)[1]),
    "later_ties": lambda: (np.round(_beta(0.03, 2, 100_000, seed=34)[0], 1), _beta(0.03, 2, 100_000, seed=34)[1]),
    "later_lost08": lambda: _overlooked(0.08, _beta(0.02, 1.5, 120_000, seed=35)),
    "later_kinds": lambda: _kinds(0.15, 0.01, 120_000),
    "later_frames": _frames,
}
