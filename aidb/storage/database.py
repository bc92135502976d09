"""One DuckDB database: opening it, a connection for each purpose, errors in our words."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from aidb import errors
from aidb.storage import schema
from aidb.storage.answer import Answer

Parameters = Sequence[Any] | Mapping[str, Any] | None

_RESERVED = {"aidb", "aidb_internal", "temp", "system", "main", "memory"}
"""A file of such a name would make ``aidb.models`` ambiguous (catalog or schema?): it is attached under another."""


class Database:
    """A DuckDB file or ``:memory:``, with AIDB's own schemas in it.

    `user` is the connection on which the user's statements run (temporary tables and settings live there); `cursor`
    gives further ones that see what is committed.
    """

    def __init__(self, path: str | os.PathLike[str] = ":memory:", *, read_only: bool = False) -> None:
        self.path = os.fspath(path)
        self.read_only = read_only
        self._use: str | None = None
        config = {"autoinstall_known_extensions": "false"}
        stem = Path(self.path).stem.lower()
        with translated():
            try:
                if self.path != ":memory:" and stem in _RESERVED:
                    self.root = duckdb.connect(":memory:", config=config)
                    self._use = stem + "_db"
                    options = " (READ_ONLY)" if read_only else ""
                    self.root.execute(f"ATTACH '{self.path.replace(chr(39), chr(39) * 2)}' AS {self._use}{options}")
                    self.root.execute(f"USE {self._use}")
                else:
                    self.root = duckdb.connect(self.path, read_only=read_only, config=config)
            except duckdb.IOException as e:
                raise self._cannot_open(e) from e
        self.user = self.cursor()
        self.lock = threading.RLock()
        self.is_aidb = self._prepare()

    def _cannot_open(self, e: Exception) -> errors.OperationalError:
        text = str(e)
        if "lock" in text.lower():
            holder = re.search(r"PID (\d+)", text)
            who = f" (process {holder.group(1)})" if holder else ""
            return errors.OperationalError(
                f"{self.path} is open in another process{who}: one process may write a database at a time. "
                "Close it there, or, if nobody writes, open it everywhere with read_only=True"
            )
        return errors.OperationalError(f"can't open {self.path}: {text}")

    def _prepare(self) -> bool:
        """Create or migrate our schemas; False for a read-only file that has none."""
        with translated():
            has = self.root.execute(
                "SELECT count(*) FROM duckdb_tables() WHERE schema_name = ? AND table_name = 'meta' "
                "AND database_name = current_database()",
                [schema.INTERNAL],
            ).fetchall()
            if not has[0][0]:
                if self.read_only:
                    return False
                self.root.execute(f"BEGIN; {schema.CREATE} COMMIT")
                return True
            row = self.root.execute(f"SELECT version FROM {schema.INTERNAL}.meta").fetchall()
        version = row[0][0] if row else 0
        if version > schema.VERSION:
            raise errors.OperationalError(
                f"{self.path} was written by a newer AIDB (layout {version}, this one knows {schema.VERSION}): upgrade AIDB"
            )
        if version < schema.VERSION:
            self._migrate(version)
        return True

    def _migrate(self, version: int) -> None:
        if self.read_only:
            raise errors.OperationalError(
                f"{self.path} has layout {version}, older than {schema.VERSION}: open it once with write access to migrate it"
            )
        steps = [schema.MIGRATIONS.get(v) for v in range(version, schema.VERSION)]
        if any(s is None for s in steps):
            raise errors.OperationalError(f"{self.path} has layout {version}, which this AIDB can't migrate")
        with translated():
            body = "; ".join(s for s in steps if s)
            self.root.execute(f"BEGIN; {body}; UPDATE {schema.INTERNAL}.meta SET version = {schema.VERSION}; COMMIT")

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same database, for one thread at a time."""
        cursor = self.root.cursor()
        if self._use is not None:
            cursor.execute(f"USE {self._use}")
        return cursor

    def query(self, sql: str, parameters: Parameters = None) -> pa.Table:
        """Rows of a query on the user's connection, so that temporary tables are seen."""
        with self.lock, translated():
            return self.user.sql(sql, params=parameters or None).to_arrow_table()

    def execute(self, sql: str, parameters: Parameters = None) -> Answer:
        """Run any statement on the user's connection."""
        with self.lock, translated():
            relation = self.user.sql(sql, params=parameters or None)
            if relation is None:
                return Answer()
            columns = tuple(zip(relation.columns, map(str, relation.types), strict=True))
            kept = relation.materialize()
            if columns == (("Success", "BOOLEAN"),):
                return Answer()
            if columns == (("Count", "BIGINT"),) and not _reads(sql):
                counted = kept.fetchall()
                return Answer(rows=counted[0][0] if counted else -1)
            return Answer(columns, len(kept), kept, self)

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

    def in_transaction(self) -> bool:
        """Has the user begun a transaction that is still open?"""
        with self.lock, translated():
            return bool(self._transaction() == self._transaction())

    def _transaction(self) -> Any:
        """Id of the current transaction: each statement outside of one has its own."""
        return self.user.execute("SELECT txid_current()").fetchall()

    def touched(self, sql: str) -> set[str] | None:
        """Qualified names of the tables that DuckDB's own binder finds in a query; None if it can't say."""
        with self.lock:
            try:
                return {n.lower() for n in self.user.get_table_names(sql, qualified=True)}
            except duckdb.Error:
                return None

    def interrupt(self) -> None:
        """Stop what the user's connection is doing."""
        self.user.interrupt()

    def close(self) -> None:
        """Write everything out and let the file go."""
        with self.lock:
            self.user.close()
            self.root.close()


def _reads(sql: str) -> bool:
    """Is this a SELECT, whatever it looks like?"""
    return bool(duckdb.extract_statements(sql)[-1].type == duckdb.StatementType.SELECT)


@contextmanager
def translated() -> Iterator[None]:
    """Turn DuckDB's exceptions into ours, with its message."""
    try:
        yield
    except duckdb.InterruptException as e:
        raise errors.Interrupted() from e
    except (duckdb.SyntaxException, duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException) as e:
        raise errors.ProgrammingError(str(e)) from e
    except duckdb.ConstraintException as e:
        raise errors.IntegrityError(str(e)) from e
    except duckdb.NotSupportedError as e:
        raise errors.NotSupportedError(str(e)) from e
    except duckdb.DataError as e:
        raise errors.DataError(str(e)) from e
    except duckdb.ProgrammingError as e:
        raise errors.ProgrammingError(str(e)) from e
    except duckdb.IntegrityError as e:
        raise errors.IntegrityError(str(e)) from e
    except duckdb.InternalException as e:
        raise errors.OperationalError(
            f"DuckDB reports an internal error; open the database again, finished work is stored: {e}"
        ) from e
    except duckdb.Error as e:
        raise errors.OperationalError(str(e)) from e
