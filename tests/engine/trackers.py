"""Films that never were, and a model that must see them from their beginning to their end."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from aidb.spi import CONTENT_TYPE, BlobSchema, Decoded, Input, ItemFailure, ModelSpec, Output, Ref, Scan
from aidb.spi.content import CONTENT_SQL


class Films:
    """A connector: each film is so many frames of one pixel, which shows the number of the frame."""

    name = "films"
    extensions: frozenset[str] = frozenset()
    priority = 0

    def __init__(self, films: Mapping[str, int], *, broken: Sequence[tuple[str, int]] = ()) -> None:
        self.films, self.broken = films, set(broken)
        self.reads: list[tuple[str, int]] = []

    def claims(self, source: str) -> int:
        return len(self.films) if source.startswith("films:") else 0

    def schema(self, scan: Scan) -> BlobSchema:
        columns = (("file", "VARCHAR"), ("pts", "BIGINT"), ("frame", CONTENT_SQL))
        return BlobSchema("frame_id", columns, identity=("file", "pts"), content="frame")

    def items(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        for film, n in self.films.items():
            uri = f"films:{film}"
            refs = [{"uri": uri, "pos": i, "media": "image", "connector": "films"} for i in range(n)]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array([film] * n),
                    pa.array(range(n), pa.int64()),
                    pa.array(refs, CONTENT_TYPE),
                    pa.array([f"{uri}#{i}" for i in range(n)]),
                ],
                names=["file", "pts", "frame", "content_id"],
            )

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        for ref in refs:
            film, at = ref.uri.removeprefix("films:"), int(ref.pos or 0)
            self.reads.append((film, at))
            if (film, at) in self.broken:
                yield ItemFailure(f"{ref.uri}: frame {at} is damaged")
            else:
                yield np.full((1, 1, 3), at, np.uint8)


class Counter:
    """A tracker of sorts: numbers the frames it sees since it was told to begin anew, and notes what it was shown."""

    def __init__(self, name: str, *, batch_size: int = 4, gate: Any = None, fail_on: Any = None) -> None:
        self.name, self.gate, self.fail_on = name, gate, fail_on
        self.spec = ModelSpec(
            (Input("frame", "image"),),
            (Output("n", "BIGINT"), Output("shown", "BIGINT")),
            "one",
            f"counter-{name}",
            batch_size=batch_size,
            sequential=True,
        )
        self.films: list[list[int]] = []
        self.entered = threading.Event()

    def load(self) -> None:
        pass

    def close(self) -> None:
        pass

    def predict(self, inputs: Sequence[Any], *, restart: bool = False) -> dict[str, list[int]]:
        frames = [int(picture[0, 0, 0]) for picture in inputs[0]]
        if self.fail_on is not None:
            self.fail_on(frames)
        if restart:
            self.films.append([])
        before = len(self.films[-1])
        self.films[-1] += frames
        if self.gate is not None:
            self.entered.set()
            self.gate.wait()
        return {"n": list(range(before, before + len(frames))), "shown": frames}
