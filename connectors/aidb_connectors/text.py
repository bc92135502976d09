"""Text: one item a document (.txt, .md), or one a row of a table of texts (.csv, .jsonl, .parquet)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from aidb.errors import SourceError
from aidb.spi import BlobSchema, Decoded, ItemFailure, Ref, Scan
from aidb.spi.content import CONTENT_SQL
from aidb_connectors.encodings import NotTextError, decode, text_encoding
from aidb_connectors.files import content, count_claimed, has_extension, in_batches, list_files
from aidb_connectors.storage import File, explain, read_bytes, split_hints, with_hints
from aidb_connectors.tables import TABLE_EXTENSIONS, Tables

_DOCUMENT_OPTIONS = ("encoding",)
_TABLE_OPTIONS = ("columns", "delimiter", "encoding", "header")


class Text:
    """Connector ``text``; key doc_id. A source holds documents or tables, not both.

    Documents: columns file, size, mtime, text (content). Option: ``encoding``; by default what the byte order mark
    says, else UTF-8, else UTF-16 if it looks so, else Windows-1252.

    Tables: file, row (0-based in the file), then the columns as DuckDB reads them: of several files the union by name,
    NULL where a file lacks one. There is no content column: models take the plain columns. A column that bears one of
    the names file, row, doc_id, content_id gets ``_1`` appended. Options: ``columns = 'id, body'`` (which to keep),
    ``delimiter``, ``header`` (csv), ``encoding`` (csv, json).
    """

    name = "text"
    priority = 20
    extensions = frozenset({".txt", ".text", ".md", ".markdown", ".rst"}) | TABLE_EXTENSIONS
    _columns = (("file", "VARCHAR"), ("size", "BIGINT"), ("mtime", "TIMESTAMP"), ("text", CONTENT_SQL))

    def claims(self, source: str) -> int:
        """See `aidb.spi.Connector`."""
        return count_claimed(source, self.extensions)

    def schema(self, scan: Scan) -> BlobSchema:
        """See `aidb.spi.Connector`; of tables all files' columns are looked at."""
        files, tabular = self._kind(scan)
        if tabular:
            return BlobSchema("doc_id", Tables(list(files), scan.options).columns, ("file", "row"), None)
        _encoding(scan)
        return BlobSchema("doc_id", self._columns, ("file",), "text")

    def items(self, scan: Scan) -> Iterator[pa.RecordBatch]:
        """See `aidb.spi.Connector`. Raises SourceError naming the file if a table can't be read."""
        files, tabular = self._kind(scan)
        if tabular:
            return Tables(list(files), scan.options).batches()
        return in_batches(self._columns, self._documents(files, _encoding(scan), scan.source))

    def _documents(self, files: Iterator[File], encoding: str | None, source: str) -> Iterator[tuple[object, ...]]:
        for file in files:
            if has_extension(file.uri, TABLE_EXTENSIONS):
                raise _mixed(source, file.uri)
            reference = content(with_hints(file.uri, encoding=encoding), None, "text", self.name)
            yield file.uri, file.size, file.mtime_us, reference, file.content_id

    def _kind(self, scan: Scan) -> tuple[Iterator[File], bool]:
        """The files, and whether they are tables."""
        files = list_files(scan.source, self.extensions, "texts")
        first = next(files)
        tabular = has_extension(first.uri, TABLE_EXTENSIONS)
        scan.options.refuse_unknown(_TABLE_OPTIONS if tabular else _DOCUMENT_OPTIONS)
        return _again(first, files, scan.source, tabular), tabular

    def read(self, refs: Sequence[Ref], *, encoded: bool = False) -> Iterator[Decoded | ItemFailure]:
        """See `aidb.spi.Connector`; ``encoded`` gives the file's own bytes, whatever they hold."""
        for ref in refs:
            uri, hints = split_hints(ref.uri)
            try:
                data = read_bytes(uri, empty=True)
                yield data if encoded else decode(data, hints.get("encoding"))
            except (UnicodeDecodeError, NotTextError) as e:
                yield ItemFailure(f"not readable as text: {e}")
            except Exception as e:  # every store has its own exceptions; one file must not cost the others
                yield ItemFailure(f"can't read the file: {explain(e)}")


def _encoding(scan: Scan) -> str | None:
    return scan.options.take("encoding", text_encoding, None)


def _again(first: File, rest: Iterator[File], source: str, tabular: bool) -> Iterator[File]:
    yield first
    for file in rest:
        if tabular and not has_extension(file.uri, TABLE_EXTENSIONS):
            raise _mixed(source, file.uri)
        yield file


def _mixed(source: str, other: str) -> SourceError:
    return SourceError(
        f"{source!r} holds both documents and tables (the first of the other kind is {other!r}): "
        "name one kind, for instance '*.txt' or '*.csv'"
    )
