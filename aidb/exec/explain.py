"""EXPLAIN: which models a statement would run, on how many items, for how long and how much, running none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from aidb.catalog.relations import Fill
from aidb.exec.registry import Registry
from aidb.plan.calls import CallPlan
from aidb.report import Report


@dataclass(frozen=True)
class ModelEstimate:
    """What one model would do: items at most, of how many without an answer; seconds; cost in the price's currency.

    certain: the number can't rise (items of models whose inputs are still missing are guessed from what is known). timed:
    the model has run here; until then its provider's word stands for the time that an item takes.
    """

    model: str
    inputs: str
    items: int
    missing: int
    seconds: float
    cost: float
    certain: bool
    timed: bool = True


@dataclass(frozen=True)
class Explanation:
    """What a statement would cost. models: in the order in which they can run. notes: how it would be answered."""

    models: tuple[ModelEstimate, ...]
    notes: tuple[str, ...] = ()

    @property
    def calls(self) -> dict[str, int]:
        """Model -> items at most."""
        found: dict[str, int] = {}
        for estimate in self.models:
            found[estimate.model] = found.get(estimate.model, 0) + estimate.items
        return found

    @property
    def seconds(self) -> float:
        """Seconds of all models, one after another."""
        return sum(m.seconds for m in self.models)

    @property
    def cost(self) -> float:
        """Money for all models."""
        return sum(m.cost for m in self.models)

    def table(self) -> pa.Table:
        """One row a model, as EXPLAIN shows it; notes follow as rows of their own."""
        rows = [
            {
                "model": m.model,
                "inputs": m.inputs,
                "items": m.items,
                "seconds": round(m.seconds, 3),
                "cost": round(m.cost, 6),
                "note": _note(m),
            }
            for m in self.models
        ]
        rows += [
            {"model": None, "inputs": None, "items": None, "seconds": None, "cost": None, "note": note}
            for note in self.notes
        ]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def __str__(self) -> str:
        lines = [
            f"{m.model}({m.inputs}): {'' if m.certain else 'about '}{m.items:,} items, {m.seconds:.2f} s"
            + (f", cost {m.cost:.4g}" if m.cost else "")
            + f"  [{_note(m)}]"
            for m in self.models
        ]
        return "\n".join([*lines, *self.notes]) or "no model is needed"


SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("inputs", pa.string()),
        ("items", pa.int64()),
        ("seconds", pa.float64()),
        ("cost", pa.float64()),
        ("note", pa.string()),
    ]
)
COLUMNS = (
    ("model", "VARCHAR"),
    ("inputs", "VARCHAR"),
    ("items", "BIGINT"),
    ("seconds", "DOUBLE"),
    ("cost", "DOUBLE"),
    ("note", "VARCHAR"),
)


def _note(m: ModelEstimate) -> str:
    if not m.certain:
        return "guessed: its inputs are not known yet"
    if m.missing == 0:
        return "all answers are stored"
    found = f"at most; {m.missing:,} {'has' if m.missing == 1 else 'have'} no answer yet"
    return found if m.timed else f"{found}; untimed"


def estimate(
    plan: CallPlan,
    query: Callable[..., pa.Table],
    registry: Registry,
    notes: Sequence[str] = (),
) -> Explanation:
    """Count what a plan would run now. Children of missing rows are guessed by the average number of rows an item."""
    found: list[ModelEstimate] = []
    guessed: dict[str, tuple[float, bool]] = {}
    for part in plan.explain(query):
        fill = part.fill
        definition = registry.definition(fill)
        items, certain = float(part.items), True
        for parent in fill.parents:
            coming = guessed.get(parent.lower())
            if coming is not None and coming[0] > 0:
                items, certain = items + coming[0], False
        model = registry.model(fill.model)
        name = next((n for n in registry.virtual if _fills(registry, n, fill)), None)
        if name is not None:
            guessed[name] = (items * _rows_per_item(query, fill), certain)
        side_by_side = registry.pool.get(model).spec.concurrency if model.name in registry.pool else 1
        seconds = registry.seconds(definition) / side_by_side
        found.append(
            ModelEstimate(
                fill.model,
                ", ".join(f"{t}.{c}" for t, c in definition.args),
                round(items),
                part.missing,
                items * seconds,
                items * model.price_per_call,
                certain,
                registry.is_timed(definition),
            )
        )
    extra = [f"every item is needed: {plan.fallback}"] if plan.fallback else []
    if plan.limit is not None:
        extra.append(f"stops as soon as {plan.limit} rows are certain")
    return Explanation(tuple(found), (*notes, *extra))


def _fills(registry: Registry, table: str, fill: Fill) -> bool:
    relation = registry.relation(table)
    return relation is not None and relation.fill is not None and relation.fill.ledger == fill.ledger


def _rows_per_item(query: Callable[..., pa.Table], fill: Fill) -> float:
    if fill.ordinal is None:
        return 1.0
    counts = query(f"SELECT (SELECT count(*) FROM {fill.rows}) AS n, (SELECT count(*) FROM {fill.ledger}) AS m", {})
    rows, items = counts.column(0)[0].as_py(), counts.column(1)[0].as_py()
    return rows / items if items else 1.0


def unpruned(needs: Iterable[Explanation]) -> Explanation:
    """Of an UPDATE, DELETE or MERGE, which is not pruned: all that it reads must be there before it runs."""
    models = [m for need in needs for m in need.models]
    return Explanation(
        tuple(dict.fromkeys(models)), ("every item of what it reads is asked, whatever its conditions say",)
    )


def analysed(explanation: Explanation, report: Report) -> Explanation:
    """The estimates with what really happened beside them, for EXPLAIN ANALYZE."""
    actual = [f"{model}: {n:,} items inferred" for model, n in report.calls.items()]
    return Explanation(explanation.models, (*explanation.notes, *actual, f"actual: {report}"))
