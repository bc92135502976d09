"""Rows of a query while its models are still at work.

Where an answer falls apart by items (`aidb.plan.portions`), the first rows need not wait for the last item. The items that
are open are numbered in the order of their key and taken in portions, a batch at first; each portion is planned,
materialised and answered like a query of its own. What is known already is the first part of the answer.

There is no thread for it: a portion is taken when somebody asks for a row that is not there, by whoever asks, in a turn of
the engine like any statement. So models rest while rows are looked at, and between two portions nothing is open: no result
of DuckDB's, no transaction, no pipeline.
"""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial

import pyarrow as pa

from aidb.catalog.relations import Fill
from aidb.errors import BudgetExceeded, DatabaseError, Error, Interrupted, ModelError, OperationalError
from aidb.exec.control import Limits
from aidb.exec.guarantees.questions import Questions
from aidb.exec.rounds import run_rounds
from aidb.exec.settings import Settings
from aidb.plan import parameters as bind_parameters
from aidb.plan.calls import CallPlan, plan_calls
from aidb.plan.portions import Portions
from aidb.plan.unit import root_of, units_of
from aidb.report import Report
from aidb.sql.bind import Bound
from aidb.storage.answer import Answer
from aidb.storage.growing import Growing
from aidb.storage.schema import INTERNAL

MANY = 1000
"""Open items from which on ``aidb.stream = 'auto'`` hands out rows early: fewer are asked before the query returns."""
PLAIN_FIRST = 2048
"""Items of the first portion, at most."""
PORTION = 2.0
"""Seconds that a portion is to take: rows come in this rhythm."""
OVERHEAD = 0.05
"""Share of a portion's time that may go into anything but models; portions grow until it is kept."""
GROWTH = 8
"""How many times as large as the one before a portion may be."""

_numbers = itertools.count(1)


def may_stream(settings: Settings, limits: Limits, plan: CallPlan) -> bool:
    """Do the settings allow it, and is the plan one that goes through all of its items?"""
    if plan.limit is not None or plan.fallback is not None or not settings.optimizer:
        return False
    # A cap asks whether the whole is to be had at that price, so the statement itself must say no.
    capped = any(c is not None for c in (limits.max_calls, limits.max_seconds, limits.max_cost))
    return settings.stream == "on" or (settings.stream == "auto" and not capped and limits.on_error != "raise")


def begin(
    questions: Questions,
    plan: CallPlan,
    wanted: Mapping[Fill, pa.Table],
    rebound: Callable[[], Bound],
    resumed: Callable[[], AbstractContextManager[object]],
    told: Callable[[bool], Report],
) -> Stream | None:
    """Begin to answer a query portion by portion; None, with nothing done, where it should not be answered so.

    plan: of the whole. wanted: the items of each fill that are open now. Others: see `Stream`.
    """
    shared = questions.database.shared
    few = 0 if questions.settings.stream == "on" else MANY
    if plan.fallback is not None or sum(items.num_rows for items in wanted.values()) <= few:
        return None
    if shared.connections > 1:
        # Nobody would tell us what another connection writes into DuckDB's own tables.
        touched = questions.database.touched(questions.bound.bare)
        if touched is None or any(not n.startswith(f"{INTERNAL}.") for n in touched):
            return None
    portions = Portions.of(questions.sql, questions.relations)
    if portions is None:
        return None
    stream = Stream(questions, portions, rebound, resumed, told)
    return stream if stream.begin(wanted) else None


class Stream:
    """One query that is answered portion by portion; implements `aidb.storage.growing.Source`.

    rebound: what its names mean now. resumed: what a portion is taken in. told: makes the report of what was done so far, or
    once all is done. keeps_rows: will anybody read them?
    """

    def __init__(
        self,
        questions: Questions,
        portions: Portions,
        rebound: Callable[[], Bound],
        resumed: Callable[[], AbstractContextManager[object]],
        told: Callable[[bool], Report],
    ) -> None:
        self.questions, self.portions = questions, portions
        self.found: list[Answer] = []
        self.is_read = self.is_done = self._in_haste = False
        self.keeps_rows = True
        self.when_over: Callable[[], None] = lambda: None
        self.version = 0
        self._rebound, self._resumed, self._told = rebound, resumed, told
        self._meaning: object = None
        self._given_up: str | None = None
        self._report: Report | None = None
        number = next(_numbers)
        self._open, self._now = f"__aidb_open_{number}", f"__aidb_now_{number}"
        self._columns = ", ".join(f"__k{n}" for n in range(len(portions.unit.keys)))
        self._known, self._text = portions.rows(without=self._open), portions.rows(only=self._now)
        self._statement = questions.materialiser.begin(questions.control, questions.settings, questions.relations, None)
        self._shares: dict[Fill, float] = {}
        self._at = self._count = 0
        self._least = self._size = 1
        self._left = time.monotonic()

    def begin(self, wanted: Mapping[Fill, pa.Table]) -> bool:
        """Answer what is known, and the first portion; False, with nothing done, where it should not be answered so.

        See the function of this name for what is given.
        """
        try:
            is_ready = self._prepare(wanted)
        except OperationalError:
            self._drop()
            raise
        except DatabaseError:  # the statement itself will say what is wrong, if anything is
            is_ready = False
        if not is_ready:
            self._drop()
            return False
        self._guarded(self._answer_known)
        self._guarded(self._portion)
        self._left = time.monotonic()
        return True

    def _prepare(self, wanted: Mapping[Fill, pa.Table]) -> bool:
        """Number the open items; False if they are few, or their portions are not the answer's."""
        questions, unit = self.questions, self.portions.unit
        if any(root_of(fill, questions.relations)[0] != unit.table for fill in wanted):
            return False
        tables = {f"aidb_missing_{n}": items for n, items in enumerate(wanted.values())}
        texts = [units_of(f, name, unit, questions.relations) for f, name in zip(wanted, tables, strict=True)]
        rows = f"SELECT row_number() OVER (ORDER BY {self._columns}) - 1 AS __row, {self._columns}"
        questions.keep(self._open, f"{rows} FROM ({' UNION '.join(texts)})", **tables)
        self._count = questions.query(f"SELECT count(*) FROM {self._open}").column(0)[0].as_py()
        self._least = self._size = max(1, min([PLAIN_FIRST, *(self._batch(f) for f in wanted)]))
        least = self._size if questions.settings.stream == "on" else max(MANY, 4 * self._size)
        questions.keep(self._now, f"SELECT {self._columns} FROM {self._open} LIMIT 0")
        self._plan = plan_calls(
            self._text, questions.relations, questions.database.touched, questions.given(self._text)
        )
        if self._count <= least or self._plan.fallback is not None or not self._is_like(self._rebound().final):
            return False
        if len(wanted) == 1:  # of several models, one may spare others work
            questions.control.foreseen.update({fill.model: items.num_rows for fill, items in wanted.items()})
        self._meaning, self.version = self._means(), questions.database.shared.version
        return True

    def _answer_known(self) -> None:
        self.found.append(self.questions.database.execute(self._known, self.questions.given(self._known)))

    def _batch(self, fill: Fill) -> int:
        return self._statement.batch_size(fill) * self._statement.callers(fill)

    def _is_like(self, final: str) -> bool:
        """Does a portion have the columns of the whole?"""
        bound, describe = self.questions.bound, self.questions.database.described
        named = bind_parameters.Bound(final, None).sql
        return describe(named, bound.for_query(named)) == describe(self._known, bound.for_query(self._known))

    # ---- for readers

    @property
    def answer(self) -> Growing:
        """The rows."""
        return Growing(self.found[0].columns, self)

    def report(self) -> Report:
        """What it cost, once all is done."""
        self.hurry()
        while self.more(len(self.found)):
            pass
        assert self._report is not None
        return self._report

    def hurry(self) -> None:
        """See `Source`: the rest is one portion."""
        self._in_haste = True

    def more(self, n: int) -> bool:
        """See `Source`. Raises what ends the search, and `OperationalError` if it was ended before."""
        if self.is_done or len(self.found) > n:
            return len(self.found) > n
        self._check_given_up()
        with self._resumed():
            self.questions.control.started += time.monotonic() - self._left  # what readers did is not our time
            try:
                while not self.is_done and len(self.found) <= n:
                    self._check()
                    self._guarded(self._portion)
            finally:
                self._left = time.monotonic()
            return len(self.found) > n

    def end(self, why: str) -> None:
        """Find no more; ``why`` is for those who ask for it. What was found stays."""
        if not self.is_done and self._given_up is None:
            self._given_up = why
            self._drop()

    @property
    def is_open(self) -> bool:
        """Is there something left to find?"""
        return not self.is_done and self._given_up is None

    # ---- portions

    def _check_given_up(self) -> None:
        if self._given_up is not None:
            raise OperationalError(f"the rest of these rows is not to be had: {self._given_up}")

    def _means(self) -> object:
        """What must stay as it is: what names mean, and, where another connection might change them, the items."""
        bound, database = self._rebound(), self.questions.database
        names = sorted(self.portions.names)
        meaning = [
            bound.final,
            bound.planning,
            *((bound.relations.get(n), bound.relations.views.get(n)) for n in names),
        ]
        items = bound.relations.get(self.portions.unit.table)
        if database.shared.connections > 1 and items is not None:
            meaning += database.query(f"SELECT count(*), bit_xor(hash(t)) FROM {items.base} t").to_pylist()
        return meaning

    def _check(self) -> None:
        if self.version != (now := self.questions.database.shared.version) and self._means() == self._meaning:
            self.version = now
        if self.version != now:
            self.end("what tables or models mean has changed; finished work is kept, run the query again")
        self._check_given_up()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as e:
            what = (
                "it was interrupted" if isinstance(e, Interrupted | KeyboardInterrupt) else f"{type(e).__name__}: {e}"
            )
            self.end(f"{what}; finished work is kept, run the query again to go on")
            if isinstance(e, BudgetExceeded | Interrupted | ModelError):
                e.report = self._told(False)
            raise

    def _portion(self) -> None:
        """Ask about the next items, and answer for them; after the last ones, judge the whole."""
        questions, began, busy = self.questions, time.monotonic(), self._statement.busy
        last = self._count if self._in_haste else min(self._at + self._size, self._count)
        chosen = f"__row >= {self._at} AND __row < {last}"
        questions.keep(self._now, f"SELECT {self._columns} FROM {self._open} WHERE {chosen}")
        try:
            run_rounds(self._plan, self._statement, shares=self._shares)
        finally:
            questions.registry.forget_costs()
        if self.keeps_rows:
            answer = questions.database.execute(self._text, questions.given(self._text))
            if answer.rows:
                self.found.append(answer)
        self._at = last
        if last == self._count:
            self._finish()
        self._pace(time.monotonic() - began, self._statement.busy - busy)

    def _pace(self, seconds: float, busy: float) -> None:
        """Choose how many items are next, after a portion that took so many seconds, so many of them for its models."""
        factor = PORTION / max(seconds, 1e-3)
        if seconds - busy > OVERHEAD * seconds:
            factor = max(factor, 2.0)
        self._size = max(self._least, int(self._size * min(factor, GROWTH)))
        if self._count - self._at < self._size * 1.25:  # no small rest
            self._size = self._count - self._at

    def _finish(self) -> None:
        control = self.questions.control
        for model in {f.model for f in self._plan.fills}:
            control.judge_failures(model)
        control.raise_if_stopped()
        self._report = self._told(True)
        self.is_done = True
        self._drop()

    def _drop(self) -> None:
        self.when_over()
        for name in (self._open, self._now):
            with suppress(Error):  # of a database that is at an end
                self.questions.database.execute(f"DROP TABLE IF EXISTS temp.{name}")


class Streams:
    """The streams of one connection that are not done, and what other statements mean to them.

    A statement that may change something waits until every stream is done, so that each is answered as of its beginning. So
    does any statement for a stream that nobody has begun to read: it was run for what it stores, or will be read later. One
    that was begun, and whose reader is gone, is given up.
    """

    def __init__(self) -> None:
        self._all: dict[Stream, weakref.ref[Growing]] = {}

    def add(self, stream: Stream) -> Growing:
        """The answer of a stream that has begun."""
        answer = stream.answer
        if stream.is_open:
            self._all[stream] = weakref.ref(answer)
            stream.when_over = partial(self._forget, stream)
        return answer

    def _forget(self, stream: Stream) -> None:
        self._all.pop(stream, None)

    def settle(self, *, changes: bool, last: bool = False) -> None:
        """Before a statement: do what must be done first. changes: may it change something? last: will nobody read on?

        What goes wrong meanwhile is for the stream's reader; if there is none, or Ctrl-C came, it is raised here.
        """
        for stream, reader in list(self._all.items()):
            is_gone = last or reader() is None
            if stream.is_read and is_gone:
                stream.end("nobody reads them any more")
            elif changes or not stream.is_read:
                stream.keeps_rows = not is_gone
                try:
                    stream.report()
                except (Interrupted, KeyboardInterrupt):
                    raise
                except Error:
                    if is_gone:
                        raise

    @contextmanager
    def kept(self, version: Callable[[], int]) -> Iterator[None]:
        """While a statement runs that changes nothing that a stream reads, though it may declare something new."""
        before = version()
        yield
        for stream in self._all:
            if stream.version == before:
                stream.version = version()

    def end(self, why: str) -> None:
        """Give all up."""
        for stream in list(self._all):
            stream.end(why)
