"""Answers on their way to another database: written as Parquet with their ledger, and taken from there.

An item's key is a number of one database, so none travels. What travels is by what an item is known everywhere: the
columns that identify it in its source (`identity`), and a digest of all that the model was shown (`_version`). Whoever
reads the answers lists the same items itself, and takes those whose digest is the same.

A folder holds ``manifest.json``, written last, and three sets of Parquet parts: ``ledger`` (an item each: number,
identity, digest, call), ``rows`` (answers by the item's number) and ``calls``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from aidb.catalog.definitions import FillDefinition
from aidb.catalog.names import quoted
from aidb.errors import OperationalError
from aidb.storage.answers import error_key
from aidb.storage.items import count
from aidb.storage.schema import INTERNAL
from aidb.storage.translated import translated

FORMAT = 1
_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "oss"}
"""Stores without folders: asked for one they would make a bucket, of a name that may have been a slip of the pen."""
PART = 1_000_000
"""Rows of a Parquet file, at most."""
CHUNK = 65_536
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Universe:
    """The items that a fill may have answers for, in this database.

    sql: a query of the keys (as the fill has them, in order), of ``identity`` and of ``_version``; None if the keys, which
    are the inputs' values, say it all. identity: names of the columns that tell an item from others in every database.
    """

    sql: str | None
    identity: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """What came of attaching: items whose answers were stored, had been known, and are not listed here or differ."""

    new: int
    known: int
    elsewhere: int

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.new + other.new, self.known + other.known, self.elsewhere + other.elsewhere)


class _Part:
    """A Parquet file that is being written. It is in its store only once it was closed, and whether it is `close` says."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self.writer = pq.ParquetWriter(file, schema, compression="zstd")

    def close(self) -> None:
        """Write what is left; once."""
        try:
            self.writer.close()
        finally:
            self._file.close()


class Folder:
    """A folder of a local or remote file system, by fsspec's address. Raises `OperationalError` naming the file."""

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs

        self.address = address
        try:
            self._fs, self._path = url_to_fs(address)
            self._fs.invalidate_cache()  # listings that others may have changed since
        except (ImportError, ValueError) as e:
            raise OperationalError(f"{address}: {e}") from e

    def within(self, name: str) -> str:
        """The path of something inside."""
        return f"{self._path.rstrip('/')}/{name}"

    def inner(self, name: str) -> Folder:
        """A folder inside."""
        return Folder(f"{self.address.rstrip('/')}/{name}")

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, pa.ArrowException) as e:
            raise OperationalError(f"{self.address}, {name}: {e}") from e

    def manifest(self) -> dict[str, Any] | None:
        """What stands in the manifest; None if there is none."""
        with self._naming(MANIFEST):
            if not self._fs.exists(self.within(MANIFEST)):
                return None
            found = json.loads(self._fs.cat_file(self.within(MANIFEST)))
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise OperationalError(f"{self.address}: {MANIFEST} is none of AIDB's")
        if found["format"] > FORMAT:
            raise OperationalError(f"{self.address} was written by a newer AIDB: upgrade AIDB to read it")
        return found

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest: from now on the folder is complete."""
        with self._naming(MANIFEST):
            self._fs.pipe_file(self.within(MANIFEST), json.dumps(manifest, indent=1, default=str).encode())

    def write(self, kind: str, batches: pa.RecordBatchReader) -> int:
        """Write batches as parts ``kind/part-00000.parquet``...; the number of rows."""
        rows = number = room = 0
        part: _Part | None = None
        with self._naming(kind):
            if not self._has_buckets:
                self._fs.makedirs(self.within(kind), exist_ok=True)
            try:
                for batch in batches:
                    if part is None or room <= 0:
                        if part is not None:
                            part.close()
                        part = self._part(f"{kind}/part-{number:05}.parquet", batches.schema)
                        number, room = number + 1, PART
                    part.writer.write_batch(batch)
                    rows, room = rows + batch.num_rows, room - batch.num_rows
                if part is None:  # a schema without rows is an answer too
                    part = self._part(f"{kind}/part-{number:05}.parquet", batches.schema)
            finally:
                if part is not None:
                    part.close()
        return rows

    @property
    def _has_buckets(self) -> bool:
        protocols = [self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol
        return not _BUCKETS.isdisjoint(protocols)

    def _part(self, name: str, schema: pa.Schema) -> _Part:
        return _Part(self._fs.open(self.within(name), "wb"), schema)

    def read(self, kind: str) -> pa.RecordBatchReader:
        """All parts of a kind, one after the other."""
        with self._naming(kind):
            names = sorted(n for n in self._fs.ls(self.within(kind), detail=False) if str(n).endswith(".parquet"))
            if not names:
                raise OperationalError(f"{self.address}: {kind} has no Parquet files, so it is not complete")
        with self._naming(str(names[0])), self._fs.open(names[0], "rb") as first:
            schema = pq.read_schema(first)

        def batches() -> Iterator[pa.RecordBatch]:
            for name in names:
                with self._naming(str(name)), self._fs.open(name, "rb") as file, pq.ParquetFile(file) as parquet:
                    yield from parquet.iter_batches(CHUNK)

        return pa.RecordBatchReader.from_batches(schema, batches())


# ---- out
def export(db: duckdb.DuckDBPyConnection, fill: FillDefinition, shown: Universe, folder: Folder) -> tuple[int, int]:
    """Write the answers of a fill; (items, rows). Failures stay: elsewhere the item may be read.

    db: a connection of its own. ``fill`` bears its stored names.
    """
    keys = [name for name, _ in fill.keys]
    answered = f"(FROM {fill.ledger} WHERE NOT _failed)"
    identity = "".join(f"{quoted(c)}, " for c in shown.identity)
    if shown.sql is None:
        own = ", ".join(f"{quoted(k)} AS {quoted(c)}" for k, c in zip(keys, shown.identity, strict=True))
        source = f"(SELECT *, {own}, NULL::VARCHAR AS _version FROM {answered})"
    else:
        same = " AND ".join(f"l.{quoted(k)} = u.{n}" for k, n in zip(keys, _places(keys), strict=True))
        positions = ", ".join([*_places(keys), *(quoted(c) for c in shown.identity), "_version"])
        source = (
            f"(SELECT l.*, {identity} _version FROM {answered} l JOIN (SELECT * FROM ({shown.sql}) u({positions})) u "
            f"ON {same})"
        )
    with translated():
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE aidb_export AS SELECT row_number() OVER () - 1 AS _item, * FROM {source}"
        )
        items = folder.write(
            "ledger", _reader(db, f"SELECT _item, {identity} _version, _call FROM aidb_export ORDER BY _item")
        )
        on = " AND ".join(f"r.{quoted(k)} IS NOT DISTINCT FROM e.{quoted(k)}" for k in keys)
        outputs = [*([fill.ordinal] if fill.ordinal else []), *(n for n, _ in fill.outputs)]
        order = f", r.{quoted(fill.ordinal)}" if fill.ordinal else ""
        rows = folder.write(
            "rows",
            _reader(
                db,
                f"SELECT e._item, {', '.join(f'r.{quoted(n)}' for n in outputs)} FROM {fill.rows} r JOIN aidb_export e ON {on} "
                f"ORDER BY e._item{order}",
            ),
        )
        folder.write(
            "calls",
            _reader(
                db,
                f"SELECT call_id, started, seconds, items, rows, failed, device FROM {INTERNAL}.calls "
                f"WHERE fill = {fill.id} AND call_id IN (SELECT _call FROM aidb_export) ORDER BY call_id",
            ),
        )
        db.execute("DROP TABLE aidb_export")
    return items, rows


def _reader(db: duckdb.DuckDBPyConnection, sql: str) -> pa.RecordBatchReader:
    return db.sql(sql).to_arrow_reader(CHUNK)


def _places(keys: Sequence[str]) -> list[str]:
    """Names for the keys that collide with no identity's."""
    return [f"_key{n}" for n in range(len(keys))]


# ---- in
def attach(db: duckdb.DuckDBPyConnection, fill: FillDefinition, shown: Universe, folder: Folder) -> Taken:
    """Store the answers of a folder for the items that are listed here and were not answered yet, all or none.

    db: a connection inside of a transaction. ``fill`` bears its stored names.
    """
    with translated():
        total = _stage(db, "aidb_attached", folder.read("ledger"))
        _stage(db, "aidb_calls", folder.read("calls"))
        keys = [name for name, _ in fill.keys]
        places = _places(keys)
        if shown.sql is None:
            own = ", ".join(f"{quoted(c)} AS {p}" for c, p in zip(shown.identity, places, strict=True))
            found = f"SELECT _item, _call, {own} FROM aidb_attached"
        else:
            on = " AND ".join(
                f"a.{quoted(c)} IS NOT DISTINCT FROM u.{quoted(c)}" for c in [*shown.identity, "_version"]
            )
            positions = ", ".join([*places, *(quoted(c) for c in shown.identity), "_version"])
            found = (
                f"SELECT a._item, a._call, {', '.join(f'u.{p}' for p in places)} FROM aidb_attached a "
                f"JOIN (SELECT * FROM ({shown.sql}) u({positions})) u ON {on}"
            )
        db.execute(f"CREATE OR REPLACE TEMP TABLE aidb_found AS {found}")
        same = " AND ".join(f"f.{p} IS NOT DISTINCT FROM l.{quoted(k)}" for k, p in zip(keys, places, strict=True))
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE aidb_new AS SELECT f.* FROM aidb_found f "
            f"ANTI JOIN (FROM {fill.ledger} WHERE NOT _failed) l ON {same}"
        )
        matched, new = count(db, "aidb_found"), count(db, "aidb_new")
        if new:
            _store(db, fill, places, same, folder)
        for table in ("aidb_attached", "aidb_calls", "aidb_found", "aidb_new"):
            db.execute(f"DROP TABLE {table}")
    return Taken(new, matched - new, total - matched)


def _store(
    db: duckdb.DuckDBPyConnection, fill: FillDefinition, places: Sequence[str], same: str, folder: Folder
) -> None:
    keys = ", ".join(f"f.{p}" for p in places)
    # What failed here was answered there.
    db.execute(f"DELETE FROM {fill.ledger} l USING aidb_new f WHERE {same}")
    settled = " AND ".join(
        f"{error_key(k)} IS NOT DISTINCT FROM f.{p}::VARCHAR" for (k, _), p in zip(fill.keys, places, strict=True)
    )
    db.execute(f"DELETE FROM {INTERNAL}.errors e USING aidb_new f WHERE e.fill = {fill.id} AND {settled}")
    db.execute(
        "CREATE OR REPLACE TEMP TABLE aidb_numbers AS SELECT call_id, "
        f"nextval('{INTERNAL}.call_ids') AS number FROM (SELECT DISTINCT _call AS call_id FROM aidb_new ORDER BY ALL)"
    )
    ordinal = f"r.{quoted(fill.ordinal)}, " if fill.ordinal else ""
    outputs = ", ".join(f"r.{quoted(n)}" for n, _ in fill.outputs)
    db.register("aidb_rows", folder.read("rows"))
    try:
        db.execute(
            f"INSERT INTO {fill.rows} BY POSITION SELECT {keys}, {ordinal}{outputs} "
            "FROM aidb_rows r JOIN aidb_new f USING (_item)"
        )
    finally:
        db.unregister("aidb_rows")
    db.execute(
        f"INSERT INTO {fill.ledger} BY POSITION SELECT {keys}, n.number, FALSE "
        "FROM aidb_new f JOIN aidb_numbers n ON f._call = n.call_id"
    )
    # A call is here what of it was taken, with its share of the time.
    taken = "SELECT _call AS call_id, count(*) AS items FROM aidb_new GROUP BY ALL"
    given = f"SELECT l._call AS number, count(*) AS rows FROM {fill.rows} r JOIN {fill.ledger} l ON " + " AND ".join(
        f"r.{quoted(k)} IS NOT DISTINCT FROM l.{quoted(k)}" for k, _ in fill.keys
    )
    db.execute(
        f"INSERT INTO {INTERNAL}.calls SELECT n.number, {fill.id}, c.started, c.seconds * t.items / greatest(c.items, 1), "
        f"t.items, coalesce(g.rows, 0), 0, c.device FROM aidb_calls c JOIN ({taken}) t USING (call_id) "
        f"JOIN aidb_numbers n USING (call_id) LEFT JOIN ({given} GROUP BY ALL) g ON g.number = n.number"
    )
    db.execute("DROP TABLE aidb_numbers")


def _stage(db: duckdb.DuckDBPyConnection, name: str, batches: pa.RecordBatchReader) -> int:
    db.register("aidb_parts", batches)
    try:
        db.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM aidb_parts")
    finally:
        db.unregister("aidb_parts")
    return count(db, name)
