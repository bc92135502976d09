"""The shell as a program, and as a function."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from aidb.surfaces.shell import main


@dataclass(frozen=True)
class Done:
    """What a run of the shell gave."""

    code: int
    out: str
    err: str


Aidb = Callable[..., Done]


@pytest.fixture(autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has configured, and typed, is none of their business."""
    home = tmp_path_factory.mktemp("xdg")
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(home))


@pytest.fixture
def aidb_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Aidb:
    """Run the shell in this process; stdin is a pipe with this text."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as left:
            code = int(left.code or 0)
        told = capsys.readouterr()
        return Done(code, told.out, told.err)

    return run


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run the shell as a program of its own."""

    def run(*arguments: object, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-m", "aidb", *map(str, arguments)],
            input=stdin, capture_output=True, check=False, timeout=60, env=dict(os.environ), **options,
        )  # fmt: skip

    return run
