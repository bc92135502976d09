"""What the raw answers of detection networks mean, one function a family.

Each takes the outputs for one picture and gives boxes ``[n, 4]`` (xmin, ymin, xmax, ymax in pixels of the network's
input), scores ``[n]`` and class numbers ``[n]``: the candidates above a confidence, before duplicates are removed.
``A`` is the number of places where a network looks, ``C`` of its classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aidb.spi.model import ItemError, ServiceError
from aidb_models.boxes import corners

Candidates = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Asked:
    """What a decoder must know: input height and width, number of classes (None: all there are), least confidence."""

    size: tuple[int, int]
    classes: int | None
    confidence: float


def yolov8(outputs: Sequence[NDArray[Any]], asked: Asked) -> Candidates:
    """``[4 + C, A]``: center, size, class scores (YOLOv8, YOLO11, YOLO12); rows after the classes are left alone."""
    raw = outputs[0]
    scores = raw[4:] if asked.classes is None else raw[4 : 4 + asked.classes]
    best = scores.max(axis=0)
    found = np.flatnonzero(_finite(best) > asked.confidence)
    boxes = corners(raw[:4, found].T.astype(np.float64))
    return boxes, best[found].astype(np.float64), scores[:, found].argmax(axis=0)


def yolov5(outputs: Sequence[NDArray[Any]], asked: Asked) -> Candidates:
    """``[A, 5 + C]``: center, size, objectness, class scores (YOLOv5, YOLOv7)."""
    return _objectness(outputs[0].astype(np.float64, copy=False), asked)


def yolox(outputs: Sequence[NDArray[Any]], asked: Asked) -> Candidates:
    """``[A, 5 + C]`` like YOLOv5, but centers relative to a grid cell, sizes as logarithms (YOLOX)."""
    raw = outputs[0]
    cells, strides = _grid(asked.size, len(raw))
    likely = np.flatnonzero(_finite(raw[:, 4].astype(np.float64)) > asked.confidence)  # few of thousands
    raw, cells, strides = raw[likely].astype(np.float64), cells[likely], strides[likely]
    raw[:, :2] = (raw[:, :2] + cells) * strides
    raw[:, 2:4] = np.exp(np.minimum(raw[:, 2:4], 20.0)) * strides  # a wild value must not become infinite
    return _objectness(raw, asked)


def end2end(outputs: Sequence[NDArray[Any]], asked: Asked) -> Candidates:
    """``[n, 6]``: corners, score, class, with duplicates removed in the graph (YOLOv10, YOLO26, exports with NMS)."""
    raw = outputs[0].astype(np.float64)
    found = _finite(raw[:, 4]) > asked.confidence
    return raw[found, :4], raw[found, 4], raw[found, 5].astype(np.int64)


def ssd(outputs: Sequence[NDArray[Any]], asked: Asked) -> Candidates:
    """Three outputs, in the order of `ssd_order`: corners ``[n, 4]`` in pixels of the input, scores ``[n]``, classes."""
    boxes, scores, labels = outputs
    found = _finite(scores.astype(np.float64)) > asked.confidence
    return boxes[found].astype(np.float64), scores[found].astype(np.float64), labels[found].astype(np.int64)


def ssd_order(names: Sequence[str], outputs: Sequence[NDArray[Any]]) -> tuple[int, int, int]:
    """Which outputs for one picture are boxes, scores and labels: told by shape, by type, and by name."""
    boxes = [i for i, o in enumerate(outputs) if o.ndim == 2 and o.shape[1] == 4]
    flat = [i for i, o in enumerate(outputs) if o.ndim == 1]
    labels = [i for i in flat if outputs[i].dtype.kind in "iu" or "label" in names[i] or "class" in names[i]]
    scores = [i for i in flat if i not in labels]
    if not (boxes and scores and labels):
        raise ServiceError(
            f"decode = 'ssd' needs boxes [n, 4], scores [n] and labels [n]; the network answers {shapes(outputs)}",
            retry=False,
        )
    return boxes[0], scores[0], labels[0]


DECODERS: dict[str, Callable[[Sequence[NDArray[Any]], Asked], Candidates]] = {
    "yolov8": yolov8,
    "yolov5": yolov5,
    "yolox": yolox,
    "end2end": end2end,
    "ssd": ssd,
}


def recognise(outputs: Sequence[NDArray[Any]], size: tuple[int, int]) -> str:
    """The family that outputs for one picture belong to, told by their shapes; ServiceError if none fits."""
    first = outputs[0]
    cells = sum((size[0] // s) * (size[1] // s) for s in _STRIDES)
    if len(outputs) >= 3 and any(o.ndim == 2 and o.shape[1] == 4 for o in outputs) and first.ndim <= 2:
        return "ssd"
    if first.ndim == 2 and first.shape[1] == 6 and first.shape[0] < cells:
        return "end2end"
    if first.ndim == 2 and first.shape[1] == cells:
        return "yolov8"
    if first.ndim == 2 and first.shape[0] == cells and first.shape[1] > 5:
        return "yolox"
    if first.ndim == 2 and first.shape[0] == 3 * cells and first.shape[1] > 5:
        return "yolov5"
    raise ServiceError(
        f"the answer of the network, {shapes(outputs)} for a picture of {size[0]} x {size[1]}, is of no family that "
        f"is known by its shape: say decode = {', '.join(repr(d) for d in DECODERS)}, or export it in one of them",
        retry=False,
    )


def class_count(family: str, outputs: Sequence[NDArray[Any]], exported: int) -> int | None:
    """How many classes a family's outputs have room for, or None where the answer does not tell.

    exported: how many names the file itself carries, 0 for none. A YOLOv8 network for masks or poses has further rows
        after its classes, so there the file's names decide.
    """
    first = outputs[0]
    if family == "yolov8":
        room = first.shape[0] - 4
        return exported if 0 < exported < room else room
    return first.shape[1] - 5 if family in ("yolox", "yolov5") else None


def _objectness(raw: NDArray[np.float64], asked: Asked) -> Candidates:
    likely = raw[_finite(raw[:, 4]) > asked.confidence]  # a product can't exceed its factor
    scores = likely[:, 4:5] * (likely[:, 5:] if asked.classes is None else likely[:, 5 : 5 + asked.classes])
    ids = scores.argmax(axis=1)
    best = _finite(scores[np.arange(len(ids)), ids])
    found = best > asked.confidence
    return corners(likely[found, :4]), best[found], ids[found]


@lru_cache(maxsize=8)
def _grid(size: tuple[int, int], anchors: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cell corners ``[A, 2]`` (x, y) and strides ``[A, 1]``, in the order in which YOLOX lists its levels."""
    for levels in (_STRIDES, (*_STRIDES, 64)):
        if sum((size[0] // s) * (size[1] // s) for s in levels) == anchors:
            break
    else:
        raise ServiceError(
            f"decode = 'yolox': {anchors} places don't fit a picture of {size[0]} x {size[1]}; check the option 'size'",
            retry=False,
        )
    cells, strides = [], []
    for s in levels:
        y, x = np.mgrid[0 : size[0] // s, 0 : size[1] // s]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64))
        strides.append(np.full((x.size, 1), float(s)))
    return np.concatenate(cells), np.concatenate(strides)


def _finite(scores: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(scores).all():
        raise ItemError("the network answered a confidence that is not a finite number")
    return scores


def shapes(outputs: Sequence[NDArray[Any]]) -> str:
    """Shapes as a text, for messages."""
    return ", ".join(str(list(o.shape)) for o in outputs)
