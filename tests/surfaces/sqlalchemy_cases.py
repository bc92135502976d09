"""SQLAlchemy's own suite, as `tests.surfaces.sqlalchemy_suite` runs it; nothing here runs by itself."""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.testing import provision
from sqlalchemy.testing.suite import *  # noqa: F403


@provision.temp_table_keyword_args.for_db("aidb")  # type: ignore[untyped-decorator]
def _temporary(cfg: Any, eng: Any) -> dict[str, list[str]]:
    return {"prefixes": ["TEMPORARY"]}


@provision.delete_from_all_tables.for_db("aidb")  # type: ignore[untyped-decorator]
def _delete(connection: Connection, cfg: Any, metadata: Any) -> None:
    """DuckDB can't delete rows, and then those that they refer to, in one transaction: each table has one of its own."""
    for table in reversed(metadata.sorted_tables):
        with connection.engine.begin() as own:
            own.execute(table.delete())


@event.listens_for(Engine, "connect")
def _one_thread(connection: Any, _: Any) -> None:
    connection.execute("SET threads = 1")
