"""The drawn street: its truth is what the pictures show, the same each time, and the detector sees most of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from aidb.errors import OperationalError
from aidb.surfaces.demo import detector, street, traffic
from aidb.surfaces.demo.sprites import PAINT

FRAMES, FPS = 240, 10


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> street.Street:
    return street.draw(tmp_path_factory.mktemp("street") / "street.mp4", frames=FRAMES, fps=FPS, seed=7)


@pytest.fixture(scope="module")
def pictures(drawn: street.Street) -> list[np.ndarray]:
    with av.open(str(drawn.path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_video_has_the_frames_that_were_asked_for(pictures: list[np.ndarray]) -> None:
    assert len(pictures) == FRAMES
    assert {p.shape for p in pictures} == {(traffic.HEIGHT, traffic.WIDTH, 3)}


def test_the_same_seed_gives_the_same_street() -> None:
    first, second, other = (
        list(street.render(traffic.passers(2.0, rng), 3, FPS, rng)) for rng in map(np.random.default_rng, (7, 7, 8))
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_day_turns_into_night(pictures: list[np.ndarray]) -> None:
    brightness = [p.mean() for p in pictures]
    assert np.mean(brightness[:80]) > 2 * np.mean(brightness[-50:])
    assert traffic.light(0.0) == 1.0
    assert traffic.light(1.0) == 0.0


def test_truth_lies_in_the_picture_and_in_order(drawn: street.Street) -> None:
    rows = drawn.truth.to_pylist()
    assert rows
    for row in rows:
        assert 0 <= row["xmin"] < row["xmax"] <= traffic.WIDTH
        assert 0 <= row["ymin"] < row["ymax"] <= traffic.HEIGHT
        assert row["seconds"] == row["frame_id"] / FPS
    keys = [(row["frame_id"], row["object_id"]) for row in rows]
    assert keys == sorted(set(keys))


def test_cars_are_painted_as_the_truth_says(drawn: street.Street, pictures: list[np.ndarray]) -> None:
    """By day and in the near lane, the strip below a car's windows has its paint."""
    checked = 0
    for row in drawn.truth.to_pylist():
        whole = row["xmin"] > 0 and row["xmax"] < traffic.WIDTH
        near = row["ymax"] == traffic.LANES[2].ground
        if row["label"] == "car" and whole and near and row["frame_id"] < 0.4 * FRAMES:
            width, height = row["xmax"] - row["xmin"], row["ymax"] - row["ymin"]
            y = slice(round(row["ymin"] + 0.52 * height), round(row["ymin"] + 0.64 * height))
            x = slice(round(row["xmin"] + 0.35 * width), round(row["xmin"] + 0.62 * width))
            seen = np.median(pictures[row["frame_id"]][y, x].reshape(-1, 3), axis=0)
            nearest = min(PAINT, key=lambda name: float(np.abs(seen - np.array(PAINT[name])).sum()))
            assert nearest == row["color"], row
            checked += 1
    assert checked > 20


def test_one_bus_of_the_long_street_is_yellow_and_rare() -> None:
    everybody = traffic.passers(180.0, np.random.default_rng(7))
    assert [p.kind for p in everybody if p.kind == "bus" and p.color == "yellow"] == ["bus"]
    truth = traffic.truth(everybody, 1800, 10).to_pylist()
    frames = {row["frame_id"] for row in truth if row["label"] == "bus" and row["color"] == "yellow"}
    assert 10 <= len(frames) <= 36


def test_vehicles_of_a_lane_never_overlap() -> None:
    everybody = traffic.passers(180.0, np.random.default_rng(3))
    for lane in traffic.LANES:
        if not lane.walkers:
            for moment in np.arange(0, 180, 0.5):
                spans = sorted((p.left(moment), p.left(moment) + p.width) for p in everybody if p.lane is lane)
                assert all(a[1] < b[0] for a, b in pairwise(spans))


@pytest.fixture(scope="module")
def empty() -> tuple[np.ndarray, np.ndarray]:
    """The street without anybody, by day and by night."""
    rng = np.random.default_rng(7)
    traffic.passers(FRAMES / FPS, rng)  # so that the houses are drawn from the same place in the stream
    frames = list(street.render([], 30, FPS, rng))
    return frames[0].astype(np.float32), frames[-1].astype(np.float32)


def test_the_detector_learns_the_empty_street(drawn: street.Street, empty: tuple[np.ndarray, np.ndarray]) -> None:
    eye = detector.Detector.learn(drawn.path)
    for learnt, truth in ((eye.day, empty[0]), (eye.night, empty[1])):
        assert np.median(np.abs(learnt - truth)) < 4


def test_the_detector_finds_most_and_invents_little(
    drawn: street.Street, pictures: list[np.ndarray], empty: tuple[np.ndarray, np.ndarray]
) -> None:
    batch = detector.Detector(*empty).predict(pictures)
    found = Counter(zip(batch["_row"], batch["label"], strict=True))
    there = Counter((row["frame_id"], row["label"]) for row in drawn.truth.to_pylist())
    agreed = sum((found & there).values())
    assert agreed > 0.85 * sum(there.values())
    assert agreed > 0.85 * sum(found.values())


def test_the_detector_answers_in_the_form_of_a_model(pictures: list[np.ndarray]) -> None:
    eye = detector.Detector(pictures[0].astype(np.float32), pictures[-1].astype(np.float32))
    batch = eye.predict(pictures[:5])
    assert set(batch) == {"_row", *detector.OUTPUTS}
    assert len({len(column) for column in batch.values()}) == 1
    assert set(batch["_row"]) <= set(range(5))
    assert all(0 < sure <= 1 for sure in batch["confidence"])
    assert eye.predict([])["_row"] == []


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperationalError, match="no-such-folder"):
        street.draw(tmp_path / "no-such-folder" / "street.mp4", frames=2)
