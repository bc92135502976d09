"""Long results in a pager, where there is a person to turn the pages."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def default_pager() -> str | None:
    """$PAGER, else less or more if there is one; None for no pager: $PAGER is empty, or there is none."""
    chosen = os.environ.get("PAGER")
    if chosen is not None:
        return chosen.strip() or None
    return next((name for name in ("less", "more") if shutil.which(name)), None)


@contextmanager
def paged(command: str) -> Iterator[TextIO]:
    """A stream into a pager; leaving waits until the person has closed it.

    Once it is closed, writing raises BrokenPipeError within, which goes no further. Ctrl-C is the pager's alone.
    Raises OSError if there is no such program.
    """
    environment = {"LESS": "FRX", "LESSCHARSET": "utf-8"} | dict(os.environ)
    sys.stdout.flush()
    # A person's own command line, which may have arguments or a pipe of its own.
    process = subprocess.Popen(command, shell=True, stdin=subprocess.PIPE, env=environment)  # noqa: S602
    assert process.stdin is not None
    out = io.TextIOWrapper(process.stdin, encoding="utf-8", errors="replace", write_through=False)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with suppress(BrokenPipeError):
            yield out
    finally:
        with suppress(OSError):
            out.close()
        try:
            code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    if code == 127:  # the shell's word for a program that is not there
        raise FileNotFoundError(command)
