"""Code as a user would write it. `make lint` checks its types; it is never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aidb


@aidb.model(outputs={"label": "BOOLEAN"}, rows="one", version="1")
def has_bus(image: list[Any]) -> dict[str, Sequence[Any]]:
    return {"label": [picture.mean() > 100 for picture in image]}


def ask(path: str) -> list[tuple[Any, ...]]:
    con = aidb.connect(path)
    con.register(has_bus)
    con.register(has_bus, name="bus")
    cur = con.execute("SELECT frame_id FROM frames WHERE has_bus(image) AND frame_id > $first", {"first": 3})
    calls: int = sum(cur.report.calls.values())
    seconds: float = cur.report.seconds
    if calls and seconds > 1:
        con.interrupt()
    rows: list[tuple[Any, ...]] = cur.fetchall()
    con.close()
    return rows


def count(path: str) -> tuple[float, float]:
    with aidb.connect(path, read_only=True) as con:
        cur = con.execute("SELECT COUNT(*) AS n FROM frames WHERE has_bus(image) ERROR TARGET 5%")
        low, high = cur.report.intervals["n"]
        return low, high


def careful(path: str) -> str:
    try:
        ask(path)
    except aidb.BudgetExceeded as stopped:
        return f"{stopped} after {stopped.report.seconds if stopped.report else 0} s"
    except aidb.Error as error:
        return str(error)
    return "done"
