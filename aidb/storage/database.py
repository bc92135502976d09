"""One DuckDB database: opening it, a connection for each purpose, errors in our words."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

import duckdb
import pyarrow as pa

from aidb import errors
from aidb.catalog.names import literal, quoted
from aidb.storage import schema
from aidb.storage.answer import Answer
from aidb.storage.copying import Copy, opened_copy
from aidb.storage.translated import is_damage, translated

T = TypeVar("T")
Parameters = Sequence[Any] | Mapping[str, Any] | None

_RESERVED = {"aidb", "aidb_internal", "temp", "system", "main", "memory"}
"""A file of such a name would make ``aidb.models`` ambiguous (catalog or schema?): it is attached under another."""


class Lingering(Protocol):
    """Someone who still stores answers."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        ...


class Shared:
    """What the connections of this process to one file have in common.

    version: goes up whenever one of them changes what names mean. lock: held while storage for answers is made. models:
    held while it is found out which answers are missing and models give them. lingering: those that still store the
    answers of batches which an interrupted statement left in flight. copy: what is read in place of a file that another
    process writes.
    """

    def __init__(self, root: duckdb.DuckDBPyConnection, use: str | None) -> None:
        self.root, self.use = root, use
        self.lock = threading.RLock()
        self.models = threading.Lock()
        self.lingering: list[Lingering] = []
        self.version = 0
        self.connections = 0
        self.copy: Copy | None = None


_open_files: dict[tuple[str, bool], Shared] = {}
_opening = threading.Lock()


class Database:
    """A DuckDB file or ``:memory:``, with AIDB's own schemas in it.

    `user` is the connection on which the user's statements run (temporary tables and settings live there); `cursor`
    gives further ones that see what is committed. `is_new`: nothing was in it before.
    """

    def __init__(self, path: str | os.PathLike[str] = ":memory:", *, read_only: bool = False) -> None:
        self.path = os.fspath(path)
        self.read_only = read_only
        self.lock = threading.RLock()
        self.autocommit = True
        self._depth = 0
        self._began = False
        self._closed = False
        self._file = None if self.path.startswith(":memory:") else (os.path.realpath(self.path), read_only)
        with _opening:
            shared = None if self._file is None else _open_files.get(self._file)
            named = self._file is not None and shared is None and not os.path.exists(self.path)
            self.is_new = named or self.path == ":memory:"
            self.shared = shared or self._connect()
            if self._file is not None:
                _open_files[self._file] = self.shared
            self.shared.connections += 1
        self._cursors: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        try:
            self.user = self.cursor()
            with self.shared.lock:
                self.is_aidb = self._prepare()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Shared:
        """The first connection of this process."""
        with translated():
            try:
                return self._open(self.path)
            except duckdb.Error as e:
                if self.read_only and _is_locked(str(e)) and os.path.isfile(self.path):
                    return self._open_copy()
                raise self._cannot_open(e) from e

    def _open(self, path: str) -> Shared:
        config = {"autoinstall_known_extensions": "false"}
        stem = Path(path).name.split(".")[0].lower()  # what DuckDB calls the catalog of a file
        if self._file is None or stem not in _RESERVED:
            root = duckdb.connect(path, read_only=self.read_only, config=config)
            if self._file is not None and not self.read_only:
                self._check_lasts(root)
            return Shared(root, None)
        root, use = duckdb.connect(":memory:", config=config), stem + "_db"
        options = " (READ_ONLY)" if self.read_only else ""
        try:
            root.execute(f"ATTACH {literal(path)} AS {use}{options}")
        except BaseException:
            root.close()
            raise
        return Shared(root, use)

    def _check_lasts(self, root: duckdb.DuckDBPyConnection) -> None:
        """Of a CSV, JSON or Parquet file DuckDB makes a database in memory, and what is paid for would be gone with it."""
        sql = "SELECT path IS NULL FROM duckdb_databases() WHERE database_name = current_database()"
        if root.execute(sql).fetchall() == [(True,)]:
            root.close()
            raise errors.OperationalError(
                f"{self.path} holds rows and is no database, so that nothing could be stored in it: open another file, and read "
                f"it there, FROM {literal(self.path)}"
            )

    def _open_copy(self) -> Shared:
        """What another process is writing, as it stands now."""

        def connect(path: str) -> Shared:
            with duckdb.connect() as once:  # takes over the log, which a reader could not
                once.execute(f"ATTACH {literal(path)} AS copied")
            return self._open(path)

        copy, shared = opened_copy(self.path, connect)
        shared.copy = copy
        return shared

    @property
    def as_of(self) -> datetime | None:
        """When the copy was taken that stands for a file which another process writes, in UTC; else None."""
        return None if self.shared.copy is None else self.shared.copy.taken

    @property
    def told_as_of(self) -> str:
        """The same in words for a person; empty for a file itself."""
        if self.as_of is None:
            return ""
        return (
            f"{self.path} is being written by another process: this is a copy as of {self.as_of.astimezone():%H:%M:%S}, "
            "which does not change; open it again to see more"
        )

    def _cannot_open(self, e: Exception) -> errors.OperationalError:
        text = str(e)
        if _is_locked(text):
            holder = re.search(r"PID (\d+)", text)
            who = f" (process {holder.group(1)})" if holder else ""
            return errors.OperationalError(
                f"{self.path} is open in another process{who}: one process may write a database at a time. "
                "Close it there, or read what is stored by now: aidb --readonly FILE, or connect(..., read_only=True)"
            )
        if "different configuration" in text or "already attached" in text:
            return errors.OperationalError(
                f"{self.path} is open in this process in another way: open it with the same read_only everywhere"
            )
        if self.read_only and not os.path.exists(self.path):
            return errors.OperationalError(f"{self.path} does not exist, and read_only=True makes no new file")
        if is_damage(text) or "not a valid" in text:
            return errors.OperationalError(f"{self.path} is damaged, or no database: {text}")
        return errors.OperationalError(f"can't open {self.path}: {text}")

    def _prepare(self) -> bool:
        """Create or migrate our schemas; False for a read-only file that has none."""
        with translated():
            there = self.user.execute(
                "SELECT schema_name FROM duckdb_schemas() WHERE schema_name = ? AND database_name = current_database()",
                [schema.INTERNAL],
            ).fetchall()
            if not there:
                if self.read_only:
                    return False
                self._create()
                return True
            try:
                row = self.user.execute(f"SELECT version FROM {schema.INTERNAL}.meta").fetchall()
                version = int(row[0][0])
            except (duckdb.CatalogException, duckdb.BinderException, IndexError, TypeError, ValueError) as e:
                raise errors.IntegrityError(
                    f"{self.path} has a schema {schema.INTERNAL} that is not AIDB's; rename it, or use another file"
                ) from e
            except duckdb.Error as e:
                raise self._cannot_open(e) from e
        if version > schema.VERSION:
            raise errors.OperationalError(
                f"{self.path} was written by a newer AIDB (layout {version}, this one knows {schema.VERSION}): upgrade AIDB"
            )
        if version < schema.VERSION:
            self._migrate(version)
        return True

    def _create(self) -> None:
        try:
            with self.transaction():
                self.user.execute(schema.CREATE)
        except errors.ProgrammingError as e:
            raise errors.IntegrityError(
                f"{self.path} has something of its own in the schema aidb, where AIDB's tables belong; rename it, or "
                f"use another file: {e}"
            ) from e

    def _migrate(self, version: int) -> None:
        if self.read_only:
            raise errors.OperationalError(
                f"{self.path} has layout {version}, older than {schema.VERSION}: open it once with write access to migrate it"
            )
        steps = [schema.MIGRATIONS.get(v) for v in range(version, schema.VERSION)]
        if any(s is None for s in steps):
            raise errors.OperationalError(f"{self.path} has layout {version}, which this AIDB can't migrate")
        with self.transaction():
            for step in steps:
                assert step is not None
                self.user.execute(step)
            self.user.execute(f"UPDATE {schema.INTERNAL}.meta SET version = {schema.VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on the user's connection; inside of another one of ours a part of it.

        Raises `OperationalError` if the user has begun one: it could be rolled back, and we not know.
        """
        with self.lock, translated():
            if self._depth == 0:
                if self.in_transaction():
                    raise errors.OperationalError(
                        "definitions can't be part of a transaction that you began: COMMIT or ROLLBACK first"
                    )
                self.user.execute("BEGIN")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self.user.execute("COMMIT")
            except BaseException:
                if self._depth == 1:
                    # A COMMIT that fails, or a fatal error, has ended the transaction already.
                    with suppress(duckdb.Error):
                        self.user.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same database, for one thread at a time."""
        cursor = self.shared.root.cursor()
        if self.shared.use is not None:
            cursor.execute(f"USE {self.shared.use}")
        self._cursors.add(cursor)
        return cursor

    def query(self, sql: str, parameters: Parameters = None) -> pa.Table:
        """Rows of a query on the user's connection, so that temporary tables are seen."""
        with self.lock, translated():
            return self._heeding(lambda: self.user.sql(sql, params=parameters or None).to_arrow_table())

    def keep(self, name: str, sql: str, parameters: Parameters = None, **tables: pa.Table) -> None:
        """Make a temporary table, in place of one of that name, of a query's rows; Arrow tables may be named in it."""
        with self.lock, translated():
            for other, table in tables.items():
                self.user.register(other, table)
            try:
                self._heeding(
                    lambda: self.user.execute(
                        f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}", parameters or None
                    ).fetchall()
                )
            finally:
                for other in tables:
                    self.user.unregister(other)

    def execute(self, sql: str, parameters: Parameters = None) -> Answer:
        """Run any statement on the user's connection."""
        with self.lock, translated():
            try:
                relation, kept = self._heeding(lambda: self._run(sql, parameters))
            finally:
                if _BORDER.match(sql):
                    self._began = self.in_transaction()
            if relation is None:
                return Answer()
            columns = tuple(zip(relation.columns, map(str, relation.types), strict=True))
            if columns == (("Success", "BOOLEAN"),):
                return Answer()
            if columns == (("Count", "BIGINT"),) and not _reads(sql):
                counted = kept.fetchall()
                return Answer(rows=counted[0][0] if counted else -1)
            return Answer(columns, len(kept), kept, self)

    def _run(self, sql: str, parameters: Parameters) -> tuple[Any, Any]:
        relation = self.user.sql(sql, params=parameters or None)
        return relation, None if relation is None else relation.materialize()

    def _heeding(self, call: Callable[[], T]) -> T:
        """Make a call that may take long, but heed Ctrl-C, which DuckDB itself notices only when it is done.

        Python raises KeyboardInterrupt in the main thread between two of its instructions, so another thread makes the
        call while the main thread waits.
        """
        if threading.current_thread() is not threading.main_thread():
            return call()
        result: list[T] = []
        error: list[BaseException] = []
        ended = threading.Event()

        def work() -> None:
            try:
                result.append(call())
            except BaseException as e:
                error.append(e)
            finally:
                ended.set()

        threading.Thread(target=work, name="aidb query").start()
        try:
            ended.wait()
        except BaseException:
            while not ended.wait(0.02):  # an interrupt that comes before the query begins is lost
                self.user.interrupt()
            raise
        if error:
            raise error[0]
        return result[0]

    def check(self, sql: str, parameters: Parameters = None) -> None:
        """Raise what DuckDB's binder says against a SELECT, without running it."""
        with self.lock, translated():
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                return
            if parameters:
                self.user.sql(f"EXPLAIN {sql}", params=parameters).fetchall()
            else:
                self.user.sql(sql)

    def described(self, sql: str, parameters: Parameters = None) -> list[tuple[str, str]]:
        """Name and type of each column of a SELECT, without running it."""
        table = self.query(f"DESCRIBE {sql}", parameters)
        return list(zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True))

    def begin_to_write(self, sql: str) -> None:
        """Begin a transaction before a statement that may write, where statements are not to commit by themselves."""
        if not self.autocommit and not self._began and _WRITES.match(sql):
            self.execute("BEGIN")

    def refers_to_itself(self, table: str) -> bool:
        """Has a table of this name, in any schema, a foreign key to itself?"""
        found = self.query(
            "SELECT 1 FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY' AND lower(table_name) = lower($n) "
            "AND lower(referenced_table) = lower($n) LIMIT 1",
            {"n": table},
        )
        return bool(found.num_rows)

    def is_usable(self, value: Any) -> bool:
        """Can a Python value be a parameter?"""
        cursor = self.cursor()
        try:
            cursor.execute("SELECT ?", [value]).fetchall()
        except duckdb.Error:
            return False
        finally:
            cursor.close()
        return True

    @property
    def has_begun(self) -> bool:
        """Is a transaction open that the user began?"""
        return self._began

    def in_transaction(self) -> bool:
        """Has the user begun a transaction that is still open?"""
        with self.lock, translated():
            return bool(self._transaction() == self._transaction())

    def is_in_users_transaction(self) -> bool:
        """`in_transaction`, and not in one of ours."""
        with self.lock:
            return self._depth == 0 and self.in_transaction()

    def _transaction(self) -> Any:
        """Id of the current transaction: each statement outside of one has its own."""
        return self.user.execute("SELECT txid_current()").fetchall()

    def is_function(self, name: str) -> bool:
        """Does DuckDB know a function of this name?"""
        found = self.query("SELECT 1 FROM duckdb_functions() WHERE function_name = lower($n) LIMIT 1", {"n": name})
        return bool(found.num_rows)

    def place(self) -> tuple[str, str]:
        """The database and the schema that unqualified names mean."""
        with self.lock, translated():
            row = self.user.execute("SELECT current_database(), current_schema()").fetchall()[0]
        return str(row[0]), str(row[1])

    def stay(self, place: tuple[str, str]) -> None:
        """Go back to a place. Raises `NotSupportedError` if we had left it."""
        now = self.place()
        if now != place:
            with self.lock, translated():
                self.user.execute(f"USE {quoted(place[0])}.{quoted(place[1])}")
            raise errors.NotSupportedError(
                f"unqualified names stand for {place[0]}.{place[1]}, where AIDB's tables are; "
                f"name others with their database or schema: {now[0]}.{now[1]}.table"
            )

    def touched(self, sql: str) -> set[str] | None:
        """Qualified names of the tables that DuckDB's own binder finds in a query; None if it can't say.

        It says so by an error, which would end a transaction that the user has begun: then another connection is asked,
        which does not know what the transaction has made.
        """
        with self.lock:
            connection = self.cursor() if self._began else self.user
            try:
                return {n.lower() for n in connection.get_table_names(sql, qualified=True)}
            except duckdb.Error:
                return None
            finally:
                if connection is not self.user:
                    connection.close()

    def interrupt(self) -> None:
        """Stop what the user's connection is doing."""
        self.user.interrupt()

    def close(self) -> None:
        """Write everything out and let the file go."""
        with self.lock, _opening:
            if self._closed:
                return
            self._closed = True
            for cursor in list(self._cursors):
                cursor.close()
            self.shared.connections -= 1
            if self.shared.connections == 0:
                if self._file is not None:
                    _open_files.pop(self._file, None)
                self.shared.root.close()
                if self.shared.copy is not None:
                    self.shared.copy.close()


_BORDER = re.compile(r"\s*(BEGIN|START|COMMIT|END|ROLLBACK|ABORT)\b", re.IGNORECASE)
"""Statements that may begin or end a transaction."""

_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|CREATE|ALTER|DROP|COMMENT|WITH)\b", re.IGNORECASE)
"""Statements that a transaction can undo."""


def _reads(sql: str) -> bool:
    """Is this a SELECT, whatever it looks like?"""
    return bool(duckdb.extract_statements(sql)[-1].type == duckdb.StatementType.SELECT)


def _is_locked(text: str) -> bool:
    return "set lock" in text.lower() or "conflicting lock" in text.lower()
