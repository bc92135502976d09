"""``SET aidb.name = value``: what each setting means, and what it accepts."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from aidb.errors import OperationalError, ProgrammingError, UnknownName
from aidb.exec.urls import LISTED, read_urls

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}


def _number(value: object) -> float:
    """A finite number, or NaN for what is none; a switch is none."""
    try:
        number = math.nan if isinstance(value, bool) else float(str(value).replace("_", ""))
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _whole(value: object) -> int:
    number = _number(value)
    if not number >= 0 or number != int(number):
        raise ValueError("a whole number, 0 or more, is needed")
    return int(str(value)) if str(value).isdecimal() else int(number)


def _positive(value: object) -> float:
    number = _number(value)
    if not number >= 0:
        raise ValueError("a number, 0 or more, is needed")
    return number


def _batch(value: object) -> int:
    number = _whole(value)
    if number == 0:
        raise ValueError("at least 1 is needed")
    return number


def _ratio(value: object) -> float:
    text = str(value).strip()
    number = _number(text[:-1]) / 100 if text.endswith("%") else _number(text)
    if not 0 <= number <= 1:
        raise ValueError("a share between 0 and 1 (or 0% and 100%) is needed")
    return number


def _bytes(value: object) -> int:
    match = re.fullmatch(r"\s*([\d.]+)\s*([kmg]?i?b?)\s*", str(value).lower())
    if match is None or match[2] not in _UNITS or not _number(match[1]) > 0:
        raise ValueError("a size such as '512MB' or '2GiB' is needed")
    size = int(float(match[1]) * _UNITS[match[2]])
    if size <= 0:
        raise ValueError("a size above 0 is needed")
    return size


def _choice(*options: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = str(value).lower()
        if text not in options:
            raise ValueError(f"one of {', '.join(options)} is needed")
        return text

    return read


def _switch(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false", "1", "0", "on", "off"):
        raise ValueError("true or false is needed")
    return text in ("true", "1", "on")


def _stream(value: object) -> str:
    words = {"true": "on", "1": "on", "false": "off", "0": "off"}
    return _choice("auto", "on", "off")(words.get(str(value).lower(), value))


def _address(value: object) -> str:
    text = str(value).strip()
    if not text:
        raise ValueError("an address such as 'auto' or '10.0.0.5:6379' is needed")
    return text


def _workers(value: object) -> str:
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(value))
    if match is None or not 1 <= int(match[1]) <= int(match[2] or match[1]):
        raise ValueError("a number such as '4', or a range such as '1-8', is needed")
    return match[1] if match[2] is None else f"{match[1]}-{match[2]}"


def _memory() -> int:
    """A quarter of the machine's memory, at most 2 GiB."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        total = 4 * 1024**3
    return int(min(total // 4, 2 * 1024**3))


@dataclass(frozen=True)
class Settings:
    """The settings of a connection; each is set by ``SET aidb.<name>`` and given back by ``RESET aidb.<name>``.

    max_calls, max_seconds, max_cost: caps on one statement; reaching one is resumable. on_error: ``skip`` records an
    item that fails and goes on, ``raise`` ends the statement. max_error_ratio: share of failed items that ends it.
    batch_size: items a model call, in place of the model's own. memory_limit: bytes of decoded items in flight.
    seed: of every sample. progress: show progress. executor: where models run. optimizer: false runs every model on
    all that the statement touches. stream: hand out rows while models are at work: ``on`` wherever a query allows it,
    ``auto`` if it asks about many items and no cap or ``on_error = 'raise'`` may end it, ``off`` never. follow_urls: which
    references to other machines are followed, beside those that a blob table has listed.
    ray_address: of the cluster that runs models where the executor is ``ray``; None is one of our own on this machine.
    ray_workers: how many at least and at most, ``2`` or ``1-8``. ray_cpus, ray_gpus: what each takes of the cluster.
    """

    max_calls: int | None = None
    max_seconds: float | None = None
    max_cost: float | None = None
    on_error: str = "skip"
    max_error_ratio: float = 0.1
    batch_size: int | None = None
    memory_limit: int = field(default_factory=_memory)
    seed: int | None = None
    progress: bool = True
    executor: str = "local"
    optimizer: bool = True
    stream: str = "auto"
    follow_urls: str = LISTED
    ray_address: str | None = None
    ray_workers: str | None = None
    ray_cpus: float = 1.0
    ray_gpus: float | None = None

    @property
    def most_workers(self) -> int:
        """Processes that may run models at the same time, as far as the settings say."""
        if self.executor == "local":
            return 1
        return int(self.ray_workers.rpartition("-")[2]) if self.ray_workers is not None else os.cpu_count() or 1

    def changed(self, name: str, value: object | None) -> Settings:
        """These settings with one of them set, or reset by None. Raises `UnknownName`, `ProgrammingError`."""
        low = name.lower()
        if low not in _READERS:
            raise UnknownName.of("setting", f"aidb.{low}", [f"aidb.{n}" for n in _READERS])
        if value is None:
            return replace(self, **{low: getattr(Settings(), low)})
        try:
            read: Any = _READERS[low](value)
        except ValueError as e:
            raise ProgrammingError(f"SET aidb.{low} = {value!r}: {e}") from e
        if low == "executor" and read == "ray" and importlib.util.find_spec("ray") is None:
            raise OperationalError("aidb.executor = 'ray' needs Ray: pip install 'aidb[ray]'")
        return replace(self, **{low: read})


_READERS: dict[str, Callable[[object], object]] = {
    "max_calls": _whole,
    "max_seconds": _positive,
    "max_cost": _positive,
    "on_error": _choice("skip", "raise"),
    "max_error_ratio": _ratio,
    "batch_size": _batch,
    "memory_limit": _bytes,
    "seed": _whole,
    "progress": _switch,
    "executor": _choice("local", "ray"),
    "optimizer": _switch,
    "stream": _stream,
    "follow_urls": read_urls,
    "ray_address": _address,
    "ray_workers": _workers,
    "ray_cpus": _positive,
    "ray_gpus": _positive,
}
assert set(_READERS) == {f.name for f in fields(Settings)}
