"""Rows of items that no model has seen: what the SELECT list says of them from stored columns alone.

An unverified answer returns items for their proxy score. Their rows are the query's own without everything that asks a
model: virtual tables fall out of FROM, conditions on virtual columns are taken for true, each item gives each row once.
"""

from __future__ import annotations

from sqlglot import exp

from aidb.catalog.relations import Relation, Relations
from aidb.errors import NotSupportedError, ProgrammingError
from aidb.plan.nodes import expression_of, is_aggregate, is_star, listed, nested_queries, sql_of, table_name, walk_own
from aidb.plan.splits import conjuncts
from aidb.plan.ties import Source
from aidb.plan.units import Units
from aidb.sql.render import quoted


def unverified_rows(units: Units, relations: Relations, only: str) -> str:
    """The query for the units in the table ``only``, from what is stored.

    Raises `ProgrammingError` naming the columns of the SELECT list that only a model could fill.
    """
    return _Unverified(units, relations, only).text()


class _Unverified:
    def __init__(self, units: Units, relations: Relations, only: str) -> None:
        self.units, self.relations, self.only = units, relations, only
        self.top = units.top
        self.tree = units.tree.copy()
        asking = list(units.tied)
        if not asking:
            raise ProgrammingError(
                f"an unverified answer lists rows of {units.unit.table}, and it is not in FROM: join it there, or write "
                "VERIFIED (and no ORACLE LIMIT or BUDGET)"
            )
        stored = [s for s in asking if self._stored(s) is not None and not self._is_virtual_table(s)]
        self.kept = (stored or asking)[0]
        self.dropped = [s for s in asking if s is not self.kept]
        self.was_virtual = not stored

    def text(self) -> str:
        """See `unverified_rows`."""
        tree = self.tree
        assert isinstance(tree, exp.Select)
        if any(is_aggregate(n, self.relations.aggregates) for e in tree.expressions for n in walk_own(e)):
            raise self._refused(["an aggregate"])
        self._check_list(tree)
        self._replace_from(tree)
        where = tree.args.get("where")
        if where is not None:
            known = [c for c in conjuncts(where.this) if self._is_known(c)]
            tree.set("where", exp.Where(this=exp.and_(*known, dialect="duckdb", copy=False)) if known else None)
        for clause in ("group", "having", "qualify", "order", "limit", "offset"):
            tree.set(clause, None)
        if self.was_virtual or self.dropped or self.units.tree.args.get("group"):
            tree.set("distinct", exp.Distinct())
        for column in tree.find_all(exp.Column):
            self._point_at_kept(column)
        return sql_of(tree)

    # ---- what is stored

    def _stored(self, source: Source) -> Relation | None:
        return source.relation

    def _is_virtual_table(self, source: Source) -> bool:
        relation = self._stored(source)
        return relation is None or relation.fill is not None

    def _unknown(self, column: exp.Column) -> bool:
        """Would only a model know this column?"""
        found = self.top.find(column)
        if found is None:
            return False
        source, name = found
        if source not in self.units.tied:
            return False
        relation = self._stored(source)
        if name in _lower(source.key):
            return False
        if relation is None or relation.fill is not None:
            return True
        return name in {c.lower() for e in relation.extensions for c in e.columns}

    def _is_known(self, node: exp.Expr) -> bool:
        inside = [t for q in nested_queries(node) for t in q.find_all(exp.Table)]
        asks = [self.relations.get(table_name(t)) for t in inside]
        if any(r is not None and r.touches_models for r in asks) or any(
            table_name(t) in self.relations.views for t in inside
        ):
            return False
        return not any(self._unknown(c) for c in node.find_all(exp.Column) if not isinstance(c.this, exp.Star))

    # ---- rewriting

    def _check_list(self, tree: exp.Select) -> None:
        unknown: list[str] = []
        for item in tree.expressions:
            inner = expression_of(item)
            if is_star(inner):
                unknown += self._unknown_in_star(inner)
            elif not self._is_known(inner):
                unknown += [sql_of(c) for c in inner.find_all(exp.Column) if self._unknown(c)] or [sql_of(inner)]
        if unknown:
            raise self._refused(list(dict.fromkeys(unknown)))

    def _unknown_in_star(self, star: exp.Expr) -> list[str]:
        wanted = star.table.lower() if isinstance(star, exp.Column) else ""
        found: list[str] = []
        for source in self.top.sources:
            if wanted in ("", source.alias) and source.columns is not None:
                names = [exp.column(c, source.node.alias_or_name) for c in sorted(source.columns)]
                found += [c.name for c in names if self._unknown(c)]
        return found

    def _refused(self, columns: list[str]) -> ProgrammingError:
        return ProgrammingError(
            f"an unverified answer has no {', '.join(columns)}: no model has seen most of its rows. Select columns of "
            f"{self.units.unit.table} alone, or write VERIFIED (and no ORACLE LIMIT or BUDGET), and every row is checked"
        )

    def _replace_from(self, tree: exp.Select) -> None:
        places = self._places(tree)
        gone = {id(s) for s in self.dropped}
        joins = listed(tree.args.get("joins"))
        kept_joins: list[exp.Expr] = []
        for n, source in enumerate(self.top.sources):
            join = joins[n - 1] if n else None
            if id(source) in gone:
                if not n:
                    places[0].replace(self._items())  # the first place of FROM can't be left empty
                continue
            if source is self.kept:
                places[n].replace(self._items())
            if join is not None:
                on = join.args.get("on")
                if on is not None:
                    known = [c for c in conjuncts(on) if self._is_known(c)]
                    join.set("on", exp.and_(*known, dialect="duckdb", copy=False) if known else exp.true())
                if not (id(self.top.sources[0]) in gone and source is self.kept):
                    kept_joins.append(join)
        tree.set("joins", kept_joins)

    def _places(self, tree: exp.Select) -> list[exp.Expr]:
        first = tree.args.get("from_") or tree.args.get("from")
        assert first is not None
        return [first.this, *(j.this for j in listed(tree.args.get("joins")))]

    def _items(self) -> exp.Expr:
        """The items themselves, restricted, under the name of the FROM item that is kept."""
        unit = self.units.unit
        relation = self.relations.get(unit.table)
        if relation is None:
            raise NotSupportedError(f"there is no table {unit.table} to show unverified rows of")
        assert self.kept.key is not None
        stored = [
            c for c in relation.columns if c.lower() not in {x.lower() for e in relation.extensions for x in e.columns}
        ]
        renamed = dict(zip((k.lower() for k in unit.keys), self.kept.key, strict=True))
        shown = ", ".join(f"t.{quoted(c)} AS {quoted(renamed.get(c.lower(), c))}" for c in stored)
        same = "IS NOT DISTINCT FROM" if unit.null_safe else "="
        on = " AND ".join(f"u.__k{n} {same} t.{quoted(k)}" for n, k in enumerate(unit.keys))
        text = f"SELECT {shown} FROM {relation.base} t WHERE EXISTS (SELECT 1 FROM {self.only} u WHERE {on})"
        alias = exp.TableAlias(this=exp.to_identifier(self.kept.node.alias_or_name, quoted=True))
        return exp.Subquery(this=exp.maybe_parse(text, dialect="duckdb"), alias=alias)

    def _point_at_kept(self, column: exp.Column) -> None:
        """A key column of what fell out of FROM is that of what is kept."""
        if not column.table:
            return
        for source in self.dropped:
            if source.alias == column.table.lower() and column.name.lower() in _lower(source.key):
                assert self.kept.key is not None
                name = self.kept.key[_lower(source.key).index(column.name.lower())]
                column.set("this", exp.to_identifier(name, quoted=True))
                column.set("table", exp.to_identifier(self.kept.node.alias_or_name, quoted=True))


def _lower(names: tuple[str, ...] | None) -> tuple[str, ...]:
    return () if names is None else tuple(n.lower() for n in names)
