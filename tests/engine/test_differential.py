"""Lazy equals eager, through the whole engine. More of it: ``python -m tests.engine.differential --queries 5000``."""

from __future__ import annotations

import pytest

from tests.engine.differential import run


@pytest.mark.parametrize("seed", [11, 12])
def test_random_statements_have_the_answers_of_running_every_model(seed: int) -> None:
    summary = run(40, seed)
    assert summary.differences == []
    assert summary.counts["calls"] > 0
