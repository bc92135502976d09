"""What a server between the engine and a model costs: the same query in process and over HTTP, in turn.

Frames of a video go to a model that takes 20 ms an item: one that waits so long, as for a GPU, and one that computes so
long, which shares the processors with everything else. Exact pixels travel, 1 MB a frame.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import aidb
from benchmarks._measure import Figure, apart, command, in_turn, median, ratio

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 0.02


@aidb.model(inputs={"picture": "image"}, outputs={"bright": "DOUBLE"}, version="1", batch_size=16)
def waits(picture: list[np.ndarray]) -> list[float]:
    """20 ms an item without a processor."""
    time.sleep(SECONDS * len(picture))
    return [float(p[0, 0, 0]) for p in picture]


@aidb.model(inputs={"picture": "image"}, outputs={"bright": "DOUBLE"}, version="1", batch_size=16)
def computes(picture: list[np.ndarray]) -> list[float]:
    """20 ms an item of one processor's time."""
    found = []
    for p in picture:
        until = time.thread_time() + SECONDS
        while time.thread_time() < until:
            value = float(np.sort(p[:64, :64].ravel())[100])
        found.append(value)
    return found


def run(quick: bool = False) -> Iterator[Figure]:
    """Throughput over HTTP against that in process; the bar is for the model that waits."""
    yield from apart(_measure, 96 if quick else 480, 2 if quick else 5)


def _measure(frames: int, repeats: int) -> list[Figure]:
    from aidb.surfaces.demo import street

    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "street.mp4"
        street.draw(clip, frames=frames)
        functions = [f"--function={m.name}=benchmarks.serving:{m.name}" for m in (waits, computes)]
        arguments = [sys.executable, "-m", "aidb", "serve-models", *functions, "--port", "0"]
        server = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            url = _ready(server)
            for model, bar in ((waits, 0.9), (computes, None)):
                turns = in_turn(
                    repeats,
                    here=lambda m=model: _query(clip, frames, m, None),
                    there=lambda m=model: _query(clip, frames, m, url),
                )
                case = f"{model.name} {1000 * SECONDS:g} ms an item, {frames} frames"
                found += [
                    Figure("serving", case, "in process, items a second", frames / median(turns["here"]), "/s"),
                    Figure("serving", case, "over HTTP, items a second", frames / median(turns["there"]), "/s"),
                    Figure(
                        "serving", case, "over HTTP / in process", ratio(turns["here"], turns["there"]), "", None, bar
                    ),
                ]
        finally:
            server.terminate()
            server.communicate()
    return found


def _query(clip: Path, frames: int, model: aidb.functions.FunctionModel, url: str | None) -> None:
    with aidb.connect() as con:
        con.execute(f"CREATE BLOB TABLE frames FROM '{clip}'")
        if url is None:
            con.register(model)
        else:
            con.execute(f"CREATE MODEL {model.name} USING kserve WITH (url = '{url}', batch_size = 16)")
        cur = con.execute(f"SELECT count({model.name}(image)) FROM frames")
        assert cur.fetchall() == [(frames,)]


def _ready(server: subprocess.Popen[str]) -> str:
    """The server's address, once all its models are loaded."""
    assert server.stderr is not None
    url, ready = "", 0
    while ready < 2:
        line = server.stderr.readline()
        assert line, "the server ended"
        if "listening on" in line:
            url = line.split()[-1]
        ready += " is ready " in line
    return url


if __name__ == "__main__":
    sys.exit(command({"serving": run}, __doc__))
