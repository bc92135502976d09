"""Whatever a model answers: the declared columns, or an error that names the model, the column and the row."""

from __future__ import annotations

import datetime as dt
import math
import time
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from aidb.errors import ModelError
from aidb.exec.validate import validate
from aidb.spi import ModelSpec, Output


def spec(rows: Any = "one", **outputs: str) -> ModelSpec:
    return ModelSpec((), tuple(Output(k, v) for k, v in outputs.items()), rows, "f")


def one(values: Any, type_: str) -> list[Any]:
    n = len(values)
    table = validate("m", spec(x=type_), {"x": values}, n)
    assert table.schema.names == ["x"]
    return table["x"].to_pylist()  # type: ignore[no-any-return]


GOOD = [
    ([1, None, 3], "INTEGER", [1, None, 3]),
    ((1, 2), "BIGINT", [1, 2]),
    (range(2), "BIGINT", [0, 1]),
    ([True, None], "INTEGER", [1, None]),
    ([1.0, 2.0], "INTEGER", [1, 2]),
    ([np.float32(1.5), np.int64(2)], "DOUBLE", [1.5, 2.0]),
    (np.array([1, 2], dtype=np.int16), "DOUBLE", [1.0, 2.0]),
    (np.array([2**60 + 1]), "DOUBLE", [float(2**60)]),
    (np.array([1, 2], dtype=np.float16), "FLOAT", [1.0, 2.0]),
    (np.array([True, False]), "BOOLEAN", [True, False]),
    (np.array(["a", "b"]), "VARCHAR", ["a", "b"]),
    (np.array(["a", None], dtype=object), "VARCHAR", ["a", None]),
    (np.ma.masked_array([1, 2], mask=[False, True]), "INTEGER", [1, None]),
    (pa.array(["a", "b", "a"]).dictionary_encode(), "VARCHAR", ["a", "b", "a"]),
    (pa.chunked_array([[1], [2]]), "INTEGER", [1, 2]),
    (pa.array([None, None]), "STRUCT(a INTEGER)", [None, None]),
    (np.arange(6).reshape(2, 3), "FLOAT[3]", [[0, 1, 2], [3, 4, 5]]),
    (np.arange(6).reshape(2, 3), "FLOAT[]", [[0, 1, 2], [3, 4, 5]]),
    (np.zeros((2, 0)), "DOUBLE[]", [[], []]),
    (np.arange(8).reshape(2, 2, 2), "INTEGER[2][]", [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]),
    ([np.array([1.0, 2.0]), None], "FLOAT[2]", [[1.0, 2.0], None]),
    ([np.array([[1.0, 2.0]])], "FLOAT[][]", [[[1.0, 2.0]]]),
    ([[1], []], "INTEGER[]", [[1], []]),
    ([{"a": 1, "b": "x"}, None], "STRUCT(a INTEGER, b VARCHAR)", [{"a": 1, "b": "x"}, None]),
    ([{"a": 1}], "STRUCT(a DOUBLE, b VARCHAR)", [{"a": 1.0, "b": None}]),
    ([{"k": 1}], "MAP(VARCHAR, INTEGER)", [[("k", 1)]]),
    ([{"a": [1]}, [2], "s"], "JSON", ['{"a": [1]}', "[2]", "s"]),
    ([uuid.UUID(int=1)], "UUID", [str(uuid.UUID(int=1))]),
    ([Decimal("1.5"), None], "DECIMAL(9, 2)", [Decimal("1.50"), None]),
    ([1.25, 2], "DECIMAL(9, 2)", [Decimal("1.25"), Decimal("2.00")]),
    ([1 << 100], "HUGEINT", [Decimal(1 << 100)]),
    ([b"a", None], "BLOB", [b"a", None]),
    ([dt.datetime(2026, 1, 2, 3)], "TIMESTAMP", [dt.datetime(2026, 1, 2, 3)]),
    (["2026-01-02 03:00:00"], "TIMESTAMP", [dt.datetime(2026, 1, 2, 3)]),
    (np.array(["2026-01-02T00:00:00.000000001"], "datetime64[ns]"), "TIMESTAMP", [dt.datetime(2026, 1, 2)]),
    ([dt.date(2026, 1, 2)], "DATE", [dt.date(2026, 1, 2)]),
    ([dt.time(1, 2)], "TIME", [dt.time(1, 2)]),
]


@pytest.mark.parametrize(("values", "type_", "expected"), GOOD)
def test_what_fits_becomes_the_declared_type(values: Any, type_: str, expected: list[Any]) -> None:
    assert one(values, type_) == expected


def test_nan_stays_nan_in_a_floating_column() -> None:
    for values in ([1.0, math.nan], np.array([1.0, math.nan]), pa.array([1.0, math.nan])):
        got = one(values, "DOUBLE")
        assert got[0] == 1.0
        assert math.isnan(got[1])


def test_pandas_columns_and_frames() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1.5, math.nan], "s": ["a", None]})
    table = validate("m", spec(x="DOUBLE", s="VARCHAR"), frame, 2)
    assert math.isnan(table["x"][1].as_py())
    assert table["s"].to_pylist() == ["a", None]
    assert one(pd.Series([1, None], dtype="Int64"), "INTEGER") == [1, None]
    assert one(pd.Series(["a", "b"], dtype="category"), "VARCHAR") == ["a", "b"]


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    assert one(torch.tensor([1.5, 2.0], dtype=torch.bfloat16, requires_grad=True), "FLOAT") == [1.5, 2.0]
    assert one([torch.tensor(1), torch.tensor(2)], "BIGINT") == [1, 2]
    assert one(torch.ones(2, 3), "FLOAT[3]") == [[1.0] * 3] * 2
    assert one([torch.ones(3), None], "FLOAT[3]") == [[1.0] * 3, None]


BAD = [
    ([1.0, math.nan], "INTEGER", "nan"),
    (np.array([1.0, math.nan]), "INTEGER", "row 1 is nan"),
    ([1.5], "INTEGER", "row 0 is 1.5"),
    ([[1.5]], "INTEGER[]", r"row 0 is \[1.5\]"),
    (["1.5"], "DOUBLE", "'1.5'"),
    (pa.array(["1.5"]), "DOUBLE", "such as '1.5'"),
    ([1, "x"], "INTEGER", "row 1 is 'x'"),
    ([1, 2**40], "INTEGER", "row 1 is 1099511627776"),
    (np.array([1, 2, 300]), "TINYINT", "row 2 is 300"),
    ([-1], "UTINYINT", "row 0 is -1"),
    ([1], "VARCHAR", "row 0 is 1"),
    ([1], "BOOLEAN", "row 0 is 1"),
    ([0.7], "BOOLEAN", "row 0 is 0.7"),
    (["no"], "DATE", "row 0 is 'no'"),
    ([5], "TIMESTAMP", "row 0 is 5"),
    ([[1.0, 2.0], [1.0]], "FLOAT[2]", "row 1"),
    (np.ones((2, 3)), "FLOAT[4]", "shape"),
    (np.ones((2, 1)), "DOUBLE", r"shape \(2, 1\)"),
    ([{"b": 1}], "STRUCT(a INTEGER)", "row 0"),
    (["\ud800"], "VARCHAR", "row 0"),
    ([object()], "VARCHAR", "row 0 is <object"),
    ("ab", "VARCHAR", "one str"),
    (np.array(3), "INTEGER", "one int64"),
    ({"a": 1}, "INTEGER", "one dict"),
]


@pytest.mark.parametrize(("values", "type_", "message"), BAD)
def test_what_does_not_fit_is_named(values: Any, type_: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as e:
        validate("mood", spec(x=type_), {"x": values}, 2)
    assert "model mood: column 'x' is declared as" in str(e.value)
    assert e.value.model == "mood"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"a": [1]}, "column 'b' is missing; the answer has 'a'"),
        ({"a": [1], "b": [2], "c": [3]}, "column 'c' was not declared; the outputs are 'a', 'b'"),
        ({"a": [1], "b": [2], "_row": [0]}, 'declare rows="many"'),
        ({"a": [1], "b": [2, 3]}, "column 'b' has 2 values, but the batch has 1 item"),
        ({"a": [], "b": [1]}, "column 'a' has 0 values"),
        (pa.Table.from_arrays([pa.array([1])] * 3, names=["a", "b", "b"]), "'b' comes twice"),
        (None, "the answer is a NoneType"),
        ([1], "the answer is a list"),
    ],
)
def test_columns_must_be_the_declared_ones(answer: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        validate("m", spec(a="BIGINT", b="BIGINT"), answer, 1)


def test_record_batches_and_tables_in_any_order_of_columns() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([2]), pa.array([1])], names=["b", "a"])
    for answer in (batch, pa.Table.from_batches([batch])):
        table = validate("m", spec(a="INTEGER", b="DOUBLE"), answer, 1)
        assert table.to_pylist() == [{"a": 1, "b": 2.0}]
        assert table.schema.types == [pa.int32(), pa.float64()]


def test_many_rows_are_sorted_by_item_and_keep_their_order_within_it() -> None:
    answer = {"x": ["c1", "a1", "c2", "a2"], "_row": np.array([2, 0, 2, 0], dtype=np.uint8)}
    table = validate("m", spec("many", x="VARCHAR"), answer, 3)
    assert table.schema.field("_row").type == pa.int64()
    assert table.to_pydict() == {"x": ["a1", "a2", "c1", "c2"], "_row": [0, 0, 2, 2]}


@pytest.mark.parametrize("empty", [[], np.array([]), np.array([], dtype=np.int64), pa.array([], pa.int32())])
def test_many_may_be_none(empty: Any) -> None:
    table = validate("m", spec("many", x="DOUBLE[2]"), {"x": [], "_row": empty}, 3)
    assert table.num_rows == 0
    assert table.schema.names == ["x", "_row"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 3], "_row' is 3 at row 1, but the batch has items 0 to 2"),
        ([-1, 0], "_row' is -1 at row 0"),
        ([0, None], "_row' is NULL at row 1"),
        (["0", "1"], "_row' must hold integers"),
        (np.array([0.0, 1.0]), "_row' must hold integers"),
        (pa.array([0.0, 1.0]), "_row' must hold integers"),
        ([0], "column 'x' has 2 values, but _row has 1"),
    ],
)
def test_bad_row_numbers(rows: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        validate("m", spec("many", x="BIGINT"), {"x": [1, 2], "_row": rows}, 3)


def test_missing_row_numbers_and_an_output_of_that_name() -> None:
    with pytest.raises(ModelError, match="'_row' is missing: it says which item"):
        validate("m", spec("many", x="BIGINT"), {"x": [1]}, 1)
    with pytest.raises(ModelError, match="'_row' can't be an output"):
        validate("m", spec(_row="BIGINT"), {"_row": [1]}, 1)


def test_checking_costs_less_than_a_microsecond_an_item() -> None:
    n = 4096
    answer = {
        "a": np.arange(n), "b": np.linspace(0, 1, n), "c": pa.array(["car"] * n), "_row": np.arange(n),
    }  # fmt: skip
    declared = spec("many", a="INTEGER", b="FLOAT", c="VARCHAR")
    validate("m", declared, answer, n)
    best = min(_timed(lambda: validate("m", declared, answer, n)) for _ in range(7))
    assert best / n < 1e-6


def _timed(f: Any) -> float:
    start = time.thread_time()
    f()
    return time.thread_time() - start
