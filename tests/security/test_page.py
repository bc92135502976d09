"""docs/security.md: the tests that it names are there, and its recipes close what they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import aidb

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_the_page_names_tests_that_exist() -> None:
    assert len(NAMED) > 30
    there = {
        file: {
            node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)
        }
        for file, _ in NAMED
    }
    assert [f"{file}::{name}" for file, name in NAMED if name not in there[file]] == []


@pytest.mark.parametrize("heading", ["What AIDB protects", "Faults"])
def test_each_row_names_a_test(heading: str) -> None:
    text = PAGE if heading == "What AIDB protects" else PAGE.partition("## Faults")[2]
    rows = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "| fault"))
    ]
    assert len(rows) > 10
    assert [row[:60] for row in rows if "see [two" not in row and not re.search(r"`tests/[\w/]+\.py::\w+`", row)] == []


@pytest.mark.parametrize("n", [0, 1])
def test_the_recipes_close_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("nobody may see this")
    aidb.connect("street.aidb").close()
    recipe = re.findall(r"```python\n(.*?)```", PAGE.partition("## SQL of strangers")[2], re.DOTALL)[n]
    names: dict[str, aidb.Connection] = {}
    exec(recipe, {"aidb": aidb}, names)
    with names["con"] as con:
        for sql in ("SELECT * FROM read_text('secret.txt')", "SET memory_limit = '9GB'", "SET aidb.max_calls = 9"):
            with pytest.raises(aidb.DatabaseError):
                con.execute(sql)
        assert con.engine.settings.max_calls == (None, 5000)[n]
