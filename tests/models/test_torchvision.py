"""Networks of torchvision: untrained ones, filled from a seed, and weights that do or don't fit."""

from __future__ import annotations

import numpy as np
import pytest
from aidb_models.torchvision import Torchvision

from aidb.errors import ProgrammingError
from aidb.spi import ItemError, Options, ServiceError
from aidb.testing.models import ModelContract

pytestmark = pytest.mark.usefixtures("torch_vision")


def make(**options: object) -> Torchvision:
    return Torchvision("tv", Options({"device": "cpu", **options}))


class TestClassifier(ModelContract):
    def make(self):
        return make(model="mobilenet_v3_small", weights="none")

    def inputs(self):
        rng = np.random.default_rng(0)
        return [[rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 60, 3), (300, 200, 3), (60, 40, 3))]]


class TestDetector(ModelContract):
    def make(self):
        return make(model="ssdlite320_mobilenet_v3_large", weights="none", confidence=0, max_det=5, classes=["a", "b"])

    def inputs(self):
        rng = np.random.default_rng(0)
        return [[rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((40, 60, 3), (60, 40, 3), (40, 60, 3))]]


def test_boxes_lie_in_the_picture():
    model = make(model="ssdlite320_mobilenet_v3_large", weights="none", confidence=0, classes=["a", "b"])
    columns = model.predict([[np.full((50, 80, 3), 99, np.uint8)]])
    assert len(columns["label"]) > 0
    assert set(columns["label"]) <= {"a", "b"}
    assert set(columns["class_id"].tolist()) <= {1, 2}  # 0 is the background
    assert columns["xmax"].max() <= 80
    assert columns["ymax"].max() <= 50
    assert (np.diff(columns["confidence"]) <= 0).all()


def test_seed_makes_the_network():
    picture = [[np.full((50, 80, 3), 99, np.uint8)]]
    answers = [make(model="resnet18", weights="none", seed=s).predict(picture)["confidence"][0] for s in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    prints = [make(model="resnet18", weights="none", seed=s).spec.fingerprint for s in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_weights_of_ones_own(tmp_path):
    import torch
    import torchvision

    torch.manual_seed(3)
    network = torchvision.models.resnet18(num_classes=2).eval()
    file = tmp_path / "mine.pth"
    torch.save(network.state_dict(), file)
    model = make(model="resnet18", weights=str(file), classes=["cat", "dog"])
    picture = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    columns = model.predict([[picture]])
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    with torch.inference_mode():
        expected = network(transform(torch.from_numpy(picture.transpose(2, 0, 1)))[None]).softmax(1)[0]
    assert columns["label"] == [["cat", "dog"][int(expected.argmax())]]
    assert columns["confidence"][0] == pytest.approx(float(expected.max()), abs=1e-5)

    with pytest.raises(ServiceError, match=r"does not fit.*another shape.*classes = \[") as raised:
        make(model="resnet18", weights=str(file)).load()
    assert not raised.value.retry
    with pytest.raises(ServiceError, match="are missing"):
        make(model="resnet50", weights=str(file)).load()


def test_official_weights_without_a_network_say_where_to_put_them(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ServiceError, match=r"resnet18-\w+\.pth could not be downloaded.*checkpoints") as raised:
        make(model="resnet18").load()
    assert not raised.value.retry


def test_errors(tmp_path):
    for options, message in [
        ({}, "model"),
        ({"model": "resnet18", "weights": str(tmp_path / "no.pth")}, "no file"),
        ({"model": "resnet18", "confidence": 0.5}, "belongs to task = 'detect'"),
    ]:
        with pytest.raises(ProgrammingError, match=message):
            make(**options)
    for options, message in [
        ({"model": "resnet19", "weights": "none"}, "no model 'resnet19'"),
        ({"model": "resnet18", "weights": "imagenet1k_v9"}, "IMAGENET1K_V1"),
        ({"model": "resnet18", "weights": "none", "half": True}, "needs a GPU"),
    ]:
        with pytest.raises(ServiceError, match=message) as raised:
            make(**options).load()
        assert not raised.value.retry
    with pytest.raises(ItemError, match="picture"):
        make(model="mobilenet_v3_small", weights="none").predict([[np.zeros((3, 3))]])
