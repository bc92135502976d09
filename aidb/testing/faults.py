"""A model that goes wrong in a chosen way, so that an engine or a plugin can be seen to cope."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from aidb.exec.validate import ROW
from aidb.spi import Columns, ItemError, Model, ModelSpec, OutOfMemory, ServiceError, Values
from aidb.testing.fakes import items_of

Corruption = Literal[
    "short", "long", "missing", "extra", "type", "nan", "scalar", "nothing", "row_missing", "row_null", "row_range",
    "row_type",
]  # fmt: skip
"""How an answer is spoilt: its length, a column of it (the first, or ``_row``), a value, or all of it."""


class FailingModel:
    """A model with faults in front of it; each fault is a keyword, and several may be given.

    on_call: raise ``error`` at these calls of `predict` (1-based; one number or several).
    error: what to raise then; an exception or a class. By default a RuntimeError.
    on_items: called with an item's arguments; a batch that holds an item for which it is true raises ``item_error``.
    max_batch: `OutOfMemory` for a batch of more items.
    service_errors: the first so many calls raise `ServiceError` (``retry`` and ``after`` as given), then all is well.
    corrupt: spoil the answer (see `Corruption`); a function gets the answer and returns a spoilt one.
    hang: block each call until this event is set; ``entered`` is set when the first call arrives there.
    slow: seconds that each call takes longer.
    before: called with the number of each call before it is made: to kill the process, to move a clock, to fill a disk.
    load_error, close_error: raise at `load`, at `close`.

    ``calls`` counts all calls of `predict`, ``failures`` those that raised, ``items`` those of the calls that went well.
    """

    def __init__(
        self,
        model: Model,
        *,
        on_call: int | Sequence[int] = (),
        error: Exception | type[Exception] = RuntimeError("the model broke down, as it was told to"),  # noqa: B008
        on_items: Callable[..., bool] | None = None,
        item_error: type[Exception] = ItemError,
        max_batch: int | None = None,
        service_errors: int = 0,
        retry: bool = True,
        after: float | None = None,
        corrupt: Corruption | Callable[[dict[str, Any]], Any] | None = None,
        hang: threading.Event | None = None,
        slow: float = 0.0,
        before: Callable[[int], None] | None = None,
        load_error: Exception | None = None,
        close_error: Exception | None = None,
    ) -> None:
        if isinstance(corrupt, str) and corrupt not in get_args(Corruption):
            raise ValueError(f"corrupt={corrupt!r}: choose one of {', '.join(get_args(Corruption))}")
        self.model = model
        self.name = getattr(model, "name", "failing")
        self.on_call = (on_call,) if isinstance(on_call, int) else tuple(on_call)
        self.error, self.on_items, self.item_error, self.max_batch = error, on_items, item_error, max_batch
        self.service_errors, self.retry, self.after = service_errors, retry, after
        self.corrupt, self.hang, self.slow, self.before = corrupt, hang, slow, before
        self.load_error, self.close_error = load_error, close_error
        self.entered = threading.Event()
        self.calls = self.failures = self.items = 0
        self._lock = threading.Lock()

    @property
    def spec(self) -> ModelSpec:
        """That of the model behind it: the cache can't tell the two apart."""
        return self.model.spec

    def load(self) -> None:
        """Load the model, or fail."""
        if self.load_error is not None:
            raise self.load_error
        self.model.load()

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Fail as told; otherwise answer as the model does."""
        with self._lock:
            self.calls += 1
            call = self.calls
        if self.hang is not None:
            self.entered.set()
            self.hang.wait()
        if self.slow:
            time.sleep(self.slow)
        if self.before is not None:
            self.before(call)
        try:
            self._fail(call, inputs)
        except BaseException:
            with self._lock:
                self.failures += 1
            raise
        more = {"restart": restart} if self.spec.sequential else {}
        answer = self.model.predict(inputs, **more)
        with self._lock:
            self.items += len(inputs[0])
        return answer if self.corrupt is None else self._spoilt(answer, len(inputs[0]))

    def close(self) -> None:
        """Close the model, then fail if told to."""
        self.model.close()
        if self.close_error is not None:
            raise self.close_error

    def _fail(self, call: int, inputs: Sequence[Values]) -> None:
        if call <= self.service_errors:
            raise ServiceError(f"the service is down (call {call})", retry=self.retry, after=self.after)
        if call in self.on_call:
            raise self.error
        if self.max_batch is not None and len(inputs[0]) > self.max_batch:
            raise OutOfMemory(f"{len(inputs[0])} items don't fit; {self.max_batch} do")
        if self.on_items is not None:
            for i, item in enumerate(items_of(inputs)):
                if self.on_items(*item):
                    raise self.item_error(f"item {i} of this batch is bad")

    def _spoilt(self, answer: Columns, n: int) -> Any:
        columns = dict(answer) if isinstance(answer, Mapping) else answer.to_pydict()
        columns = {name: list(values) for name, values in columns.items()}
        if callable(self.corrupt):
            return self.corrupt(columns)
        return _spoil(str(self.corrupt), columns, self.spec.outputs[0].name, n)


def _spoil(how: str, columns: dict[str, list[Any]], first: str, n: int) -> Any:
    values, rows = columns[first], columns.get(ROW, [])
    if how == "nothing":
        return None
    changes: dict[str, dict[str, Any]] = {
        "short": {first: values[:-1]},
        "long": {first: [*values, *(values[-1:] or [None])]},
        "extra": {"surplus": values},
        "type": {first: [object() for _ in values]},
        "nan": {first: [math.nan for _ in values]},
        "scalar": {first: values[0] if values else 0},
        "row_null": {ROW: [None for _ in rows]},
        "row_range": {ROW: [n for _ in rows]},
        "row_type": {ROW: [str(r) for r in rows]},
    }
    spoilt = {**columns, **changes.get(how, {})}
    if how in ("missing", "row_missing"):
        spoilt.pop(first if how == "missing" else ROW, None)
    return spoilt
