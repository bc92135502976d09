"""What is in a database, as SQLAlchemy's inspector asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import exc
from sqlalchemy.engine import Connection, reflection
from sqlalchemy.engine.default import DefaultDialect

import aidb
from aidb.exec.registry import STORED
from aidb.sql.tokens import scan
from aidb.surfaces.described import Described, described
from aidb.surfaces.sqlalchemy.columntypes import sqlalchemy_type

F = TypeVar("F", bound=Callable[..., Any])

HIDDEN = ("aidb_internal", "information_schema", "pg_catalog")
"""Schemas that hold no tables of anyone's."""

_HERE = "database_name = current_database() AND NOT internal AND schema_name = coalesce(?, current_schema())"
_TEMP = "database_name = 'temp' AND NOT internal"
_IN = "(database_name = current_database() AND schema_name = coalesce($schema, current_schema()) "
_IN += "OR database_name = 'temp' AND $schema IS NULL)"
"""A temporary table is found without a schema."""


def _cached(method: F) -> F:
    """Asked once for each inspector."""
    return reflection.cache(method)  # type: ignore[no-any-return, no-untyped-call, unused-ignore]


class Reflecting(DefaultDialect):
    """Reflection: blob and virtual tables are tables, with keys, and comments that say where their rows come from.

    Models fill them when they are read; reflection runs none.
    """

    @_cached
    def get_schema_names(self, connection: Connection, **kw: Any) -> list[str]:
        """Schemas of the database; ``aidb`` has the system tables."""
        rows = _rows(
            connection, "SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database() ORDER BY 1"
        )
        return [name for (name,) in rows if name not in HIDDEN]

    @_cached
    def get_table_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """Plain, blob and virtual tables."""
        rows = _rows(connection, f"SELECT table_name FROM duckdb_tables() WHERE {_HERE}", schema)
        ours = self._ours(connection, schema)
        stored = {d.name.lower() + STORED for d in ours.values() if d.kind == "table"}
        plain = [name for (name,) in rows if name.lower() not in stored]
        return sorted([*plain, *(d.name for d in ours.values())])

    @_cached
    def get_view_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """The user's own views, and in ``aidb`` the system tables."""
        rows = _rows(connection, f"SELECT view_name FROM duckdb_views() WHERE {_HERE} ORDER BY 1", schema)
        ours = self._ours(connection, schema)
        return [name for (name,) in rows if name.lower() not in ours]

    @_cached
    def get_temp_table_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """Temporary tables of this connection."""
        return [n for (n,) in _rows(connection, f"SELECT table_name FROM duckdb_tables() WHERE {_TEMP} ORDER BY 1")]

    @_cached
    def get_temp_view_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """Temporary views of this connection."""
        return [n for (n,) in _rows(connection, f"SELECT view_name FROM duckdb_views() WHERE {_TEMP} ORDER BY 1")]

    @_cached
    def get_sequence_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        """Sequences."""
        sql = (
            "SELECT sequence_name FROM duckdb_sequences() WHERE database_name = current_database() "
            "AND schema_name = coalesce(?, current_schema()) ORDER BY 1"
        )
        return [n for (n,) in _rows(connection, sql, schema)]

    @_cached
    def get_view_definition(self, connection: Connection, view_name: str, schema: str | None = None, **kw: Any) -> str:
        """The statement that made a view."""
        sql = f"SELECT sql FROM duckdb_views() WHERE {_IN} AND NOT internal AND view_name = $name"
        rows = _found(connection, sql, schema, view_name)
        if not rows:
            raise exc.NoSuchTableError(_shown(view_name, schema))
        return str(rows[0][0])

    @_cached
    def has_table(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        """Is there a table or view?"""
        return bool(self._columns(connection, table_name, schema))

    @_cached
    def has_sequence(self, connection: Connection, sequence_name: str, schema: str | None = None, **kw: Any) -> bool:
        """Is there a sequence?"""
        return sequence_name in self.get_sequence_names(connection, schema)

    @_cached
    def has_schema(self, connection: Connection, schema_name: str, **kw: Any) -> bool:
        """Is there a schema?"""
        sql = "SELECT 1 FROM duckdb_schemas() WHERE database_name = current_database() AND schema_name = ?"
        return bool(_rows(connection, sql, schema_name))

    @_cached
    def get_columns(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """Columns in their order; those that a model fills have a comment that names it."""
        ours = self._one(connection, table_name, schema)
        kept: dict[str, tuple[Any, ...]] = {}
        if ours is not None and ours.kind == "table":  # what is seen is a view, which has no defaults
            kept = {row[0]: row for row in self._columns(connection, table_name + STORED, schema)}
        found = []
        for row in self._existing(connection, table_name, schema):
            name, type_, nullable, default, comment, expression = kept.get(row[0], row)
            column = {
                "name": name,
                "type": sqlalchemy_type(type_),
                "nullable": nullable and (ours is None or name not in ours.key),
                "default": None if expression else default,
                "autoincrement": str(default).startswith("nextval("),
                "comment": comment or (ours.columns.get(name) if ours else None),
            }
            if expression:
                written = expression.removeprefix("CAST(").removesuffix(f" AS {type_})")  # DuckDB adds the type
                column["computed"] = {"sqltext": _bare(written), "persisted": False}
            found.append(column)
        return found

    @_cached
    def get_pk_constraint(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """The primary key; of a blob or virtual table its key columns."""
        self._existing(connection, table_name, schema)
        ours = self._one(connection, table_name, schema)
        if ours is not None and ours.key:
            return {"constrained_columns": list(ours.key), "name": None}
        for columns, name, _, _ in self._constraints(connection, table_name, schema, "PRIMARY KEY"):
            return {"constrained_columns": columns, "name": name}
        return {"constrained_columns": [], "name": None}

    @_cached
    def get_foreign_keys(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """Foreign keys; a virtual table refers to the table that its rows belong to."""
        self._existing(connection, table_name, schema)
        ours = self._one(connection, table_name, schema)
        if ours is not None and ours.parent is not None:
            return [_foreign_key(None, ours.parent_key, schema, ours.parent, ours.parent_key)]
        return [
            _foreign_key(name, columns, schema, table, referred)
            for columns, name, table, referred in self._constraints(connection, table_name, schema, "FOREIGN KEY")
        ]

    @_cached
    def get_unique_constraints(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        """UNIQUE constraints."""
        self._existing(connection, table_name, schema)
        found = self._constraints(connection, table_name, schema, "UNIQUE")
        return [{"name": name, "column_names": columns} for columns, name, _, _ in found]

    @_cached
    def get_check_constraints(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> Any:
        """CHECK constraints."""
        self._existing(connection, table_name, schema)
        sql = "SELECT constraint_name, expression FROM duckdb_constraints() WHERE constraint_type = 'CHECK' "
        sql += f"AND {_IN} AND table_name = $name ORDER BY constraint_index"
        rows = _found(connection, sql, schema, self._stored(connection, table_name, schema))
        return [{"name": name, "sqltext": _bare(text)} for name, text in rows]

    @_cached
    def get_indexes(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """Indexes that were made by CREATE INDEX."""
        self._existing(connection, table_name, schema)
        sql = f"SELECT index_name, is_unique, expressions::VARCHAR[] FROM duckdb_indexes() WHERE {_IN} "
        sql += "AND table_name = $name ORDER BY 1"
        names = {name for name, *_ in self._existing(connection, table_name, schema)}
        found = _found(connection, sql, schema, self._stored(connection, table_name, schema))
        return [_index(name, unique, parts, names) for name, unique, parts in found]

    @_cached
    def get_table_comment(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        """The comment on a table; of a blob or virtual table where its rows come from."""
        self._existing(connection, table_name, schema)
        ours = self._one(connection, table_name, schema)
        if ours is not None and ours.comment is not None:
            return {"text": ours.comment}
        sql = f"SELECT comment FROM duckdb_tables() WHERE {_IN} AND table_name = $name UNION ALL "
        sql += f"SELECT comment FROM duckdb_views() WHERE {_IN} AND view_name = $name"
        rows = _found(connection, sql, schema, self._stored(connection, table_name, schema))
        return {"text": next((text for (text,) in rows if text), None)}

    # ---- underneath
    @_cached
    def _ours(self, connection: Connection, schema: str | None = None, **kw: Any) -> dict[str, Described]:
        """Blob and virtual tables, and tables with virtual columns; they all are in main."""
        if schema not in (None, "main"):
            return {}
        return described(_raw(connection))

    def _one(self, connection: Connection, table: str, schema: str | None) -> Described | None:
        return self._ours(connection, schema).get(table.lower())

    def _stored(self, connection: Connection, table: str, schema: str | None) -> str:
        """The name under which DuckDB knows a table with its constraints."""
        ours = self._one(connection, table, schema)
        return table + STORED if ours is not None and ours.kind == "table" else table

    @_cached
    def _columns(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[tuple[Any, ...]]:
        sql = (
            "SELECT column_name, data_type, is_nullable, column_default, comment, "
            "CASE WHEN is_generated THEN generation_expression END "
            f"FROM duckdb_columns() WHERE {_IN} AND NOT internal AND lower(table_name) = lower($name) "
            "ORDER BY database_name = 'temp' DESC, column_index"
        )
        return _found(connection, sql, schema, table_name)

    def _existing(self, connection: Connection, table: str, schema: str | None) -> list[tuple[Any, ...]]:
        """Columns. Raises `NoSuchTableError` if there is no such table."""
        found = self._columns(connection, table, schema)
        if not found:
            raise exc.NoSuchTableError(_shown(table, schema))
        return list(found)

    def _constraints(self, connection: Connection, table: str, schema: str | None, kind: str) -> list[tuple[Any, ...]]:
        sql = (
            "SELECT constraint_column_names, constraint_name, referenced_table, referenced_column_names "
            f"FROM duckdb_constraints() WHERE constraint_type = '{kind}' AND {_IN} AND table_name = $name "
            "ORDER BY constraint_index"
        )
        return _found(connection, sql, schema, self._stored(connection, table, schema))


def _raw(connection: Connection) -> aidb.Connection:
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, aidb.Connection)
    return raw


def _rows(connection: Connection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    return _asked(connection, sql, parameters)


def _found(connection: Connection, sql: str, schema: str | None, name: str) -> list[tuple[Any, ...]]:
    return _asked(connection, sql, {"schema": schema, "name": name})


def _asked(connection: Connection, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
    """Rows of a query on DuckDB's own catalogue, which needs no planning."""
    engine = _raw(connection).engine
    with engine.turn():
        found = engine.database.query(sql, parameters)
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def _shown(table: str, schema: str | None) -> str:
    return f"{schema}.{table}" if schema else table


def _foreign_key(name: str | None, columns: Any, schema: str | None, table: str, referred: Any) -> dict[str, Any]:
    return {
        "name": name,
        "constrained_columns": list(columns),
        "referred_schema": schema,
        "referred_table": table,
        "referred_columns": list(referred),
        "options": {},
    }


def _index(name: str, unique: bool, parts: list[str], columns: set[str]) -> dict[str, Any]:
    """An index from the SQL of what it is on: columns, or expressions in brackets."""
    plain = [p[1:-1].replace('""', '"') if p.startswith('"') else p for p in parts]
    found: dict[str, Any] = {
        "name": name,
        "unique": unique,
        "column_names": [p if p in columns else None for p in plain],
        "dialect_options": {},
    }
    if None in found["column_names"]:
        found["expressions"] = [p if p in columns else _bare(p) for p in plain]
    return found


def _bare(expression: str) -> str:
    """An expression without the brackets around all of it."""
    first, *others = scan(expression)
    if first.key != "(" or next((t for t in others if t.depth == first.depth), None) is not others[-1]:
        return expression
    return _bare(expression[first.end : others[-1].start])
