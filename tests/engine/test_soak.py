"""A short life of everything at once. A long one: ``python -m tests.engine.soak --minutes 30``."""

from __future__ import annotations

from tests.engine.soak import run


def test_everything_at_once_leaves_everything_in_order() -> None:
    """Statements, faults, cancellations and caps in one process: nothing unexpected is raised, and answers are the true ones."""
    found = run(7, steps=150)
    assert found.problems == []
    assert found.done.total() == 150
    assert found.raised, "no fault came to pass"
    kept = {kind: n - found.promised[f"missed {kind}"] for kind, n in found.promised.items() if "missed" not in kind}
    assert sum(kept.values()) > 5
    assert all(n >= 0.5 * found.promised[kind] for kind, n in kept.items()), found.promised
