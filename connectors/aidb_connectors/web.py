"""Files behind http and https: named one by one, read whole or in ranges."""

from __future__ import annotations

import atexit
import io
import socket
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from aidb_connectors.storage import File, Node, bounded

if TYPE_CHECKING:
    import httpx

_BLOCK = 1 << 20
_BLOCKS_KEPT = 8
_REDIRECTS = 10


class WebStorage:
    """The web has no folders: a URL names one file. Its path here is the URL itself."""

    has_folders = False

    def refresh(self) -> None:
        """Nothing is cached."""

    def find(self, path: str) -> Node | None:
        """See `Storage`. Raises OSError if the server can't be reached or refuses."""
        headers = _head(path)
        if headers is None:
            return None
        return Node(unquote(urlsplit(path).path).rsplit("/", 1)[-1], path, False, headers)

    def children(self, path: str) -> Iterator[Node]:
        """See `Storage`."""
        raise OSError("a web server does not list its files")

    def identity(self, path: str) -> object:
        """The URL."""
        return path

    def file(self, node: Node) -> File:
        """Size and time as the server's headers give them."""
        headers = node.raw
        size = headers.get("content-length", "")
        modified = headers.get("last-modified", "")
        try:
            mtime_ns = int(parsedate_to_datetime(modified).timestamp()) * 10**9 if modified else None
        except ValueError:
            mtime_ns = None
        encoded = headers.get("content-encoding", "identity") != "identity"
        return File(
            node.path, int(size) if size.isdigit() and not encoded else None, mtime_ns, headers.get("etag") or modified
        )

    def uri(self, path: str) -> str:
        """The URL."""
        return path

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        return _request("GET", path).content

    def open(self, path: str) -> BinaryIO:
        """A stream that fetches ranges as they are needed, or everything at once from a server without ranges."""
        first = _request("GET", path, {"Range": f"bytes=0-{_BLOCK - 1}", "Accept-Encoding": "identity"})
        total = first.headers.get("content-range", "").rpartition("/")[2]
        if first.status_code != 206 or not total.isdigit():
            return io.BytesIO(first.content)
        return io.BufferedReader(_Ranges(path, int(total), first.content), 1 << 16)


class _Ranges(io.RawIOBase):
    """A remote file in blocks, of which the last few are kept."""

    def __init__(self, url: str, size: int, first: bytes) -> None:
        self._url, self._size, self._at = url, size, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict({0: first})

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        number, begin = divmod(self._at, _BLOCK)
        if self._at >= self._size:
            return 0
        part = self._block(number)[begin : begin + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            begin = number * _BLOCK
            end = min(begin + _BLOCK, self._size) - 1
            answer = _request("GET", self._url, {"Range": f"bytes={begin}-{end}", "Accept-Encoding": "identity"})
            if answer.status_code != 206 or len(answer.content) != end - begin + 1:
                raise OSError("the server broke off, or the file changed while it was read")
            self._blocks[number] = answer.content
            if len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(number)
        return self._blocks[number]


def _head(url: str) -> httpx.Headers | None:
    """A file's headers, or None if there is none; servers that refuse HEAD are asked for one byte."""
    answer = _request("HEAD", url, {"Accept-Encoding": "identity"}, refuse=False)
    if answer.status_code in (403, 405, 501):
        answer = _request("GET", url, {"Range": "bytes=0-0", "Accept-Encoding": "identity"}, refuse=False)
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        if answer.status_code == 206:
            answer.headers["content-length"] = total
    if answer.status_code in (404, 410):
        return None
    if answer.status_code >= 400:
        raise OSError(f"the server answers {answer.status_code} {answer.reason_phrase}")
    return answer.headers


@dataclass(frozen=True)
class _Reply:
    status_code: int
    reason_phrase: str
    headers: httpx.Headers
    content: bytes


def _request(method: str, url: str, headers: dict[str, str] | None = None, *, refuse: bool = True) -> _Reply:
    """One reply with its body, after redirects. Raises OSError, also for a body larger than `MAX_BYTES` unpacked."""
    import httpx

    try:
        at = httpx.URL(url)
        for _ in range(_REDIRECTS + 1):
            with _client().stream(method, at, headers=headers) as answer:
                onwards = answer.next_request
                if onwards is None:
                    body = bounded(answer.iter_bytes())
                    break
            if not may_lead_to(at.host, onwards.url.host):
                raise OSError(f"{at.host} redirects to {onwards.url.host}, which is no public address")
            method, at = onwards.method, onwards.url
        else:
            raise OSError(f"{urlsplit(url).hostname}: more than {_REDIRECTS} redirects")
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise OSError(f"{urlsplit(url).hostname}: {e or type(e).__name__}") from e
    if refuse and answer.status_code >= 400:
        raise OSError(f"the server answers {answer.status_code} {answer.reason_phrase}")
    return _Reply(answer.status_code, answer.reason_phrase, answer.headers, body)


def may_lead_to(host: str, target: str) -> bool:
    """May a server of this host send us on to the target?

    A server out there must not have us ask this machine, or others that only we can reach. One that is itself in such a
    network may, but never for the addresses that clouds keep their credentials behind.
    """
    if target == host:
        return True
    led = addresses(target)
    if any(a.is_link_local for a in led):
        return False
    return all(a.is_global for a in led) or not all(a.is_global for a in addresses(host))


def addresses(host: str) -> list[IPv4Address | IPv6Address]:
    """Where a name leads; nowhere if it is not known here (a proxy may know it)."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    plain = [ip_address(str(place[0]).partition("%")[0]) for *_, place in found]
    return [getattr(a, "ipv4_mapped", None) or a for a in plain]


@cache
def _client() -> httpx.Client:
    import httpx

    client = httpx.Client(timeout=httpx.Timeout(30, connect=10))
    atexit.register(client.close)
    return client
