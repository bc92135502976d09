"""What tests of models share: real pictures, real weights where there are any, and a torchvision that works."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parents[1]
WEIGHTS = TESTS.parent.parent / "shared" / "weights"
MEDIA = TESTS.parent.parent / "shared" / "media"


def _beside(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def torch_vision() -> None:
    """torch and a torchvision whose operators work, natively or by the shim; skips where they are not installed."""
    if _beside("torchvision_shim").install() == "absent":
        pytest.skip("torch and torchvision are not installed: pip install 'aidb[torch]'")
