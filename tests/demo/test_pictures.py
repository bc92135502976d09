"""The demo's photographs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from aidb.errors import OperationalError
from aidb.surfaces.demo import pictures


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
