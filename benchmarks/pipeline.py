"""A real detector over a real video: a query from the first word to the last row, beside loops written by hand.

For networks in ONNX files the loop is `_loops.Loop`; for ultralytics it is the package's own ``predict(stream=True)``.
Both are shown the same frames in turns, with models that are loaded already. Ours makes a database, lists the video,
decodes, runs the network, stores every row with its ledger in a file, and answers; theirs keeps rows in memory. What does
not grow with the frames, some 0.15 seconds, weighs on short runs. On a machine that is busy with other work the ratio of
processor time says more than that of wall time.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks._measure import SHARED, Figure, Loaded, apart, command, in_turn, median, ratio

VIDEO = SHARED / "media" / "one-by-one-person-detection.mp4"
WEIGHTS = SHARED / "weights"
WHOLE = 1394
"""Frames of the video."""


def run(quick: bool = False) -> Iterator[Figure]:
    """Milliseconds a frame of both, and their ratio, by wall clock and by processor time."""
    if not VIDEO.is_file():
        yield Figure("pipeline", "all", "", None, "", note=f"skipped: there is no {VIDEO.name} in {SHARED.name}/media")
        return
    turns = 2 if quick else 3
    yield from apart(_onnx, "yolox_nano_416.onnx", 300 if quick else WHOLE, turns)
    yield from apart(_onnx, "yolov8n_deq_fp32_dyn.onnx", 60 if quick else 300, turns)
    yield from apart(_ultralytics, "yolov8n_deq.pt", 60 if quick else 400, turns)


class _Query:
    """A query over the first frames of the video, each time in a new database; the model stays loaded."""

    def __init__(self, provider: str, weights: str, frames: int) -> None:
        from aidb.exec.models import make

        self.model = make("detector", provider, {"weights": str(WEIGHTS / weights)})
        self.model.load()
        self.frames = frames
        self.found: list[tuple[object, ...]] = []

    def __call__(self) -> None:
        import aidb

        with tempfile.TemporaryDirectory() as folder, aidb.connect(Path(folder) / "bench.aidb") as con:
            con.register(Loaded(self.model), "detector")
            con.execute(f"CREATE BLOB TABLE frames FROM '{VIDEO}'")
            con.execute("CREATE VIRTUAL TABLE box AS detector(frames.image)")
            cursor = con.execute(f"SELECT frame_id, class_id, confidence FROM box WHERE frame_id < {self.frames}")
            self.found = cursor.fetchall()
            assert cursor.report.calls == {"detector": self.frames}, cursor.report


def _onnx(weights: str, frames: int, repeats: int) -> list[Figure]:
    from benchmarks._loops import Loop, Yolov8, Yolox

    network = Yolox() if "yolox" in weights else Yolov8()
    loop = Loop(WEIGHTS / weights, network, iou=0.45 if "yolox" in weights else 0.7)
    rows: list[object] = []

    def by_hand() -> None:
        rows[:] = loop(VIDEO, frames)

    return _compared(f"onnx {weights}", _Query("onnx", weights, frames), by_hand, rows, repeats, 1.05, "loop by hand")


def _ultralytics(weights: str, frames: int, repeats: int) -> list[Figure]:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    _mend_torchvision()
    query = _Query("ultralytics", weights, frames)
    from ultralytics import YOLO

    theirs = YOLO(str(WEIGHTS / weights), verbose=False)
    rows: list[object] = []

    def predict() -> None:
        rows.clear()
        for n, result in enumerate(theirs.predict(str(VIDEO), stream=True, verbose=False, save=False, device="cpu")):
            rows.extend(result.boxes.cls.tolist())
            if n + 1 == frames:
                return

    return _compared(f"ultralytics {weights}", query, predict, rows, repeats, 1.0, "predict(stream=True)")


def _mend_torchvision() -> None:
    """torchvision as it is beside a torch without CUDA, see the tests' remedy; nothing where it works by itself."""
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        from tests import torchvision_shim

        torchvision_shim.install()


def _compared(
    case: str, query: _Query, by_hand: Callable[[], None], rows: list[object], repeats: int, limit: float, other: str
) -> list[Figure]:
    query()
    by_hand()
    turns = in_turn(repeats, ours=query, theirs=by_hand)
    ours, theirs, frames = turns["ours"], turns["theirs"], query.frames
    case = f"{case}, {frames} frames"
    figure = partial(Figure, "pipeline", case)
    best = min(o.wall for o in ours) / min(t.wall for t in theirs)
    return [
        figure("query", 1000 * median(ours) / frames, "ms/frame"),
        figure(other, 1000 * median(theirs) / frames, "ms/frame"),
        figure(f"query / {other}, wall time, median of turns", ratio(ours, theirs), "", limit),
        figure(f"query / {other}, wall time, best of each", best, ""),
        figure(f"query / {other}, CPU time, median of turns", ratio(ours, theirs, "cpu"), ""),
        figure("objects found, query - other", float(len(query.found) - len(rows)), ""),
        figure("CPUs in use by the query", statistics.median(o.cpu / o.wall for o in ours), ""),
    ]


if __name__ == "__main__":
    sys.exit(command({"pipeline": run}, __doc__))
