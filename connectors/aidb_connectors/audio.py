"""Sound: one item a file, handed to models as the file's bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from aidb.errors import OperationalError
from aidb.spi import BlobSchema, Decoded, ItemFailure, Ref, Scan
from aidb.spi.content import CONTENT_SQL
from aidb_connectors.files import content, count_claimed, header_wanted, in_batches, list_files
from aidb_connectors.storage import File, explain, read_bytes

_OPTIONS = ("header",)
_UNKNOWN = (None, None, None, None)


class Audio:
    """Connector ``audio``: columns file, size, mtime, duration (seconds), sample_rate, channels, codec, audio; key blob_id.

    Option: ``header`` (true or false: whether listing opens each file for duration, rate, channels and codec; by
    default for local files only; NULL if not read or unreadable). Headers need PyAV: ``pip install 'aidb[video]'``.
    """

    name = "audio"
    priority = 10
    extensions = frozenset(
        {".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".amr", ".weba"}
    )
    _columns = (
        ("file", "VARCHAR"),
        ("size", "BIGINT"),
        ("mtime", "TIMESTAMP"),
        ("duration", "DOUBLE"),
        ("sample_rate", "INTEGER"),
        ("channels", "INTEGER"),
        ("codec", "VARCHAR"),
        ("audio", CONTENT_SQL),
    )

    def claims(self, source: str) -> int:
        """See `aidb.spi.Connector`."""
        return count_claimed(source, self.extensions)

    def schema(self, scan: Scan) -> BlobSchema:
        """See `aidb.spi.Connector`."""
        _header(scan)
        return BlobSchema("blob_id", self._columns, ("file",), "audio")

    def items(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """See `aidb.spi.Connector`. Raises OperationalError if headers are wanted and PyAV is not installed."""
        header = _header(scan)
        if header is not False:
            _require_av()
        files = list_files(scan.source, self.extensions, "audio files")
        return in_batches(self._columns, self._rows(files, header))

    def _rows(self, files: Iterator[File], header: bool | None) -> Iterator[tuple[object, ...]]:
        wanted = header_wanted(header)
        for file in files:
            facts = _facts(file.uri) if wanted(file) else _UNKNOWN
            reference = content(file.uri, None, "audio", self.name)
            yield file.uri, file.size, file.mtime_us, *facts, reference, file.content_id

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """See `aidb.spi.Connector`; gives the file's bytes either way."""
        for ref in refs:
            try:
                yield read_bytes(ref.uri)
            except Exception as e:  # every store has its own exceptions; one file must not cost the others
                yield ItemFailure(f"can't read the file: {explain(e)}")


def _header(scan: Scan) -> bool | None:
    scan.options.refuse_unknown(_OPTIONS)
    return scan.options.take("header", bool, None)


def _require_av() -> None:
    try:
        import av  # noqa: F401
    except ImportError as e:
        raise OperationalError(
            f"reading the headers of audio files needs PyAV ({e}): pip install 'aidb[video]', or WITH (header = false)"
        ) from e


def _facts(uri: str) -> tuple[float | None, int | None, int | None, str | None]:
    from aidb_connectors.av_files import opened

    try:
        with opened(uri) as container:
            stream = container.streams.audio[0]
            duration: float | None
            if stream.duration is not None:
                duration = float(stream.duration * stream.time_base)
            else:
                duration = None if container.duration is None else container.duration / 1_000_000
            return duration, stream.rate, stream.channels, stream.codec_context.codec.canonical_name
    except Exception:  # the row stands without; a model that gets the bytes will say what is wrong
        return _UNKNOWN
