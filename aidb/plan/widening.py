"""Makes a query's rows show their unit: where a subquery leaves the key out, it is shown under a name nobody uses.

SELECT count(*) FROM (SELECT x FROM box)       -- whose row is which item's?
SELECT count(*) FROM (SELECT x, frame_id AS "__aidb_u1_0" FROM box)
"""

from __future__ import annotations

from sqlglot import exp

from aidb.plan.nodes import expression_of, is_star, listed, walk_own
from aidb.plan.splits import Block, Query, refusal
from aidb.plan.ties import Items, Source
from aidb.plan.unit import Unit


class Widening:
    """Widens the queries of one statement. blocks: all its SELECTs, whose stars must not show what was added."""

    def __init__(self, unit: Unit, blocks: list[Block]) -> None:
        self.unit, self.blocks = unit, blocks
        self.added: dict[Query, tuple[str, ...]] = {}

    def keys(self, block: Block, *, grouped: bool) -> tuple[exp.Expr, ...]:
        """Expressions for the SELECT list that hold the key of each row's unit. grouped: of those in GROUP BY."""
        if grouped and block.grouping is not None:
            found = {block.holds(block.shown(e)): e for e in reversed(block.grouping)}
            return tuple(found[p].copy() for p in range(len(self.unit.keys)))
        chosen = sorted(self._cover(block), key=lambda s: block.sources.index(s.owner or s))
        named = [(s, s.key or self._widened(s)) for s in chosen]
        return tuple(_first_of([_column(s, names[p]) for s, names in named]) for p in range(len(self.unit.keys)))

    def _cover(self, block: Block) -> Items:
        """Items of which one at least is there in each row; rather those that show the key themselves."""
        covers = [p for p in block.rows.present if p <= block.split]
        order = {s: n for n, s in enumerate(block.sources)}

        def preference(cover: Items) -> tuple[int, int, int, list[int]]:
            hidden, links = sum(s.key is None for s in cover), sum(s.owner is not None for s in cover)
            return hidden, len(cover), links, sorted(order[s.owner or s] for s in cover)

        return min(covers, key=preference)

    def _widened(self, source: Source) -> tuple[str, ...]:
        query = source.made
        if query is None or not query.is_split:
            raise refusal(self.unit, f"{source.alias} does not show {', '.join(self.unit.keys)}: select it there")
        if query not in self.added:
            names = tuple(f"__aidb_u{len(self.added) + 1}_{n}" for n in range(len(self.unit.keys)))
            self.added[query] = names
            self._widen(query, names)
        return self.added[query]

    def _widen(self, query: Query, names: tuple[str, ...]) -> None:
        for branch in query.branches:
            if not branch.is_split:
                raise refusal(
                    self.unit, f"select {', '.join(self.unit.keys)} under a name of its own in each part of UNION"
                )
            self._widen(branch, names)
        if query.block is not None:
            node = query.block.node
            for name, key in zip(names, self.keys(query.block, grouped=True), strict=True):
                node.append("expressions", exp.alias_(key, name, quoted=True))

    def hide(self) -> None:
        """Keep what was added out of every star."""
        for block in self.blocks if self.added else ():
            for item in block.node.expressions:
                self._hide(item, block)
            joins = listed(block.node.args.get("joins"))
            made = [s.made for s in block.sources if s.made in self.added]
            if len(set(made)) < len(made) and any(str(j.args.get("method")).upper() == "NATURAL" for j in joins):
                raise self._unclear(block)

    def _hide(self, item: exp.Expr, block: Block) -> None:
        names = {s: self.added[s.made] for s in block.scope.sources if s.made is not None and s.made in self.added}
        if not names:
            return
        inner = expression_of(item)
        if is_star(inner):
            star = inner.this if isinstance(inner, exp.Column) else inner
            whose = inner.table.lower() if isinstance(inner, exp.Column) else ""
            hidden = dict.fromkeys(n for s, found in names.items() if whose in ("", s.alias) for n in found)
            if hidden:
                left_out = [exp.column(n, quoted=True) for n in hidden]
                star.set("except_", [*listed(star.args.get("except_")), *left_out])
            return
        aliases = {s.alias for s in names}
        for node in walk_own(inner):
            rows = isinstance(node, exp.Column) and not node.table and node.name.lower() in aliases
            stars = isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count)
            if isinstance(node, exp.Columns) or stars or (rows and block.shown(node) is None):
                raise self._unclear(block)

    def _unclear(self, block: Block) -> Exception:
        names = ", ".join(s.alias for s in block.scope.sources if s.made is not None and s.made in self.added)
        return refusal(self.unit, f"{names} does not show {', '.join(self.unit.keys)}: select it there")


def _column(source: Source, name: str) -> exp.Expr:
    table = exp.to_identifier(source.node.alias_or_name, quoted=True)
    return exp.Column(this=exp.to_identifier(name, quoted=True), table=table)


def _first_of(columns: list[exp.Expr]) -> exp.Expr:
    """Whichever is there; items that are both there have the same key."""
    return columns[0] if len(columns) == 1 else exp.Coalesce(this=columns[0], expressions=columns[1:])
