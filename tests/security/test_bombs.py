"""Small files that would become large: refused as items, before they take the memory."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from aidb_connectors import storage, video_decoder, web
from aidb_connectors.images import Images
from aidb_connectors.text import Text
from aidb_connectors.video import Video
from aidb_models.chat import user_message
from PIL import Image

from aidb.spi import ItemError, ItemFailure, Ref
from tests.security.web import Server, send


def claimed_png(width: int, height: int) -> bytes:
    """A picture of a few bytes that says it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


def message(result: object) -> str:
    assert isinstance(result, ItemFailure)
    return result.message


def picture(uri: str) -> str:
    [result] = Images().read([Ref(uri, None, "image", "images")])
    return message(result)


def text(uri: str) -> str:
    [result] = Text().read([Ref(uri, None, "text", "text")])
    return message(result)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_claims_too_many_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(claimed_png(50_000, 50_000))
    (tmp_path / "b.png").write_bytes(claimed_png(13_000, 13_768))
    assert "pixels" in picture(f"{tmp_path}/a.png")
    assert "178984000 pixels" in picture(f"{tmp_path}/b.png").replace(",", "") or "too many pixels" in picture(
        f"{tmp_path}/b.png"
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_reference_does_not_raise_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(claimed_png(13_000, 13_768))
    assert "pixels" in picture(f"max_pixels=999999999999::{tmp_path}/a.png")


def test_a_frame_of_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av", reason="pip install 'aidb[video]'")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode())
    [frame] = Video().read([Ref(str(path), 0, "image", "video")])
    assert not isinstance(frame, ItemFailure)
    monkeypatch.setattr(video_decoder, "_MAX_PIXELS", 63 * 48)
    [frame] = Video().read([Ref(str(path), 0, "image", "video")])
    assert isinstance(frame, ItemFailure)


def test_packed_content_is_unpacked_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr(storage, "MAX_BYTES", 1 << 20)
    bomb = bytes(2 << 20)
    server.replies["/a.txt"] = lambda handler: send(handler, gzip.compress(bomb), Content_Encoding="gzip")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bomb)
        archive.writestr("b.txt", "fine")
    (tmp_path / "a.txt").write_bytes(bomb)
    for uri in (f"{server.url}/a.txt", f"zip://a.txt::{tmp_path}/a.zip", f"{tmp_path}/a.txt"):
        assert "more than 1 MiB" in text(uri), uri
    assert list(Text().read([Ref(f"zip://b.txt::{tmp_path}/a.zip", None, "text", "text")])) == ["fine"]


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A device never ends, and a pipe that nobody writes never begins."""
    os.mkfifo(tmp_path / "pipe")
    for uri in ("/dev/zero", f"{tmp_path}/pipe"):
        assert "not a regular file" in text(uri)
        assert "not a regular file" in picture(uri)


def test_addresses_are_the_servers_alone(server: Server) -> None:
    """A password in an address is in no message."""
    port = server.server.server_port
    server.server.server_close()
    said = text(f"http://me:planted-password@127.0.0.1:{port}/a.txt")
    assert "127.0.0.1" in said
    assert "planted-password" not in said
    assert web.addresses("localhost")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(owned) (w) file closefile\n%%EOF\n"


def test_no_picture_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand PostScript to Ghostscript: neither a connector nor a model that sends files lets it."""
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **_: started.append(args))
    (tmp_path / "a.png").write_bytes(EPS)
    assert "not an image of a known format" in picture(f"{tmp_path}/a.png")
    with pytest.raises(ItemError, match="can't be sent"):
        user_message("What is it?", {"image": EPS})
    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, "BMP")
    assert "data:image/png;base64" in str(user_message("What is it?", {"image": out.getvalue()}))
    assert started == []
