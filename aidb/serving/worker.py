"""A worker: a process with one model on one device. It answers jobs that come through a pipe until the pipe closes.

While one job is with the model the next is received and its pictures decoded, and the last one's answer is written.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
import pyarrow as pa

from aidb.catalog import discover
from aidb.errors import Error
from aidb.exec.control import Control
from aidb.exec.inference import Answer, Inference
from aidb.exec.validate import ROW
from aidb.protocol import columns
from aidb.protocol.tensors import Malformed, Tensor
from aidb.serving.arguments import Decoder, Given, TooLarge, join, read
from aidb.serving.batcher import Answered
from aidb.serving.hosting import host
from aidb.serving.settings import Hosted
from aidb.spi import ModelSpec, ServiceError, Values


@dataclass(frozen=True)
class Ready:
    """The model is loaded. depth: jobs that the worker likes to have at a time."""

    spec: ModelSpec
    size: int
    depth: int


@dataclass(frozen=True)
class Failed:
    """There is no model, and why."""

    message: str


@dataclass(frozen=True)
class Job:
    """Requests of one sort: each its inputs and its number of items."""

    number: int
    requests: tuple[tuple[tuple[Given, ...], int], ...]


@dataclass(frozen=True)
class Done:
    """Answers to a job's requests, in order; seconds that the model took."""

    number: int
    answers: tuple[Answered, ...]
    seconds: float = 0.0


def work(connection: Connection, hosted: Hosted, device: str | None, max_pixels: int) -> None:
    """The process's life: `Ready` or `Failed`, then `Job` in and `Done` out, until None or the end of the pipe."""
    # Ctrl-C goes to every process of a terminal; ours end when the server has no more work for them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        model = host(hosted, device)
        model.load()
    except Exception as e:
        # The model's own code may raise anything; what the server needs is the text.
        connection.send(Failed(str(e) if isinstance(e, Error) else f"{type(e).__name__}: {e}"))
        return
    spec = model.spec
    size = _batch_size(hosted, spec)
    inference = Inference(hosted.name, model, Control())
    inference.bearable = size
    decode = partial(discover.load("aidb.connectors", "images").decode, max_pixels=max_pixels)
    worker = _Worker(connection, inference, decode, size * max_pixels)
    connection.send(Ready(spec, size, spec.concurrency + 1))
    try:
        worker.run()
    finally:
        model.close()


def _batch_size(hosted: Hosted, spec: ModelSpec) -> int:
    size = hosted.max_batch or spec.batch_size or (16 if spec.device == "cpu" else 32)
    return min(size, spec.max_batch or size)


@dataclass
class _Worker:
    """most: pixels of one request's pictures together, as many as a full batch of the largest ones has."""

    connection: Connection
    inference: Inference
    decode: Decoder
    most: int
    sending: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        concurrency = self.inference.spec.concurrency
        self.turn = threading.Semaphore(concurrency)
        with ThreadPoolExecutor(concurrency + 1, "job") as jobs:
            while True:
                try:
                    job = self.connection.recv()
                except EOFError:  # the server is gone
                    return
                if job is None:
                    return
                jobs.submit(self._do, job)

    def _do(self, job: Job) -> None:
        try:
            done = self._answer(job)
        except Exception as e:
            # A bug of ours, or a value that nobody foresaw: the clients must hear of it, and the next job must go on.
            message = f"{type(e).__name__}: {e}"
            done = Done(job.number, tuple(Answered(status=500, message=message) for _ in job.requests))
        with self.sending:
            self.connection.send(done)

    def _answer(self, job: Job) -> Done:
        answers: list[Answered | None] = [None] * len(job.requests)
        good: list[tuple[int, list[Values], int]] = []
        for place, (given, n) in enumerate(job.requests):
            try:
                values, wrong = self._read(given)
            except Malformed as e:
                answers[place] = Answered(status=400, message=str(e))
                continue
            except TooLarge as e:
                answers[place] = Answered(status=413, message=str(e))
                continue
            if wrong:
                answers[place] = _refused(wrong)
            else:
                good.append((place, values, n))
        seconds = 0.0
        if good:
            with self.turn:
                start = time.perf_counter()
                answer = self.inference.answer(join([values for _, values, _ in good]), sum(n for _, _, n in good))
                seconds = time.perf_counter() - start
            first = 0
            for place, _, n in good:
                answers[place] = self._part(answer, first, n)
                first += n
        return Done(job.number, tuple(a for a in answers if a is not None), seconds)

    def _read(self, given: Sequence[Given]) -> tuple[list[Values], dict[int, str]]:
        found: list[Values] = []
        wrong: dict[int, str] = {}
        left = self.most

        def decode(data: bytes) -> np.ndarray:
            nonlocal left
            picture = self.decode(data)
            left -= picture.shape[0] * picture.shape[1]
            if left < 0:
                raise TooLarge(f"the pictures have more than {self.most:,} pixels together: send fewer at a time")
            return picture

        for one in given:
            values, errors = read(one, decode)
            wrong |= errors
            if values is not None:
                found.append(values)
        return found, wrong

    def _part(self, answer: Answer, first: int, n: int) -> Answered:
        """One request's part of a batch's answer."""
        failed = {f.row - first: f.message for f in answer.failures if first <= f.row < first + n}
        if failed:
            return _refused(failed)
        if answer.error is not None and any(first <= i < first + n for i in answer.left):
            cause = answer.error.__cause__
            # What another attempt may cure, or not: in process the query would end then.
            passing = isinstance(cause, ServiceError) and cause.retry
            return Answered(status=503 if passing else 424, message=str(answer.error))
        return Answered(tuple(_tensors(_rows(answer, first, n))))


def _refused(wrong: dict[int, str]) -> Answered:
    shown = "; ".join(f"item {i}: {wrong[i]}" for i in sorted(wrong)[:3])
    more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
    return Answered(status=422, message=shown + more)


def _rows(answer: Answer, first: int, n: int) -> pa.Table:
    """The rows of some neighbouring items; ``_row`` counts from the first of them."""
    table = answer.rows
    if ROW not in table.column_names:
        before = sum(f.row < first for f in answer.failures) + sum(i < first for i in answer.left)
        return table.slice(first - before, n)
    places = table.column(ROW).to_numpy()
    low, high = np.searchsorted(places, [first, first + n])
    at = table.column_names.index(ROW)
    return table.slice(low, high - low).set_column(at, ROW, pa.array(places[low:high] - first, pa.int64()))


def _tensors(table: pa.Table) -> list[Tensor]:
    found: list[Tensor] = []
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        found += columns.to_tensors(name, column)
    return found
