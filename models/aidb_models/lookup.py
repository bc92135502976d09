"""Recorded answers as a model: labels from a file or a table in memory, found by key.

``CREATE MODEL truth USING lookup WITH (path = 'labels.csv', key = 'frame_id')`` replays what people or an earlier run
said, so that it can be queried, compared with, and measured against, as if a model said it now.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from aidb.errors import ProgrammingError, SourceError, UnknownName
from aidb.spi import (
    Columns,
    Input,
    ItemError,
    ModelSpec,
    Options,
    Output,
    Values,
    arrow_type,
    duckdb_type,
    fingerprint,
)
from aidb_models.keys import KeyIndex
from aidb_models.option_types import Common, names, not_negative, one_of, text

BATCH_SIZE = 8192
OPTIONS = (
    "path", "key", "columns", "outputs", "rows", "missing", "version", "seconds_per_item", "batch_size", "price_per_call",
)  # fmt: skip


class Lookup:
    """A model that looks answers up.

    Options: path (``.csv``, ``.parquet``, ``.jsonl``, also ``.gz``; a local file or a URL that fsspec reads); key (the
    name of a column, or a list of names: they become the model's inputs); columns (names of the outputs, by default all
    others) or outputs (``{'label': 'VARCHAR'}``: names and types); rows (``one`` or ``many``, by default ``many`` if a
    key repeats); missing (``null``: an unknown key gets NULLs, or no rows with ``many``; ``error``: it is a failed
    item); version (in place of the content's hash in the fingerprint); batch_size, price_per_call, seconds_per_item.

    In a CSV file an empty field is NULL, and a quoted empty one the empty text. A NULL key matches nothing.
    ``calls`` and ``items`` count what `predict` was asked.

    Raises `ProgrammingError` for wrong options (such as ``rows = 'one'`` where a key repeats), `SourceError` if the
    file can't be read.
    """

    def __init__(self, name: str, options: Options) -> None:
        options.refuse_unknown(OPTIONS)
        path = options.take("path", text)
        table, content = _read(path)
        outputs = options.take("outputs", _types, None)
        common = Common.read(options)
        self._set_up(
            name,
            table,
            options.take("key", names),
            list(options.take("columns", names, None) or ()) if outputs is None else outputs,
            options.take("rows", one_of("one", "many"), None),
            options.take("missing", one_of("null", "error"), "null"),
            options["version"] if options.get("version") is not None else content,
            {
                "batch_size": common.batch_size or BATCH_SIZE,
                "price_per_call": common.price_per_call,
                "seconds_per_item": options.take("seconds_per_item", not_negative, 1e-6),
            },
        )

    @classmethod
    def of(
        cls,
        name: str,
        table: Any,
        key: str | Sequence[str],
        *,
        outputs: Sequence[str] | Mapping[str, str] = (),
        rows: Literal["one", "many"] | None = None,
        missing: Literal["null", "error"] = "null",
        version: str | None = None,
        **spec: Any,
    ) -> Lookup:
        """A model of a table in memory: an Arrow table, a dict of columns, a list of dicts or a pandas DataFrame.

        outputs: names, or name -> DuckDB type; by default all columns but the key. Every further keyword is a field of
        `ModelSpec`.

        >>> truth = Lookup.of("truth", {"id": [1, 2], "label": ["car", "bus"]}, "id")
        >>> truth.predict([pa.array([2, 5])])["label"].to_pylist()
        ['bus', None]
        """
        made = cls.__new__(cls)
        arrow = _as_table(table)
        chosen = dict(outputs) if isinstance(outputs, Mapping) else list(outputs)
        content = version if version is not None else _content(arrow)
        settings = {"batch_size": BATCH_SIZE, "seconds_per_item": 1e-6, **spec}
        made._set_up(name, arrow, names(key), chosen, rows, missing, content, settings)
        return made

    def _set_up(
        self,
        name: str,
        table: pa.Table,
        key: tuple[str, ...],
        outputs: list[str] | dict[str, str],
        rows: str | None,
        missing: str,
        content: object,
        settings: dict[str, Any],
    ) -> None:
        self.name = name
        self.calls = self.items = 0
        self._lock = threading.Lock()
        key = tuple(_found(name, table, k) for k in key)
        if not outputs:
            outputs = [c for c in table.column_names if c not in key]
        if not outputs:
            raise ProgrammingError(f"lookup {name}: the table has no column besides its key {', '.join(key)}")
        columns = {_found(name, table, c): c for c in outputs}
        clash = [c for c in columns if c in key]
        if clash:
            raise ProgrammingError(f"lookup {name}: {clash[0]!r} can't be both key and output")
        keys = [_typed(name, k, table[k], None) for k in key]
        types = {c: outputs[given] if isinstance(outputs, dict) else None for c, given in columns.items()}
        values = {c: _typed(name, c, table[c], type_) for c, type_ in types.items()}
        self._index = KeyIndex(keys, [f"lookup {name}: key {k!r}" for k in key])
        if rows == "one" and self._index.repeated is not None:
            shown = ", ".join(f"{k} = {v[self._index.repeated].as_py()!r}" for k, v in zip(key, keys, strict=True))
            raise ProgrammingError(
                f"lookup {name}: rows = 'one', but {shown} is there more than once; drop the option, or say rows = 'many'"
            )
        chosen = rows or ("one" if self._index.repeated is None else "many")
        self._values = {c: v.take(self._index.order) for c, v in values.items()}
        self._missing, self._key = missing, key
        declared = tuple(Output(columns[c] if types[c] else c, types[c] or duckdb_type(table[c].type)) for c in columns)
        self._outputs = dict(zip((o.name for o in declared), columns, strict=True))
        inputs = tuple(Input(k, "value", duckdb_type(table[k].type)) for k in key)
        self.spec = ModelSpec(
            inputs=inputs,
            outputs=declared,
            rows=chosen,  # type: ignore[arg-type]
            fingerprint=fingerprint("lookup", str(content), key, [(o.name, o.type) for o in declared], chosen, missing),
            **settings,
        )

    def load(self) -> None:
        """Nothing: the table is in memory since the model was made."""

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Find the rows of each key, in the order of the table."""
        n = len(inputs[0])
        with self._lock:
            self.calls += 1
            self.items += n
        found = self._index.find([_column(values) for values in inputs])
        if self._missing == "error" and (unknown := np.flatnonzero(found < 0)).size:
            at = int(unknown[0])
            shown = ", ".join(f"{k} = {_column(v)[at].as_py()!r}" for k, v in zip(self._key, inputs, strict=True))
            raise ItemError(f"lookup {self.name}: there is no row with {shown}")
        if self.spec.rows == "one":
            taken = pa.array(self._index.starts[found], mask=found < 0)
            return {name: self._values[c].take(taken) for name, c in self._outputs.items()}
        rows, places = self._index.expand(found)
        taken = pa.array(places)
        return {**{name: self._values[c].take(taken) for name, c in self._outputs.items()}, "_row": rows}

    def close(self) -> None:
        """Nothing: the table goes with the object."""


def _column(values: Values) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values)


def _found(name: str, table: pa.Table, column: str) -> str:
    """The table's spelling of a column's name."""
    if column in table.column_names:
        return column
    for spelling in table.column_names:
        if spelling.lower() == column.lower():
            return str(spelling)
    raise UnknownName.of(f"column of lookup {name}", column, table.column_names)


def _typed(name: str, column: str, values: pa.ChunkedArray, type_: str | None) -> pa.Array:
    """A column as one Arrow array of the type that DuckDB will give it (or that was asked for)."""
    try:
        target = arrow_type(type_ or duckdb_type(values.type))
        array = values.combine_chunks()
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return array if array.type == target else array.cast(target)
    except (pa.ArrowException, ProgrammingError) as e:
        raise ProgrammingError(f"lookup {name}: column {column!r}: {e}") from e


def _types(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not value or not all(isinstance(t, str) for t in value.values()):
        raise ValueError("expected names and DuckDB types: {'label': 'VARCHAR'}")
    return {str(k): t for k, t in value.items()}


def _as_table(table: Any) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if isinstance(table, Mapping):
        return pa.table(dict(table))
    if isinstance(table, Sequence):
        return pa.Table.from_pylist(list(table))
    if type(table).__module__.split(".")[0] == "pandas":
        return pa.Table.from_pandas(table, preserve_index=False)
    if hasattr(table, "__arrow_c_stream__"):
        return pa.table(table)
    raise ProgrammingError(
        f"a lookup needs a table: Arrow, pandas, a dict of columns or a list of dicts, not {type(table)}"
    )


def _content(table: pa.Table) -> str:
    """A hash of the values and types of a table, however it is chunked."""
    sink = pa.BufferOutputStream()
    plain = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _read(path: str) -> tuple[pa.Table, str]:
    """The file as a table, and the hash of its bytes."""
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read()
    except (OSError, ValueError, ImportError) as e:
        raise SourceError(f"can't read {path}: {e}") from e
    file_name = PurePosixPath(path.partition("?")[0].replace("\\", "/"))
    suffixes = [s.lower() for s in file_name.suffixes[-2:]]
    compression = "gzip" if suffixes[-1:] == [".gz"] else None
    kind = (suffixes[:-1] if compression else suffixes)[-1:]
    stream = pa.input_stream(pa.py_buffer(data), compression=compression)
    try:
        if kind in ([".csv"], [".tsv"]):
            table = _read_csv(stream, "\t" if kind == [".tsv"] else ",")
        elif kind in ([".jsonl"], [".ndjson"], [".json"]):
            import pyarrow.json

            table = pyarrow.json.read_json(stream)
        elif kind in ([".parquet"], [".pq"]):
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(pa.BufferReader(stream.read()))
        else:
            raise ProgrammingError(f"lookup reads .csv, .tsv, .parquet and .jsonl files (also .gz), and not {path}")
    except (pa.ArrowException, OSError) as e:
        raise SourceError(f"{path} is not a table that can be read: {e}") from e
    return table, hashlib.sha256(data).hexdigest()


def _read_csv(stream: Any, delimiter: str) -> pa.Table:
    from pyarrow import csv

    return csv.read_csv(
        stream,
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
