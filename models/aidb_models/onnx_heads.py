"""What becomes of a network's answer: boxes, a class, or an embedding.

A head is made of options when a model is created, sees one answer when it is loaded (`settle`), and from then on turns
the answers for a batch into columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aidb.spi.model import Columns, Output, ServiceError
from aidb_models.boxes import BOX_OUTPUTS, CLASS_OUTPUTS, Detections, classes_found, probabilities, suppress
from aidb_models.classes import named, numbers_of
from aidb_models.decoders import DECODERS, Asked, class_count, recognise, shapes, ssd_order
from aidb_models.pictures import Placement
from aidb_models.vectors import vector_column, vector_output

Answer = list[NDArray[Any]]
Part = tuple[Answer, Sequence[Placement]]
"""A network's answer for some pictures of a batch, and where these lie in its input."""


@dataclass(frozen=True)
class Preset:
    """How a family of networks was trained to see pictures, and how its boxes are thinned out."""

    decode: str
    letterbox: str
    color: str = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop_ratio: float = 1.0
    iou: float = 1.0


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRESETS = {
    "yolox": Preset("yolox", "topleft", "bgr", 1.0, iou=0.45),
    "yolov8": Preset("yolov8", "center", iou=0.7),
    "yolov5": Preset("yolov5", "center", iou=0.45),
    "end2end": Preset("end2end", "center"),
    "ssd": Preset("ssd", "none"),
    "imagenet": Preset("", "crop", mean=_MEAN, std=_STD, crop_ratio=0.875),
    "ultralytics-cls": Preset("", "crop"),
}
"""Values of the option ``family``. YOLO11 and YOLO12 are ``yolov8``, YOLOv10 and YOLO26 ``end2end``; the last two are
classifiers. An ``iou`` of 1 keeps every box: such graphs have removed duplicates themselves."""


class Head(Protocol):
    """One task of a network."""

    one_by_one: bool
    """True if the answers for a batch have no batch dimension, so that pictures must be shown one at a time."""

    @property
    def outputs(self) -> tuple[Output, ...]:
        """The columns that `read` gives, for `ModelSpec`."""
        ...

    def settle(self, names: Sequence[str], answer: Answer, size: tuple[int, int]) -> tuple[str, tuple[int, ...]]:
        """Learn from the answer to one picture: the family (see `PRESETS`), and which outputs are needed.

        names: of the outputs. size: height and width of the input. Raises ServiceError for an answer that does not fit.
        """
        ...

    def read(self, parts: Iterable[Part]) -> Columns:
        """Columns for a batch, whose answers come part by part and hold the outputs that `settle` asked for."""
        ...


@dataclass
class Detect:
    """Boxes: many rows a picture.

    family, decode: names of `PRESETS` and `DECODERS`, None to tell them by the shape of the answer.
    given: names of classes by the user, exported: by the file. only: labels to keep.
    """

    family: str | None
    decode: str | None
    confidence: float
    iou: float | None
    max_det: int
    given: tuple[str, ...]
    exported: tuple[str, ...]
    only: tuple[str, ...]
    outputs: tuple[Output, ...] = BOX_OUTPUTS
    one_by_one: bool = False
    _classes: tuple[str, ...] = ()
    _kept: list[int] | None = None
    _asked: Asked = field(default_factory=lambda: Asked((0, 0), None, 0.0))
    _decoder: str = ""
    _overlap: float = 1.0

    def settle(self, names: Sequence[str], answer: Answer, size: tuple[int, int]) -> tuple[str, tuple[int, ...]]:
        """See `Head`."""
        self.one_by_one = answer[0].ndim < 3
        first = self._of_picture(answer, 0)
        family = self.family or self.decode or recognise(first, size)
        self._decoder = self.decode or PRESETS[family].decode
        if self._decoder not in DECODERS:
            raise ServiceError(
                f"family = {family!r} is no detector: leave it out, or set task = 'classify'", retry=False
            )
        count = class_count(self._decoder, first, len(self.exported))
        known = self.given or self.exported
        if count is None:
            self._classes = known
        else:
            self._classes = named(known, count, "the network")
        self._kept = numbers_of(self.only, self._classes) if self.only else None
        self._asked = Asked(size, count, self.confidence)
        self._overlap = PRESETS[family].iou if self.iou is None else self.iou
        return family, ssd_order(names, first) if self._decoder == "ssd" else (0,)

    def read(self, parts: Iterable[Part]) -> Columns:
        """See `Head`."""
        found, row = Detections(self._classes), 0
        for answer, placements in parts:
            for i, placement in enumerate(placements):
                found.add(row, *self._boxes(self._of_picture(answer, i), placement))
                row += 1
            del answer  # before the next one is made
        return found.columns()

    def _boxes(self, answer: Answer, placement: Placement) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Boxes in pixels of the picture, scores, and class numbers, of those that stay; best first."""
        boxes, scores, ids = DECODERS[self._decoder](answer, self._asked)
        if not len(boxes):
            return boxes, scores, ids
        boxes = placement.back(boxes)
        good = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if self._kept is not None:
            good &= np.isin(ids, self._kept)
        boxes, scores, ids = boxes[good], scores[good], ids[good]
        best = suppress(boxes, scores, ids, self._overlap, self.max_det)
        return boxes[best], scores[best], ids[best]

    def _of_picture(self, answer: Answer, i: int) -> Answer:
        return answer if self.one_by_one else [output[i] for output in answer]


@dataclass
class Classify:
    """The best class: one row a picture."""

    family: str
    given: tuple[str, ...]
    activation: str
    outputs: tuple[Output, ...] = CLASS_OUTPUTS
    one_by_one: bool = False
    _classes: tuple[str, ...] = ()

    def settle(self, names: Sequence[str], answer: Answer, size: tuple[int, int]) -> tuple[str, tuple[int, ...]]:
        """See `Head`."""
        if answer[0].ndim < 2 or answer[0].shape[1] != answer[0].size:
            raise ServiceError(f"a classifier answers [batch, classes], this one {shapes(answer[:1])}", retry=False)
        self._classes = named(self.given, answer[0].shape[1], "the network")
        return self.family, (0,)

    def read(self, parts: Iterable[Part]) -> Columns:
        """See `Head`."""
        return classes_found(probabilities(_joined(parts), self.activation), self._classes)


@dataclass
class Embed:
    """A vector: one row a picture."""

    family: str
    length: int
    normalize: bool
    one_by_one: bool = False

    @property
    def outputs(self) -> tuple[Output, ...]:
        """One array of floats."""
        return (vector_output(self.length),)

    def settle(self, names: Sequence[str], answer: Answer, size: tuple[int, int]) -> tuple[str, tuple[int, ...]]:
        """See `Head`."""
        if answer[0].size != self.length:
            raise ServiceError(
                f"the network answers {shapes(answer[:1])}, that is {answer[0].size} numbers a picture and not "
                f"{self.length}: set dimensions = {answer[0].size}",
                retry=False,
            )
        return self.family, (0,)

    def read(self, parts: Iterable[Part]) -> Columns:
        """See `Head`."""
        return {"embedding": vector_column(_joined(parts), self.normalize)}


def _joined(parts: Iterable[Part]) -> NDArray[Any]:
    """First outputs as one array ``[batch, numbers]``."""
    return np.concatenate([answer[0].reshape(len(placements), -1) for answer, placements in parts])
