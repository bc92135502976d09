"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "aidb_requests", "Inference requests by HTTP status", ["model", "status"], registry=registry
        )
        self.items = Counter("aidb_items", "Items of requests that were answered", ["model"], registry=registry)
        self.seconds = Histogram(
            "aidb_request_seconds",
            "From a request's arrival to its answer",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.model_seconds = Histogram(
            "aidb_model_seconds", "Time that the model took for a batch", ["model"], buckets=_SECONDS, registry=registry
        )
        self.batch = Histogram("aidb_batch_items", "Items of a batch", ["model"], buckets=_ITEMS, registry=registry)
        self.restarts = Counter(
            "aidb_worker_restarts", "Workers that ended and were started anew", ["model"], registry=registry
        )
        self._waiting = Gauge("aidb_waiting_items", "Items that wait for a worker", ["model"], registry=registry)
        self._ready = Gauge("aidb_workers_ready", "Workers with a loaded model", ["model"], registry=registry)

    def watch(self, model: str, waiting: Callable[[], float], ready: Callable[[], float]) -> None:
        """Ask for these whenever the metrics are read."""
        self._waiting.labels(model).set_function(waiting)
        self._ready.labels(model).set_function(ready)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        found: bytes = generate_latest(self._registry)
        return found
