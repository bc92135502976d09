from __future__ import annotations

import datetime as dt
import gzip
import json
import math
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aidb_models.lookup import Lookup
from hypothesis import given
from hypothesis import strategies as st

from aidb.errors import DatabaseError, ProgrammingError, SourceError, UnknownName
from aidb.exec.validate import validate
from aidb.spi import Input, ItemError, Model, Options, Output, Values
from aidb.testing import ModelContract, table_model

LABELS = {"frame_id": [3, 1, 2], "label": ["bus", "car", None], "score": [0.5, 0.25, 1.0]}
BOXES = {"frame_id": [2, 1, 2, 9], "x": [20, 10, 21, 90]}


def ask(model: Lookup, *inputs: Any) -> dict[str, list[Any]]:
    arrays = [i if isinstance(i, pa.Array) else pa.array(i) for i in inputs]
    found: dict[str, list[Any]] = validate(model.name, model.spec, model.predict(arrays), len(arrays[0])).to_pydict()
    return found


class TestOne(ModelContract):
    def make(self) -> Model:
        return table_model("truth", LABELS, "frame_id")

    def inputs(self) -> Sequence[Values]:
        return [pa.array([1, 7, 3, None])]


class TestMany(ModelContract):
    def make(self) -> Model:
        return table_model("boxes", BOXES, "frame_id")

    def inputs(self) -> Sequence[Values]:
        return [pa.array([1, 7, 2, None])]


def test_one_row_a_key() -> None:
    model = table_model("truth", LABELS, "frame_id")
    assert model.spec.inputs == (Input("frame_id", "value", "BIGINT"),)
    assert model.spec.outputs == (Output("label", "VARCHAR"), Output("score", "DOUBLE"))
    assert model.spec.rows == "one"
    assert ask(model, [1, 2, 5, None, 1]) == {
        "label": ["car", None, None, None, "car"],
        "score": [0.25, 1.0, None, None, 0.25],
    }
    assert (model.calls, model.items) == (1, 5)


def test_many_rows_a_key_in_the_order_of_the_table() -> None:
    model = table_model("boxes", BOXES, "frame_id")
    assert model.spec.rows == "many"
    assert ask(model, [2, 5, None, 1, 2]) == {"x": [20, 21, 10, 20, 21], "_row": [0, 0, 3, 4, 4]}
    assert ask(model, [5]) == {"x": [], "_row": []}


def test_many_may_be_asked_for_where_keys_do_not_repeat() -> None:
    assert ask(table_model("t", LABELS, "frame_id", rows="many", outputs=["score"]), [3]) == {
        "score": [0.5],
        "_row": [0],
    }


def test_one_row_is_refused_where_a_key_repeats() -> None:
    with pytest.raises(ProgrammingError, match=r"lookup boxes: rows = 'one', but frame_id = 2 is there more than once"):
        table_model("boxes", BOXES, "frame_id", rows="one")


def test_a_key_of_several_columns() -> None:
    table = {"cam": ["a", "a", "b", None], "ts": [1, 2, 1, 1], "n": [10, 20, 30, 40]}
    model = table_model("t", table, ["cam", "ts"])
    assert [i.name for i in model.spec.inputs] == ["cam", "ts"]
    assert ask(model, ["a", "b", "b", None, "a"], [2, 1, 2, 1, None]) == {"n": [20, 30, None, None, None]}
    three = table_model("t", {**table, "d": [dt.date(2026, 1, 1)] * 4}, ["d", "cam", "ts"])
    assert ask(three, [dt.date(2026, 1, 1), dt.date(2026, 1, 2)], ["a", "a"], [2, 2]) == {"n": [20, None]}


@pytest.mark.parametrize(
    ("keys", "unknown"),
    [
        ([1.5, -2.0, 1e300], math.nan),
        (["x", "", "y"], "z"),
        ([b"x", b"", b"y"], b"z"),
        ([True, False, None], None),
        ([dt.date(2026, 1, 1), dt.date(1969, 1, 1), dt.date(2000, 1, 1)], dt.date(2026, 1, 2)),
        ([dt.datetime(2026, 1, 1), dt.datetime(1969, 1, 1), dt.datetime(2000, 1, 1)], dt.datetime(2026, 1, 2)),
        ([Decimal("1.50"), Decimal("2.00"), Decimal("-3.25")], Decimal("1.51")),
        ([2**62 + 1, -(2**62), 0], 2**62),
    ],
)
def test_keys_of_all_kinds(keys: list[Any], unknown: Any) -> None:
    model = table_model("t", {"k": keys, "v": [1, 2, 3]}, "k")
    expected = [None if k is None else i + 1 for i, k in enumerate(keys)]
    assert ask(model, pa.array([*keys, unknown], pa.array(keys).type))["v"] == [*expected, None]


def test_keys_come_in_other_types_of_the_same_values() -> None:
    model = table_model("t", {"k": pa.array([1, 2], pa.int16()), "v": ["a", "b"]}, "k")
    assert model.spec.inputs[0].type == "SMALLINT"
    assert ask(model, pa.array([2, 1], pa.int64())) == {"v": ["b", "a"]}
    coded = table_model("t", pa.table({"k": pa.array(["x", "y"]).dictionary_encode(), "v": [1, 2]}), "k")
    assert ask(coded, ["y"]) == {"v": [2]}


def test_a_key_that_can_not_be_compared() -> None:
    with pytest.raises(ProgrammingError, match="key 'k' is of the type list"):
        table_model("t", {"k": [[1]], "v": [1]}, "k")


def test_an_unknown_key_may_be_a_failed_item() -> None:
    for rows in ("one", "many"):
        model = table_model("t", LABELS, "frame_id", missing="error", rows=rows)  # type: ignore[arg-type]
        assert ask(model, [1])["label"] == ["car"]
        with pytest.raises(ItemError, match="lookup t: there is no row with frame_id = 7"):
            model.predict([pa.array([1, 7])])


def test_chosen_columns_and_types() -> None:
    model = table_model("t", LABELS, "FRAME_ID", outputs={"Score": "FLOAT"})
    assert model.spec.outputs == (Output("Score", "FLOAT"),)
    assert ask(model, [3]) == {"Score": [0.5]}
    with pytest.raises(ProgrammingError, match=r"lookup t: column 'label': .*'car'"):
        table_model("t", LABELS, "frame_id", outputs={"label": "INTEGER"})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": "frame"}, UnknownName, "unknown column of lookup t 'frame'; did you mean frame_id"),
        ({"outputs": ["lable"]}, UnknownName, "did you mean label"),
        ({"outputs": ["frame_id"]}, ProgrammingError, "can't be both key and output"),
        ({"key": ["frame_id", "label", "score"]}, ProgrammingError, "no column besides its key"),
        ({"table": 3}, ProgrammingError, "a lookup needs a table"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], error: type[DatabaseError], message: str) -> None:
    with pytest.raises(error, match=message):
        table_model("t", **{"table": LABELS, "key": "frame_id", **change})


def test_tables_of_many_kinds() -> None:
    table = pa.table(LABELS)
    rows = [dict(zip(LABELS, row, strict=True)) for row in zip(*LABELS.values(), strict=True)]
    for kind in (table, table.to_batches()[0], LABELS, rows, pa.concat_tables([table.slice(0, 1), table.slice(1)])):
        model = table_model("t", kind, "frame_id")
        assert ask(model, [3, 1])["label"] == ["bus", "car"]
        assert model.spec == table_model("t", LABELS, "frame_id").spec
    pd = pytest.importorskip("pandas")
    assert ask(table_model("t", pd.DataFrame(LABELS), "frame_id"), [3, 1])["label"] == ["bus", "car"]


def test_the_fingerprint_follows_the_answers() -> None:
    def made(table: Any = LABELS, key: Any = "frame_id", **more: Any) -> str:
        return table_model("t", table, key, **more).spec.fingerprint

    assert made() == made(batch_size=3, price_per_call=1.0, seconds_per_item=2.0)
    others = [
        made(), made({**LABELS, "score": [0.5, 0.25, 2.0]}), made(key=["frame_id", "score"]), made(rows="many"),
        made(outputs=["label"]), made(outputs={"label": "VARCHAR", "score": "FLOAT"}), made(missing="error"),
        made(version="1"),
    ]  # fmt: skip
    assert len(set(others)) == len(others)
    assert made(version="1") == made({**LABELS, "score": [0.5, 0.25, 2.0]}, version="1")


# --- files ----------------------------------------------------------------------------------------------------------


def write(folder: Path, suffix: str) -> Path:
    path = folder / f"labels{suffix}"
    table = pa.table(LABELS)
    plain = suffix.removesuffix(".gz")
    if plain == ".parquet":
        pq.write_table(table, path)
        return path
    lines = (
        [json.dumps(row) for row in table.to_pylist()]
        if plain == ".jsonl"
        else ["frame_id,label,score", "3,bus,0.5", "1,car,0.25", "2,,1.0"]
    )
    data = ("\n".join(lines) + "\n").replace(",", "\t" if plain == ".tsv" else ",").encode()
    path.write_bytes(gzip.compress(data, mtime=0) if suffix.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet"])
def test_files(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path, suffix.lower()).rename(tmp_path / f"labels{suffix}")
    model = Lookup("truth", Options({"path": str(path), "key": "frame_id", "price_per_call": 0.5, "batch_size": 10}))
    assert ask(model, [1, 2, 7])["label"] == ["car", None, None]
    assert (model.spec.price_per_call, model.spec.batch_size, model.spec.outputs[1].type) == (0.5, 10, "DOUBLE")


def test_empty_fields_and_words_that_look_like_null(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text('id,word,n\n1,NA,1\n2,null,\n3,"",3\n4,,4\n5,"two\nlines",5\n')
    model = Lookup("w", Options({"path": str(path), "key": "id"}))
    assert ask(model, [1, 2, 3, 4, 5]) == {"word": ["NA", "null", "", None, "two\nlines"], "n": [1, None, 3, 4, 5]}


def test_a_file_that_changes_is_another_model_and_one_that_moves_is_not(tmp_path: Path) -> None:
    path = write(tmp_path, ".csv")

    def made(at: Path, **more: Any) -> str:
        return Lookup("t", Options({"path": str(at), "key": "frame_id", **more})).spec.fingerprint

    first, versioned = made(path), made(path, version=1)
    moved = path.rename(tmp_path / "moved.csv")
    assert made(moved) == first
    moved.write_text(moved.read_text().replace("bus", "van"))
    assert made(moved) != first
    assert made(moved, version=1) == versioned


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ProgrammingError, "missing the option 'path'"),
        ({"path": "{dir}/labels.csv"}, ProgrammingError, "missing the option 'key'"),
        ({"path": "{dir}/none.csv", "key": "x"}, SourceError, "can't read .*none.csv"),
        ({"path": "{dir}/labels.xlsx", "key": "x"}, ProgrammingError, "lookup reads .csv"),
        ({"path": "{dir}/broken.parquet", "key": "x"}, SourceError, "not a table that can be read"),
        ({"path": "{dir}/labels.csv", "key": "frame_id", "rows": "three"}, ProgrammingError, "choose one or many"),
        ({"path": "{dir}/labels.csv", "key": "frame_id", "keys": "x"}, UnknownName, "did you mean key"),
        (
            {"path": "{dir}/labels.csv", "key": "frame_id", "outputs": "label"},
            ProgrammingError,
            "names and DuckDB types",
        ),
        ({"path": "{dir}/labels.csv", "key": "frame_id", "outputs": {"label": "TEXTT"}}, ProgrammingError, "TEXTT"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
    write(tmp_path, ".csv")
    (tmp_path / "labels.xlsx").write_bytes(b"PK")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but no more")
    given_path = {k: v.replace("{dir}", str(tmp_path)) if k == "path" else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        Lookup("t", Options(given_path))


# --- against a plain loop, and the clock ----------------------------------------------------------------------------

KEYS = st.tuples(st.one_of(st.none(), st.integers(-3, 3)), st.one_of(st.none(), st.sampled_from("abc")))


@given(st.lists(KEYS, min_size=1, max_size=20), st.lists(KEYS, min_size=1, max_size=20))
def test_same_as_a_loop(table: list[tuple[Any, Any]], asked: list[tuple[Any, Any]]) -> None:
    a, b = (pa.array([k[i] for k in table], t) for i, t in enumerate((pa.int64(), pa.string())))
    model = table_model("t", pa.table({"a": a, "b": b, "v": range(len(table))}), ["a", "b"], rows="many")
    inputs = [pa.array([k[i] for k in asked], t) for i, t in enumerate((pa.int64(), pa.string()))]
    expected = [(i, v) for i, k in enumerate(asked) for v, t in enumerate(table) if None not in k and t == k]
    assert ask(model, *inputs) == {"_row": [i for i, _ in expected], "v": [v for _, v in expected]}


@pytest.mark.parametrize("kind", ["integers", "texts"])
def test_an_answer_costs_less_than_a_microsecond_and_a_half(kind: str) -> None:
    n = 100_000
    rng = np.random.default_rng(1)
    ids = rng.permutation(n)
    keys = ids if kind == "integers" else [f"item-{i}" for i in ids]
    model = table_model("t", {"id": keys, "label": ["car"] * n, "score": rng.random(n)}, "id")
    batch = [pa.array(np.arange(8192) if kind == "integers" else [f"item-{i}" for i in range(8192)])]
    best = math.inf
    for _ in range(5):
        start = time.thread_time()
        validate("t", model.spec, model.predict(batch), 8192)
        best = min(best, time.thread_time() - start)
    assert best / 8192 < 1.5e-6
