"""YOLO by ultralytics: real weights on real pictures, every task untrained, tracking, and staying off the network."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from aidb_models.ultralytics import TASKS, Ultralytics

from aidb.errors import ProgrammingError
from aidb.spi import Options, ServiceError
from aidb.testing.models import ModelContract

pytest.importorskip("cv2")
if importlib.util.find_spec("ultralytics") is None:
    pytest.skip("pip install 'aidb[ultralytics]'", allow_module_level=True)
pytestmark = pytest.mark.usefixtures("torch_vision", "own_folder")


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    """Settings and weights of ultralytics go into a folder of this test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def make(weights: Path | str, **options: object) -> Ultralytics:
    return Ultralytics("yolo", Options({"weights": str(weights), "device": "cpu", **options}))


class TestDetector(ModelContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def real(cls, weights, photos):
        cls.file = weights / "yolov8n_deq.pt"
        cls.pictures = [photos["bus"][::2, ::2], photos["zidane"][::2, ::2], photos["bus"][1::2, 1::2]]

    def make(self):
        return make(self.file, size=320)

    def inputs(self):
        return [list(self.pictures)]


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
class TestTasks:
    """An untrained network of each task gives columns of the right kind."""

    def test_columns(self, task):
        suffix = {"segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}[task]
        options = {} if task == "classify" else {"confidence": 0, "max_det": 3}
        model = make(f"yolov8n{suffix}.yaml", size=64, **options)
        assert model.spec.outputs == TASKS[task]
        columns = model.predict([[np.full((48, 64, 3), 120, np.uint8), np.full((64, 48, 3), 30, np.uint8)]])
        assert set(columns) == {o.name for o in TASKS[task]} | ({"_row"} if task != "classify" else set())
        assert {len(values) for values in columns.values()} == {2 if task == "classify" else len(columns["label"])}
        if task == "classify":
            return
        assert sorted(set(columns["_row"].tolist())) == [0, 1]
        assert columns["xmin"].min() >= 0
        assert columns["xmax"].max() <= 64
        if task == "pose":
            assert {len(points) for points in columns["keypoints"]} == {17 * 3}
        if task == "obb":
            assert {len(corners) for corners in columns["polygon"]} == {8}
        if task == "segment":
            assert all(len(outline) % 2 == 0 for outline in columns["polygon"])
            assert all(0 <= area <= 48 * 64 for area in columns["area"])


def test_pictures_are_answered_as_by_ultralytics_itself(weights, photos):
    from ultralytics import YOLO

    model = make(weights / "yolov8n_deq.pt")
    columns = model.predict([[photos["bus"]]])
    boxes = YOLO(weights / "yolov8n_deq.pt")(photos["bus"][:, :, ::-1], verbose=False)[0].boxes
    assert columns["confidence"] == pytest.approx(boxes.conf.numpy(), abs=1e-5)
    assert columns["class_id"].tolist() == boxes.cls.int().tolist()
    assert np.stack([columns[k] for k in ("xmin", "ymin", "xmax", "ymax")], 1) == pytest.approx(
        boxes.xyxy.numpy(), abs=0.01
    )
    assert columns["label"][:4] == ["person", "person", "bus", "person"]


def test_only_some_classes(weights, photos):
    assert set(make(weights / "yolov8n_deq.pt", only=["bus", "tie"], size=320).predict([[photos["bus"]]])["label"]) == {
        "bus"
    }


def test_tracks_are_one_object_in_one_file(weights):
    pytest.importorskip("lap", reason="tracking needs the package lap")
    picture = np.full((240, 320, 3), 90, np.uint8)
    model = make("yolov8n.yaml", track=True, size=64, confidence=0)
    assert model.spec.sequential
    assert model.spec.outputs[-1].name == "track_id"
    first = model.predict([[picture] * 3], restart=True)
    again = model.predict([[picture] * 3], restart=True)
    assert first["track_id"] == again["track_id"]


def test_tracking_a_person(weights):
    pytest.importorskip("lap", reason="tracking needs the package lap")
    av = pytest.importorskip("av", reason="pip install 'aidb[video]'")
    frames = []
    with av.open(str(weights.parent / "media" / "one-by-one-person-detection.mp4")) as video:
        for i, frame in enumerate(video.decode(video=0)):
            if 100 <= i < 112:
                frames.append(frame.to_ndarray(format="rgb24"))
            elif i >= 112:
                break
    model = make(weights / "yolov8n_deq.pt", track=True, size=320, only="person")
    whole = model.predict([frames], restart=True)
    assert whole["track_id"] == [1] * 12  # one person, in every frame
    halves = [model.predict([frames[:5]], restart=True), model.predict([frames[5:]])]
    assert halves[0]["track_id"] + halves[1]["track_id"] == whole["track_id"]


def test_identity_of_weights(weights, tmp_path):
    """A file counts by its bytes, official weights by their name."""
    file = weights / "yolov8n_deq.pt"
    copied = tmp_path / "copy.pt"
    copied.write_bytes(file.read_bytes())
    assert make(copied).spec.fingerprint == make(file).spec.fingerprint
    assert make(file, confidence=0.3).spec.fingerprint != make(file).spec.fingerprint
    assert make("yolo11n.pt").spec.fingerprint != make("yolo11s.pt").spec.fingerprint


def test_tasks_are_told_by_name():
    for name, task in [("yolo11n-seg.pt", "segment"), ("yolo11n-cls.pt", "classify"), ("yolo11n.pt", "detect")]:
        assert make(name).spec.outputs == TASKS[task]
    assert make("yolo11n-cls.pt").spec.rows == "one"


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_pickle_runs_no_code(tmp_path):
    import torch

    trap, file = tmp_path / "trap", tmp_path / "evil.pt"
    torch.save({"model": _Payload(str(trap))}, file)
    with pytest.raises(ServiceError, match="trust = true") as raised:
        make(file).load()
    assert not raised.value.retry
    assert not trap.exists()


def test_errors(weights, tmp_path):
    (tmp_path / "noise.pt").write_bytes(b"no checkpoint" * 100)
    for name, options, message in [
        (tmp_path / "none.pt", {}, "no file"),
        ("yolo11n.pt", {"task": "dance"}, "choose"),
        ("yolo11n-cls.pt", {"track": True}, "leave out 'track'"),
        ("yolo11n-cls.pt", {"confidence": 0.5}, "belongs to task"),
        ("yolo11n.pt", {"tracker": "hound"}, "neither bytetrack nor botsort"),
    ]:
        if "tracker" in options and importlib.util.find_spec("lap") is None:
            continue
        with pytest.raises(ProgrammingError, match=message):
            make(name, **options)
    for name, options, message in [
        ("yolo11n.pt", {}, r"could not be downloaded.*put it into.*weights"),
        ("no-such-weights.pt", {}, "no name of official weights"),
        (tmp_path / "noise.pt", {}, r"noise\.pt"),
        (weights / "yolov8n_deq.pt", {"task": "segment"}, "task = 'detect'"),
        (weights / "yolov8n_deq.pt", {"half": True}, "needs a GPU"),
        (weights / "yolov8n_deq.pt", {"only": "buss"}, "did you mean bus"),
    ]:
        with pytest.raises(ServiceError, match=message) as raised:
            make(name, **options).load()
        assert not raised.value.retry


def test_no_word_to_anyone(weights, photos, tmp_path):
    """A first use in a new process opens no connection, writes nothing to the terminal, and touches no settings."""
    code = f"""
import socket, sys
sys.path[:0] = {[p for p in sys.path if p]!r}
def refused(*a, **k): raise SystemExit("connected: %r" % (a,))
socket.socket.connect = socket.getaddrinfo = refused
import importlib.util
spec = importlib.util.spec_from_file_location("shim", {str(Path(__file__).parents[1] / "torchvision_shim.py")!r})
shim = importlib.util.module_from_spec(spec); spec.loader.exec_module(shim); shim.install()
import numpy as np
from aidb.spi import Options
from aidb_models.ultralytics import Ultralytics
model = Ultralytics("yolo", Options({{"weights": {str(weights / "yolov8n_deq.pt")!r}, "size": 64, "device": "cpu"}}))
model.predict([[np.zeros((48, 64, 3), np.uint8)]])
from ultralytics import settings
from ultralytics.utils.events import events
print(settings["sync"], events.enabled)
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("YOLO_")}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("False False\n", "", 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]
