"""RECALL and PRECISION targets: which items are returned, and their rows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aidb.catalog.names import quoted
from aidb.errors import ProgrammingError
from aidb.exec.guarantees.budget import allowance
from aidb.exec.guarantees.items import ASKED, OUT, SHOWN, Floats, Ints, Items
from aidb.exec.guarantees.outcome import Guaranteed
from aidb.exec.guarantees.questions import Questions
from aidb.exec.guarantees.scoring import Scores
from aidb.plan.unverified import unverified_rows
from aidb.sql.statements import Guarantee
from aidb.stats import selection as statistics
from aidb.stats.selection import Selection, select
from aidb.stats.selection.curve import curve, histogram

VERIFIED = "_verified"


def is_verified(guarantee: Guarantee) -> bool:
    """Rule V: without a budget every returned row is checked, unless the query says otherwise."""
    if guarantee.verified is not None:
        return guarantee.verified
    return guarantee.budget is None and guarantee.time_limit is None and guarantee.precision is None


def targets(guarantee: Guarantee) -> dict[str, float]:
    """The targets by name; FNR WITHIN a is a recall of 1 - a."""
    recall = guarantee.recall if guarantee.fnr is None else 1 - guarantee.fnr
    found = {"recall": recall, "precision": guarantee.precision, "fpr": guarantee.fpr}
    return {name: value for name, value in found.items() if value is not None}


def check(guarantee: Guarantee) -> None:
    """Raises `ProgrammingError` for targets that can't be met as they stand."""
    wanted = targets(guarantee)
    if set(wanted) == {"fpr"}:
        raise ProgrammingError(
            "FPR WITHIN alone is met by an empty answer: add FNR WITHIN 10%, or bound the false rows of the answer by "
            "PRECISION TARGET 90% ORACLE LIMIT 1000"
        )
    if guarantee.precision is not None and guarantee.verified:
        raise ProgrammingError(
            "PRECISION TARGET and VERIFIED contradict each other: every verified row is true. Leave one of them out"
        )
    budget = guarantee.budget is not None or guarantee.time_limit is not None
    if guarantee.expected and (not budget or is_verified(guarantee)):
        what = "EXPECTED" if guarantee.fnr is None else "FNR WITHIN without a probability"
        raise ProgrammingError(
            f"{what} is met on a sample only, which needs a number of calls to spend: add ORACLE LIMIT 1000, or WITH "
            "PROBABILITY 95% for a target that holds"
        )
    if not budget and len(wanted) == 1 and not is_verified(guarantee):
        what = "PRECISION TARGET" if "precision" in wanted else "UNVERIFIED"
        raise ProgrammingError(f"{what} needs a number of calls to spend: add ORACLE LIMIT 1000, or a RECALL TARGET")
    if not budget and "recall" not in wanted:
        raise ProgrammingError("PRECISION TARGET needs a number of calls to spend: add ORACLE LIMIT 1000")
    options_of(guarantee)
    try:
        statistics.check(
            wanted.get("recall"),
            wanted.get("precision"),
            budget=0 if budget else None,
            method=method_of(guarantee),
            expected=guarantee.expected,
            verified=is_verified(guarantee),
        )
    except ValueError as e:
        raise ProgrammingError(str(e)) from e


def method_of(guarantee: Guarantee) -> str:
    """METHOD, or the one that is taken where none is named."""
    return "auto" if guarantee.method is None else guarantee.method.name


def options_of(guarantee: Guarantee) -> dict[str, Any]:
    """What METHOD's arguments mean for the statistics. Raises `ProgrammingError` for those that mean nothing."""
    method = guarantee.method
    if method is None or not method.args:
        return {}
    if method.name != "calibrated":
        raise ProgrammingError(f"METHOD {method.name} takes no arguments")
    try:
        [text] = method.args
        kappa = float(text)
    except ValueError:
        raise ProgrammingError(f"METHOD calibrated takes one number, not {', '.join(method.args)}") from None
    if not 0 < kappa < math.inf:
        raise ProgrammingError(f"METHOD calibrated takes a number above 0, not {text}")
    return {"kappa": kappa}


class Choosing:
    """One statement with a recall or precision target."""

    def __init__(self, questions: Questions, items: Items, guarantee: Guarantee) -> None:
        self.questions, self.items, self.guarantee = questions, items, guarantee
        check(guarantee)
        self.verified = is_verified(guarantee)
        self._asked: list[tuple[Ints, Floats]] = []
        self.unverified = None if self.verified else unverified_rows(items.parts.units, questions.relations, SHOWN)

    def run(self, scores: Scores, rng: np.random.Generator) -> Guaranteed:
        """Ask, choose, and show the rows."""
        items, guarantee = self.items, self.guarantee
        before = self.questions.oracle_calls()
        n, wanted = items.n, targets(guarantee)
        free = items.known_rows()
        piloted: list[Floats] = []
        allowed = allowance(items, guarantee, rng, lambda rows: piloted.append(self._label(rows)))
        values = np.zeros(n) if scores.values is None else scores.values
        ours = np.concatenate([allowed.pilot, np.arange(n, n + free)])
        truths = np.concatenate([*piloted, np.ones(free)])
        chosen = select(
            np.concatenate([values, np.full(free, np.nan)]),
            self._label,
            recall=wanted.get("recall"),
            precision=wanted.get("precision"),
            probability=guarantee.probability,
            budget=allowed.labels,
            method=method_of(guarantee),
            expected=guarantee.expected,
            verified=self.verified,
            known=(ours, truths),
            rng=rng,
            **options_of(guarantee),
        )
        if self.verified and not chosen.verified.all():
            # What a method returns for its score alone is asked about now, and what is none falls out.
            self._label(chosen.indices[~chosen.verified])
        if items.asked >= n and chosen.mode != "exact":
            # Whatever was to be promised, in the end every item was asked about.
            chosen = replace(chosen, mode="exact", certified_recall=1.0, certified_precision=1.0, notes=())
        answer_sql = self._rows(chosen, n)
        answer = self.questions.database.execute(answer_sql, self.questions.given(answer_sql))
        failed = items.failed()
        false = None if "fpr" not in wanted else self._most_false(chosen, n, len(failed))
        return Guaranteed(
            answer=answer,
            mode=chosen.mode,
            target=wanted,
            method=chosen.method,
            probability=None if guarantee.expected or chosen.mode == "expected" else guarantee.probability,
            certified=self._certified(chosen, false),
            labels_needed=chosen.labels_needed,
            labels=items.asked,
            oracle_calls=self.questions.oracle_calls() - before,
            failed=len(failed),
            proxy=scores.name,
            notes=(*self._said(chosen, scores, free, len(failed)), *self._said_false(false), *scores.notes),
            sql=answer_sql,
            arrays=self._arrays(values, chosen.indices[chosen.indices < n]),
        )

    def _label(self, rows: Ints) -> Floats:
        truths = np.minimum(self.items.counts(rows), 1)
        self._asked.append((rows, truths))
        return truths

    def _arrays(self, values: Floats, returned: Ints) -> dict[str, npt.NDArray[Any]]:
        """What a plot of the report shows."""
        asked = np.concatenate([np.zeros(0, dtype=np.int64), *(rows for rows, _ in self._asked)])
        truths = np.concatenate([np.zeros(0), *(truths for _, truths in self._asked)])
        drawn = {"histogram": histogram(values, returned), "curve": curve(values, asked, truths)}
        return {"scores": values, "returned": returned, **drawn}

    def _rows(self, chosen: Selection, n: int) -> str:
        """SQL of the answer: checked rows, and those of items that no model has seen."""
        items, parts = self.items, self.items.parts
        mine = chosen.indices < n
        sure = chosen.indices[mine & chosen.verified]
        unsure = chosen.indices[mine & ~chosen.verified]
        if self.verified:
            sure, unsure = chosen.indices[mine], unsure[:0]
        out = np.ones(n, dtype=bool)
        out[sure] = False
        items.choose(OUT, np.flatnonzero(out))
        items.choose(ASKED, np.zeros(0, dtype=np.int64))
        checked = parts.rows(without=OUT, more=(f"TRUE AS {VERIFIED}",))
        if not len(unsure):
            return checked
        items.choose(SHOWN, unsure)
        assert self.unverified is not None
        bare = parts.rows(without=OUT, more=(f"TRUE AS {VERIFIED}",), tail=False)
        shown = f"SELECT *, FALSE AS {VERIFIED} FROM ({self.unverified}) AS __shown"
        distinct = "" if parts.is_distinct else " ALL"
        return f"SELECT * FROM ({bare} UNION{distinct} {shown}) AS __answer {parts.tail()}"

    def _most_false(self, chosen: Selection, n: int, failed: int) -> float:
        """The share of the items without a match that is returned, at the most, given that the recall target is met.

        It is highest if every unchecked row of the answer is false; then the rows left out hold no more matches than the
        share of those found that may be missed.
        """
        unchecked = 0 if self.verified else int(np.count_nonzero(~chosen.verified))
        right = int(np.count_nonzero(chosen.verified))
        mine = int(np.count_nonzero(chosen.verified & (chosen.indices < n)))
        wrong = max(self.items.asked - failed - mine, 0)
        recall = targets(self.guarantee)["recall"]
        beyond = n - self.items.asked - unchecked - (1 - recall) / recall * right
        return unchecked / max(unchecked + wrong + max(beyond, 0.0), 1.0)

    def _certified(self, chosen: Selection, false: float | None) -> dict[str, float]:
        recall, wanted = chosen.certified_recall, targets(self.guarantee).get("recall", 0.0)
        rate = false if recall is not None and recall >= wanted - 1e-9 else None  # it rests on the recall
        sure = {"recall": recall, "precision": chosen.certified_precision, "fpr": rate}
        return {name: float(value) for name, value in sure.items() if value is not None}

    def _said_false(self, false: float | None) -> list[str]:
        wanted = self.guarantee.fpr
        if false is None or wanted is None or false <= wanted:
            return []
        return [
            f"FPR WITHIN {wanted:.4g} was not reached: as many as {false:.4g} of the items without a match may be among the "
            "unchecked rows; more calls, or VERIFIED, leave fewer of them unchecked"
        ]

    def _said(self, chosen: Selection, scores: Scores, free: int, failed: int) -> list[str]:
        notes = list(chosen.notes)
        table, keys = self.items.unit.table, ", ".join(self.items.unit.keys)
        notes.insert(0, f"targets count rows of {quoted(table)} ({keys}) that give any row of the answer")
        if self.items.parts.is_cut:
            notes.append("LIMIT and OFFSET cut the answer: the targets count the rows before the cut")
        if scores.values is None and scores.name is None and self.items.n:
            notes.append("no proxy was named, so items were drawn uniformly: USING PROXY ... needs fewer calls")
        if free:
            notes.append(f"{free:,} matching items were known beforehand and cost nothing")
        if failed:
            notes.append(
                f"{failed:,} items that were asked about failed: they are not returned, and no target counts them"
            )
        return notes
