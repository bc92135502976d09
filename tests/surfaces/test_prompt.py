"""The shell with a person: a program on a terminal of its own."""

from __future__ import annotations

import json
import os
import re
import select
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

import fcntl
import pty
import struct
import termios

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The program on a pseudo-terminal of 80 columns."""

    def __init__(self, home: Path, *arguments: str) -> None:
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm"}
        environment |= {"XDG_STATE_HOME": str(home), "INPUTRC": os.devnull}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aidb", *arguments], stdin=side, stdout=side, stderr=side, env=environment,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(side)
        self._main = main
        self._told = b""

    def until(self, text: str, seconds: float = 30) -> str:
        """What is shown up to a text; it is taken away."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = _ESCAPES.sub("", self._told.decode(errors="replace")).replace("\r", "")
            at = shown.find(text)
            if at >= 0:
                self._told = shown[at + len(text) :].encode()
                return shown[: at + len(text)]
            if select.select([self._main], [], [], 0.2)[0]:
                try:
                    self._told += os.read(self._main, 65536)
                except OSError:
                    break
        raise AssertionError(f"{text!r} never came; this did: {self._told.decode(errors='replace')}")

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, as late after the prompt as a person would: readline is deaf until it waits for keys."""
        time.sleep(0.5)
        self.type("\x03")

    def ends(self) -> int:
        """The exit code, once it has left."""
        code = self.process.wait(timeout=30)
        os.close(self._main)
        return code


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(tmp_path / "state", *arguments))
        opened[-1].until("aidb> ")
        return opened[-1]

    yield start
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def test_a_conversation(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shell = terminal()
    shell.type("SELECT 6 *\n")
    shell.until(" ...> ")
    shell.type("7 AS answer;\n")
    assert "\n    42\n" in shell.until("aidb> ")
    shell.type("SELECT nothing;\n")
    assert "error: " in shell.until("aidb> ")
    shell.type("SELECT 'half a\n")
    shell.until(" ...> ")
    shell.interrupt()
    shell.until("aidb> ")
    shell.type("SELECT repeat('x', 500) AS long, NULL AS n;\n")
    shown = shell.until("aidb> ")
    assert "…" in shown
    assert max(map(len, shown.splitlines())) <= 80
    shell.type(".mode jsonl\n")
    shell.until("aidb> ")
    shell.type("SELECT repeat('x', 500) AS long;\n")
    assert "x" * 500 in shell.until("aidb> ").replace("\n", "")
    shell.type("help\n")
    assert ".models" in shell.until("aidb> ")
    shell.type("\x04")
    assert shell.ends() == 0
    history = tmp_path / "state" / "aidb" / "history"
    assert "SELECT 6 *" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_quit_leaves_in_several_spellings(terminal: Callable[..., Terminal]) -> None:
    for word in (".quit", "exit;"):
        shell = terminal()
        shell.type(f"{word}\n")
        assert shell.ends() == 0


class _Slow(BaseHTTPRequestHandler):
    """A model that takes its time for each batch."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        time.sleep(0.1)
        answer = json.dumps({"outputs": [{"n": 1} for _ in asked]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  the base class's name
        pass


@pytest.fixture
def slow() -> Iterator[str]:
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
        con.execute("CREATE BLOB TABLE t AS SELECT range AS id, 'text ' || range AS body FROM range(2000) KEY (id)")
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
    shell.type("SELECT sum(n) FROM v;\n")
    shell.until("/2000")
    shell.until("/s")
    shell.until("cost ")
    shell.type("\x03")
    told = shell.until("aidb> ")
    assert "finished work is kept (slow: " in told
    shell.type("SELECT count(*) > 0 AS some FROM aidb.calls;\n")
    assert "true" in shell.until("aidb> ")
    shell.type("\x04")
    assert shell.ends() == 0


def test_ctrl_c_of_a_script_is_code_130(database: Path) -> None:
    done = subprocess.Popen(
        [sys.executable, "-m", "aidb", str(database), "-c", "SELECT sum(n) FROM v", "-c", "SELECT 1"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # The write-ahead log grows with the first batch that is stored.
    log = database.with_name(f"{database.name}.wal")
    end = time.monotonic() + 30
    while time.monotonic() < end and not (log.exists() and log.stat().st_size > 4096):
        time.sleep(0.05)
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=30)
    assert (done.returncode, out) == (130, "")
    assert "finished work is kept" in err
    assert "Traceback" not in err
    with aidb.connect(database) as con:
        ((kept,),) = con.execute("SELECT sum(items) FROM aidb.calls").fetchall()
        assert 0 < kept < 2000
