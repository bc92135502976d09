"""CREATE PROXY, CREATE SEMANTIC INDEX and REFRESH of either: models run first, then the definition is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

from aidb.catalog.definitions import IndexDefinition, ProxyDefinition
from aidb.catalog.names import quoted
from aidb.catalog.relations import Fill, Relation
from aidb.errors import ProgrammingError, UnknownName
from aidb.exec.proxies import learning
from aidb.exec.proxies.expressions import Names, expression
from aidb.exec.proxies.reading import Exact, Place, kinds, numbers, query, read, vectors
from aidb.exec.registry import Registry
from aidb.sql.statements import Call, CreateProxy, CreateSemanticIndex, Refresh
from aidb.sql.tokens import scan
from aidb.stats.index import build
from aidb.storage.database import Database

CHOSEN = "__aidb_chosen"
"""Temporary table of the items that are read now."""

_OPTIONS: Mapping[str, object] = {"representatives": 1000, "share": 0.75, "method": "farthest"}


@dataclass(frozen=True)
class Asking:
    """What the statements here may do with the engine.

    exact: answers a query of the user's dialect. fills: what a query would ask models for, once DuckDB finds it right; both
    raise what is wrong with it. check: raises if nothing can be declared now. seed: of what is drawn by chance.
    """

    database: Database
    registry: Registry
    exact: Exact
    fills: Callable[[str], Sequence[Fill]]
    check: Callable[[], None]
    seed: int | None


class Declaring:
    """Carries out one statement at a time, and says in a sentence what it did."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._registry = asking.registry

    def run(self, statement: CreateProxy | CreateSemanticIndex | Refresh) -> str:
        """Do what the statement says. Answers of models are kept whatever happens; the definition comes last."""
        self._asking.check()
        match statement:
            case CreateProxy():
                return self._create_proxy(statement)
            case CreateSemanticIndex():
                return self._create_index(statement)
            case Refresh(kind="proxy", name=name):
                return self._refresh_proxy(name)
            case Refresh(name=name):
                return self._refresh_index(name)

    # ---- proxies

    def _create_proxy(self, s: CreateProxy) -> str:
        self._check_free(s.name, "proxy", replace=s.replace)
        if s.options:
            raise UnknownName.of(f"option of proxy {s.name}", next(iter(s.options)), ())
        names = names_on(self._table(s.table), self._registry)
        learner = self._learner(s)
        features = features_of(s.using, names, learned=learner is not None)
        proxy = ProxyDefinition(
            s.name,
            names.table,
            s.target,
            s.using.name,
            s.using.args,
            s.train_labels,
            s.train_where,
            s.calibrate,
            s.holdout,
        )
        table = quoted(names.table)
        listed = ", ".join(f"({e}\n)" for e in (s.target, *features))
        self._asking.fills(f"SELECT {listed} FROM {table} AS {table}")
        if s.train_labels is None:
            said = f"{s.using} scores {names.table} for ({s.target})"
        else:
            proxy, said = self._trained(proxy, names, learner, features)
        with self._registry.changing():
            self._registry.add(proxy)
        return f"proxy {s.name}: {said}"

    def _learner(self, s: CreateProxy) -> str | None:
        low = s.using.name.lower()
        if s.train_labels is None:
            for word, given in (("CALIBRATE", s.calibrate), ("HOLDOUT", s.holdout)):
                if given not in (None, "none"):
                    raise ProgrammingError(f"{word} needs labels: add TRAIN ON 500 LABELS")
            if low in learning.LEARNERS and low not in self._registry.models:
                raise ProgrammingError(f"{low} learns from labels: add TRAIN ON 500 LABELS")
            return None
        if low not in learning.LEARNERS:
            return None
        if not s.using.args:
            raise ProgrammingError(f"{low} needs what it learns from: {low}(embedding), or several columns of numbers")
        learning.check_available()
        return low

    def _trained(
        self, proxy: ProxyDefinition, names: Names, learner: str | None, features: Sequence[str]
    ) -> tuple[ProxyDefinition, str]:
        """The proxy with what it has learned from labels of random items, and a sentence about it."""
        assert proxy.train_labels is not None
        if not names.keys:
            raise ProgrammingError(
                f"{names.table} is a plain table, whose rows have no key to draw a sample by: CREATE BLOB TABLE ... AS SELECT "
                f"* FROM {names.table} KEY (...) makes items of its rows"
            )
        place = Place(names.table, names.keys)
        self._draw(names, proxy.train_labels, proxy.train_where)
        asking = self._asking
        target, *inside = kinds(place, [proxy.target, *features], CHOSEN, asking.exact)
        numbers(target, f"({proxy.target})", "what FOR names")
        vectors(inside, features)
        columns = read(asking.database, place, [proxy.target, *features], CHOSEN, asking.exact, many="any_value")
        labels = numbers(columns[0], f"({proxy.target})", "what FOR names")
        inputs = vectors(columns[1:], features)
        if learner is None and inputs.shape[1:] != (1,):
            raise ProgrammingError(f"a proxy is one number for each item, and {using_of(proxy)} has {inputs.shape[1]}")
        rng = np.random.default_rng(asking.seed or 0)
        trained = learning.train(learner, inputs, labels, calibrate=proxy.calibrate, holdout=proxy.holdout, rng=rng)
        made = replace(
            proxy,
            learned=trained.model,
            calibration=trained.calibration,
            quality=None if trained.quality is None else _stored(asdict(trained.quality)),
            useless=bool(trained.useless),
            rests=self._rests(query(place, features, CHOSEN)),
        )
        asking.database.execute(f"DROP TABLE {CHOSEN}")
        known = labels[np.isfinite(labels)]
        matching = f", {int(known.sum()):,} of them true" if np.isin(known, (0, 1)).all() else ""
        return made, f"{using_of(proxy)} from {len(known):,} labels{matching}; {said_of(made)}"

    def _draw(self, names: Names, count: int, condition: str | None) -> None:
        """Choose random items; the same ones each time, as far as they are there, so that their labels are paid once."""
        table = quoted(names.table)
        keys = ", ".join(f"{table}.{quoted(k)} AS __k{n}" for n, k in enumerate(names.keys))
        where = f" WHERE ({condition}\n)" if condition else ""
        found = self._asking.exact(f"SELECT {keys} FROM {table} AS {table}{where}")
        listed = ", ".join(f"__k{n}" for n in range(len(names.keys)))
        self._asking.database.keep(
            CHOSEN,
            f"SELECT row_number() OVER (ORDER BY {listed}) - 1 AS __row, * FROM "
            f"(SELECT * FROM aidb_items ORDER BY hash({listed}, {self._asking.seed or 0}), {listed} LIMIT {count})",
            aidb_items=found,
        )

    def _refresh_proxy(self, name: str) -> str:
        proxy = self._registry.proxies.get(name.lower())
        if proxy is None:
            raise UnknownName.of("proxy", name, (p.name for p in self._registry.proxies.values()))
        if proxy.train_labels is None:
            return f"proxy {proxy.name} has learned nothing that could be out of date"
        return self._create_proxy(
            CreateProxy(
                proxy.name,
                proxy.table,
                proxy.target,
                Call(proxy.using, proxy.args),
                proxy.train_labels,
                proxy.train_where,
                proxy.calibrate,
                proxy.holdout,
                replace=True,
            )
        )

    # ---- indexes

    def _create_index(self, s: CreateSemanticIndex) -> str:
        self._check_free(s.name, "semantic index", replace=False)
        _check_options(s)
        relation = self._table(s.table)
        if not relation.key:
            raise ProgrammingError(
                f"{relation.name} is a plain table: CREATE BLOB TABLE ... AS SELECT * FROM {relation.name} KEY (...) makes "
                "items of its rows, which can have an index"
            )
        names = names_on(relation, self._registry)
        table = quoted(names.table)
        embedding = ", ".join(features_of(s.using, names, learned=True))
        self._asking.fills(f"SELECT {embedding} FROM {table} AS {table}")
        index = IndexDefinition(s.name, 0, names.table, s.using.name, s.using.args, s.options)
        return self._write(*self._built(index, names))

    def _refresh_index(self, name: str) -> str:
        index = self._registry.indexes.get(name.lower())
        if index is None:
            raise UnknownName.of("semantic index", name, (i.name for i in self._registry.indexes.values()))
        return self._write(*self._built(index, names_on(self._table(index.table), self._registry)))

    def _built(self, index: IndexDefinition, names: Names) -> tuple[IndexDefinition, pa.Table]:
        """The index over all items, and the keys of its representatives."""
        asking = self._asking
        options = {**_OPTIONS, **index.options}
        place = Place(names.table, names.keys)
        keys = ", ".join(quoted(k) for k in names.keys)
        renamed = ", ".join(f"{quoted(k)} AS __k{n}" for n, k in enumerate(names.keys))
        asking.database.keep(
            CHOSEN, f"SELECT row_number() OVER (ORDER BY {keys}) - 1 AS __row, {renamed} FROM {names.relation.base}"
        )
        features = features_of(Call(index.using, index.args), names, learned=True)
        vectors(kinds(place, features, CHOSEN, asking.exact), features)
        columns = read(asking.database, place, features, CHOSEN, asking.exact, many="any_value")
        found = vectors(columns, features)
        if not np.isfinite(found).all(axis=1).any() or not found.shape[1]:
            raise ProgrammingError(f"no row of {names.table} has an embedding: {using_of(index)} gives none")
        built = build(
            found,
            int(str(options["representatives"])),
            neighbours=1,
            method=str(options["method"]),
            share=float(str(options["share"])),
            rng=np.random.default_rng(asking.seed or 0),
        )
        places = pa.table({"r": pa.array(built.representatives), "p": np.arange(len(built.representatives))})
        asking.database.keep(
            "__aidb_representatives",
            f"SELECT {', '.join(f'__k{n}' for n in range(len(names.keys)))} FROM {CHOSEN} JOIN aidb_places ON __row = r "
            "ORDER BY p",
            aidb_places=places,
        )
        rows = asking.database.query("SELECT * FROM __aidb_representatives")
        rests = self._rests(query(place, features, CHOSEN))
        for temporary in (CHOSEN, "__aidb_representatives"):
            asking.database.execute(f"DROP TABLE {temporary}")
        return replace(
            index,
            representatives=len(built.representatives),
            dimensions=found.shape[1],
            items=len(found),
            rests=rests,
        ), rows

    def _write(self, index: IndexDefinition, keys: pa.Table) -> str:
        registry = self._registry
        with registry.changing():
            made = index if index.id else replace(index, id=registry.store.next_id())
            registry.add(made)
            registry.store.keep_representatives(made, keys)
        return (
            f"semantic index {made.name}: {made.representatives:,} representatives of {made.items:,} rows of {made.table}, "
            f"{made.dimensions:,} numbers each"
        )

    # ---- both

    def _table(self, name: str) -> Relation:
        """The table whose rows are scored."""
        registry = self._registry
        relation = registry.relation(name)
        if relation is None:
            raise UnknownName.of("table of items", name, registry.names(), "CREATE BLOB TABLE makes one")
        if relation.fill is not None:
            above = registry.ancestors(name)
            raise ProgrammingError(
                f"{relation.name} is filled by a model; a proxy says which of the rows it is made from are worth its calls: "
                f"write ON {above[-1]}"
            )
        return relation

    def _check_free(self, name: str, kind: str, *, replace: bool) -> None:
        registry, low = self._registry, name.lower()
        taken = {"proxy": low in registry.proxies, "semantic index": low in registry.indexes}
        for other, there in taken.items():
            if there and not (replace and other == kind):
                hint = f"CREATE OR REPLACE {kind.upper()}, or DROP it" if other == kind == "proxy" else "DROP it first"
                raise ProgrammingError(f"there is a {other} {name!r} already: {hint}")

    def _rests(self, sql: str) -> tuple[str, ...]:
        return tuple(sorted({self._registry.definition(f).lineage for f in self._asking.fills(sql)}))


def names_on(relation: Relation, registry: Registry) -> Names:
    """What words mean in a proxy on a table."""
    return Names(relation.name, relation.key, registry.snapshot(), registry.models, registry.proxies, registry.indexes)


def features_of(using: Call, names: Names, *, learned: bool) -> list[str]:
    """SQL of what a proxy or an index reads for each item.

    learned: the call's name is a learner's, or it is an index: names stand for embeddings, one row an item.
    """
    if not learned or using.args is None or using.name.lower() not in learning.LEARNERS:
        return [expression(using, names, many="any_value" if learned else "max")]
    found = []
    for argument in using.args:
        tokens = scan(argument)
        is_name = len(tokens) == 1 and tokens[0].kind in ("word", "name")
        name = argument.strip('"') if is_name else ""
        call = Call(name) if name else Call("", (argument,))
        found.append(expression(call, names, many="any_value", what="column to learn from"))
    return found


def using_of(definition: ProxyDefinition | IndexDefinition) -> str:
    """What scores, as it was written."""
    return str(Call(definition.using, definition.args))


def said_of(proxy: ProxyDefinition) -> str:
    """A proxy's quality in words."""
    found = proxy.quality
    if found is None:
        return "its quality was not measured"
    marks = [f"AUC {found['auc']:.3f}", f"correlation {found['correlation']:.2f}"]
    marks += [] if found["log_loss"] is None else [f"log-loss {found['log_loss']:.3f}"]
    tail = "; useless: it is kept, but used only where it is named" if proxy.useless else ""
    return f"{', '.join(marks)} on {found['labels']:,} labels held out{tail}"


def _stored(quality: dict[str, object]) -> dict[str, object]:
    """Numbers as JSON can hold them."""
    return {
        name: None if isinstance(x, float) and not np.isfinite(x) else x.item() if isinstance(x, np.generic) else x
        for name, x in quality.items()
    }


def _check_options(s: CreateSemanticIndex) -> None:
    for option, value in s.options.items():
        if option not in _OPTIONS:
            raise UnknownName.of(f"option of semantic index {s.name}", option, _OPTIONS)
        if option == "method" and value not in ("farthest", "means"):
            raise ProgrammingError(f"{s.name}: method is 'farthest' or 'means', not {value!r}")
        if option == "representatives" and not (isinstance(value, int) and value >= 1):
            raise ProgrammingError(f"{s.name}: representatives must be a whole number of at least 1, not {value!r}")
        if option == "share" and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise ProgrammingError(f"{s.name}: share lies between 0 and 1, not at {value!r}")
