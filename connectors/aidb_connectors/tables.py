"""Tables of texts in files: what columns they have together, and their rows, read by DuckDB one file at a time."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TextIO, cast

import pyarrow as pa

from aidb.errors import SourceError, UnknownName
from aidb.spi import Options
from aidb_connectors.encodings import marked_encoding, text_encoding
from aidb_connectors.files import BATCH_ROWS, has_extension
from aidb_connectors.globs import has_magic
from aidb_connectors.storage import File, explain, on_disk

_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_JSON = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_PARQUET = (".parquet", ".pq")
TABLE_EXTENSIONS = frozenset((*_CSV, *_JSON, *_PARQUET))
_OURS = ("file", "row", "doc_id", "content_id")


class Tables:
    """The files of one source as one table. Making it reads every file's columns (not its rows, but for a sample).

    files: at least one. columns: (name, DuckDB type), ``file`` and ``row`` first. Raises SourceError naming the file.
    """

    def __init__(self, files: list[File], options: Options) -> None:
        self._files, self._options = files, options
        self._shapes = [self._shape(file) for file in files]
        types: dict[str, str] = {}
        spelled: dict[str, str] = {}
        for shape in self._shapes:
            for name, type_ in shape.items():
                spelled.setdefault(name.lower(), name)
                known = types.get(name.lower(), type_)
                types[name.lower()] = known if known == type_ else self._common(known, type_)
        self._types = {spelled[name]: type_ for name, type_ in self._chosen(types, spelled).items()}
        names = _free_names(list(self._types))
        self.columns: tuple[tuple[str, str], ...] = (
            ("file", "VARCHAR"),
            ("row", "BIGINT"),
            *zip(names, self._types.values(), strict=True),
        )

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, file by file in their order. content_id is a digest of the row's values."""
        for file, shape in zip(self._files, self._shapes, strict=True):
            try:
                yield from self._rows(file, shape)
            except SourceError:
                raise
            except Exception as e:  # DuckDB's own, the storage's own
                raise _broken(file, e) from e

    def _shape(self, file: File) -> dict[str, str]:
        """Column -> type of one file; no columns if it is empty."""
        if file.size == 0:
            return {}
        try:
            with self._readable(file.uri) as path, _connect() as con:
                described = con.execute(f"DESCRIBE SELECT * FROM {self._reader(file.uri, None)}", [path]).fetchall()
        except Exception as e:  # see batches
            raise _broken(file, e) from e
        return {name: type_ for name, type_, *_ in described}

    def _common(self, one: str, other: str) -> str:
        with _connect() as con:
            try:
                row = con.execute(
                    f"SELECT typeof(x) FROM (SELECT NULL::{one} x UNION ALL SELECT NULL::{other})"
                ).fetchone()
            except Exception:  # no common type, says DuckDB: everything is text
                return "VARCHAR"
        assert row is not None
        return str(row[0])

    def _chosen(self, types: Mapping[str, str], spelled: Mapping[str, str]) -> Mapping[str, str]:
        wanted = self._options.take("columns", _name_list, None)
        if wanted is None:
            return types
        for name in wanted:
            if name.lower() not in types:
                raise UnknownName.of("column", name, spelled.values(), "option columns")
        return {name.lower(): types[name.lower()] for name in wanted}

    def _rows(self, file: File, shape: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
        if not shape:
            return
        own = {name.lower(): name for name in shape}
        read = [
            f"{_quoted(own[name.lower()])}::{type_}" if name.lower() in own else f"NULL::{type_}"
            for name, type_ in self._types.items()
        ]
        names = [_quoted(name) for name, _ in self.columns[2:]]
        picked = ", ".join(f"{e} AS {n}" for e, n in zip(read, names, strict=True))
        # Separators that text does not hold keep ('a', 'bc') and ('ab', 'c'), or NULL and '', apart.
        values = ", ".join(f"coalesce(x.{n}::VARCHAR, chr(30))" for n in names)
        with self._readable(file.uri) as path, _connect() as con:
            settled = {own[n.lower()]: t for n, t in self._types.items() if n.lower() in own}
            source = self._reader(file.uri, settled)
            query = f"SELECT x.*, md5(concat_ws(chr(31), {values})) FROM (SELECT {picked} FROM {source}) x"
            row = 0
            for batch in con.sql(query, params=[path]).to_arrow_reader(BATCH_ROWS):
                n = batch.num_rows
                numbers = pa.array(range(row, row + n), pa.int64())
                arrays = [pa.repeat(file.uri, n), numbers, *batch.columns]
                yield pa.RecordBatch.from_arrays(arrays, names=[*(c for c, _ in self.columns), "content_id"])
                row += n

    def _reader(self, uri: str, types: Mapping[str, str] | None) -> str:
        """DuckDB's table function for a file whose path is the query's parameter; ``types`` settles its columns."""
        settled = ", ".join(f"{_literal(n)}: {_literal(t)}" for n, t in (types or {}).items())
        if has_extension(uri, _PARQUET):
            return "read_parquet(?, hive_partitioning=false)"
        if has_extension(uri, _JSON):
            columns = f", columns={{{settled}}}" if settled else ""
            return f"read_json(?, format='newline_delimited', hive_partitioning=false{columns})"
        arguments = ["?", "hive_partitioning=false"]
        if (delimiter := self._options.take("delimiter", str, None)) is not None:
            arguments.append(f"delim={_literal(delimiter)}")
        if (header := self._options.take("header", bool, None)) is not None:
            arguments.append(f"header={str(header).lower()}")
        if settled:
            arguments.append(f"types={{{settled}}}")
        return f"read_csv({', '.join(arguments)})"

    @contextmanager
    def _readable(self, uri: str) -> Iterator[str]:
        """The file where DuckDB can read it: on disk, in UTF-8, under a name that is no pattern."""
        encoding: str | None = self._options.take("encoding", text_encoding, None)
        with on_disk(uri) as path:
            binary = has_extension(uri, _PARQUET)
            if not binary:
                encoding = encoding or _marked_encoding(path)
            if not has_magic(path) and (binary or encoding in (None, "utf-8")):
                yield path
                return
            with TemporaryDirectory(prefix="aidb-") as folder:
                copy = Path(folder) / (
                    "table" + max((e for e in TABLE_EXTENSIONS if has_extension(uri, (e,))), key=len, default="")
                )
                if binary or encoding in (None, "utf-8"):
                    copy.symlink_to(path)
                else:
                    copy = copy.with_name(copy.name.removesuffix(".gz"))
                    with _text(path, str(encoding)) as source, copy.open("w", encoding="utf-8", newline="") as out:
                        while block := source.read(1 << 20):
                            out.write(block)
                yield str(copy)


def _marked_encoding(path: str) -> str | None:
    with _raw(path) as stream:
        named = marked_encoding(stream.read(4))
    return None if named == "utf-8-sig" else named  # which DuckDB understands


def _raw(path: str) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.endswith(".gz") else open(path, "rb")


def _text(path: str, encoding: str) -> TextIO:
    return io.TextIOWrapper(_raw(path), encoding=encoding, newline="")


def _connect() -> Any:
    import duckdb

    # One thread keeps the order of rows; no extension may be fetched behind the user's back.
    return duckdb.connect(
        ":memory:",
        config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False},
    )


def _free_names(names: list[str]) -> list[str]:
    """Names for the data's columns, none of which is one of ours or another's."""
    taken = set(_OURS) | {name.lower() for name in names}
    free = []
    for name in names:
        number, new = 0, name
        while name.lower() in _OURS and (number == 0 or new.lower() in taken):
            number += 1
            new = f"{name}_{number}"
        taken.add(new.lower())
        free.append(new)
    return free


def _name_list(value: object) -> list[str]:
    names = [str(x).strip() for x in (value if isinstance(value, list | tuple) else str(value).split(","))]
    if not all(names):
        raise ValueError("write column names separated by commas")
    if len({name.lower() for name in names}) < len(names):
        raise ValueError("a column is named twice")
    return names


def _broken(file: File, error: Exception) -> SourceError:
    if isinstance(error, SourceError):
        return error
    text = explain(error)
    if "utf-8" in text.lower():
        text += "\nIf it is in another encoding, say so: WITH (encoding = 'cp1252')"
    return SourceError(f"can't read the table {file.uri!r}: {text}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
