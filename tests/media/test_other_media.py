"""Photographs, texts, a table of metadata and sounds: each by a model of its kind, all in one database."""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aidb
from tests.media.questions import NETWORKS
from tests.media.reference import COCO, yolov8

REVIEWS = """id,place,body
1,crossing,"Lovely quiet corner, good coffee"
2,crossing,"Awful traffic, bad smell"
3,station,"It is a station."
4,station,"Good trains, lovely staff, awful toilets"
5,harbour,
"""
GOOD, BAD = {"good", "lovely"}, {"bad", "awful"}


def tone(text: str) -> int:
    words = re.findall(r"\w+", text.lower())
    return sum(w in GOOD for w in words) - sum(w in BAD for w in words)


@pytest.fixture
def con() -> aidb.Connection:
    return aidb.connect()


def test_photographs_that_travel_with_ultralytics(con: aidb.Connection, weights: Path, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or spec.origin is None:
        pytest.skip("ultralytics, which brings the photographs, is not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("bus.jpg", "zidane.jpg"):
        shutil.copy(Path(spec.origin).parent / "assets" / name, photos / name)
    con.execute(f"CREATE BLOB TABLE photos FROM '{photos}'")
    con.execute(f"CREATE MODEL yolo USING onnx WITH (weights = '{weights / NETWORKS['yolov8'].weights}')")
    con.execute("CREATE VIRTUAL TABLE box AS yolo(photos.image)")
    cursor = con.execute(
        "SELECT parse_filename(file), label, count(*) FROM photos JOIN box USING (image_id)"
        " WHERE confidence > 0.5 GROUP BY ALL ORDER BY ALL"
    )
    detect = yolov8(weights / NETWORKS["yolov8"].weights)
    expected: dict[tuple[str, str], int] = {}
    for file in sorted(photos.iterdir()):
        for class_id, confidence, *_ in detect(np.array(Image.open(file).convert("RGB"))):
            if confidence > 0.5:
                key = file.name, COCO[class_id]
                expected[key] = expected.get(key, 0) + 1
    assert cursor.fetchall() == sorted((*key, n) for key, n in expected.items())
    assert expected["bus.jpg", "bus"] == 1
    assert expected["bus.jpg", "person"] >= 3
    assert expected["zidane.jpg", "person"] == 2
    assert cursor.report.calls == {"yolo": 2}
    (picture,) = con.execute("SELECT image FROM photos WHERE file LIKE '%bus.jpg'").fetchone() or ()
    assert picture.array().shape == np.array(Image.open(photos / "bus.jpg")).shape


def test_texts_with_a_function_joined_to_a_table(con: aidb.Connection, tmp_path: Path) -> None:
    asked: list[str] = []

    @aidb.model(outputs={"tone": "INTEGER"})
    def mood(body: object) -> dict[str, list[int | None]]:
        texts = body.to_pylist()  # type: ignore[attr-defined]
        asked.extend(t for t in texts if t is not None)
        return {"tone": [None if t is None else tone(t) for t in texts]}

    con.register(mood)
    (tmp_path / "reviews.csv").write_text(REVIEWS)
    (tmp_path / "places.csv").write_text("place,city\ncrossing,Ulm\nstation,Ulm\nharbour,Kiel\n")
    con.execute(f"CREATE BLOB TABLE reviews AS SELECT * FROM '{tmp_path / 'reviews.csv'}' KEY (id)")
    con.execute("ALTER TABLE reviews ADD VIRTUAL COLUMN tone AS mood(body)")
    query = (
        f"SELECT p.city, r.place, sum(tone) FROM reviews r JOIN '{tmp_path / 'places.csv'}' p ON p.place = r.place"
        " WHERE p.city = 'Ulm' GROUP BY ALL ORDER BY ALL"
    )
    cursor = con.execute(query)
    assert cursor.fetchall() == [("Ulm", "crossing", 0), ("Ulm", "station", 1)]
    assert cursor.report.calls == {"mood": 4}
    assert len(asked) == 4
    assert con.execute(query).report.calls == {"mood": 0}
    assert con.execute("SELECT tone FROM reviews WHERE id = 5").fetchall() == [(None,)]


def test_text_files_of_a_folder(con: aidb.Connection, tmp_path: Path) -> None:
    @aidb.model(inputs={"text": "text"}, outputs={"words": "INTEGER", "tone": "INTEGER"})
    def read(texts: list[str]) -> dict[str, list[int]]:
        return {"words": [len(t.split()) for t in texts], "tone": [tone(t) for t in texts]}

    con.register(read)
    for name, text in (("a.txt", "Good morning, good night"), ("b.md", "# Awful\nbad"), ("ü c.txt", "Schön")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    con.execute(f"CREATE BLOB TABLE docs FROM '{tmp_path}/*'")
    con.execute("CREATE VIRTUAL TABLE facts AS read(docs.text)")
    cursor = con.execute("SELECT parse_filename(file), words, tone FROM docs JOIN facts USING (doc_id) ORDER BY ALL")
    assert cursor.fetchall() == [("a.txt", 4, 2), ("b.md", 3, -2), ("ü c.txt", 1, 0)]
    assert cursor.report.calls == {"read": 3}


def test_sounds_are_listed_with_what_their_files_say(con: aidb.Connection, tmp_path: Path) -> None:
    for n, (seconds, rate, channels) in enumerate([(0.5, 8000, 1), (1.25, 16000, 2)]):
        with wave.open(str(tmp_path / f"{n}.wav"), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            for i in range(int(seconds * rate)):
                file.writeframes(struct.pack("<h", int(9000 * math.sin(i * 0.2))) * channels)
    con.execute(f"CREATE BLOB TABLE sounds FROM '{tmp_path}/*.wav'")
    names = [name for name, *_ in con.execute("SELECT * FROM sounds").description or ()]
    assert {"file", "duration", "sample_rate", "channels"} <= set(names)
    rows = con.execute("SELECT parse_filename(file), duration, sample_rate, channels FROM sounds ORDER BY ALL")
    assert rows.fetchall() == [("0.wav", 0.5, 8000, 1), ("1.wav", 1.25, 16000, 2)]
