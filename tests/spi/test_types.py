import duckdb
import pyarrow as pa
import pytest

from aidb.errors import ProgrammingError
from aidb.spi import arrow_type, duckdb_type

TYPES = [
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT",
    "DOUBLE", "VARCHAR", "BLOB", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS",
    "INTERVAL", "DECIMAL(9, 2)", "DECIMAL(38, 0)", "FLOAT[384]", "FLOAT[2][]", "VARCHAR[]", "MAP(VARCHAR, INTEGER)",
    'STRUCT(x INTEGER, "a ""b" VARCHAR[])',
]  # fmt: skip


def shape(type_: pa.DataType) -> str:
    """A type without the names that Arrow and DuckDB give to the child of a list."""
    return str(type_).replace("item: ", "").replace("l: ", "").replace("<: ", "<")


@pytest.mark.parametrize("name", TYPES)
def test_types_are_those_that_duckdb_exports_and_names_come_back(name: str) -> None:
    exported = duckdb.sql(f"SELECT NULL::{name} AS x").to_arrow_table().schema.field(0).type
    assert shape(arrow_type(name)) == shape(exported)
    assert duckdb_type(arrow_type(name)) == name


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("int", "INTEGER"),
        ("string", "VARCHAR"),
        ("VarChar(20)", "VARCHAR"),
        ("numeric", "DECIMAL(18, 3)"),
        ("decimal(5)", "DECIMAL(5, 0)"),
        ("timestamp without time zone", "TIMESTAMP"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"),
        ("ENUM('a b', 'c''d')", "VARCHAR"),
        ("HUGEINT", "DECIMAL(38, 0)"),
        ("json", "VARCHAR"),
        ("ROW(a INT)", "STRUCT(a INTEGER)"),
    ],
)
def test_aliases(alias: str, name: str) -> None:
    assert duckdb_type(arrow_type(alias)) == name


@pytest.mark.parametrize(
    "name",
    ["", "FOO", "FLOAT[0]", "FLOAT[", "INT;", "DECIMAL(40)", "DECIMAL(3, 4)", "STRUCT()", "STRUCT(a)", "INT INT", "a$INT",
     "TIME WITH TIME ZONE", "MAP(INT)", "INT)", 'STRUCT("a" INT); DROP TABLE x', "STRUCT('a' INT)"],
)  # fmt: skip
def test_what_is_no_type_is_refused(name: str) -> None:
    with pytest.raises(ProgrammingError):
        arrow_type(name)


def test_arrow_types_without_a_declaration() -> None:
    assert duckdb_type(pa.dictionary(pa.int8(), pa.string())) == "VARCHAR"
    assert duckdb_type(pa.large_list(pa.float16())) == "FLOAT[]"
    assert duckdb_type(pa.uuid()) == "UUID"
    with pytest.raises(ProgrammingError, match="duration"):
        duckdb_type(pa.duration("s"))
