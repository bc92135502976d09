"""What one connection has to bring to the workers: its models, its connectors, and what they need to know of a run."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from aidb.catalog.definitions import ModelDefinition
from aidb.errors import OperationalError
from aidb.exec.batches import Job
from aidb.exec.distributed import cluster
from aidb.exec.distributed.cluster import Cluster, Size
from aidb.exec.distributed.task import ROW_NUMBER, Order, Task
from aidb.exec.models import PYTHON, ModelPool
from aidb.exec.settings import Settings
from aidb.spi import Connector, Model

AHEAD = 2
"""Chunks that a worker has at a time: one is with the model, one is being read."""


@dataclass(frozen=True)
class Staff:
    """Who works for one run: workers of one size, at least and at most so many, with a task and the models for it.

    most: None is as many as there is room for, also on machines that join the cluster meanwhile.
    """

    cluster: Cluster
    size: Size
    least: int
    most: int | None
    task: Task
    payloads: tuple[object, ...]


class Shipping:
    """The part of one connection in the cluster, from its first run there until `close`."""

    def __init__(self, pool: ModelPool) -> None:
        self._pool = pool
        self._cluster: Cluster | None = None
        self._sent: dict[str, tuple[Model, str, str, object]] = {}

    def staff(
        self, models: Sequence[ModelDefinition], jobs: Sequence[Job], connectors: Mapping[str, Connector], s: Settings
    ) -> Staff:
        """Get ready for a run. Raises `OperationalError` if there is no cluster, or a model can't be brought there."""
        joined = cluster.join(self, s.ray_address)
        if joined is not self._cluster:
            self._cluster = joined
            self._sent.clear()
        orders, payloads = zip(*(self._order(m) for m in models), strict=True)
        on_gpu = any(job.inference.spec.device != "cpu" for job in jobs)
        gpus = s.ray_gpus if s.ray_gpus is not None else float(on_gpu and joined.has_gpus)
        size = Size(s.ray_cpus, gpus)
        if joined.is_ours and joined.room(size) == 0:
            raise OperationalError(
                f"a Ray worker with {size.cpus:g} processors and {size.gpus:g} GPUs (aidb.ray_cpus, aidb.ray_gpus) does not "
                "fit on this machine"
            )
        least, most = _span(s.ray_workers) if s.ray_workers is not None else (1, None)
        task = Task(
            uuid.uuid4().hex,
            tuple(replace(job.fill, keys=(*job.fill.keys, (ROW_NUMBER, "BIGINT"))) for job in jobs),
            tuple(job.inputs for job in jobs),
            orders,
            s.batch_size,
            max(1, s.memory_limit // AHEAD),
            s.on_error,
            {name: _packed(joined, connector) for name, connector in connectors.items()},
            _secrets(models) if joined.is_ours else {},
        )
        return Staff(joined, size, least, most, task, payloads)

    def _order(self, definition: ModelDefinition) -> tuple[Order, object]:
        if definition.provider != PYTHON:
            told = [definition.provider, definition.options, definition.fingerprint]
            digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
            return Order(definition, digest, False), None
        assert self._cluster is not None
        model, low = self._pool.get(definition), definition.name.lower()
        is_there = low in self._sent and self._sent[low][0] is model
        if not is_there or self._sent[low][1] != definition.fingerprint:
            try:
                payload = self._cluster.put(self._cluster.pickled(model))
            except Exception as e:
                # Whatever the user's own objects raise when they are pickled.
                raise OperationalError(
                    f"model {definition.name} can't be sent to a Ray worker: {e}; what a worker can't get (a lock, an open "
                    "file, a connection) must be made in __init__ of a class with @aidb.model, or in load()"
                ) from e
            self._sent[low] = model, definition.fingerprint, uuid.uuid4().hex, payload
        _, _, token, payload = self._sent[low]
        return Order(definition, token, True), payload

    def close(self) -> None:
        """Leave the cluster; the last connection that leaves ends it, if it is ours."""
        self._sent.clear()
        if self._cluster is not None:
            self._cluster = None
            cluster.leave(self)


def _span(workers: str) -> tuple[int, int]:
    least, _, most = workers.partition("-")
    return int(least), int(most or least)


def _packed(joined: Cluster, connector: Connector) -> bytes | str:
    try:
        return joined.pickled(connector)
    except Exception as e:
        # As with models; it matters only if a run has items of this connector.
        return f"connector {connector.name} can't be sent to a Ray worker: {e}"


def _secrets(models: Sequence[ModelDefinition]) -> dict[str, str]:
    """Variables that options name (``token_env = 'MY_TOKEN'``), as they are set here, for workers on this machine."""
    named = {str(value) for m in models for option, value in m.options.items() if option.endswith("_env")}
    return {name: os.environ[name] for name in sorted(named) if name in os.environ}
