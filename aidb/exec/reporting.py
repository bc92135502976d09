"""What a statement did, put into words and numbers."""

from __future__ import annotations

from collections import Counter

from aidb.exec.control import Control
from aidb.plan.calls import CallPlan
from aidb.report import Report


def report_of(
    control: Control,
    plan: CallPlan | None = None,
    before: Counter[str] | None = None,
    notes: tuple[str, ...] = (),
) -> Report:
    """The report of an exact statement, as far as it has come. before: answers that were there, by model."""
    models = [f.model for f in plan.fills] if plan is not None else []
    calls = Counter({m: control.calls[m] for m in dict.fromkeys([*models, *control.calls])})
    failed = control.failed.total()
    if failed:
        left_out = "1 item was left out, as it" if failed == 1 else f"{failed} items were left out, as they"
        notes = (*notes, f"{left_out} failed: see aidb.errors, RETRY FAILED")
    for model, n in control.before.failed.items():
        if n:
            items = "1 item has" if n == 1 else f"{n:,} items have"
            notes = (*notes, f"{items} no answer of {model}, having failed before: see aidb.errors, RETRY FAILED")
    if plan is not None and plan.fallback:
        notes = (*notes, f"everything was materialised: {plan.fallback}")
    return Report(
        calls=calls,
        cached=Counter(before or {}),
        oracle_calls=calls.total(),
        failed=failed,
        seconds=control.seconds,
        cost=control.cost,
        notes=notes,
    )
