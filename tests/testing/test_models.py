"""The contract accepts models that keep it and refuses, one by one, those that break it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aidb.errors import ModelError, ProgrammingError
from aidb.spi import Input, ItemError, Model, Values
from aidb.testing import FakeModel, ModelContract


class TestOne(ModelContract):
    def make(self) -> Model:
        return FakeModel("half", {"half": "DOUBLE"}, lambda x: x / 2)

    def inputs(self) -> Sequence[Values]:
        return [pa.array([1, 2, 3])]


class TestMany(ModelContract):
    def make(self) -> Model:
        return FakeModel(
            "words", {"word": "VARCHAR", "at": "INTEGER"}, lambda t: list(zip(t.split(), range(9), strict=False)),
            inputs=[Input("text", "text")], rows="many",
        )  # fmt: skip

    def inputs(self) -> Sequence[Values]:
        return [["a b", "", "c"]]


class TestPicture(ModelContract):
    def make(self) -> Model:
        def mean(picture: np.ndarray) -> float:
            if picture.shape == (1, 1, 3):
                raise ItemError("one pixel is no picture")
            return float(picture.mean())

        return FakeModel("mean", {"mean": "DOUBLE"}, mean, inputs=[Input("image", "image")])

    def inputs(self) -> Sequence[Values]:
        return [[np.full((4, 5, 3), i, dtype=np.uint8) for i in (0, 9)]]


class Broken(FakeModel):
    """Right until a test overrides something."""

    def __init__(self, **more: Any) -> None:
        super().__init__("half", {"half": "DOUBLE"}, lambda x: x / 2, **more)


def contract(make: Any) -> ModelContract:
    class Contract(ModelContract):
        def make(self) -> Model:
            return make()  # type: ignore[no-any-return]

        def inputs(self) -> Sequence[Values]:
            return [pa.array([1, 2, 3])]

    return Contract()


def test_a_model_with_chance_in_it() -> None:
    count = itertools.count()
    with pytest.raises(AssertionError, match="the same batch, twice"):
        contract(lambda: FakeModel("c", {"c": "BIGINT"}, lambda x: next(count))).test_answers_again_the_same()


def test_a_model_that_looks_at_its_neighbours() -> None:
    class Neighbours(Broken):
        def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Any:
            return {"half": [float(len(inputs[0]))] * len(inputs[0])}

    with pytest.raises(AssertionError, match="in the batch and alone"):
        contract(Neighbours).test_answers_do_not_depend_on_the_batch()


def test_a_model_that_depends_on_the_order() -> None:
    class Ordered(Broken):
        def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Any:
            values = inputs[0].to_pylist()  # type: ignore[union-attr]
            return {"half": [float(i if len(values) > 1 else x - 1) for i, x in enumerate(values)]}

    with pytest.raises(AssertionError, match="in another order"):
        contract(Ordered).test_answers_do_not_depend_on_the_batch()


def test_a_model_that_writes_into_its_inputs() -> None:
    class Scribbler(Broken):
        def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Any:
            inputs[0][0][:] = 0  # type: ignore[index]
            return {"half": [0.0] * len(inputs[0])}

    tests = contract(Scribbler)
    tests.inputs = lambda: [[np.ones(2), np.ones(2)]]  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="item 0 was changed"):
        tests.test_inputs_are_left_as_they_were()


def test_a_fingerprint_of_chance() -> None:
    count = itertools.count()
    with pytest.raises(AssertionError):
        contract(lambda: Broken(version=str(next(count)))).test_fingerprint_is_stable()


def test_a_wrong_length_and_a_type_that_does_not_exist() -> None:
    class Short(Broken):
        def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Any:
            return {"half": [1.0]}

    with pytest.raises(ModelError, match="has 1 value"):
        contract(Short).test_answers_as_declared()
    with pytest.raises(ProgrammingError, match="REAL5"):
        contract(lambda: FakeModel("m", {"x": "REAL5"}, abs)).test_spec_is_well_formed()


@pytest.mark.parametrize(
    "fields", [{"batch_size": 0}, {"concurrency": 0}, {"retries": -1}, {"sequential": True, "concurrency": 2},
               {"batch_size": 9, "max_batch": 8}, {"inputs": ["x", "X"]}, {"inputs": [Input("x", "image", "INTEGER")]}]
)  # fmt: skip
def test_a_spec_that_contradicts_itself(fields: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        contract(lambda: Broken(**fields)).test_spec_is_well_formed()


def test_not_a_model_and_a_contract_left_blank() -> None:
    with pytest.raises(AssertionError, match="spec, load, predict and close"):
        contract(object).test_is_a_model()
    with pytest.raises(NotImplementedError, match=r"must define make\(\)"):
        ModelContract().make()
    with pytest.raises(NotImplementedError, match=r"must define inputs\(\)"):
        ModelContract().inputs()
