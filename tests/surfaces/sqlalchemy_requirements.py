"""What SQLAlchemy's own suite may ask of AIDB: what DuckDB has is opened, what it has not is closed, with the reason."""

from __future__ import annotations

from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

from aidb.sql.tokens import words

OPENED = words("""
    create_table_as create_temp_table_as table_ddl_if_exists index_ddl_if_exists uuid_data_type
    table_value_constructor nullsordering boolean_col_expressions intersect except_ window_functions window_range
    window_range_numeric ctes ctes_with_values tuple_in tuple_in_w_empty views schemas implicit_default_schema
    comment_reflection comment_reflection_full_unicode temp_table_comment_reflection schema_reflection
    schema_create_delete temp_table_names has_temp_table temporary_views create_or_replace_view unicode_ddl
    datetime_interval datetime_literals datetime_timezone time_timezone timestamp_microseconds datetime_historic
    date_historic autocommit isolation_level array_type json_type precision_numerics_enotation_large
    precision_numerics_many_significant_digits server_defaults expression_server_defaults aggregate_order_by
    infinity_floats float_or_double_precision_behaves_generically update_from delete_from mod_operator_as_percent_sign
    computed_columns computed_columns_virtual
    computed_columns_reflect_persisted supports_distinct_on regexp_match regexp_replace fetch_first
    fetch_no_order_by fetch_expression fetch_percent supports_bitwise_or supports_bitwise_and supports_bitwise_not
    supports_bitwise_xor supports_bitwise_shift indexes_with_expressions reflect_indexes_with_expressions
    indexes_check_column_order datetime_timezone_historic
""")

CLOSED = {
    "on_update_cascade": "DuckDB's foreign keys have no actions",
    "self_referential_foreign_keys": "DuckDB can't drop what refers to itself in every order that the suite tries",
    "ctes_on_dml": "DuckDB has no INSERT, UPDATE or DELETE inside WITH",
    "ctes_with_update_delete": "DuckDB has no WITH before UPDATE and DELETE that the suite's form needs",
    "savepoints": "DuckDB has no savepoints",
    "two_phase_transactions": "DuckDB has none",
    "identity_columns": "DuckDB has no IDENTITY; a sequence counts",
    "computed_columns_stored": "DuckDB computes when it reads",
    "fetch_ties": "DuckDB has no WITH TIES",
    "named_constraints": "DuckDB forgets the names that constraints were given",
    "reflects_pk_names": "as above",
    "foreign_key_constraint_name_reflection": "as above",
    "check_constraint_reflection": "as above; the expressions are reflected",
    "inline_check_constraint_reflection": "as above",
    "unique_constraint_reflection": "as above; the columns are reflected",
    "deferrable_fks": "DuckDB checks at once",
    "cross_schema_fk_reflection": "a foreign key stays within a schema",
}


class Requirements(SuiteRequirements):
    """See `OPENED` and `CLOSED`; all others are as the suite has them."""

    def get_isolation_levels(self, config: object) -> dict[str, object]:
        return {"default": "SNAPSHOT", "supported": ["SNAPSHOT", "AUTOCOMMIT"]}


for _name in OPENED:
    assert hasattr(SuiteRequirements, _name), _name
    setattr(Requirements, _name, property(lambda self: exclusions.open()))
for _name, _why in CLOSED.items():
    assert hasattr(SuiteRequirements, _name), _name
    setattr(Requirements, _name, property(lambda self, why=_why: exclusions.skip_if(lambda: True, why)))
