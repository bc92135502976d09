"""What the file connectors share: which files a source names, what to say if there are none, and rows of batches."""

from __future__ import annotations

import difflib
import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from aidb.errors import SourceError
from aidb.spi import CONTENT_TYPE
from aidb_connectors.globs import has_magic, natural_key, split_pattern, walk
from aidb_connectors.storage import File, LocalStorage, Node, Storage, explain, locate

BATCH_ROWS = 4096
CLAIM_CAP = 10_000
_ARROW = {
    "VARCHAR": pa.string(),
    "BIGINT": pa.int64(),
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us"),
}
_log = logging.getLogger("aidb.connectors")


def has_extension(name: str, extensions: Iterable[str]) -> bool:
    """Does a file's name end in one of these (lower case, with the dot)?"""
    lower = name.lower()
    return any(lower.endswith(extension) for extension in extensions)


def list_files(source: str, extensions: frozenset[str], what: str) -> Iterator[File]:
    """The files that a source names, in natural order, streamed; the first is looked for before this returns.

    A file named outright is taken whatever its extension, and so are the files of a pattern that spells its extension
    out (``*.dat``). Else, and in a folder, files of other extensions are passed over. A folder is not searched below
    itself: ``folder/**`` is. A folder below that can't be listed comes as a file, which then can't be read.

    what: names the wanted files in errors ("images"). Raises SourceError if there is none, saying where it looked.
    """
    storage, path = _located(source)
    try:
        storage.refresh()
        literal = storage.find(path)
        if literal is not None and not literal.is_dir:
            return iter((storage.file(literal),))
        files = _matching(storage, path, literal, source, extensions)
        first = next(files, None)
    except SourceError:
        raise
    except Exception as e:  # every store has its own exceptions: no permission, no credentials, no network
        raise SourceError(f"can't list {source!r}: {explain(e)}") from e
    if first is None:
        raise SourceError(_nothing(storage, path, literal, source, extensions, what))
    return _guarded(itertools.chain((first,), files), source)


def count_claimed(source: str, extensions: frozenset[str]) -> int:
    """`aidb.spi.Connector.claims` for files: how many names of the source, of the first 10,000, have an extension."""
    if source.startswith(("http://", "https://")):
        return int(has_extension(unquote(urlsplit(source).path), extensions))
    try:
        storage, path = locate(source)
    except SourceError as e:
        if isinstance(e.__cause__, ValueError):  # a scheme that fsspec has never heard of is another connector's
            return 0
        raise
    try:
        literal = storage.find(path)
        if literal is not None and not literal.is_dir:
            return int(has_extension(literal.name, extensions))
        base, pattern = (path, ("*",)) if literal is not None else split_pattern(path)
        if literal is None and storage.find(base) is None:
            raise SourceError(_missing(storage, path, source))
        seen = claimed = 0
        for node in itertools.islice(walk(storage, base, pattern, ordered=False), CLAIM_CAP):
            seen += 1
            claimed += has_extension(node.name, extensions)
    except SourceError:
        raise
    except Exception as e:  # see list_files
        raise SourceError(f"can't list {source!r}: {explain(e)}") from e
    if literal is None and not seen:
        raise SourceError(_missing(storage, path, source))
    return claimed


def _located(source: str) -> tuple[Storage, str]:
    if not source.strip():
        raise SourceError("the source is empty: give a file, a folder, a pattern or a URL")
    return locate(source)


def _matching(
    storage: Storage, path: str, folder: Node | None, source: str, extensions: frozenset[str]
) -> Iterator[File]:
    base: str
    pattern: tuple[str, ...]
    if folder is not None:
        base, pattern = path, ("*",)
    elif storage.has_folders and has_magic(path):
        base, pattern = split_pattern(path)
        if storage.find(base) is None:
            return
    else:
        return
    spelled_out = "." in pattern[-1] and not has_magic(pattern[-1].rpartition(".")[2])
    skipped = 0
    for node in walk(storage, base, pattern):
        if spelled_out or node.is_dir or has_extension(node.name, extensions):
            yield storage.file(node)
        else:
            skipped += 1
    if skipped:
        _log.info("%s: passed over %d files of other kinds", source, skipped)


def _guarded(files: Iterator[File], source: str) -> Iterator[File]:
    try:
        yield from files
    except Exception as e:  # see list_files
        raise SourceError(f"can't list {source!r} to its end: {explain(e)}") from e


def _nothing(
    storage: Storage, path: str, folder: Node | None, source: str, extensions: frozenset[str], what: str
) -> str:
    """Why a source names no file, and what it could have meant."""
    wanted = f"{what} ({', '.join(sorted(extensions))})"
    base, pattern = (path, ("*",)) if folder is not None else split_pattern(path)
    if folder is None and (not has_magic(path) or not storage.has_folders or storage.find(base) is None):
        return _missing(storage, path, source)
    others = Counter(_suffix(n.name) for n in itertools.islice(walk(storage, base, pattern, ordered=False), CLAIM_CAP))
    if others:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items(), key=lambda x: (-x[1], x[0]))[:4])
        text = f"{source!r} holds no {wanted}, only other files: {kinds}"
    elif folder is not None:
        text = f"the folder {storage.uri(base)!r} holds no {wanted}"
    else:
        return _missing(storage, path, source)
    if folder is not None:
        below = itertools.islice(walk(storage, base, ("**",), ordered=False), CLAIM_CAP)
        if any(has_extension(n.name, extensions) for n in below):
            text += f"; folders below it do: {source.rstrip('/') + '/**'!r}"
    return text


def _missing(storage: Storage, path: str, source: str) -> str:
    """No file matches: name the first part of the path that doesn't exist, and names like it."""
    if not storage.has_folders:
        hint = "; a web server can't be searched by pattern, name each file" if has_magic(source) else ""
        return f"{source!r}: there is no such file on the server{hint}"
    base, pattern = split_pattern(path)
    if storage.find(base) is None:
        parent, name = base, ""
        while parent.strip("/") and storage.find(parent) is None:
            parent, _, name = parent.rpartition("/")
        if not parent and isinstance(storage, LocalStorage):
            parent = "/"
        what = f"there is no {name!r} in {storage.uri(parent)!r}"
    else:
        parent, name = base, pattern[-1]
        verb = "nothing matches it" if has_magic(name) else f"there is no {name!r}"
        what = f"{verb} in {storage.uri(parent)!r}"
    try:
        names = sorted({n.name for n in itertools.islice(storage.children(parent), CLAIM_CAP)}, key=natural_key)
    except Exception:  # this only words the error about the path
        names = []
    folded = {n.lower(): n for n in names}
    near = [folded[n] for n in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.5)]
    if near:
        what += f"; did you mean {' or '.join(map(repr, near))}?"
    elif names:
        what += f"; it holds {', '.join(map(repr, names[:3]))}" + (
            f" and {len(names) - 3} more" if len(names) > 3 else ""
        )
    elif not names and parent == base:
        what += "; it is empty"
    kind = "no file matches" if has_magic(path) else "no such file or folder:"
    return f"{kind} {source!r}: {what}"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without extension"


def whole_number(value: object) -> int:
    """An option's value as an int; 2.5, true and 'two' are refused."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("a whole number is wanted")
    return int(value)  # type: ignore[call-overload, no-any-return]  # Options.take words what int() raises


def arrow_type(duckdb_type: str) -> pa.DataType:
    """The Arrow type of a column of `BlobSchema`, content included."""
    return CONTENT_TYPE if duckdb_type.startswith("STRUCT(uri") else _ARROW[duckdb_type]


def in_batches(columns: tuple[tuple[str, str], ...], rows: Iterable[tuple[object, ...]]) -> Iterator[pa.RecordBatch]:
    """Rows (values of the columns, then the content id) as record batches of at most 4096."""
    schema = pa.schema([(name, arrow_type(type_)) for name, type_ in columns] + [("content_id", pa.string())])
    rows = iter(rows)
    while chunk := list(itertools.islice(rows, BATCH_ROWS)):
        arrays = [pa.array(values, type=f.type) for f, values in zip(schema, zip(*chunk, strict=True), strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def content(uri: str, pos: int | None, media: str, connector: str) -> dict[str, object]:
    """A content reference as Arrow takes it."""
    return {"uri": uri, "pos": pos, "media": media, "connector": connector}


def header_wanted(option: bool | None) -> Callable[[File], bool]:
    """Should listing open a file for its header? By default only on local disks, where that costs microseconds."""
    if option is not None:
        return lambda file: option
    return lambda file: file.uri.startswith(("/", "file://")) or "://" not in file.uri
