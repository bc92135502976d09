"""Small pictures of cars, buses and pedestrians, drawn large and scaled down so that their edges are soft.

Each sprite faces right. Pillow is imported when the first one is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import sin, tau
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

PAINT = {
    "white": (238, 238, 234),
    "black": (30, 31, 36),
    "gray": (142, 148, 154),
    "red": (200, 36, 40),
    "blue": (38, 82, 188),
    "green": (32, 132, 70),
    "yellow": (246, 196, 24),
}
"""What the traffic is painted with: name -> RGB."""

WALK_PHASES = 8
_SCALE = 8  # drawn this much larger than shown
_MARGIN = 4  # pixels around the body, for its shadow
_TYRE, _HUB, _GLASS, _LAMP, _TAIL = (22, 22, 24), (150, 152, 156), (52, 66, 82), (255, 246, 214), (168, 18, 22)
_SKIN = ((236, 196, 164), (198, 148, 112), (132, 88, 60))
_TROUSERS = (44, 48, 66)


@dataclass(frozen=True)
class Sprite:
    """A picture with alpha, and where in it the body is (without the shadow): width and height of the body in pixels."""

    image: Image.Image
    width: int
    height: int

    def corner(self, left: float, ground: float) -> tuple[int, int]:
        """Where to paste the picture so that the body's left edge and its feet or wheels are at these pixels."""
        return round(left) - _MARGIN, round(ground) - self.height - _MARGIN


def _canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    from PIL import Image, ImageDraw

    size = ((width + 2 * _MARGIN) * _SCALE, (height + 2 * _MARGIN) * _SCALE)
    image = Image.new("RGBA", size, (0, 0, 0, 0))
    return image, ImageDraw.Draw(image)


def _finish(image: Image.Image, width: int, height: int, *, flip: bool) -> Sprite:
    from PIL import Image

    small = image.resize((width + 2 * _MARGIN, height + 2 * _MARGIN), Image.Resampling.BOX)
    return Sprite(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else small, width, height)


class _Pen:
    """Draws in fractions of the body's box: (0, 0) is its top left corner, (1, 1) the bottom right one."""

    def __init__(self, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
        self.draw, self.width, self.height = draw, width, height

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (_MARGIN + x * self.width) * _SCALE, (_MARGIN + y * self.height) * _SCALE

    def polygon(self, points: list[tuple[float, float]], fill: tuple[int, ...]) -> None:
        self.draw.polygon([self.at(*p) for p in points], fill=fill)

    def rounded(self, box: tuple[float, float, float, float], radius: float, fill: tuple[int, ...]) -> None:
        corners = [*self.at(box[0], box[1]), *self.at(box[2], box[3])]
        self.draw.rounded_rectangle(corners, radius * self.height * _SCALE, fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: tuple[int, ...]) -> None:
        """A circle; its radius is a fraction of the height."""
        cx, cy = self.at(x, y)
        r = radius * self.height * _SCALE
        self.draw.ellipse([cx - r, cy - r, cx + r, cy + r], fill=fill)

    def line(self, start: tuple[float, float], end: tuple[float, float], width: float, fill: tuple[int, ...]) -> None:
        """A stroke with round ends; its width is a fraction of the height."""
        thick = width * self.height * _SCALE
        self.draw.line([self.at(*start), self.at(*end)], fill=fill, width=round(thick))
        for point in (start, end):
            self.disc(*point, width / 2, fill)

    def shadow(self) -> None:
        left, bottom = self.at(0.02, 1)
        right, _ = self.at(0.98, 1)
        self.draw.ellipse([left, bottom - 1.5 * _SCALE, right, bottom + 2.5 * _SCALE], fill=(0, 0, 0, 90))


def _shade(color: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
    r, g, b = (min(255, round(c * factor)) for c in color)
    return r, g, b


@cache
def car(color: str, width: int, height: int, *, flip: bool) -> Sprite:
    """A saloon car."""
    image, draw = _canvas(width, height)
    pen, paint = _Pen(draw, width, height), PAINT[color]
    pen.shadow()
    pen.polygon([(0.16, 0.46), (0.29, 0.0), (0.66, 0.0), (0.82, 0.46)], _shade(paint, 0.92))
    pen.polygon([(0.21, 0.44), (0.315, 0.09), (0.46, 0.09), (0.46, 0.44)], _GLASS)
    pen.polygon([(0.49, 0.44), (0.49, 0.09), (0.635, 0.09), (0.755, 0.44)], _GLASS)
    pen.rounded((0.0, 0.40, 1.0, 0.86), 0.17, paint)
    pen.rounded((0.0, 0.70, 1.0, 0.86), 0.08, _shade(paint, 0.72))
    pen.line((0.03, 0.47), (0.97, 0.47), 0.05, _shade(paint, 1.14))
    pen.rounded((0.955, 0.50, 1.0, 0.64), 0.05, _LAMP)
    pen.rounded((0.0, 0.50, 0.035, 0.64), 0.05, _TAIL)
    for x in (0.21, 0.78):
        pen.disc(x, 0.80, 0.20, _TYRE)
        pen.disc(x, 0.80, 0.10, _HUB)
    return _finish(image, width, height, flip=flip)


@cache
def bus(color: str, width: int, height: int, *, flip: bool) -> Sprite:
    """A city bus."""
    image, draw = _canvas(width, height)
    pen, paint = _Pen(draw, width, height), PAINT[color]
    pen.shadow()
    pen.rounded((0.0, 0.0, 1.0, 0.92), 0.11, paint)
    pen.rounded((0.0, 0.76, 1.0, 0.92), 0.05, _shade(paint, 0.68))
    pen.line((0.02, 0.045), (0.98, 0.045), 0.04, _shade(paint, 1.12))
    for k in range(7):
        x = 0.035 + k * 0.124
        pen.rounded((x, 0.15, x + 0.108, 0.47), 0.04, _GLASS)
    pen.rounded((0.91, 0.15, 1.0, 0.56), 0.05, _GLASS)
    for x in (0.30, 0.80):
        pen.rounded((x, 0.15, x + 0.07, 0.86), 0.03, _shade(_GLASS, 0.75))
        pen.line((x + 0.035, 0.17), (x + 0.035, 0.84), 0.02, _shade(paint, 0.6))
    pen.rounded((0.985, 0.66, 1.0, 0.76), 0.03, _LAMP)
    pen.rounded((0.0, 0.60, 0.012, 0.76), 0.03, _TAIL)
    for x in (0.17, 0.70):
        pen.disc(x, 0.88, 0.12, _TYRE)
        pen.disc(x, 0.88, 0.06, _HUB)
    return _finish(image, width, height, flip=flip)


@cache
def pedestrian(color: str, height: int, phase: int, skin: int, *, flip: bool) -> Sprite:
    """Someone in a coat, at one of WALK_PHASES moments of a step."""
    width = max(6, round(height * 0.42))
    image, draw = _canvas(width, height)
    pen, paint = _Pen(draw, width, height), PAINT[color]
    swing = sin(tau * phase / WALK_PHASES)
    pen.shadow()
    pen.line((0.5, 0.36), (0.5 - 0.30 * swing, 0.60), 0.09, _shade(paint, 0.75))
    pen.line((0.5, 0.58), (0.5 - 0.32 * swing, 0.95), 0.11, _shade(_TROUSERS, 0.8))
    pen.line((0.5, 0.58), (0.5 + 0.32 * swing, 0.95), 0.11, _TROUSERS)
    pen.rounded((0.20, 0.21, 0.80, 0.64), 0.10, paint)
    pen.line((0.5, 0.33), (0.5 + 0.30 * swing, 0.58), 0.09, _shade(paint, 0.86))
    pen.disc(0.5, 0.10, 0.10, _SKIN[skin % len(_SKIN)])
    pen.polygon([(0.28, 0.10), (0.34, 0.0), (0.66, 0.0), (0.72, 0.07), (0.42, 0.06)], (54, 40, 32))
    return _finish(image, width, height, flip=flip)
