"""One statement from text to answer: parse, bind, plan, run models, let DuckDB answer, report."""

from __future__ import annotations

import atexit
import os
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TypeVar

import pyarrow as pa

from aidb.catalog.names import quoted
from aidb.catalog.relations import Fill, Relation
from aidb.errors import BudgetExceeded, InterfaceError, Interrupted, ModelError, NotSupportedError, ProgrammingError
from aidb.exec import streaming
from aidb.exec.changes import ModelsChanged, again
from aidb.exec.checked import catalog
from aidb.exec.control import Control, Limits, Progress
from aidb.exec.define import Definer
from aidb.exec.explain import COLUMNS, Explanation, analysed, estimate, unpruned
from aidb.exec.finished import Finished
from aidb.exec.guarantees.clauses import capped, check_names, check_oracle, needs_sampling, useless
from aidb.exec.guarantees.questions import Questions
from aidb.exec.inner import has_no_data, with_inner
from aidb.exec.materialiser import Connectors, Materialiser
from aidb.exec.models import PYTHON, ModelPool
from aidb.exec.pipeline import Worker
from aidb.exec.registry import Registry
from aidb.exec.reporting import report_of
from aidb.exec.rounds import run_rounds
from aidb.exec.secrets import kept_text
from aidb.exec.settings import Settings
from aidb.exec.showing import listing
from aidb.exec.snapshot import Functions
from aidb.exec.streaming import Streams, may_stream
from aidb.exec.writing import Writing, moves_away
from aidb.plan import parameters as bind_parameters
from aidb.plan.calls import CallPlan, plan_calls
from aidb.report import Report
from aidb.spi import Connector, Model
from aidb.sql.bind import Bound, bind
from aidb.sql.parse import inner_query, parse
from aidb.sql.render import relation_sql
from aidb.sql.select_list import aggregates_in
from aidb.sql.statements import (
    AttachMaterialized,
    CheckCatalog,
    CreateProxy,
    CreateSemanticIndex,
    Native,
    Query,
    Refresh,
    SetOption,
    Show,
    Statement,
)
from aidb.storage.answer import Answer
from aidb.storage.database import Database, Parameters
from aidb.storage.schema import INTERNAL
from aidb.storage.translated import translated

EXIT_GRACE = 10.0
"""Seconds that a process which forgot to close its connections waits, before it ends, for batches in flight."""

T = TypeVar("T")

_open: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    for engine in list(_open):
        engine.close(EXIT_GRACE)


_DESCRIBES = re.compile(r"\s*(DESCRIBE|DESC|SHOW)\b", re.IGNORECASE)
"""What asks for a table's columns needs none of its rows."""


@dataclass(frozen=True)
class Outcome:
    """What a statement gave: DuckDB's answer, a sentence for definitions, and the report.

    told: the report, or what finds the rows that are still to come and makes it then.
    """

    answer: Answer
    told: Report | Callable[[], Report]
    message: str | None = None

    @property
    def report(self) -> Report:
        """What the statement did."""
        return self.told if isinstance(self.told, Report) else self.told()


class Engine:
    """A database with its models; one statement at a time."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.database = Database(path, read_only=read_only)
        self.pool = ModelPool()
        self.registry = Registry(self.database, self.pool)
        self.connectors = Connectors()
        self.materialiser = Materialiser(self.database, self.registry, self.connectors)
        self._finished = Finished(self.database)
        self.settings = Settings()
        self.progress: Callable[[Progress], None] | None = None
        _open.add(self)
        self._control: Control | None = None
        self._one = threading.RLock()
        self._shown_views: list[list[Relation]] = []
        self._definer = Definer(
            self.database, self.registry, self.pool, self.connectors, self._prepared, self._check_running
        )
        self.streams = Streams()
        self._writing = Writing(self.registry, self._definer.drop_columns)

    # ---- life
    def register(self, model: Model, name: str) -> str:
        """Make a Python object usable in SQL as a model."""
        with self.turn():
            self.streams.settle(changes=True)
            return self._definer.register(name, PYTHON, {}, model)

    def register_connector(self, connector: Connector) -> None:
        """Make a Python object usable after FROM ... USING."""
        self.connectors.add(connector)

    def interrupt(self) -> None:
        """Stop the running statement, from any thread; what is finished is kept."""
        control = self._control
        if control is not None:
            control.interrupt()
        self.database.interrupt()

    def close(self, seconds: float | None = None) -> None:
        """Finish what is in flight, for ``seconds`` at most if they are given; close models and the file."""
        deadline = None if seconds is None else time.monotonic() + seconds
        try:
            if deadline is None:
                self.streams.settle(changes=False, last=True)
        finally:
            self.streams.end("the connection is closed")
            with suppress(TimeoutError):
                self._close(deadline)

    def _close(self, deadline: float | None) -> None:
        def wait() -> None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError

        _open.discard(self)
        try:
            self.materialiser.settle(wait)
        finally:  # a second Ctrl-C gives up what is in flight
            self.materialiser.close()
            self.pool.close()
            self.database.close()

    # ---- statements
    def run(self, sql: str, parameters: Parameters = None) -> Outcome:
        """Run one statement."""
        with self.turn():
            statement = parse(sql)
            self.streams.settle(changes=not isinstance(statement, Query | Show | SetOption))
            with self.streams.kept(lambda: self.database.shared.version):
                return self._again(lambda: self._run(statement, parameters))

    def _run(self, statement: Statement, parameters: Parameters) -> Outcome:
        match statement:
            case Query():
                return self._query(statement, parameters)
            case Native():
                return self._native(statement.sql, parameters)
            case SetOption():
                self._definer.access.demand_settings()
                self.settings = self.settings.changed(statement.name, statement.value)
                return self._said(None)
            case CheckCatalog():
                answer, sound = catalog(self.database)
                return Outcome(answer, Report(), sound)
            case Show():
                return Outcome(self.database.execute(listing(statement)), Report())
            case CreateProxy() | CreateSemanticIndex() | Refresh(kind="proxy" | "semantic index"):
                return self._declare_proxy(statement)
            case AttachMaterialized():
                with self._running() as control, self.materialiser.turn(control.check):
                    return self._said(self._definer.run(statement), report_of(control))
            case _:
                with self._running() as control:
                    message = self._definer.run(statement)
                    return self._said(message, report_of(control))

    def _declare_proxy(self, statement: CreateProxy | CreateSemanticIndex | Refresh) -> Outcome:
        from aidb.exec.proxies.declaring import Asking, Declaring  # numpy and scipy, for those who need them

        with self._running() as control:
            exact, check = (lambda sql: self._exact(sql, control)), self._definer.check_can_define
            asking = Asking(self.database, self.registry, exact, self._fills, check, self.settings.seed)
            return self._said(Declaring(asking).run(statement), report_of(control))

    def explain(self, sql: str, parameters: Parameters = None) -> Explanation:
        """What a query would cost; runs no model."""
        with self.turn():
            return self._again(lambda: self._explain(sql, parameters))

    def _again(self, work: Callable[[], T]) -> T:
        """Do it; once more if it turns out at the planning that models are not what they were."""
        ended = "a model is not what it was; finished work is kept, run the query again"
        return again(work, lambda: self.streams.end(ended))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One statement at a time, whichever threads ask; only `interrupt` needs no turn."""
        thread = threading.current_thread()
        if isinstance(thread, Worker) and thread.control is self._control:
            raise InterfaceError(
                "a model can't run SQL on the connection that waits for its answer: let it connect on its own"
            )
        with self._one, translated():  # whatever an interrupt meets in between
            yield

    def _explain(self, sql: str, parameters: Parameters) -> Explanation:
        statement = parse(sql)
        if isinstance(statement, Native) and (span := inner_query(sql)) is not None:
            statement = parse(sql[span[0] : span[1]])
        if isinstance(statement, Query):
            return self._foretell(statement, parameters)
        needs = self._writing.read(sql).needs if isinstance(statement, Native) else ()
        if not needs:
            raise ProgrammingError("only a query can be explained, or a statement that reads what models fill")
        return unpruned(self._explain(query, None) for query in needs)

    def _foretell(self, statement: Query, parameters: Parameters) -> Explanation:
        notes = self._check_guarantee(statement)
        with self._bound(statement.core) as bound:
            plan = self._plan(bound, parameters)
            if plan is None:
                return Explanation((), ("DuckDB answers this alone: no model is needed", *notes))
            check_oracle(statement.guarantee, (f.model for f in plan.fills))
            whole = estimate(plan, self._query_with, self.registry, (*bound.notes, *notes))
            if not needs_sampling(statement):
                return whole
            from aidb.exec.guarantees import foretold  # numpy and scipy, for those who need them

            assert statement.guarantee is not None
            questions = self._questions(bound, parameters, Control(), statement.core)
            exact = lambda sql: self._exact(sql, questions.control)  # noqa: E731
            return foretold.explanation(
                questions, statement.guarantee, whole, lambda sql: self._explain(sql, None), exact
            )

    def _query_with(self, sql: str, parameters: Parameters = None) -> object:
        return self.database.query(sql, parameters)

    # ---- queries
    def _query(self, statement: Query, parameters: Parameters) -> Outcome:
        if statement.explain in ("explain", "cost"):
            explanation = self._foretell(statement, parameters)
            if statement.explain == "explain" and not explanation.models:
                return Outcome(self.database.execute(statement.sql, parameters), Report())
            return self._explained(explanation, Report())
        if statement.explain == "analyze":
            explanation = self._foretell(statement, parameters)
            if not explanation.models:
                return Outcome(self.database.execute(statement.sql, parameters), Report())
            outcome = self._query(replace(statement, explain="no"), parameters)
            return self._explained(analysed(explanation, outcome.report), outcome.report)
        notes = self._check_guarantee(statement)
        with self._running() as control, self._bound(statement.core) as bound:
            plan = self._plan(bound, parameters)
            check_oracle(statement.guarantee, () if plan is None else (f.model for f in plan.fills))
            if plan is not None and needs_sampling(statement):
                return self._guaranteed(statement, bound, plan, parameters, control)
            control.limits = capped(control.limits, statement.guarantee)
            if plan is None or _DESCRIBES.match(statement.core):
                return Outcome(self.database.execute(bound.final, parameters), report_of(control, notes=notes))
            before = self._leave_out_finished(plan, bound, control)
            if plan.asks:
                # A typo must not cost what the right query would.
                self.database.check(bound.final, parameters)
            wanted = None

            def told(is_done: bool = True) -> Report:
                report = report_of(control, plan, before, (*bound.notes, *notes))
                if is_done:
                    self._log(statement.sql, report)
                return report

            if may_stream(self.settings, control.limits, plan):
                try:
                    wanted = plan.wanted(lambda sql, given: self.database.query(sql, dict(given)))
                except Interrupted as e:
                    raise Interrupted(str(e), told(False)) from e
                questions = self._questions(bound, parameters, control, statement.core)
                stream = streaming.begin(
                    questions,
                    plan,
                    wanted,
                    lambda: bind(statement.core, self.registry.snapshot(), Functions(self.registry)),
                    lambda: self._resumed(control, bound),
                    told,
                )
                if stream is not None:
                    return Outcome(self.streams.add(stream), stream.report)
            final, given = self._materialise(plan, bound, parameters, control, before, wanted)
            try:
                answer = self.database.execute(final, given)
            except Interrupted as e:
                raise Interrupted(str(e), report_of(control, plan, before)) from e
            return Outcome(answer, told())

    @contextmanager
    def _resumed(self, control: Control, bound: Bound) -> Iterator[None]:
        """Go on with a statement whose rows are still being found."""
        with self.turn(), self._running(control), self._shown(bound):
            yield

    def _materialise(
        self,
        plan: CallPlan,
        bound: Bound,
        parameters: Parameters,
        control: Control,
        before: Counter[str] | None = None,
        wanted: Mapping[Fill, pa.Table] | None = None,
    ) -> tuple[str, Parameters]:
        """Run the models that the plan needs; the SQL that answers then, and its parameters.

        before: what `_leave_out_finished` gave, if it was called. wanted: what the plan wants first, if it was asked.
        """
        if before is None:
            before = self._leave_out_finished(plan, bound, control)
        statement = self.materialiser.begin(control, self.settings, bound.relations, parameters)
        try:
            run_rounds(plan, statement, optimise=self.settings.optimizer, wanted=wanted)
            for model in {f.model for f in plan.fills}:
                control.judge_failures(model)
            control.raise_if_stopped()
        except (BudgetExceeded, Interrupted, ModelError) as e:
            e.report = report_of(control, plan, before)
            raise
        finally:
            self.registry.forget_costs()
        final, given = plan.final()
        if given is None and final == plan.sql:
            return bound.final, parameters
        return final, parameters if given is None else given

    @contextmanager
    def _bound(self, core: str) -> Iterator[Bound]:
        """A query with its model functions resolved; synthetic relations are temporary views meanwhile."""
        self._writing.check(core)
        bound = bind(core, self.registry.snapshot(), Functions(self.registry))
        with self._shown(bound):
            yield bound

    @contextmanager
    def _shown(self, bound: Bound) -> Iterator[None]:
        """Synthetic relations are temporary views meanwhile."""
        synthetic = [] if bound.planning == bound.final else self._synthetic(bound)
        views = [bound.relations.tables[name] for name in synthetic]
        self._show_views(views)
        self._shown_views.append(views)
        try:
            yield
        finally:
            self._shown_views.pop()
            for relation in views:
                self.database.execute(f"DROP VIEW IF EXISTS temp.{quoted(relation.name)}")
            if self._shown_views:  # a query inside another one's may have used the same names
                self._show_views(self._shown_views[-1])

    def _show_views(self, views: list[Relation]) -> None:
        for relation in views:
            self.database.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(relation.name)} AS {relation_sql(relation)}")

    @staticmethod
    def _synthetic(bound: Bound) -> list[str]:
        return [name for name in bound.relations.tables if name.startswith("__aidb")]

    def _plan(self, bound: Bound, parameters: Parameters) -> CallPlan | None:
        """The plan of a query, or None if it touches nothing of ours."""
        touched = self.database.touched(bound.planning)
        ours = touched is None or any(n.startswith(f"{INTERNAL}.") for n in touched)
        if not ours and not self.database.has_begun:
            return None
        plan = plan_calls(bound.planning, bound.relations, self.database.touched, parameters)
        if not plan.fills:
            return None
        if any(self.registry.refresh_fingerprint(m) for m in {f.model for f in plan.fills}):
            raise ModelsChanged
        return plan

    def _prepared(self, query: str) -> str:
        """Materialise what a query inside another statement needs; the SQL to put in its place."""
        statement = parse(query)
        if not isinstance(statement, Query):
            raise ProgrammingError("a SELECT is needed here")
        self._refuse_guarantee(statement)
        control = self._control or Control(self._limits(), self.progress)
        with self._bound(statement.core) as bound:
            plan = self._plan(bound, None)
            if plan is None or bound.planning != bound.final:
                if plan is not None:
                    self._materialise(plan, bound, None, control)
                return bound.final
            self._materialise(plan, bound, None, control)
            return statement.core

    # ---- other statements
    def _native(self, sql: str, parameters: Parameters) -> Outcome:
        """DuckDB's own statement; models run first for a SELECT inside it."""
        self.registry.catch_up()
        self._writing.read(sql)  # what may not be written is refused before any model runs for it
        span = inner_query(sql)
        inner = parse(sql[span[0] : span[1]]) if span is not None else None
        words = sql[: span[0]].upper().split() if span is not None else []
        with self._running() as control:
            if span is None or not isinstance(inner, Query) or (words[:1] == ["CREATE"] and "VIEW" in words):
                if isinstance(inner, Query):
                    self._refuse_guarantee(inner)
                    self._check_view(inner)
                    return Outcome(self._write(sql, parameters, prune=True), report_of(control))
                return Outcome(self._write(sql, parameters), report_of(control))
            self._refuse_guarantee(inner)
            with self._bound(inner.core) as bound:
                plan = self._plan(bound, parameters)
                before: Counter[str] = Counter()
                middle = bound.final if bound.final != inner.core else sql[span[0] : span[1]]
                text, given = sql[: span[0]] + middle + sql[span[1] :], parameters
                if plan is not None and not has_no_data(sql[span[1] :]):
                    before = self._leave_out_finished(plan, bound, control)
                    final, changed = self._materialise(plan, bound, parameters, control, before)
                    if final != bound.final:
                        # LIMIT stopped early: rows whose answers are still missing are none to choose from.
                        text, given = with_inner(sql, span, final, changed, parameters)
                answer = self._write(text, given, prune=True)
                return Outcome(answer, report_of(control, plan, before))

    def _check_view(self, inner: Query) -> None:
        """A view is DuckDB's, which knows no models."""
        bound = bind(inner.core, self.registry.snapshot(), Functions(self.registry))
        if bound.planning != bound.final:
            raise NotSupportedError(
                "a view can't call a model: CREATE VIRTUAL TABLE name AS model(...), or ALTER TABLE ... ADD VIRTUAL COLUMN, "
                "and let the view select from that; it shows the same answers"
            )

    def _write(self, sql: str, parameters: Parameters, *, prune: bool = False) -> Answer:
        """Run a statement that may change something. prune: what the query inside of it needs is there already."""
        write = self._writing.read(sql)
        for query in () if prune and not write.asks else write.needs:
            self._prepared(query)
        if write.then is None:
            self.database.begin_to_write(sql)
            where = self.database.place() if moves_away(sql) else None
            answer = self.database.execute(write.sql, parameters)
            if where is not None:
                self.database.stay(where)
        else:
            with self.registry.changing():
                answer = self.database.execute(write.sql, parameters) if write.sql else Answer()
                write.then()
        if write.changes_names:
            self.registry.forget_natives(functions=write.changes_functions)
        return answer

    def _check_running(self) -> None:
        if self._control is not None:
            self._control.check()

    # ---- guarantees
    def _guaranteed(
        self, statement: Query, bound: Bound, plan: CallPlan, parameters: Parameters, control: Control
    ) -> Outcome:
        """Answer from a sample, as the clauses allow."""
        from aidb.exec.guarantees import running  # numpy and scipy, for those who need them

        assert statement.guarantee is not None
        before = self._leave_out_finished(plan, bound, control)
        self.database.check(bound.final, parameters)
        try:
            questions = self._questions(bound, parameters, control, statement.core)
            found = running.run(
                questions, statement.guarantee, lambda sql: self._exact(sql, control), plan, kept_text(statement.sql)
            )
        except (BudgetExceeded, Interrupted, ModelError) as e:
            e.report = report_of(control, plan, before)
            raise
        report = report_of(control, plan, before, (*bound.notes, *found.notes))
        told = [f.name for f in fields(found) if f.name not in ("answer", "notes", "sql")]
        report = replace(report, **{name: getattr(found, name) for name in told})
        self._log(statement.sql, report)
        return Outcome(found.answer, report)

    def _questions(self, bound: Bound, parameters: Parameters, control: Control, written: str) -> Questions:
        return Questions(
            self.database,
            self.registry,
            self.materialiser,
            self.settings,
            control,
            bound.relations,
            bind_parameters.Bound(bound.planning, parameters),
            written,
        )

    def _exact(self, sql: str, control: Control) -> pa.Table:
        """The exact answer to a query that a guarantee's executor asks in the user's dialect."""
        with self._bound(sql) as bound:
            plan = self._plan(bound, None)
            if plan is not None:
                self._materialise(plan, bound, None, control)
            return self.database.query(bound.final)

    def _fills(self, sql: str) -> Sequence[Fill]:
        """What a query asks models for, once DuckDB has found it right."""
        with self._bound(sql) as bound:
            plan = self._plan(bound, None)
            self.database.check(bound.final)
            return () if plan is None else plan.fills

    def _check_guarantee(self, statement: Query) -> tuple[str, ...]:
        """What is wrong with the clauses is said before anything runs; notes on those that change nothing."""
        guarantee = statement.guarantee
        if guarantee is None:
            return ()
        check_names(guarantee, self.registry)
        if not self._asks_models(statement):
            return (
                "the guarantee clauses change nothing: the query touches no virtual column and is answered exactly, 0 calls",
            )
        if guarantee.error is not None and not aggregates_in(statement.core):
            raise ProgrammingError(
                "ERROR TARGET needs an aggregate in the SELECT list; for rows, RECALL TARGET 90% finds a share of them"
            )
        return () if needs_sampling(statement) else useless(guarantee)

    def _refuse_guarantee(self, statement: Query) -> None:
        """What is stored by another statement must be exact."""
        self._check_guarantee(statement)
        if statement.guarantee is not None and self._asks_models(statement):
            raise NotSupportedError(
                "guarantee clauses belong to a query whose answer is shown, with its report: run it by itself, or leave "
                "the clauses out here for the exact answer"
            )

    def _asks_models(self, statement: Query) -> bool:
        with self._bound(statement.core) as bound:
            return self.database.touched(bound.planning) != set() and self._plan(bound, None) is not None

    # ---- reports
    @contextmanager
    def _running(self, control: Control | None = None) -> Iterator[Control]:
        """The control of a statement, its own if it has one already, open to `interrupt` while it runs."""
        outer = self._control
        control = control or outer or Control(self._limits(), self.progress if self.settings.progress else None)
        self._control = control
        try:
            yield control
        except KeyboardInterrupt as e:
            control.stop(e)
            raise
        finally:
            self._control = outer

    def _limits(self) -> Limits:
        s = self.settings
        return Limits(s.max_calls, s.max_seconds, s.max_cost, s.on_error, s.max_error_ratio)

    def _leave_out_finished(self, plan: CallPlan, bound: Bound, control: Control) -> Counter[str]:
        """Spare the plan the questions that are known to find nothing; items that are over, by model."""
        finished, over = self._finished.among(plan.fills, bound.relations)
        control.before.add(over)
        plan.leave_out(finished)
        return over.done

    def _log(self, sql: str, report: Report) -> None:
        """Keep the query and its report, where something can be written."""
        if self.database.read_only or not self.database.is_aidb:
            return
        self.materialiser.writer().log(kept_text(sql), report.json(), datetime.now(UTC).replace(tzinfo=None))

    def _said(self, message: str | None, report: Report | None = None) -> Outcome:
        return Outcome(Answer(), report or Report(), message)

    def _explained(self, explanation: Explanation, report: Report) -> Outcome:
        table = explanation.table()
        return Outcome(Answer(COLUMNS, table.num_rows, table=table), report, str(explanation))
