"""What a person likes to have at the prompt, and which caps always hold: ``aidb/config.toml`` in the XDG folder for such files.

::

    [shell]                       # the prompt's alone: what a script writes never depends on it
    format = "table"
    pager = "less -S"             # false for none
    init = "~/.config/aidb/init.sql"

    [settings]                    # SET aidb.max_cost = 5 in every session, scripts too
    max_cost = 5
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aidb.errors import ProgrammingError
from aidb.surfaces.vocabulary import SETTINGS


@dataclass(frozen=True)
class Config:
    """The file, read and checked.

    format, timer, progress: as ``.mode``, ``.timer`` and ``--no-progress`` say. pager: a command line, None for $PAGER, or
    "" for none. init: statements to begin with. history: how many statements are kept, 0 for none. suggest: offer
    completions as one types, not only for Tab. colors: highlight what is typed. settings: aidb.<name> -> value.
    """

    format: str = "table"
    timer: bool = True
    progress: bool = True
    pager: str | None = None
    init: Path | None = None
    history: int = 5_000
    suggest: bool = True
    colors: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)


_SHELL: dict[str, type | tuple[type, ...]] = {
    "format": str, "timer": bool, "progress": bool, "pager": (str, bool), "init": str, "history": (int, bool), "suggest": bool,
    "colors": bool,
}  # fmt: skip


def config_file() -> Path | None:
    """Where the file is looked for: $XDG_CONFIG_HOME/aidb/config.toml, else below ~/.config; None where there is no home."""
    return _xdg("XDG_CONFIG_HOME", ".config", "config.toml")


def history_file() -> Path | None:
    """Where history is kept: $XDG_STATE_HOME/aidb/history, else below ~/.local/state; None where there is no home."""
    return _xdg("XDG_STATE_HOME", ".local/state", "history")


def _xdg(variable: str, default: str, name: str) -> Path | None:
    chosen = os.environ.get(variable)
    try:
        folder = Path(chosen) if chosen and os.path.isabs(chosen) else Path.home() / default
    except RuntimeError:
        return None
    return folder / "aidb" / name


def read_config(path: Path | None) -> Config:
    """The config of a file; the defaults if there is none. Raises `ProgrammingError` naming the file and what is wrong.

    A cap on spending that silently did not hold would be worse than a shell that does not start.
    """
    if path is None:
        return Config()
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return Config()
    except OSError as wrong:
        raise _unusable(path, wrong.strerror or str(wrong)) from wrong
    try:
        values = tomllib.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as wrong:
        raise _unusable(path, f"it is no text in UTF-8 (byte {wrong.start:,})") from wrong
    except tomllib.TOMLDecodeError as wrong:
        raise _unusable(path, f"it is no TOML: {wrong}") from wrong
    return _checked(path, values)


def _checked(path: Path, values: Mapping[str, Any]) -> Config:
    _refuse_unknown(path, "", values, ("shell", "settings"))
    shell, settings = (_table(path, values, name) for name in ("shell", "settings"))
    _refuse_unknown(path, "shell.", shell, tuple(_SHELL))
    _refuse_unknown(path, "settings.", settings, SETTINGS)
    for name, value in shell.items():
        wanted = _SHELL[name]
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        if type(value) not in kinds or (bool in kinds and len(kinds) > 1 and value is True):
            words = {str: "a text", bool: "true or false" if len(kinds) == 1 else "false", int: "a whole number"}
            raise _unusable(path, f"shell.{name} = {value!r}: {' or '.join(words[k] for k in kinds)} is needed")
    from aidb.surfaces.formats import FORMATS, ONE_RESULT

    chosen = shell.get("format", "table")
    if chosen not in FORMATS or chosen in ONE_RESULT:
        there = ", ".join(form for form in FORMATS if form not in ONE_RESULT)
        raise _unusable(path, f"shell.format = {chosen!r}: there is {there}")
    if shell.get("history", 0) < 0:
        raise _unusable(path, "shell.history is below 0")
    kept = dict(shell)
    if "pager" in kept:
        kept["pager"] = kept["pager"] or ""
    if "history" in kept:
        kept["history"] = int(kept["history"])
    if "init" in kept:
        kept["init"] = path.parent / Path(kept["init"]).expanduser()
    return Config(**kept, settings=settings)


def _table(path: Path, values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise _unusable(path, f"{name} is a table: write [{name}] on a line of its own")
    return found


def _refuse_unknown(path: Path, owner: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            meant = f"did you mean {near[0]}?" if near else f"there is {', '.join(known)}"
            raise _unusable(path, f"unknown key {owner}{name}; {meant}")


def _unusable(path: Path, why: str) -> ProgrammingError:
    return ProgrammingError(f"{path}: {why} (--no-config does without the file)")
