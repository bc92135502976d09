"""The detectors inside OpenCV, on photographs."""

from __future__ import annotations

import numpy as np
import pytest
from aidb_models.boxes import overlap
from aidb_models.opencv import DETECTORS, OpenCV

from aidb.errors import OperationalError, ProgrammingError
from aidb.spi import Options, ServiceError
from aidb.testing.models import ModelContract

pytest.importorskip("cv2", reason="pip install 'aidb[opencv]'")


def make(**options: object) -> OpenCV:
    return OpenCV("cv", Options(options))


def found(model: OpenCV, image: np.ndarray) -> np.ndarray:
    columns = model.predict([[image]])
    assert set(columns["label"]) <= {model.spec and DETECTORS[model._kind].label}
    return np.stack([columns[side] for side in ("xmin", "ymin", "xmax", "ymax")], axis=1)


class TestFaces(ModelContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def real(cls, photos):
        cls.pictures = [photos["astronaut"][::2, ::2], photos["coffee"][::3, ::3], photos["astronaut"][:200]]

    def make(self):
        return make(min_size=20)

    def inputs(self):
        return [list(self.pictures)]


class TestPeople(ModelContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def real(cls, photos):
        cls.pictures = [photos["bus"][::3, ::3], photos["coffee"][::2, ::2]]

    def make(self):
        return make(detector="people", confidence=0.1)

    def inputs(self):
        return [list(self.pictures)]


def test_faces(photos):
    model = make()
    assert overlap(np.array([177.0, 66, 274, 163]), found(model, photos["astronaut"])).tolist() == [
        pytest.approx(1, abs=0.1)
    ]
    assert len(found(model, photos["bus"])) == 2  # of the three people in front of the bus one looks away
    assert len(found(model, photos["zidane"])) == 1
    assert len(found(model, photos["coffee"])) == len(found(model, photos["chelsea"])) == 0


def test_cats(photos):
    """A close-up that touches the edges, with the head held at an angle; and no cat where there is none."""
    model = make(detector="cat")
    face = np.array([60.0, 0, 400, 300])
    assert overlap(face, found(model, photos["chelsea"])).max() > 0.6
    assert [len(found(model, photos[name])) for name in ("bus", "astronaut", "coffee")] == [0, 0, 0]


def test_people(photos):
    model = make(detector="people")
    left = np.array([50.0, 398, 245, 903])  # as YOLO sees this one
    boxes = found(model, photos["bus"])
    assert overlap(left, boxes).max() > 0.4
    assert len(boxes) <= 4
    assert len(found(model, photos["coffee"])) == 0


def test_confidence_orders_and_cuts(photos):
    columns = make(detector="eye").predict([[photos["astronaut"]]])
    assert columns["confidence"].tolist() == sorted(columns["confidence"], reverse=True)
    assert len(columns["confidence"]) == 2
    assert ((columns["confidence"] > 0) & (columns["confidence"] < 1)).all()
    assert make(detector="eye", confidence=0.99).predict([[photos["astronaut"]]])["label"] == []
    assert len(make(detector="eye", max_det=1).predict([[photos["astronaut"]]])["label"]) == 1


def test_options_change_the_fingerprint():
    prints = {make(**o).spec.fingerprint for o in ({}, {"min_neighbors": 3}, {"detector": "cat"}, {"size": 400})}
    assert len(prints) == 4
    assert make(batch_size=7).spec.fingerprint == make().spec.fingerprint


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_every_detector_can_be_loaded(detector):
    model = make(detector=detector)
    model.load()
    assert found(model, np.full((140, 140, 3), 127, np.uint8)).shape == (0, 4)


def test_errors(tmp_path, monkeypatch):
    bad = tmp_path / "bad.xml"
    bad.write_text("<?xml version='1.0'?><opencv_storage></opencv_storage>")
    for options, message in [
        ({"detector": "dog"}, "choose"),
        ({"scale_factor": 1}, "above 1"),
        ({"cascade": str(tmp_path / "no.xml")}, "no file"),
        ({"cascade": str(bad), "detector": "face"}, "exclude each other"),
    ]:
        with pytest.raises(ProgrammingError, match=message):
            make(**options)
    with pytest.raises(ServiceError, match="cascade"):
        make(cascade=str(bad)).load()
    monkeypatch.setitem(DETECTORS, "face", DETECTORS["face"].__class__("face", "not_shipped"))
    with pytest.raises(OperationalError, match=r"opencv-python-headless>=4\.10,<5"):
        make()
