"""The contract of a model: say what goes in and what comes out, and answer a batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa

from aidb.spi.options import Options

Form = Literal["any", "image", "encoded", "text", "audio", "value"]
Values: TypeAlias = pa.Array | list[np.ndarray] | list[str] | list[bytes]
"""One input of a batch: plain columns come as an Arrow array, content as a list of decoded items."""
Columns: TypeAlias = Mapping[str, Any] | pa.RecordBatch | pa.Table
"""A model's answer: output name -> a list or an array. With ``rows="many"`` also ``_row`` (see `Model.predict`)."""


class ItemError(Exception):
    """Raised by a model on a batch that holds a bad item: the engine splits the batch until the item stands alone."""


class ServiceError(Exception):
    """The service as a whole is down or misbehaves. ``retry``: may another attempt help? ``after``: in how many seconds?"""

    def __init__(self, message: str, *, retry: bool = True, after: float | None = None) -> None:
        super().__init__(message)
        self.retry, self.after = retry, after


class OutOfMemory(Exception):
    """The batch was too large for the device: the engine halves it. (MemoryError and torch's own are understood too.)"""


@dataclass(frozen=True)
class Input:
    """One argument of a model.

    form: ``image`` RGB ``uint8 [H, W, 3]``; ``encoded`` the file's bytes; ``text`` str; ``audio`` bytes; ``value`` a
        plain column; ``any`` whatever the column holds (content is decoded to its media's own form).
    type: DuckDB type that a plain column is cast to, or None to pass it as it is.
    """

    name: str
    form: Form = "any"
    type: str | None = None


@dataclass(frozen=True)
class Output:
    """One column that a model produces, with its DuckDB type."""

    name: str
    type: str


@dataclass(frozen=True)
class ModelSpec:
    """What the engine must know before a model runs. Making it must not load weights onto a device.

    inputs: in call order; a model that takes any number of further plain columns ends with ``variadic=True``.
    rows: ``one`` output row an input row, in order, or ``many`` (0..n).
    fingerprint: changes whenever the answers may: provider, options that matter, hash of weights or code, version.
        Device, batch size and price don't belong to it.
    batch_size: preferred items a call; None lets the engine choose. max_batch: hard upper limit.
    concurrency: how many threads may call `predict` at once: 1 unless it is safe and gains something, as for a remote
        service, or a network on a CPU whose calls use one processor each.
    seconds_per_item: rough cost before anything was measured; only the planner's order depends on it.
    price_per_call: money an item.
    sequential: the model keeps state along a source (a tracker): it sees all items of one file, in order, in a row,
        and its rows are stored a file at a time. `Model.predict` gets ``restart=True`` with a file's first batch.
        A call that raises leaves the state as it was: the same items come again, in smaller batches.
    retries, backoff: attempts after a retryable failure, and the first pause in seconds (doubled each time, jittered).
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    rows: Literal["one", "many"]
    fingerprint: str
    variadic: bool = False
    batch_size: int | None = None
    max_batch: int | None = None
    concurrency: int = 1
    seconds_per_item: float = 0.01
    price_per_call: float = 0.0
    device: str = "cpu"
    sequential: bool = False
    retries: int = 0
    backoff: float = 0.5


@runtime_checkable
class Model(Protocol):
    """A registered model. The engine owns batching, retries, concurrency, caching and validation.

    A model whose answers may change while it is in use (a service that is updated) raises a `ServiceError` for an answer
    that is not of the version in its fingerprint, and has from then on an attribute ``outdated`` that is true: the
    engine makes it anew for the next query, which finds the earlier answers stale.
    """

    @property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`; cheap, since it is asked for around every batch.

        The fingerprint changes when the object is told to answer otherwise (to load other weights, say): a batch that
        was under way then is not stored, the statement ends, and the next one finds the earlier answers stale.
        """
        ...

    def load(self) -> None:
        """Get ready (weights onto the device, a connection pool); called once, before the first `predict`."""
        ...

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch: ``inputs`` has one entry for each argument, all of one length n >= 1.

        ``rows="one"``: every column has length n, in order; None where there is no answer for an item.
        ``rows="many"``: any length, and an integer column ``_row`` that says which item (0-based in the batch) each
        row belongs to; the order of rows within an item is kept and numbered.
        """
        ...

    def close(self) -> None:
        """Let go of device memory and connections."""
        ...


class Provider(Protocol):
    """What an entry point of ``aidb.models`` names: makes a model of the options after ``CREATE MODEL ... WITH``."""

    def __call__(self, name: str, options: Options) -> Model:
        """Build the model; raises `aidb.errors.ProgrammingError` for wrong options, naming them."""
        ...


def fingerprint(*parts: object) -> str:
    """A short stable digest of JSON-able values; bytes are hashed.

    >>> fingerprint("onnx", {"size": 640}) == fingerprint("onnx", {"size": 640})
    True
    """
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode())
        h.update(b"\0")
    return h.hexdigest()[:24]
