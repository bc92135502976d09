"""What a statement did: mode, calls, failures, time, money."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal


@dataclass(frozen=True)
class Report:
    """How an answer came about.

    mode: ``exact``, ``guaranteed`` or ``expected``. target, probability, intervals, method, seed: of a guarantee.
    calls: model -> items newly inferred. cached: model -> items whose answers were there already.
    oracle_calls: new items sent to the models that decide the answer (in an exact query all of them).
    failed: items that could not be read or answered. seconds, cost: of the whole statement. notes: for the reader.
    """

    mode: Literal["exact", "guaranteed", "expected"] = "exact"
    target: Mapping[str, float] | None = None
    probability: float | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    method: str | None = None
    calls: Mapping[str, int] = field(default_factory=dict)
    cached: Mapping[str, int] = field(default_factory=dict)
    oracle_calls: int = 0
    failed: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    seed: int | None = None
    notes: tuple[str, ...] = ()

    def json(self) -> str:
        """The report as JSON, as it stands in ``aidb.queries``."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)}, default=str)

    def __str__(self) -> str:
        """One line for people.

        >>> str(Report(calls={"yolo": 120}, cached={"yolo": 30}, seconds=2.5))
        'exact, 2.50 s, yolo: 120 new + 30 cached'
        """
        parts = [self.mode, f"{self.seconds:.2f} s"]
        models = [
            f"{m}: {self.calls.get(m, 0)} new + {self.cached.get(m, 0)} cached"
            for m in dict.fromkeys([*self.calls, *self.cached])
        ]
        parts += models or ["no model needed"]
        if self.cost:
            parts.append(f"cost {self.cost:.4g}")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)
