"""What a statement did: mode, calls, failures, time, money."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Mode = Literal["exact", "guaranteed", "asymptotic", "conditional", "expected"]


@dataclass(frozen=True)
class Report:
    """How an answer came about.

    mode: ``exact``; ``guaranteed`` holds for every proxy and every table, over the sampling alone; ``asymptotic`` rests on
    an approximation, ``conditional`` on an assumption that the notes name; ``expected`` promises no probability.
    target, probability, method, seed: of a guarantee. intervals: column -> (low, high), or with GROUP BY column ->
    {group: (low, high)}. certified: ``recall`` or ``precision`` -> what an exact certificate says, whatever the mode.
    labels: items that were asked about for it, stored answers among them; labels_needed: how many an exact certificate
    would take. proxy: what ordered the items.
    calls: model -> items newly inferred. cached: model -> items whose answers were there already.
    oracle_calls: new items sent to the models that decide the answer (in an exact query all of them).
    failed: items that could not be read or answered. seconds, cost: of the whole statement. notes: for the reader.
    arrays: what a plot needs. For estimates ``history``, a row a look: labels, value, low, high. For selections ``scores`` of
    the items and the ``returned`` ones; ``histogram``, rows of from, to, items, returned; ``curve``, rows of threshold,
    recall, precision, both estimated.
    """

    mode: Mode = "exact"
    target: Mapping[str, float] | None = None
    probability: float | None = None
    intervals: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    certified: Mapping[str, float] = field(default_factory=dict)
    labels: int = 0
    labels_needed: int | None = None
    proxy: str | None = None
    calls: Mapping[str, int] = field(default_factory=dict)
    cached: Mapping[str, int] = field(default_factory=dict)
    oracle_calls: int = 0
    failed: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    seed: int | None = None
    notes: tuple[str, ...] = ()
    arrays: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw an estimate with its interval against the labels that were asked; of a selection recall and precision against
        the threshold, both estimated from the labels, over the scores and what was returned of them.

        ax: axes of matplotlib's to draw on; by default a new figure. Gives the axes.
        Raises `ProgrammingError` if nothing was estimated, `OperationalError` without matplotlib.
        """
        from aidb.plots import plot

        return plot(self, ax)

    def json(self) -> str:
        """The report as JSON, as it stands in ``aidb.queries``."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "arrays"}
        shown["intervals"] = {
            column: {str(group): pair for group, pair in found.items()} if isinstance(found, Mapping) else found
            for column, found in self.intervals.items()
        }
        return json.dumps(shown, default=str)

    def __str__(self) -> str:
        """One line for people.

        >>> str(Report(calls={"yolo": 120}, cached={"yolo": 30}, seconds=2.5))
        'exact, 2.50 s, yolo: 120 new + 30 cached'
        """
        parts = [self._promise(), f"{self.seconds:.2f} s"]
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

    def _promise(self) -> str:
        """The mode, with what is promised where it is not everything."""
        if self.mode == "exact" or not self.target:
            return self.mode
        wanted = " and ".join(f"{name} {value:.4g}" for name, value in self.target.items())
        sure = "" if self.probability is None else f" with probability {self.probability:.4g}"
        return f"{self.mode}: {wanted}{sure}"
