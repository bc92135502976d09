"""What fuzzing found, and a little of it. More: ``python -m tests.fuzz.parser``, ``splitter``, ``decoders``."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from aidb.errors import SqlSyntaxError
from aidb.sql.parse import parse
from tests.fuzz import parser, splitter
from tests.fuzz.decoders import KINDS, case, originals, problem_of
from tests.fuzz.driving import run

FOUND = [
    "SELECT frame_id FROM frames WHERE has_bus(image) WITH RECALL 0.9999999999999999999999999999999",
    "SELECT a FROM t WHERE b RECALL 1e-999999",
    "SELECT a FROM t WHERE b RECALL 90% WITH FAILURE PROBABILITY 1e-30",
    "SELECT a FROM t WHERE b RECALL TARGET 90% WITHIN 1e-999 SECONDS",
    "SELECT count(*) FROM t ERROR WITHIN 1e-400",
]
"""Numbers that are 0 or 1 as a float: they were taken for targets that no answer can keep."""


@pytest.mark.parametrize("text", FOUND)
def test_a_number_that_rounds_to_nothing_is_refused(text: str) -> None:
    with pytest.raises(SqlSyntaxError) as e:
        parse(text)
    assert e.value.position is not None
    assert len(str(e.value)) < 500


def test_a_hint_is_short() -> None:
    with pytest.raises(SqlSyntaxError) as e:
        parse("SELECT COUNT(*) FROM box ERROR_TARGET 1e999")
    assert len(str(e.value)) < 300


@pytest.mark.parametrize("fuzzer", [parser.FUZZER, splitter.FUZZER], ids=lambda f: f.name)
def test_changed_texts_are_read_or_refused(fuzzer: object) -> None:
    summary = run(fuzzer, 3, cases=700)  # type: ignore[arg-type]
    assert summary.problems == {}
    assert summary.cases == 700


def test_a_case_is_the_same_each_time() -> None:
    assert parser.FUZZER.make(Random("1-5")) == parser.FUZZER.make(Random("1-5"))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_fail_item_by_item(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert len(originals(kind)) >= 4
    found = {n: problem_of(kind, *case(kind, f"5-{n}"), tmp_path) for n in range(40)}
    assert {n: problem for n, problem in found.items() if problem is not None} == {}
