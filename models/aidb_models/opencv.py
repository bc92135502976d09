"""Classical detectors that travel inside OpenCV 4: faces, eyes, cat faces, bodies, number plates. No weights needed.

::

    CREATE MODEL faces USING opencv;
    CREATE MODEL people USING opencv WITH (detector = 'people', confidence = 0.6);

They are fast to set up and far weaker than a trained network: upright frontal faces are found reliably, the rest is a
start for experiments. Defaults were chosen for few false alarms on photographs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from aidb.errors import OperationalError, ProgrammingError
from aidb.spi.model import Columns, Input, ModelSpec, ServiceError, Values, fingerprint
from aidb.spi.options import Options
from aidb_models import option_types as types
from aidb_models.boxes import BOX_OUTPUTS, Detections
from aidb_models.pictures import gray
from aidb_models.runtimes import imported, require
from aidb_models.weights import digest, existing_file

_VERSION = 1  # raise it when the same options find other things


@dataclass(frozen=True)
class Detector:
    """What a detector is called, and its defaults; ``cascade`` is a file of OpenCV's, '' for the HOG people detector.

    angles: the picture is also looked at turned by these degrees. border: part of the short side that is added all
    around, so that an object may touch the edge.
    """

    label: str
    cascade: str
    scale_factor: float = 1.1
    min_neighbors: int = 5
    min_size: int = 24
    confidence: float = 0.0
    angles: tuple[float, ...] = (0.0,)
    border: float = 0.0


DETECTORS = {
    "face": Detector("face", "frontalface_alt2"),
    "profile": Detector("face", "profileface"),
    "eye": Detector("eye", "eye", min_neighbors=8),
    "cat": Detector("cat", "frontalcatface_extended", 1.05, 3, 80, angles=(0.0, 10.0, -10.0), border=0.2),
    "fullbody": Detector("person", "fullbody", 1.05, 3),
    "upperbody": Detector("person", "upperbody", 1.05, 3),
    "lowerbody": Detector("person", "lowerbody", 1.05, 3),
    "plate": Detector("plate", "russian_plate_number"),
    "people": Detector("person", "", 1.05, confidence=0.7),
}
"""Values of the option ``detector``. ``people`` is a histogram of gradients with a support vector machine, the others
are Haar cascades."""

_KNOWN = (
    *("detector", "cascade", "label", "scale_factor", "min_neighbors", "min_size", "confidence", "size", "angles"),
    *("border", "max_det", *types.COMMON),
)


class OpenCV:
    """The provider ``opencv``: `BOX_OUTPUTS`, many rows a picture, best first. Options, all optional:

    detector: a name of `DETECTORS` (``face``), which gives the defaults of the others.
    cascade, label: a cascade of your own, an XML file, and what it finds.
    size (800): pictures are shrunk to this longest side before looking; larger finds smaller things, and costs more.
    scale_factor: between the sizes that are looked for, above 1. min_size: least side of an object, in pixels of the
        shrunk picture. min_neighbors: windows that must agree (cascades only).
    angles, border: see `Detector`. max_det (100).
    confidence: least confidence. For a cascade it is ``n / (n + 5)`` with n windows that agree, for ``people``
        ``1 / (1 + exp(-2 margin))`` with the margin of the support vector machine.
    """

    def __init__(self, name: str, options: Options) -> None:
        require("opencv", "cv2", provider="opencv")
        options.refuse_unknown(_KNOWN)
        self._kind = options.take("detector", types.one_of(*DETECTORS), "face")
        known = DETECTORS[self._kind]
        self._file = None if self._kind == "people" else _shipped(known.cascade)
        if "cascade" in options:
            if "detector" in options:
                raise ProgrammingError("options 'detector' and 'cascade' exclude each other")
            self._kind, self._file = "cascade", existing_file(options.take("cascade", types.text), "cascade")
            known = Detector("object", "")
        self._used = Detector(
            options.take("label", types.text, known.label),
            known.cascade,
            options.take("scale_factor", _above_one, known.scale_factor),
            options.take("min_neighbors", types.whole, known.min_neighbors),
            options.take("min_size", types.positive_int, known.min_size),
            options.take("confidence", types.fraction, known.confidence),
            options.take("angles", types.numbers, known.angles),
            options.take("border", types.fraction, known.border),
        )
        self._size = options.take("size", types.positive_int, 800)
        self._max_det = options.take("max_det", types.positive_int, 100)
        common = types.Common.read(options)
        self._spec = ModelSpec(
            inputs=(Input("image", "image"),),
            outputs=BOX_OUTPUTS,
            rows="many",
            fingerprint=fingerprint(
                "opencv",
                _VERSION,
                self._kind,
                self._file and digest(self._file),
                vars(self._used),
                self._size,
                self._max_det,
            ),
            batch_size=common.batch_size,
            price_per_call=common.price_per_call,
            seconds_per_item=0.1 * len(self._used.angles),
        )
        self._looker: Any = None

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`."""
        return self._spec

    def load(self) -> None:
        """Read the cascade, or set up the people detector."""
        if self._looker is not None:
            return
        cv2 = imported("cv2", "opencv")
        if self._file is None:
            if not hasattr(cv2, "HOGDescriptor"):
                raise ServiceError(_too_new("HOG people detector"), retry=False)
            self._looker = cv2.HOGDescriptor()
            self._looker.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())
            return
        if not hasattr(cv2, "CascadeClassifier"):
            raise ServiceError(_too_new("cascades"), retry=False)
        try:
            self._looker = cv2.CascadeClassifier(str(self._file))
        except cv2.error as e:
            raise ServiceError(f"{self._file} can't be read as a cascade: {e.err}", retry=False) from e
        if self._looker.empty():
            self._looker = None
            raise ServiceError(f"{self._file} is no cascade of OpenCV", retry=False)

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch of pictures; see the class for the columns."""
        self.load()
        found = Detections((self._used.label,))
        for i, image in enumerate(cast("list[Any]", inputs[0])):
            boxes, scores = self._look(gray(image))
            best = [k for k in _best(boxes, scores) if scores[k] >= self._used.confidence][: self._max_det]
            found.add(i, boxes[best], scores[best], np.zeros(len(best)))
        return found.columns()

    def close(self) -> None:
        """Drop the detector."""
        self._looker = None

    def _look(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes ``[n, 4]`` in pixels of the picture, clipped to it, and confidences ``[n]``, over all angles."""
        import cv2

        height, width = picture.shape
        shrink = min(1.0, self._size / max(height, width))
        small = picture
        if shrink < 1:
            sides = (max(1, round(width * shrink)), max(1, round(height * shrink)))
            small = cv2.resize(picture, sides, interpolation=cv2.INTER_AREA)
        border = round(min(small.shape) * self._used.border)
        if border:
            small = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
        all_boxes, all_scores = [np.empty((0, 4))], [np.empty(0)]
        for angle in self._used.angles:
            turn = cv2.getRotationMatrix2D((small.shape[1] / 2, small.shape[0] / 2), angle, 1.0)
            turned = small
            if angle:
                turned = cv2.warpAffine(small, turn, small.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
            boxes, scores = self._people(turned) if self._file is None else self._cascade(turned)
            all_boxes.append(_turned_back(boxes, turn))
            all_scores.append(scores)
        scale = np.array([width / (small.shape[1] - 2 * border), height / (small.shape[0] - 2 * border)] * 2)
        boxes = np.clip((np.concatenate(all_boxes) - border) * scale, 0, [width, height] * 2)
        scores = np.concatenate(all_scores)
        inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return boxes[inside], scores[inside]

    def _cascade(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rectangles, agreeing = self._looker.detectMultiScale2(
            picture, self._used.scale_factor, self._used.min_neighbors, minSize=[self._used.min_size] * 2
        )
        windows = np.asarray(agreeing, np.float64).reshape(-1)
        return _corners(rectangles), windows / (windows + 5)

    def _people(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if picture.shape[0] < 128 or picture.shape[1] < 64:  # one window of the detector
            return np.empty((0, 4)), np.empty(0)
        rectangles, margins = self._looker.detectMultiScale(
            picture, winStride=(8, 8), padding=(16, 16), scale=self._used.scale_factor
        )
        boxes, scores = _corners(rectangles), 1 / (1 + np.exp(-2 * np.asarray(margins, np.float64).reshape(-1)))
        large = (boxes[:, 2:] - boxes[:, :2] >= self._used.min_size).all(axis=1)
        return boxes[large], scores[large]


def _best(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> list[int]:
    """Indices of the boxes to keep, best first: one whose center lies in a better one is a part of it.

    Of equal scores the larger box is better, then the one further left, then up: OpenCV's own order depends on threads.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    kept: list[int] = []
    for k in np.lexsort((boxes[:, 1], boxes[:, 0], -area, -scores)).tolist():
        inside = (boxes[kept, :2] <= centers[k]) & (centers[k] <= boxes[kept, 2:])
        if not inside.all(axis=1).any():
            kept.append(k)
    return kept


def _above_one(value: object) -> float:
    """A number above 1."""
    factor = types.number(value)
    if factor <= 1:
        raise ValueError("must be above 1, for instance 1.1")
    return factor


def _corners(rectangles: Any) -> NDArray[np.float64]:
    """(x, y, width, height) to (xmin, ymin, xmax, ymax)."""
    boxes = np.asarray(rectangles, np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _turned_back(boxes: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes found in a turned picture: their centers turned back, sides kept."""
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    center = (center - turn[:, 2]) @ turn[:, :2]  # the inverse of a rotation is its transpose
    return np.concatenate([center - half, center + half], axis=1)


def _shipped(cascade: str) -> Path:
    """A cascade inside the installed OpenCV, found without importing it; OperationalError if this one has none."""
    spec = importlib.util.find_spec("cv2")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        path = Path(folder) / "data" / f"haarcascade_{cascade}.xml"
        if path.is_file():
            return path
    raise OperationalError(_too_new(f"cascade {cascade!r}"))


def _too_new(what: str) -> str:
    return (
        f"the installed OpenCV has no {what}: version 5 left them out, and some builds of version 4 too; "
        "pip install 'opencv-python-headless>=4.10,<5', and remove other OpenCV packages"
    )
