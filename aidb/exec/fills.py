"""Fills: one model over one choice of inputs, where its answers are stored, however people name the inputs.

A fill is stored under its *lineage*, a digest of the model's fingerprint and of where each input comes from. A virtual
table, a second one of another name, a virtual column and a call in an expression that mean the same share one fill; its
tables bear the names of whoever came first, and everyone else reads them under names of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aidb.catalog.definitions import FillDefinition, ModelDefinition, Rest
from aidb.catalog.names import quoted, same
from aidb.catalog.relations import Fill, Relation
from aidb.errors import InternalError, OperationalError, ProgrammingError, UnknownName
from aidb.spi.content import CONTENT_SQL
from aidb.storage.definitions import lineage

if TYPE_CHECKING:
    from aidb.exec.registry import Registry

Args = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Meaning:
    """What a choice of inputs comes to: the items, what identifies them, and what the answers rest on."""

    args: Args
    parents: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]
    lineage: str
    null_safe: bool
    rests: tuple[Rest, ...]


class Fills:
    """The fills of one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.stored: dict[str, FillDefinition] = {}
        self._named: dict[tuple[str, Args, str | None], FillDefinition] = {}
        self._by_planner: dict[tuple[str, str], FillDefinition] = {}
        self._views: dict[tuple[FillDefinition, tuple[str, ...] | None], Fill] = {}
        self._origins: dict[str, dict[str, str]] = {}

    def load(self, stored: Sequence[FillDefinition]) -> None:
        """Begin with these, and with nothing that was known of names."""
        self.stored = {f.lineage: f for f in stored}
        self._by_planner.clear()
        self.forget()

    def forget(self) -> None:
        """Names mean something else from now on."""
        self._named.clear()
        self._views.clear()
        self._origins.clear()

    # ---- finding
    def fill_for(self, model: str, args: Args, ordinal: str | None) -> FillDefinition:
        """See `Registry.fill_for`."""
        wanted = (model.lower(), tuple((t.lower(), c.lower()) for t, c in args), ordinal)
        if wanted not in self._named:
            definition = self._registry.model(model)
            meaning = self._meaning(definition, args)
            called = (ordinal or f"{definition.name}_id") if definition.rows == "many" else None
            stored = self.stored.get(meaning.lineage) or self._made(definition, meaning, called)
            if len(stored.keys) != len(meaning.keys):
                raise InternalError(f"{model}: {meaning.keys} don't match the stored keys {stored.keys}")
            self._named[wanted] = replace(
                stored, args=meaning.args, parents=meaning.parents, keys=meaning.keys, ordinal=called
            )
        return self._named[wanted]

    def _made(self, model: ModelDefinition, meaning: _Meaning, ordinal: str | None) -> FillDefinition:
        registry = self._registry
        database = registry.database
        if database.read_only:
            raise OperationalError(f"{model.name} has no stored answers here, and the database is open read-only")
        if database.is_in_users_transaction():
            raise OperationalError(
                f"{model.name} was never asked about these inputs, and its answers can't be stored inside a transaction "
                "that you began: COMMIT or ROLLBACK first"
            )
        # Another connection of this process may have made it meanwhile: then there must not be a second one.
        with database.shared.lock, database.transaction():
            for other in registry.store.fills(meaning.lineage):
                self.stored[other.lineage] = other
                return other
            fill = FillDefinition(
                registry.store.next_id(),
                model.name,
                model.fingerprint,
                meaning.lineage,
                meaning.args,
                meaning.parents,
                meaning.keys,
                model.outputs,
                ordinal,
                meaning.null_safe,
                model.sequential,
                meaning.rests,
            )
            registry.store.add_fill(fill)
        self.stored[fill.lineage] = fill
        registry.changed()
        return fill

    # ---- for the planner
    def planner_fill(self, fill: FillDefinition, outputs: tuple[str, ...] | None = None) -> Fill:
        """A fill as the planner sees it; ``outputs`` are names that a virtual table gives them."""
        known = self._views.get((fill, outputs))
        if known is not None:
            return known
        stored = self.stored[fill.lineage]
        keys = tuple(n for n, _ in fill.keys)
        ordinal = (fill.ordinal,) if fill.ordinal else ()
        shown = outputs or tuple(n for n, _ in fill.outputs)
        if len(shown) != len(stored.outputs):
            given = ", ".join(n for n, _ in stored.outputs)
            raise ProgrammingError(
                f"{fill.model} gives {given}, which {len(shown)} names don't fit: {', '.join(shown)}"
            )
        own = (
            [n for n, _ in stored.keys] + ([stored.ordinal] if stored.ordinal else []) + [n for n, _ in stored.outputs]
        )
        model = self._registry.models.get(fill.model.lower())
        made = Fill(
            f"{fill.model}({', '.join(f'{t}.{c}' for t, c in fill.args)})",
            fill.model,
            fill.parents,
            keys,
            _under_names(fill.ledger, [*own[: len(keys)], "_call", "_failed"], [*keys, "_call", "_failed"]),
            _under_names(fill.rows, own, [*keys, *ordinal, *shown]),
            shown,
            fill.ordinal,
            fill.null_safe,
            fill.sequential,
            (model.seconds_per_item + model.price_per_call * 100) if model else 1.0,
        )
        self._views[(fill, outputs)] = made
        self._by_planner[(made.id, made.ledger)] = fill
        return made

    def definition(self, fill: Fill) -> FillDefinition:
        """See `Registry.definition`."""
        return self._by_planner[(fill.id, fill.ledger)]

    # ---- meaning
    def _meaning(self, model: ModelDefinition, args: Args) -> _Meaning:
        registry = self._registry
        _check_count(model, len(args))
        args = tuple(self._spelled(model, t, c) for t, c in args)
        plain = [t for t, _ in args if not registry.is_item_table(t)]
        if plain:
            return self._plain(model, args, plain[0])
        tables = list(dict.fromkeys(t.lower() for t, _ in args))
        parents = self._parents(model, tables)
        keys: dict[str, tuple[str, str]] = {}
        origins: dict[str, str] = {}
        for parent in parents:
            relation, types = self._get(parent), registry.column_types(parent)
            for key in relation.key:
                origin = self._origin(parent)[key.lower()]
                if origins.setdefault(key.lower(), origin) != origin:
                    raise ProgrammingError(
                        f"{model.name}: {' and '.join(parents)} both have a key column {key!r}, of different items; "
                        "name one of them otherwise: CREATE BLOB TABLE ... KEY (...)"
                    )
                keys.setdefault(key.lower(), (key, types[key.lower()]))
        for name, _ in model.outputs:
            if name.lower() in keys:
                raise ProgrammingError(
                    f"the output {name!r} of {model.name} bears the name of a key column; "
                    "a key of another name helps: CREATE BLOB TABLE ... KEY (...)"
                )
        sources = [[tables.index(t.lower()), *self._source(t, c)] for t, c in args]
        rests = _merged([r for t, c in args for r in self._rests(t, c)])
        digest = lineage(model, sources)
        return _Meaning(args, parents, tuple(keys.values()), digest, False, rests)

    def _plain(self, model: ModelDefinition, args: Args, table: str) -> _Meaning:
        """On a plain table answers are keyed by the values of the inputs, so that no update can make them wrong."""
        if any(not same(t, table) for t, _ in args):
            raise ProgrammingError(
                f"{model.name}: columns of {table}, a plain table, can't be combined with another table's; "
                f"CREATE BLOB TABLE ... AS SELECT * FROM {table} KEY (...) makes items of its rows"
            )
        if model.rows == "many":
            raise ProgrammingError(
                f"{model.name} gives many rows an item, and {table} is a plain table without a key: "
                f"CREATE BLOB TABLE ... AS SELECT * FROM {table} KEY (...) makes items of its rows"
            )
        if model.sequential:
            raise ProgrammingError(
                f"{model.name} follows a file from its beginning to its end, and {table} is a plain table: "
                "CREATE BLOB TABLE ... FROM makes items of files"
            )
        types = self._registry.column_types(table)
        keys = {c.lower(): (c, types[c.lower()]) for _, c in args}
        for name, _ in model.outputs:
            if name.lower() in keys:
                raise ProgrammingError(
                    f"the output {name!r} of {model.name} bears the name of the column that it is made from: "
                    f"{table}.{keys[name.lower()][0]}"
                )
        places = list(keys)
        sources = [[0, "values", places.index(c.lower()), types[c.lower()]] for _, c in args]
        return _Meaning(args, (self._get(table).name,), tuple(keys.values()), lineage(model, sources), True, ())

    def _get(self, name: str) -> Relation:
        registry = self._registry
        relation = registry.bare(name)
        if relation is not None:
            return relation
        return Relation(name, tuple(n for n, _ in registry.natives.columns_of(name)), quoted(name))

    def _spelled(self, model: ModelDefinition, table: str, column: str) -> tuple[str, str]:
        """An argument as its relation spells it. Raises `UnknownName`."""
        registry = self._registry
        relation = self._get(table)
        if not relation.columns:
            raise UnknownName.of("table", table, [*registry.names(), *registry.user_tables()])
        found = next((n for n in relation.columns if same(n, column)), None)
        if found is None:
            self._refuse_chain(model, table, column)
            raise UnknownName.of(f"column of {relation.name}", column, relation.columns)
        return relation.name, found

    def _refuse_chain(self, model: ModelDefinition, table: str, column: str) -> None:
        for added in self._registry.columns:
            if same(added.table, table) and any(same(c, column) for c in added.columns):
                inner = f"{added.model}({', '.join(f'{t}.{c}' for t, c in added.args)})"
                raise ProgrammingError(
                    f"{model.name}: {table}.{column} is a virtual column, and a model can't be put on one; "
                    f"CREATE VIRTUAL TABLE x AS {inner} shows the same answers as a table, whose columns it takes"
                    + ("" if self._registry.is_item_table(table) else f" (make {table} a blob table first)")
                )

    def _parents(self, model: ModelDefinition, tables: list[str]) -> tuple[str, ...]:
        """The deepest of the related tables among the arguments; two if they are unrelated (their pairs)."""
        above = {t: self._registry.ancestors(t) for t in tables}
        deepest = [t for t in tables if not any(t in above[o] for o in tables)]
        if len(deepest) > 2:
            raise ProgrammingError(
                f"{model.name}: its arguments come from {len(deepest)} unrelated tables; two at most can be paired"
            )
        return tuple(self._get(t).name for t in deepest)

    def _origin(self, name: str) -> dict[str, str]:
        """Lower-case key column of a relation -> what gives it its values."""
        low = name.lower()
        if low not in self._origins:
            if low in self._registry.blobs:
                blob = self._registry.blobs[low]
                self._origins[low] = {blob.key.lower(): f"items:{blob.id}"}
            else:
                relation = self._get(name)
                assert relation.fill is not None
                fill = self.definition(relation.fill)
                found = {k: o for p in fill.parents for k, o in self._origin(p).items()}
                if relation.fill.ordinal:  # the table's own word for it, which another table of the fill may not share
                    found[relation.fill.ordinal.lower()] = f"rows:{fill.lineage}"
                self._origins[low] = found
        return self._origins[low]

    def _source(self, table: str, column: str) -> list[object]:
        """Where an input's values come from, in words that no renaming changes."""
        low = table.lower()
        type_ = self._registry.column_types(table)[column.lower()]
        if low in self._registry.blobs:
            return [f"items:{self._registry.blobs[low].id}", column.lower(), type_]
        relation = self._get(table)
        assert relation.fill is not None
        return [self.definition(relation.fill).lineage, relation.columns.index(column), type_]

    def _rests(self, table: str, column: str) -> tuple[Rest, ...]:
        """What of blob tables an input's value depends on."""
        low = table.lower()
        if low in self._registry.blobs:
            blob = self._registry.blobs[low]
            if same(column, blob.key):
                return ((blob.id, blob.key, (), False),)
            refers = dict(blob.columns)[column] == CONTENT_SQL
            # What a connector lists is told by its content id; a query may pick another reference for the same key.
            return ((blob.id, blob.key, () if refers and blob.query is None else (column,), refers),)
        relation = self._get(table)
        assert relation.fill is not None
        return self.definition(relation.fill).rests

    # ---- stale or not
    def current(self) -> dict[str, FillDefinition]:
        """See `Registry.current_fills`."""
        registry = self._registry
        reached: dict[str, FillDefinition] = {}
        for name in [*registry.names(), *(c.table for c in registry.columns)]:
            relation = registry.relation(name)
            assert relation is not None
            for fill in (relation.fill, *(e.fill for e in relation.extensions)):
                if fill is not None:
                    found = self.definition(fill)
                    reached[found.lineage] = found
        for digest, made in self.stored.items():
            # A fill made for a call in an expression has no name but the model's own.
            model = registry.models.get(made.model.lower())
            if digest not in reached and model is not None and self._still_means(model, made):
                reached[digest] = made
        return reached

    def _still_means(self, model: ModelDefinition, made: FillDefinition) -> bool:
        try:
            return self._meaning(model, made.args).lineage == made.lineage
        except ProgrammingError:
            return False


def _check_count(model: ModelDefinition, given: int) -> None:
    inputs = len(model.inputs)
    if given != inputs and not (model.variadic and given >= inputs):
        least = f"at least {inputs}" if model.variadic else str(inputs)
        raise ProgrammingError(
            f"{model.name} takes {least} input{'s' * (inputs != 1)} ({', '.join(model.inputs)}), not {given}"
        )


def _under_names(table: str, stored: Sequence[str], shown: Sequence[str]) -> str:
    """A table, or a subselect that shows its columns under other names."""
    if list(stored) == list(shown):
        return table
    renamed = ", ".join(
        quoted(a) if a == b else f"{quoted(a)} AS {quoted(b)}" for a, b in zip(stored, shown, strict=True)
    )
    return f"(SELECT {renamed} FROM {table})"


def _merged(rests: Sequence[Rest]) -> tuple[Rest, ...]:
    """One entry for each blob table, in the order of their numbers."""
    found: dict[int, Rest] = {}
    for items, key, columns, content in rests:
        _, _, before, deep = found.get(items, (items, key, (), False))
        found[items] = (items, key, tuple(sorted({*before, *columns})), content or deep)
    return tuple(found[i] for i in sorted(found))
