"""The demo from beginning to end, on a short street."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

import aidb
from aidb.surfaces.demo.__main__ import main

FRAMES = 300


def test_the_story_is_told_and_its_figures_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "it's a demo"
    output.mkdir()
    with aidb.connect(str(output / "demo.aidb")) as left_over:
        left_over.execute("CREATE TABLE photos AS SELECT 1 AS image_id")
    assert main([str(output), "--frames", str(FRAMES)]) == 0
    told = capsys.readouterr().out

    calls = [int(text.replace(",", "")) for text in re.findall(r"-> [\d.]+ s, ([\d,]+) model call", told)]
    first, again, other, price, count, found, rare, rest, frames, shown = calls
    pictures = int(re.search(r"Here are (\d+) photographs", told).group(1))  # type: ignore[union-attr]
    assert first == pictures
    assert again == other == price == frames == shown == 0
    looked = int(re.search(r"street_detector ([\d,]+), glance", told).group(1))  # type: ignore[union-attr]
    assert count == looked + FRAMES
    assert looked + found + rest <= FRAMES  # a frame is never asked for twice; the rare bus may ask for others
    low, high = (float(x.replace(",", "")) for x in re.search(r"Between ([\d,]+) and ([\d,]+)", told).groups())  # type: ignore[union-attr]
    cars = [int(x.replace(",", "")) for x in re.findall(r"^   cars\n   ([\d,]+)$", told, re.MULTILINE)]
    assert low <= cars[-1] <= high
    held = float(re.search(r"held ([\d.]+)% of them", told).group(1))  # type: ignore[union-attr]
    assert held >= 90
    assert rare < FRAMES
    assert "astronaut.jpg" in told
    assert f"{FRAMES:,}" in told
    wide = [line for line in told.splitlines() if len(line) > 80]
    assert [line for line in wide if str(tmp_path) not in line] == []  # only a path may be long
    with Image.open(output / "answers.png") as page:
        assert page.width > 1000


def test_a_folder_that_can_not_be_made_is_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main([str(tmp_path / "file" / "demo")]) == 1
    assert capsys.readouterr().err.startswith("aidb demo: ")


def test_too_short_a_street_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--frames", "5"])
    assert "at least 100" in capsys.readouterr().err
