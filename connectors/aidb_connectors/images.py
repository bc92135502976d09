"""Still pictures: one item a file, decoded by Pillow to exact RGB pixels."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from aidb.errors import ProgrammingError
from aidb.spi import BlobSchema, Decoded, ItemFailure, Ref, Scan
from aidb.spi.content import CONTENT_SQL
from aidb_connectors.files import content, count_claimed, header_wanted, in_batches, list_files, whole_number
from aidb_connectors.storage import File, explain, open_stream, read_bytes, split_hints, with_hints

if TYPE_CHECKING:
    from PIL import Image

_OPTIONS = ("header", "max_pixels")
# Only formats that Pillow decodes by itself: others start Ghostscript or draw vector programs, from untrusted files.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
_ORIENTATION = 0x0112
_BAND = 1 << 20
_MAX_PIXELS = 178_956_970
"""Half a gigabyte of RGB: Pillow's own limit for what is more likely an attack than a picture."""


class Images:
    """Connector ``images``: columns file, size, mtime, width, height, image; key image_id.

    Options: ``header`` (true or false: whether listing reads each file's width and height; by default for local files
    only, since elsewhere it costs a request a file; NULL if not read or unreadable), ``max_pixels`` (width × height
    above which a picture is refused).

    A picture is turned as its EXIF orientation says, laid on white where it is transparent, brought to 8 bits a
    channel; of an animation or a document of several pages the first one is taken.
    """

    name = "images"
    priority = 30
    extensions = frozenset(
        {
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".png",
            ".apng",
            ".bmp",
            ".dib",
            ".webp",
            ".tif",
            ".tiff",
            ".gif",
            ".ppm",
            ".pgm",
            ".pbm",
            ".pnm",
            ".avif",
            ".jp2",
            ".mpo",
        }
    )
    _columns = (
        ("file", "VARCHAR"),
        ("size", "BIGINT"),
        ("mtime", "TIMESTAMP"),
        ("width", "INTEGER"),
        ("height", "INTEGER"),
        ("image", CONTENT_SQL),
    )

    def claims(self, source: str) -> int:
        """See `aidb.spi.Connector`."""
        return count_claimed(source, self.extensions)

    def schema(self, scan: Scan) -> BlobSchema:
        """See `aidb.spi.Connector`."""
        _options(scan)
        return BlobSchema("image_id", self._columns, ("file",), "image")

    def items(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """See `aidb.spi.Connector`."""
        header, max_pixels = _options(scan)
        files = list_files(scan.source, self.extensions, "images")
        return in_batches(self._columns, self._rows(files, header, max_pixels))

    def _rows(self, files: Iterator[File], header: bool | None, max_pixels: int | None) -> Iterator[tuple[object, ...]]:
        wanted = header_wanted(header)
        for file in files:
            width, height = _shown_size(file.uri) if wanted(file) else (None, None)
            reference = content(with_hints(file.uri, max_pixels=max_pixels), None, "image", self.name)
            yield file.uri, file.size, file.mtime_us, width, height, reference, file.content_id

    @staticmethod
    def decode(data: bytes, max_pixels: int = _MAX_PIXELS) -> np.ndarray:
        """A file's bytes as `read` would give it: for pictures that come by other ways."""
        return decode(data, max_pixels)

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """See `aidb.spi.Connector`; ``encoded`` gives the file's own bytes, whatever they hold."""
        for ref in refs:
            uri, hints = split_hints(ref.uri)
            try:
                data = read_bytes(uri)
                yield data if encoded else decode(data, min(int(hints.get("max_pixels", _MAX_PIXELS)), _MAX_PIXELS))
            except Exception as e:  # damaged files make decoders raise anything; one file must not cost the others
                yield ItemFailure(_reason(e))


def decode(data: bytes, max_pixels: int = _MAX_PIXELS) -> np.ndarray:
    """An encoded picture as RGB ``uint8 [H, W, 3]``. Raises what Pillow raises, or ValueError if it is too large."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=_formats()) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ValueError(f"{width} x {height} pixels are more than the {max_pixels:,} allowed (option max_pixels)")
        image.load()
        pixels = _turn(_rgb(image), _orientation(image))  # asked after load(), which turns a TIFF by itself
    return np.ascontiguousarray(pixels)


@cache
def _formats() -> tuple[str, ...]:
    """Those of our formats that this build of Pillow has (AVIF is not in all)."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _options(scan: Scan) -> tuple[bool | None, int | None]:
    scan.options.refuse_unknown(_OPTIONS)
    max_pixels = scan.options.take("max_pixels", whole_number, None)
    if max_pixels is not None and not 0 < max_pixels <= _MAX_PIXELS:
        raise ProgrammingError(f"option 'max_pixels' must be between 1 and {_MAX_PIXELS:,}, not {max_pixels}")
    return scan.options.take("header", bool, None), max_pixels


def _rgb(image: Image.Image) -> np.ndarray:
    mode = image.mode
    if mode == "RGB":
        return _pixels(image)
    if mode.startswith(("I", "F")):
        return _deep_grey(np.asarray(image))
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return _on_white(np.asarray(image.convert("RGBA")))
    return _pixels(image.convert("RGB"))


def _pixels(image: Image.Image) -> np.ndarray:
    """An RGB picture as an array. Of a large one Pillow would make two further copies on the way: bands avoid that."""
    width, height = image.size
    if width * height <= _BAND:
        return np.asarray(image)
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return pixels


def _on_white(rgba: np.ndarray) -> np.ndarray:
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _deep_grey(grey: np.ndarray) -> np.ndarray:
    """Grey of more than 8 bits: 16-bit integers fill 0..65535; floats fill 0..1, or 0..255 if any is above 1."""
    if grey.dtype.kind == "f":
        grey = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
        grey = grey * 255 if grey.size and grey.max() <= 1 else grey
        small = np.rint(np.clip(grey, 0, 255)).astype(np.uint8)
    else:
        small = ((np.clip(grey.astype(np.int64), 0, 65535) * 255 + 32767) // 65535).astype(np.uint8)
    return np.repeat(small[..., None], 3, axis=2)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (2, 4, 5, 7):  # mirrored ones: undo the mirror, then they are rotations like the others
        pixels = pixels[:, ::-1]
    return np.rot90(pixels, {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (
        ValueError,
        SyntaxError,
        OSError,
        KeyError,
        TypeError,
        IndexError,
        OverflowError,
        struct.error,
        UserWarning,
    ):
        return 1  # unreadable EXIF data says nothing about the pixels
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _shown_size(uri: str) -> tuple[int | None, int | None]:
    """Width and height as decoding will give them, from the header alone; None, None if that can't be read."""
    from PIL import Image

    try:
        with open_stream(uri) as stream, Image.open(stream, formats=_formats()) as image:
            orientation = _orientation(image)
            if image.format == "TIFF" and orientation >= 5:  # which some versions of Pillow turn by themselves
                image.load()
                orientation = _orientation(image)
            width, height = image.size
            return (height, width) if orientation >= 5 else (width, height)
    except Exception:  # the row stands without; reading the item will say what is wrong
        return None, None


def _reason(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    # ultralytics, once imported, has Pillow look for a package for HEIC before it gives up.
    if isinstance(error, UnidentifiedImageError | ImportError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too many pixels: {explain(error)}"
    if isinstance(error, OSError) and error.errno is not None:
        return f"can't read the file: {explain(error)}"
    return f"can't decode the image: {explain(error)}"
