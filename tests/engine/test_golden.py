"""The golden files of the engine: sessions in SQL with what they answer, and what each model was asked.

A case is a statement (or a ``!`` command of `tests.engine.world`), a line of dashes, and the answer; blank lines part
the cases, and lines that begin with ``# `` explain. Rows are sorted where the statement does not order them. A comment
``# lazily`` marks a case whose answer is about how, not what: it is left out when the file runs a second time, with
every model on every item. ``AIDB_UPDATE_GOLDEN=1`` writes the answers anew, for a human to review in the diff.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.engine.world import World

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.txt"))
DASHES = "----"
MASKS = [
    (re.compile(r"\d+\.\d\d s\b"), "0.00 s"),
    (re.compile(r"\b[0-9a-f]{24}\b"), "FINGERPRINT"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
]


@dataclass(frozen=True)
class Case:
    line: int
    notes: tuple[str, ...]
    sql: str
    answer: str

    @property
    def lazy(self) -> bool:
        return "# lazily" in self.notes


def read(path: Path) -> list[Case]:
    found, block, first = [], [], 1
    for number, line in enumerate([*path.read_text(encoding="utf-8").split("\n"), ""], 1):
        if line.strip():
            first = first if block else number
            block.append(line)
            continue
        if block:
            notes = tuple(text for text in block if text.startswith("# "))
            rest = [text for text in block if not text.startswith("# ")]
            cut = rest.index(DASHES) if DASHES in rest else len(rest)
            found.append(Case(first, notes, "\n".join(rest[:cut]), "\n".join(rest[cut + 1 :])))
        block = []
    return found


def answer(world: World, case: Case) -> str:
    text = world.command(case.sql) if case.sql.startswith("!") else world.run(case.sql)
    for mask, instead in MASKS:
        text = mask.sub(instead, text)
    return text


def without_calls(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(("calls: ", "note: ")))


def write(path: Path, world: World) -> None:
    """The same file with today's answers."""
    blocks = []
    for case in read(path):
        lines = [*case.notes, *([case.sql] if case.sql else [])]
        if case.sql and (text := answer(world, case)):
            lines += [DASHES, text]
        blocks.append("\n".join(lines))
    path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_session_goes_as_the_file_says(path: Path, tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        if os.environ.get("AIDB_UPDATE_GOLDEN"):
            write(path, world)
            return
        for case in read(path):
            if case.sql:
                assert answer(world, case) == case.answer, f"{path.name}:{case.line}"
    finally:
        world.close()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_running_every_model_on_every_item_gives_the_same(path: Path, tmp_path: Path) -> None:
    world = World(tmp_path, optimizer=False)
    try:
        for case in read(path):
            if case.sql and not case.lazy and "aidb.optimizer" not in case.sql:
                assert without_calls(answer(world, case)) == without_calls(case.answer), f"{path.name}:{case.line}"
    finally:
        world.close()


def test_there_is_a_session_for_every_family() -> None:
    assert {path.stem for path in FILES} >= {
        "blob_tables", "drop", "errors", "explain", "functions", "guarantees", "models", "names", "refresh", "retry",
        "settings", "show", "system_tables", "virtual_columns", "virtual_tables", "writing",
    }  # fmt: skip
