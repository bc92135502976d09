"""The one room for DuckDB: connections, the catalog on disk, ledgers, rows."""
