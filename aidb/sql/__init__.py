"""AIDB's SQL: our clauses and statements are cut out by token, the rest is DuckDB's, byte for byte."""
