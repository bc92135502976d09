"""What a model server is told: a TOML file, flags, or both.

::

    [server]
    host = "0.0.0.0"                # with a token in the environment variable AIDB_SERVE_TOKEN
    max_body_mb = 64

    [models.yolo]
    provider = "ultralytics"        # as in CREATE MODEL ... USING
    devices = ["cuda:0", "cuda:1"]  # a worker on each
    max_batch = 32
    [models.yolo.options]           # as in WITH (...)
    weights = "yolov8n.pt"

    [models.sharpness]
    function = "mymodels:sharpness" # what @aidb.model made, in mymodels.py
    inputs = { images = "image" }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from aidb.errors import ProgrammingError, UnknownName

TOKEN_ENV = "AIDB_SERVE_TOKEN"  # noqa: S105  the name of a variable
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Hosted:
    """One model to host: a provider with options, or a Python function.

    inputs: name -> form or DuckDB type, for inputs that the model leaves open (``any``, or any number of further ones).
    devices: values of the provider's option ``device``; workers: processes on each (or in all, without devices).
    max_batch: items that the model gets at once; max_wait: seconds that a request waits for others to join it.
    timeout: seconds after which a call that has not ended is given up, and its worker started anew.
    """

    name: str
    provider: str = ""
    function: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    workers: int = 1
    max_batch: int | None = None
    max_wait: float = 0.005
    timeout: float = 300.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", self.name):
            raise ProgrammingError(
                f"model {self.name!r}: a name has letters, digits, and _ . - (it is part of an address)"
            )
        if bool(self.provider) == bool(self.function):
            raise ProgrammingError(f"model {self.name} needs either a provider or a function (MODULE:NAME)")
        if self.function and not re.fullmatch(r"[\w.]+:[\w.]+", self.function):
            raise ProgrammingError(f"model {self.name}: function must be MODULE:NAME, and is {self.function!r}")
        if self.function and (self.options or self.devices):
            raise ProgrammingError(
                f"model {self.name}: a function takes no options and no devices; its decorator has them"
            )
        if self.workers < 1 or (self.max_batch is not None and self.max_batch < 1):
            raise ProgrammingError(f"model {self.name}: workers and max_batch must be at least 1")
        if self.max_wait < 0 or self.timeout <= 0:
            raise ProgrammingError(f"model {self.name}: max_wait must not be negative, and timeout above 0")


@dataclass(frozen=True)
class Settings:
    """The server as a whole.

    token_env: the environment variable with the token that every request must bear; needed unless host is loopback.
    max_body_mb: of one request; max_pending_mb: of all requests that are in the server at a time.
    max_pixels: of one picture, asked of its header before anything is decoded. max_waiting: items that wait for a model,
    beyond which requests are answered 429. grace: seconds that a shutdown waits for requests in flight.
    certificate, key: files for https.
    """

    models: tuple[Hosted, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    token_env: str = TOKEN_ENV
    max_body_mb: float = 64
    max_pending_mb: float = 1024
    max_pixels: int = 100_000_000
    max_waiting: int = 4096
    grace: float = 30.0
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not self.models:
            raise ProgrammingError("there is no model to serve: name one with --model, --function or in the file")
        names = [m.name for m in self.models]
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice:
            raise ProgrammingError(f"two models are called {twice}")
        if not 0 <= self.port <= 65535:
            raise ProgrammingError(f"port must be between 0 (any free one) and 65535, not {self.port}")
        for name in ("max_body_mb", "max_pending_mb", "max_pixels", "max_waiting"):
            if getattr(self, name) <= 0:
                raise ProgrammingError(f"{name} must be above 0")
        if bool(self.certificate) != bool(self.key):
            raise ProgrammingError("https needs both a certificate and a key")

    @property
    def is_local(self) -> bool:
        """Can only programs of this machine reach it?"""
        return self.host in _LOOPBACK


def read(path: str | None, server: Mapping[str, Any], models: list[Hosted]) -> Settings:
    """Settings of a TOML file (None: of none), with what flags say on top. Raises `ProgrammingError`."""
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as e:
            raise ProgrammingError(f"can't read {path}: {e.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ProgrammingError(f"{path}: {e}") from None
    _refuse_unknown("table", table, ("server", "models"))
    known = {f.name: f.type for f in fields(Settings) if f.name != "models"}
    given = dict(_table(table.get("server", {}), "server"))
    _refuse_unknown("setting of [server]", given, tuple(known))
    given |= {k: v for k, v in server.items() if v is not None}
    _check_types(given, known, "[server]")
    listed = [_hosted(name, t) for name, t in _table(table.get("models", {}), "models").items()]
    return Settings(models=(*listed, *models), **given)


def _hosted(name: str, given: Any) -> Hosted:
    known = {f.name: f.type for f in fields(Hosted) if f.name != "name"}
    values = dict(_table(given, f"models.{name}"))
    _refuse_unknown(f"setting of [models.{name}]", values, tuple(known))
    if isinstance(values.get("devices"), list):
        values["devices"] = tuple(map(str, values["devices"]))
    _check_types(values, known, f"[models.{name}]")
    return Hosted(name, **values)


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ProgrammingError(f"{name} must be a table, [{name}]")
    return value


def _refuse_unknown(kind: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise UnknownName.of(kind, name, known)


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int,),
    "float": (int, float),
    "tuple[str, ...]": (tuple,),
}


def _check_types(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for name, value in given.items():
        kinds = _KINDS.get(str(known[name]), (dict,))
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ProgrammingError(f"{where}: {name} = {value!r} is no {kinds[-1].__name__}")
