"""The demo's photographs, and the sheet that shows results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aidb.errors import OperationalError
from aidb.surfaces.demo import pictures, sheet


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[pictures.Picture]:
    return pictures.write(tmp_path_factory.mktemp("photos"))


def test_photographs_are_real_files_of_some_size(written: list[pictures.Picture]) -> None:
    names = {picture.path.name for picture in written}
    assert {"astronaut.jpg", "cat.jpg", "palace.jpg", "flower.jpg"} <= names
    for picture in written:
        with Image.open(picture.path) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            assert 100 < max(image.size) <= 1000


def test_half_of_the_press_pictures_are_faces_in_mixed_order(written: list[pictures.Picture]) -> None:
    press = [picture.people for picture in written if picture.path.name.startswith("press-")]
    assert len(press) == 200
    assert sum(press) == 100
    assert 30 < sum(press[:100]) < 70


def test_the_same_seed_gives_the_same_files(written: list[pictures.Picture], tmp_path: Path) -> None:
    again = pictures.write(tmp_path)
    assert [(p.path.name, p.people) for p in again] == [(p.path.name, p.people) for p in written]
    assert again[-1].path.read_bytes() == written[-1].path.read_bytes()


def test_finding_pictures_imports_none_of_the_packages(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom aidb.surfaces.demo import pictures\n"
        f"pictures.write({str(tmp_path)!r})\n"
        "assert not {'skimage', 'sklearn', 'matplotlib', 'ultralytics', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_any_photograph_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_PHOTOGRAPHS", (("no_such_package", "a.png", "a", 0),))
    monkeypatch.setattr(pictures, "_PORTRAITS", ("no_such_package", "b.npy"))
    with pytest.raises(OperationalError, match=r"pip install 'aidb\[demo\]'"):
        pictures.write(tmp_path)


def test_a_sheet_shows_pictures_boxes_and_words(tmp_path: Path) -> None:
    grey = np.full((120, 180, 3), 128, np.uint8)
    plain = sheet.write(tmp_path / "plain.png", [sheet.Section("One", [sheet.Tile(grey)])])
    boxed = sheet.write(
        tmp_path / "boxed.png",
        [sheet.Section("One", [sheet.Tile(grey, (sheet.Box(20, 20, 90, 90, "face"),), "a caption")])],
    )
    with Image.open(plain) as a, Image.open(boxed) as b:
        assert a.size == b.size
        changed = np.argwhere((np.asarray(a) != np.asarray(b)).any(axis=2))
    assert len(changed) > 500


def test_a_sheet_grows_by_rows_and_sections(tmp_path: Path) -> None:
    tile = sheet.Tile(np.zeros((50, 400, 3), np.uint8), (sheet.Box(-5, -5, 1000, 1000),), "x" * 200)

    def height(*counts: int) -> int:
        path = sheet.write(tmp_path / "s.png", [sheet.Section("h", [tile] * n) for n in counts], columns=3)
        with Image.open(path) as image:
            return image.height

    assert height(1) == height(3) < height(4) < height(4, 1)


def test_an_empty_sheet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        sheet.write(tmp_path / "s.png", [sheet.Section("nothing", [])])
