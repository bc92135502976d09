"""The contract of a model as tests: subclass `ModelContract` in a test file, say how to make yours, and run pytest."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from aidb.exec.validate import ROW, validate
from aidb.spi import ItemError, Model, ModelSpec, Values, arrow_type


class ModelContract:
    """What the engine relies on, whatever the model does.

    ::

        class TestMine(ModelContract):
            def make(self):
                return Mine("mine", Options({"weights": str(WEIGHTS)}))

            def inputs(self):
                return [[image_1, image_2, image_3]]  # one entry for each argument, at least two items

    The model is loaded once for the class. ``tolerance`` is how far numbers may move when the same item is answered in
    a batch of another size; ``batching`` switches that test off for a model whose answers depend on their neighbours
    (a ``sequential`` one is excused by itself).
    """

    tolerance: ClassVar[float] = 1e-4
    batching: ClassVar[bool] = True
    _loaded: ClassVar[Model | None] = None

    def make(self) -> Model:
        """A new model that is not loaded."""
        raise NotImplementedError(f"{type(self).__name__} must define make()")

    def inputs(self) -> Sequence[Values]:
        """A batch of at least two items, made anew by each call: one entry for each argument."""
        raise NotImplementedError(f"{type(self).__name__} must define inputs()")

    @classmethod
    def teardown_class(cls) -> None:
        """Close the model that the tests shared (pytest calls this)."""
        if cls._loaded is not None:
            cls._loaded.close()
            cls._loaded = None

    def loaded(self) -> Model:
        """The model that the tests of this class share, loaded."""
        cls = type(self)
        if cls._loaded is None:
            model = self.make()
            model.load()
            cls._loaded = model
        return cls._loaded

    def answer(self, inputs: Sequence[Values] | None = None) -> pa.Table:
        """The validated answer for a batch."""
        model = self.loaded()
        batch = self.inputs() if inputs is None else inputs
        columns = model.predict(batch, restart=True) if model.spec.sequential else model.predict(batch)
        return validate(type(self).__name__, model.spec, columns, len(batch[0]))

    def test_is_a_model(self) -> None:
        """Members of the protocol are there, and the spec is known before anything is loaded."""
        model = self.make()
        assert isinstance(model, Model), "spec, load, predict and close must be there"
        assert isinstance(model.spec, ModelSpec)
        model.close()

    def test_spec_is_well_formed(self) -> None:
        """Names are unique, types exist, sizes are positive."""
        spec = self.make().spec
        assert spec.outputs, "a model without outputs can fill no column"
        for names in ([o.name.lower() for o in spec.outputs], [i.name.lower() for i in spec.inputs]):
            assert len(set(names)) == len(names), f"names must differ by more than case: {names}"
        assert ROW not in [o.name.lower() for o in spec.outputs], f"{ROW} is reserved"
        for output in spec.outputs:
            arrow_type(output.type)
        for given in spec.inputs:
            assert given.type is None or given.form in ("value", "any"), "only a plain column is cast to a type"
            if given.type is not None:
                arrow_type(given.type)
        assert spec.rows in ("one", "many")
        assert spec.batch_size is None or spec.batch_size >= 1
        assert spec.max_batch is None or spec.max_batch >= (spec.batch_size or 1)
        assert spec.concurrency >= 1
        assert spec.seconds_per_item >= 0
        assert spec.price_per_call >= 0
        assert spec.retries >= 0
        assert not (spec.sequential and spec.concurrency > 1), "a model with state can't be called from many threads"

    def test_fingerprint_is_stable(self) -> None:
        """Two models of the same making are one to the cache; loading changes nothing."""
        first, second = self.make().spec, self.make().spec
        assert first.fingerprint, "an empty fingerprint tells no model from another"
        assert first == second
        assert self.loaded().spec == first

    def test_answers_as_declared(self) -> None:
        """Columns, types, lengths and row numbers are right, for the whole batch and for one item."""
        batch = self.inputs()
        n = len(batch[0])
        assert n >= 2, "inputs() must give at least two items"
        assert all(len(values) == n for values in batch)
        spec = self.loaded().spec
        assert len(batch) == len(spec.inputs) or (spec.variadic and len(batch) > len(spec.inputs) - 1)
        self.answer()
        self.answer([values[:1] for values in batch])

    def test_answers_again_the_same(self) -> None:
        """Stored answers stand for those of any later run, so there may be no chance in them."""
        self._assert_same(self.answer(), self.answer(), "the same batch, twice")

    def test_inputs_are_left_as_they_were(self) -> None:
        """Another model may get the very same arrays."""
        batch = self.inputs()
        before = copy.deepcopy([values if isinstance(values, list) else values.to_pylist() for values in batch])
        self.answer(batch)
        for was, values in zip(before, batch, strict=True):
            now = values if isinstance(values, list) else values.to_pylist()
            for i, (a, b) in enumerate(zip(was, now, strict=True)):
                assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, f"item {i} was changed"

    def test_answers_do_not_depend_on_the_batch(self) -> None:
        """The engine cuts batches as it likes, and halves them when memory runs out."""
        batch = self.inputs()
        if not self.batching or self.loaded().spec.sequential:
            return
        whole = self.answer(batch)
        n = len(batch[0])
        backwards = [
            values[::-1] if isinstance(values, list) else values.take(pa.array(range(n)[::-1])) for values in batch
        ]
        reverse = self.answer(backwards)
        for i in range(n):
            alone = self.answer([values[i : i + 1] for values in batch])
            self._assert_same(self._item(whole, i), self._item(alone, 0), f"item {i}, in the batch and alone")
            self._assert_same(self._item(whole, i), self._item(reverse, n - 1 - i), f"item {i}, in another order")

    def test_odd_pictures_cost_no_crash(self) -> None:
        """A picture of one pixel, or a thin one, gets an answer, or an `ItemError` that lets the rest go on."""
        spec = self.loaded().spec
        at = [i for i, given in enumerate(spec.inputs) if given.form == "image"]
        if not at:
            return
        for height, width in ((1, 1), (1, 300), (300, 1)):
            batch = [values[:1] for values in self.inputs()]
            for i in at:
                batch[i] = [np.full((height, width, 3), 128, dtype=np.uint8)]
            with contextlib.suppress(ItemError):
                self.answer(batch)

    def test_can_be_closed_and_made_again(self) -> None:
        """Closing an unused model, and closing twice, does no harm."""
        model = self.make()
        model.close()
        model.close()
        assert self.make().spec == model.spec

    def _item(self, table: pa.Table, i: int) -> list[dict[str, Any]]:
        if ROW not in table.schema.names:
            return [table.slice(i, 1).to_pylist()[0]]
        rows = [row for row in table.to_pylist() if row[ROW] == i]
        return [{k: v for k, v in row.items() if k != ROW} for row in rows]

    def _assert_same(self, a: Any, b: Any, what: str) -> None:
        a = a.to_pylist() if isinstance(a, pa.Table) else a
        b = b.to_pylist() if isinstance(b, pa.Table) else b
        assert _same(a, b, self.tolerance), f"{what}: {a!r} and {b!r}"


def _same(a: Any, b: Any, tolerance: float) -> bool:
    """Equal, floats up to a tolerance (relative to numbers above 1, absolute below)."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k], tolerance) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(_same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    return bool(a == b)
