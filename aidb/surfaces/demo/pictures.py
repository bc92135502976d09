"""Real photographs that travel inside Python packages, found on this machine and written into one folder.

Nothing is downloaded and no package is imported: only its files are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_PHOTOGRAPHS = (
    # package, file in it, name in the folder, people whose face can be seen
    ("skimage", "data/astronaut.png", "astronaut", 1),
    ("skimage", "data/camera.png", "cameraman", 0),
    ("skimage", "data/chelsea.png", "cat", 0),
    ("skimage", "data/coffee.png", "coffee", 0),
    ("skimage", "data/coins.png", "coins", 0),
    ("skimage", "data/hubble_deep_field.jpg", "galaxies", 0),
    ("skimage", "data/motorcycle_left.png", "motorcycle", 0),
    ("skimage", "data/rocket.jpg", "rocket", 0),
    ("sklearn", "datasets/images/china.jpg", "palace", 0),
    ("sklearn", "datasets/images/flower.jpg", "flower", 0),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "admiral", 1),
    ("ultralytics", "assets/bus.jpg", "bus", 3),
    ("ultralytics", "assets/zidane.jpg", "trainers", 2),
)
_PORTRAITS = ("skimage", "data/lfw_subset.npy")  # 100 faces, then 100 other cut-outs, from Labeled Faces in the Wild
_ENLARGED, _BORDER = 5, 15  # the cut-outs are 25 pixels wide, too small for any detector; in pixels of the enlarged one
_LONGEST = 1000  # pixels: larger photographs are scaled down


@dataclass(frozen=True)
class Picture:
    """One written file. people: how many faces a person sees in it."""

    path: Path
    people: int


def write(folder: str | Path, *, seed: int = 7) -> list[Picture]:
    """Write every photograph that is found on this machine into a folder, as JPEG, and say what it shows.

    With ``aidb[demo]`` installed these are ten photographs (more where matplotlib or ultralytics are) and 200 small
    cut-outs of press photographs, half of them faces, in an order that depends on the seed alone. Returns them sorted by
    path. Raises `aidb.errors.OperationalError` if none are found or the folder can't be written.
    """
    from aidb.errors import OperationalError

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [*_photographs(folder), *_portraits(folder, seed)]
    except OSError as broken:
        raise OperationalError(f"can't write the demo's pictures into {folder}: {broken}") from broken
    if not written:
        raise OperationalError("the demo found no photographs on this machine: pip install 'aidb[demo]'")
    return sorted(written, key=lambda picture: picture.path)


def _located(package: str, name: str) -> Path | None:
    """The file of an installed package, or None if the package or the file is not there."""
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / name
        if path.is_file():
            return path
    return None


def _photographs(folder: Path) -> list[Picture]:
    from PIL import Image

    written = []
    for package, file, name, people in _PHOTOGRAPHS:
        source = _located(package, file)
        if source is not None:
            with Image.open(source) as opened:
                picture = opened.convert("RGB")
            picture.thumbnail((_LONGEST, _LONGEST))
            written.append(Picture(_saved(picture, folder / f"{name}.jpg"), people))
    return written


def _portraits(folder: Path, seed: int) -> list[Picture]:
    import numpy as np

    source = _located(*_PORTRAITS)
    if source is None:
        return []
    cutouts = np.load(source, allow_pickle=False)
    order = np.random.default_rng(seed).permutation(len(cutouts))
    return [
        Picture(_saved(_enlarged(cutouts[index]), folder / f"press-{number:03d}.jpg"), int(index < len(cutouts) // 2))
        for number, index in enumerate(order)
    ]


def _enlarged(cutout: np.ndarray) -> Image.Image:
    """A cut-out, grey ``float [H, W]`` in 0 to 1, enlarged; its edge pixels go on for a border, as a face needs one."""
    import numpy as np
    from PIL import Image

    grey = Image.fromarray(np.clip(cutout * 255, 0, 255).astype(np.uint8))
    large = np.asarray(grey.resize((grey.width * _ENLARGED, grey.height * _ENLARGED), Image.Resampling.BICUBIC))
    return Image.fromarray(np.pad(large, _BORDER, mode="edge")).convert("RGB")


def _saved(picture: Image.Image, path: Path) -> Path:
    picture.save(path, quality=92)
    return path
