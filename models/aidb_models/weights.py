"""Files of weights: found, fingerprinted, and read without running code that they may hold."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

from aidb.errors import ProgrammingError
from aidb.spi.model import ServiceError

_digests: dict[Path, tuple[int, int, str]] = {}


def existing_file(value: str, option: str = "weights") -> Path:
    """The file that an option names; ProgrammingError if there is none."""
    path = Path(value).expanduser()
    if not path.exists():
        raise ProgrammingError(f"option {option!r}: no file {value!r} (looked in {path.absolute().parent})")
    if not path.is_file():
        raise ProgrammingError(f"option {option!r}: {value!r} is a folder, not a file")
    if path.stat().st_size == 0:
        raise ProgrammingError(f"option {option!r}: {value!r} is empty")
    return path.absolute()


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; remembered for this process while size and modification time stay.

    The name is no part of it: a copy elsewhere is the same model.
    """
    path = path.resolve()
    stat = path.stat()
    known = _digests.get(path)
    if known is None or known[:2] != (stat.st_size, stat.st_mtime_ns):
        with path.open("rb") as f:
            known = (stat.st_size, stat.st_mtime_ns, hashlib.file_digest(f, "sha256").hexdigest())
        _digests[path] = known
    return known[2]


def folder_digest(folder: Path, patterns: tuple[str, ...]) -> str:
    """SHA-256 over the names and bytes of a folder's files that match any of ``patterns``, in a fixed order."""
    h = hashlib.sha256()
    files = {f for pattern in patterns for f in folder.rglob(pattern) if f.is_file()}
    for file in sorted(files, key=lambda f: f.relative_to(folder).as_posix()):
        h.update(f"{file.relative_to(folder).as_posix()}\0{digest(file)}\0".encode())
    return h.hexdigest()


def state_dict(path: Path) -> dict[str, Any]:
    """Read a network's tensors from ``.safetensors`` or from what ``torch.save`` wrote.

    A checkpoint that wraps them (``state_dict``, ``model``) is unwrapped, and the prefix ``module.`` of data-parallel
    training removed. Raises ServiceError, not to be retried, for a file that is damaged, or that holds Python objects:
    unpickling those can run any code, so it is refused.
    """
    tensors = _safetensors(path) if path.suffix.lower() == ".safetensors" else _torch_file(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(tensors, dict) and isinstance(tensors.get(key), dict):
            tensors = tensors[key]
    import torch

    if not isinstance(tensors, dict) or not tensors or not all(isinstance(v, torch.Tensor) for v in tensors.values()):
        raise ServiceError(
            f"{path} holds no state dict (names and tensors): save one with torch.save(model.state_dict(), ...)",
            retry=False,
        )
    return {str(k).removeprefix("module."): v for k, v in tensors.items()}


def _safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as e:
        raise ServiceError("reading .safetensors needs that package: pip install 'aidb[torch]'", retry=False) from e
    try:
        return load_file(path)
    except SafetensorError as e:
        raise ServiceError(f"{path} is not a safetensors file, or it is damaged: {e}", retry=False) from e


def _torch_file(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise ServiceError(
            f"{path} is refused: it is no file of torch.save, or it holds Python objects beside tensors, and loading "
            "those can run any code that its author put there. If you trust it, load it once yourself and write the "
            "tensors: torch.save(model.state_dict(), 'weights.pth') or safetensors.torch.save_file(...)",
            retry=False,
        ) from e
    except (RuntimeError, EOFError, ValueError, KeyError) as e:
        raise ServiceError(
            f"{path} can't be read as a file of torch.save: {str(e).splitlines()[0]}", retry=False
        ) from e
