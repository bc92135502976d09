"""Memory in flight: pictures of 8K decoded for a slow model under limits that hold a few of them, or not even one.

A picture of 7680 x 4320 takes 95 MiB decoded. The model is slower than the decoders, so that without a limit every queue
would be full. The process as a whole grows by more than what is in flight, but not by more for more pictures: while it
decodes Pillow holds a picture in 4 bytes a pixel as well (127 MiB in each reader), and the C library keeps some of that.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._measure import Figure, apart, command, peak_bytes

if TYPE_CHECKING:
    import numpy as np

WIDTH, HEIGHT = 7680, 4320
PICTURE = WIDTH * HEIGHT * 3
MIB = 2**20


def run(quick: bool = False) -> Iterator[Figure]:
    """Bytes in flight as the engine counts them, and the growth of the process while the query runs."""
    pictures = 8 if quick else 24
    with tempfile.TemporaryDirectory() as folder:
        apart(_draw, folder, pictures)
        for limit in (64 * MIB, 400 * MIB) if quick else (64 * MIB, 400 * MIB, 1200 * MIB):
            yield from apart(_measure, folder, pictures, limit)


def _draw(folder: str, pictures: int) -> None:
    import numpy as np
    from PIL import Image

    first = Path(folder) / "000.jpg"
    rows = np.linspace(0, 255, HEIGHT, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(rows[:, None, None], (HEIGHT, WIDTH, 3)).copy()).save(first, quality=80)
    for n in range(1, pictures):
        shutil.copy(first, first.with_name(f"{n:03}.jpg"))


def _measure(folder: str, pictures: int, limit: int) -> list[Figure]:
    import aidb
    from aidb.exec import pipeline
    from aidb.exec.memory import ByteBudget

    budgets: list[ByteBudget] = []

    def remembered(limit: int) -> ByteBudget:
        budgets.append(ByteBudget(limit))
        return budgets[-1]

    pipeline.ByteBudget = remembered  # type: ignore[assignment,misc]

    @aidb.model(outputs={"y": "DOUBLE"}, version="1")
    def brightness(image: list[np.ndarray]) -> dict[str, list[float]]:
        time.sleep(0.3 * len(image))
        return {"y": [float(picture[::100, ::100].mean()) for picture in image]}

    with aidb.connect() as con:
        con.register(brightness)
        con.execute(f"CREATE BLOB TABLE photos FROM '{folder}/*.jpg'")
        con.execute("CREATE VIRTUAL TABLE v AS brightness(photos.image)")
        con.execute(f"SET aidb.memory_limit = '{limit}B'")
        before = peak_bytes()
        assert con.execute("SELECT count(y) FROM v").fetchall() == [(pictures,)]
    figure = partial(Figure, "memory", f"{pictures} pictures of 8K, aidb.memory_limit = {limit // MIB} MiB")
    bound = max(limit, PICTURE) / MIB
    return [
        figure("bytes in flight (bound: the limit, or one picture)", budgets[-1].peak / MIB, "MiB", bound),
        figure("growth of the process, with Pillow's copies and freed memory", (peak_bytes() - before) / MIB, "MiB"),
    ]


if __name__ == "__main__":
    sys.exit(command({"memory": run}, __doc__))
