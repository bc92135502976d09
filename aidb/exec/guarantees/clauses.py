"""What the clauses of a query ask for, as far as it takes no statistics to say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aidb.errors import ProgrammingError
from aidb.exec.control import Limits
from aidb.exec.proxies.naming import check_name
from aidb.exec.registry import Registry
from aidb.sql.select_list import is_limited
from aidb.sql.statements import Budget, Guarantee, Query


def needs_sampling(statement: Query) -> bool:
    """Do the clauses allow, or ask for, an answer that not every item is asked for?"""
    guarantee = statement.guarantee
    if guarantee is None:
        return False
    return guarantee.needs_statistics or (guarantee.proxy is not None and is_limited(statement.core))


def capped(limits: Limits, guarantee: Guarantee | None) -> Limits:
    """The caps of a statement that is answered exactly, with those of its own BUDGET."""
    if guarantee is None:
        return limits
    budget = guarantee.budget or Budget()

    def least(*caps: float | None) -> float | None:
        return min((c for c in caps if c is not None), default=None)

    calls = least(limits.max_calls, budget.calls)
    return replace(
        limits,
        max_calls=None if calls is None else int(calls),
        max_cost=least(limits.max_cost, budget.cost),
        max_seconds=least(limits.max_seconds, budget.seconds, guarantee.time_limit),
    )


def useless(guarantee: Guarantee) -> tuple[str, ...]:
    """A note on clauses that change nothing, since no target stands beside them."""
    given = (("METHOD", guarantee.method), ("VERIFIED", guarantee.verified), ("USING PROXY", guarantee.proxy))
    names = [name for name, value in given if value is not None]
    return (f"{', '.join(names)} changes nothing without a target: the answer is exact",) if names else ()


def check_oracle(guarantee: Guarantee | None, models: Iterable[str]) -> None:
    """Raises `ProgrammingError` for BY ORACLE with a model that the query does not ask."""
    if guarantee is None or guarantee.oracle is None:
        return
    asked = sorted(set(models))
    if asked and guarantee.oracle.lower() not in (m.lower() for m in asked):
        raise ProgrammingError(
            f"BY ORACLE {guarantee.oracle}: this query asks {' and '.join(asked)}, not {guarantee.oracle}; the oracle is "
            "the model whose answers decide which rows match. Leave BY ORACLE out, or name that one"
        )


def check_names(guarantee: Guarantee, registry: Registry) -> None:
    """Raises `UnknownName` for a proxy or an oracle that does not exist."""
    if guarantee.proxy is not None:
        check_name(guarantee.proxy, registry)
    if guarantee.oracle is not None:
        registry.model(guarantee.oracle)
