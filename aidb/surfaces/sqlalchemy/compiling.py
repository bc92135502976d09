"""SQL as DuckDB reads it. Its queries are close to PostgreSQL's, so that compiler is the start; types and DDL are not."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc, sql, types
from sqlalchemy.dialects.postgresql.base import PGCompiler
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.schema import Column, CreateTable, DropTable, Sequence, Table
from sqlalchemy.sql import compiler

from aidb.sql.tokens import RESERVED, words

_NO_COLUMNS = words(
    "ANTI ASOF AT AUTHORIZATION BINARY BY COLLATION CONCURRENTLY CROSS FREEZE FULL GLOB ILIKE INNER IS ISNULL JOIN LEFT LIKE "
    "NATURAL NOTNULL OUTER OVERLAPS POSITIONAL RIGHT SEMI SIMILAR TABLESAMPLE UNPACK VERBOSE"
)
"""Words that may name a type or function, but no column."""


class AidbCompiler(PGCompiler):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Queries and changes of rows."""

    def for_update_clause(self, select: Any, **kw: Any) -> str:
        """There are no row locks: whoever commits second gets an error."""
        return ""

    def _regexp_match(self, base_op: str, binary: Any, operator: Any, kw: Any) -> str:
        # DuckDB's ~ wants the whole text to match.
        flags = binary.modifiers["flags"]
        options = ", '" + flags.replace("'", "''") + "'" if flags else ""
        found = f"regexp_matches({self.process(binary.left, **kw)}, {self.process(binary.right, **kw)}{options})"
        return found if base_op == "~" else f"NOT {found}"

    def visit_json_getitem_op_binary(self, binary: Any, operator: Any, _cast_applied: bool = False, **kw: Any) -> str:
        """``column["a"]``, ``column[1]``; as text, and from there as another type, where that is asked for."""
        return self._json_item(binary, _cast_applied, kw)

    def visit_json_path_getitem_op_binary(
        self, binary: Any, operator: Any, _cast_applied: bool = False, **kw: Any
    ) -> str:
        """``column[("a", 1)]``."""
        return self._json_item(binary, _cast_applied, kw)

    def _json_item(self, binary: Any, cast_applied: bool, kw: dict[str, Any]) -> str:
        if not cast_applied and binary.type._type_affinity is not types.JSON:
            kw["_cast_applied"] = True
            return str(self.process(sql.cast(binary, binary.type), **kw))
        kw["eager_grouping"] = True
        return str(self._generate_generic_binary(binary, " ->> " if cast_applied else " -> ", **kw))

    def visit_sequence(self, sequence: Any, **kw: Any) -> str:  # type: ignore[override]  # the classes above disagree
        """``nextval('name')``."""
        return "nextval('" + self.preparer.format_sequence(sequence).replace("'", "''") + "')"

    def visit_bitwise_xor_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        """``xor(a, b)``."""
        return f"xor({self.process(binary.left, **kw)}, {self.process(binary.right, **kw)})"

    def fetch_clause(self, select: Any, *_: Any, **kw: Any) -> str:
        """FETCH FIRST is LIMIT; WITH TIES does not exist."""
        options = select._fetch_clause_options
        if options["with_ties"]:
            raise exc.CompileError("DuckDB has no FETCH FIRST ... WITH TIES: use QUALIFY rank() OVER (...) <= n")
        text = f"\n LIMIT {self.process(select._fetch_clause, **kw)}{'%' if options['percent'] else ''}"
        if select._offset_clause is not None:
            text += f" OFFSET {self.process(select._offset_clause, **kw)}"
        return text


def sequence_of(preparer: compiler.IdentifierPreparer, table: Table) -> str | None:
    """SQL name of the sequence that numbers a table's rows, or None if nothing does."""
    column = table._autoincrement_column
    if column is None or not isinstance(column.type, types.Integer) or isinstance(column.default, Sequence):
        return None  # a Sequence is made by itself
    if column.server_default is not None and column.identity is None:
        return None
    schema = f"{preparer.quote_schema(table.schema)}." if table.schema else ""
    return schema + preparer.quote(f"{table.name}_{column.name}_seq")


class AidbDDLCompiler(compiler.DDLCompiler):
    """Tables and what belongs to them. A key that counts by itself has a sequence, made and dropped with its table."""

    def visit_create_table(self, create: CreateTable, **kw: Any) -> str:
        """CREATE TABLE, after its sequence."""
        text = str(super().visit_create_table(create, **kw))  # type: ignore[no-untyped-call]
        name = sequence_of(self.preparer, create.element)
        temp = "TEMP " if "TEMPORARY" in (create.element._prefixes or ()) else ""
        if name is None:
            return text
        column = create.element._autoincrement_column
        options = self.get_identity_options(column.identity) if column is not None and column.identity else ""
        return f"CREATE {temp}SEQUENCE IF NOT EXISTS {name} {options};\n{text}"

    def visit_drop_table(self, drop: DropTable, **kw: Any) -> str:
        """DROP TABLE, and its sequence."""
        text = str(super().visit_drop_table(drop, **kw))  # type: ignore[no-untyped-call]
        name = sequence_of(self.preparer, drop.element)
        return text if name is None else f"{text};\nDROP SEQUENCE IF EXISTS {name}"

    def get_column_specification(self, column: Column[Any], **kw: Any) -> str:
        """Name, type, default, NOT NULL."""
        text = f"{self.preparer.format_column(column)} "
        text += self.dialect.type_compiler_instance.process(column.type, type_expression=column)
        if column.computed is not None:
            return f"{text} {self.process(column.computed)}"
        default = self.get_column_default_string(column)
        if default is not None:
            text += f" DEFAULT ({default})"
        elif column.table is not None and column is column.table._autoincrement_column:
            name = sequence_of(self.preparer, column.table)
            if name is not None:
                text += " DEFAULT nextval('" + name.replace("'", "''") + "')"
        return text if column.nullable else f"{text} NOT NULL"

    def visit_computed_column(self, generated: Any, **kw: Any) -> str:
        """Computed columns are never stored."""
        if generated.persisted:
            raise exc.CompileError("DuckDB's computed columns are virtual: leave persisted out")
        expression = self.sql_compiler.process(generated.sqltext, include_table=False, literal_binds=True)
        return f"GENERATED ALWAYS AS ({expression}) VIRTUAL"


class AidbTypeCompiler(compiler.GenericTypeCompiler):
    """Types in DDL and casts."""

    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:
        """SQLAlchemy's Float is Python's; DuckDB's FLOAT has half the digits."""
        return "FLOAT" if type_.precision is not None and type_.precision <= 24 else "DOUBLE"

    def visit_DOUBLE_PRECISION(self, type_: Any, **kw: Any) -> str:
        """DOUBLE."""
        return "DOUBLE"

    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:
        """TIMESTAMP, with or without a zone."""
        return self.visit_TIMESTAMP(type_, **kw)

    def visit_TIMESTAMP(self, type_: Any, **kw: Any) -> str:
        """TIMESTAMP, with or without a zone."""
        return "TIMESTAMP WITH TIME ZONE" if type_.timezone else "TIMESTAMP"

    def visit_TIME(self, type_: Any, **kw: Any) -> str:
        """TIME, with or without a zone."""
        return "TIME WITH TIME ZONE" if type_.timezone else "TIME"

    def visit_CLOB(self, type_: Any, **kw: Any) -> str:
        """VARCHAR."""
        return "VARCHAR"

    def visit_NCLOB(self, type_: Any, **kw: Any) -> str:
        """VARCHAR."""
        return "VARCHAR"

    def visit_NCHAR(self, type_: Any, **kw: Any) -> str:
        """VARCHAR."""
        return "VARCHAR"

    def visit_JSON(self, type_: Any, **kw: Any) -> str:
        """JSON."""
        return "JSON"

    def visit_INTERVAL(self, type_: Any, **kw: Any) -> str:
        """INTERVAL."""
        return "INTERVAL"

    def visit_ARRAY(self, type_: Any, **kw: Any) -> str:
        """Lists, one bracket a dimension."""
        return self.process(type_.item_type, **kw) + "[]" * (type_.dimensions or 1)

    def visit_duckdb_integer(self, type_: Any, **kw: Any) -> str:
        """HUGEINT and the like."""
        return str(type_.name)


class AidbIdentifierPreparer(compiler.IdentifierPreparer):
    """Quotes what DuckDB reserves."""

    reserved_words = {word.lower() for word in RESERVED | _NO_COLUMNS}  # noqa: RUF012  as SQLAlchemy declares it


class AidbExecutionContext(DefaultExecutionContext):
    """One statement."""

    def get_insert_default(self, column: Column[Any]) -> Any:
        """The next number for a key that counts by itself, where RETURNING is not to tell it."""
        name = sequence_of(self.identifier_preparer, column.table) if column.default is None else None
        if name is not None and column is column.table._autoincrement_column:
            return self._next(name, column.type)
        return super().get_insert_default(column)  # type: ignore[no-untyped-call]

    def fire_sequence(self, seq: Any, type_: Any) -> Any:
        """The next number."""
        return self._next(self.identifier_preparer.format_sequence(seq), type_)

    def _next(self, name: str, type_: Any) -> Any:
        escaped = name.replace("'", "''")
        return self._execute_scalar(f"SELECT nextval('{escaped}')", type_)
