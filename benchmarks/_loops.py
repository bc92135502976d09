"""Loops as a careful person writes them by hand around onnxruntime and PyAV, to be compared with.

One thread decodes. The network runs in as many threads as there are processors, each call on one of them: measured
faster than calls that are spread over all processors, since nothing waits for anything. Pictures are resized and
boxes thinned out by OpenCV's own functions, and the rows are kept in a list.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import onnxruntime

from benchmarks._measure import cores

AHEAD = 32
"""Decoded frames that wait at most."""


class Yolox:
    """YOLOX-nano, 416 x 416: picture at the top left, blue first, raw pixels; cells and logarithms out."""

    size = 416
    center = False
    swap = True  # what is decoded is red first
    scale = 1.0

    def __init__(self) -> None:
        cells, strides = [], []
        for stride in (8, 16, 32):
            n = self.size // stride
            y, x = np.mgrid[:n, :n]
            cells.append(np.stack([x, y], 2).reshape(-1, 2))
            strides.append(np.full((n * n, 1), stride))
        self.cells, self.strides = np.concatenate(cells), np.concatenate(strides)

    def candidates(self, raw: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (x, y, width, height), scores, classes."""
        likely = np.flatnonzero(raw[:, 4] > least)  # few of thousands, and a product can't exceed its factor
        raw, cells, strides = raw[likely], self.cells[likely], self.strides[likely]
        best = raw[:, 5:].argmax(1)
        scores = raw[:, 4] * raw[np.arange(len(raw)), 5 + best]
        found = scores > least
        centers = (raw[found, :2] + cells[found]) * strides[found]
        sizes = np.exp(raw[found, 2:4]) * strides[found]
        return np.concatenate([centers - sizes / 2, sizes], 1), scores[found], best[found]


class Yolov8:
    """YOLOv8n, 640 x 640: picture in the middle, red first, 0 to 1; centers and sizes in pixels out."""

    size = 640
    center = True
    swap = False
    scale = 1 / 255

    def candidates(self, raw: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (x, y, width, height), scores, classes."""
        scores = raw[4:].max(0)
        found = np.flatnonzero(scores > least)
        boxes = raw[:4, found].T
        boxes[:, :2] -= boxes[:, 2:] / 2
        return boxes, scores[found], raw[4:, found].argmax(0)


class Loop:
    """Decode, run, thin out, keep: over the first frames of a video."""

    def __init__(self, weights: Path, network: Yolox | Yolov8, *, least: float = 0.25, iou: float = 0.45) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._network, self._least, self._iou = network, least, iou
        self._run(np.zeros((1, 3, network.size, network.size), np.float32))

    def _run(self, batch: np.ndarray) -> Any:
        return self._session.run(None, {self._input: batch})[0]

    def __call__(self, video: Path, frames: int) -> list[tuple[int, int, float, float, float, float, float]]:
        """Rows (frame, class, score, x, y, width, height)."""
        waiting: queue.Queue[tuple[int, np.ndarray] | None] = queue.Queue(AHEAD)
        rows: list[Any] = []
        workers = [threading.Thread(target=self._work, args=(waiting, rows)) for _ in range(cores())]
        for worker in workers:
            worker.start()
        decode(video, frames, lambda n, image: waiting.put((n, image)))
        for _ in workers:
            waiting.put(None)
        for worker in workers:
            worker.join()
        return sorted(rows)

    def _work(self, waiting: queue.Queue[tuple[int, np.ndarray] | None], rows: list[Any]) -> None:
        while (item := waiting.get()) is not None:
            rows += self._answer(*item)

    def _answer(self, number: int, image: np.ndarray) -> list[tuple[Any, ...]]:
        net, (h, w) = self._network, image.shape[:2]
        ratio = min(net.size / h, net.size / w)
        new_h, new_w = int(h * ratio), int(w * ratio)
        top, left = ((net.size - new_h) // 2, (net.size - new_w) // 2) if net.center else (0, 0)
        batch = np.full((1, 3, net.size, net.size), 114 * net.scale, np.float32)
        colors = cv2.split(cv2.resize(image, (new_w, new_h)))
        for plane, color in zip(batch[0], reversed(colors) if net.swap else colors, strict=True):
            # Three times faster than cv2.dnn.blobFromImage, which copies the picture before it turns its axes round.
            np.multiply(color, np.float32(net.scale), out=plane[top : top + new_h, left : left + new_w])
        raw = self._run(batch)[0]
        boxes, scores, classes = net.candidates(raw, self._least)
        if not len(boxes):
            return []
        kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), scores.tolist(), classes.tolist(), self._least, self._iou)
        boxes = (boxes - (left, top, 0, 0)) / ratio
        return [(number, int(classes[i]), float(scores[i]), *map(float, boxes[i])) for i in np.asarray(kept).ravel()]


def decode(video: Path, frames: int, take: Callable[[int, np.ndarray], object]) -> None:
    """Hand over the first frames as RGB."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        convert = av.video.reformatter.VideoReformatter()
        for n, frame in enumerate(container.decode(stream)):
            if n == frames:
                return
            take(n, convert.reformat(frame, format="rgb24").to_ndarray())
