"""Files behind http and https: named one by one, read whole or in ranges."""

from __future__ import annotations

import atexit
import io
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from aidb_connectors.storage import File, Node, bounded

if TYPE_CHECKING:
    import ssl

    import httpx

Address = IPv4Address | IPv6Address

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
        may: Callable[[Address], bool] = _anywhere
        for _ in range(_REDIRECTS + 1):
            watch = {"trace": _Watch(at.host, may)}
            with _client(may).stream(method, at, headers=headers, extensions=watch) as answer:
                onwards = answer.next_request
                if onwards is None:
                    body = bounded(answer.iter_bytes())
                    break
                may = _may_lead_to(_source(answer), same=onwards.url.host == at.host)
            method, at = onwards.method, onwards.url
            if not all(may(address) for address in addresses(at.host)):
                raise _no_public(at.host)
        else:
            raise OSError(f"{urlsplit(url).hostname}: more than {_REDIRECTS} redirects")
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise OSError(f"{urlsplit(url).hostname}: {e or type(e).__name__}") from e
    if refuse and answer.status_code >= 400:
        raise OSError(f"the server answers {answer.status_code} {answer.reason_phrase}")
    return _Reply(answer.status_code, answer.reason_phrase, answer.headers, body)


def _anywhere(address: Address) -> bool:
    return True


def _public(address: Address) -> bool:
    return address.is_global


def _not_link_local(address: Address) -> bool:
    return not address.is_link_local


def _may_lead_to(source: list[Address], *, same: bool) -> Callable[[Address], bool]:
    """To which addresses a server may send us on. source: where it answered from; same: is it to the same name?

    A server out there must not have us ask this machine, or others that only we can reach. One that is itself in such a
    network may, but never for the addresses that clouds keep their credentials behind.
    """
    if all(address.is_global for address in source):
        return _public
    return _anywhere if same else _not_link_local


class _Watch:
    """Ends a connection to an address that may not be, before anything is said there: see httpx's extension ``trace``.

    What a name leads to was looked at before, but whoever owns it can have changed that until we connected (DNS
    rebinding). A connection to a proxy is another one, and the proxy looks up names by itself.
    """

    def __init__(self, host: str, may: Callable[[Address], bool]) -> None:
        self._host, self._may, self._is_ours = host, may, False

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._is_ours = info["host"] == self._host
        elif event == "connection.connect_tcp.complete" and self._is_ours:
            stream = info["return_value"]
            if not self._may(_address(stream.get_extra_info("server_addr")[0])):
                stream.close()
                raise _no_public(self._host)


def _no_public(host: str) -> OSError:
    return OSError(f"a redirect leads to {host}, which is no public address")


def _source(answer: httpx.Response) -> list[Address]:
    """Where an answer came from; behind a proxy, where the server's name leads."""
    proxies, host = getproxies(), answer.url.host
    if ("all" in proxies or answer.url.scheme in proxies) and not proxy_bypass(host):
        return addresses(host)
    return [_address(answer.extensions["network_stream"].get_extra_info("server_addr")[0])]


def addresses(host: str) -> list[Address]:
    """Where a name leads; nowhere if it is not known here (a proxy may know it)."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [_address(str(place[0])) for *_, place in found]


def _address(text: str) -> Address:
    plain = ip_address(text.partition("%")[0])
    return getattr(plain, "ipv4_mapped", None) or plain


@cache
def _client(may: Callable[[Address], bool]) -> httpx.Client:
    """Its connections are kept, all of them to addresses that may be: for each such rule another one."""
    import httpx

    client = httpx.Client(verify=_certificates(), timeout=httpx.Timeout(30, connect=10))
    atexit.register(client.close)
    return client


@cache
def _certificates() -> ssl.SSLContext:
    """Whom to believe, read once for all clients."""
    import httpx

    return httpx.create_ssl_context()
