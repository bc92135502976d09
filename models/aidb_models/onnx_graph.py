"""The head of an ONNX file: inputs, outputs and metadata, read without a runtime and without its weights.

An ONNX file is one protocol buffer message (onnx.proto: ModelProto). Only the few fields below are looked at; every
other one, nodes and tensors among them, is skipped by its length, so a large file costs no more than a small one.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ELEMENT_TYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16", 11: "float64"}

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_TENSOR_NAME, _TENSOR_EXTERNAL = 8, 13


@dataclass(frozen=True)
class Tensor:
    """An input or output: shape with None where a dimension is free, and NumPy's name of the type ('' if other)."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """What an ONNX file says about itself; ``external`` names further files that hold its weights."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: dict[str, str]
    external: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """Read the head of a file; ValueError if it is not ONNX."""
    with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Message(data, 0, len(data)).model()
        except (_MalformedError, IndexError, UnicodeDecodeError) as e:
            raise ValueError("not an ONNX file, or a damaged one") from e


class _MalformedError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Message:
    """A message, or a string, of the mapped file: the bytes from ``start`` to ``end``."""

    data: mmap.mmap
    start: int
    end: int

    def model(self) -> Graph:
        graph: Graph | None = None
        metadata: dict[str, str] = {}
        for number, value in self.messages():
            if number == _MODEL_GRAPH:
                graph = value.graph()
            elif number == _MODEL_METADATA:
                key, text = value.entry()
                metadata[key] = text
        if graph is None or not graph.outputs:
            raise _MalformedError
        return Graph(graph.inputs, graph.outputs, metadata, graph.external)

    def graph(self) -> Graph:
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        constants: set[str] = set()
        external: set[str] = set()
        for number, value in self.messages():
            if number == _GRAPH_INPUT:
                inputs.append(value.tensor())
            elif number == _GRAPH_OUTPUT:
                outputs.append(value.tensor())
            elif number == _GRAPH_INITIALIZER:
                for inner, detail in value.messages():
                    if inner == _TENSOR_NAME:
                        constants.add(detail.text())
                    elif inner == _TENSOR_EXTERNAL and (entry := detail.entry())[0] == "location":
                        external.add(entry[1])
        real = tuple(t for t in inputs if t.name not in constants)  # old exporters list weights among the inputs
        return Graph(real, tuple(outputs), {}, tuple(sorted(external)))

    def tensor(self) -> Tensor:
        name, dtype = "", ""
        shape: tuple[int | None, ...] = ()
        for number, value in self.messages():  # ValueInfoProto
            if number == 1:
                name = value.text()
            elif number == 2:
                for kind, content in value.messages():  # TypeProto
                    if kind == 1:
                        dtype, shape = content.tensor_type()
        return Tensor(name, dtype, shape)

    def tensor_type(self) -> tuple[str, tuple[int | None, ...]]:
        dtype = ""
        shape: tuple[int | None, ...] = ()
        for number, value in self.fields():
            if number == 1 and isinstance(value, int):
                dtype = _ELEMENT_TYPES.get(value, "")
            elif number == 2 and isinstance(value, _Message):
                shape = tuple(dimension.dimension() for n, dimension in value.messages() if n == 1)
        return dtype, shape

    def dimension(self) -> int | None:
        sizes = [value for number, value in self.fields() if number == 1 and isinstance(value, int) and value > 0]
        return sizes[-1] if sizes else None

    def entry(self) -> tuple[str, str]:
        parts = {number: value.text() for number, value in self.messages()}
        return parts.get(1, ""), parts.get(2, "")

    def text(self) -> str:
        return self.data[self.start : self.end].decode("utf-8")

    def messages(self) -> Iterator[tuple[int, _Message]]:
        return ((number, value) for number, value in self.fields() if isinstance(value, _Message))

    def fields(self) -> Iterator[tuple[int, int | _Message]]:
        """Each field: its number, and an integer or the message (or string) that it holds; fixed-size ones as such."""
        at = self.start
        while at < self.end:
            key, at = self._varint(at)
            number, kind = key >> 3, key & 7
            if kind == 0:
                value, at = self._varint(at)
                yield number, value
                continue
            if kind == 2:
                length, at = self._varint(at)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise _MalformedError
            if number == 0 or at + length > self.end:
                raise _MalformedError
            yield number, _Message(self.data, at, at + length)
            at += length

    def _varint(self, at: int) -> tuple[int, int]:
        result = shift = 0
        while shift < 64:
            byte = self.data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, at
            shift += 7
        raise _MalformedError
