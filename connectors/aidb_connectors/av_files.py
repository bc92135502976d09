"""Opening media files with PyAV, from any storage, without letting a file open others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aidb.errors import OperationalError
from aidb_connectors.storage import Unnamed, local_path, open_stream

_BUFFER = 1 << 20


def require_av() -> Any:
    """The ``av`` module. Raises OperationalError naming the extra to install."""
    try:
        import av
    except ImportError as e:
        raise OperationalError(f"reading video needs PyAV ({e}): pip install 'aidb[video]'") from e
    return av


@contextmanager
def opened(uri: str) -> Iterator[Any]:
    """An input container for the time of the block. Raises as `open_container` does."""
    container, close = open_container(uri)
    try:
        yield container
    finally:
        close()


def open_container(uri: str) -> tuple[Any, Callable[[], None]]:
    """An open input container, and what closes it. Raises OSError and av.error.FFmpegError.

    FFmpeg may be led by a playlist inside a file to open further files and addresses; only what was named is opened.
    """
    av = require_av()
    path = local_path(uri)
    stream = open_stream(uri)  # a directory, a pipe or a missing file gets the system's own message
    try:
        if not stream.read(1):
            raise OSError("the file is empty")
        stream.seek(0)
        if path is not None and not any(c in path for c in "%*?[{"):  # which FFmpeg would read as a pattern of pictures
            stream.close()
            container = av.open(path, options={"protocol_whitelist": "file"}, metadata_errors="replace")
        else:
            options = {"protocol_whitelist": "none"}
            container = av.open(Unnamed(stream), buffer_size=_BUFFER, options=options, metadata_errors="replace")
    except BaseException:
        stream.close()
        raise

    def close() -> None:
        container.close()
        stream.close()  # PyAV leaves a file object open

    return container, close
