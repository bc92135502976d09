"""Where files lie: this machine's disks, the web, and whatever fsspec can reach; one small interface over the three."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote, unquote_to_bytes, urlsplit

from aidb.errors import SourceError

MAX_BYTES = 1 << 30
"""Of a file that is read whole. Packed ones (archives, compressed replies) may hold far more than they take."""
_HINT = re.compile(r"([a-z_]+)=([^:/]*)::")
_TAGS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "checksum",
    "crc32c",
    "mtime",
    "LastModified",
    "last_modified",
    "created",
)
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


@dataclass(frozen=True, slots=True)
class File:
    """One listed file. tag: whatever changes with the content (mtime in nanoseconds, or the store's checksum).

    size (bytes) and mtime_ns are None where the place doesn't tell; reading may still work.
    """

    uri: str
    size: int | None = None
    mtime_ns: int | None = None
    tag: str = ""

    @property
    def content_id(self) -> str:
        """Short digest of uri, size and tag: equal as long as the content is taken to be unchanged."""
        text = f"{self.uri}\0{self.size}\0{self.tag or self.mtime_ns}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()

    @property
    def mtime_us(self) -> int | None:
        """Microseconds since 1970 in UTC, as Arrow's timestamp wants them."""
        return None if self.mtime_ns is None else self.mtime_ns // 1000


@dataclass(frozen=True, slots=True)
class Node:
    """An entry of a folder: its name, its path in the storage, and what `Storage.file` needs to describe it."""

    name: str
    path: str
    is_dir: bool
    raw: Any = None


class Storage(Protocol):
    """A place with folders and files. Paths are the storage's own; a `File.uri` is what the outside sees."""

    has_folders: bool

    def refresh(self) -> None:
        """Forget cached listings: what changed must be seen."""
        ...

    def find(self, path: str) -> Node | None:
        """The file or folder of exactly this path, or None."""
        ...

    def children(self, path: str) -> Iterator[Node]:
        """What lies in a folder, in no order. Raises OSError."""
        ...

    def identity(self, path: str) -> object:
        """Something equal for two paths of the same folder (symbolic links), else unequal."""
        ...

    def file(self, node: Node) -> File:
        """Describe a file; never raises: what can't be learnt is None."""
        ...

    def uri(self, path: str) -> str:
        """How a reference names this path, for good."""
        ...

    def read(self, path: str) -> bytes:
        """All bytes of a file. Raises OSError."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A seekable binary stream. Raises OSError."""
        ...


class LocalStorage:
    """This machine's file system. Paths are absolute."""

    has_folders = True

    def refresh(self) -> None:
        """Nothing is cached."""

    def find(self, path: str) -> Node | None:
        """See `Storage`; a symbolic link that leads nowhere is found too (and fails when it is read)."""
        if not os.path.lexists(path):
            return None
        return Node(os.path.basename(path.rstrip("/")), path, os.path.isdir(path))

    def children(self, path: str) -> Iterator[Node]:
        """See `Storage`."""
        with os.scandir(path) as entries:
            for entry in entries:
                try:
                    is_dir = entry.is_dir()
                except OSError:
                    is_dir = False
                yield Node(entry.name, entry.path, is_dir, entry)

    def identity(self, path: str) -> object:
        """Device and inode."""
        found = os.stat(path)
        return found.st_dev, found.st_ino

    def file(self, node: Node) -> File:
        """See `Storage`."""
        try:
            found = node.raw.stat() if node.raw is not None else os.stat(node.path)
        except OSError:
            return File(self.uri(node.path))
        return File(self.uri(node.path), found.st_size, found.st_mtime_ns, str(found.st_mtime_ns))

    def uri(self, path: str) -> str:
        """The path itself; a name that is not valid UTF-8 becomes a percent-encoded file URL, to fit into a VARCHAR."""
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            return "file://" + quote(os.fsencode(path))
        return path

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        with self.open(path) as stream:
            if os.fstat(stream.fileno()).st_size > MAX_BYTES:
                raise _too_large()
            return stream.read()

    def open(self, path: str) -> BinaryIO:
        """See `Storage`."""
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # of which the system itself speaks
            raise OSError("not a regular file")
        return open(path, "rb")


class RemoteStorage:
    """Anything fsspec reaches: memory, S3, GCS, SFTP, archives. ``before`` + path + ``after`` is the uri of a path."""

    has_folders = True

    def __init__(self, fs: Any, before: str, after: str) -> None:
        self._fs, self._before, self._after = fs, before, after

    def refresh(self) -> None:
        """See `Storage`."""
        self._fs.invalidate_cache()

    def find(self, path: str) -> Node | None:
        """See `Storage`."""
        try:
            info = self._fs.info(path)
        except FileNotFoundError:
            return None
        return self._node(info)

    def children(self, path: str) -> Iterator[Node]:
        """See `Storage`."""
        for info in self._fs.ls(path, detail=True):
            if info["name"].rstrip("/") != path.rstrip("/"):  # object stores may list a folder's own marker
                yield self._node(info)

    def identity(self, path: str) -> object:
        """The path: such stores have no links."""
        return path.rstrip("/")

    def file(self, node: Node) -> File:
        """See `Storage`."""
        info = node.raw
        time = next((info[k] for k in _TIMES if info.get(k) is not None), None)
        tag = next((str(info[k]) for k in _TAGS if info.get(k) is not None), "")
        return File(self.uri(node.path), info.get("size"), _nanoseconds(time), tag)

    def uri(self, path: str) -> str:
        """See `Storage`."""
        return self._before + path + self._after

    def read(self, path: str) -> bytes:
        """See `Storage`."""
        if not self._fs.async_impl:  # an archive: what is in it may be packed
            with self._fs.open(path, "rb") as stream:
                return bounded(iter(partial(stream.read, 1 << 20), b""))
        content: bytes = self._fs.cat_file(path)
        return content

    def open(self, path: str) -> BinaryIO:
        """See `Storage`."""
        stream: BinaryIO = self._fs.open(path, "rb")
        return stream

    def _node(self, info: dict[str, Any]) -> Node:
        path = info["name"].rstrip("/")
        return Node(path.rsplit("/", 1)[-1], path, info["type"] == "directory", info)


def locate(source: str) -> tuple[Storage, str]:
    """The storage of a path or URL, and the path in it (glob characters and all).

    Raises SourceError: an unknown scheme, or one whose package is not installed.
    """
    if source.startswith("file://"):
        parts = source[len("file://") :]
        host, slash, path = parts.partition("/")
        if host not in ("", "localhost"):
            raise SourceError(
                f"{source!r} names the host {host!r}; a file URL of this machine has three slashes: file:///..."
            )
        return LocalStorage(), os.fsdecode(unquote_to_bytes(slash + path))
    if "://" not in source and not re.match(r"[a-z0-9]+::", source):
        # abspath drops a trailing slash and resolves "..": a reference must mean the same from any working directory.
        return LocalStorage(), os.path.abspath(os.path.expanduser(source))
    if source.startswith(("http://", "https://")):
        from aidb_connectors.web import WebStorage

        return WebStorage(), source
    return _remote(source)


def _remote(source: str) -> tuple[Storage, str]:
    import fsspec

    links = source.split("::")
    at = next((i for i, link in enumerate(links) if "://" in link), len(links) - 1)
    try:
        fs, path = fsspec.core.url_to_fs(source)
    except ImportError as e:
        scheme = urlsplit(links[at]).scheme
        raise SourceError(
            f"{scheme}:// needs a package that is not installed ({e}); see fsspec's list of file systems"
        ) from e
    except ValueError as e:
        raise SourceError(f"can't read {source!r}: {e}") from e
    except OSError as e:
        raise SourceError(f"can't reach {source!r}: {explain(e)}") from e
    head, after = links[at].rstrip("/"), "".join("::" + link for link in links[at + 1 :])
    before = "".join(link + "::" for link in links[:at])
    if head.endswith(path):
        before += head[: len(head) - len(path)]
    else:
        whole = fs.unstrip_protocol(path)
        before += whole[: len(whole) - len(path)]
    return RemoteStorage(fs, before, after), path


def read_bytes(uri: str, *, empty: bool = False) -> bytes:
    """All bytes of a reference's file. Raises OSError, also for an empty file unless those are allowed."""
    storage, path = _open(uri)
    content = storage.read(path)
    if not content and not empty:
        raise OSError("the file is empty")
    return content


def bounded(blocks: Iterable[bytes]) -> bytes:
    """All blocks in one. Raises OSError once they are more than `MAX_BYTES`."""
    kept: list[bytes] = []
    size = 0
    for block in blocks:
        size += len(block)
        if size > MAX_BYTES:
            raise _too_large()
        kept.append(block)
    return b"".join(kept)


def _too_large() -> OSError:
    return OSError(f"it holds more than {MAX_BYTES / 2**20:g} MiB, and is to be read whole")


def open_stream(uri: str) -> BinaryIO:
    """A seekable stream of a reference's file. Raises OSError."""
    storage, path = _open(uri)
    return storage.open(path)


def local_path(uri: str) -> str | None:
    """The path on this machine's disks, or None for what lies elsewhere."""
    storage, path = _open(uri)
    return path if isinstance(storage, LocalStorage) else None


@contextmanager
def on_disk(uri: str) -> Iterator[str]:
    """The file as a local path for the time of the block: itself, or a temporary copy. Raises OSError."""
    path = local_path(uri)
    if path is not None:
        yield path
        return
    with TemporaryDirectory(prefix="aidb-") as folder:
        copy = Path(folder) / (re.sub(r"[^\w.-]", "_", urlsplit(uri).path.rsplit("/", 1)[-1]) or "file")
        with open_stream(uri) as stream, copy.open("wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
        yield str(copy)


def _open(uri: str) -> tuple[Storage, str]:
    try:
        return locate(uri)
    except SourceError as e:
        raise OSError(str(e)) from e


def with_hints(uri: str, **hints: object) -> str:
    """A uri that also says how its file is to be read, as a reference has no other room for it.

    >>> with_hints("/a/b.txt", encoding="cp1250")
    'encoding=cp1250::/a/b.txt'
    """
    return "".join(f"{k}={v}::" for k, v in hints.items() if v is not None) + uri


def split_hints(uri: str) -> tuple[str, dict[str, str]]:
    """The inverse of `with_hints`.

    >>> split_hints("encoding=cp1250::/a/b.txt")
    ('/a/b.txt', {'encoding': 'cp1250'})
    """
    hints: dict[str, str] = {}
    while found := _HINT.match(uri):
        hints[found[1]] = found[2]
        uri = uri[found.end() :]
    return uri, hints


def explain(error: BaseException) -> str:
    """An exception in words for a person, without Python's class names where there is anything better."""
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    return text or type(error).__name__


def _nanoseconds(time: object) -> int | None:
    """fsspec's many kinds of time as nanoseconds since 1970."""
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return None
    if isinstance(time, datetime):
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000
    if isinstance(time, int | float):
        return int(time * 1e6) * 1000
    return None


class Unnamed(io.RawIOBase):
    """A stream stripped of its name, which media libraries would take for a pattern or a hint of the format."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Pass on."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Pass on."""
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        """Pass on."""
        return self._stream.read(size)

    def close(self) -> None:
        """Close what is underneath."""
        self._stream.close()
        super().close()
