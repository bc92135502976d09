"""On a GPU: what a query gets out of a detector, compared with the detector's own best at its best batch size.

The model's own best is `predict` in a loop over decoded pictures that wait in memory, with the batch size that is
fastest. The query lists, reads and decodes the same pictures from files, at that batch size, and stores what it finds.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks._measure import SHARED, Figure, Loaded, apart, command, cores, in_turn, median

BATCHES = (1, 8, 16, 32, 64, 128)
WEIGHTS = SHARED / "weights" / "yolov8n_deq.pt"


def run(quick: bool = False) -> Iterator[Figure]:
    """Pictures a second of both and their ratio, or why nothing can be measured."""
    missing = apart(_missing)
    if missing:
        yield Figure("gpu", "all", "", None, "", note=f"skipped: {missing}")
        return
    provider = ("ultralytics", {"weights": str(WEIGHTS)}) if WEIGHTS.is_file() else _untrained()
    yield from apart(_measure, *provider, 1024 if quick else 8192)


def _missing() -> str:
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    return "" if torch.cuda.is_available() else "torch sees no CUDA device"


def _untrained() -> tuple[str, dict[str, object]]:
    """The same network without its weights, which takes the same time."""
    return "ultralytics", {"weights": "yolov8n.yaml"}


def _measure(provider: str, options: dict[str, object], pictures: int) -> list[Figure]:
    import numpy as np
    import torch
    from PIL import Image

    import aidb
    from aidb.exec.models import make

    os.environ.setdefault("YOLO_OFFLINE", "true")
    model: Any = make("detector", provider, {**options, "device": "cuda"})
    model.load()
    noise = np.random.default_rng(0).integers(0, 255, (36, 64, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((640, 360)))
    rates = {}
    for batch in BATCHES:
        images = [picture] * batch
        for _ in range(3):
            model.predict([images])
        turns = max(3, 512 // batch)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(turns):
            model.predict([images])
        torch.cuda.synchronize()
        rates[batch] = batch * turns / (time.perf_counter() - begin)
    best = max(rates, key=lambda b: rates[b])
    figure = partial(Figure, "gpu", f"{provider}, {torch.cuda.get_device_name()}, {cores()} cores, {pictures} pictures")
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "00000.jpg"
        Image.fromarray(picture).save(first)
        for n in range(1, pictures):
            shutil.copy(first, first.with_name(f"{n:05}.jpg"))

        def alone() -> None:
            for _ in range(pictures // best):
                model.predict([[picture] * best])

        def query() -> None:
            with aidb.connect(Path(folder) / f"{time.monotonic_ns()}.aidb") as con:
                con.register(Loaded(model), "detector")
                con.execute(f"SET aidb.batch_size = {best}")
                con.execute(f"CREATE BLOB TABLE photos FROM '{folder}/*.jpg'")
                con.execute("CREATE VIRTUAL TABLE box AS detector(photos.image)")
                con.execute("SELECT count(*) FROM box").fetchall()

        turns = in_turn(3, alone=alone, query=query)
    alone_rate = pictures // best * best / median(turns["alone"])
    query_rate = pictures / median(turns["query"])
    return [
        figure(f"model alone, batches of {best}", alone_rate, "pictures/s"),
        figure("query", query_rate, "pictures/s"),
        figure("query / model alone", query_rate / alone_rate, "", at_least=0.9),
    ]


if __name__ == "__main__":
    sys.exit(command({"gpu": run}, __doc__))
