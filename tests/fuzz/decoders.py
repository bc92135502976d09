"""Damaged files of every kind: listing and decoding them costs those items, and never the process, its time or its memory.

    python -m tests.fuzz.decoders --minutes 15 --seed 1 [--kind videos]

Files are small real ones, damaged at random. A worker process looks at them, so that a crash of a native decoder is found
and told: the case that was being looked at. ``--case`` looks at one again.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import queue
import signal
import sys
import tempfile
import time
import traceback
import warnings
import wave
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from aidb.errors import DataError, SourceError
from aidb.spi import Connector, ItemFailure, Options, Ref, Scan

ITEMS = 60
"""So many items of a file are decoded, at most: damage can make a file promise millions."""
SECONDS = 20.0
"""Processor time after which a case counts as one that hangs."""
KINDS = ("images", "videos", "texts", "sounds")


# ---- real small files


@cache
def originals(kind: str) -> dict[str, bytes]:
    """Name -> bytes."""
    return {"images": _images, "videos": _videos, "texts": _texts, "sounds": _sounds}[kind]()


def _images() -> dict[str, bytes]:
    from PIL import Image

    rgb = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    picture = Image.fromarray(rgb)
    turned = Image.Exif()
    turned[0x0112] = 6
    found: dict[str, bytes] = {}
    for name, image, options in (
        ("a.jpg", picture, {"exif": turned}),
        ("b.jpg", picture, {"progressive": True}),
        ("c.jpg", picture.convert("CMYK"), {}),
        ("a.png", picture, {}),
        ("b.png", picture.convert("P"), {"transparency": 3}),
        ("c.png", Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), {}),
        ("a.gif", picture.convert("P"), {"save_all": True, "append_images": [picture.rotate(90).convert("P")]}),
        ("a.bmp", picture, {}),
        ("a.webp", picture, {}),
        ("b.webp", picture.convert("RGBA"), {"lossless": True}),
        ("a.tif", picture, {"compression": "tiff_lzw", "exif": turned}),
        ("b.tif", picture, {"compression": "tiff_adobe_deflate"}),
        ("c.tif", picture.convert("1"), {"compression": "group4"}),
        ("d.tif", picture, {"compression": "jpeg"}),
        ("a.ppm", picture, {}),
        ("a.jp2", picture, {}),
        ("a.avif", picture, {}),
    ):
        out = io.BytesIO()
        try:
            image.save(
                out,
                Path(name).suffix[1:].replace("jpg", "jpeg").replace("tif", "tiff").replace("jp2", "jpeg2000"),
                **options,
            )
        except (KeyError, OSError, ValueError):
            continue  # this build of Pillow lacks it
        found[name] = out.getvalue()
    return found


def _videos() -> dict[str, bytes]:
    import av

    found: dict[str, bytes] = {}
    for name, codec, options in (
        ("a.mp4", "libx264", {}),
        ("b.mp4", "mpeg4", {"bf": "2"}),
        ("a.mkv", "libvpx-vp9", {"cpu-used": "8"}),
        ("a.webm", "libvpx", {}),
        ("a.avi", "mpeg4", {}),
        ("a.ts", "mpeg2video", {}),
        ("a.mpg", "mpeg1video", {}),
        ("a.flv", "flv", {}),
        ("a.wmv", "wmv2", {}),
        ("a.gif", "gif", {}),
        ("a.mjpeg", "mjpeg", {}),
        ("a.h264", "libx264", {}),
    ):
        out = io.BytesIO()
        pixels = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        form = {"mkv": "matroska", "ts": "mpegts", "mpg": "mpeg", "wmv": "asf"}.get(name[2:], name[2:])
        try:
            with av.open(out, "w", format=form) as container:
                stream = container.add_stream(codec, rate=25, options=options)
                stream.width, stream.height, stream.pix_fmt = 32, 32, pixels
                stream.codec_context.gop_size, stream.codec_context.thread_count = 4, 1
                for i in range(10):
                    rgb = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
                container.mux(stream.encode())
        except (av.FFmpegError, ValueError):
            continue  # this build of FFmpeg lacks it
        found[name] = out.getvalue()
    return found


def _texts() -> dict[str, bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = "Ein kleiner Text, mit Umlauten: äöü. 語 🚌\nzweite Zeile\r\n"
    rows = pa.table({"id": [1, 2, 3], "body": ["a", None, 'ü, "x"'], "n": [1.5, 2.5, None]})
    parquet = io.BytesIO()
    pq.write_table(rows, parquet)
    return {
        "a.txt": text.encode(), "b.txt": text.encode("utf-16"), "c.md": "äöü".encode("cp1252"), "d.txt": b"",
        "e.rst": b"\xff" * 40,
        "a.csv": b'id,body,n\n1,a,1.5\n2,,2.5\n3,"\xc3\xbc, ""x""",\n', "b.tsv": b"id\tbody\n1\ta\n",
        "a.jsonl": b'{"id": 1, "body": "a"}\n{"id": 2, "body": null, "more": [1, {"x": 2}]}\n', "a.parquet": parquet.getvalue(),
    }  # fmt: skip


def _sounds() -> dict[str, bytes]:
    import av

    tone = (np.sin(np.arange(4000) / 10) * 8000).astype(np.int16)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(tone.tobytes())
    found = {"a.wav": out.getvalue()}
    for name, form, codec in (
        ("a.flac", "flac", "flac"),
        ("a.mp3", "mp3", "libmp3lame"),
        ("a.ogg", "ogg", "libvorbis"),
        ("a.m4a", "mp4", "aac"),
    ):
        out = io.BytesIO()
        try:
            with av.open(out, "w", format=form) as container:
                stream = container.add_stream(codec, rate=8000)
                frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
                frame.sample_rate = 8000
                resampled = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=8000).resample(
                    frame
                )
                for part in resampled:
                    container.mux(stream.encode(part))
                container.mux(stream.encode())
        except (av.FFmpegError, ValueError):
            continue
        found[name] = out.getvalue()
    return found


# ---- damage


def make(kind: str, rng: Random) -> tuple[str, bytes]:
    """A file's name, and its bytes after some damage."""
    name, data = rng.choice(sorted(originals(kind).items()))
    for _ in range(rng.choice((0, 1, 1, 2, 4, 16, 64))):
        data = damaged(data, rng, kind)
    if rng.random() < 0.05:
        name = rng.choice(sorted(originals(kind)))  # under a wrong name
    return name, data


def damaged(data: bytes, rng: Random, kind: str) -> bytes:
    """The bytes with one change."""
    if not data:
        return rng.randbytes(rng.randrange(40))
    # What matters most often stands at the beginning.
    at = rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 256))
    match rng.randrange(9):
        case 0:
            return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        case 1:
            return data[:at] + rng.randbytes(rng.choice((1, 4, 40))) + data[at + 1 :]
        case 2:
            return data[: max(1, at)]
        case 3:
            return data[:at] + data[at + rng.choice((1, 2, 8, 100)) :]
        case 4:
            extreme = rng.choice(
                (
                    b"\xff\xff\xff\xff",
                    b"\x00\x00\x00\x00",
                    b"\x7f\xff\xff\xff",
                    b"\xff\xff\xff\x7f",
                    b"\x80\x00\x00\x00",
                )
            )
            return data[:at] + extreme + data[at + 4 :]
        case 5:
            return data[:at] + bytes(rng.choice((16, 300))) + data[at + 16 :]
        case 6:
            end = at + rng.randrange(1, 200)
            return data[:at] + data[at:end] * rng.choice((2, 20)) + data[end:]
        case 7:
            other = originals(kind)[rng.choice(sorted(originals(kind)))]
            cut = rng.randrange(len(other) + 1)
            return data[:at] + other[cut : cut + rng.choice((8, 100, 10_000))]
        case _:
            return data[:at] + rng.choice((b"\r\n", b"\x00", b"'", b'"', b"{", b"\xef\xbb\xbf", b"9" * 400)) + data[at:]


# ---- looking


@cache
def connector(kind: str) -> Connector:
    from aidb_connectors.audio import Audio
    from aidb_connectors.images import Images
    from aidb_connectors.text import Text
    from aidb_connectors.video import Video

    made: dict[str, Callable[[], Any]] = {"images": Images, "videos": Video, "texts": Text, "sounds": Audio}
    found: Connector = made[kind]()
    return found


def check(kind: str, name: str, data: bytes, folder: Path) -> str | None:
    """What is wrong with how a file is listed and read, or None. Damaged tables can't be listed, and say so."""
    path = folder / f"x{Path(name).suffix}"
    path.write_bytes(data)
    source = connector(kind)
    scan = Scan(str(path), Options({}, source.name))
    try:
        content = source.schema(scan).content
        batches = list(islice(source.items(scan), ITEMS))
    except (SourceError, DataError) as e:
        return None if path.name in str(e) else f"an error that does not name the file: {e}"
    rows = [row for batch in batches for row in batch.to_pylist()][:ITEMS]
    if content is None:
        return None
    if not rows:
        return "a file without an item"
    refs = [Ref(**row[content]) for row in rows]
    for encoded in (False, True):
        read = list(source.read(refs, encoded=encoded))
        if len(read) != len(refs):
            return f"{len(refs)} items were asked for, {len(read)} came"
        for item in read:
            if isinstance(item, ItemFailure):
                if not item.message or len(item.message) > 2000:
                    return f"a failure of {len(item.message)} characters"
            elif isinstance(item, np.ndarray):
                if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3:
                    return f"an array of {item.dtype}, {item.shape}"
            elif not isinstance(item, bytes | str):
                return f"a {type(item).__name__}"
    return None


def case(kind: str, number: str) -> tuple[str, bytes]:
    return make(kind, Random(f"{kind} {number}"))


def problem_of(kind: str, name: str, data: bytes, folder: Path) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return check(kind, name, data, folder)
    except Exception as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        return f"{type(e).__name__} at {Path(last.filename).name}:{last.lineno}: {str(e)[:200]}"


def _work(kinds: list[str], seed: int, start: int, said: Any) -> None:
    """In a process of its own: cases from a number on, each announced before it is looked at."""
    import resource

    handles = Path("/proc/self/fd")
    with tempfile.TemporaryDirectory() as folder:
        n = start
        while True:
            kind, number = kinds[n % len(kinds)], f"{seed}-{n}"
            said.put(("begins", n, kind, number))
            began = time.process_time()
            problem = problem_of(kind, *case(kind, number), Path(folder))
            took = time.process_time() - began
            said.put(("ended", n, problem, took))
            if n % 200 == 0:
                pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
                open_ = len(os.listdir(handles)) if handles.exists() else 0
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                said.put(("holds", n, pages * 4096 / 2**20, (open_, peak)))
            n += 1


def run(kinds: list[str], minutes: float, seed: int) -> int:
    """Look at cases until the time is over; how many problems there were."""
    context = multiprocessing.get_context("spawn")
    until, n, problems, slowest = time.monotonic() + 60 * minutes, 0, {}, (0.0, "")  # type: ignore[var-annotated]
    while time.monotonic() < until:
        said = context.Queue()
        worker = context.Process(target=_work, args=(kinds, seed, n, said), daemon=True)
        worker.start()
        now, since = ("", ""), time.monotonic()
        while time.monotonic() < until:
            try:
                word, n, *what = said.get(timeout=1)
            except queue.Empty:
                if not worker.is_alive():
                    problems.setdefault(f"the process ended ({worker.exitcode})", f"{now}")
                    print(f"case {now}: the process ended ({worker.exitcode})", flush=True)
                    break
                if time.monotonic() - since > 10 * SECONDS:
                    problems.setdefault("hangs", f"{now}")
                    print(f"case {now}: hangs", flush=True)
                    assert worker.pid is not None
                    os.kill(worker.pid, signal.SIGKILL)
                    break
                continue
            since = time.monotonic()
            if word == "begins":
                now = (what[0], what[1])
            elif word == "ended":
                problem, took = what
                slowest = max(slowest, (took, f"{now}"))
                if took > SECONDS:
                    problem = problem or f"takes long: {took:.0f} s CPU"
                if problem is not None and (key := problem.split(": ")[0][:100]) not in problems:
                    problems[key] = f"{now}"
                    print(f"case {now}: {problem}", flush=True)
            elif n % 2000 == 0:
                print(f"  {n:,} cases: {what[0]:.0f} MB, {what[1][0]} handles, peak {what[1][1]:.0f} MB", flush=True)
        n += 1
        worker.kill()
        worker.join()
    print(f"{n:,} cases, the slowest {slowest[0]:.2f} s CPU ({slowest[1]}); {len(problems)} problems")
    return len(problems)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.decoders", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    parser.add_argument("--case", nargs=2, metavar=("KIND", "SEED-N"), help="only this one")
    given = parser.parse_args()
    if given.case:
        kind, number = given.case
        name, data = case(kind, number)
        with tempfile.TemporaryDirectory() as folder:
            print(name, len(data), data[:80], problem_of(kind, name, data, Path(folder)) or "is well")
        return 0
    return 1 if run(given.kind, given.minutes, given.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
