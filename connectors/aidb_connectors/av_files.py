"""Opening media files with PyAV, from any storage, without letting a file open others."""

from __future__ import annotations

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


def open_container(uri: str) -> Any:
    """An open input container. Raises OSError and av.error.FFmpegError.

    FFmpeg may be led by a playlist inside a file to open further files and addresses; only what was named is opened.
    """
    av = require_av()
    path = local_path(uri)
    if path is not None and not any(c in path for c in "%*?[{"):  # which FFmpeg would read as a pattern of pictures
        with open_stream(uri):  # a directory, a pipe or a missing file gets the system's own message
            pass
        return av.open(path, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    stream = open_stream(uri)
    try:
        return av.open(
            Unnamed(stream), buffer_size=_BUFFER, options={"protocol_whitelist": "none"}, metadata_errors="replace"
        )
    except BaseException:
        stream.close()
        raise
