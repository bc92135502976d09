"""Requests to a service: an event loop in a thread of its own, kept connections, replicas, adaptive concurrency.

What the service answered is the caller's to judge; here only what keeps it from answering is an error. Nothing is sent
twice to have an answer sooner (no hedging): every request is paid for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from aidb.errors import InterfaceError
from aidb.spi import ServiceError
from aidb_models.flow import Flow
from aidb_models.pace import Pace
from aidb_models.replicas import Replica, Replicas
from aidb_models.service_options import Access, shown_url

if TYPE_CHECKING:
    import httpx

REDIRECTS = 3


@dataclass(frozen=True)
class Reply:
    """What came back: status, headers, body, and the address that it came from as messages show it."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    shown: str

    @property
    def after(self) -> float | None:
        """Seconds to wait, from either form of Retry-After."""
        value = self.headers.get("retry-after")
        if not value:
            return None
        if value.strip().isdigit():
            return float(value)
        try:
            until = parsedate_to_datetime(value).timestamp()
        except (ValueError, OverflowError):
            return None
        try:  # by the clock of the server that named the time: ours may be wrong
            now = parsedate_to_datetime(self.headers.get("date", "")).timestamp()
        except (ValueError, OverflowError):
            now = time.time()
        return max(0.0, until - now)


class Transport:
    """A model's way to its service. `open` and `close` any number of times; `send` from any thread in between."""

    def __init__(self, model: str, access: Access, headers: Mapping[str, str]) -> None:
        self.model, self.access = model, access
        self.pace = Pace(access.rate_limit)
        self._headers = {"User-Agent": "aidb", **headers, **access.headers}
        self._token: str | None = None
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None
        self._flow = Flow(access.concurrency)
        self._replicas = Replicas(access.urls)

    def __enter__(self) -> Transport:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Read the token and start; asks the service nothing. Raises `aidb.errors.ModelError` if there is no token."""
        import httpx

        with self._lock:
            if self._client is not None:
                return
            access = self.access
            headers = dict(self._headers)
            self._token = access.token(self.model)
            if self._token is not None:
                name = access.token_header
                headers[name or "Authorization"] = self._token if name else f"Bearer {self._token}"
            pool = httpx.Limits(max_connections=access.concurrency, max_keepalive_connections=access.concurrency)
            self._client = httpx.AsyncClient(
                headers=headers, timeout=access.timeout, limits=pool, follow_redirects=False
            )
            self._flow = Flow(access.concurrency)
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=f"aidb {self.model}", daemon=True)
            self._thread.start()
            self.pace.start()

    def close(self) -> None:
        """Give up the requests that are on their way, and close the connections."""
        self.pace.stop()
        with self._lock:
            loop, thread, client = self._loop, self._thread, self._client
            self._loop = self._thread = self._client = None
        if loop is None or thread is None or client is None:
            return
        asyncio.run_coroutine_threadsafe(_end(client), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        only: str | None = None,
    ) -> Reply:
        """One request, and the reply whatever its status.

        path: added to a replica's address (empty: none). only: ask this replica alone. Raises `ServiceError` if there is
        no reply: retryable, but for what no other attempt can cure.
        """
        if self._loop is None:
            raise InterfaceError(f"model {self.model} was not loaded, or is closed")
        if not self.pace.wait():
            raise self._closed()
        work = self._exchange(method, path, content, headers or {}, timeout or self.access.timeout, only)
        with self._lock:
            if self._loop is None:
                work.close()
                raise self._closed()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise self._closed() from None

    def clean(self, message: str) -> str:
        """Without the token, in case the service says it back."""
        return message.replace(self._token, "***") if self._token else message

    def _closed(self) -> ServiceError:
        return ServiceError(f"model {self.model} was closed while a request waited for its turn", retry=False)

    async def _exchange(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout: float,
        only: str | None,
    ) -> Reply:
        """Ask one replica, and another one where that can't be reached or is not ready."""
        tried: set[str] = set()
        while True:
            replica = Replica(only) if only is not None else self._replicas.choose(tried)
            assert replica is not None
            tried.add(replica.url)
            last = only is not None or len(tried) == len(self.access.urls)
            entered = await self._flow.enter()
            replica.flying += 1
            reply, error, slow = None, None, False
            try:
                reply = await self._redirected(method, replica.url + path, content, headers, timeout)
            except ServiceError as e:
                error, slow = e, isinstance(e, _TimedOut)
            finally:
                replica.flying -= 1
                busy = reply is not None and reply.status in (429, 503)
                self._flow.leave(entered, overloaded=busy or slow, after=reply.after if reply and busy else None)
            if reply is not None and (reply.status != 503 or last):
                if reply.status < 500:
                    replica.went_well()
                return reply
            replica.failed(reply.after if reply is not None else None)
            # After a timeout the next attempt is the engine's to make: this one may still be answered, and paid for.
            if error is not None and (last or slow or not error.retry):
                raise error

    async def _redirected(
        self, method: str, url: str, content: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply:
        """The reply, after redirects that stay on the same host."""
        import httpx

        shown, first = shown_url(url), url
        try:
            async with asyncio.timeout(timeout):
                for _ in range(REDIRECTS + 1):
                    reply = await self._once(method, url, content, headers, timeout, shown)
                    if reply.status not in (301, 302, 303, 307, 308):
                        return reply
                    url = _target(reply, first, url)
        # The cause is not chained: it carries the request, and with it the token.
        except (TimeoutError, httpx.TimeoutException):
            raise _TimedOut(f"{shown} did not answer within {timeout:g} s (option timeout)") from None
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            message = self.clean(f"{shown} can't be reached: {type(e).__name__}: {e}")
            raise ServiceError(message, retry="CERTIFICATE_VERIFY_FAILED" not in message) from None
        raise ServiceError(f"{shown} redirects more than {REDIRECTS} times", retry=False)

    async def _once(
        self, method: str, url: str, content: bytes | None, headers: Mapping[str, str], timeout: float, shown: str
    ) -> Reply:
        client = self._client
        assert client is not None
        async with client.stream(method, url, content=content, headers=dict(headers), timeout=timeout) as reply:
            chunks: list[bytes] = []
            size = 0
            async for chunk in reply.aiter_bytes():
                size += len(chunk)
                if size > self.access.max_response:
                    limit = f"{self.access.max_response / 2**20:g} MB"
                    raise ServiceError(f"{shown} answered more than {limit} (option max_response_mb)", retry=False)
                chunks.append(chunk)
            return Reply(reply.status_code, reply.headers, b"".join(chunks), shown)


class _TimedOut(ServiceError):
    """No reply in time; whether the service works on it is not known."""


def _target(reply: Reply, first: str, url: str) -> str:
    """Where a redirect leads; `ServiceError` for one that is not followed."""
    target = urljoin(url, reply.headers.get("location", ""))
    old, new = urlsplit(first), urlsplit(target)
    if (old.scheme, old.netloc) != (new.scheme, new.netloc):
        where = f"{new.scheme}://{new.hostname or ''}"
        raise ServiceError(f"{reply.shown} redirects to another place, {where}: name that one in url", retry=False)
    if reply.status not in (307, 308):  # the others turn the request into a GET without its body
        raise ServiceError(f"{reply.shown} redirects ({reply.status}) to {new.path}: name that in url", retry=False)
    return target


async def _end(client: httpx.AsyncClient) -> None:
    """Cancel what is on its way, wait until it has let go, close the connections."""
    others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.aclose()
