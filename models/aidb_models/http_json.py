"""A batch as JSON, and JSON as a batch of answers.

How values are written: numbers, texts, booleans, lists and structs as JSON has them; NaN, infinities and NULL as null;
DECIMAL as text; dates and times in ISO 8601; bytes (files, pictures, sound) in base64; a decoded picture as the base64 of
a PNG file, or, for the form ``array``, as ``{"shape": [h, w, 3], "dtype": "uint8", "data": "<base64>"}``.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa

from aidb.spi import ItemError, Output, ServiceError, Values, arrow_type

EXCERPT = 200


def request_body(names: Sequence[str], inputs: Sequence[Values], arrays: frozenset[str] = frozenset()) -> bytes:
    """The JSON of a batch. arrays: names of inputs whose pictures are sent as arrays of numbers.

    >>> request_body(["x", "t"], [pa.array([1, None]), ["a", "b"]])
    b'{"inputs":[{"x":1,"t":"a"},{"x":null,"t":"b"}]}'
    """
    columns = []
    for name, values in zip(names, inputs, strict=True):
        plain = values.to_pylist() if isinstance(values, (pa.Array, pa.ChunkedArray)) else values
        columns.append([_written(v, name in arrays) for v in plain])
    items = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return json.dumps({"inputs": items}, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "replace"
    )


class Answers:
    """Reads replies; ``many``: a list of rows for each item."""

    def __init__(self, outputs: Sequence[Output], many: bool) -> None:
        self._names = [o.name for o in outputs]
        self._bytes = {o.name for o in outputs if pa.types.is_binary(arrow_type(o.type))}
        self._many = many

    def read(self, data: bytes, n: int) -> dict[str, list[Any]]:
        """Columns of the answer to ``n`` items, with ``_row`` if there may be many.

        Raises `ServiceError` (what is wrong, for a message that begins with the service's address) for what is no JSON
        (retryable: it may be a proxy's page) or of another shape (not retryable); `ItemError` for an item's own error.
        """
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            raise ServiceError(f"answered what is not JSON: {excerpt(data)}") from None
        entries = answer.get("outputs") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise _shape('an object with a list "outputs" was expected', data)
        if len(entries) != n:
            raise _shape(f'"outputs" has {len(entries)} entries for {n} inputs', data)
        columns: dict[str, list[Any]] = {name: [] for name in self._names}
        rows: list[int] = []
        for i, entry in enumerate(entries):
            self._refuse_error(entry, i)
            for record in self._records(entry, i, data):
                self._add(columns, record, i, data)
                rows.append(i)
        return {**columns, "_row": rows} if self._many else columns

    def _records(self, entry: Any, i: int, data: bytes) -> list[Any]:
        if not self._many:
            return [entry]
        if entry is None:
            return []
        if not isinstance(entry, list):
            raise _shape(f"entry {i} must be a list of rows (rows = 'many')", data)
        return entry

    def _refuse_error(self, entry: Any, i: int) -> None:
        if isinstance(entry, dict) and "error" in entry and "error" not in self._names:
            raise ItemError(f"item {i} of the batch: {excerpt(str(entry['error']).encode('utf-8', 'replace'))}")

    def _add(self, columns: dict[str, list[Any]], record: Any, i: int, data: bytes) -> None:
        if record is None:
            for column in columns.values():
                column.append(None)
            return
        if not isinstance(record, dict):
            if len(self._names) > 1:
                raise _shape(f"entry {i} must be an object with {', '.join(self._names)}", data)
            record = {self._names[0]: record}
        for name, column in columns.items():
            if name not in record:
                raise _shape(f"entry {i} has no field {name!r}", data)
            value = record[name]
            column.append(_from_base64(value, name, i, data) if name in self._bytes and value is not None else value)


def plain(value: Any) -> Any:
    """A value of a plain column as JSON can say it."""
    return _written(value, array=True)


def excerpt(data: bytes) -> str:
    """The beginning of a reply, on one line."""
    shown = " ".join(data[: EXCERPT * 4].decode("utf-8", "replace").split())
    return (shown[:EXCERPT] + "...") if len(shown) > EXCERPT else shown or "(nothing)"


def _shape(what: str, data: bytes) -> ServiceError:
    return ServiceError(f"answered in another shape: {what}; got {excerpt(data)}", retry=False)


def _from_base64(value: Any, name: str, i: int, data: bytes) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _shape(f"field {name!r} of entry {i} is not base64", data) from None


def _written(value: Any, array: bool) -> Any:
    """A value as JSON can say it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, np.ndarray):
        return _picture(value, array)
    if isinstance(value, np.generic):
        return _written(value.item(), array)
    if isinstance(value, dict):
        return {str(k): _written(v, array) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(v, array) for v in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)  # DECIMAL, INTERVAL


def _picture(value: np.ndarray, array: bool) -> Any:
    if array or value.dtype != np.uint8 or value.ndim != 3:
        raw = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"shape": list(value.shape), "dtype": str(value.dtype), "data": raw}
    from PIL import Image

    file = BytesIO()
    Image.fromarray(value).save(file, format="PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()
