"""What runs on a worker: its own models and connectors, and the pipeline that runs everywhere.

A chunk is a run of its own, `aidb.exec.pipeline.Pipeline` over its rows, whose answers are sent instead of stored.
While one chunk is with the model the next one is being read; a gate lets no more calls through than the model bears.
"""

from __future__ import annotations

import os
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from queue import SimpleQueue

import pyarrow as pa

from aidb.errors import Error, InternalError, Interrupted, ModelError, OperationalError
from aidb.exec.batches import Job, Outcome
from aidb.exec.control import Control, Limits
from aidb.exec.distributed.task import Answers, Done, Order, Refused, Task
from aidb.exec.inference import Inference
from aidb.exec.materialiser import Connectors
from aidb.exec.models import ModelPool
from aidb.exec.pipeline import Pipeline
from aidb.spi import Columns, Connector, Decoded, ItemFailure, Model, ModelSpec, Ref
from aidb.spi.model import Values
from aidb.storage.answers import AnsweredBatch


class RemoteWorker:
    """Lives in a process of its own and works for one run at a time. Calls of `answer` and `stop` may overlap."""

    def __init__(self) -> None:
        self._pool = ModelPool()
        self._tokens: dict[str, str] = {}
        self._fingerprints: dict[str, str] = {}
        self._bearable: dict[str, int] = {}
        self._gates: dict[str, threading.Semaphore] = {}
        self._registered: Mapping[str, bytes | str] = {}
        self._connectors = Connectors()
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._running: dict[int, Control] = {}
        self._stopping = False

    def where(self) -> str:
        """Machine and process."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def begin(self, task: Task, *payloads: bytes | None) -> Error | None:
        """Get ready for a run, with the pickled models that it needs; what went wrong, if anything did."""
        with self._lock:
            self._stopping, self._task = False, task
            os.environ.update(task.environment)
            try:
                if task.connectors != self._registered:
                    self._connectors, self._registered = _connectors(task.connectors), task.connectors
                for order, payload in zip(task.orders, payloads, strict=True):
                    try:
                        self._prepare(order, payload)
                    except Error as e:
                        return ModelError(f"on the Ray worker {self.where()}: {e}", order.definition.name)
            except Error as e:
                return e
        return None

    def _prepare(self, order: Order, payload: bytes | None) -> None:
        definition, name = order.definition, order.definition.name
        if self._tokens.get(name.lower()) != order.token:
            self._tokens.pop(name.lower(), None)
            self._bearable.pop(name.lower(), None)
            self._pool.forget(name)
            if payload is not None:
                self._pool.put(name, _unpickled(payload, f"model {name}"))
            spec = self._pool.get(definition).spec
            if not order.pickled and spec.fingerprint != definition.fingerprint:
                self._pool.forget(name)
                raise ModelError(
                    f"model {name} is another one there than here: its weights or its code differ; both need the same "
                    "files and the same versions",
                    name,
                )
            self._fingerprints[name.lower()] = spec.fingerprint
        model = self._pool.loaded(definition)
        self._tokens[name.lower()] = order.token
        self._gates[name.lower()] = threading.Semaphore(1 if model.spec.sequential else max(1, model.spec.concurrency))

    def answer(
        self, task_id: str, table: pa.Table, files: Mapping[str | None, int], refused: Refused
    ) -> Iterator[Answers | Done]:
        """Work through the rows of a chunk; answers come as they are had, then `Done`."""
        task = self._task
        if task is None or task.id != task_id:  # one that was over before it was begun may have come in between
            yield Done({}, OperationalError("a Ray worker was told of two runs at once; run the query again"))
            return
        control = Control(Limits(on_error=task.on_error, max_error_ratio=1.0))
        with self._lock:
            self._running[id(control)] = control
            if self._stopping:
                control.interrupt()
        jobs = []
        for fill, inputs, order in zip(task.fills, task.inputs, task.orders, strict=True):
            low = order.definition.name.lower()
            model = _Gated(self._pool.get(order.definition), self._gates[low])
            inference = Inference(order.definition.name, model, control, self._fingerprints[low])
            inference.bearable = self._bearable.get(low)
            jobs.append(Job(fill, inference, inputs, task.batch_size, files))
            control.expected[inference.name] = 1 << 60  # others' chunks come after this one: its end is not the end
        sent: SimpleQueue[Answers | Done] = SimpleQueue()
        pipeline = _Pipeline(
            jobs,
            _Given(table),
            lambda name: _allowed(self._connectors.get(name), refused),
            _Sent(sent),
            control,
            task.memory_limit,
        )
        threading.Thread(target=self._run, args=(pipeline, jobs, sent), daemon=True).start()
        while True:
            message = sent.get()
            yield message
            if isinstance(message, Done):
                return

    def _run(self, pipeline: Pipeline, jobs: Sequence[Job], sent: SimpleQueue[Answers | Done]) -> None:
        error: Error | None = None
        try:
            pipeline.run()
        except Error as e:
            error = e
        except BaseException as e:
            error = InternalError(f"{type(e).__name__} on a Ray worker: {e}\n{traceback.format_exc()}")
        for thread in pipeline.lingering():
            thread.wait()
        outdated = []
        with self._lock:
            del self._running[id(pipeline.control)]
            for job in jobs:
                low = job.inference.name.lower()
                if job.inference.bearable is not None:
                    self._bearable[low] = min(job.inference.bearable, self._bearable.get(low, 1 << 30))
                if self._pool.drop_outdated(low):
                    outdated.append(job.inference.name)
                    self._tokens.pop(low, None)
                elif job.inference.model.spec.fingerprint != self._fingerprints[low]:
                    self._tokens.pop(low, None)  # it was told so here; the process that asks has it as it was
        sent.put(Done(dict(pipeline.control.calls), _portable(error), tuple(outdated)))

    def stop(self) -> None:
        """Let batches in flight end, begin no others until the next `begin`."""
        with self._lock:
            self._stopping = True
            for control in self._running.values():
                control.interrupt()

    def close(self) -> None:
        """Let go of all models."""
        self._pool.close()


class _Pipeline(Pipeline):
    """What a batch took is told without its wait for the gate, where it stood behind another chunk."""

    def _stored(self, job: Job, told: Outcome, started: datetime, seconds: float) -> AnsweredBatch:
        model = job.inference.model
        waited = model.forget_waiting() if isinstance(model, _Gated) else 0.0
        return super()._stored(job, told, started, max(0.0, seconds - waited))


class _Given:
    """The rows of a chunk; see `aidb.exec.run.Rows`."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._table.to_batches())

    def interrupt(self) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to close."""


class _Sent:
    """A place for answers that sends them on; see `aidb.exec.run.Store`."""

    def __init__(self, queue: SimpleQueue[Answers | Done]) -> None:
        self._queue = queue

    def write(self, batches: Sequence[AnsweredBatch]) -> None:
        """Send several batches together."""
        self._queue.put(Answers(tuple(batches)))


class _Gated:
    """A model that lets only so many callers in; chunks that overlap share it."""

    def __init__(self, model: Model, gate: threading.Semaphore) -> None:
        self._model, self._gate = model, gate
        self._waited = threading.local()

    @property
    def spec(self) -> ModelSpec:
        """The model's."""
        return self._model.spec

    def load(self) -> None:
        """It is loaded."""

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """As the model does, when it is free."""
        began = time.perf_counter()
        with self._gate:
            self._waited.seconds = getattr(self._waited, "seconds", 0.0) + time.perf_counter() - began
            return self._model.predict(inputs, restart=restart)

    def forget_waiting(self) -> float:
        """Seconds that this thread has waited since it asked for them last."""
        seconds: float = getattr(self._waited, "seconds", 0.0)
        self._waited.seconds = 0.0
        return seconds

    def close(self) -> None:
        """The worker closes it."""


class _Allowed:
    """A connector that does not read what the asking process refuses to have read."""

    def __init__(self, inner: Connector, refused: Mapping[str, str]) -> None:
        self._inner, self._refused = inner, refused
        self.name, self.extensions, self.priority = inner.name, inner.extensions, inner.priority
        self.claims, self.schema, self.items = inner.claims, inner.schema, inner.items

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """As the connector does, with a failure for each reference that is refused."""
        found = iter(self._inner.read([ref for ref in refs if ref.uri not in self._refused], encoded=encoded))
        for ref in refs:
            why = self._refused.get(ref.uri)
            yield next(found) if why is None else ItemFailure(why)


def _allowed(connector: Connector, refused: Refused) -> Connector:
    uris = refused.get(connector.name)
    return _Allowed(connector, uris) if uris else connector


class _Missing:
    """Stands for a connector that could not be brought here, until somebody asks for it."""

    extensions: frozenset[str] = frozenset()
    priority = 0

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """Say why it is not here."""
        raise OperationalError(self._why)

    claims = schema = items = None


def _connectors(registered: Mapping[str, bytes | str]) -> Connectors:
    connectors = Connectors()
    for name, pickled in registered.items():
        try:
            found = _Missing(name, pickled) if isinstance(pickled, str) else _unpickled(pickled, f"connector {name}")
        except OperationalError as e:
            found = _Missing(name, str(e))
        connectors.add(found)  # type: ignore[arg-type]
    return connectors


def _unpickled(payload: bytes, what: str) -> Model:
    try:
        found: Model = pickle.loads(payload)  # noqa: S301  it was pickled by the process that this one works for
    except Exception as e:
        # Whatever the user's own classes raise while they are made.
        raise OperationalError(
            f"the {what} can't be made on a Ray worker: {type(e).__name__}: {e}; modules that it needs must be installed "
            "there too"
        ) from e
    return found


def _portable(error: Error | None) -> Error | None:
    """An error that can travel."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:
        # A subclass with a constructor of its own, or with something in it that can't be pickled.
        return OperationalError(f"{type(error).__name__}: {error}")
    return None if isinstance(error, Interrupted) else error
