"""Five questions about three real videos by three real detectors: the answers of an independent script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import aidb
from tests.media.questions import BOTTLES, NETWORKS, QUESTIONS, RANGE, world
from tests.media.reference import Frame, Seen, decoded, look


class Run:
    """Which frames a detector is shown: all of the GIF by the light one, and few enough of the videos to be quick."""

    def __init__(self, name: str, videos: Path) -> None:
        self.name, self.network, self.videos = name, NETWORKS[name], videos
        self.every, self.gif = (25, 1) if name == "yolox" else (100, 5)
        self.sql = (
            f"(CASE WHEN file LIKE '%.gif' THEN frame % {self.gif} = 0"
            f" ELSE frame % {self.every} = 0 OR (file LIKE '%{BOTTLES}' AND frame BETWEEN {RANGE[0]} AND {RANGE[-1]}) END)"
        )

    def chosen(self, path: Path, frame: int) -> bool:
        if path.suffix == ".gif":
            return frame % self.gif == 0
        return frame % self.every == 0 or (path.name == BOTTLES and frame in RANGE)

    def script(self, frames: list[Frame]) -> Seen:
        weights = self.videos.parent / "weights" / self.network.weights
        return look((f for f in frames if self.chosen(f.path, f.number)), self.network.plain(weights))


@pytest.fixture(scope="module")
def frames(videos: Path) -> list[Frame]:
    """What the script decodes, once for all detectors."""
    runs = [Run(name, videos) for name in NETWORKS]
    return list(decoded(sorted(videos.iterdir()), lambda path, n: any(r.chosen(path, n) for r in runs)))


@pytest.fixture(scope="module", params=list(NETWORKS))
def run(request: pytest.FixtureRequest, need: Callable[[str], None], videos: Path) -> Run:
    need(request.param)
    return Run(request.param, videos)


@pytest.fixture(scope="module")
def seen(run: Run, frames: list[Frame]) -> Seen:
    return run.script(frames)


@pytest.fixture(scope="module")
def con(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[aidb.Connection]:
    with world(run.network, run.videos, tmp_path_factory.mktemp("metadata") / "places.csv") as con:
        yield con


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_the_answer_is_the_scripts(name: str, run: Run, seen: Seen, con: aidb.Connection) -> None:
    question, sql = QUESTIONS[name], QUESTIONS[name].sql.format(chosen=run.sql)
    expected = question.answer(seen)
    cursor = con.execute(sql)
    assert cursor.fetchall() == expected
    assert cursor.report.failed == 0
    again = con.execute(sql)
    assert again.fetchall() == expected
    assert not any(again.report.calls.values())


@pytest.mark.parametrize("run", ["yolox"], indirect=True)
@pytest.mark.parametrize("name", list(QUESTIONS))
def test_models_see_what_the_question_needs(name: str, run: Run, seen: Seen, tmp_path: Path) -> None:
    question = QUESTIONS[name]
    with world(run.network, run.videos, tmp_path / "places.csv") as con:
        sql = question.sql.format(chosen=run.sql)
        promised = con.explain(sql)
        report = con.execute(sql).report
    needed = question.cost(seen)
    assert report.calls.keys() == needed.keys()
    assert all(report.calls[model] <= n for model, n in needed.items())
    assert promised.calls["find"] == needed["find"]
    if "LIMIT" not in sql:
        assert report.calls == needed
        assert report.calls["find"] < 2624


def test_there_is_something_to_find(run: Run, seen: Seen) -> None:
    """None of the answers that are compared is empty for every detector."""
    answers = {name: len(question.answer(seen)) for name, question in QUESTIONS.items()}
    assert answers["persons per second"] > 5
    assert answers["vehicles by class and colour with the file's metadata"] >= 2
    assert answers["a frame range of one video"] >= len(RANGE)
    if run.name == "yolox":
        assert answers["persons in black on the left half"] >= 1
        assert answers["the first ten frames with two persons"] >= 5
