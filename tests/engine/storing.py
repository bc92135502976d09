"""What must hold of a database whenever nothing runs on it, whatever went wrong before."""

from __future__ import annotations

import json
import threading
from typing import Any

import aidb
from aidb.catalog.names import listed, quoted
from aidb.exec.run import Worker


def rows(con: aidb.Connection, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return con.execute(sql, parameters).fetchall()


def _stored(con: aidb.Connection, sql: str) -> list[tuple[Any, ...]]:
    """Rows of our own tables as they are: no model runs for this."""
    return list(con.engine.database.execute(sql).tuples())


def check_storage(con: aidb.Connection, *, retried: bool = False) -> dict[str, int]:
    """No item is done twice, no batch is half there, no row without its item; the number of items done, by model.

    retried: after RETRY FAILED calls count items that are in the ledger no more.
    """
    assert con.execute("CHECK CATALOG").fetchall() == []
    done: dict[str, int] = {}
    for fill, model, text in _stored(con, "SELECT id, model, definition FROM aidb_internal.fills"):
        definition = json.loads(text)
        names = [name for name, _ in definition["keys"]]
        ledger, answers = f"aidb_internal.ledger_{fill}", f"aidb_internal.rows_{fill}"
        keys = listed(names)
        ordinal = [definition["ordinal"]] if definition["ordinal"] else []
        assert _stored(con, f"SELECT {keys} FROM {ledger} GROUP BY ALL HAVING count(*) > 1") == []
        assert _stored(con, f"SELECT {listed(names + ordinal)} FROM {answers} GROUP BY ALL HAVING count(*) > 1") == []
        same = " AND ".join(f"a.{quoted(n)} IS NOT DISTINCT FROM l.{quoted(n)}" for n in names)
        orphans = (
            f"SELECT 1 FROM {answers} a WHERE NOT EXISTS (SELECT 1 FROM {ledger} l WHERE {same} AND NOT l._failed)"
        )
        assert _stored(con, orphans) == []
        if not ordinal:
            missing = (
                f"SELECT 1 FROM {ledger} l WHERE NOT _failed AND NOT EXISTS (SELECT 1 FROM {answers} a WHERE {same})"
            )
            assert _stored(con, missing) == []
        calls = _stored(
            con,
            f"SELECT c.items, count(l._call), c.failed, coalesce(sum(l._failed::INT), 0) FROM aidb_internal.calls c "
            f"LEFT JOIN {ledger} l ON l._call = c.call_id WHERE c.fill = {fill} GROUP BY c.call_id, c.items, c.failed",
        )
        if not retried:
            assert all(items == stored and failed == bad for items, stored, failed, bad in calls), calls
            assert sum(c[0] for c in calls) == _stored(con, f"SELECT count(*) FROM {ledger}")[0][0]
            written = _stored(con, f"SELECT coalesce(sum(rows), 0) FROM aidb_internal.calls WHERE fill = {fill}")
            assert written == _stored(con, f"SELECT count(*) FROM {answers}")
        done[model] = done.get(model, 0) + _stored(con, f"SELECT count(*) FROM {ledger} WHERE NOT _failed")[0][0]
    return done


def check_quiet(con: aidb.Connection) -> None:
    """Every byte is given back, and no thread is left."""
    con.engine.materialiser.settle()
    last = con.engine.materialiser.last
    if last is not None:
        assert last.budget.used == 0
        ours = [t for t in threading.enumerate() if isinstance(t, Worker) and t.control is last.control]
        assert [t.name for t in ours if not t.wait(1)] == []
