"""A terminal for tests: the shell as a program on a pseudo-terminal, and an emulator that shows what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte


class Terminal:
    """The program on a terminal of so many columns and 40 rows, with those that have scrolled away."""

    def __init__(self, home: Path, *arguments: str, columns: int = 80, **environment: str) -> None:
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        kept = {k: v for k, v in os.environ.items() if k != "COLUMNS"}
        kept |= {
            "TERM": "xterm-256color",
            "XDG_STATE_HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "PAGER": "",
        } | environment
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aidb", *arguments], stdin=side, stdout=side, stderr=side, env=kept,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(side)
        self._main = main
        self._screen = pyte.HistoryScreen(columns, 40, history=10_000, ratio=1)
        self._screen.write_process_input = self.type  # answers to what the program asks its terminal
        self._stream = pyte.ByteStream(self._screen)

    def shown(self) -> str:
        """All lines, without the spaces at their ends."""
        gone = ["".join(line[k].data for k in range(self._screen.columns)) for line in self._screen.history.top]
        return "\n".join(line.rstrip() for line in (*gone, *self._screen.display)).rstrip()

    def until(self, seen: Callable[[str], bool] | str, seconds: float = 30) -> str:
        """What is shown once a text, or what a function looks for, can be seen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = self.shown()
            if seen in shown if isinstance(seen, str) else seen(shown):
                return shown
            if select.select([self._main], [], [], 0.2)[0]:
                try:
                    self._stream.feed(os.read(self._main, 65536))
                except OSError:
                    break
        raise AssertionError(f"{seen!r} never came; this did:\n{self.shown()}")

    def ready(self) -> str:
        """What is shown once the prompt waits."""
        return self.until(lambda shown: shown.endswith("aidb>"))

    def run(self, line: str) -> str:
        """What is shown below a line once the prompt waits again."""
        before = self.ready().count("\n")
        self.type(f"{line}\r")
        shown = self.until(lambda shown: shown.count("\n") > before and shown.endswith("\naidb>"))
        return "\n".join(shown.split("\n")[before + 1 : -1])

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def ends(self) -> int:
        """The exit code, once it has left."""
        end = time.monotonic() + 30
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self._main], [], [], 0.1)[0]:  # it may wait for someone to read
                try:
                    self._stream.feed(os.read(self._main, 65536))
                except OSError:
                    break
        code = self.process.wait(timeout=30)
        os.close(self._main)
        return code
