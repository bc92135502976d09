"""One server for the tests of this folder, in a process of its own, started as a user would start it."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
MODELS = (
    "--function", "measure=tests.serving.hosted:measure",
    "--function", "upto=tests.serving.hosted:upto",
    "--model", "faces=opencv,detector=face",
)  # fmt: skip


class Server:
    """``aidb serve-models`` with these arguments; `url` once it listens, and `wait` until it is ready."""

    def __init__(self, arguments: Sequence[str], *, port: int = 0, token: str | None = TOKEN) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_PROXY": "*"}
        environment.pop("AIDB_SERVE_TOKEN", None)
        if token is not None:
            environment["AIDB_SERVE_TOKEN"] = token
        command = [sys.executable, "-m", "aidb", "serve-models", *arguments, "--port", str(port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._addresses: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._addresses.get(timeout=60)
        assert self.url, "".join(self.said)
        self.port = int(self.url.rpartition(":")[2])
        self.client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            trust_env=False,
            timeout=60,
        )

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            found = re.search(r"listening on (\S+)", line)
            if found:
                self._addresses.put(found[1])
        self._addresses.put("")

    def wait(self) -> Server:
        """Until every model is loaded; asks again and again, as a container's health check does."""
        while self.client.get("/v2/health/ready").status_code != 200:
            assert self.process.poll() is None, "".join(self.said)
            self.pause()
        return self

    def pause(self) -> None:
        """Between two questions about a state that is to come."""
        time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut would."""
        self.process.kill()
        self._over()

    def stop(self) -> int:
        """As an operator would; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._over()

    def _over(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        self.client.close()
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    started = Server(MODELS)
    try:
        yield started.wait()
    finally:
        started.stop()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment variable in which clients find the token."""
    monkeypatch.setenv("MODELS_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "*")
    return "MODELS_TOKEN"
