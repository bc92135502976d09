"""What must not grow with the number of items: looking for the first ones, and knowing that all are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import scale

N = 5000


@pytest.fixture
def con(tmp_path: Path) -> Any:
    with scale._opened(str(tmp_path), None) as con:
        list(scale._build(N, con))
        yield con


def queries(con: Any, sql: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What DuckDB is asked about items for a statement."""
    asked: list[str] = []
    query = con.engine.database.query

    def spy(text: str, *args: object) -> object:
        asked.append(text)
        return query(text, *args)

    with monkeypatch.context() as patch:
        patch.setattr(con.engine.database, "query", spy)
        con.execute(sql)
    return [text for text in asked if "ledger" in text]


def test_the_database_of_the_benchmark_is_one_of_ours(con: Any) -> None:
    assert con.execute("CHECK CATALOG").fetchall() == []
    cursor = con.execute("SELECT count(*) FROM score WHERE score > 0.5")
    assert cursor.fetchall() == [(int((scale._hashed(np.arange(N), 2654435761) ** 20 > 0.5).sum()),)]
    assert not any(cursor.report.calls.values())


def test_new_items_alone_are_asked(con: Any) -> None:
    con.engine.database.execute(scale._frames(con, N, N + 70))
    cursor = con.execute("SELECT count(*) FROM score")
    assert cursor.fetchall() == [(N + 70,)]
    assert cursor.report.calls == {"cheap": 70}


@pytest.mark.parametrize(
    "sql",
    ["SELECT frame_id FROM frames WHERE sure(frame_id) LIMIT 3", "SELECT score FROM score WHERE score > 2 LIMIT 3"],
)
def test_items_that_have_a_key_are_not_compared(con: Any, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    """A query that finds ten items may stop at them; DISTINCT or ORDER BY would look at all."""
    con.engine.database.execute(scale._frames(con, N, N + 70))
    asked = queries(con, sql, monkeypatch)
    assert asked
    assert not [text for text in asked if "DISTINCT" in text or "ORDER BY" in text]


def test_items_that_a_join_repeats_are(con: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    con.execute("CREATE TABLE twice AS SELECT unnest([1, 1, 2, 2]) AS frame_id")
    cursor = con.execute("SELECT frame_id FROM frames JOIN twice USING (frame_id) WHERE sure(frame_id) OR true LIMIT 3")
    assert len(cursor.fetchall()) == 3
    found = con.execute("SELECT count(*) FROM frames JOIN twice USING (frame_id) WHERE sure(frame_id) IS NOT NULL")
    assert found.fetchall() == [(4,)]
    assert cursor.report.calls["sure"] + found.report.calls["sure"] == 2
