"""Our client with MLServer, in a process of its own: another implementation of the protocol, which reads JSON alone."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import aidb
from tests.serving.conftest import ROOT

MODEL = {
    "name": "double",
    "implementation": "tests.serving.mlserver_runtime.Double",
    "versions": ["v7"],
    "parameters": {"version": "v7"},
    "inputs": [
        {"name": "x", "datatype": "FP64", "shape": [-1]},
        {"name": "text", "datatype": "BYTES", "shape": [-1]},
    ],
    "outputs": [
        {"name": "twice", "datatype": "FP64", "shape": [-1]},
        {"name": "pair", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "loud", "datatype": "BYTES", "shape": [-1]},
    ],
}


def free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if importlib.util.find_spec("mlserver") is None:
        pytest.skip("MLServer is not installed: pip install 'aidb[dev]'")
    folder: Path = tmp_path_factory.mktemp("mlserver")
    http, grpc, metrics = free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(MODEL))
    program = "from mlserver.cli import main; main()"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "start", str(folder)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
        )  # fmt: skip
    address = f"http://127.0.0.1:{http}"
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                if httpx.get(f"{address}/v2/models/double/ready", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait(30)


def test_a_query(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with aidb.connect() as con:
        con.execute(f"CREATE MODEL double USING kserve WITH (url = '{url}', batch_size = 8)")
        con.execute(
            "CREATE BLOB TABLE n AS SELECT range AS id, nullif(range, 3) - 1 AS x, 't' || range AS t FROM range(20) KEY (id)"
        )
        con.execute("CREATE VIRTUAL TABLE d AS double(n.x, n.t)")
        cur = con.execute("SELECT id, twice, pair, loud FROM d ORDER BY id")
        expected = [(i, 2.0 * (i - 1), (i - 1.0, 1.0 - i), f"T{i}") for i in range(1, 20)]
        expected[2] = (3, None, None, None)
        assert [(*r[:2], r[2] and tuple(r[2]), r[3]) for r in cur.fetchall()] == expected
        assert cur.report.failed == 1  # the negative number, found by halves, for MLServer says 500
        assert con.execute("SELECT message LIKE '%answered 500%' FROM aidb.errors").fetchall() == [(True,)]
        [(provider, outputs)] = con.execute("SELECT provider, outputs::VARCHAR FROM aidb.models").fetchall()
        assert provider == "kserve"
        assert "FLOAT[2]" in outputs
