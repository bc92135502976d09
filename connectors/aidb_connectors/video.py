"""Video: one item a frame, listed by timestamp without decoding and decoded one by one when a model wants it."""

from __future__ import annotations

import io
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from aidb.errors import ProgrammingError
from aidb.spi import CONTENT_TYPE, BlobSchema, Decoded, ItemFailure, Ref, Scan
from aidb.spi.content import CONTENT_SQL
from aidb_connectors.av_files import require_av
from aidb_connectors.files import BATCH_ROWS, arrow_type, count_claimed, list_files, whole_number
from aidb_connectors.storage import File, explain, split_hints, with_hints
from aidb_connectors.video_decoder import Decoder, DecoderPool, FrameMissing
from aidb_connectors.video_index import VideoIndex, index_video

_ATTEMPTS = 3
"""How often a call opens a file anew after an unexpected failure, before it gives the rest of it up."""
_OPTIONS = ("fps", "every", "start", "end")
_ROUNDING = 1e-6
_COLUMNS = (
    ("file", "VARCHAR"),
    ("frame", "BIGINT"),
    ("pts", "BIGINT"),
    ("ts", "DOUBLE"),
    ("width", "INTEGER"),
    ("height", "INTEGER"),
    ("image", CONTENT_SQL),
)
_SCHEMA = pa.schema([(name, arrow_type(type_)) for name, type_ in _COLUMNS] + [("content_id", pa.string())])


class Video:
    """Connector ``video``: columns file, frame, pts, ts, width, height, image; key frame_id. Needs PyAV.

    frame is the 0-based number in order of display, pts the presentation timestamp in the stream's own unit (or the
    frame's number, where the stream has no usable timestamps), ts seconds from the first frame, width and height those
    of the upright picture. Frames are turned as the file's display matrix says, as players do.

    Options: every frame is listed, or with ``fps = 5`` the frame nearest to each tick of 1/5 s from the start (at most
    those that exist), or with ``every = n`` the frames 0, n, 2n...; ``start`` and ``end`` (seconds, or 'MM:SS',
    'HH:MM:SS.f') keep the frames with start <= ts < end.
    """

    name = "video"
    priority = 40
    extensions = frozenset(
        {
            *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"),
            *(".wmv", ".flv", ".ogv", ".3gp", ".vob", ".mjpeg", ".h264", ".hevc"),
        }
    )

    def __init__(self) -> None:
        self._pool = DecoderPool()
        weakref.finalize(self, self._pool.close)

    def claims(self, source: str) -> int:
        """See `aidb.spi.Connector`."""
        return count_claimed(source, self.extensions)

    def schema(self, scan: Scan) -> BlobSchema:
        """See `aidb.spi.Connector`."""
        _sampling(scan)
        return BlobSchema("frame_id", _COLUMNS, ("file", "pts"), "image")

    def items(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """See `aidb.spi.Connector`. A file that can't be listed gives one row, whose reference has no position.

        Raises OperationalError if PyAV is not installed.
        """
        sampling = _sampling(scan)
        require_av()
        files = list_files(scan.source, self.extensions, "videos")
        return _merged(batch for file in files for batch in self._frames(file, sampling))

    def _frames(self, file: File, sampling: Sampling) -> Iterator[pa.RecordBatch]:
        try:
            index = index_video(file.uri)
        except Exception:  # reading the row's item will say what is wrong, where errors are collected
            yield self._broken(file)
            return
        uri = with_hints(file.uri, frames="counted" if index.counted else None)
        chosen = sampling.choose(index)
        for begin in range(0, len(chosen), BATCH_ROWS):
            frames = chosen[begin : begin + BATCH_ROWS]
            n, pts = len(frames), pa.array(index.pts[frames])
            image = pa.StructArray.from_arrays(
                [pa.repeat(uri, n), pts, pa.repeat("image", n), pa.repeat(self.name, n)], fields=list(CONTENT_TYPE)
            )
            size = [pa.repeat(pa.scalar(x, pa.int32()), n) for x in (index.width, index.height)]
            columns = [pa.repeat(file.uri, n), pa.array(frames), pts, pa.array(index.seconds[frames]), *size, image]
            yield pa.RecordBatch.from_arrays([*columns, pa.repeat(file.content_id, n)], schema=_SCHEMA)

    def _broken(self, file: File) -> pa.RecordBatch:
        reference = {"uri": file.uri, "pos": None, "media": "image", "connector": self.name}
        # pts belongs to the identity, which must not be NULL; the reference's position says that there is no frame.
        values = [file.uri, 0, 0, None, None, None, reference, file.content_id]
        arrays = [pa.array([v], type=f.type) for v, f in zip(values, _SCHEMA, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """See `aidb.spi.Connector`; ``encoded`` gives a PNG. Calls that go on where one ended decode in one sweep."""
        for uri, group in groupby(refs, key=lambda ref: ref.uri):
            yield from self._read_file(uri, list(group), encoded)

    def _read_file(self, uri: str, refs: list[Ref], encoded: bool) -> Iterator[Decoded | ItemFailure]:
        plain, hints = split_hints(uri)
        counted = hints.get("frames") == "counted"
        done = attempts = 0
        while done < len(refs):
            try:
                with self._pool.lend(plain, counted, refs[done].pos or 0) as decoder:
                    while done < len(refs):
                        result = self._result(decoder, plain, refs[done].pos, encoded)
                        done += 1
                        yield result
            except Exception as e:  # damaged files make FFmpeg raise anything; one frame must not cost the others
                attempts += 1
                for _ in refs[done : None if attempts >= _ATTEMPTS else done + 1]:
                    done += 1
                    yield ItemFailure(f"can't read the video: {_reason(e)}")

    def _result(self, decoder: Decoder, uri: str, position: int | None, encoded: bool) -> Decoded | ItemFailure:
        if position is None:
            return ItemFailure(_unlisted(uri))
        try:
            pixels = decoder.frame(position)
        except FrameMissing as e:
            return ItemFailure(str(e))
        return _png(pixels) if encoded else pixels

    def close(self) -> None:
        """Close the files that are kept open between calls."""
        self._pool.close()


@dataclass(frozen=True)
class Sampling:
    """Which frames of a file are items. At most one of ``fps`` (a second) and ``every`` is set; times in seconds."""

    fps: float | None = None
    every: int | None = None
    start: float | None = None
    end: float | None = None

    def choose(self, index: VideoIndex) -> np.ndarray:
        """int64 numbers of the frames, rising."""
        seconds = index.seconds
        frames = np.arange(len(seconds))
        if self.every is not None:
            frames = frames[:: self.every]
        elif self.fps is not None:
            frames = _nearest(seconds, self.fps)
        if self.start is not None:
            frames = frames[seconds[frames] >= self.start - _ROUNDING]
        if self.end is not None:
            frames = frames[seconds[frames] < self.end - _ROUNDING]
        return frames


def _nearest(seconds: np.ndarray, fps: float) -> np.ndarray:
    """Numbers of the frames nearest to each tick of 1/fps while the video lasts; of two equally near the earlier."""
    last = len(seconds) - 1
    if last < 1 or np.diff(seconds).min() * fps >= 1 - _ROUNDING:  # a tick falls to every frame
        return np.arange(len(seconds))
    until = seconds[-1] + seconds[-1] / last  # the last frame stays as long as others do on average
    ticks = np.arange(max(1, math.ceil(until * fps - _ROUNDING))) / fps
    after = np.searchsorted(seconds, ticks).clip(1, last)
    earlier = ticks - seconds[after - 1] <= seconds[after] - ticks + _ROUNDING
    return np.unique(after - earlier)


def parse_time(value: object) -> float:
    """Seconds of an option: a number, '90', 'MM:SS' or 'HH:MM:SS.f'.

    >>> parse_time("1:02:03.5")
    3723.5
    """
    if isinstance(value, bool):
        raise ValueError("a time is wanted")
    parts = str(value).strip().split(":")
    if len(parts) > 3:
        raise ValueError("write seconds, 'MM:SS' or 'HH:MM:SS'")
    numbers = [float(part) for part in parts]
    if any(not math.isfinite(x) or x < 0 for x in numbers) or any(x >= 60 for x in numbers[1:]):
        raise ValueError("write seconds, 'MM:SS' or 'HH:MM:SS', none negative")
    return sum(x * 60.0**i for i, x in enumerate(reversed(numbers)))


def _sampling(scan: Scan) -> Sampling:
    options = scan.options
    options.refuse_unknown(_OPTIONS)
    fps = options.take("fps", _rate, None)
    every = options.take("every", whole_number, None)
    if fps is not None and every is not None:
        raise ProgrammingError("options 'fps' and 'every' exclude each other: give one")
    if every is not None and every < 1:
        raise ProgrammingError(f"option 'every' must be 1 or more, not {every}")
    start, end = options.take("start", parse_time, None), options.take("end", parse_time, None)
    if end is not None and end <= (start or 0):
        raise ProgrammingError(f"option 'end' ({end:g} s) must come after 'start' ({start or 0:g} s)")
    return Sampling(fps, every, start, end)


def _rate(value: object) -> float:
    if isinstance(value, bool):
        raise ValueError("a number is wanted")
    top, slash, bottom = str(value).partition("/")
    rate = float(top) / (float(bottom) if slash else 1.0) if not slash or float(bottom) else 0.0
    if not math.isfinite(rate) or rate <= 0:
        raise ValueError("it must be above 0")
    return rate


def _merged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of up to 4096, however short the clips are."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if rows + batch.num_rows > BATCH_ROWS and waiting:
            yield pa.concat_batches(waiting)
            waiting, rows = [], 0
        if batch.num_rows:
            waiting.append(batch)
            rows += batch.num_rows
    if waiting:
        yield pa.concat_batches(waiting)


def _unlisted(uri: str) -> str:
    try:
        index_video(uri)
    except Exception as e:  # it is this error that is asked for
        return f"can't list the video's frames: {_reason(e)}"
    return "the video's frames could not be listed when the table was made; now they can: REFRESH the blob table"


def _reason(error: Exception) -> str:
    if type(error).__name__ == "InvalidDataError":
        return "not a video that FFmpeg can read, or damaged (is it cut short?)"
    return explain(error)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()
