"""One batch to one model, whatever happens: retries, smaller batches, the poisonous item found and left out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from aidb.errors import ModelError
from aidb.exec.control import Control
from aidb.exec.validate import ROW, validate
from aidb.spi import Columns, ItemError, Model, OutOfMemory, ServiceError
from aidb.spi.model import Values
from aidb.storage.answers import Failure


@dataclass(frozen=True)
class Answer:
    """Validated rows of a batch (``_row`` counts in the batch) and the items that failed."""

    rows: pa.Table
    failures: tuple[Failure, ...]


class Inference:
    """A model with its habits: how large a batch it bears, how patient to be with it."""

    def __init__(self, name: str, model: Model, control: Control) -> None:
        self.name, self.model, self.control = name, model, control
        self.spec = model.spec
        self.bearable: int | None = None  # batch size that did not run out of memory, once one did

    def answer(self, inputs: Sequence[Values], n: int, *, restart: bool = False) -> Answer:
        """Ask about ``n`` items. Raises `ModelError` if the model as a whole fails or breaks its contract."""
        parts: list[pa.Table] = []
        failures: list[Failure] = []
        todo = [(0, n)]
        tries = 0
        while todo:
            start, count = todo.pop()
            if self.bearable is not None and count > self.bearable:
                todo += [
                    (i, min(self.bearable, start + count - i)) for i in range(start, start + count, self.bearable)
                ][::-1]
                continue
            batch = [column[start : start + count] for column in inputs]
            try:
                columns = self._patiently(batch, restart=restart and start == 0)
            except Exception as e:
                # Not our code: whatever a model raises is about the batch, and so, once it is split, about an item.
                if isinstance(e, ModelError):
                    raise
                memory = _is_out_of_memory(e)
                if count > 1:
                    half = (count + 1) // 2
                    if memory:
                        self.bearable = half
                    todo += [(start + half, count - half), (start, half)]
                elif not memory and tries < self.spec.retries and not isinstance(e, ItemError):
                    tries += 1
                    todo.append((start, count))
                else:
                    failures.append(Failure(start, tries + 1, _describe(e)))
                    tries = 0
                continue
            tries = 0
            parts.append(_shifted(validate(self.name, self.spec, columns, count), start))
        rows = parts[0] if len(parts) == 1 else pa.concat_tables(parts) if parts else self.nothing()
        return Answer(rows, tuple(sorted(failures, key=lambda f: f.row)))

    def nothing(self) -> pa.Table:
        """No rows, with the right columns."""
        empty: dict[str, list[object]] = {o.name: [] for o in self.spec.outputs}
        if self.spec.rows == "many":
            empty[ROW] = []
        return validate(self.name, self.spec, empty, 0)

    def placed(self, rows: pa.Table, places: Sequence[int]) -> pa.Table:
        """Rows of a batch that had only the items at ``places``, counted in the whole batch."""
        if ROW not in rows.column_names:
            return rows
        at = pa.array(places, pa.int64()).take(rows.column(ROW).combine_chunks())
        return rows.set_column(rows.column_names.index(ROW), ROW, at)

    def _patiently(self, batch: Sequence[Values], *, restart: bool) -> Columns:
        """Call the model; a service that is down or busy is asked again, with growing pauses."""
        attempt = 0
        while True:
            try:
                return self.model.predict(batch, restart=restart)
            except ServiceError as e:
                attempt += 1
                if not e.retry or attempt > self.spec.retries or self.control.stopping:
                    again = f" after {attempt} attempts" if attempt > 1 else ""
                    raise ModelError(f"{self.name}: {e}{again}; everything inferred so far is kept", self.name) from e
                pause = self.spec.backoff * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311  jitter
                self.control.pause(max(pause, e.after or 0.0))


def _shifted(table: pa.Table, start: int) -> pa.Table:
    """Row numbers of a part as row numbers of the whole batch."""
    if start == 0 or ROW not in table.column_names:
        return table
    shifted = pc.add(table.column(ROW), start)
    return table.set_column(table.column_names.index(ROW), ROW, shifted)


def _is_out_of_memory(e: Exception) -> bool:
    """Ours, Python's, or that of a runtime which the engine must not import."""
    return isinstance(e, (OutOfMemory, MemoryError)) or type(e).__name__ in ("OutOfMemoryError", "CUDAOutOfMemoryError")


def _describe(e: Exception) -> str:
    text = str(e)
    return text if isinstance(e, ItemError) and text else f"{type(e).__name__}: {text}" if text else type(e).__name__
