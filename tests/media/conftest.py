"""Real videos and real weights beside the repository; where they are not, these tests are skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import torchvision_shim
from tests.media.questions import SHARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = [name for name in ("media", "weights") if not (SHARED / name).is_dir()]
    missing = [m for m in ("av", "cv2", "onnxruntime", "pandas") if importlib.util.find_spec(m) is None]
    reason = f"no folder ../shared/{absent[0]}" if absent else f"{missing[0]} is not installed" if missing else ""
    for item in items:
        if reason and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def need(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Call it with the name of a network: skips where its runtime is not installed, and keeps it to a folder of ours."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))

    def needed(network: str) -> None:
        if network != "ultralytics":
            return
        if importlib.util.find_spec("ultralytics") is None or torchvision_shim.install() == "absent":
            pytest.skip("ultralytics or torchvision is not installed")

    return needed


@pytest.fixture(scope="session")
def videos() -> Path:
    return SHARED / "media"


@pytest.fixture(scope="session")
def weights() -> Path:
    return SHARED / "weights"
