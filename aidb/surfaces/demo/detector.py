"""A detector for a fixed camera over a street, of the kind that was usual before neural networks.

It knows the empty street by day and by night, explains each picture as a mixture of the two, and looks along each lane
for what remains unexplained. It sees pixels only, and errs as such detectors do: two people who pass each other are one,
a car behind a bus is none, and at night some shapes drown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

OUTPUTS = {
    "label": "VARCHAR",
    "confidence": "DOUBLE",
    "xmin": "DOUBLE",
    "ymin": "DOUBLE",
    "xmax": "DOUBLE",
    "ymax": "DOUBLE",
}
"""What a detection is: ``car``, ``bus`` or ``pedestrian``, how sure (0 to 1), and its box in pixels."""

VERSION = "1"
"""Of the rules below: it goes into the model's fingerprint."""

_COVERED = 0.30  # of a lane's rows in a column: something stands there
_GAP = 6  # columns that a lamp post may hide
_SKYLINE = 76  # rows above it show houses and sky only


@dataclass(frozen=True)
class _Strip:
    """Rows to look along. ground: where wheels or feet stand. height: of a car, or of a pedestrian, there."""

    ground: int
    height: int
    walkers: bool
    bus_height: int = 0
    bus_width: int = 0


# As one would mark them once, on a picture of the camera. The near lane comes before the one that its buses hide.
_NEAR, _FAR = _Strip(149, 21, False, 41, 124), _Strip(122, 17, False, 34, 102)
_PAVEMENTS = (_Strip(101, 20, True), _Strip(173, 27, True))


@dataclass(frozen=True)
class Found:
    """One detection; see `OUTPUTS`."""

    label: str
    confidence: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float


class Detector:
    """Finds vehicles and pedestrians in pictures of one street.

    day, night: the empty street, RGB ``float32 [H, W, 3]``.
    """

    def __init__(self, day: np.ndarray, night: np.ndarray) -> None:
        self.day, self.night = day, night

    @classmethod
    def learn(cls, video: str | Path, *, looks: int = 31) -> Detector:
        """Learn the empty street from a video that begins by day and ends by night: the median of some frames of each.

        Decodes ``looks`` frames of the first and of the last fifth.
        """
        import av
        import numpy as np

        def median(container: av.container.InputContainer, begin: float, end: float) -> np.ndarray:
            stream = container.streams.video[0]
            frames = []
            for k in range(looks):
                at = int((begin + (end - begin) * k / (looks - 1)) * stream.duration)
                container.seek(at, stream=stream)
                frames.append(next(container.decode(stream)).to_ndarray(format="rgb24"))
            return np.asarray(np.median(np.stack(frames), axis=0), np.float32)

        with av.open(str(video)) as container:
            return cls(median(container, 0.0, 0.2), median(container, 0.8, 0.99))

    def find(self, image: np.ndarray) -> list[Found]:
        """Detect in one picture, RGB ``uint8 [H, W, 3]`` of the size learnt."""
        odd = self._unexplained(image)
        near = list(_vehicles(odd, _NEAR))
        hidden = [(f.xmin, f.xmax) for f in near if f.label == "bus"]
        far = [f for f in _vehicles(odd, _FAR) if not any(a - 4 < f.xmin and f.xmax < b + 4 for a, b in hidden)]
        walkers = [f for strip in _PAVEMENTS for f in _walkers(odd, strip)]
        return [*far, *near, *walkers]

    def glance(self, image: np.ndarray) -> tuple[float, float]:
        """Hints at what `find` would say, from a ninth of the road's pixels: how many cars long is what stands there, and
        how much of the road it hides."""
        import numpy as np

        lengths = 0.0
        hidden = []
        for lane in (_FAR, _NEAR):
            top = lane.ground - lane.bus_height
            picture, day, night = (of[top : lane.ground - 6 : 3, ::3, 1] for of in (image, self.day, self.night))
            off = np.abs(picture - _mixture(day, night, picture.astype(np.float32), 1))
            odd = off > 3.2 * float(np.median(off)) + 6.0
            body = odd[(lane.bus_height - lane.height) // 3 :]
            lengths += 3 * float((body.mean(axis=0) > _COVERED).sum()) / (2.4 * lane.height)
            hidden.append(float(odd.mean()))
        return lengths, max(hidden)

    def predict(self, images: Sequence[np.ndarray]) -> dict[str, list[object]]:
        """Detect in a batch, in the form of a model of ``rows="many"``: columns, with ``_row`` for the picture."""
        found = [(row, f) for row, image in enumerate(images) for f in self.find(image)]
        columns: dict[str, list[object]] = {"_row": [row for row, _ in found]}
        for name in OUTPUTS:
            columns[name] = [getattr(f, name) for _, f in found]
        return columns

    def _unexplained(self, image: np.ndarray) -> np.ndarray:
        """Which pixels are not the empty street in this light: ``bool [H, W]``."""
        import numpy as np

        picture, day, night = image[_SKYLINE:].astype(np.float32), self.day[_SKYLINE:], self.night[_SKYLINE:]
        off = np.zeros(picture.shape[:2], np.float32)
        for c in range(3):
            expected = _mixture(day[..., c], night[..., c], picture[..., c])
            np.maximum(off, np.abs(picture[..., c] - expected), out=off)
        smooth = (off[:-2] + off[1:-1] + off[2:]) / 3
        smooth = (smooth[:, :-2] + smooth[:, 1:-1] + smooth[:, 2:]) / 3
        odd = np.zeros(image.shape[:2], dtype=bool)
        # What counts as odd grows with the noise, which is strongest where it is dark.
        odd[_SKYLINE + 1 : -1, 1:-1] = smooth > 3.2 * float(np.median(smooth)) + 3.0
        return odd


def _mixture(day: np.ndarray, night: np.ndarray, seen: np.ndarray, step: int = 3) -> np.ndarray:
    """The mixture a * day + b * night that is nearest to one colour channel, by least squares over every ``step``-th pixel.

    The second fit leaves out what the first one can't explain: the traffic.
    """
    import numpy as np

    d, n, s = (channel[::step, ::step].ravel() for channel in (day, night, seen))
    keep = np.ones(len(s), dtype=bool)
    a, b = 1.0, 0.0
    for _ in range(2):
        basis = np.stack([d[keep], n[keep]])
        a, b = np.linalg.solve(basis @ basis.T + 1e-3 * np.eye(2), basis @ s[keep])
        off = np.abs(s - a * d - b * n)
        keep = off <= 3 * np.median(off) + 1
    return np.asarray(np.float32(a) * day + np.float32(b) * night)


def _runs(covered: np.ndarray, gap: int) -> Iterator[tuple[int, int]]:
    """Stretches of columns (begin, end) that are covered but for gaps of at most this many columns."""
    import numpy as np

    columns = np.flatnonzero(covered)
    if len(columns):
        for stretch in np.split(columns, np.flatnonzero(np.diff(columns) > gap + 1) + 1):
            yield int(stretch[0]), int(stretch[-1]) + 1


def _vehicles(odd: np.ndarray, lane: _Strip) -> Iterator[Found]:
    width = odd.shape[1]
    # Not the lowest rows: there the headlights of the car behind lie on the road.
    body = odd[lane.ground - lane.height : lane.ground - round(0.35 * lane.height)]
    above = odd[lane.ground - lane.bus_height + 3 : lane.ground - lane.height - 3]
    for begin, end in _runs(body.mean(axis=0) > _COVERED, _GAP):
        # At the edge of the picture no column is known for sure; what reaches there goes on beyond.
        left, right = (0 if begin <= 2 else begin), (width if end >= width - 2 else end)
        at_edge = left == 0 or right == width
        if right - left < (0.9 if at_edge else 1.6) * lane.height:
            continue
        long = right - left > 0.7 * lane.bus_width
        bus = (long or at_edge) and float(above[:, begin:end].mean()) > 0.6
        height = lane.bus_height if bus else lane.height
        confidence = float(body[:, begin:end].mean())
        yield Found("bus" if bus else "car", confidence, left, lane.ground - height, right, lane.ground)


def _walkers(odd: np.ndarray, pavement: _Strip) -> Iterator[Found]:
    top = pavement.ground - pavement.height
    # Not the upper part of those in front: behind it cars go by.
    body = odd[pavement.ground - round(0.72 * pavement.height) : pavement.ground - 2]
    for begin, end in _runs(body.mean(axis=0) > _COVERED, 3):
        if 0.14 * pavement.height < end - begin < 1.0 * pavement.height:
            yield Found("pedestrian", float(body[:, begin:end].mean()), begin, top, end, pavement.ground)


def glance_function(detector: Detector) -> Callable[[Sequence[np.ndarray]], dict[str, list[float]]]:
    """`Detector.glance` as a plain function of a batch of pictures, for ``@aidb.model``."""

    def glance(image: Sequence[np.ndarray]) -> dict[str, list[float]]:
        found = [detector.glance(picture) for picture in image]
        return {"cars": [lengths for lengths, _ in found], "busy": [hidden for _, hidden in found]}

    return glance


def model_function(detector: Detector) -> Callable[[Sequence[np.ndarray]], dict[str, list[object]]]:
    """The detector as a plain function of a batch of pictures, for ``@aidb.model``."""

    def street_detector(image: Sequence[np.ndarray]) -> dict[str, list[object]]:
        return detector.predict(image)

    return street_detector
