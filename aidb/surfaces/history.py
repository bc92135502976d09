"""What was typed, kept for the next time: readable by its owner alone, and nothing with a secret in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory

from aidb.exec.secrets import holds_secret


class History(FileHistory):
    """Statements in a file, the newest last; a file that can't be read or written is said once, and done without.

    kept: how many the file holds at most, about: it is cut when it has grown to twice as many.
    """

    def __init__(self, path: Path, kept: int, said: Callable[[str], None]) -> None:
        super().__init__(path)
        self._path, self._kept, self._said = path, kept, said
        self._usable = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
            path.chmod(0o600)
            self._cut()
        except OSError as wrong:
            self._give_up(wrong)

    def load_history_strings(self) -> Iterable[str]:
        """The statements, newest first."""
        if not self._usable:
            return []
        try:
            return list(super().load_history_strings())
        except OSError as wrong:
            self._give_up(wrong)
            return []

    def store_string(self, string: str) -> None:
        """Keep one statement."""
        if not self._usable or holds_secret(string) or not string.strip():
            return
        try:
            super().store_string(string)
        except OSError as wrong:
            self._give_up(wrong)

    def _cut(self) -> None:
        """Leave the newest statements in the file."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        begins = [k for k, line in enumerate(lines) if line.startswith(b"#")]
        if len(begins) <= 2 * self._kept:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.writelines(lines[begins[-self._kept] :])
        new.replace(self._path)

    def _give_up(self, wrong: OSError) -> None:
        self._usable = False
        self._said(f"the history can't be kept in {self._path}: {wrong.strerror or wrong}")
