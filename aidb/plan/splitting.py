"""Reads a query and proves, from the inside out, that it falls apart by units.

Of each query one of three things is shown. It is **free**: the units chosen change nothing. It is **split**: each of its
rows belongs to one unit, and restricting what lies inside to some units gives their rows. Or it is **hooked**: for each row
of a query around, it depends only on the unit of that row (EXISTS (... WHERE b.key = f.key)), whatever it does above its
FROM. Anything else is refused, and the message says what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from aidb.catalog.relations import Relations
from aidb.errors import NotSupportedError
from aidb.plan.mixing import Mixing
from aidb.plan.nodes import (
    expression_of,
    is_bare,
    is_star,
    listed,
    nested_queries,
    output_name,
    table_name,
    unwrapped,
    view_query,
    walk_own,
)
from aidb.plan.splits import Block, Cte, Names, Outputs, Query, conjuncts, refusal, short, spelled, unique_names
from aidb.plan.tied_from import TiedFrom, demand
from aidb.plan.ties import Items, Needed, Rows, Rules, Shown, Source, Tie, Tree, Untied, equal_keys
from aidb.plan.touching import Touching
from aidb.plan.unit import Unit

_CLAUSES = ("expressions", "where", "having", "qualify", "group", "order", "distinct", "windows", "limit", "offset")
_UNNESTING = (exp.Explode, exp.Unnest)


class Splitting:
    """Reads one statement.

    restricted: what must be restricted (a FROM item, or a branch of a UNION) and its key there. blocks: all SELECTs. ctes:
    names of all CTEs that were met.
    """

    def __init__(self, relations: Relations, unit: Unit, touching: Touching) -> None:
        self.relations, self.unit, self.touching = relations, unit, touching
        self.places = len(unit.keys)
        self.mixing = Mixing(unit, touching, relations.aggregates)
        self.from_clause = TiedFrom(self)
        self.restricted: list[tuple[exp.Expr, tuple[str, ...]]] = []
        self.blocks: list[Block] = []
        self.ctes: set[str] = set()

    # ---- queries

    def query(self, node: exp.Expr, names: Names, outer: Block | None, *, top: bool = False) -> Query:
        """Read a query. top: it is the statement, whose own ORDER BY, LIMIT and aggregates are somebody else's business."""
        node = unwrapped(node)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, self._with(node, names, outer), outer)
        if isinstance(node, exp.Select):
            return self._select(node, self._with(node, names, outer), outer, top)
        if self.asks_inside(node, names):
            raise self.refused(f"{short(node)} reads models in a way that can't be split by items")
        return Query(node)

    def _with(self, node: exp.Expr, names: Names, outer: Block | None) -> Names:
        clause = node.args.get("with_")
        if clause is None:
            return names
        known = dict(names)
        for cte in clause.expressions:
            columns = tuple(c.name for c in listed(cte.args["alias"].args.get("columns")))
            name = cte.alias.lower()
            recursive = bool(clause.args.get("recursive")) and any(
                is_bare(t) and t.name.lower() == name for t in cte.this.find_all(exp.Table)
            )
            self.ctes.add(name)
            known[name] = Cte(cte.this, dict(known), outer, columns, recursive)
        return known

    def _select(self, node: exp.Select, names: Names, outer: Block | None, top: bool) -> Query:
        block = Block(node, outer)
        self.blocks.append(block)
        if any(node.args.get(a) for a in ("laterals", "pivots", "connect")) and self.asks_inside(node, names):
            raise self.refused(f"{short(node)} reads models in a way that can't be split by items")
        tree = self.from_clause.tree(node, names, block)
        where = node.args.get("where")
        ties = self.ties(where.this, block) if where is not None else []
        for clause in _CLAUSES:
            for expression in listed(node.args.get(clause)):
                certain = conjuncts(expression.this) if clause in ("where", "having", "qualify") else ()
                self.nested(expression, names, block, certain, filters=clause == "where")
        self._solve(block, tree, ties)
        self.mixing.group(block)
        hooks = frozenset(block.outward | self._hooks(block))
        outputs, complete = self._outputs(block)
        query = Query(node, bool(block.split), hooks, outputs, complete, block)
        if block.split:
            self.mixing.check(block, query, top=top)
        return query

    def _dependent(self, block: Block) -> Items:
        return frozenset(s for s in block.sources if s.asks or s in block.demanded) | block.certain

    def _hooks(self, block: Block) -> set[Source]:
        """Items of queries around whose unit a block depends on."""
        rules = Rules(block.sources, ())
        found: set[Source] = set()
        for group in block.rows.groups:
            around = group - rules.own
            if around and group & (self._dependent(block) | block.linked):
                found.add(min(around, key=lambda s: (s.owner is not None, s.alias)))
        return found

    def _solve(self, block: Block, tree: Tree | None, ties: Sequence[Tie]) -> None:
        """Find what must be restricted so that rows belong to units, as little as will do."""
        while tree is not None:
            rules = Rules(block.sources, self._dependent(block))
            try:
                rows = rules.filtered(rules.rows(tree), ties)
                block.rows = Rows(rows.groups, rows.present | {frozenset({s}) for s in block.certain})
                break
            except Needed as needed:
                block.demanded.add(needed.source)
            except Untied as untied:
                raise self._untied(untied.source, untied.to, untied.why) from None
        dependent = self._dependent(block)
        rules = Rules(block.sources, dependent)
        parts = [g for g in block.rows.groups if rules.is_open(g)]
        if len(parts) > 1:
            one, other = (min(g & dependent, key=lambda s: s.alias) for g in parts[:2])
            raise self._untied(other, one)
        block.split = parts[0] if parts else frozenset()
        for link in block.linked:
            group = block.rows.group(frozenset({link}))
            if group != block.split and (group is None or group <= rules.own):
                raise self._untied(link, min(block.split, key=lambda s: s.alias) if block.split else None)
        for source in block.sources:
            if source in dependent and not (source.made is not None and source.made.is_split):
                key = source.key
                if key is None:
                    raise self.refused(f"{source.alias} does not show {self._keys()}: select it there")
                self.restricted.append((source.node, key))

    def _set_operation(self, node: exp.SetOperation, names: Names, outer: Block | None) -> Query:
        one, other = (self.query(n, names, outer) for n in (node.this, node.expression))
        hooks, branches = one.hooks | other.hooks, (one, other)
        split = [q for q in branches if q.is_split]
        outputs, complete = self._by_name(one, other) if node.args.get("by_name") else _by_place(branches, split)
        if not split:
            return Query(node, False, hooks, outputs, complete, branches=branches)
        if any(node.args.get(a) for a in ("limit", "offset")):
            raise self.refused("LIMIT in a subquery depends on all items at once")
        name = type(node).__name__.upper()
        shows_key = {p for _, p in outputs} >= set(range(self.places))
        is_plain = isinstance(node, exp.Union) and not node.args.get("distinct")
        if not is_plain and not shows_key:
            raise self.refused(f"{name} mixes items: select {self._keys()} in the same place of each part")
        for query in branches:
            # What INTERSECT and EXCEPT compare with may be there as a whole.
            compared = isinstance(node, exp.Intersect) or (isinstance(node, exp.Except) and query is other)
            if query.is_split or compared:
                continue
            key = self._own_key(query, outputs) if shows_key else None
            if key is None:
                raise self.refused(
                    f"one part of its {name} asks models, and the other has rows of no item: select {self._keys()} in the "
                    "same place of both"
                )
            self.restricted.append((query.node, key))
        return Query(node, True, hooks, outputs, complete, branches=branches)

    def _by_name(self, one: Query, other: Query) -> tuple[Outputs, bool]:
        """Columns of UNION BY NAME: a name that one part lacks is NULL there."""
        if not (one.complete and other.complete):
            return tuple((n, None) for n, _ in one.outputs), False
        theirs = {n.lower(): p for n, p in other.outputs if n is not None}
        mine = [(n, p if n is not None and theirs.get(n.lower()) == p else None) for n, p in one.outputs]
        known = {n.lower() for n, _ in one.outputs if n is not None}
        return (*mine, *((n, None) for n, _ in other.outputs if n is None or n.lower() not in known)), True

    def _own_key(self, query: Query, outputs: Outputs) -> tuple[str, ...] | None:
        """Names, in one part of a UNION, of the columns that hold the key in all."""
        names = unique_names(query.outputs)
        found: dict[int, str] = {}
        for n, (_, place) in enumerate(outputs):
            name = names[n] if n < len(names) else None
            if place is not None and name is not None and query.outputs[n][1] == place:
                found.setdefault(place, name)
        return tuple(found[p] for p in range(self.places)) if len(found) == self.places else None

    def _outputs(self, block: Block) -> tuple[Outputs, bool]:
        """Names of the columns, and the place in the key that each holds; whether these are all."""
        found: list[tuple[str | None, Shown | None]] = []
        complete = True
        for item in block.node.expressions:
            inner = expression_of(item)
            if is_star(inner) and not isinstance(item, exp.Alias):
                star = inner.this if isinstance(inner, exp.Column) else inner
                columns, known = self._starred(inner, block)
                left_out = {e.name.lower() for e in listed(star.args.get("except_"))}
                changed = {e.alias.lower() for e in listed(star.args.get("replace"))}
                found += [
                    (c.name, None if c.name.lower() in changed else c)
                    for c in columns
                    if c.name.lower() not in left_out
                ]
                complete = complete and known and not star.args.get("rename")
            elif isinstance(inner, exp.Columns) or any(isinstance(n, _UNNESTING) for n in walk_own(inner)):
                complete = False
            else:
                shown = block.shown(inner)
                name = output_name(item)
                if shown is not None and shown.name and not isinstance(item, exp.Alias):
                    name = shown.name  # as its table spells it
                found.append((name, shown))
            if not complete:
                break
        places: list[int | None] = []
        group: Items | None = None
        for _, shown in found:
            place = block.holds(shown)
            theirs = block.rows.group(shown.items) if place is not None and shown is not None else None
            group = group or theirs  # keys of two units would contradict each other
            places.append(place if theirs is not None and theirs == group else None)
        return tuple((n, p) for (n, _), p in zip(found, places, strict=True)), complete

    @staticmethod
    def _starred(star: exp.Expr, block: Block) -> tuple[Sequence[Shown], bool]:
        if not isinstance(star, exp.Column):
            return (block.scope.columns, True) if block.scope.complete else ((), False)
        source = next((s for s in block.scope.sources if s.alias == star.table.lower()), None)
        return ((), False) if source is None or not source.complete else (source.shown, True)

    # ---- conditions

    def ties(self, condition: exp.Expr, block: Block) -> list[Tie]:
        """The FROM items whose keys a condition equates."""
        equalities = []
        for part in conjuncts(condition):
            if isinstance(part, exp.EQ | exp.NullSafeEQ):
                one, other = block.shown(part.this), block.shown(part.expression)
                if one is not None and other is not None:
                    equalities.append((one, other, isinstance(part, exp.NullSafeEQ)))
        return equal_keys(equalities, self.places)

    def nested(
        self,
        expression: exp.Expr,
        names: Names,
        block: Block,
        certain: Sequence[exp.Expr] = (),
        *,
        filters: bool = False,
    ) -> None:
        """Queries in an expression: free, hooked to the row around them, or keys of an IN.

        certain: conditions that must be true. filters: does a row of FROM fall out for which they are not?
        """
        for found in nested_queries(expression):
            query = self.query(found, names, block)
            demand(query, block)
            test = _around(found)
            is_certain = any(test is c for c in certain)
            if not query.is_split:
                if is_certain and filters and isinstance(test, exp.Exists):
                    block.certain |= {s for s in self._met(query) if s.owner in block.sources}
                continue
            hook = self._in_hook(found, query, block, is_certain=is_certain)
            if hook is not None and hook.owner is not None and hook.owner in block.sources:
                (block.certain if filters else block.linked).add(hook)
                continue
            if hook is None:
                raise self._unhooked(query, block)
            (block.demanded if hook in block.sources else block.outward).add(hook)

    def _met(self, query: Query) -> set[Source]:
        """Links of the query around that equal the key of something restricted wherever the query has a row."""
        block = query.block
        if block is None or (self.mixing.is_aggregated(block) and not block.grouping):
            return set()
        dependent = self._dependent(block)
        met = [g for g in block.rows.groups if block.rows.has_one(g & dependent)]
        return {s for g in met for s in g if s in query.hooks and s.owner is not None}

    def _in_hook(self, found: exp.Expr, query: Query, block: Block, *, is_certain: bool) -> Source | None:
        """The FROM item whose key stands before ``IN (query)``, where the query shows the key in the same place."""
        test = _around(found)
        is_in = isinstance(test, exp.In) and test.args.get("query") is not None
        is_any = isinstance(test, exp.EQ) and isinstance(test.expression, exp.Any)
        if test is None or not (is_in or is_any):
            return None
        value = test.this
        value = value.unnest() if isinstance(value, exp.Paren) else value
        values = value.expressions if isinstance(value, exp.Tuple) else [value]
        keys: dict[Source, set[int]] = {}
        columns: dict[Source, dict[int, str]] = {}
        for one, (_, place) in zip(map(block.shown, values), query.outputs, strict=False):
            if one is None or len(one.of) != 1 or place is None:
                continue
            if one.place == place:
                keys.setdefault(one.of[0], set()).add(place)
            elif one.place is None:
                columns.setdefault(one.of[0], {})[place] = one.name.lower()
        hook = next((s for s, met in keys.items() if len(met) == self.places), None)
        if is_certain:
            links = [s.link(tuple(c[p] for p in sorted(c))) for s, c in columns.items() if len(c) == self.places]
            return hook or next(iter(links), None)
        # Where it makes a difference, "no match" must not be mistaken for "unknown": then no NULL may take part.
        known = len(values) == self.places and not self.unit.null_safe
        return hook if known and hook in block.sources and self._is_always_there(hook, block) else None

    def _is_always_there(self, source: Source | None, block: Block) -> bool:
        """Is an item never left out by an outer join, wherever it stands?"""
        joins = listed(block.node.args.get("joins"))
        clause = block.node.args.get("from_")
        inside = [j for part in (clause, *joins) if part is not None for j in part.find_all(exp.Join)]
        return not any(str(j.args.get("side") or "").upper() for j in (*joins, *inside)) and not any(
            str(j.args.get("method") or "").upper() == "POSITIONAL" for j in (*joins, *inside)
        )

    # ---- what asks, and words

    def asks_inside(self, node: exp.Expr, names: Names, seen: frozenset[object] = frozenset()) -> bool:
        """Is there a reference to something that a model fills, CTEs and views looked through?"""
        for table in node.find_all(exp.Table):
            cte = names.get(table.name.lower()) if is_bare(table) else None
            name = table_name(table)
            if cte is not None:
                if cte not in seen and self.asks_inside(cte.node, cte.names, seen | {cte}):
                    return True
            elif name in self.relations.views:
                query = view_query(self.relations.views[name])[0]
                if name not in seen and self.asks_inside(query, {}, seen | {name}):
                    return True
            elif name and (relation := self.relations.get(name)) is not None and relation.touches_models:
                return True
        return False

    def _keys(self) -> str:
        return f"the key {', '.join(self.unit.keys)}"

    def _untied(self, source: Source, to: Source | None, why: str = "") -> NotSupportedError:
        hidden = next((s for s in (source, to) if s is not None and s.asks and s.key is None), None)
        if hidden is not None:
            return self.refused(f"{spelled(hidden)} does not show {self._keys()}: select it there, and join by it")
        because = f" ({why})" if why else ""
        if to is None or to.key is None or source.key is None:
            tail = "" if to is None else f" to {spelled(to)}, which has no such column: join {self.unit.table}"
            return self.refused(f"{spelled(source)} is not tied by {self._keys()}{tail}{because}")
        same = _equal(to, source)
        return self.refused(f"{spelled(source)} is not tied to {spelled(to)} by the key: add {same}{because}")

    def _unhooked(self, query: Query, block: Block) -> NotSupportedError:
        inside = [] if query.block is None else [s for s in query.block.sources if s in query.block.split]
        around = [s for s in block.sources if s.key is not None]
        what = f"the subquery ({short(query.node)}) is not tied to the row around it by {self._keys()}"
        named = next((s for s in inside if s.key is not None), None)
        if named is None or not around:
            return self.refused(what)
        return self.refused(f"{what}: add {_equal(named, around[0])} to its WHERE")

    def refused(self, why: str) -> NotSupportedError:
        """The error that says why not."""
        return refusal(self.unit, why)


def _by_place(branches: Sequence[Query], split: Sequence[Query]) -> tuple[Outputs, bool]:
    """Columns of a set operation: they hold the key where they do so in each part that belongs to units, or in all."""
    first = branches[0]
    held = [[p for _, p in q.outputs] for q in split or branches]
    places = [{h[n] if n < len(h) else None for h in held} for n in range(len(first.outputs))]
    outputs = tuple(
        (name, p.pop() if len(p) == 1 else None) for (name, _), p in zip(first.outputs, places, strict=True)
    )
    return outputs, first.complete


def _around(query: exp.Expr) -> exp.Expr | None:
    """The test that a nested query is part of: EXISTS (...), x IN (...), x = ANY (...)."""
    around = query.parent
    while isinstance(around, exp.Subquery | exp.Paren | exp.Any):
        around = around.parent
    return around


def _equal(one: Source, other: Source) -> str:
    """The condition that two items belong to one unit."""
    pairs = zip(one.key or (), other.key or (), strict=True)
    return " AND ".join(f"{spelled(one, a)} = {spelled(other, b)}" for a, b in pairs)
