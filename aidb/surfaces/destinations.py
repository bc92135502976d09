"""Where rows go: the screen, a pager, or the file that ``.output`` or ``.once`` named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from aidb.errors import Interrupted, OperationalError
from aidb.surfaces.formats import SUFFIXES, Writer

if TYPE_CHECKING:
    import pyarrow as pa

    from aidb.surfaces.formats import Result


class File:
    """A file for results, made when the first one comes. Raises `OperationalError` if that can't be done.

    form: how results are written, unless the file's name ends in a way that says so, as in rows.parquet.
    """

    def __init__(self, path: Path, form: str) -> None:
        self.path = path
        self._out: TextIO | None = None
        self._writer: Writer | None = None
        self.choose(form)

    def choose(self, form: str) -> None:
        """How results are written from now on, unless the file's name says it."""
        self.form = SUFFIXES.get(self.path.suffix.lower(), form)
        if self._writer is not None:
            self._writer.form = self.form

    def write(self, result: Result) -> str | None:
        """Write one result below the others; gives a note if something of it was left out."""
        try:
            if self._writer is None:
                self._out = self.path.open("w", encoding="utf-8", newline="\n")
                self._writer = Writer(self.form, self._out)
            return self._writer.write(result)
        except OSError as wrong:
            raise OperationalError(f"can't write {self.path}: {wrong.strerror or wrong}") from wrong

    def close(self) -> None:
        """Close the file; a later result makes it anew."""
        if self._out is not None:
            self._out.close()
        self._out = self._writer = None


class Stoppable:
    """A result whose rows stop coming, with `Interrupted`, once the person has asked for it."""

    def __init__(self, result: Result, asked: threading.Event) -> None:
        self._result, self._asked = result, asked

    @property
    def description(self) -> Any:
        """As the result has it."""
        return self._result.description

    @property
    def rowcount(self) -> int:
        """As the result has it."""
        return self._result.rowcount

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """The rows as text."""
        for row in self._result.texts(form):
            if self._asked.is_set():
                raise Interrupted()
            yield row

    def fetch_record_batch(self, rows_per_batch: int = 65_536) -> pa.RecordBatchReader:
        """The rows as Arrow, so many at a time."""
        import pyarrow as pa

        def batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
            for batch in reader:
                if self._asked.is_set():
                    raise Interrupted()
                yield batch

        reader = self._result.fetch_record_batch(rows_per_batch)
        return pa.RecordBatchReader.from_batches(reader.schema, batches(reader))
