"""A web server for tests of models that ask one: its reply is a function of the request."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Service:
    """Starts at once, on a free port of this machine.

    seen: (path, headers, body) of each request, in order. most: how many were answered at the same time at most.
    """

    def __init__(self, reply: Callable[[Handler], None], path: str = "") -> None:
        self.reply = reply
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.service = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}{path}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def paths(self, ending: str) -> int:
        """How many requests had a path that ends so."""
        return sum(path.endswith(ending) for path, _, _ in self.seen)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    """One request: ``path``, ``headers``, ``body``; `answer` replies."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def do_POST(self) -> None:
        service = self.server.service
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with service.lock:
            service.seen.append((self.path, dict(self.headers), self.body))
            service.now += 1
            service.most = max(service.most, service.now)
        try:
            service.reply(self)
        finally:
            with service.lock:
                service.now -= 1

    do_GET = do_POST

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None: ...
