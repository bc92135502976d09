"""Which proxy orders the items of a statement: the one that it names, or the best that is there already.

Of those that nobody named only such are taken that were made for the query's own condition, or that cost no model call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from aidb.catalog.definitions import IndexDefinition, ProxyDefinition
from aidb.catalog.names import quoted, same
from aidb.catalog.relations import Fill
from aidb.errors import ProgrammingError
from aidb.exec.guarantees.answered import ANSWERED, Answered
from aidb.exec.guarantees.items import OPEN, Items
from aidb.exec.guarantees.scoring import Expression, Learned, Proxy, Spread, agreement
from aidb.exec.guarantees.written import Written
from aidb.exec.proxies.declaring import features_of, said_of
from aidb.exec.proxies.expressions import Names, expression, of_rows
from aidb.exec.proxies.reading import Exact
from aidb.plan.parts import Shares
from aidb.sql.statements import Call, Guarantee

LEAST_KNOWN = 30
"""Known answers by which a column that happens to be there is judged."""
LEAST_EVIDENCE = 3.0
"""Standard deviations that its correlation with them must lie above none: the best of several is looked for."""
_TELLING = ("confidence", "probability", "prob", "score", "likelihood", "similarity")
"""Names of outputs that order items where nothing is known yet."""
_NUMBERS = ("FLOAT", "DOUBLE", "DECIMAL", "REAL")


@dataclass(frozen=True)
class Choice:
    """proxy: None for uniform sampling. notes: why, for the report."""

    proxy: Proxy | None
    notes: tuple[str, ...] = ()


class Output(NamedTuple):
    """A column that a model has filled, and the proxy that it makes."""

    fill: Fill
    column: str
    proxy: Expression


class Proxies:
    """The proxies that could serve one statement."""

    def __init__(self, items: Items, shares: Shares | None = None) -> None:
        """shares: of a statement with an error target."""
        self.items, self.shares = items, shares
        questions = items.questions
        self.registry = questions.registry
        relation = questions.relations.get(items.unit.table)
        self.table = items.unit.table if relation is None else relation.name
        self.names = Names(
            self.table,
            items.unit.keys,
            questions.relations,
            self.registry.models,
            self.registry.proxies,
            self.registry.indexes,
        )
        self.written = Written.of(questions.written or questions.sql, self.table)

    def choose(self, guarantee: Guarantee, exact: Exact, *, search: bool = False) -> Choice:
        """The proxy that the statement names, else the best that is there. Raises `ProgrammingError` for a wrong name.

        search: for a LIMIT, which is served by embeddings of whose items nothing is known.
        """
        if guarantee.proxy is not None:
            return Choice(self.named(guarantee.proxy))
        if not self.items.n or (guarantee.method is not None and guarantee.method.name == "uniform"):
            return Choice(None)
        made = self._registered()
        if made.proxy is None:
            found = self._index(search=search) or self._stored(exact)
            made = made if found is None else Choice(found.proxy, (*made.notes, *found.notes))
        return made

    def named(self, call: Call) -> Proxy:
        """A proxy by its name or expression."""
        low = call.name.lower()
        if call.args is None and low in self.registry.proxies:
            return self._made(self.registry.proxies[low])
        if call.args is None and low in self.registry.indexes:
            index = self.registry.indexes[low]
            self._check_table("semantic index", index.name, index.table)
            return self._spread(index, strict=False)
        sql = expression(call, self.names)
        return Expression(str(call), sql, self.written.place(self.table, sql) if call.args is not None else None)

    def _made(self, proxy: ProxyDefinition) -> Proxy:
        self._check_table("proxy", proxy.name, proxy.table)
        using = Call(proxy.using, proxy.args)
        features = features_of(using, self.names, learned=proxy.learned is not None)
        if proxy.learned is None and proxy.calibration is None:
            return Expression(proxy.name, features[0])
        return Learned(proxy, tuple(features))

    def _check_table(self, kind: str, name: str, table: str) -> None:
        if not same(table, self.table):
            raise ProgrammingError(
                f"the {kind} {name} is for rows of {table}, and this query asks about rows of {self.table}"
            )

    # ---- where none is named

    def _registered(self) -> Choice:
        """The best of the proxies that were made for this condition; without one, why those that were are left aside."""
        current: set[str] | None = None
        found: list[tuple[int, float, ProxyDefinition]] = []
        notes: list[str] = []
        for proxy in self.registry.proxies.values():
            covers = self.written.matches(proxy.target, self.table) if same(proxy.table, self.table) else 0
            if not covers:
                continue
            if proxy.useless:
                notes.append(f"the proxy {proxy.name} was left aside: {said_of(proxy)}")
                continue
            current = set(self.registry.current_fills()) if current is None and proxy.rests else current
            if proxy.rests and not set(proxy.rests) <= (current or set()):
                notes.append(f"the proxy {proxy.name} was left aside: a model behind it has changed, REFRESH PROXY")
                continue
            found.append((covers, (proxy.quality or {}).get("auc", 0.5), proxy))
        if not found:
            return Choice(None, tuple(notes))
        best = max(found, key=lambda f: (f[0], f[1]))[2]
        try:
            made = self._made(best)
        except ProgrammingError as e:
            return Choice(None, (f"the proxy {best.name} was left aside: {e}", *notes))
        why = f"the proxy {best.name} was chosen, as it was made for ({best.target}): {said_of(best)}"
        return Choice(made, (why, *notes))

    def _index(self, *, search: bool) -> Choice | None:
        """The semantic index of the table that was made last, if enough is answered for it to spread."""
        ours = [i for i in self.registry.indexes.values() if same(i.table, self.table)]
        if not ours or (not search and len(Answered.of(self.items, self.shares).places) < LEAST_KNOWN):
            return None
        made = self._spread(ours[-1], strict=True)
        return Choice(made, (f"the semantic index {made.name} was chosen: no proxy was made for this condition",))

    def _spread(self, index: IndexDefinition, *, strict: bool) -> Spread:
        features = features_of(Call(index.using, index.args), self.names, learned=True)
        return Spread(index, tuple(features), self.shares, strict)

    def _stored(self, exact: Exact) -> Choice | None:
        """A numeric output of another model that is there for every item, if it says something of known answers."""
        candidates = [c for c in self._outputs() if self._is_complete(c, OPEN)]
        if not candidates:
            return None
        answered = Answered.of(self.items, self.shares)
        known = answered.values[answered.places >= self.items.n]
        if len(known) < LEAST_KNOWN or np.ptp(known) == 0:
            telling = next((c for c in candidates if c.column.lower() in _TELLING), None)
            if telling is None:
                return None
            return Choice(
                telling.proxy, (f"{telling.proxy.name} was chosen for its name: it is stored for every item",)
            )
        candidates = [c for c in candidates if self._is_complete(c, ANSWERED)]
        marks = [agreement(c.proxy.values(self.items, exact, ANSWERED), known) for c in candidates]
        best = int(np.argmax(marks)) if marks else 0
        if not marks or marks[best] < LEAST_EVIDENCE:
            return None
        said = f"it is stored for every item, and agrees with {len(known):,} known answers"
        return Choice(candidates[best].proxy, (f"{candidates[best].proxy.name} was chosen: {said}",))

    def _outputs(self) -> Iterator[Output]:
        """Numeric columns of fills that the query does not ask."""
        asked = {f.ledger for f in self.items.questions.plan(self.items.parts.counts(only=OPEN)).fills}
        unit = self.names.relation
        for relation in self.names.beside():
            assert relation.fill is not None
            if relation.fill.ledger not in asked:
                for column in self._numeric(relation.name, relation.fill.outputs):
                    proxy = Expression(f"max({relation.name}.{column})", of_rows(relation, column, self.names))
                    yield Output(relation.fill, column, proxy)
        for extension in unit.extensions:
            if extension.fill.ledger not in asked:
                for column in self._numeric(unit.name, tuple(extension.columns)):
                    yield Output(extension.fill, column, Expression(column, f"{quoted(unit.name)}.{quoted(column)}"))

    def _numeric(self, relation: str, columns: tuple[str, ...]) -> list[str]:
        types = self.registry.column_types(relation)
        return [c for c in columns if types.get(c.lower(), "").startswith(_NUMBERS) and "[" not in types[c.lower()]]

    def _is_complete(self, output: Output, among: str) -> bool:
        """Has the model seen every item of a table?"""
        fill, unit = output.fill, self.items.unit
        if tuple(k.lower() for k in fill.keys) != tuple(k.lower() for k in unit.keys):
            return False
        same_key = "IS NOT DISTINCT FROM" if unit.null_safe else "="
        on = " AND ".join(f"l.{quoted(k)} {same_key} o.__k{n}" for n, k in enumerate(fill.keys))
        missing = self.items.questions.query(
            f"SELECT 1 FROM {among} o WHERE NOT EXISTS (SELECT 1 FROM {fill.ledger} l WHERE {on}) LIMIT 1"
        )
        return not missing.num_rows
