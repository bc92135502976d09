"""PEP 249, by the public suite that drivers check themselves with: dbapi-compliance 1.15, 36 tests.

Three are ours to say something about, as the suite itself asks:

- ``test_non_idempotent_close`` wants an error of the second close(), "reasonable persons differ", it says. Here closing
  again does nothing, as with files and in sqlite3 and duckdb.
- ``test_nextset`` and ``test_setoutputsize`` "need to be overridden": see below.

``test_callproc`` passes because ``callproc`` is not there, which PEP 249 allows where a database has no procedures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dbapi20
import pytest

import aidb


class TestCompliance(dbapi20.DatabaseAPI20Test):  # type: ignore[misc]
    driver = aidb

    @pytest.fixture(autouse=True)
    def _own_database(self, tmp_path: Path) -> None:
        self.connect_args = (tmp_path / "booze.aidb",)

    def tearDown(self) -> None:
        """Each test has a file of its own."""

    def test_non_idempotent_close(self) -> None:
        con = self._connect()
        con.close()
        con.close()

    def test_nextset(self) -> None:
        """Optional: several statements at once leave the rows of the last one."""
        con = self._connect()
        cursor = con.cursor()
        assert not hasattr(cursor, "nextset")
        assert cursor.execute("SELECT 1; SELECT 2").fetchall() == [(2,)]
        con.close()

    def test_setoutputsize(self) -> None:
        """It is accepted, and nothing is cut."""
        con = self._connect()
        cursor = con.cursor()
        cursor.setoutputsize(3)
        text = "x" * 100_000
        assert cursor.execute("SELECT ?", [text]).fetchall() == [(text,)]
        con.close()


def test_the_suite_is_run_whole() -> None:
    tests = [name for name in dir(dbapi20.DatabaseAPI20Test) if name.startswith("test")]
    assert len(tests) == 36
    ours: dict[str, Any] = vars(TestCompliance)
    assert {name for name in tests if name in ours} == {
        "test_non_idempotent_close", "test_nextset", "test_setoutputsize"
    }  # fmt: skip
