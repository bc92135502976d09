"""One statement with a guarantee: which executor answers it, with which seed and which scores."""

from __future__ import annotations

import secrets
from contextlib import closing
from dataclasses import replace

import numpy as np
from sqlglot import exp

from aidb.errors import NotSupportedError, ProgrammingError
from aidb.exec.guarantees.choosing import Choosing
from aidb.exec.guarantees.estimating import Estimating
from aidb.exec.guarantees.finding import Finding
from aidb.exec.guarantees.items import Items
from aidb.exec.guarantees.outcome import Guaranteed
from aidb.exec.guarantees.proxies import Choice, Proxies
from aidb.exec.guarantees.questions import Questions
from aidb.exec.guarantees.remembered import key_of, recall, remember
from aidb.exec.guarantees.scoring import Scores, Spread
from aidb.exec.guarantees.seeding import Asked, ask_representatives
from aidb.exec.proxies.reading import Exact
from aidb.plan.calls import CallPlan
from aidb.plan.nodes import parse
from aidb.plan.parts import Parts
from aidb.plan.units import Units
from aidb.sql.statements import Guarantee


def run(questions: Questions, guarantee: Guarantee, exact: Exact, plan: CallPlan, text: str) -> Guaranteed:
    """Answer the statement of ``questions`` with a guarantee, or as it was answered before.

    plan, text: of the statement. exact: answers a query of the user's dialect in full, for the proxy. Raises
    `NotSupportedError` or `ProgrammingError` for what can't be answered so, before any model runs.
    """
    with closing(questions):
        kept = recall(questions, key_of(questions, guarantee, plan))
        if kept is not None:
            return kept
        try:
            found = _sampled(questions, guarantee, exact)
        except ValueError as e:  # the statistics' way to say that a request makes no sense
            raise ProgrammingError(str(e)) from e
        # Failures and answers have come meanwhile: the key is that of the next time.
        remember(questions, key_of(questions, guarantee, plan), text, found)
        return found


def _sampled(questions: Questions, guarantee: Guarantee, exact: Exact) -> Guaranteed:
    executor, items = executor_of(questions, guarantee)
    choice = proxies_of(executor, items).choose(guarantee, exact, search=isinstance(executor, Finding))
    asked = Asked()
    if isinstance(choice.proxy, Spread) and guarantee.proxy is not None and not isinstance(executor, Finding):
        asked = ask_representatives(items, choice.proxy, guarantee)
        if asked.labels:  # what is answered now is open no more
            guarantee = asked.left(guarantee)
            executor, items = executor_of(questions, guarantee)
    seed = guarantee.seed if guarantee.seed is not None else questions.settings.seed
    if seed is None:
        seed = secrets.randbits(31)
    scores = _scores(choice, items, exact, named=guarantee.proxy is not None)
    found = executor.run(scores, np.random.default_rng(seed))
    calls, labels = found.oracle_calls + asked.calls, found.labels + asked.labels
    return replace(found, seed=seed, oracle_calls=calls, labels=labels)


def _scores(choice: Choice, items: Items, exact: Exact, *, named: bool) -> Scores:
    """What a proxy says; one that nobody named and that can't be read now is left aside."""
    if choice.proxy is None or not items.n:
        return Scores(None, notes=choice.notes)
    try:
        found = choice.proxy.scores(items, exact)
    except ProgrammingError as e:
        if named:
            raise
        return Scores(None, notes=(f"the proxy {choice.proxy.name} was left aside: {e}",))
    return replace(found, notes=(*choice.notes, *found.notes))


def proxies_of(executor: Choosing | Estimating | Finding, items: Items) -> Proxies:
    """The proxies that could serve a statement."""
    return Proxies(items, executor.shares if isinstance(executor, Estimating) else None)


def executor_of(questions: Questions, guarantee: Guarantee) -> tuple[Choosing | Estimating | Finding, Items]:
    """What will answer it, checked; asks no model."""
    if guarantee.oracle is not None:
        questions.oracle = questions.registry.model(guarantee.oracle).name
    parts = Parts(Units.of(questions.sql, questions.relations), questions.relations.aggregates)
    is_search = guarantee.error is None and guarantee.recall is None and guarantee.precision is None
    is_search = is_search and guarantee.fnr is None and guarantee.fpr is None
    items = Items(questions, parts, with_known=is_search)
    if guarantee.error is not None:
        return Estimating(questions, items, guarantee), items
    if is_search:
        return Finding(questions, items, guarantee, _limit(questions)), items
    return Choosing(questions, items, guarantee), items


def _limit(questions: Questions) -> int:
    """Rows that LIMIT and OFFSET ask for."""
    tree = parse(questions.sql)
    if tree.args.get("order"):
        raise NotSupportedError(
            "GAP takes rows where they are found with the fewest calls, so ORDER BY can't choose them: sort the result in "
            "a query around it, or leave GAP out"
        )
    total = 0
    for clause in ("limit", "offset"):
        node = tree.args.get(clause)
        if node is None:
            continue
        value = node.expression
        if not isinstance(value, exp.Literal) or not value.is_int:
            raise ProgrammingError(f"{clause.upper()} must be a whole number here")
        total += int(value.name)
    return total
