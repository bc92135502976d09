"""Our connectors keep the contract that plugin authors test against."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from aidb_connectors.audio import Audio
from aidb_connectors.images import Images
from aidb_connectors.text import Text
from aidb_connectors.video import Video
from PIL import Image

from aidb.spi import Connector, Ref
from aidb.testing.connectors import ConnectorContract


class TestImages(ConnectorContract):
    def connector(self) -> Connector:
        return Images()

    def source(self, folder: Path) -> str:
        rng = np.random.default_rng(1)
        for i, suffix in enumerate(["png", "jpg", "bmp"]):
            Image.fromarray(rng.integers(0, 256, (8, 9 + i, 3), np.uint8)).save(folder / f"{i}.{suffix}")
        return str(folder)


class TestVideo(ConnectorContract):
    @pytest.fixture(autouse=True)
    def _clips(self, make_clip):
        self.make_clip = make_clip

    def connector(self) -> Connector:
        return Video()

    def source(self, folder: Path) -> str:
        self.make_clip(folder / "a.mp4", frames=24, size=(32, 32))
        self.make_clip(folder / "b.avi", "mpeg4", frames=8, size=(32, 32))
        return str(folder / "*.*")


class TestCountedVideo(TestVideo):
    def source(self, folder: Path) -> str:
        self.make_clip(folder / "x.avi", frames=24, size=(32, 32))
        return str(folder / "x.avi")


class TestDocuments(ConnectorContract):
    def connector(self) -> Connector:
        return Text()

    def source(self, folder: Path) -> str:
        for name in ("a.txt", "b.md", "c d.txt"):
            (folder / name).write_text(f"Straße {name}")
        return str(folder)

    def broken(self, folder: Path) -> Ref:
        return Ref(str(folder / "missing.txt"), None, "text", "text")


class TestTables(ConnectorContract):
    def connector(self) -> Connector:
        return Text()

    def source(self, folder: Path) -> str:
        (folder / "a.csv").write_text("id,body\n1,good\n2,bad\n")
        (folder / "b.jsonl").write_text('{"id": 3, "body": "so so"}\n')
        return str(folder)


class TestAudio(ConnectorContract):
    def connector(self) -> Connector:
        return Audio()

    def source(self, folder: Path) -> str:
        for i in range(3):
            with wave.open(str(folder / f"{i}.wav"), "wb") as out:
                out.setnchannels(1)
                out.setsampwidth(2)
                out.setframerate(8000)
                out.writeframes(b"\0\1" * 800)
        return str(folder)

    def broken(self, folder: Path) -> Ref:
        return Ref(str(folder / "missing.wav"), None, "audio", "audio")
