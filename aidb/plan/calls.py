"""The planner of model calls: for any SELECT, which items must each model still see?

Every relation with something unknown is replaced by its possible rows, every predicate by one that no unknown value
can make false, and DuckDB says which items could still matter (`analysis`, `relax`, `joins`). Running those and asking
again until nothing is left makes the statement's own text give the answer that running everything would give. What the
analysis can't read is materialised whole: `CallPlan.fallback` says why.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from aidb.catalog.relations import Fill, Relations
from aidb.errors import DatabaseError, OperationalError
from aidb.plan.analysis import Analysis
from aidb.plan.names import Physical, depth, fills_of, is_row_each, unquoted, with_ancestors
from aidb.plan.nested import Unordered, candidate
from aidb.plan.nodes import CLOCK, function_name, parse
from aidb.plan.parameters import Bound, Parameters
from aidb.plan.possible import missing_items
from aidb.plan.scopes import Scope
from aidb.plan.sources import Ask, Fallback, Target
from aidb.plan.stopping import EarlyStop, early_stop
from aidb.plan.touching import Touching

Query = Callable[[str, Mapping[str, object]], pa.Table]
"""Runs SQL with named parameters (exactly those that it mentions) on a reading connection."""

Touched = Callable[[str], "set[str] | None"]
"""Names of stored tables that DuckDB's binder finds in a statement; None if it can't say."""


@dataclass(frozen=True)
class FillPlan:
    """What a statement asks of one fill, for EXPLAIN. items: how many are wanted now; missing: how many there are."""

    fill: Fill
    pruned: bool
    items: int
    missing: int


class CallPlan:
    """How one statement finds the items that it needs; good for all rounds of one execution.

    sql: the statement. fallback: why everything that it touches is materialised, or None. fills: all that it may run,
    ancestors first. limit: rows (LIMIT plus OFFSET) after which it may stop early, or None. ordered: whether that
    holds in the order of known columns only, item by item from the front.
    """

    def __init__(self, sql: str, relations: Relations, touched: Touched, parameters: Parameters) -> None:
        self.sql = sql
        self.fallback: str | None = None
        self._relations = relations
        self._candidates: list[tuple[Scope, Target, str]] = []
        self._everything: list[Fill] = []
        self._stop: EarlyStop | None = None
        self._analysis: Analysis | None = None
        self._asked: dict[Ask, list[tuple[Target, str]]] = {}
        self.reads_clock = False
        names: set[str] | None = None
        bound: Bound | None = None
        try:
            bound = Bound(sql, parameters)
            names = touched(bound.bare)
            self._bound = bound
            self._analyse(names)
        except Exception as error:  # whatever can't be read is materialised whole; the reason stays visible
            self._fall_back(f"{type(error).__name__}: {_plain(error)}", bound, names, touched)
        self._touched = names
        self._order_fills()

    def _analyse(self, names: set[str] | None) -> None:
        relations, bound = self._relations, self._bound
        tree = parse(bound.sql)
        touching = Touching(relations, tree)
        texts = [bound.sql, *(relations.views[v] for v in touching.views_read)]
        macros = [m for m in sorted(relations.macros) if any(_calls(m, text) for text in texts)]
        if macros:
            raise Fallback(f"the user's macro {macros[0]} may read anything")
        analysis = Analysis(relations, touching)
        analysis.statement(tree)
        if names is not None:
            self._check_seen(names, analysis, touching)
        self._candidates = [
            (scope, target, self._candidate(analysis, scope, target, Ask())) for scope, target in analysis.candidates
        ]
        self._everything = [f for name in sorted(analysis.everything) for f in self._all_fills(name)]
        self._analysis = analysis
        self.reads_clock = any(function_name(n) in CLOCK for n in tree.walk())
        if self._candidates:
            self._stop = early_stop(tree, bound, analysis)
        if self._stop is not None and self._stop.order and not self._can_order():
            self._stop = None

    def _check_seen(self, names: Iterable[str], analysis: Analysis, touching: Touching) -> None:
        """DuckDB's own binder sees through views, macros and shadowing; it must not see more than the analysis did."""
        physical = Physical(self._relations)
        for name in names:
            readers = physical.readers(name)
            unseen = [r for r in readers if touching.unknown_in(r)]
            if unseen and not any(r.name.lower() in analysis.seen for r in readers):
                raise Fallback(f"DuckDB reads {name}, which the analysis didn't see")

    def _fall_back(self, reason: str, bound: Bound | None, names: set[str] | None, touched: Touched) -> None:
        self.fallback = reason
        self._candidates = []
        self._stop = None
        if names is None:
            names = touched(bound.bare if bound is not None else self.sql)
        self._everything = touched_fills(self.sql, self._relations, names)
        self._touched = names

    def take_everything(self) -> None:
        """Give up pruning: all rows of everything that the statement touches are wanted from now on."""
        self._candidates = []
        self._stop = None
        self._everything = touched_fills(self.sql, self._relations, self._touched)
        self._order_fills()

    def leave_out(self, finished: Collection[Fill]) -> None:
        """Ask nothing about fills that have seen every item there is; ``fills`` still names them."""
        self._candidates = [c for c in self._candidates if any(s.fill not in finished for s in c[1].unknown.states)]
        self._everything = [f for f in self._everything if f not in finished]
        if not self.asks:
            self._stop = None

    @property
    def asks(self) -> bool:
        """Is there anything that may have to run? If not the statement's own text gives the answer at once."""
        return bool(self._candidates or self._everything)

    def _all_fills(self, name: str) -> list[Fill]:
        relation = self._relations.get(name)
        return [] if relation is None else [a for f in fills_of(relation) for a in with_ancestors(f, self._relations)]

    def _order_fills(self) -> None:
        """List the fills once each, ancestors first."""
        found = dict.fromkeys(self._everything)
        for _, target, _ in self._candidates:
            found |= dict.fromkeys(s.fill for s in target.unknown.states)
        self._everything = sorted(dict.fromkeys(self._everything), key=self.depth)
        self.fills: tuple[Fill, ...] = tuple(sorted(found, key=lambda f: (self.depth(f), f.id)))

    def depth(self, fill: Fill) -> int:
        """Return how many fills must run before this one."""
        return depth(fill, self._relations)

    def has_children(self, fills: Iterable[Fill]) -> bool:
        """May answers of these fills bring new items for other fills of this statement?"""
        chosen = set(fills)
        return any(chosen & set(with_ancestors(f, self._relations)[1:]) for f in self.fills)

    @property
    def limit(self) -> int | None:
        """See the class."""
        return None if self._stop is None else self._stop.rows

    @property
    def ordered(self) -> bool:
        """See the class."""
        return self._stop is not None and bool(self._stop.order)

    # Items

    def wanted(self, query: Query) -> dict[Fill, pa.Table]:
        """Return, for each fill, the items that can run now and may matter: distinct, columns named as ``fill.keys``.

        Fills without such items are left out; nothing is left when the statement's own text gives the full answer.
        A query that fails (a cast of a value that the full answer never meets) turns the plan into a fallback.
        """
        found = self._guarded(lambda: self._pruned(query, [(t, sql) for _, t, sql in self._candidates]))
        for fill in self._everything:
            items = query(missing_items(fill, self._relations), {})
            if items.num_rows:
                found.setdefault(fill, []).insert(0, items)
                found[fill] = found[fill][:1]  # all items: nothing that pruning found can add to them
        return {fill: _merged(fill, tables) for fill, tables in found.items()}

    def _guarded(self, run: Callable[[], dict[Fill, list[pa.Table]]]) -> dict[Fill, list[pa.Table]]:
        try:
            return run()
        except OperationalError:
            raise
        except DatabaseError as error:
            self._fall_back(f"a query for items failed: {_plain(error)}", self._bound, self._touched, lambda _: None)
            self._order_fills()
            return {}

    def _pruned(
        self, query: Query, candidates: Iterable[tuple[Target, str]], tail: str = ""
    ) -> dict[Fill, list[pa.Table]]:
        import pyarrow.compute as pc  # a tenth of a second to load: only for those who need it

        found: dict[Fill, list[pa.Table]] = {}
        for target, sql in candidates:
            text = sql if not tail else f"SELECT * FROM ({sql}) {tail}"
            rows = query(text, self._bound.for_query(text))
            if not rows.num_rows:
                continue
            deepest = [k.lower() for k in target.unknown.fill.keys]
            state = rows.column("__u")
            for n in pc.unique(state).to_pylist():
                fill = target.unknown.states[n - 1].fill
                part = rows if len(target.unknown.states) == 1 else rows.filter(pc.equal(state, n))
                columns = [part.column(f"__k{deepest.index(k.lower())}") for k in fill.keys]
                keys = pa.table(columns, names=list(fill.keys))
                found.setdefault(fill, []).append(keys if fill == target.unknown.fill and not tail else _distinct(keys))
        return found

    def survivors(self, fill: Fill, query: Query) -> pa.Table:
        """Return the items of a fill that have run and whose answers may still matter, as far as is known now."""
        ask = Ask(survivors_of=fill)
        tables = []
        for target, sql in self._ask(ask):
            deepest = [k.lower() for k in target.unknown.fill.keys]
            keys = ", ".join(f'__k{deepest.index(k.lower())} AS "{k}"' for k in fill.keys)
            text = f"SELECT DISTINCT {keys} FROM ({sql})"
            tables.append(query(text, self._bound.for_query(text)))
        return _merged(fill, tables) if tables else pa.table({k: pa.nulls(0) for k in fill.keys})

    def _ask(self, ask: Ask) -> list[tuple[Target, str]]:
        """Return the candidate queries for another question, made once."""
        if ask not in self._asked:
            assert self._analysis is not None
            self._asked[ask] = [
                (t, self._candidate(self._analysis, s, t, ask))
                for s, t, _ in self._candidates
                if ask.survivors_of is None or any(ask.survivors_of == st.fill for st in t.unknown.states)
            ]
        return self._asked[ask]

    def _candidate(self, analysis: Analysis, scope: Scope, target: Target, ask: Ask) -> str:
        unknown = target.unknown
        unique = len(unknown.states) == 1 and is_row_each(unknown.fill, self._relations)
        return candidate(analysis.joiner, scope, target, ask, unique)

    # Early stop

    def stop_nowhere(self) -> None:
        """Run to the end: LIMIT was not met by what is certain, so the statement's own text will give the answer.

        Rows whose virtual columns are unknown count again then: where nothing more is wanted, these can't matter.
        """
        self._stop = None

    def final(self) -> tuple[str, Mapping[str, object] | None]:
        """Return the statement that gives the answer after an early stop, and its parameters (None: as given).

        It is the statement itself, unless it reads virtual columns: then rows without them are left out.
        """
        if self._stop is None or self._stop.sql == self._bound.sql:
            return self.sql, None
        return self._stop.sql, self._bound.for_query(self._stop.sql)

    def is_enough(self, query: Query) -> bool:
        """Are as many rows certain as LIMIT asks for? False for a statement that can't stop early."""
        stop = self._stop
        if stop is None:
            return False
        if not stop.order:
            text = f"SELECT count(*) AS n FROM (\n{_without_semicolon(stop.sql)}\n)"
            return bool(_count(query(text, self._bound.for_query(text))) >= stop.visible)
        names = ", ".join(f"__o{n}" for n in range(len(stop.order)))
        ahead = " UNION ALL ".join(
            f"(SELECT 1 AS __side, {names} FROM ({sql}) ORDER BY {stop.sort} LIMIT 1)" for _, sql in self._in_order()
        )
        placed = (
            f"SELECT __side, rank() OVER (ORDER BY {stop.sort}) AS __place FROM ("
            f"(SELECT 0 AS __side, {names} FROM ({stop.certain}) ORDER BY {stop.sort} LIMIT {stop.rows})"
            f" UNION ALL {ahead})"
        )
        text = (
            f"WITH placed AS MATERIALIZED ({placed}) SELECT count(*) AS n FROM placed WHERE __side = 0 AND __place < "
            "ALL (SELECT __place FROM placed WHERE __side = 1)"
        )
        return bool(_count(query(text, self._bound.for_query(text))) >= stop.rows)

    def first_wanted(self, query: Query, count: int) -> dict[Fill, pa.Table]:
        """Return some wanted items, about ``count`` for each reference: those that come first in the statement's order."""
        assert self._stop is not None
        # Low states first: those items complete a row soonest. DuckDB stops at the first ones where all are alike.
        tail, candidates = f"LIMIT {count}", [(t, sql) for _, t, sql in self._candidates]
        if any(len(t.unknown.states) > 1 for t, _ in candidates):
            tail = f"ORDER BY __u {tail}"
        if self._stop.order:
            tail, candidates = f"ORDER BY {self._stop.sort}, __u LIMIT {count}", self._in_order()
        found = self._guarded(lambda: self._pruned(query, candidates, tail))
        return {fill: _merged(fill, tables) for fill, tables in found.items()}

    def _in_order(self) -> list[tuple[Target, str]]:
        assert self._stop is not None
        return self._ask(Ask(order=self._stop.order))

    def _can_order(self) -> bool:
        assert self._analysis is not None
        try:
            return bool(self._in_order())
        except Unordered:
            return False

    # EXPLAIN

    def explain(self, query: Query) -> list[FillPlan]:
        """Return what each fill would be asked for now; children of missing parents can't be counted yet."""
        wanted = self.wanted(query)
        whole = set(self._everything)
        return [
            FillPlan(
                fill,
                fill not in whole,
                wanted[fill].num_rows if fill in wanted else 0,
                _count(query(f"SELECT count(*) AS n FROM ({missing_items(fill, self._relations)})", {})),
            )
            for fill in self.fills
        ]


def plan_calls(sql: str, relations: Relations, touched: Touched, parameters: Parameters = None) -> CallPlan:
    """Plan the model calls of one SELECT; never raises for what it can't read, see `CallPlan.fallback`.

    touched: names of stored tables (as in `Relation.base`, without quotes) that DuckDB's binder finds, or None.
    parameters: values of ``?`` and ``$n`` (a sequence) or of ``$name`` (a mapping).
    """
    return CallPlan(sql, relations, touched, parameters)


def touched_fills(sql: str, relations: Relations, names: set[str] | None) -> list[Fill]:
    """Return every fill that a statement may read, ancestors included; ``names`` as DuckDB's binder gave them."""
    physical = Physical(relations)
    if names is not None:
        stored = [(n, physical.readers(n)) for n in names]
        direct = [f for n, _ in stored for f in physical.fills(n)]
        # A view over a relation may leave out a join that the optimizer proves useless, so take all of its fills.
        direct += [f for n, readers in stored for r in readers if unquoted(r.base) == unquoted(n) for f in fills_of(r)]
    else:
        words = set(re.findall(r"\w+", sql.lower()))
        indirect = any(_named(v, sql, words) for v in (*relations.views, *relations.macros))
        direct = [f for r in relations.tables.values() if indirect or _named(r.name, sql, words) for f in fills_of(r)]
    return list(dict.fromkeys(a for f in direct for a in with_ancestors(f, relations)))


def _named(name: str, sql: str, words: set[str]) -> bool:
    return name.lower() in words or name.lower() in sql.lower()


def _calls(function: str, sql: str) -> bool:
    return re.search(rf'\b{re.escape(function)}"?\s*\(', sql, re.IGNORECASE) is not None


def _plain(error: Exception) -> str:
    """What an error says, in one line; sqlglot underlines with escapes meant for terminals."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().partition("\n")[0]


def _without_semicolon(sql: str) -> str:
    return sql.rstrip().rstrip(";")


def _count(table: pa.Table) -> int:
    return int(table.column(0)[0].as_py())


def _merged(fill: Fill, tables: list[pa.Table]) -> pa.Table:
    """Return the distinct union of tables of keys."""
    if len(tables) == 1:
        return tables[0].select(list(fill.keys))
    tables = [t for t in tables if t.num_rows] or tables[:1]
    schema = tables[0].schema
    return _distinct(pa.concat_tables([t if t.schema == schema else t.cast(schema) for t in tables]))


def _distinct(table: pa.Table) -> pa.Table:
    """Return the distinct rows; keys of nested types, which Arrow can't group, are compared one by one."""
    if table.num_rows < 2:
        return table
    try:
        return table.group_by(table.column_names, use_threads=False).aggregate([]).select(table.column_names)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        first = {repr(row): n for n, row in reversed(list(enumerate(table.to_pylist())))}
        return table.take(sorted(first.values()))
