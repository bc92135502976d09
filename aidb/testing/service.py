"""A web service that goes wrong at chosen requests, for models that ask one: real connections, on this machine only."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args

Fault = Literal["reset", "truncated", "corrupt", "schema", "missing", "doubled", "hang", "page"]
"""How a reply is spoilt: the connection breaks before it or in the middle of it; it is no JSON; its fields have other
names; an item's answer is missing, or there twice; it does not come before `FaultyService.release`; it is a proxy's page
of HTML."""


class FaultyService:
    """A service for ``CREATE MODEL m USING http WITH (url = '...')``, made of a function of one item.

    answer: called with an item as the service gets it (a dict of its inputs), returns its entry of ``outputs``.
    faults: number of a request (1-based, in order of arrival) -> a `Fault`, or a status such as 429 or 500.
    retry_after: seconds that replies of status 429 and 503 ask for.

    ``requests`` counts what arrived, ``items`` those that were answered well, in order (an item twice is there twice).

    ::

        with FaultyService(lambda item: {"size": len(item["text"])}, {2: "truncated", 3: 429}) as service:
            con.execute(f"CREATE MODEL m USING http WITH (url = '{service.url}', ...)")
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], Any],
        faults: Mapping[int, Fault | int] | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        self.answer, self.faults, self.retry_after = answer, dict(faults or {}), retry_after
        for fault in self.faults.values():
            if fault not in get_args(Fault) and not isinstance(fault, int):
                raise ValueError(f"fault {fault!r}: choose a status or one of {', '.join(get_args(Fault))}")
        self.requests = 0
        self.items: list[dict[str, Any]] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.owner = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultyService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def release(self) -> None:
        """Let requests that hang go on."""
        self.released.set()

    def close(self) -> None:
        """Stop; requests that hang are given up."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def next_fault(self) -> Fault | int | None:
        """What is wrong with the request that has just arrived."""
        with self._lock:
            self.requests += 1
            return self.faults.get(self.requests)

    def answered(self, items: list[dict[str, Any]]) -> None:
        """Count items whose answers were sent as they should be."""
        with self._lock:
            self.items += items


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def do_POST(self) -> None:
        service: FaultyService = self.server.owner
        items = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))["inputs"]
        fault = service.next_fault()
        if fault == "hang":
            service.released.wait()
        entries = [service.answer(item) for item in items]
        if fault in (None, "hang"):
            service.answered(items)
            self._send(200, entries)
        elif isinstance(fault, int):
            self._send(fault, None)
        else:
            self._spoil(str(fault), entries)

    def _spoil(self, fault: str, entries: list[Any]) -> None:
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)  # closing sends a reset instead of an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        elif fault == "truncated":
            body = json.dumps({"outputs": entries}).encode()
            self._head(200, len(body))
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == "corrupt":
            self._bytes(200, json.dumps({"outputs": entries}).encode()[:-3] + b"\xff\x00}")
        elif fault == "page":
            self._bytes(200, b"<html><body>Sign in to the network</body></html>")
        elif fault == "schema":
            self._send(200, [{"surprise": 1} for _ in entries])
        else:
            self._send(200, entries[:-1] if fault == "missing" else [*entries, entries[-1]])

    def _send(self, status: int, entries: list[Any] | None) -> None:
        content = {"error": "as it was told to"} if entries is None else {"outputs": entries}
        self._bytes(status, json.dumps(content).encode())

    def _bytes(self, status: int, body: bytes) -> None:
        self._head(status, len(body))
        self.wfile.write(body)

    def _head(self, status: int, length: int) -> None:
        after = self.server.owner.retry_after
        self.send_response(status)
        if after is not None and status in (429, 503):
            self.send_header("Retry-After", f"{after:g}")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
