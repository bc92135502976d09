"""Detections: the columns that every detector answers, overlap, and the suppression of duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aidb.spi.model import Columns, ItemError, Output
from aidb_models.classes import label

BOX_OUTPUTS = (
    Output("label", "VARCHAR"),
    Output("confidence", "DOUBLE"),
    Output("xmin", "DOUBLE"),
    Output("ymin", "DOUBLE"),
    Output("xmax", "DOUBLE"),
    Output("ymax", "DOUBLE"),
    Output("class_id", "INTEGER"),
)
"""What a detector answers for each object; coordinates are pixels of the original picture, from its top left corner."""

CLASS_OUTPUTS = (Output("label", "VARCHAR"), Output("confidence", "DOUBLE"), Output("class_id", "INTEGER"))
"""What a classifier answers for each picture."""


@dataclass
class Detections:
    """Collects the objects of a batch, picture by picture, and hands them over as columns.

    >>> found = Detections(("cat", "dog"))
    >>> found.add(0, np.array([[1.0, 2, 3, 4]]), np.array([0.9]), np.array([1]))
    >>> found.columns()["label"], found.columns()["_row"].tolist()
    (['dog'], [0])
    """

    classes: Sequence[str]
    further: tuple[str, ...] = ()
    """Names of columns beyond `BOX_OUTPUTS`."""
    _rows: list[NDArray[np.int64]] = field(default_factory=list)
    _boxes: list[NDArray[np.float64]] = field(default_factory=list)
    _scores: list[NDArray[np.float64]] = field(default_factory=list)
    _ids: list[NDArray[np.int64]] = field(default_factory=list)
    _more: dict[str, list[Any]] = field(default_factory=dict)

    def add(
        self, row: int, boxes: Any, scores: Any, class_ids: Any, more: Mapping[str, Sequence[object]] | None = None
    ) -> None:
        """Add the objects of picture ``row``: boxes ``[n, 4]``, scores ``[n]``, class numbers ``[n]``, further columns.

        Raises ItemError for coordinates or scores that are not finite: the network overflowed on this picture.
        """
        boxes, scores = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores, np.float64).reshape(-1)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ItemError("the network answered a box or a confidence that is not a finite number")
        self._rows.append(np.full(len(boxes), row, np.int64))
        self._boxes.append(boxes)
        self._scores.append(scores)
        self._ids.append(np.asarray(class_ids).reshape(-1).astype(np.int64))
        for name in self.further:
            self._more.setdefault(name, []).extend((more or {})[name])

    def columns(self) -> dict[str, Any]:
        """The batch as columns: ``_row``, those of `BOX_OUTPUTS`, and the further ones."""
        boxes = np.concatenate([np.empty((0, 4)), *self._boxes])
        ids = np.concatenate([np.empty(0, np.int64), *self._ids])
        return {
            "_row": np.concatenate([np.empty(0, np.int64), *self._rows]),
            "label": [label(self.classes, i) for i in ids.tolist()],
            "confidence": np.concatenate([np.empty(0), *self._scores]),
            "xmin": boxes[:, 0],
            "ymin": boxes[:, 1],
            "xmax": boxes[:, 2],
            "ymax": boxes[:, 3],
            "class_id": ids.astype(np.int32),
            **{name: self._more.get(name, []) for name in self.further},
        }


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Boxes ``[n, 4]`` from (center x, center y, width, height) to (xmin, ymin, xmax, ymax)."""
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


def overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box ``[4]`` with ``[n, 4]``; 0 where both are empty.

    >>> overlap(np.array([0.0, 0, 2, 2]), np.array([[1.0, 0, 3, 2]])).round(3).tolist()
    [0.333]
    """
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    shared = np.clip(width, 0, None) * np.clip(height, 0, None)
    area = (box[2] - box[0]) * (box[3] - box[1])
    union = area + (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1]) - shared
    result: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def suppress(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], class_ids: NDArray[Any], iou: float, limit: int
) -> NDArray[np.int64]:
    """Indices of the boxes to keep, best first: non-maximum suppression within each class.

    A box goes if a better one of its class overlaps it by more than ``iou``. At most ``limit`` stay. Equal scores
    keep their order, so the result is deterministic. One pass over the boxes that stay, each vectorised.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) < 2:
        return order[:limit]
    # Classes are moved apart, so that boxes of different ones never overlap.
    apart = class_ids[order].astype(np.float64) * (boxes.max() - boxes.min() + 1.0)
    moved = boxes[order] + apart[:, None]
    kept: list[int] = []
    alive = np.arange(len(order))
    while len(alive) and len(kept) < limit:
        first, rest = alive[0], alive[1:]
        kept.append(int(first))
        alive = rest[overlap(moved[first], moved[rest]) <= iou]
    return order[np.array(kept, dtype=np.int64)]


def classes_found(scores: NDArray[Any], classes: Sequence[str]) -> Columns:
    """The best class of each row of probabilities ``[n, classes]``, as `CLASS_OUTPUTS`; ItemError for NaN."""
    if not np.isfinite(scores).all():
        raise ItemError("the network answered a confidence that is not a finite number")
    best = scores.argmax(axis=1)
    return {
        "label": [label(classes, i) for i in best.tolist()],
        "confidence": scores[np.arange(len(best)), best].astype(np.float64),
        "class_id": best.astype(np.int32),
    }


def probabilities(values: NDArray[Any], activation: str) -> NDArray[np.float64]:
    """A classifier's raw answer ``[n, classes]`` as probabilities.

    activation: ``softmax``, ``sigmoid``, ``none``, or ``auto``: softmax for each row that is no distribution yet.
    """
    values = values.astype(np.float64)
    if activation == "none":
        return values
    if activation == "sigmoid":
        squashed: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-values))
        return squashed
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    if activation == "auto":
        done = (values.min(axis=1) >= 0) & (np.abs(values.sum(axis=1) - 1.0) < 1e-3)
        result = np.where(done[:, None], values, result)
    return result
