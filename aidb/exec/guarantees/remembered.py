"""Answers from samples are kept: the same question again asks nothing, and draws no second sample.

A second sample would cost calls, and two tries of one promise miss it more often than one. An answer is good as long as
the question, its parameters, the models, the stored tables and the failures are what they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from aidb.catalog.names import literal
from aidb.exec.guarantees.outcome import Guaranteed
from aidb.exec.guarantees.questions import Questions
from aidb.plan.calls import CallPlan
from aidb.sql.guarantee import to_sql
from aidb.sql.statements import Guarantee
from aidb.storage.schema import INTERNAL

KEPT = 64
"""Answers; older ones go."""

MOST_ROWS = 1_000_000
"""Of an answer that is kept."""

_LOST = ("answer", "sql", "oracle_calls", "failed")
"""What is of one execution, not of the answer."""

_DRAWN = ("history", "histogram", "curve")
"""Arrays of a report that are small, and of which plots are made."""


def key_of(questions: Questions, guarantee: Guarantee, plan: CallPlan) -> str:
    """A digest of everything that the answer depends on."""
    database = questions.database
    # Inside of views DuckDB gives names with the aliases that they have there.
    touched = sorted({n.split(" as ")[0] for n in database.touched(questions.bound.bare) or ()})
    answers = tuple(f".{INTERNAL}.{kind}_" for kind in ("rows", "ledger"))
    tables = [n for n in touched if not any(a in f".{n}" for a in answers)]
    states = [database.query(f"SELECT count(*), bit_xor(hash(t)) FROM {name} AS t").to_pylist()[0] for name in tables]
    failures = database.query(f"SELECT count(*) FROM {INTERNAL}.errors").column(0)[0].as_py()
    parts = [
        questions.sql,
        to_sql(guarantee),
        guarantee.probability,
        questions.settings.seed,
        sorted((k, repr(v)) for k, v in questions.bound.values.items()),
        [(f.id, f.ledger) for f in plan.fills],
        list(zip(tables, states, strict=True)),
        failures,
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def recall(questions: Questions, key: str) -> Guaranteed | None:
    """The answer that was kept under a key."""
    if not questions.database.is_aidb:
        return None
    found = questions.database.query(
        f"SELECT answer, report, created FROM {INTERNAL}.sampled WHERE key = {literal(key)}"
    ).to_pylist()
    if not found:
        return None
    kept = json.loads(found[0]["report"])
    kept["intervals"] = {column: _intervals(pairs) for column, pairs in kept["intervals"].items()}
    kept["arrays"] = {name: np.array(rows, dtype=np.float64) for name, rows in kept.get("arrays", {}).items()}
    kept["notes"] = (
        *kept["notes"],
        f"the sample of {found[0]['created']:%Y-%m-%d %H:%M} answers this: to ask again costs nothing and risks nothing",
    )
    answer = questions.database.execute(f"SELECT * FROM {INTERNAL}.sampled_{found[0]['answer']}")
    return Guaranteed(answer=answer, **kept)


def remember(questions: Questions, key: str, text: str, found: Guaranteed) -> None:
    """Keep an answer, if it is one of a sample and can be stored as it is."""
    database = questions.database
    if found.mode == "exact" or found.sql is None or database.read_only or database.in_transaction():
        return
    names = [name.lower() for name, _ in found.answer.columns]
    if len(set(names)) < len(names) or found.answer.rows > MOST_ROWS:
        return
    report = {f.name: getattr(found, f.name) for f in fields(found) if f.name not in _LOST}
    report["intervals"] = {column: _stored(pairs) for column, pairs in found.intervals.items()}
    report["arrays"] = {name: rows.tolist() for name, rows in found.arrays.items() if name in _DRAWN}
    with database.transaction():
        number = database.query(f"SELECT nextval('{INTERNAL}.ids') AS n").column(0)[0].as_py()
        database.execute(f"CREATE TABLE {INTERNAL}.sampled_{number} AS {found.sql}", questions.given(found.sql))
        database.execute(
            f"INSERT INTO {INTERNAL}.sampled VALUES ($key, $number, $text, $report, now()::TIMESTAMP)",
            {"key": key, "number": number, "text": text, "report": json.dumps(report, default=str)},
        )
        _forget_old(questions)


def _forget_old(questions: Questions) -> None:
    database = questions.database
    old = (
        database.query(f"SELECT answer FROM {INTERNAL}.sampled ORDER BY answer DESC OFFSET {KEPT}")
        .column(0)
        .to_pylist()
    )
    for number in old:
        database.execute(f"DROP TABLE IF EXISTS {INTERNAL}.sampled_{number}")
        database.execute(f"DELETE FROM {INTERNAL}.sampled WHERE answer = {number}")


def _stored(pairs: Any) -> Any:
    """An interval, or those of groups as a list, as JSON has no keys but texts."""
    return [[group, pair] for group, pair in pairs.items()] if isinstance(pairs, Mapping) else {"": pairs}


def _intervals(pairs: Any) -> Any:
    if isinstance(pairs, dict):
        return tuple(pairs[""])
    return {tuple(group) if isinstance(group, list) else group: tuple(pair) for group, pair in pairs}
