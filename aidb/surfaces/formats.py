"""What a result looks like on its way out: csv, json, jsonl, parquet, markdown, html, or a table for eyes.

All but the table can be read back. Values are in DuckDB's own words, which a cast reads, and NULL is no empty text: csv has
nothing for the one and ``""`` for the other, markdown ``*NULL*``, whose asterisks are escaped in any text, and html the
class ``null``.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from aidb.errors import ProgrammingError
from aidb.surfaces.tables import write_table

if TYPE_CHECKING:
    import pyarrow as pa


class Result(Protocol):
    """What is needed of a result; an `aidb.Cursor` after a query has it."""

    @property
    def description(self) -> list[tuple[str, str, None, None, int | None, int | None, None]] | None:
        """Name and DuckDB type of each column, and five times None."""

    @property
    def rowcount(self) -> int:
        """How many rows there are."""

    def texts(self, form: Literal["sql", "json", "shown"] = "sql") -> Iterator[tuple[str | None, ...]]:
        """The rows as text."""

    def arrow(self) -> pa.Table:
        """The rows as an Arrow table."""


class Writer:
    """Writes results to a stream, all in one form (of `FORMATS`), one below the other."""

    def __init__(self, form: str, out: TextIO) -> None:
        self.form, self.out = form, out
        self.written = 0

    def write(self, result: Result) -> str | None:
        """Write one result; gives a note if something of it was left out. Raises `ProgrammingError` if it can't follow.

        Only a Parquet file can't hold a second result.
        """
        if self.form == "parquet" and self.written:
            raise ProgrammingError(
                "a Parquet file holds one result, and this is the second: write each to its own file"
            )
        note = FORMATS[self.form](result, self.out, self.written)
        self.written += 1
        self.out.flush()
        return note


def _names(result: Result) -> list[str]:
    return [column[0] for column in result.description or ()]


# ---- for programs
def _csv(result: Result, out: TextIO, before: int) -> None:
    """RFC 4180 with a header, but for the line ends, which are line feeds."""
    out.write(",".join(map(_csv_field, _names(result))) + "\n")
    for row in result.texts():
        out.write(",".join(map(_csv_field, row)) + "\n")


def _csv_field(value: str | None) -> str:
    if value is None:
        return ""
    # Some readers strip spaces that are not quoted.
    if not value or value != value.strip() or any(c in value for c in ',"\r\n'):
        return '"' + value.replace('"', '""') + '"'
    return value


def _objects(result: Result) -> Iterator[str]:
    """Each row as a JSON object of one line."""
    keys = [json.dumps(name, ensure_ascii=False) for name in _distinct(_names(result))]
    for row in result.texts("json"):
        # A column of JSON may hold line breaks between its tokens; within strings they are escaped.
        values = ("null" if value is None else value.replace("\r", " ").replace("\n", " ") for value in row)
        yield "{" + ", ".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True)) + "}"


def _json_lines(result: Result, out: TextIO, before: int) -> None:
    for line in _objects(result):
        out.write(line + "\n")


def _json(result: Result, out: TextIO, before: int) -> None:
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


def _parquet(result: Result, out: TextIO, before: int) -> None:
    import pyarrow.parquet as pq

    table = result.arrow()
    pq.write_table(table.rename_columns(_distinct(table.column_names)), out.buffer)


# ---- for documents
def _markdown(result: Result, out: TextIO, before: int) -> None:
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


def _html(result: Result, out: TextIO, before: int) -> None:
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
def _table(result: Result, out: TextIO, before: int) -> str | None:
    if before and not out.isatty():  # at a prompt they are apart anyway
        out.write("\n")
    return write_table(result, out)


FORMATS: dict[str, Callable[[Result, TextIO, int], str | None]] = {
    "table": _table,
    "csv": _csv,
    "json": _json,
    "jsonl": _json_lines,
    "parquet": _parquet,
    "markdown": _markdown,
    "html": _html,
}
"""Name -> function that writes a result; it is told how many results stand before, and may give a note."""
