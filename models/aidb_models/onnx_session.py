"""An onnxruntime session: opened on a device, and fed batches whatever batch size its graph was exported with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aidb.errors import ProgrammingError
from aidb.spi.model import ItemError, ServiceError, fingerprint
from aidb_models.devices import translate_memory
from aidb_models.onnx_graph import Graph, read_graph
from aidb_models.runtimes import imported
from aidb_models.weights import digest, existing_file

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}


@dataclass(frozen=True)
class OnnxFile:
    """A file that was checked when the model was created: its head, and a digest that changes with its weights.

    bytes: size of the weights, those in other files included.
    """

    path: Path
    graph: Graph
    digest: str
    bytes: int

    @classmethod
    def open(cls, value: str, option: str = "weights") -> OnnxFile:
        """Read the head of the file that an option names; ProgrammingError if it is missing or no ONNX file."""
        path = existing_file(value, option)
        try:
            graph = read_graph(path)
        except ValueError as e:
            raise ProgrammingError(f"option {option!r}: {value!r} is {e}") from e
        parts = [path.parent / name for name in graph.external]
        for part in parts:
            if not part.is_file():
                raise ProgrammingError(f"option {option!r}: {value!r} keeps weights in {part.name!r}, which is missing")
        size = sum(p.stat().st_size for p in (path, *parts))
        return cls(path, graph, fingerprint(digest(path), *(digest(p) for p in parts)), size)


class Session:
    """An open network.

    device: auto, cpu, cuda, cuda:N or mps (Core ML). After opening, ``device`` says what was got.
    threads: CPU threads inside one operator. One by default: a second one costs more than it brings when other work
        keeps the cores busy, be it other calls of the same session (it may be called from several threads).
    outputs: names of the outputs to compute; all of them if empty.
    batch: the graph's batch size if it is fixed, else None.
    """

    def __init__(self, file: OnnxFile, device: str, threads: int, outputs: Sequence[str] = ()) -> None:
        ort = imported("onnxruntime", "onnx")
        settings = ort.SessionOptions()
        settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(file.path), settings, providers=_providers(ort, device))
        except Exception as e:  # onnxruntime has no public base class for its errors
            if isinstance(e, RuntimeError):
                translate_memory(e)
            raise ServiceError(f"onnxruntime can't load {file.path}: {str(e).splitlines()[0]}", retry=False) from e
        self.device = self._got(device)
        self.outputs = tuple(outputs) or tuple(o.name for o in self._session.get_outputs())
        first = self._session.get_inputs()[0].shape[0] if self._session.get_inputs()[0].shape else None
        self.batch = first if isinstance(first, int) and first > 0 else None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs for a batch, each with the batch as its first dimension.

        A graph with a fixed batch size is fed pieces of that size, the last one padded with zeros.
        """
        count = len(next(iter(inputs.values())))
        if self.batch is None:
            return self._call(inputs)
        pieces = []
        for start in range(0, count, self.batch):
            piece = {name: values[start : start + self.batch] for name, values in inputs.items()}
            missing = self.batch - len(next(iter(piece.values())))
            if missing:
                piece = {
                    name: np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
                    for name, values in piece.items()
                }
            answers = self._call(piece)
            # Only the padded piece is cut: the answers of a graph for one picture may have no batch dimension.
            pieces.append([a[: self.batch - missing] for a in answers] if missing else answers)
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)] if len(pieces) > 1 else pieces[0]

    def _call(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            answers: list[NDArray[Any]] = self._session.run(list(self.outputs), dict(inputs))
        except Exception as e:  # onnxruntime has no public base class for its errors
            if isinstance(e, RuntimeError):
                translate_memory(e)
            raise ItemError(f"onnxruntime failed: {str(e).splitlines()[0]}") from e
        return answers

    def _got(self, requested: str) -> str:
        providers = self._session.get_providers()
        got = next((d for d, name in _PROVIDERS.items() if d != "cpu" and providers[0] == name), "cpu")
        if requested == "auto":
            return got
        if requested.partition(":")[0] != got:
            raise ServiceError(
                f"device = {requested!r}: onnxruntime fell back to the CPU; check the driver, and that the CUDA and "
                "cuDNN versions fit onnxruntime-gpu, or use device = 'cpu'",
                retry=False,
            )
        return requested


def _providers(ort: Any, device: str) -> list[Any]:
    kind, _, index = device.partition(":")
    there = ort.get_available_providers()
    if kind == "auto":
        return [name for d, name in _PROVIDERS.items() if d != "cpu" and name in there] + [_PROVIDERS["cpu"]]
    if _PROVIDERS[kind] not in there:
        package = "onnxruntime-gpu instead of onnxruntime" if kind == "cuda" else "onnxruntime on macOS"
        raise ServiceError(
            f"device = {device!r}: this onnxruntime has no {_PROVIDERS[kind]}; install {package}, or use device = 'cpu'",
            retry=False,
        )
    first = (_PROVIDERS[kind], {"device_id": int(index)}) if index else _PROVIDERS[kind]
    return [first] if kind == "cpu" else [first, _PROVIDERS["cpu"]]
