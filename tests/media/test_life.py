"""Real videos over time: files that come, change and go; queries that stop early; ranges; a cheap model and a dear one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from aidb_connectors.video import Video

import aidb
from aidb.spi import Decoded, ItemFailure, Ref
from tests.media.questions import GIF, NETWORKS, PEOPLE, world
from tests.media.reference import decoded, look, yolov8, yolox

YOLOX, YOLOV8 = NETWORKS["yolox"].weights, NETWORKS["yolov8"].weights
COUNT = "SELECT parse_filename(file), label, count(*) FROM frames JOIN box USING (frame_id) GROUP BY ALL ORDER BY ALL"


class Counting(Video):
    """The connector of videos, which notes what it decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[str, int | None]] = []

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        for ref, value in zip(refs, super().read(refs, encoded=encoded), strict=True):
            self.frames.append((Path(ref.uri).name, ref.pos))
            yield value


def encode(path: Path, pictures: Sequence[np.ndarray], rate: int = 10) -> None:
    """Write a video of the pictures, or of as much of them as has even sides."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = (side // 2 * 2 for side in pictures[0].shape[:2])
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for picture in pictures:
            cut = np.ascontiguousarray(picture[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
        container.mux(stream.encode(None))


def counts(folder: Path, weights: Path) -> list[tuple[str, str, int]]:
    """`COUNT` by the script."""
    seen = look(decoded(sorted(folder.iterdir()), lambda *_: True), yolox(weights / YOLOX))
    found = seen.boxes.groupby([seen.boxes.file.map(lambda f: Path(f).name), "label"]).size()
    return sorted((file, label, int(n)) for (file, label), n in found.items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "some videos, with 'quotes' and ünïcode"
    path.mkdir()
    return path


def test_an_added_file_costs_only_its_own_frames(videos: Path, weights: Path, folder: Path, tmp_path: Path) -> None:
    street = [f.pixels for f in decoded([videos / GIF], lambda _, n: n % 4 == 0)]
    encode(folder / "b.mp4", street[:5])
    counting = Counting()
    database = tmp_path / "street.aidb"
    with aidb.connect(database) as con:
        con.register_connector(counting)
        source = str(folder).replace("'", "''")
        con.execute(f"CREATE BLOB TABLE frames FROM '{source}/*.mp4'")
        con.execute(f"CREATE MODEL find USING onnx WITH (weights = '{weights / YOLOX}')")
        con.execute("CREATE VIRTUAL TABLE box AS find(frames.image)")
        first = con.execute(COUNT)
        assert first.report.calls == {"find": 5}
        assert first.fetchall() == counts(folder, weights)

        encode(folder / "a.mp4", street[5:])  # listed before the other, and yet no key moves
        keys = con.execute("SELECT frame_id, file, pts FROM frames ORDER BY ALL").fetchall()
        assert con.execute(COUNT).report.calls == {"find": 0}
        assert con.execute("REFRESH BLOB TABLE frames").message == "blob table frames: 11 items, 6 new"
        assert con.execute("SELECT frame_id, file, pts FROM frames ORDER BY ALL").fetchall()[:5] == keys
        counting.frames.clear()
        second = con.execute(COUNT)
        assert second.report.calls == {"find": 6}
        assert second.report.cached == {"find": 5}
        assert {name for name, _ in counting.frames} == {"a.mp4"}
        assert len(counting.frames) == 6
        assert second.fetchall() == counts(folder, weights)

        encode(folder / "b.mp4", street[2:5])  # other content: its old answers no longer count
        assert con.execute("REFRESH BLOB TABLE frames").message == "blob table frames: 9 items, 3 changed, 2 gone"
        third = con.execute(COUNT)
        assert third.report.calls == {"find": 3}
        assert third.fetchall() == counts(folder, weights)
        (folder / "a.mp4").unlink()
        con.execute("REFRESH BLOB TABLE frames")
        fourth = con.execute(COUNT)
        assert fourth.report.calls == {"find": 0}
        assert fourth.fetchall() == counts(folder, weights)
    with aidb.connect(database, read_only=True) as con:
        assert con.execute(COUNT).fetchall() == counts(folder, weights)


def test_limit_stops_in_decoding(videos: Path, weights: Path, tmp_path: Path) -> None:
    counting = Counting()
    with world(NETWORKS["yolox"], videos, tmp_path / "places.csv") as con:
        con.register_connector(counting)
        cursor = con.execute(
            "SELECT frame_id, label FROM frames JOIN box USING (frame_id)"
            f" WHERE parse_filename(file) = '{PEOPLE}' AND frame >= 80 AND label = 'person' LIMIT 5"
        )
        rows = cursor.fetchall()
        assert len(rows) == 5
        assert cursor.report.calls["find"] == len(counting.frames) <= 32, "of 1,314 frames"
        assert {name for name, _ in counting.frames} == {PEOPLE}
        first = con.execute(
            "SELECT frame FROM frames JOIN box USING (frame_id)"
            f" WHERE parse_filename(file) = '{PEOPLE}' AND frame >= 80 AND label = 'person' ORDER BY frame LIMIT 5"
        )
        shown = decoded([videos / PEOPLE], lambda _, n: 80 <= n < 100)
        persons = [
            n for n, label in look(shown, yolox(weights / YOLOX)).boxes[["frame", "label"]].values if label == "person"
        ]
        assert [frame for (frame,) in first.fetchall()] == persons[:5]
        assert first.report.calls["find"] <= 32


def test_the_first_frames_with_two_persons_are_all_that_is_looked_at(
    videos: Path, weights: Path, tmp_path: Path
) -> None:
    with world(NETWORKS["yolox"], videos, tmp_path / "places.csv") as con:
        cursor = con.execute(
            "SELECT file, frame FROM frames JOIN box USING (frame_id) WHERE label = 'person' AND file LIKE '%.gif'"
            " GROUP BY file, frame HAVING count(*) >= 2 ORDER BY file, frame LIMIT 1"
        )
        boxes = look(decoded([videos / GIF], lambda *_: True), yolox(weights / YOLOX)).boxes
        counts = boxes[boxes.label == "person"].groupby("frame").size()
        assert cursor.fetchall() == [(str(videos / GIF), int(counts[counts >= 2].index[0]))]
        assert cursor.report.calls["find"] < 41


def test_a_time_range_is_all_that_is_listed_and_decoded(videos: Path, weights: Path, tmp_path: Path) -> None:
    counting = Counting()
    with aidb.connect() as con:
        con.register_connector(counting)
        con.execute(
            f"CREATE BLOB TABLE cut FROM '{videos / PEOPLE}' WITH (start = '01:00', end = '01:01.5', every = 2)"
        )
        con.execute(f"CREATE MODEL find USING onnx WITH (weights = '{weights / YOLOX}')")
        assert con.execute("SELECT count(*), min(ts), max(frame) FROM cut").fetchall() == [(8, 60.0, 614)]
        query = "SELECT c.frame, b.label FROM cut c, find(c.image) AS b WHERE c.ts >= 60.7 ORDER BY ALL"
        cursor = con.execute(query)
        seen = look(decoded([videos / PEOPLE], lambda _, n: n in (608, 610, 612, 614)), yolox(weights / YOLOX))
        assert cursor.fetchall() == sorted(map(tuple, seen.boxes[["frame", "label"]].values.tolist()))
        assert cursor.report.calls == {"find": len(counting.frames)} == {"find": 4}


@pytest.fixture(scope="module")
def persons(videos: Path, weights: Path) -> tuple[set[int], set[int]]:
    """By the script: frames of the GIF in which the small network sees a person, and those of them where the large one does."""
    shown = list(decoded([videos / GIF], lambda *_: True))
    small = _persons(look(shown, yolox(weights / YOLOX)).boxes)
    return small, _persons(look([f for f in shown if f.number in small], yolov8(weights / YOLOV8)).boxes)


@pytest.mark.parametrize("first", ["small", "large"])
def test_the_dear_model_runs_only_where_the_cheap_one_passed(
    first: str, videos: Path, weights: Path, persons: tuple[set[int], set[int]]
) -> None:
    tests = {
        name: f"EXISTS (SELECT 1 FROM {name} b WHERE b.frame_id = f.frame_id AND label = 'person')"
        for name in ("small", "large")
    }
    other = "large" if first == "small" else "small"
    small, large = persons
    with aidb.connect() as con:
        con.execute(f"CREATE BLOB TABLE frames FROM '{videos / GIF}'")
        con.execute(f"CREATE MODEL nano USING onnx WITH (weights = '{weights / YOLOX}')")
        con.execute(f"CREATE MODEL full USING onnx WITH (weights = '{weights / YOLOV8}')")
        con.execute("CREATE VIRTUAL TABLE small AS nano(frames.image)")
        con.execute("CREATE VIRTUAL TABLE large AS full(frames.image)")
        cursor = con.execute(f"SELECT frame FROM frames f WHERE {tests[first]} AND {tests[other]} ORDER BY frame")
        assert [frame for (frame,) in cursor.fetchall()] == sorted(large)
        assert cursor.report.calls == {"nano": 41, "full": len(small)}
        assert 0 < len(small) < 20


def _persons(boxes: object) -> set[int]:
    return set(boxes[boxes.label == "person"].frame)  # type: ignore[attr-defined, index]


@pytest.mark.parametrize("condition", ["cheap(image) AND dear(image)", "dear(image) AND cheap(image)"])
def test_functions_over_frames_the_dear_one_last(condition: str, videos: Path, weights: Path) -> None:
    nano = yolox(weights / YOLOX)
    asked: dict[str, list[int]] = {"cheap": [], "dear": []}

    @aidb.model(outputs={"bright": "BOOLEAN"})
    def cheap(images: list[np.ndarray]) -> dict[str, list[bool]]:
        asked["cheap"].append(len(images))
        return {"bright": [bool(image[:, :100].mean() > 131) for image in images]}

    @aidb.model(outputs={"person": "BOOLEAN"}, seconds_per_item=0.1)
    def dear(images: list[np.ndarray]) -> dict[str, list[bool]]:
        asked["dear"].append(len(images))
        return {"person": [any(class_id == 0 for class_id, *_ in nano(image)) for image in images]}

    frames = list(decoded([videos / GIF], lambda *_: True))
    bright = [f for f in frames if f.pixels[:, :100].mean() > 131]
    assert 5 < len(bright) < 35
    with aidb.connect() as con:
        con.execute(f"CREATE BLOB TABLE frames FROM '{videos / GIF}'")
        con.register(cheap)
        con.register(dear)
        cursor = con.execute(f"SELECT frame FROM frames WHERE {condition} ORDER BY frame")
        expected = [f.number for f in bright if any(class_id == 0 for class_id, *_ in nano(f.pixels))]
        assert [frame for (frame,) in cursor.fetchall()] == expected
        assert cursor.report.calls == {"cheap": 41, "dear": len(bright)}
        assert {name: sum(sizes) for name, sizes in asked.items()} == {"cheap": 41, "dear": len(bright)}


def test_a_damaged_copy_costs_its_damaged_frames_and_nothing_else(videos: Path, weights: Path, folder: Path) -> None:
    shutil.copy(videos / GIF, folder / "whole.gif")
    (folder / "cut.gif").write_bytes((videos / GIF).read_bytes()[:200_000])
    (folder / "empty.mp4").touch()
    source = str(folder).replace("'", "''")
    with aidb.connect() as con:
        con.execute("SET aidb.max_error_ratio = 0.5")
        con.execute(f"CREATE BLOB TABLE frames FROM '{source}/*'")
        con.execute(f"CREATE MODEL find USING onnx WITH (weights = '{weights / YOLOX}')")
        con.execute("CREATE VIRTUAL TABLE box AS find(frames.image)")
        cursor = con.execute(
            "SELECT frame, label, count(*) FROM frames JOIN box USING (frame_id)"
            " WHERE file NOT LIKE '%whole.gif' OR frame % 8 = 0 GROUP BY ALL ORDER BY ALL"
        )
        rows = cursor.fetchall()
        failed = con.execute("SELECT count(*) FROM aidb.errors").fetchall()[0][0]
        assert cursor.report.failed == failed >= 1
        seen = look(decoded([folder / "whole.gif"], lambda _, n: n % 8 == 0), yolox(weights / YOLOX)).boxes
        assert {(frame, label) for frame, label, _ in rows} >= set(zip(seen.frame, seen.label, strict=True))
