"""What a proxy's words mean: SQL of a value for each item of a table, which the text calls by the table's own name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aidb.catalog.definitions import IndexDefinition, ModelDefinition, ProxyDefinition
from aidb.catalog.names import quoted
from aidb.catalog.relations import Relation, Relations
from aidb.errors import NotSupportedError, ProgrammingError, UnknownName
from aidb.plan.units import fills_of, root_of
from aidb.sql.statements import Call

HINT = "a column, a model, what CREATE PROXY or CREATE SEMANTIC INDEX made, or an expression in brackets"


@dataclass(frozen=True)
class Names:
    """What a proxy may be called by. table, keys: of the items that are scored."""

    table: str
    keys: tuple[str, ...]
    relations: Relations
    models: Mapping[str, ModelDefinition]
    proxies: Mapping[str, ProxyDefinition]
    indexes: Mapping[str, IndexDefinition]

    @property
    def relation(self) -> Relation:
        """The table itself."""
        found = self.relations.get(self.table)
        if found is None:
            raise UnknownName.of("table", self.table, [r.name for r in self.relations.tables.values()])
        return found

    def beside(self) -> Iterator[Relation]:
        """Virtual tables over the same items."""
        for relation in self.relations.tables.values():
            if relation.fill is None or relation.name.startswith("__aidb"):
                continue
            with suppress(NotSupportedError):  # it is about pairs
                if {root_of(f, self.relations)[0] for f in fills_of(relation)} == {self.table.lower()}:
                    yield relation


def expression(call: Call, names: Names, *, many: str = "max", what: str = "proxy") -> str:
    """SQL over the table, called by its own name.

    call: an expression, a call, or a name: of a column, a model (which then sees the items' content), or a column of a
    virtual table over the same items, whose rows of one item are made one value by the aggregate ``many``. what: the
    word for it in the error. Raises `UnknownName`, or `ProgrammingError` for a name with several meanings.
    """
    if call.args is not None:
        return str(call)
    own = {c.lower(): c for c in names.relation.columns}
    low = call.name.lower()
    if low in own:
        return f"{quoted(names.relation.name)}.{quoted(own[low])}"
    if low in names.models:
        return _of_content(names.relation, names.models[low].name)
    found = [r for r in names.beside() if low in {c.lower() for c in r.columns}]
    if len(found) == 1:
        return of_rows(found[0], call.name, names, many)
    if found:
        tables = " and ".join(r.name for r in found)
        example = of_rows(found[0], call.name, names, many)
        raise ProgrammingError(f"{call.name} is a column of {tables}: say which in brackets, such as {example}")
    raise _unknown(call.name, names, what)


def _unknown(name: str, names: Names, what: str) -> UnknownName:
    """The error for a name that means nothing, with the nearest that do."""
    found = [c for r in (names.relation, *names.beside()) for c in r.columns]
    found += [m.name for m in names.models.values()]
    if what != "proxy":
        return UnknownName.of(what, name, found)
    found += [p.name for p in names.proxies.values()] + [i.name for i in names.indexes.values()]
    return UnknownName.of(what, name, found, HINT)


def _of_content(relation: Relation, model: str) -> str:
    """A model by its name alone sees the items' content."""
    if relation.content is None:
        raise ProgrammingError(f"{relation.name} has no content that {model} could see: write {model}(column)")
    return f"{quoted(model)}({quoted(relation.name)}.{quoted(relation.content)})"


def of_rows(relation: Relation, column: str, names: Names, many: str = "max") -> str:
    """An aggregate of a column over an item's rows in a virtual table; NULL for an item without rows."""
    own = {c.lower() for c in relation.columns}
    keys = [k if k.lower() in own else relation.columns[n] for n, k in enumerate(names.keys)]
    table = quoted(names.relation.name)
    same = " AND ".join(f"v.{quoted(k)} = {table}.{quoted(u)}" for k, u in zip(keys, names.keys, strict=True))
    return f"(SELECT {many}(v.{quoted(column)}) FROM {quoted(relation.name)} AS v WHERE {same})"
