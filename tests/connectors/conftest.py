"""Clips and servers that the tests of connectors read from."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from aidb.spi import Connector, Options, Ref, Scan

MEDIA = Path(__file__).parents[3] / "shared" / "media"


def scan(source: object, **options: object) -> Scan:
    return Scan(str(source), Options(options))


@pytest.fixture
def rows() -> Callable[..., list[dict[str, object]]]:
    """List a source: rows(connector, source, **options)."""

    def rows(connector: Connector, source: object, **options: object) -> list[dict[str, object]]:
        return [row for batch in connector.items(scan(source, **options)) for row in batch.to_pylist()]

    return rows


@pytest.fixture
def refs(rows: Callable[..., list[dict[str, object]]]) -> Callable[..., list[Ref]]:
    """The references of a source's items, as listed."""

    def refs(connector: Connector, source: object, **options: object) -> list[Ref]:
        column = connector.schema(scan(source, **options)).content
        return [Ref(**row[column]) for row in rows(connector, source, **options)]  # type: ignore[arg-type]

    return refs


@pytest.fixture(scope="session")
def media() -> Path:
    if not MEDIA.is_dir():
        pytest.skip(f"no real videos in {MEDIA}")
    return MEDIA


def picture(number: int, width: int = 64, height: int = 48, noise: bool = False) -> np.ndarray:
    """A frame that tells its number: its brightness, with a red corner at the top left; noise makes it large."""
    rgb = np.full((height, width, 3), 20 + number * 5 % 200, np.uint8)
    if noise:
        rgb = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
    rgb[: height // 4, : width // 4] = (255, 0, 0)
    return rgb


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """Encode a clip: make_clip(path, codec, frames, ...). ``times`` in milliseconds make the frame rate vary."""
    av = pytest.importorskip("av")

    def make_clip(
        path: Path,
        codec: str = "libx264",
        frames: int = 30,
        *,
        rate: int = 10,
        gop: int = 10,
        size: tuple[int, int] = (64, 48),
        times: Sequence[int] | None = None,
        pixels: str = "yuv420p",
        format: str | None = None,  # noqa: A002  PyAV's own word
        movflags: str | None = None,
        noise: bool = False,
        **options: str,
    ) -> Path:
        with av.open(str(path), "w", format=format, options={"movflags": movflags} if movflags else {}) as out:
            stream = out.add_stream(codec, rate=rate, options=options)
            stream.width, stream.height = size
            stream.pix_fmt, stream.gop_size = pixels, gop
            stream.codec_context.thread_count = 1
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for i in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(i, *size, noise), format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = times[i], Fraction(1, 1000)
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        return path

    return make_clip


@pytest.fixture(scope="session")
def turn_clip() -> Callable[[Path, int], None]:
    """Write a rotation (degrees clockwise) into the display matrix of an mp4."""

    def turn_clip(path: Path, degrees: int) -> None:
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd") + 4 + 4 + 5 * 4 + 2 * 4 + 4 * 2  # version, times and ids, reserved, layer and volume
        a, b = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
        one = 1 << 16
        data[at : at + 36] = struct.pack(">9i", a * one, b * one, 0, -b * one, a * one, 0, 0, 0, 1 << 30)
        path.write_bytes(data)

    return turn_clip


class _Handler(SimpleHTTPRequestHandler):
    """Serves a folder with ETags and, unless told not to, byte ranges."""

    ranges = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's own name
        pass

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))  # type: ignore[attr-defined]
        path = Path(self.translate_path(self.path))
        if path.name == "forbidden.jpg":
            return self.send_error(403)
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        total, wanted = len(data), self.headers.get("Range")
        partial_ = self.ranges and wanted is not None
        if partial_:
            first, last = wanted.removeprefix("bytes=").split("-")
            data = data[int(first) : int(last) + 1]
        self.send_response(206 if partial_ else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hash(path.read_bytes())}"')
        if partial_:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(data) - 1}/{total}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
        return None

    do_HEAD = do_GET


class _NoRanges(_Handler):
    ranges = False


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ThreadingHTTPServer]]:
    """Serve tmp_path on 127.0.0.1: server.url, server.requests."""
    running = []

    def serve(*, ranges: bool = True) -> ThreadingHTTPServer:
        handler = partial(_Handler if ranges else _NoRanges, directory=str(tmp_path))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        server.requests = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield serve
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()
