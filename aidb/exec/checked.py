"""CHECK CATALOG: the rules that a database breaks, as rows; none for a sound one."""

from __future__ import annotations

import pyarrow as pa

from aidb.catalog.names import quoted
from aidb.storage.answer import Answer
from aidb.storage.consistency import problems
from aidb.storage.database import Database

COLUMNS = (("object", "VARCHAR"), ("problem", "VARCHAR"), ("rows", "BIGINT"))


def catalog(database: Database) -> tuple[Answer, str | None]:
    """The problems of a database, and a sentence if there are none. Raises `OperationalError` if a table can't be read."""
    found = list(problems(database)) if database.is_aidb else []
    rows = [{"object": p.object, "problem": p.problem, "rows": p.rows} for p in found]
    schema = pa.schema([("object", pa.string()), ("problem", pa.string()), ("rows", pa.int64())])
    answer = Answer(COLUMNS, len(rows), table=pa.Table.from_pylist(rows, schema))
    return answer, None if found else f"the catalog of {quoted(database.path)} is sound"
