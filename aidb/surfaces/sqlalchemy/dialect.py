"""``aidb://``: how SQLAlchemy connects, and what it may expect.

::

    engine = create_engine("aidb:///street.aidb")                 # a file; aidb:////data/street.aidb for an absolute path
    engine = create_engine("aidb:///street.aidb?read_only=1")
    engine = create_engine("aidb://")                             # in memory, one database for each thread

    @event.listens_for(engine, "connect")                         # Python models belong to a connection
    def register(connection, _):
        connection.register(has_bus)

A transaction begins with the first statement that writes, not with a SELECT: models can't run inside a transaction, as it
would not see their answers. So ``pandas.read_sql`` and reading in a session just work; after a change, commit before
the next query that needs new answers, or set ``isolation_level="AUTOCOMMIT"``. Answers of models are never rolled back.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from sqlalchemy import exc, pool, types
from sqlalchemy.dialects.sqlite.json import JSONIndexType, JSONPathType
from sqlalchemy.engine import ConnectArgsType, Connection, interfaces
from sqlalchemy.engine.url import URL

from aidb.surfaces.sqlalchemy.columntypes import Interval
from aidb.surfaces.sqlalchemy.compiling import (
    AidbCompiler,
    AidbDDLCompiler,
    AidbExecutionContext,
    AidbIdentifierPreparer,
    AidbTypeCompiler,
)
from aidb.surfaces.sqlalchemy.reflecting import Reflecting

AUTOCOMMIT, SNAPSHOT = "AUTOCOMMIT", "SNAPSHOT"


class AidbDialect(Reflecting):
    """AIDB for SQLAlchemy 2."""

    name = "aidb"
    driver = "aidb"
    default_paramstyle = "qmark"
    default_schema_name = "main"
    supports_statement_cache = True

    statement_compiler = AidbCompiler
    ddl_compiler = AidbDDLCompiler
    type_compiler_cls = AidbTypeCompiler
    preparer = AidbIdentifierPreparer
    execution_ctx_cls = AidbExecutionContext
    colspecs = {  # noqa: RUF012  as SQLAlchemy declares it
        types.Interval: Interval,
        types.JSON.JSONIndexType: JSONIndexType,
        types.JSON.JSONPathType: JSONPathType,
    }

    supports_native_boolean = True
    supports_native_decimal = True
    supports_native_uuid = True
    supports_multivalues_insert = True
    supports_default_values = True
    supports_empty_insert = False
    supports_comments = True
    supports_sequences = True
    sequences_optional = False
    supports_is_distinct_from = True
    insert_returning = True
    update_returning = True
    delete_returning = True
    update_returning_multifrom = True
    delete_returning_multifrom = True
    use_insertmanyvalues = True
    supports_sane_rowcount_returning = False  # rowcount then is that of the rows that are returned
    postfetch_lastrowid = False
    preexecute_autoincrement_sequences = True
    tuple_in_values = True
    div_is_floordiv = False
    max_identifier_length = 9999

    _backslash_escapes = False
    _supports_jsonb_subscripting = False

    def __init__(
        self,
        json_serializer: Callable[[Any], str] | None = None,
        json_deserializer: Callable[[str], Any] | None = None,
        **options: Any,
    ) -> None:
        """What stands in place of ``json.dumps`` and ``json.loads`` for values of the type JSON."""
        super().__init__(**options)
        self._json_serializer, self._json_deserializer = json_serializer, json_deserializer

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Our own module."""
        import aidb

        return aidb

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """A database in memory lives as long as its connection."""
        return pool.QueuePool if url.database not in (None, "", ":memory:") else pool.SingletonThreadPool

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        """The file, and ``read_only``; nothing else has a meaning."""
        if url.host or url.username or url.password or url.port:
            raise exc.ArgumentError(
                f"a database is a file: aidb:///name.aidb, with three slashes, not {url.render_as_string()}"
            )
        options = dict(url.query)
        read_only = str(options.pop("read_only", "0")).lower()
        if options or read_only not in ("0", "1", "true", "false"):
            wrong = ", ".join(options) or f"read_only={read_only}"
            raise exc.ArgumentError(f"unknown option in the URL: {wrong}; there is read_only=1")
        return [url.database or ":memory:"], {"read_only": read_only in ("1", "true"), "autocommit": False}

    # ---- transactions
    def get_isolation_level_values(self, dbapi_conn: interfaces.DBAPIConnection) -> list[Any]:
        """A transaction sees the database as it was when it began."""
        return [SNAPSHOT, AUTOCOMMIT]

    def get_default_isolation_level(self, dbapi_conn: interfaces.DBAPIConnection) -> Any:
        """Transactions."""
        return SNAPSHOT

    def get_isolation_level(self, dbapi_connection: interfaces.DBAPIConnection) -> Any:
        """As it is set."""
        return AUTOCOMMIT if dbapi_connection.autocommit else SNAPSHOT

    def set_isolation_level(self, dbapi_connection: interfaces.DBAPIConnection, level: Any) -> None:
        """With or without transactions."""
        dbapi_connection.autocommit = level == AUTOCOMMIT

    # ---- the server
    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        import aidb

        return tuple(int(part) for part in aidb.__version__.split(".") if part.isdigit())

    def _get_default_schema_name(self, connection: Connection) -> str:
        return str(connection.exec_driver_sql("SELECT current_schema()").scalar())

    def on_connect(self) -> Callable[[Any], None] | None:
        """Nothing to do."""
        return None
