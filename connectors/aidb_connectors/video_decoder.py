"""Decoding single frames of a video by timestamp, forwards, with a seek only where it saves decoding."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from aidb_connectors.av_files import open_container, require_av
from aidb_connectors.storage import local_path
from aidb_connectors.video_index import index_entries, packets, quarter_turns, video_stream

_SEEK_COST = 10
"""A seek costs about as much as decoding this many frames (of a local file: 2 to 12 ms)."""
_MAX_PIXELS = 100_000_000
"""Of one frame: three times 8K. A file of a few kilobytes can claim frames that take gigabytes."""
_LONG_GOP = 250
"""Frames between keyframes to reckon with where the file doesn't tell: x264's default."""


_Key = tuple[str, bool, object]


class FrameMissing(ValueError):
    """A frame that was listed can't be had; the decoder goes on with the next."""


class Decoder:
    """One open video. `frame` is fast for rising positions; no frame is decoded twice on a way forward.

    counted: positions are 0, 1, 2... in order of display instead of timestamps; they are reached from the start only.
    Not thread-safe; `DecoderPool` lends each to one thread at a time.
    """

    def __init__(self, uri: str, counted: bool) -> None:
        self._uri, self._counted = uri, counted
        av = require_av()
        self._error = av.error.FFmpegError
        # One for all frames: frame.to_ndarray(format=...) sets up the conversion anew each time, 0.1 ms.
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._keys: list[int] = []
        self._entries = 0
        self._open()
        self._gop = _LONG_GOP * self._step

    def _open(self) -> None:
        self._container, self._close = open_container(self._uri)
        try:
            self._stream = video_stream(self._container)
        except BaseException:
            self._close()
            raise
        # Slices in threads gain nothing on streams as they are, frames in threads cost more processor time than they
        # save beside a model; both measured.
        self._stream.codec_context.thread_type = "NONE"
        self._stream.codec_context.thread_count = 1
        # Asked by the decoder itself, so that it holds too where the size changes on the way.
        self._stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        rate, base = self._stream.average_rate or 25, self._stream.time_base or Fraction(1, 25)
        self._step = max(1.0, float(1 / (rate * base)))
        self._first = self._stream.start_time or 0
        self._start()

    def _start(self, first: Any = None, floor: int | None = None) -> None:
        """Begin to decode where the container stands. Frames before ``floor`` lack their references and are dropped."""
        self._floor = floor
        self._ahead: tuple[int, Any] | None = None  # decoded, and not asked for yet
        self._current: tuple[int, Any] | None = None
        self._wanted: int | None = None
        self._count = 0
        self.at: int | None = None
        self.ended = False
        self._frames = self._decode(first)

    def close(self) -> None:
        """Let go of the file."""
        self._close()

    def frame(self, position: int) -> np.ndarray:
        """The frame at exactly this position as RGB ``uint8 [H, W, 3]``, upright. Raises FrameMissing.

        ``at`` is then the position of the last frame that came out (None at the start), ``ended`` true after the last.
        """
        if self._current is None or self._current[0] != position:
            self._current = None
            self._move(position)
            self._current = position, self._forward(position)
        frame = self._current[1]
        if frame.is_corrupt:
            raise FrameMissing("the frame's data is damaged")
        pixels: np.ndarray = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        turns = quarter_turns(frame)
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    def _forward(self, position: int) -> Any:
        self._wanted = position
        while True:
            found = self._ahead or next(self._frames, None)
            if found is None:
                self.ended = True
                raise FrameMissing("the video ends before this frame: the file is cut short or damaged")
            self.at, frame = found
            if self.at > position:
                self._ahead = found
                raise FrameMissing("the frame can't be decoded: the file is damaged there")
            self._ahead = None
            if self.at == position:
                return frame

    def _decode(self, first: Any) -> Iterator[tuple[int, Any]]:
        """Frames in order of display, from the packet ``first`` or from where the container stands."""
        if first is not None:
            yield from self._shown(first)
        for packet in packets(self._container, self._stream):
            yield from self._shown(packet)

    def _shown(self, packet: Any) -> Iterator[tuple[int, Any]]:
        if not self._counted:
            # A frame that nobody asked for and that no other frame refers to need not be decoded at all.
            unwanted = packet.pts is not None and self._wanted is not None and packet.pts < self._wanted
            self._stream.codec_context.skip_frame = "NONREF" if unwanted else "DEFAULT"
        try:
            frames = packet.decode()
        except self._error:
            return  # the packet is lost; later ones may be sound
        for frame in frames:
            if self._counted:
                yield self._count, frame
                self._count += 1
            elif frame.pts is not None and (self._floor is None or frame.pts >= self._floor):
                yield frame.pts, frame

    def _move(self, position: int) -> None:
        """Seek if that is the only way or clearly the shorter one; else stay: decoding on gets there."""
        if self.at is not None and position <= self.at:
            if self._ahead is None or (position < self.at and position < (self._wanted or 0)):
                self._seek(position)
            return
        if self.ended or self._counted:
            return
        here = self._first if self.at is None else self.at
        if position > here + _SEEK_COST * self._step:
            key = self._key_before(position)
            gain = (position - self._gop if key is None else key) - here
            if gain > _SEEK_COST * self._step:
                self._seek(position)
                if self._floor is not None and self._floor <= here:  # in vain: keyframes are rarer than was thought
                    self._gop = max(self._gop, 2.0 * (position - self._floor))

    def _key_before(self, position: int) -> int | None:
        """Timestamp of the last keyframe at or before a position, if the file's index is known to reach there."""
        entries = index_entries(self._stream)
        if len(entries) != self._entries:
            self._entries = len(entries)
            self._keys = sorted(entry.timestamp for entry in entries if entry.is_keyframe)
        i = bisect_right(self._keys, position)
        return self._keys[i - 1] if 0 < i < len(self._keys) else None

    def _seek(self, position: int) -> None:
        """Stand at a keyframe at or before a position, so that decoding on yields its frame exactly."""
        back = 0.0
        while not self._counted and position - back > self._first - self._step:
            try:
                self._container.seek(int(position - back), stream=self._stream, backward=True, any_frame=False)
            except self._error:
                break
            for packet in packets(self._container, self._stream):
                if packet.is_keyframe and packet.pts is not None:
                    if packet.pts <= position:
                        self._start(packet, packet.pts)
                        return
                    break
            back = max(_SEEK_COST * self._step, back * 4)
        self.close()
        self._open()


class DecoderPool:
    """Open decoders that wait for the next call, so that a file read in many calls is still read in one sweep.

    Thread-safe. Holds at most ``idle`` decoders; each in use belongs to the thread that took it.
    """

    def __init__(self, idle: int = 4) -> None:
        self._limit = idle
        self._idle: list[tuple[_Key, Decoder]] = []  # the longest waiting one first
        self._lock = threading.Lock()

    @contextmanager
    def lend(self, uri: str, counted: bool, position: int) -> Iterator[Decoder]:
        """A decoder of the file for the time of the block, if possible one that stands shortly before the position.

        Raises what opening raises. After an exception in the block the decoder is closed, else it waits for the next
        call, unless it has come to the end of its file.
        """
        key = (uri, counted, _version(uri))
        decoder = self._take(key, position) or Decoder(uri, counted)
        try:
            yield decoder
        except GeneratorExit:  # the reader lost interest; the decoder is sound
            self._give(key, decoder)
            raise
        except BaseException:
            decoder.close()
            raise
        else:
            self._give(key, decoder)

    def _give(self, key: _Key, decoder: Decoder) -> None:
        closing = [decoder]
        if not decoder.ended:
            with self._lock:
                self._idle.append((key, decoder))
                closing = [old for _, old in self._idle[: -self._limit]]
                del self._idle[: -self._limit]
        for old in closing:
            old.close()

    def _take(self, key: _Key, position: int) -> Decoder | None:
        with self._lock:
            # One that has passed the position is left to whoever reads on from there.
            fit = [
                (d.at or 0, i) for i, (k, d) in enumerate(self._idle) if k == key and (d.at is None or d.at <= position)
            ]
            return self._idle.pop(max(fit)[1])[1] if fit else None

    def close(self) -> None:
        """Close all that wait."""
        with self._lock:
            waiting, self._idle = self._idle, []
        for _, decoder in waiting:
            decoder.close()


def _version(uri: str) -> object:
    """Changes when a local file does: an open decoder must not answer for a file that was replaced."""
    path = local_path(uri)
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
