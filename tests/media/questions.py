"""The questions that tests and the full run ask, each in SQL and in pandas, and what each may cost at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import aidb
from tests.media import reference
from tests.media.reference import Detector, Seen

SHARED = Path(__file__).parents[3] / "shared"
GIF = "person-bicycle-car-detection.gif"
PEOPLE = "one-by-one-person-detection.mp4"
BOTTLES = "bottle-detection.mp4"
VEHICLES = ("bicycle", "bus", "car", "motorcycle", "truck")
RANGE = range(300, 311)
"""Frames of `BOTTLES` that one question asks about."""

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Network:
    """A detector as both sides know it: provider and file for AIDB, a plain function for the script."""

    provider: str
    weights: str
    plain: Callable[[Path], Detector]


NETWORKS = {
    "yolox": Network("onnx", "yolox_nano_416.onnx", reference.yolox),
    "yolov8": Network("onnx", "yolov8n_deq_fp32_dyn.onnx", reference.yolov8),
    "ultralytics": Network("ultralytics", "yolov8n_deq.pt", reference.ultralytics),
}


@dataclass(frozen=True)
class Question:
    """``{chosen}`` in ``sql`` stands for the condition that keeps the frames of a run.

    answer: the same by pandas. frames, boxes: which of them the models must see, given all that a detector finds.
    """

    sql: str
    answer: Callable[[Seen], Rows]
    frames: Callable[[Seen], pd.Series]
    boxes: Callable[[Seen], pd.Series] | None = None

    def cost(self, seen: Seen) -> dict[str, int]:
        """Items of each model that a first run needs."""
        found = {"find": int(self.frames(seen).sum())}
        if self.boxes is not None:
            found["paint"] = int(self.boxes(seen).sum())
        return found


def _file(rows: pd.DataFrame) -> pd.Series:
    return rows["file"].map(lambda f: Path(f).name)


def _all(rows: pd.DataFrame) -> pd.Series:
    return pd.Series(True, index=rows.index)


def _tuples(rows: pd.DataFrame) -> Rows:
    return sorted(tuple(row) for row in rows.astype(object).itertuples(index=False))


def _per_second(seen: Seen) -> Rows:
    rows = seen.joined()
    rows = rows[(rows.label == "person") & (_file(rows) == PEOPLE)]
    counts = rows.groupby(rows.ts.astype(int)).size()
    return [(int(second), int(n)) for second, n in counts.items()]


def _left_persons(rows: pd.DataFrame) -> pd.Series:
    return (rows.label == "person") & ((rows.xmin + rows.xmax) / 2 < rows.width / 2)


def _black_on_the_left(seen: Seen) -> Rows:
    rows = seen.joined()
    rows = rows[_left_persons(rows) & (rows.color == "black")]
    return _tuples(rows[["file", "frame", "box_id"]])


def _two_persons(seen: Seen) -> Rows:
    counts = seen.boxes[seen.boxes.label == "person"].groupby(["file", "frame"]).size()
    return sorted((file, int(frame)) for (file, frame), n in counts.items() if n >= 2)[:10]


def _vehicles(seen: Seen) -> Rows:
    rows = seen.boxes[seen.boxes.label.isin(VEHICLES) & (_file(seen.boxes) == GIF)]
    counts = rows.groupby(["label", "color"]).size()
    return sorted(("crossing", 270, label, color, int(n)) for (label, color), n in counts.items())


def _in_range(rows: pd.DataFrame) -> pd.Series:
    return (_file(rows) == BOTTLES) & rows["frame"].isin(RANGE)


QUESTIONS = {
    "persons per second": Question(
        "SELECT CAST(floor(ts) AS INTEGER) AS second, count(*) FROM frames JOIN box USING (frame_id)"
        f" WHERE label = 'person' AND parse_filename(file) = '{PEOPLE}' AND {{chosen}} GROUP BY ALL ORDER BY ALL",
        _per_second,
        lambda seen: _file(seen.frames) == PEOPLE,
    ),
    "persons in black on the left half": Question(
        "SELECT file, frame, box_id FROM frames JOIN box USING (frame_id) JOIN color USING (frame_id, box_id)"
        " WHERE color = 'black' AND label = 'person' AND (xmin + xmax) / 2 < width / 2 AND {chosen} ORDER BY ALL",
        _black_on_the_left,
        lambda seen: _all(seen.frames),
        lambda seen: _left_persons(seen.joined()),
    ),
    "the first ten frames with two persons": Question(
        "SELECT file, frame FROM frames JOIN box USING (frame_id) WHERE label = 'person' AND {chosen}"
        " GROUP BY file, frame HAVING count(*) >= 2 ORDER BY file, frame LIMIT 10",
        _two_persons,
        lambda seen: _all(seen.frames),
    ),
    "vehicles by class and colour with the file's metadata": Question(
        "SELECT place, height, label, color, count(*) FROM places JOIN frames ON parse_filename(file) = name"
        " JOIN box USING (frame_id) JOIN color USING (frame_id, box_id)"
        f" WHERE label IN {VEHICLES} AND {{chosen}} GROUP BY ALL ORDER BY ALL",
        _vehicles,
        lambda seen: _file(seen.frames) == GIF,
        lambda seen: seen.boxes.label.isin(VEHICLES) & (_file(seen.boxes) == GIF),
    ),
    "a frame range of one video": Question(
        "SELECT frame, label, color, count(*) FROM frames JOIN box USING (frame_id) JOIN color USING (frame_id, box_id)"
        f" WHERE parse_filename(file) = '{BOTTLES}' AND frame BETWEEN {RANGE[0]} AND {RANGE[-1]} AND {{chosen}}"
        " GROUP BY ALL ORDER BY ALL",
        lambda seen: _tuples(
            seen.boxes[_in_range(seen.boxes)].groupby(["frame", "label", "color"]).size().reset_index()
        ),
        lambda seen: _in_range(seen.frames),
        lambda seen: _in_range(seen.boxes),
    ),
}


def world(network: Network, source: Path, metadata: Path, database: str = ":memory:") -> aidb.Connection:
    """A database with all frames of a folder, a detector ``find``, and a table of what is known about the files."""
    con = aidb.connect(database)
    con.execute(f"CREATE BLOB TABLE frames FROM '{source}/*'")
    con.execute(f"CREATE MODEL find USING {network.provider} WITH (weights = '{SHARED / 'weights' / network.weights}')")
    con.execute("CREATE MODEL paint USING color")
    con.execute("CREATE VIRTUAL TABLE box AS find(frames.image)")
    con.execute("CREATE VIRTUAL TABLE color AS paint(frames.image, box.xmin, box.ymin, box.xmax, box.ymax)")
    metadata.write_text(f"name,place\n{GIF},crossing\nno-such-video.mp4,nowhere\n")
    con.execute(f"CREATE TABLE places AS SELECT * FROM '{metadata}'")
    return con
