"""What tests of models share: real pictures, real weights where there are any, and a torchvision that works."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests import torchvision_shim

TESTS = Path(__file__).parents[1]
SHARED = TESTS.parent.parent / "shared"


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_module("onnx_writer", Path(__file__).with_name("onnx_writer.py"))


@pytest.fixture(scope="session")
def torch_vision() -> None:
    """torch and a torchvision whose operators work, natively or by the shim; skips where they are not installed."""
    if torchvision_shim.install() == "absent":
        pytest.skip("torch and torchvision are not installed: pip install 'aidb[torch]'")


@pytest.fixture(scope="session")
def photos() -> dict[str, np.ndarray]:
    """The photographs ``bus`` and ``zidane`` that travel inside ultralytics, and three of scikit-image's, RGB."""
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or spec.origin is None or importlib.util.find_spec("skimage") is None:
        pytest.skip("the test pictures travel inside ultralytics and scikit-image: pip install 'aidb[all]'")
    from skimage import data

    assets = Path(spec.origin).parent / "assets"
    street = {name: np.array(Image.open(assets / f"{name}.jpg").convert("RGB")) for name in ("bus", "zidane")}
    return {**street, "astronaut": data.astronaut(), "chelsea": data.chelsea(), "coffee": data.coffee()}


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of real weights beside the repository."""
    if not (SHARED / "weights").is_dir():
        pytest.skip("no real weights: there is no folder ../shared/weights")
    return SHARED / "weights"
