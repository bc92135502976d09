"""The frames of a video file by their timestamps, found by reading its packets; nothing but the first is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from aidb_connectors.av_files import opened, require_av

_ATTACHED_PICTURE = 0x0400  # AV_DISPOSITION_ATTACHED_PIC: the cover of a song is no video
_DEFAULT = 0x0001  # AV_DISPOSITION_DEFAULT
_DISCARD_ALL = 48  # AVDISCARD_ALL
_FIRST_FRAME_PACKETS = 64


@dataclass(frozen=True)
class VideoIndex:
    """What listing learns of one file.

    pts: int64, strictly increasing: the position of each frame in order of display. Presentation timestamps in units
        of ``time_base`` seconds, or, if ``counted``, 0, 1, 2...: the stream lacks usable timestamps.
    seconds: float64, since the first frame.
    width, height: as displayed, after rotation.
    """

    pts: np.ndarray
    seconds: np.ndarray
    width: int
    height: int
    counted: bool


def video_stream(container: Any) -> Any:
    """The video stream to read, of several the one meant for showing. Raises ValueError if there is none."""
    videos = [s for s in container.streams.video if not s.disposition & _ATTACHED_PICTURE]
    if not videos:
        raise ValueError("the file has no video stream")
    best = max(videos, key=_rank)
    if best.codec_context is None:
        raise ValueError("no decoder for the video stream's codec")
    for stream in container.streams:
        if stream is not best and hasattr(stream, "discard"):  # not in older PyAV
            stream.discard = _DISCARD_ALL  # lets the demuxer step over sound without reading it
    return best


def _rank(stream: Any) -> tuple[bool, int]:
    """The file's own choice comes first, then the largest picture (then the first stream)."""
    context = stream.codec_context
    return bool(stream.disposition & _DEFAULT), 0 if context is None else context.width * context.height


def index_video(uri: str) -> VideoIndex:
    """List the frames of a file. Raises OSError, ValueError and av.error.FFmpegError if there are none to be had.

    Of an mp4 that is cut short, the frames that its index promises are listed too: they fail when they are read.
    """
    with opened(uri) as container:
        stream = video_stream(container)
        pts, dts = _timestamps(container, stream)
        if not pts:
            raise ValueError("the video stream holds no frames")
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        time_base = stream.time_base or 1 / Fraction(rate)
        step = 1 / (Fraction(rate) * time_base)
        promised = len(index_entries(stream)) - len(dts)
        # AVI stores no presentation times: of a codec that reorders frames, those guessed from the order are wrong.
        guessed = container.format.name == "avi" and stream.codec_context.has_b_frames and not _jumps_back(pts)
        width, height = _shown_size(container, stream)
    counted = bool(guessed) or None in pts or len(set(pts)) < len(pts) or _jumps_back(dts)
    times = sorted(t for t in (pts if not counted else dts) if t is not None)
    if counted and len(times) < len(pts):
        times = [round(i * step) for i in range(len(pts))]
    if promised > 0:
        times += [times[-1] + max(1, round(step)) * (i + 1) for i in range(promised)]
    known = np.array(times, dtype=np.int64)
    # Exact before the one rounding at the end: times on a whole second must say so.
    seconds = (known - known[0]) * time_base.numerator / time_base.denominator
    return VideoIndex(np.arange(len(known)) if counted else known, seconds, width, height, counted)


def index_entries(stream: Any) -> Any:
    """What the container's own index says, as a sequence; of mp4 and AVI an entry a frame, of others what it has."""
    entries = getattr(stream, "index_entries", None)  # not in older PyAV
    return () if entries is None else entries


def _timestamps(container: Any, stream: Any) -> tuple[list[int | None], list[int | None]]:
    """pts of the packets that will be shown, and dts of all, in the order of the file."""
    shown: list[tuple[int | None, bool]] = []
    dts: list[int | None] = []
    hides = stream.codec_context.name in ("vp8", "libvpx")
    for packet in packets(container, stream):
        if not packet.size:
            continue
        dts.append(packet.dts)
        # Edit lists and VP8's alternate references bring packets that are decoded and never shown.
        if packet.is_discard or (hides and not bytes(packet)[0] & 0x10):
            continue
        shown.append((packet.pts, packet.is_keyframe))
    first = next((i for i, (_, is_key) in enumerate(shown) if is_key), 0)  # nothing before it can be decoded
    return [pts for pts, _ in shown[first:]], dts


def packets(container: Any, stream: Any) -> Any:
    """The stream's packets up to where the file ends or is damaged, the empty last one that flushes included.

    Raises OSError if the storage fails: that says nothing about the file.
    """
    error = require_av().error.FFmpegError
    source = container.demux(stream)
    while True:
        try:
            packet = next(source)
        except (StopIteration, error):
            return
        yield packet


def _jumps_back(times: list[int | None]) -> bool:
    """Do times run backwards in the order of the file? Decoding times do where files were joined end to end."""
    known = [t for t in times if t is not None]
    return any(b < a for a, b in pairwise(known))


def _shown_size(container: Any, stream: Any) -> tuple[int, int]:
    """Width and height of the first frame that decodes, after rotation; the header's word if none does."""
    error = require_av().error.FFmpegError
    context = stream.codec_context
    context.thread_count = 1
    try:
        container.seek(0)
    except error:
        return context.width, context.height
    for number, packet in enumerate(packets(container, stream)):
        if number >= _FIRST_FRAME_PACKETS:
            break
        try:
            frames = packet.decode()
        except error:
            continue
        if frames:
            frame = frames[0]
            return (frame.height, frame.width) if quarter_turns(frame) % 2 else (frame.width, frame.height)
    return context.width, context.height


def quarter_turns(frame: Any) -> int:
    """How many quarter turns, counter-clockwise, bring a decoded frame upright as the file's display matrix says."""
    turns: int = round(frame.rotation / 90) % 4
    return turns
