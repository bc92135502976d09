"""The answers of a script that knows nothing of AIDB: PyAV's frames in order, networks asked directly, pandas.

Decoding, preparation of pictures, reading of networks and naming of colours are written here a second time, from the
documentation of the files and of the providers, so that a mistake on either side shows up as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

Boxes = list[tuple[int, float, float, float, float, float]]
"""Class number, confidence, xmin, ymin, xmax, ymax of each object, in the network's own order."""
Detector = Callable[[np.ndarray], Boxes]

FRAME_COLUMNS = ("file", "frame", "pts", "ts", "width", "height")
BOX_COLUMNS = ("file", "frame", "box_id", "label", "confidence", "xmin", "ymin", "xmax", "ymax", "color")


@dataclass(frozen=True)
class Seen:
    """What a plain loop over files finds: a row a frame in ``frames``, a row an object in ``boxes``."""

    frames: pd.DataFrame
    boxes: pd.DataFrame

    def joined(self) -> pd.DataFrame:
        """Objects with the columns of their frames."""
        return self.boxes.merge(self.frames, on=["file", "frame"])


@dataclass(frozen=True)
class Frame:
    """One frame of a video: its number, its timestamp, seconds since the first frame, RGB pixels."""

    path: Path
    number: int
    pts: int
    seconds: float
    pixels: np.ndarray


def decoded(paths: Iterable[Path], chosen: Callable[[Path, int], bool]) -> Iterator[Frame]:
    """The chosen frames (by file and number) of videos, each decoded from its beginning."""
    import av

    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            first = None
            for number, frame in enumerate(container.decode(stream)):
                first = frame.pts if first is None else first
                if chosen(path, number):
                    seconds = float((frame.pts - first) * stream.time_base)
                    yield Frame(path, number, frame.pts, seconds, frame.to_ndarray(format="rgb24"))


def look(shown: Iterable[Frame], detector: Detector) -> Seen:
    """Show frames to a detector."""
    frames, boxes = [], []
    for frame in shown:
        file, pixels = str(frame.path), frame.pixels
        frames.append((file, frame.number, frame.pts, frame.seconds, pixels.shape[1], pixels.shape[0]))
        for i, (class_id, *rest) in enumerate(detector(pixels)):
            boxes.append((file, frame.number, i, COCO[class_id], *rest, color(pixels, tuple(rest[1:]))))
    return Seen(pd.DataFrame(frames, columns=FRAME_COLUMNS), pd.DataFrame(boxes, columns=BOX_COLUMNS))


# ---- networks


def yolox(weights: Path, confidence: float = 0.25) -> Detector:
    """YOLOX-nano: blue first, 0 to 255, scaled into the top left corner of grey; answers relative to a grid."""
    session, size = _session(weights), 416
    centers, strides = [], []
    for stride in (8, 16, 32):
        side = size // stride
        for y in range(side):
            for x in range(side):
                centers.append((x, y))
                strides.append(stride)
    grid, stride_of = np.array(centers, np.float32), np.array(strides, np.float32)[:, None]

    def detect(pixels: np.ndarray) -> Boxes:
        import cv2

        height, width = pixels.shape[:2]
        ratio = min(size / height, size / width)
        small = cv2.resize(pixels[:, :, ::-1], (int(width * ratio), int(height * ratio)))
        square = np.full((size, size, 3), 114, np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        answer = session(square.astype(np.float32).transpose(2, 0, 1)[None])[0]
        middle = (answer[:, :2] + grid) * stride_of
        extent = np.exp(answer[:, 2:4]) * stride_of
        scores = answer[:, 4:5] * answer[:, 5:]
        corners = np.concatenate([middle - extent / 2, middle + extent / 2], axis=1) / ratio
        return _thinned(corners, scores, confidence, 0.45, width, height)

    return detect


def yolov8(weights: Path, confidence: float = 0.25) -> Detector:
    """YOLOv8n by onnxruntime: red first, 0 to 1, in the middle of a grey square."""
    session, size = _session(weights), 640

    def detect(pixels: np.ndarray) -> Boxes:
        import cv2

        height, width = pixels.shape[:2]
        ratio = min(size / height, size / width)
        small = cv2.resize(pixels, (round(width * ratio), round(height * ratio)))
        top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
        square = np.full((size, size, 3), 114, np.uint8)
        square[top : top + small.shape[0], left : left + small.shape[1]] = small
        answer = session(square.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255))[0].T
        x, y, w, h = answer[:, 0] - left, answer[:, 1] - top, answer[:, 2], answer[:, 3]
        corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1) / ratio
        return _thinned(corners, answer[:, 4:], confidence, 0.7, width, height)

    return detect


def ultralytics(weights: Path) -> Detector:
    """YOLOv8n by the package ultralytics itself, a picture at a time."""
    from ultralytics import YOLO

    network = YOLO(str(weights))

    def detect(pixels: np.ndarray) -> Boxes:
        found = network.predict(np.ascontiguousarray(pixels[:, :, ::-1]), device="cpu", verbose=False)[0].boxes
        return [
            (int(c), float(s), *map(float, box))
            for c, s, box in zip(found.cls.tolist(), found.conf.tolist(), found.xyxy.tolist(), strict=True)
        ]

    return detect


def _session(weights: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tensor: session.run(None, {name: tensor})[0]


def _thinned(corners: np.ndarray, scores: np.ndarray, confidence: float, iou: float, width: int, height: int) -> Boxes:
    """Objects above a confidence, the best first; one that overlaps a better one of its class too much is dropped."""
    best = scores.max(axis=1)
    candidates = [i for i in np.argsort(-best, kind="stable") if best[i] > confidence]
    kept: list[int] = []
    for i in candidates:
        if all(scores[i].argmax() != scores[j].argmax() or _iou(corners[i], corners[j]) <= iou for j in kept):
            kept.append(i)
    corners = np.clip(corners, 0, [width, height, width, height])
    return [(int(scores[i].argmax()), float(best[i]), *map(float, corners[i])) for i in kept]


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    shared_w = min(a[2], b[2]) - max(a[0], b[0])
    shared_h = min(a[3], b[3]) - max(a[1], b[1])
    if shared_w <= 0 or shared_h <= 0:
        return 0.0
    shared = shared_w * shared_h
    return float(shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared))


# ---- colours


def color(pixels: np.ndarray, box: tuple[float, float, float, float]) -> str | None:
    """The name of most pixels in the middle half of a box, as the provider ``color`` defines names."""
    height, width = pixels.shape[:2]
    xmin, xmax = max(0.0, box[0]), min(float(width), box[2])
    ymin, ymax = max(0.0, box[1]), min(float(height), box[3])
    if xmin >= xmax or ymin >= ymax:
        return None
    seen = pixels[_places(ymin, ymax)][:, _places(xmin, xmax)].reshape(-1, 3)
    colors, counts = np.unique(seen // 4, axis=0, return_counts=True)
    votes: dict[str, int] = {}
    for (r, g, b), n in zip(colors.tolist(), counts.tolist(), strict=True):
        name = _name(r * 4 + 2, g * 4 + 2, b * 4 + 2)
        votes[name] = votes.get(name, 0) + n
    return max(votes, key=lambda name: (votes[name], -COLORS.index(name)))


def _places(low: float, high: float) -> list[int]:
    quarter = (high - low) / 4
    first = int(low + quarter)
    last = max(first + 1, math.ceil(high - quarter))
    if last - first <= 64:
        return list(range(first, last))
    return [int(x) for x in np.linspace(first, last - 1, 64)]


@cache
def _name(red: int, green: int, blue: int) -> str:
    value, low = max(red, green, blue), min(red, green, blue)
    if value < 51:
        return "black"
    if (chroma := value - low) < 30.6:
        return "white" if value >= 204 else "gray"
    # A fraction, so that a hue on a border belongs to the name that begins there.
    if value == red:
        hue = Fraction(60 * (green - blue), chroma) % 360
    elif value == green:
        hue = Fraction(60 * (blue - red), chroma) + 120
    else:
        hue = Fraction(60 * (red - green), chroma) + 240
    borders = ((15, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (195, "cyan"), (255, "blue"))
    name = next((n for end, n in (*borders, (310, "purple"), (345, "pink")) if hue < end), "red")
    if 15 <= hue < 50 and value < 165.75:
        return "brown"
    return "pink" if name == "red" and value >= 191.25 and chroma < 114.75 else name


COLORS = ["black", "white", "gray", "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown"]
"""In the order in which ties are broken."""

COCO = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
]
