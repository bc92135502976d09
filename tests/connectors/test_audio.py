"""Sound: facts from the header, bytes for the model."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from aidb_connectors.audio import Audio

from aidb.errors import OperationalError, ProgrammingError
from aidb.spi import ItemFailure, Options, Ref, Scan

av = pytest.importorskip("av")


def tone(path: Path, codec: str, rate: int = 16_000) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * rate), np.int16), format="s16", layout="stereo")
        frame.sample_rate = rate
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "heard"),
    [
        ("a.wav", "pcm_s16le", "pcm_s16le"),
        ("a.mp3", "libmp3lame", "mp3"),
        ("a.flac", "flac", "flac"),
        ("a.m4a", "aac", "aac"),
        ("a.opus", "libopus", "opus"),
    ],
)
def test_facts(tmp_path, rows, name, codec, heard):
    rate = 48_000 if codec == "libopus" else 16_000
    path = tone(tmp_path / name, codec, rate)
    (row,) = rows(Audio(), tmp_path)
    assert (row["file"], row["size"], row["channels"], row["sample_rate"]) == (str(path), path.stat().st_size, 2, rate)
    assert row["duration"] == pytest.approx(1, abs=0.2)
    assert row["codec"] == heard
    (data,) = Audio().read([Ref(**row["audio"])])
    assert data == path.read_bytes()


def test_damaged_files_are_listed_without_facts(tmp_path, rows):
    (tmp_path / "a.wav").write_bytes(b"no sound")
    (tmp_path / "b.wav").touch()
    assert [(r["duration"], r["codec"]) for r in rows(Audio(), tmp_path)] == [(None, None)] * 2
    first, second = Audio().read([Ref(str(tmp_path / f"{x}.wav"), None, "audio", "audio") for x in "ab"])
    assert first == b"no sound"
    assert isinstance(second, ItemFailure)
    assert "empty" in second.message


def test_header_option(tmp_path, rows, monkeypatch):
    with wave.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(b"\0" * 1600)
    assert rows(Audio(), tmp_path)[0]["duration"] == pytest.approx(0.1)
    assert rows(Audio(), tmp_path, header=False)[0]["duration"] is None
    with pytest.raises(ProgrammingError, match="header"):
        Audio().schema(Scan("a.wav", Options({"header": 1})))
    monkeypatch.setitem(sys.modules, "av", None)
    assert rows(Audio(), tmp_path, header=False)[0]["duration"] is None
    with pytest.raises(OperationalError, match=r"pip install 'aidb\[video\]'"):
        Audio().items(Scan(str(tmp_path)))
