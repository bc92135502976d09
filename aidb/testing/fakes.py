"""A model whose answers are a plain function of each item, and that counts what it was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from aidb.spi import Columns, Input, ModelSpec, Output, Values, fingerprint


class FakeModel:
    """A model made of a function of one item; thread-safe, and the same answers in any batching.

    answer: called with one item's arguments as Python values (or decoded content). With ``rows="one"`` it returns the
        value (one output), or a tuple or dict of values; with ``rows="many"`` a list of such.
    inputs: names, or `Input` objects for forms and types. outputs: name -> DuckDB type.
    delay: seconds that each call sleeps; delay_per_item is added for each item.
    version: goes into the fingerprint, with the declared inputs and outputs; ``answer`` does not.
    Every other keyword is a field of `ModelSpec`.

    Counters: ``calls`` (of `predict`), ``items``, ``batches`` (their sizes, in order), ``seen`` (each item's arguments),
    ``loads``, ``closes``, ``restarts``.

    >>> even = FakeModel("even", {"even": "BOOLEAN"}, lambda x: x % 2 == 0)
    >>> even.predict([pa.array([1, 2])]), even.items
    ({'even': [False, True]}, 2)
    """

    def __init__(
        self,
        name: str,
        outputs: Mapping[str, str],
        answer: Callable[..., Any],
        *,
        inputs: Sequence[str | Input] = ("x",),
        rows: Literal["one", "many"] = "one",
        version: str = "1",
        delay: float = 0.0,
        delay_per_item: float = 0.0,
        **spec: Any,
    ) -> None:
        self.name, self.answer = name, answer
        self.delay, self.delay_per_item = delay, delay_per_item
        arguments = tuple(i if isinstance(i, Input) else Input(i) for i in inputs)
        self._spec = ModelSpec(
            inputs=arguments,
            outputs=tuple(Output(n, t) for n, t in outputs.items()),
            rows=rows,
            fingerprint=fingerprint("fake", name, [str(a) for a in arguments], dict(outputs), rows, version),
            **spec,
        )
        self._lock = threading.Lock()
        self.reset()

    @property
    def spec(self) -> ModelSpec:
        """See `aidb.spi.ModelSpec`."""
        return self._spec

    def reset(self) -> None:
        """Set all counters to nothing."""
        self.calls = self.items = self.loads = self.closes = self.restarts = 0
        self.batches: list[int] = []
        self.seen: list[tuple[Any, ...]] = []

    def load(self) -> None:
        """Count; there is nothing to load."""
        self.loads += 1

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer each item by itself."""
        items = items_of(inputs)
        with self._lock:
            self.calls += 1
            self.items += len(items)
            self.restarts += restart
            self.batches.append(len(items))
            self.seen.extend(items)
        if pause := self.delay + self.delay_per_item * len(items):
            time.sleep(pause)
        answers = [self.answer(*item) for item in items]
        if self._spec.rows == "one":
            return self._columns(answers)
        flat = [row for rows in answers for row in rows]
        return {**self._columns(flat), "_row": [i for i, rows in enumerate(answers) for _ in rows]}

    def close(self) -> None:
        """Count; there is nothing to let go of."""
        self.closes += 1

    def _columns(self, rows: Sequence[Any]) -> dict[str, list[Any]]:
        names = [o.name for o in self._spec.outputs]
        if rows and isinstance(rows[0], dict):
            return {name: [row[name] for row in rows] for name in names}
        if len(names) == 1:
            return {names[0]: [row[0] if isinstance(row, tuple) else row for row in rows]}
        return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def items_of(inputs: Sequence[Values]) -> list[tuple[Any, ...]]:
    """A batch turned on its side: one tuple of arguments for each item.

    >>> items_of([pa.array([1, 2]), ["a", "b"]])
    [(1, 'a'), (2, 'b')]
    """
    columns = [i.to_pylist() if isinstance(i, (pa.Array, pa.ChunkedArray)) else list(i) for i in inputs]
    return list(zip(*columns, strict=True))
