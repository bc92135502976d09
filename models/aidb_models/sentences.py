"""Folders of text models in the layout of sentence-transformers, run by that package or by onnxruntime.

``config.json``, ``tokenizer.json`` and ``model.safetensors`` are the network; ``modules.json`` lists what follows it
(pooling, a dense layer). A folder may hold an export, ``model.onnx`` or ``onnx/model.onnx``, instead of the tensors.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aidb.errors import ProgrammingError
from aidb.spi.model import ServiceError
from aidb_models.onnx_session import OnnxFile, Session
from aidb_models.runtimes import imported
from aidb_models.weights import folder_digest

_FILES = ("*.json", "*.txt", "*.safetensors", "*.bin", "*.onnx", "*.onnx_data", "*.model")


class Encoder(Protocol):
    """An open text model."""

    device: str

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors ``[n, length]`` of ``n`` texts."""
        ...


@dataclass(frozen=True)
class Folder:
    """A text model on disk, and what its configuration says.

    length: of its vectors. onnx: the export inside, or None.
    """

    path: Path
    length: int
    onnx: Path | None

    @classmethod
    def find(cls, value: str) -> Folder | None:
        """The folder that a path, or the name of an installed package, stands for; None if it is neither.

        Raises ProgrammingError for a folder that holds no text model.
        """
        path = Path(value).expanduser()
        if not path.is_dir():
            spec = importlib.util.find_spec(value.replace("-", "_")) if value.replace("-", "_").isidentifier() else None
            places = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
            found = [f for p in places for f in (p, p / "model") if (f / "config.json").is_file()]
            if not found:
                return None
            path = found[0]
        if not (path / "config.json").is_file():
            raise ProgrammingError(
                f"option 'model': the folder {value!r} has no config.json, so it holds no text model"
            )
        exports = [p for p in (path / "model.onnx", path / "onnx" / "model.onnx") if p.is_file()]
        return cls(path.absolute(), _length(path), exports[0] if exports else None)

    def digest(self) -> str:
        """A digest of all files that the vectors depend on."""
        return folder_digest(self.path, _FILES)


class TorchEncoder:
    """A folder run by sentence-transformers."""

    def __init__(self, folder: Folder, device: str, half: bool) -> None:
        package = imported("sentence_transformers", "embedding")
        imported("transformers", "embedding").utils.logging.disable_progress_bar()
        self.device = device
        try:
            self._model = package.SentenceTransformer(
                str(folder.path), device=device, local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as e:
            raise ServiceError(
                f"sentence-transformers can't load {folder.path}: {str(e).strip().splitlines()[0]}", retry=False
            ) from e
        if half:
            self._model = self._model.half()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        vectors = self._model.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)
        return np.asarray(vectors, np.float32)


class OnnxEncoder:
    """A folder's ONNX export run by onnxruntime, with its tokenizer and its way of pooling."""

    def __init__(self, folder: Folder, device: str, threads: int) -> None:
        assert folder.onnx is not None
        tokenizers = imported("tokenizers", "embedding")
        file = OnnxFile.open(str(folder.onnx), "model")
        self._session = Session(file, device, threads, [file.graph.outputs[0].name])
        self.device = self._session.device
        self._wanted = {tensor.name: tensor.dtype for tensor in file.graph.inputs}
        unknown = sorted(self._wanted.keys() - {"input_ids", "attention_mask", "token_type_ids"})
        if unknown:
            raise ServiceError(
                f"{folder.onnx} wants inputs that a text does not give: {', '.join(unknown)}", retry=False
            )
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder.path / "tokenizer.json"))
        limit = _read(folder.path / "sentence_bert_config.json").get("max_seq_length")
        limit = limit or _read(folder.path / "config.json").get("max_position_embeddings") or 512
        self._tokenizer.enable_truncation(int(limit))
        pad = int(_read(folder.path / "config.json").get("pad_token_id") or 0)
        self._tokenizer.enable_padding(pad_id=pad, pad_token=self._tokenizer.id_to_token(pad) or "[PAD]")
        self._pooling = _pooling(folder.path)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Encoder`."""
        encoded = self._tokenizer.encode_batch(list(texts))
        given = {
            "input_ids": np.array([e.ids for e in encoded]),
            "attention_mask": np.array([e.attention_mask for e in encoded]),
            "token_type_ids": np.array([e.type_ids for e in encoded]),
        }
        answer = self._session.run({name: given[name].astype(dtype) for name, dtype in self._wanted.items()})[0]
        if answer.ndim == 2:
            return answer.astype(np.float32)
        return pooled(answer.astype(np.float32), given["attention_mask"], self._pooling)


def pooled(tokens: NDArray[np.float32], mask: NDArray[Any], how: str) -> NDArray[np.float32]:
    """One vector a text of token vectors ``[n, tokens, length]``: their ``mean`` or ``max``, or the first (``cls``).

    mask: ``[n, tokens]``, 0 for padding.
    """
    if how == "cls":
        return tokens[:, 0]
    real = mask[:, :, None].astype(np.float32)
    if how == "max":
        highest: NDArray[np.float32] = np.where(real > 0, tokens, -np.inf).max(axis=1).astype(np.float32)
        return highest
    total: NDArray[np.float32] = (tokens * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1.0)
    return total


def _length(path: Path) -> int:
    """How long the vectors are: the last dense layer's, else the pooling's, else the network's own size."""
    length = _read(path / "config.json").get("hidden_size") or _read(path / "config.json").get("dim")
    modules = _read(path / "modules.json")
    for module in modules if isinstance(modules, list) else ():
        settings = _read(path / str(module.get("path", "")) / "config.json") if module.get("path") else {}
        length = settings.get("out_features") or settings.get("word_embedding_dimension") or length
    if not isinstance(length, int):
        raise ProgrammingError(f"{path / 'config.json'} does not say how long the vectors are (hidden_size)")
    return length


def _pooling(path: Path) -> str:
    modules = _read(path / "modules.json")
    for module in modules if isinstance(modules, list) else ():
        kind = str(module.get("type", "")).rpartition(".")[2]
        settings = _read(path / str(module.get("path", "")) / "config.json") if module.get("path") else {}
        if kind == "Pooling":
            for how, keys in {"cls": "cls_token", "max": "max_tokens"}.items():
                if settings.get(f"pooling_mode_{keys}"):
                    return how
        elif kind not in ("Transformer", "Normalize"):
            raise ServiceError(
                f"{path} continues with a layer {kind!r}, which its ONNX export leaves out: set runtime = 'torch'",
                retry=False,
            )
    return "mean"


def _read(file: Path) -> Any:
    """A JSON file's content, {} if there is none."""
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as e:
        raise ProgrammingError(f"{file} is not JSON: {e}") from e
