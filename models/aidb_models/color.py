"""The name of the dominant colour of a picture, or of a box in it. Needs no weights, no extra, and some 0.1 ms.

::

    CREATE MODEL paint USING color;
    CREATE VIRTUAL TABLE color AS paint(frames.image, box.xmin, box.ymin, box.xmax, box.ymax);
    SELECT image_id FROM photos WHERE paint(image) = 'green';

The middle of the box is looked at (its edges are mostly background), at most 64 x 64 pixels of it, evenly spaced. Each
pixel gets a name, and the name of most pixels wins; of equals the one that comes first in `NAMES`. A pixel's name
follows from hue (0 to 360 degrees), value (largest channel, 0 to 1) and chroma (largest minus smallest channel):

- value below 0.2: black; else chroma below 0.12: white from value 0.8 on, gray below.
- red from 345 to 15, orange from 15, yellow from 45, green from 70, cyan from 165, blue from 195, purple from 255, pink
  from 310 to 345.
- orange and yellow up to hue 50 with a value below 0.65 are brown; red with a value of at least 0.75 and a chroma below
  0.45 is pink.

Channels are read in steps of four, so a pixel within 2/255 of a border may fall on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from aidb.spi.model import Columns, Input, ModelSpec, Output, ServiceError, Values, fingerprint
from aidb.spi.options import Options
from aidb_models import option_types as types
from aidb_models.pictures import rgb

NAMES = (*("black", "white", "gray", "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown"),)
"""All answers, in the order in which ties are broken."""

_VERSION = 2  # raise it when a picture gets another name
_SAMPLES = 64
_HUE_BORDERS = (15, 45, 70, 165, 195, 255, 310, 345)
_HUE_NAMES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "red")


class Color:
    """The provider ``color``: ``color(image)`` or ``color(image, xmin, ymin, xmax, ymax)`` in pixels.

    Answers ``color VARCHAR``, and with ``share = true`` also ``share DOUBLE``, the part of the pixels that have it. A
    box is clipped to the picture; one that is NULL, NaN, turned round, or outside of it gets NULL.

    Options: ``share`` (false); ``middle`` (0.5), the part of width and height that is looked at.
    """

    def __init__(self, name: str, options: Options) -> None:
        options.refuse_unknown(("share", "middle", *types.COMMON))
        self._share = options.take("share", bool, False)
        self._middle = options.take("middle", types.fraction, 0.5)
        common = types.Common.read(options)
        self._spec = ModelSpec(
            inputs=(Input("image", "image"),),
            variadic=True,
            outputs=(Output("color", "VARCHAR"), *([Output("share", "DOUBLE")] if self._share else [])),
            rows="one",
            fingerprint=fingerprint("color", _VERSION, self._share, self._middle),
            batch_size=common.batch_size,
            price_per_call=common.price_per_call,
            seconds_per_item=0.0001,
        )

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`."""
        return self._spec

    def load(self) -> None:
        """Build the table from colours to names (15 ms)."""
        _table()

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch: pictures alone, or pictures and four columns of box corners."""
        if len(inputs) not in (1, 5):
            raise ServiceError(
                f"the provider color takes (image) or (image, xmin, ymin, xmax, ymax), but got {len(inputs)} arguments",
                retry=False,
            )
        images = cast("list[Any]", inputs[0])
        boxes = np.stack([_numbers(column) for column in inputs[1:]], axis=1) if len(inputs) == 5 else None
        colors: list[str | None] = []
        shares: list[float | None] = []
        for i, image in enumerate(images):
            pixels = _middle(rgb(image), None if boxes is None else boxes[i], self._middle)
            if pixels is None:
                colors.append(None)
                shares.append(None)
                continue
            counts = np.bincount(_table()[_index(pixels)].ravel(), minlength=len(NAMES))
            best = int(counts.argmax())
            colors.append(NAMES[best])
            shares.append(float(counts[best] / counts.sum()))
        return {"color": colors, "share": shares} if self._share else {"color": colors}

    def close(self) -> None:
        """Nothing is held."""


def name_colors(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Positions in `NAMES` of colours ``[..., 3]`` (RGB, 0 to 255)."""
    channels = np.asarray(pixels, np.int64)  # whole numbers: a hue on a border must not depend on rounding
    value, low = channels.max(axis=-1), channels.min(axis=-1)
    chroma = value - low
    red, green, blue = channels[..., 0], channels[..., 1], channels[..., 2]
    # Hue times chroma, so that nothing is divided; where chroma is 0 the name does not depend on it.
    turn = 60 * np.where(
        value == red,
        (green - blue) % np.maximum(6 * chroma, 1),
        np.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma),
    )
    section = sum((turn >= border * chroma).astype(np.int64) for border in _HUE_BORDERS)
    names = np.array([NAMES.index(n) for n in _HUE_NAMES], np.uint8)[section]
    brown = (turn >= 15 * chroma) & (turn < 50 * chroma) & (value < 0.65 * 255)
    names = np.where(brown, NAMES.index("brown"), names)
    pink = (names == NAMES.index("red")) & (value >= 0.75 * 255) & (chroma < 0.45 * 255)
    names = np.where(pink, NAMES.index("pink"), names)
    gray = np.where(value >= 0.8 * 255, NAMES.index("white"), NAMES.index("gray"))
    names = np.where(chroma < 0.12 * 255, gray, names)
    return np.where(value < 0.2 * 255, NAMES.index("black"), names).astype(np.uint8)


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """The name of each of 64 x 64 x 64 colours, so that a pixel costs one look-up."""
    levels = np.arange(64) * 4 + 2
    return name_colors(np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)).ravel()


def _index(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    steps = (pixels >> 2).astype(np.int32)
    return (steps[..., 0] << 12) | (steps[..., 1] << 6) | steps[..., 2]


def _middle(image: NDArray[np.uint8], box: NDArray[np.float64] | None, part: float) -> NDArray[np.uint8] | None:
    """Evenly spaced pixels ``[h, w, 3]`` of the middle of a box (None: of the picture), or None for an empty box."""
    height, width = image.shape[:2]
    if box is None:
        box = np.array([0.0, 0.0, width, height])
    if np.isnan(box).any():
        return None
    xmin, xmax = np.clip(box[[0, 2]], 0, width)
    ymin, ymax = np.clip(box[[1, 3]], 0, height)
    if xmin >= xmax or ymin >= ymax:
        return None
    return image[np.ix_(_samples(ymin, ymax, part), _samples(xmin, xmax, part))]


def _samples(start: float, end: float, part: float) -> NDArray[np.int64]:
    """At most `_SAMPLES` pixel positions in the middle ``part`` of an interval; at least one."""
    margin = (end - start) * (1 - part) / 2
    first, last = int(start + margin), max(int(start + margin) + 1, int(np.ceil(end - margin)))
    if last - first <= _SAMPLES:
        return np.arange(first, last)
    return np.linspace(first, last - 1, _SAMPLES).astype(np.int64)


def _numbers(column: Values) -> NDArray[np.float64]:
    """A column of corners as floats, NULL as NaN."""
    try:
        array = column if isinstance(column, (pa.Array, pa.ChunkedArray)) else pa.array(column)
        values = pc.cast(array, pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as e:
        raise ServiceError(f"the corners of a box must be numbers: {e}", retry=False) from e
    return np.asarray(values, np.float64)
