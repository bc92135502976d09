"""What a result looks like on its way out: for programs, for documents, or a table for eyes.

All but the table can be read back. Values are in DuckDB's own words, which a cast reads, and NULL is no empty text: csv and
tsv have nothing for the one and ``""`` for the other, markdown ``*NULL*``, whose asterisks are escaped in any text, html
the class ``null``, and line the word, which as a text stands in quotes.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from aidb.errors import ProgrammingError
from aidb.surfaces.tables import Room, printable, write_table

if TYPE_CHECKING:
    import pyarrow as pa


class Result(Protocol):
    """What is needed of a result; an `aidb.Cursor` after a query has it."""

    @property
    def description(self) -> list[tuple[str, str, None, None, int | None, int | None, None]] | None:
        """Name and DuckDB type of each column, and five times None."""

    @property
    def rowcount(self) -> int:
        """How many rows there are; they may have to be waited for."""

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """The rows as text."""

    def fetch_record_batch(self, rows_per_batch: int = ...) -> pa.RecordBatchReader:
        """The rows as Arrow, so many at a time."""


ONE_RESULT = frozenset(("parquet", "arrow"))
"""Forms of which a file holds one result, and which no terminal can show."""
BY_LINE = frozenset(("csv", "tsv", "jsonl", "line"))
"""Forms that are worth something when only their beginning is there: rows are written as they come."""
_ROW_GROUP = 122_880  # rows, as DuckDB has it
SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".md": "markdown",
    ".html": "html", ".htm": "html", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
"""What the name of a file says about its form."""


class Writer:
    """Writes results to a stream, all in one form (of `FORMATS`), one below the other."""

    def __init__(self, form: str, out: TextIO) -> None:
        self.form, self.out = form, out
        self.written = 0

    def write(self, result: Result, room: Room | None = None) -> str | None:
        """Write one result; gives a note if something of it was left out. Raises `ProgrammingError` if it can't follow.

        Only a Parquet or an Arrow file can't hold a second result. room: of a table, if not the stream's own.
        """
        if self.form in ONE_RESULT and self.written:
            raise ProgrammingError(
                f"{_SAID.get(self.form, self.form)} file holds one result, and this is the second: write each to its own file"
            )
        note = FORMATS[self.form](result, self.out, self.written, room)
        self.written += 1
        self.out.flush()
        return note


_SAID = {"parquet": "a Parquet", "arrow": "an Arrow"}


def _names(result: Result) -> list[str]:
    return [column[0] for column in result.description or ()]


# ---- for programs
def _csv(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    """RFC 4180 with a header, but for the line ends, which are line feeds."""
    _separated(result, out, ",")


def _tsv(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    """Like csv, with tabs: what readers of csv take when they are told the separator."""
    _separated(result, out, "\t")


def _separated(result: Result, out: TextIO, separator: str) -> None:
    special = f'{separator}"\r\n'

    def field(value: str | None) -> str:
        if value is None:
            return ""
        # Some readers strip spaces that are not quoted.
        if not value or value != value.strip() or any(c in value for c in special):
            return '"' + value.replace('"', '""') + '"'
        return value

    out.write(separator.join(map(field, _names(result))) + "\n")
    for row in result.texts():
        out.write(separator.join(map(field, row)) + "\n")


def _objects(result: Result) -> Iterator[str]:
    """Each row as a JSON object of one line."""
    keys = [json.dumps(name, ensure_ascii=False) for name in _distinct(_names(result))]
    for row in result.texts("json"):
        # A column of JSON may hold line breaks between its tokens; within strings they are escaped.
        values = ("null" if value is None else value.replace("\r", " ").replace("\n", " ") for value in row)
        yield "{" + ", ".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True)) + "}"


def _json_lines(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    for line in _objects(result):
        out.write(line + "\n")


def _json(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    """One array of objects for each result."""
    begin = "["
    for line in _objects(result):
        out.write(begin + line)
        begin = ",\n "
    out.write("[]\n" if begin == "[" else "]\n")


def _distinct(names: list[str]) -> list[str]:
    """Names as keys: the second ``a`` is ``a_1``, as in DuckDB's own tables."""
    found: dict[str, None] = {}
    for name in names:
        key, k = name, 0
        while key in found or (k and key in names):
            k += 1
            key = f"{name}_{k}"
        found[key] = None
    return list(found)


def _parquet(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    import pyarrow.parquet as pq

    schema, batches = _batches(result)
    with pq.ParquetWriter(out.buffer, schema) as file:
        for batch in batches:
            file.write_batch(batch)


def _arrow(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    """Arrow's file format (IPC, Feather version 2)."""
    import pyarrow as pa

    schema, batches = _batches(result)
    with pa.ipc.new_file(out.buffer, schema) as file:
        for batch in batches:
            file.write_batch(batch)


def _batches(result: Result) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """A result for a file that holds columns: no two of one name, and not all rows in memory."""
    import pyarrow as pa

    reader = result.fetch_record_batch(_ROW_GROUP)
    fields = zip(reader.schema, _distinct(reader.schema.names), strict=True)
    schema = pa.schema([field.with_name(name) for field, name in fields])
    return schema, (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in reader)


# ---- for documents
def _markdown(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    from aidb.storage.answer import is_number

    if before:
        out.write("\n")
    out.write(_markdown_row([_markdown_cell(name) for name in _names(result)]))
    out.write(_markdown_row(["--:" if is_number(column[1]) else "---" for column in result.description or ()]))
    for row in result.texts("shown"):
        out.write(_markdown_row(map(_markdown_cell, row)))


def _markdown_row(cells: Iterator[str] | map[str] | list[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


_MARKDOWN = str.maketrans(
    {"\\": "\\\\", "|": "\\|", "*": "\\*", "`": "\\`", "<": "&lt;", "&": "&amp;", "\n": "<br>", "\r": "&#13;"}
)


def _markdown_cell(value: str | None) -> str:
    if value is None:
        return "*NULL*"
    text = value.translate(_MARKDOWN)
    # A cell's own spaces at its ends would be taken for the table's.
    if text != text.strip(" "):
        inner = text.strip(" ")
        left = len(text) - len(text.lstrip(" "))
        text = "&#32;" * left + inner + "&#32;" * (len(text) - left - len(inner))
    return text


_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>AIDB</title>
<style>
table { border-collapse: collapse; font: 14px system-ui, sans-serif; margin: 1em 0 }
th, td { border-bottom: 1px solid #ddd; padding: 3px 10px; text-align: left; vertical-align: top; white-space: pre-wrap }
.number { text-align: right; font-variant-numeric: tabular-nums }
.null { color: #999 }
</style>
"""


def _html(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    from aidb.storage.answer import is_number

    if not before:
        out.write(_PAGE)
    columns = result.description or []
    classes = ["number" if is_number(column[1]) else "" for column in columns]
    heads = (_html_cell("th", name, class_) for name, class_ in zip(_names(result), classes, strict=True))
    out.write(f"<table>\n<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n")
    for row in result.texts("shown"):
        out.write(f"<tr>{''.join(_html_cell('td', v, c) for v, c in zip(row, classes, strict=True))}</tr>\n")
    out.write("</tbody>\n</table>\n")


def _html_cell(tag: str, value: str | None, class_: str) -> str:
    if value is None:
        return f'<{tag} class="null">NULL</{tag}>'
    # A parser takes a bare carriage return for a line feed.
    text = html.escape(value).replace("\r", "&#13;")
    return f'<{tag} class="{class_}">{text}</{tag}>' if class_ else f"<{tag}>{text}</{tag}>"


# ---- for eyes
def _line(result: Result, out: TextIO, before: int, room: Room | None) -> None:
    """A line for each value, ``name = value``, and an empty one between rows; for rows too wide for a table.

    The further lines of a value are indented as far as its first. What could be mistaken is a literal of DuckDB instead.
    """
    names = [printable(name) for name in _names(result)]
    width = max(map(len, names), default=0)
    between = "\n" if before else ""
    for row in result.texts("shown"):
        out.write(between)
        for name, value in zip(names, row, strict=True):
            text = _line_value(value).replace("\n", "\n" + " " * (width + 3))
            out.write(f"{name:>{width}} = {text}\n")
        between = "\n"


def _line_value(value: str | None) -> str:
    if value is None:
        return "NULL"
    if printable(value.replace("\n", "")) != value.replace("\n", ""):
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        return "E'" + "".join(c if printable(c) == c else _bytes(c) for c in quoted) + "'"
    doubtful = value in ("", "NULL") or value != value.strip() or value.startswith(("'", "E'"))
    return "'" + value.replace("'", "''") + "'" if doubtful else value


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _table(result: Result, out: TextIO, before: int, room: Room | None) -> str | None:
    if before and not out.isatty():  # at a prompt they are apart anyway
        out.write("\n")
    return write_table(result, out, room)


FORMATS: dict[str, Callable[[Result, TextIO, int, Room | None], str | None]] = {
    "table": _table,
    "csv": _csv,
    "tsv": _tsv,
    "json": _json,
    "jsonl": _json_lines,
    "parquet": _parquet,
    "arrow": _arrow,
    "markdown": _markdown,
    "html": _html,
    "line": _line,
}
"""Name -> function that writes a result; it is told how many results stand before, and may give a note."""
