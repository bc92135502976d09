"""Who passes through the drawn street, when, and where each one is at any moment: the truth that the video shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

WIDTH, HEIGHT = 320, 180
"""Size of the picture in pixels."""

Kind = Literal["car", "bus", "pedestrian"]

DUSK, NIGHT = 0.42, 0.72
"""The parts of the video at which the light begins to fade, and at which it is gone."""
RARE = 0.36
"""The part of the video after which the one yellow bus comes."""

_CAR_COLORS = {"white": 0.28, "black": 0.20, "gray": 0.18, "red": 0.15, "blue": 0.14, "green": 0.05}
_BUS_COLORS = {"red": 0.5, "blue": 0.5}
_COAT_COLORS = {"red": 0.2, "blue": 0.2, "green": 0.15, "white": 0.15, "black": 0.15, "yellow": 0.15}
_GAP = 16  # pixels between two vehicles of a lane, at least


@dataclass(frozen=True)
class Lane:
    """A strip that things move along: vehicles of one speed, or pedestrians who overtake each other.

    ground: y of wheels or feet, in pixels. speed: pixels a second; negative to the left. rate: arrivals a second by day.
    scale: size of things there, relative to the lane nearest to the camera.
    """

    name: str
    ground: float
    speed: float
    rate: float
    scale: float
    walkers: bool = False


LANES = (
    Lane("far pavement", 101.0, -15.0, 0.055, 0.74, walkers=True),
    Lane("far lane", 122.0, -96.0, 0.30, 0.82),
    Lane("near lane", 149.0, 118.0, 0.30, 1.0),
    Lane("near pavement", 173.0, 19.0, 0.06, 1.0, walkers=True),
)
"""From back to front: the order to draw in."""

_SIZES: dict[Kind, tuple[int, int]] = {"car": (56, 21), "bus": (124, 41), "pedestrian": (12, 28)}


@dataclass(frozen=True)
class Passer:
    """One car, bus or pedestrian on its way through the picture.

    start: the second at which its front enters. speed: pixels a second. width, height: pixels. look: a small number that
    tells pedestrians apart.
    """

    id: int
    kind: Kind
    color: str
    lane: Lane
    start: float
    speed: float
    width: int
    height: int
    look: int = 0

    def left(self, seconds: float) -> float:
        """Its left edge at a moment, in pixels; outside of the picture before it enters and after it has left."""
        way = self.speed * (seconds - self.start)
        return way - self.width if self.speed > 0 else WIDTH + way

    def shown(self, seconds: float) -> bool:
        """Is any of it in the picture?"""
        return -self.width < self.left(seconds) < WIDTH


def light(progress: float) -> float:
    """How light it is, 1 by day and 0 at night, when this part of the video (0 to 1) has passed."""
    x = min(1.0, max(0.0, (progress - DUSK) / (NIGHT - DUSK)))
    return 1.0 - x * x * (3.0 - 2.0 * x)


def passers(seconds: float, rng: np.random.Generator) -> list[Passer]:
    """Everybody who passes in that many seconds, by lane and then by time. One bus, in the near lane, is yellow."""
    found: list[Passer] = []
    for lane in LANES:
        found += _walkers(lane, seconds, rng) if lane.walkers else _vehicles(lane, seconds, rng)
    return [replace(p, id=number) for number, p in enumerate(found)]


def _choose(colors: dict[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(colors), p=list(colors.values())))


def _vehicles(lane: Lane, seconds: float, rng: np.random.Generator) -> Iterator[Passer]:
    """A stream of cars, here and there a bus. They come less often at night; all of a lane keep one speed."""
    now, count = -4.0, 0
    rare_is_due = lane is LANES[2]
    while True:
        share = 0.35 + 0.65 * light(now / seconds)
        now += rng.exponential(1 / (lane.rate * share))
        if now > seconds:
            return
        # One in twelve is a bus, and so is the seventh, for there to be one to look at early.
        rare = rare_is_due and now > RARE * seconds
        kind: Kind = "bus" if rare or count == 7 or rng.random() < 1 / 12 else "car"
        width, height = (round(x * lane.scale) for x in _SIZES[kind])
        color = "yellow" if rare else _choose(_BUS_COLORS if kind == "bus" else _CAR_COLORS, rng)
        count, rare_is_due = count + 1, rare_is_due and not rare
        yield Passer(0, kind, color, lane, now, lane.speed, width, height)
        now += (width + _GAP) / abs(lane.speed)


def _walkers(lane: Lane, seconds: float, rng: np.random.Generator) -> Iterator[Passer]:
    """People on a pavement, each at a pace of their own, in both directions."""
    now = -WIDTH / abs(lane.speed)
    while True:
        now += rng.exponential(1 / (lane.rate * (0.5 + 0.5 * light(now / seconds))))
        if now > seconds:
            return
        height = round(_SIZES["pedestrian"][1] * lane.scale * rng.uniform(0.9, 1.08))
        speed = lane.speed * rng.uniform(0.8, 1.25) * (1 if rng.random() < 0.7 else -1)
        color, look = _choose(_COAT_COLORS, rng), int(rng.integers(0, 24))
        yield Passer(0, "pedestrian", color, lane, now, speed, max(6, round(height * 0.42)), height, look)


def truth(everybody: list[Passer], frames: int, fps: float) -> pa.Table:
    """One row for each frame and each of those at least half of whom it shows.

    Columns: frame_id (0, 1, ...), seconds, object_id, label, color, and the box xmin, ymin, xmax, ymax in pixels,
    cut at the edge of the picture. Sorted by frame, then object. Who stands behind a bus is counted all the same.
    """
    import pyarrow as pa

    rows = []
    for frame in range(frames):
        now = frame / fps
        for p in everybody:
            left = p.left(now)
            xmin, xmax = max(0.0, left), min(float(WIDTH), left + p.width)
            if xmax - xmin >= p.width / 2:
                ground = p.lane.ground
                rows.append((frame, now, p.id, p.kind, p.color, xmin, ground - p.height, xmax, ground))
    names = ("frame_id", "seconds", "object_id", "label", "color", "xmin", "ymin", "xmax", "ymax")
    types = (pa.int64(), pa.float64(), pa.int64(), pa.string(), pa.string(), *[pa.float64()] * 4)
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table([pa.array(list(c), t) for c, t in zip(columns, types, strict=True)], names=list(names))
