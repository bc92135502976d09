"""Finding the rows of a table by key, many keys at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from aidb.errors import ProgrammingError


class KeyIndex:
    """Numbers the distinct keys 0, 1, 2... and groups the table's rows by them.

    keys: the key's columns, each an Arrow array with one value a row. labels: what errors call them.

    order: ``int64 [n]``, the rows sorted by key, those of one key in the order of the table (rows with a NULL in their
        key are left out). starts, counts: ``int64 [distinct]``, where a key's rows are in ``order`` and how many.
    repeated: a row whose key an earlier row has too, or None.
    """

    def __init__(self, keys: Sequence[pa.Array], labels: Sequence[str]) -> None:
        self._columns: list[_Numbers | _Texts] = []
        self._pairs: list[np.ndarray] = []
        codes = np.zeros(len(keys[0]), dtype=np.int64)
        for i, (key, label) in enumerate(zip(keys, labels, strict=True)):
            kind = key.type
            column = _Texts(key) if _as_text(kind, label) else _Numbers(key)
            self._columns.append(column)
            new = column.codes(key)
            if i == 0:
                codes = new
                continue
            joint = _joined(codes, new, column.size)
            distinct = np.unique(joint[joint >= 0])
            self._pairs.append(distinct)
            codes = _position(distinct, joint)
        valid = np.flatnonzero(codes >= 0)
        self.order: np.ndarray = valid[np.argsort(codes[valid], kind="stable")]
        size = int(codes.max()) + 1 if codes.size and codes.max() >= 0 else 0
        self.counts = np.bincount(codes[valid], minlength=max(size, 1))
        self.starts = np.cumsum(self.counts) - self.counts
        several = np.flatnonzero(self.counts > 1)
        self.repeated: int | None = int(self.order[self.starts[several[0]] + 1]) if several.size else None

    def find(self, keys: Sequence[pa.Array]) -> np.ndarray:
        """The number of each key, ``int64 [n]``; -1 where the table has none."""
        codes = self._columns[0].codes(keys[0])
        for column, distinct, key in zip(self._columns[1:], self._pairs, keys[1:], strict=True):
            codes = _position(distinct, _joined(codes, column.codes(key), column.size))
        return codes

    def expand(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each row of each found key: which of ``found`` it belongs to, and its place in ``order``."""
        counts = np.where(found < 0, 0, self.counts[found])
        rows = np.repeat(np.arange(len(found), dtype=np.int64), counts)
        first = self.starts[found] - (np.cumsum(counts) - counts)
        return rows, np.repeat(first, counts) + np.arange(len(rows), dtype=np.int64)


class _Numbers:
    """Numbers distinct values of a column of numbers, dates or times by their place in sorted order."""

    def __init__(self, values: pa.Array) -> None:
        self.type = values.type
        self._distinct = np.unique(_plain(values.drop_null()))
        self.size = len(self._distinct)

    def codes(self, values: pa.Array) -> np.ndarray:
        values = values if values.type == self.type else values.cast(self.type)
        if not values.null_count:
            return _position(self._distinct, _plain(values))
        missing = values.is_null().to_numpy(zero_copy_only=False)
        numbers = np.zeros(len(values), dtype=self._distinct.dtype)
        numbers[~missing] = _plain(values.drop_null())
        return np.where(missing, -1, _position(self._distinct, numbers))


class _Texts:
    """Numbers distinct texts (or bytes, or decimals written out) in order of appearance."""

    def __init__(self, values: pa.Array) -> None:
        self.type = values.type
        self._codes: dict[object, int] = {}
        for value in _objects(values):
            if value is not None:
                self._codes.setdefault(value, len(self._codes))
        self.size = len(self._codes)

    def codes(self, values: pa.Array) -> np.ndarray:
        get = self._codes.get
        values = values if values.type == self.type else values.cast(self.type)
        return np.fromiter((get(v, -1) for v in _objects(values)), dtype=np.int64, count=len(values))


def _as_text(type_: pa.DataType, label: str) -> bool:
    t = pa.types
    if t.is_nested(type_) or t.is_interval(type_) or t.is_null(type_):
        raise ProgrammingError(f"{label} is of the type {type_}; a key is made of numbers, texts, dates or times")
    return bool(t.is_string(type_) or t.is_binary(type_) or t.is_decimal(type_))


def _objects(values: pa.Array) -> np.ndarray:
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.string())
    objects: np.ndarray = values.to_numpy(zero_copy_only=False)
    return objects


def _plain(values: pa.Array) -> np.ndarray:
    """A column without NULLs as a numpy array of integers or floats."""
    t = pa.types
    if t.is_boolean(values.type):
        values = values.cast(pa.int8())
    elif t.is_date32(values.type):
        values = values.cast(pa.int32())
    elif t.is_temporal(values.type):
        values = values.cast(pa.int64())
    numbers: np.ndarray = values.to_numpy(zero_copy_only=False)
    return numbers


def _position(distinct: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Place of each value in a sorted array of distinct ones, -1 if it is not there."""
    if not distinct.size:
        return np.full(len(values), -1, dtype=np.int64)
    places = np.searchsorted(distinct, values)
    places[places == len(distinct)] = 0
    return np.where(distinct[places] == values, places, -1)


def _joined(left: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    """One number for each pair of codes; -1 if either is. Both stay below the number of rows, so the product fits."""
    return np.where((left < 0) | (right < 0), -1, left * max(size, 1) + right)
