"""Models that the tests host, as functions, and that they run in their own process for comparison."""

from __future__ import annotations

import os
import time

import numpy as np
import pyarrow as pa

import aidb

CRASH, SLOW, FOUL = 666, 1000, -1
"""Inputs of `upto`: it kills its process, sleeps for so many milliseconds above, raises."""


@aidb.model(
    inputs={"picture": "image"},
    outputs={"bright": "DOUBLE", "height": "INTEGER", "shape": "VARCHAR", "corner": "FLOAT[3]"},
    version="1",
)
def measure(picture: list[np.ndarray]) -> dict[str, list[object]]:
    """Numbers, texts, vectors, and NULL for what is taller than wide."""
    return {
        "bright": [float(p.mean()) for p in picture],
        "height": [p.shape[0] if p.shape[0] <= p.shape[1] else None for p in picture],
        "shape": [f"{p.shape[1]} × {p.shape[0]}" for p in picture],
        "corner": [p[0, 0].tolist() if p.shape[0] <= p.shape[1] else None for p in picture],
    }


@aidb.model(inputs={"x": "BIGINT"}, outputs={"y": "BIGINT", "half": "BOOLEAN"}, rows="many", version="1")
def upto(x: pa.Array) -> dict[str, list[object]]:
    """x rows, none for NULL."""
    found: list[tuple[int, int]] = []
    for i, value in enumerate(x.to_pylist()):
        if value == CRASH:
            os._exit(7)
        if value is not None and value >= SLOW:
            time.sleep((value - SLOW) / 1000)
            value = 1
        if value is not None and value < 0:
            raise ValueError("a negative number")
        found += [(i, k) for k in range(value or 0)]
    return {"y": [k for _, k in found], "half": [k % 2 == 0 for _, k in found], "_row": [i for i, _ in found]}


@aidb.model(outputs={"kind": "VARCHAR", "n": "BIGINT"}, version="1")
def kinds(*values: object) -> dict[str, list[object]]:
    """What each argument came as; of any number of them."""
    n = len(values[0])  # type: ignore[arg-type]
    kind = ", ".join(str(v.type) if isinstance(v, pa.Array) else type(v[0]).__name__ for v in values)  # type: ignore[index]
    return {"kind": [kind] * n, "n": [len(values)] * n}


@aidb.model(outputs={"seen": "BIGINT"}, sequential=True, version="1")
class Counter:
    """Keeps state along a file, so that no server may host it."""

    def __call__(self, x: pa.Array) -> dict[str, list[int]]:
        return {"seen": [0] * len(x)}
