"""Pictures on their way into a network, and the way back for its boxes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aidb.spi.model import ItemError

Fit = Literal["center", "topleft", "none", "crop"]
PAD = 114
"""The grey that YOLO networks were trained to see around a letterboxed picture."""


def rgb(image: Any) -> NDArray[np.uint8]:
    """The picture itself if it is RGB ``uint8 [H, W, 3]`` with at least one pixel; ItemError otherwise."""
    if not isinstance(image, np.ndarray):
        raise ItemError(f"expected a picture as an array, got {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ItemError(f"expected a picture uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    if not image.size:
        raise ItemError(f"the picture has no pixels: {list(image.shape)}")
    return image


def gray(image: Any) -> NDArray[np.uint8]:
    """Brightness ``uint8 [H, W]`` of an RGB picture (Rec. 601 weights)."""
    import cv2

    result: NDArray[np.uint8] = cv2.cvtColor(rgb(image), cv2.COLOR_RGB2GRAY)
    return result


def middle(image: NDArray[np.uint8], ratio: int = 4) -> NDArray[np.uint8]:
    """The middle of a picture that is longer than ``ratio`` times its width (or wider), any other as it is.

    For networks that look at the middle square: what is cut off they never see, but scaling a strip of 1 x 5,000 pixels
    to their size would take gigabytes.
    """
    height, width = image.shape[:2]
    limit = ratio * min(height, width)
    top, left = max(0, (height - limit) // 2), max(0, (width - limit) // 2)
    return image[top : height - top, left : width - left]


def alike(images: Sequence[NDArray[np.uint8]], in_order: bool = False) -> Iterator[list[int]]:
    """Positions of pictures of one shape: networks that pad a batch would answer one of mixed shapes otherwise.

    in_order: only neighbours are put together.
    """
    positions = range(len(images)) if in_order else sorted(range(len(images)), key=lambda i: images[i].shape)
    for _, group in itertools.groupby(positions, key=lambda i: images[i].shape):
        yield list(group)


@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a network's input: ``input = picture * scale + offset``, per axis (x, y), in pixels."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    width: int
    height: int

    def back(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes ``[n, 4]`` (xmin, ymin, xmax, ymax) from input pixels to pixels of the picture, clipped to it."""
        moved = (boxes - np.array(self.offset * 2)) / np.array(self.scale * 2)
        limits = np.array([self.width, self.height] * 2, dtype=np.float64)
        result: NDArray[np.float64] = np.clip(moved, 0.0, limits)
        return result


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes one item of a network's input.

    size: height and width of the input.
    fit: ``center`` and ``topleft`` keep the aspect and pad with `PAD`, ``none`` stretches, ``crop`` scales the
        short side (to ``size / crop_ratio``) and cuts the middle out.
    bgr: the network wants blue first.
    scale, mean, std: ``(pixel * scale - mean) / std``, pixel 0 to 255, channels in the network's order.
    channels_last: the input is ``[H, W, 3]``, not ``[3, H, W]``.
    dtype: of the input.
    """

    size: tuple[int, int]
    fit: Fit = "center"
    bgr: bool = False
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop_ratio: float = 1.0
    channels_last: bool = False
    dtype: str = "float32"

    def __call__(self, image: Any, into: NDArray[Any] | None = None) -> tuple[NDArray[Any], Placement]:
        """One picture, ready for the network, and where it lies in there.

        into: what an earlier call gave and nobody needs any more; memory that is touched for the first time costs as much
        as the picture itself.
        """
        pixels, left, top, placement = self._fitted(rgb(image))
        values = self._laid_out(pixels, left, top, into)
        shape = (-1,) if self.channels_last else (-1, 1, 1)
        if self.dtype != "uint8" and any(self.mean):
            values -= np.array(self.mean, np.float32).reshape(shape)
        if self.dtype != "uint8" and any(s != 1.0 for s in self.std):
            values /= np.array(self.std, np.float32).reshape(shape)
        return values.astype(self.dtype, copy=False), placement

    def _laid_out(self, pixels: NDArray[np.uint8], left: int, top: int, into: NDArray[Any] | None) -> NDArray[Any]:
        """An array of the input's shape, scaled and padded, with the pixels at their place.

        Each color by itself and all in one pass: an array whose axes are turned round is several times slower to copy.
        """
        import cv2

        (h, w), (height, width) = pixels.shape[:2], self.size
        kind: type[np.generic] = np.uint8 if self.dtype == "uint8" else np.float32
        scale = np.float32(1.0 if self.dtype == "uint8" else self.scale)
        shape = (height, width, 3) if self.channels_last else (3, height, width)
        values = into if into is not None and into.dtype == kind else np.empty(shape, kind)
        pad: Any = np.float32(PAD) * scale
        if self.channels_last:
            layers, colors = [values], [pixels[:, :, ::-1] if self.bgr else pixels]
        else:
            layers, colors = list(values), list(cv2.split(pixels))[:: -1 if self.bgr else 1]
        for layer, color in zip(layers, colors, strict=True):
            layer[:top] = layer[top + h :] = pad
            layer[top : top + h, :left] = layer[top : top + h, left + w :] = pad
            inside = layer[top : top + h, left : left + w]
            if scale == 1:
                inside[...] = color
            else:
                np.multiply(color, scale, out=inside)
        return values

    def _fitted(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int, Placement]:
        """The picture in its new size, where its left and its top go, and its placement."""
        import cv2

        (h, w), (height, width) = image.shape[:2], self.size
        if self.fit == "crop":
            pixels, placement = self._cropped(image)
            return pixels, 0, 0, placement
        if self.fit == "none":
            return cv2.resize(image, (width, height)), 0, 0, Placement((width / w, height / h), (0.0, 0.0), w, h)
        ratio = min(height / h, width / w)
        if self.fit == "topleft":
            new_w, new_h, left, top = max(1, int(w * ratio)), max(1, int(h * ratio)), 0, 0
        else:
            new_w, new_h = max(1, round(w * ratio)), max(1, round(h * ratio))
            # An odd pixel of padding goes to the right and to the bottom, as in training.
            left, top = (width - new_w) // 2, (height - new_h) // 2
        resized = image if (new_w, new_h) == (w, h) else cv2.resize(image, (new_w, new_h))
        return resized, left, top, Placement((ratio, ratio), (float(left), float(top)), w, h)

    def _cropped(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        from PIL import Image  # its resizing averages when it shrinks, as in the training of classifiers

        (full_h, full_w), (height, width) = image.shape[:2], self.size
        image = middle(image)
        h, w = image.shape[:2]
        ratio = max(height / self.crop_ratio / h, width / self.crop_ratio / w)
        new_w, new_h = max(width, round(w * ratio)), max(height, round(h * ratio))
        left, top = round((new_w - width) / 2), round((new_h - height) / 2)
        resized = np.asarray(Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BILINEAR))
        scale = (new_w / w, new_h / h)
        offset = (-left - scale[0] * ((full_w - w) // 2), -top - scale[1] * ((full_h - h) // 2))
        return resized[top : top + height, left : left + width], Placement(scale, offset, full_w, full_h)
