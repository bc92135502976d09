"""Which processor a model runs on: guessed cheaply when the model is created, settled when it is loaded.

A `ModelSpec` must exist without importing torch, so ``auto`` is first answered by looking for a driver and at the
kind of build that is installed. Loading asks the runtime itself; a device that was asked for by name and is not there
is an error, never a silent fall back to the CPU.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aidb.spi.model import OutOfMemory, ServiceError

_BATCH_SECONDS = 0.5


def device_name(value: object) -> str:
    """The type of the option ``device``: auto, cpu, mps, cuda, or one card such as cuda:1.

    >>> device_name("CUDA:1"), device_name(0)
    ('cuda:1', 'cuda:0')
    """
    word = str(value).strip().lower()
    if word.isdigit():
        word = f"cuda:{word}"
    kind, _, index = word.partition(":")
    if kind not in ("auto", "cpu", "mps", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise ValueError("choose auto, cpu, cuda, cuda:N or mps")
    return word


def guess(requested: str, package: str) -> str:
    """What ``requested`` will most likely mean to ``package`` (torch or onnxruntime), without importing it."""
    if requested != "auto":
        return requested
    if sys.platform == "darwin":
        return "mps" if platform.machine() == "arm64" else "cpu"
    return "cuda" if _nvidia_driver() and _cuda_build(package) else "cpu"


def settle(requested: str) -> str:
    """The torch device that ``requested`` means on this machine; ServiceError if it was named and is not there."""
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if requested == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = requested.partition(":")
    if kind == "cuda" and int(index or 0) >= cuda:
        have = f"only {cuda} CUDA device{'s' * (cuda != 1)}" if cuda else "no CUDA device"
        raise ServiceError(
            f"device = {requested!r}: torch {torch.__version__} sees {have}; use device = 'auto' or 'cpu', or install "
            "a CUDA build of torch and the driver",
            retry=False,
        )
    if kind == "mps" and not mps:
        raise ServiceError("device = 'mps': torch sees no Metal device; use device = 'auto' or 'cpu'", retry=False)
    return requested


def usual_batch(device: str, seconds: float = _BATCH_SECONDS / 8) -> int:
    """Pictures a call if the user does not say.

    On a CPU a network gains nothing by a batch, so a call is as long as it takes to make storing it cheap: about
    half a second. seconds: what a picture takes, on a CPU.
    """
    return min(32, max(2, round(_BATCH_SECONDS / seconds))) if device == "cpu" else 32


def processors() -> int:
    """Processors that this process may use: fewer than the machine has, in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def half_refused(half: bool, device: str) -> None:
    """Half precision needs a GPU: on a CPU it is slower, and several layers do not exist."""
    if half and device == "cpu":
        raise ServiceError("half = true needs a GPU, and this model runs on the CPU; leave it out", retry=False)


def free_memory(device: str) -> None:
    """Give a torch device's unused memory back, after a model was dropped."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def translate_memory(error: RuntimeError) -> None:
    """Raise OutOfMemory if a runtime's error means that the batch did not fit; otherwise return."""
    text = str(error).lower()
    if "out of memory" in text or "failed to allocate memory" in text:
        raise OutOfMemory(str(error).splitlines()[0]) from error


def _nvidia_driver() -> bool:
    if sys.platform == "win32":
        return Path(r"C:\Windows\System32\nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def _cuda_build(package: str) -> bool:
    try:
        if package == "onnxruntime":
            return bool(version("onnxruntime-gpu"))
        return not version(package).endswith("+cpu")
    except PackageNotFoundError:
        return False
