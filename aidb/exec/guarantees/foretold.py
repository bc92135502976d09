"""EXPLAIN of a statement with a guarantee: what it would ask, and what can be promised for that, before any is spent."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from aidb.exec.explain import Explanation, ModelEstimate
from aidb.exec.guarantees.choosing import Choosing, targets
from aidb.exec.guarantees.estimating import Estimating
from aidb.exec.guarantees.finding import Finding
from aidb.exec.guarantees.items import Items
from aidb.exec.guarantees.questions import Questions
from aidb.exec.guarantees.running import executor_of, proxies_of
from aidb.exec.proxies.reading import Exact
from aidb.sql.statements import Guarantee

SHARES = (0.1, 0.01, 0.001)
"""Of matching items, for which the least number of labels is shown."""


def explanation(
    questions: Questions, guarantee: Guarantee, whole: Explanation, explain: Callable[[str], Explanation], exact: Exact
) -> Explanation:
    """What would be asked at most. whole: of the exact query; explain, exact: of a query in the user's dialect."""
    with closing(questions):
        executor, items = executor_of(questions, guarantee)
        notes = [
            f"{items.n:,} rows of {items.unit.table} are open: what is known leaves their part of the answer undecided"
        ]
        first: tuple[ModelEstimate, ...] = ()
        choice = proxies_of(executor, items).choose(guarantee, exact, search=isinstance(executor, Finding))
        if choice.proxy is not None and items.n:
            first = explain(choice.proxy.query(items)).models
            notes.append(f"first the proxy {choice.proxy.name}, on all of them")
        notes += choice.notes
        calls = None if guarantee.budget is None else guarantee.budget.calls
        models = tuple(_at_most(m, calls) for m in whole.models)
        if isinstance(executor, Choosing):
            notes += _of_selection(executor, items, guarantee)
        elif isinstance(executor, Estimating):
            notes += _of_estimate(items, guarantee)
        else:
            notes.append(
                f"mode exact: looks at the likeliest items until there are {executor.limit} rows; all of them are checked"
            )
        return Explanation((*first, *models), (*whole.notes, *notes))


def _at_most(model: ModelEstimate, calls: int | None) -> ModelEstimate:
    if calls is None or model.items <= calls:
        return model
    share = calls / model.items
    return replace(model, items=calls, seconds=model.seconds * share, cost=model.cost * share)


def least_labels(recall: float, probability: float, share: float) -> int:
    """Labels below which no method can promise a recall, for every proxy, and return less than most rows.

    share: of the matching rows. With fewer labels the rows that are not asked about may hide more than are allowed to
    be missed: ``ln(1 / (1 - probability)) * recall / ((1 - recall) * share)``.
    """
    return math.ceil(-math.log(1 - probability) * recall / ((1 - recall) * share))


def _of_selection(executor: Choosing, items: Items, guarantee: Guarantee) -> list[str]:
    wanted = targets(guarantee)
    text = " and ".join(f"{name} {value:.4g}" for name, value in wanted.items())
    notes = [f"target: {text}" + ("" if guarantee.expected else f" with probability {guarantee.probability:.4g}")]
    recall = wanted.get("recall")
    calls = None if guarantee.budget is None else guarantee.budget.calls
    if not items.n or (calls is not None and calls >= items.n):
        notes.append("mode exact: all of them are asked about")
    elif guarantee.expected:
        notes.append("mode expected: the target is met on the sample only, about half of such answers miss it")
    elif recall is None:
        notes.append(f"mode guaranteed: the whole limit{_number(calls)} is spent, first a few to see where matches lie")
    else:
        needs = [f"{least_labels(recall, guarantee.probability, s):,} if {s:.4g} of them match" for s in SHARES]
        notes.append(f"mode guaranteed takes about {', '.join(needs)} (labels, whatever the proxy)")
        if calls is not None:
            share = least_labels(recall, guarantee.probability, 1) / calls
            notes.append(f"with {calls:,} labels: guaranteed if more than {share:.2%} match, else asymptotic")
    if executor.verified:
        first = min(max(60, items.n // 200), 2000, items.n // 5)
        notes.append(
            f"VERIFIED: every returned row is checked, in as few labels together as can be: {first:,} first, then likely rows "
            "and random ones until few enough can be left"
        )
    else:
        notes.append("UNVERIFIED: rows are returned for their score; the column _verified says which were checked")
    return notes


def _number(calls: int | None) -> str:
    return "" if calls is None else f" of {calls:,} calls"


def _of_estimate(items: Items, guarantee: Guarantee) -> list[str]:
    unit = f"{guarantee.error:.4g}" if guarantee.absolute else f"{guarantee.error:.2%}"
    method = "auto" if guarantee.method is None else guarantee.method.name
    mode = {"exact": "exact", "ebs": "guaranteed", "betting": "guaranteed"}.get(method, "asymptotic")
    rounds = f"asks in rounds, about 100 items first, until the interval is narrow enough; all {items.n:,} at the most"
    return [
        f"target: within {unit} of the truth with probability {guarantee.probability:.4g}",
        f"mode {mode}" + ("" if mode == "exact" else ", or exact if all of them have to be asked about"),
        f"asks about all {items.n:,}" if mode == "exact" else rounds,
    ]
