"""Messages and columns of the Open Inference Protocol, without a server."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidb.errors import ProgrammingError
from aidb.protocol.columns import VALID, from_tensor, natural_type, to_tensors, wire_type
from aidb.protocol.tensors import DTYPES, Malformed, Tensor, read_message, write_message
from aidb.spi import arrow_type

COLUMNS: dict[str, list[Any]] = {
    "BOOLEAN": [True, None, False],
    "UTINYINT": [255, None, 0],
    "BIGINT": [1, None, -(2**63)],
    "FLOAT": [1.5, None, float("inf")],
    "DOUBLE": [1.5, None, -0.0],
    "VARCHAR": ["a", None, "grüße \0 \u2028"],
    "BLOB": [b"\xff\x00", None, b""],
    "FLOAT[3]": [[1, 2, 3], None, [4, 5, 6]],
    "BIGINT[2][2]": [[[1, 2], [3, 4]], None, [[5, 6], [7, 8]]],
    "INTEGER[]": [[1], None, []],
    "VARCHAR[]": [["a", None], None, []],
    "DATE": [dt.date(2026, 1, 2), None, dt.date(1, 1, 1)],
    "TIME": [dt.time(1, 2, 3, 4), None, dt.time(0)],
    "TIMESTAMP": [dt.datetime(2026, 1, 2, 3, 4, 5, 678), None, dt.datetime(1900, 1, 1)],
    "TIMESTAMPTZ": [dt.datetime(2026, 1, 2, tzinfo=dt.UTC), None, None],
    "DECIMAL(9, 2)": [Decimal("1.50"), None, Decimal("-0.01")],
    "HUGEINT": [Decimal(10**30), None, Decimal(-1)],
    "STRUCT(x INTEGER, t VARCHAR[])": [{"x": 1, "t": ["a"]}, None, {"x": None, "t": []}],
}


def sent(tensors: list[Tensor], *, binary: bool) -> dict[str, Tensor]:
    body, length = write_message({"id": "7"}, "inputs", tensors, binary=binary)
    message, found = read_message(body, None if length is None else str(length), "inputs")
    assert message["id"] == "7"
    return {t.name: t for t in found}


@pytest.mark.parametrize("type_", COLUMNS)
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("values", [slice(0, 3), slice(0, 1), slice(0, 0)])
def test_a_column_arrives_as_it_was(type_: str, binary: bool, values: slice) -> None:
    if type_ in ("BLOB", "FLOAT") and not binary:
        pytest.skip("JSON has neither bytes nor infinities")
    column = pa.array(COLUMNS[type_][values], arrow_type(type_))
    found = sent(to_tensors("c", column), binary=binary)
    assert ((VALID + "c") in found) == bool(column.null_count)
    assert from_tensor(found["c"], found.get(VALID + "c"), type_).equals(column)


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_travels(datatype: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(DTYPES[datatype])
    for binary in (True, False):
        found = sent([Tensor.of_numbers("t", array)], binary=binary)["t"]
        assert (found.datatype, found.shape) == (datatype, (2, 2))
        assert np.array_equal(found.data, array)
        assert found.data.dtype == array.dtype  # type: ignore[union-attr]


def test_the_binary_layout_is_the_protocols() -> None:
    """Byte by byte, as its specification has it: little-endian, and a length before each element of BYTES."""
    tensors = [Tensor.of_numbers("n", np.array([1, -2], np.int16)), Tensor.of_bytes("b", [b"", b"xyz"])]
    body, length = write_message({}, "inputs", tensors)
    assert body[length:] == b"\x01\x00\xfe\xff" + b"\x00\x00\x00\x00" + b"\x03\x00\x00\x00xyz"
    head = json.loads(body[:length])
    assert [e["parameters"]["binary_data_size"] for e in head["inputs"]] == [4, 11]
    assert [e["shape"] for e in head["inputs"]] == [[2], [2]]


def test_some_outputs_in_binary_and_others_not() -> None:
    tensors = [Tensor.of_numbers("a", np.arange(2)), Tensor.of_bytes("b", [b"x"])]
    body, length = write_message({}, "outputs", tensors, binary=frozenset(["a"]))
    _, [a, b] = read_message(body, str(length), "outputs")
    assert (a.data.tolist(), b.data) == ([0, 1], [b"x"])  # type: ignore[union-attr]


def test_nested_data_is_read_row_by_row() -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1,2],[3,4.5]]}]}'
    _, [tensor] = read_message(body, None, "inputs")
    assert tensor.data.tolist() == [[1, 2], [3, 4.5]]  # type: ignore[union-attr]


def entry(**changes: Any) -> bytes:
    one = {"name": "x", "datatype": "INT64", "shape": [2], "data": [1, 2], **changes}
    return json.dumps({"inputs": [{k: v for k, v in one.items() if v is not None}]}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"[]", 'a list "inputs"'),
        (b'{"inputs": {}}', 'a list "inputs"'),
        (b'{"inputs": [1]}', "an object with a name"),
        (entry(name=3), "an object with a name"),
        (entry(datatype="INT65"), "unknown datatype 'INT65'"),
        (entry(shape=None), "shape must be"),
        (entry(shape=[]), "shape must be"),
        (entry(shape=[-1]), "shape must be"),
        (entry(shape=[True]), "shape must be"),
        (entry(shape=[2.0]), "shape must be"),
        (entry(shape=[2] * 40), "shape must be"),
        (entry(shape=[3]), "asks for 3 elements, and data has 2"),
        (entry(data=None), "neither data nor binary_data_size"),
        (entry(data=3), "must be a list"),
        (entry(data=[1, [2]]), "is \\[2\\], no INT64"),
        (entry(data=[[1], 2]), "mixes lists and values"),
        (entry(data=[1, "2"]), "element 1 is '2'"),
        (entry(data=[1, True]), "element 1 is True"),
        (entry(data=[1, 1.5]), "element 1 is 1.5"),
        (entry(data=[1, 2**64]), "too large"),
        (entry(datatype="UINT8", data=[1, -1]), "too large"),
        (entry(datatype="BOOL"), "element 0 is 1"),
        (entry(datatype="BYTES"), "must be texts"),
        (entry(parameters=[1]), "parameters must be an object"),
        (entry(parameters={"binary_data_size": 16}), "0 bytes are left"),
        (entry(parameters={"binary_data_size": -1}), "binary_data_size is -1"),
        (entry(parameters={"binary_data_size": "16"}), "binary_data_size is '16'"),
        (b'{"inputs":[' + entry()[12:-2] + b"," + entry()[12:-2] + b"]}", "one name"),
    ],
)
def test_a_message_that_breaks_the_protocol(body: bytes, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        read_message(body, None, "inputs")


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "message"),
    [
        ("INT64", [2], b"\0" * 15, "take 16 bytes, not 15"),
        ("BYTES", [1], b"\x05\0\0\0abc", "claims 5 bytes, and 3 are left"),
        ("BYTES", [1], b"\xff\xff\xff\xff", "claims 4294967295 bytes"),
        ("BYTES", [2], b"\x01\0\0\0a", "asks for 2 elements, and the data has 1"),
        ("BYTES", [1], b"\x01\0\0\0a\0", "asks for 1 elements"),
        ("INT64", [2**40], b"", "bytes, not 0"),
    ],
)
def test_binary_data_that_does_not_fit(datatype: str, shape: list[int], raw: bytes, message: str) -> None:
    head = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(raw)}}
    text = json.dumps({"inputs": [head]}).encode()
    with pytest.raises(Malformed, match=message):
        read_message(text + raw, str(len(text)), "inputs")
    with pytest.raises(Malformed, match="left over"):
        read_message(b'{"inputs":[]}' + b"more", "13", "inputs")
    for length in ("-1", "x", "99999"):
        with pytest.raises(Malformed, match="Inference-Header-Content-Length"):
            read_message(text + raw, length, "inputs")


@given(st.data())
def test_no_bytes_break_the_reader(data: st.DataObject) -> None:
    """Whatever comes, there is a message or `Malformed`: here a right message with some bytes changed."""
    tensors = [Tensor.of_numbers("n", np.arange(3)), Tensor.of_bytes("b", [b"xy", b""])]
    body, length = write_message({}, "inputs", tensors, binary=data.draw(st.booleans()))
    spoilt = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_message(bytes(spoilt), None if length is None else str(length), "inputs")
    except Malformed:
        return


def test_types_of_other_servers() -> None:
    assert natural_type("FP32", [-1, 1000]) == "FLOAT[1000]"
    assert natural_type("INT64", [-1, 1]) == "BIGINT"
    assert natural_type("FP32", [-1, -1, 6]) == "FLOAT[6][]"
    assert natural_type("BYTES", [-1]) == "VARCHAR"
    assert natural_type("UINT8", [1, 2, 3]) == "UTINYINT[3][2]"
    for odd in ("BF16", "INT3"):
        with pytest.raises(ProgrammingError, match=odd):
            natural_type(odd, [-1])


@pytest.mark.parametrize(
    ("shape", "type_", "expected"),
    [
        ((2, 1), "BIGINT", [0, 1]),
        ((2, 1, 3), "BIGINT[3]", [[0, 1, 2], [3, 4, 5]]),
        ((2, 2), "DOUBLE[]", [[0.0, 1.0], [2.0, 3.0]]),
        ((1, 2, 2), "BIGINT[2][]", [[[0, 1], [2, 3]]]),
        ((0, 2), "BIGINT[2]", []),
    ],
)
def test_shapes_as_columns(shape: tuple[int, ...], type_: str, expected: list[Any]) -> None:
    tensor = Tensor.of_numbers("t", np.arange(np.prod(shape, dtype=int)).reshape(shape))
    assert from_tensor(tensor, None, type_).to_pylist() == expected


@pytest.mark.parametrize(
    ("tensor", "type_"),
    [
        (Tensor.of_numbers("t", np.zeros((2, 3))), "DOUBLE"),
        (Tensor.of_numbers("t", np.zeros((2, 3))), "DOUBLE[2]"),
        (Tensor.of_numbers("t", np.array([1.5])), "BIGINT"),
        (Tensor.of_bytes("t", [b"x"]), "BIGINT"),
        (Tensor.of_bytes("t", [b"{"]), "STRUCT(x INTEGER)"),
        (Tensor.of_bytes("t", [b"noon"]), "TIME"),
        (Tensor.of_bytes("t", [b"yesterday"]), "DATE"),
        (Tensor("t", "BYTES", (1, 2), [b"a", b"b"]), "VARCHAR"),
    ],
)
def test_a_tensor_that_is_no_such_column(tensor: Tensor, type_: str) -> None:
    with pytest.raises(Malformed, match="tensor 't'"):
        from_tensor(tensor, None, type_)


def test_a_mask_of_another_length() -> None:
    with pytest.raises(Malformed, match="BOOL"):
        from_tensor(Tensor.of_numbers("t", np.zeros(2)), Tensor.of_numbers("_valid.t", np.zeros(3, bool)), "DOUBLE")


def test_what_can_not_travel() -> None:
    for type_ in ("INTERVAL", "MAP(VARCHAR, INTEGER)", "DATE[]"):
        with pytest.raises(ProgrammingError, match="can't travel"):
            wire_type(arrow_type(type_))
