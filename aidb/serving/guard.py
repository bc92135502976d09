"""What stands before every route: the token, the size of a body, and how much of it is in memory at a time."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Guard:
    """An ASGI application around another one.

    token: what every request must bear (``Authorization: Bearer``), whatever it asks for; None: no token, and then only
    a request that names this machine as its host is let in, since a web page could otherwise talk to us under a name of
    its own that leads here. max_body, max_pending: bytes of one body, and of all that are in the server.
    """

    def __init__(self, app: App, token: str | None, max_body: int, max_pending: int) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._max_body, self._max_pending = max_body, max_pending
        self._pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {k.lower(): v for k, v in scope["headers"]}
        read = 0
        begun = False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            size = len(message.get("body", b""))
            read += size
            self._pending += size
            if read > self._max_body:
                raise _Refused(413, f"the body is larger than {self._max_body} bytes")
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            self._check(headers)
            await self._app(scope, counted, noted)
        except _Refused as e:
            if begun:
                raise
            await _refuse(send, e.status, e.message)
        finally:
            self._pending -= read

    def _check(self, headers: dict[bytes, bytes]) -> None:
        """Before a byte of the body is read."""
        if self._token is not None:
            kind, _, given = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(given.strip(), self._token)  # takes as long for any guess
            if not right or kind.lower() != b"bearer":
                raise _Refused(401, "a valid token is needed: Authorization: Bearer ...")
        else:
            named = headers.get(b"host", b"").decode("latin-1").lower()
            if named.rpartition(":")[0] not in _LOCAL_NAMES and named not in _LOCAL_NAMES:
                raise _Refused(403, "without a token only requests to localhost are answered")
        if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
            raise _Refused(415, "send the body as it is, without Content-Encoding")
        length = headers.get(b"content-length", b"0")
        announced = int(length) if length.isdigit() else 0
        if announced > self._max_body:
            raise _Refused(413, f"the body has {announced} bytes, and {self._max_body} are allowed")
        if self._pending and self._pending + announced > self._max_pending:
            raise _Refused(429, "too much is in flight; try again soon")


async def _refuse(send: Send, status: int, message: str) -> None:
    headers = [
        (b"content-type", b"application/json"),
        # The rest of the body is not read, so nothing else can come over this connection.
        (b"connection", b"close"),
    ]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 429:
        headers.append((b"retry-after", b"1"))
    body = json.dumps({"error": message}).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
