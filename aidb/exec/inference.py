"""One batch to one model, whatever happens: retries, smaller batches, the poisonous item found and left out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from aidb.errors import ModelError
from aidb.exec.control import Control
from aidb.exec.validate import ROW, validate
from aidb.spi import Columns, ItemError, Model, OutOfMemory, ServiceError
from aidb.spi.model import Values
from aidb.storage.answers import Failure


@dataclass(frozen=True)
class Answer:
    """What became of a batch; places count in the batch.

    rows: validated, in the order of the items (``_row`` is the place). failures: the items that failed. left: the items
    that were not asked, because of ``error`` (the model as a whole failed) or because the statement stops.
    """

    rows: pa.Table
    failures: tuple[Failure, ...]
    left: tuple[int, ...] = ()
    error: ModelError | None = None


class Inference:
    """A model with its habits: how large a batch it bears, how patient to be with it.

    fingerprint: under which its answers are stored, by default the one that it has now.
    """

    def __init__(self, name: str, model: Model, control: Control, fingerprint: str | None = None) -> None:
        self.name, self.model, self.control = name, model, control
        self.spec = model.spec
        self._fingerprint = self.spec.fingerprint if fingerprint is None else fingerprint
        self.bearable: int | None = None  # batch size that did not run out of memory, once one did

    def answer(self, inputs: Sequence[Values], n: int, *, restart: bool = False) -> Answer:
        """Ask about ``n`` items. What went well is in the answer even if the model fails as a whole after it."""
        batch = _Batch(self, inputs, restart)
        batch.ask(0, n)
        parts = batch.parts
        rows = parts[0] if len(parts) == 1 else pa.concat_tables(parts) if parts else self.nothing()
        return Answer(rows, tuple(batch.failures), tuple(batch.left), batch.error)

    def nothing(self) -> pa.Table:
        """No rows, with the right columns."""
        empty: dict[str, list[object]] = {o.name: [] for o in self.spec.outputs}
        if self.spec.rows == "many":
            empty[ROW] = []
        return validate(self.name, self.spec, empty, 0)

    def call(self, batch: Sequence[Values], *, restart: bool) -> Columns:
        """Call the model; a service that is down or busy is asked again, with growing pauses. Raises `ModelError`."""
        attempt = 0
        while True:
            self._demand_same()
            try:
                answer = self.model.predict(batch, restart=restart)
            except ServiceError as e:
                attempt += 1
                if not e.retry or attempt > self.spec.retries or self.control.stopping:
                    again = f" after {attempt} attempts" if attempt > 1 else ""
                    raise ModelError(f"{self.name}: {e}{again}; everything inferred so far is kept", self.name) from e
                pause = self.spec.backoff * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311  jitter
                self.control.pause(max(pause, e.after or 0.0))
                if self.control.stopping:
                    raise ModelError(f"{self.name}: {e}; not asked again, since the statement stops", self.name) from e
            except Exception:
                raise
            except BaseException as e:
                # A model that calls sys.exit() must not take the user's thread with it.
                raise ModelError(f"{self.name} raised {type(e).__name__}: {e}", self.name) from e
            else:
                self._demand_same()
                return answer

    def _demand_same(self) -> None:
        # An object may be told, in another thread, to load other weights while it answers.
        if self.model.spec.fingerprint != self._fingerprint:
            raise ModelError(
                f"{self.name} is another version of the model now (its fingerprint has changed); nothing of that was "
                "stored: run the query again, and it asks that version",
                self.name,
            )

    def bear(self, count: int) -> None:
        """Remember a batch size that may still be too large, but is smaller than one that was."""
        self.bearable = count if self.bearable is None else min(self.bearable, count)


@dataclass
class _Batch:
    """A batch on its way: stretches of it are asked from left to right, cut where that is needed."""

    owner: Inference
    inputs: Sequence[Values]
    restart: bool
    parts: list[pa.Table] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    error: ModelError | None = None

    def ask(self, start: int, count: int, *, bad: bool = False) -> bool:
        """Ask about a stretch; whether all of it went well. ``bad``: something in it is known to be at fault."""
        owner = self.owner
        if self.error is not None or (start and owner.control.stopping):
            self.left += range(start, start + count)
            return False
        if owner.bearable is not None and count > owner.bearable:
            step = owner.bearable
            well = [self.ask(i, min(step, start + count - i)) for i in range(start, start + count, step)]
            return all(well)
        if bad and count > 1:
            return self._halves(start, count, at_fault=True)
        tries = 0
        while True:
            tries += 1
            try:
                self._call(start, count)
                return True
            except ModelError as e:
                self.error = e
                self.left += range(start, start + count)
                return False
            except Exception as e:
                # Not our code: whatever a model raises is about the batch and, once that is split, about an item.
                memory = _is_out_of_memory(e)
                if memory and count > 1:
                    owner.bear((count + 1) // 2)
                if count == 1:
                    if not memory and not isinstance(e, ItemError) and tries <= owner.spec.retries:
                        continue
                    self.failures.append(Failure(start, tries, _describe(e)))
                    return False
            return self._halves(start, count, at_fault=not memory)

    def _halves(self, start: int, count: int, *, at_fault: bool) -> bool:
        half = (count + 1) // 2
        left = self.ask(start, half)
        # If something here is at fault and it is not in the left half, the right half need not be asked as a whole.
        right = self.ask(start + half, count - half, bad=at_fault and left)
        return left and right

    def _call(self, start: int, count: int) -> None:
        owner = self.owner
        columns = owner.call([c[start : start + count] for c in self.inputs], restart=self.restart and start == 0)
        self.parts.append(_shifted(validate(owner.name, owner.spec, columns, count), start))


def _shifted(table: pa.Table, start: int) -> pa.Table:
    """Row numbers of a part as row numbers of the whole batch."""
    if start == 0 or ROW not in table.column_names:
        return table
    import pyarrow.compute as pc  # a tenth of a second to load: only for those who need it

    shifted = pc.add(table.column(ROW), start)
    return table.set_column(table.column_names.index(ROW), ROW, shifted)


def _is_out_of_memory(e: Exception) -> bool:
    """Ours, Python's, or that of a runtime which the engine must not import."""
    return isinstance(e, (OutOfMemory, MemoryError)) or type(e).__name__ in ("OutOfMemoryError", "CUDAOutOfMemoryError")


def _describe(e: Exception) -> str:
    text = str(e)
    return text if isinstance(e, ItemError) and text else f"{type(e).__name__}: {text}" if text else type(e).__name__
