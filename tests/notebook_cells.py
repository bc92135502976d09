"""Cells of a notebook, run by IPython in this process; what they show, as text."""

from __future__ import annotations

import atexit
import contextlib
import io
import re
import tempfile
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

_COLOURS = re.compile(r"\x1b\[[\d;]*m")


class Notebook:
    """One notebook. names: its variables."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._home = tempfile.TemporaryDirectory()
        settings = Config()
        settings.InteractiveShell.colors = "nocolor"
        settings.InteractiveShell.xmode = "Plain"
        settings.InteractiveShell.ipython_dir = self._home.name
        settings.HistoryManager.enabled = False
        self._shell = InteractiveShell(config=settings, user_ns=names)

    def run(self, cell: str) -> tuple[str, bool]:
        """Run a cell; what it prints, then its result or its error, and whether all went well.

        Bars, which are gone at the end, are left out.
        """
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            done = self._shell.run_cell(cell)
        shown = re.sub(r"^Out\[\d+\]: ?\n?", "", _COLOURS.sub("", said.getvalue()), flags=re.MULTILINE)
        return shown, bool(done.success)

    def close(self) -> None:
        """Close what the magics opened."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._shell.run_line_magic("unload_ext", "aidb")
        self._shell.atexit_operations()
        atexit.unregister(self._shell.atexit_operations)
        self._home.cleanup()
