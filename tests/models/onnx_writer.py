"""Writes small ONNX files by hand, so that every kind of network can be tested without weights or the package onnx.

Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_TYPES = {"float32": 1, "uint8": 2, "int64": 7, "float16": 10}


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **ints: int) -> bytes:
    attributes = b"".join(_field(5, _field(1, k) + _field(3, v) + _field(20, 2)) for k, v in ints.items())
    named = b"".join(_field(1, i) for i in inputs) + b"".join(_field(2, o) for o in outputs)
    return named + _field(4, op) + attributes


def tensor_info(name: str, dtype: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(2 if isinstance(d, str) else 1, d)) for d in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _TYPES[dtype]) + _field(2, dims)))


def _constant(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_field(1, d) for d in values.shape)
    return dims + _field(2, _TYPES[values.dtype.name]) + _field(8, name) + _field(9, values.tobytes())


def write(
    path: Path,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    constants: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    graph = b"".join(_field(1, n) for n in nodes) + _field(2, "g")
    graph += b"".join(_field(5, _constant(k, v)) for k, v in (constants or {}).items())
    graph += b"".join(_field(11, i) for i in inputs) + b"".join(_field(12, o) for o in outputs)
    model = _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 17))
    model += b"".join(_field(14, _field(1, k) + _field(2, v)) for k, v in (metadata or {}).items())
    path.write_bytes(model)
    return path


def channel_means(path: Path, batch: int | str = "n", size: int = 8, metadata: Mapping[str, str] | None = None) -> Path:
    """A network that answers the mean of each channel of its input: ``[batch, 3]``."""
    return write(
        path,
        [node("GlobalAveragePool", ["x"], ["m"]), node("Flatten", ["m"], ["y"], axis=1)],
        [tensor_info("x", "float32", [batch, 3, size, size])],
        [tensor_info("y", "float32", [batch, 3])],
        metadata=metadata,
    )


def fixed_answer(path: Path, answers: Mapping[str, np.ndarray], size: int = 32, **metadata: str) -> Path:
    """A network for one picture that answers the same whatever it sees."""
    return write(
        path,
        [node("Identity", [f"{name}_"], [name]) for name in answers],
        [tensor_info("x", "float32", [1, 3, size, size])],
        [tensor_info(name, values.dtype.name, values.shape) for name, values in answers.items()],
        {f"{name}_": values for name, values in answers.items()},
        metadata,
    )
