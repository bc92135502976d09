"""The shell with a person: a program on a terminal of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import aidb

if sys.platform == "win32":
    pytest.skip("pseudo-terminals are not for Windows", allow_module_level=True)

from tests.surfaces.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, columns: int = 80, **environment: str) -> Terminal:
        opened.append(Terminal(tmp_path / "state", *arguments, columns=columns, **environment))
        opened[-1].ready()
        return opened[-1]

    yield start
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_a_conversation(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shell = terminal()
    shell.type("SELECT 6 *\r")
    shell.until(" ...>")
    shell.type("7 AS answer;\r")
    shell.until("\n    42\n1 row, ")
    assert "error: " in shell.run("SELECT nothing;")
    shell.type("create bl")
    shell.until("blob table  statement")
    shell.type("\t")
    shell.until("aidb> create blob table")
    shell.type("\x03")
    shell.type("SELECT 'half a\r")
    shell.until("half a\n ...>")
    shell.type("\x03")
    told = shell.run("SELECT repeat('x', 500) AS long, NULL AS n;")
    assert "…" in told
    assert max(map(len, told.splitlines())) <= 80
    shell.run(".mode jsonl")
    assert "x" * 500 in shell.run("SELECT repeat('x', 500) AS long;").replace("\n", "")
    assert ".models" in shell.run("help")
    shell.run("CREATE SECRET s (TYPE s3, KEY_ID 'hidden', SECRET 'hidden');")
    shell.type("\x04")
    assert shell.ends() == 0
    history = tmp_path / "state" / "aidb" / "history"
    assert "+SELECT 6 *\n+7 AS answer;" in history.read_text()
    assert "hidden" not in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_a_narrow_terminal_with_a_pager(terminal: Callable[..., Terminal]) -> None:
    shell = terminal(columns=40, PAGER="tail -n 2")
    told = shell.run("SELECT range AS n, '漢字 ' || repeat('long ', 9) AS t, 1 AS a, 2 AS b FROM range(500);")
    lines = told.splitlines()
    assert lines[-3].startswith("498  漢字")  # what stands before has been written to the pager
    assert lines[-2].startswith("499  漢字")
    assert "500 rows, " in lines[-1]
    assert len(lines) == 5  # the statement takes three
    assert shell.run("SELECT 42 AS small;").endswith("42\n1 row, 0.00 s") or "42" in shell.shown()
    shell.type(".quit\r")
    assert shell.ends() == 0


_IN_FLIGHT = 40
"""Items: some batches of four, which are told apart from the 400 on a busy machine too, where seconds tell nothing."""


class _Slow(BaseHTTPRequestHandler):
    """A model that takes its time for each batch, until it is in a hurry."""

    seconds = 0.1
    asked = 0

    def do_POST(self) -> None:
        items = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        time.sleep(type(self).seconds)
        type(self).asked += len(items)
        answer = json.dumps({"outputs": [{"n": 1} for _ in items]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the base class's name
        pass


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(_Slow, "seconds", 0.1)
    monkeypatch.setattr(_Slow, "asked", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def database(tmp_path: Path, slow: str) -> Path:
    path = tmp_path / "slow.aidb"
    with aidb.connect(path) as con:
        con.execute("CREATE BLOB TABLE t AS SELECT range AS id, 'text ' || range AS body FROM range(400) KEY (id)")
        con.execute(
            f"CREATE MODEL slow USING http WITH (url = '{slow}', inputs = {{'body': 'text'}}, outputs = {{'n': 'INTEGER'}}, "
            "batch_size = 4, concurrency = 1, price_per_call = 0.5)"
        )
        con.execute("CREATE VIRTUAL TABLE v AS slow(t.body)")
    return path


def test_ctrl_c_at_the_prompt_keeps_finished_work_and_goes_on(
    terminal: Callable[..., Terminal], database: Path
) -> None:
    shell = terminal(str(database))
    shell.type("SELECT sum(n) FROM v;\r")
    running = shell.until(lambda shown: "/400  " in shown and " left  " in shown)
    assert "/s  " in running
    assert " calls  cost " in running
    asked = _Slow.asked
    shell.type("\x03")
    assert "finished work is kept (slow: " in shell.ready()
    assert _Slow.asked - asked <= _IN_FLIGHT
    assert "true" in shell.run("SELECT count(*) > 0 AS some FROM aidb.calls;")
    shell.type("\x04")
    assert shell.ends() == 0


def test_ctrl_c_of_a_script_is_code_130_and_the_next_run_goes_on(database: Path) -> None:
    command = [sys.executable, "-m", "aidb", str(database), "--format", "csv", "-c", "SELECT sum(n) AS n FROM v"]
    done = subprocess.Popen([*command, "-c", "SELECT 1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while time.monotonic() < end and _Slow.asked < 20:  # the first of these batches has been stored
        time.sleep(0.05)
    asked = _Slow.asked
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=60)
    assert _Slow.asked - asked <= _IN_FLIGHT
    assert (done.returncode, out) == (130, "")
    assert "finished work is kept" in err
    assert "Traceback" not in err
    with aidb.connect(database) as con:
        ((kept,),) = con.execute("SELECT sum(items) FROM aidb.calls").fetchall()
    assert 0 < kept < 400
    _Slow.seconds = 0
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stdout == "n\n400\n"
    assert _Slow.asked == 400  # no item twice
