"""A model over pairs in an expression: ``WHERE near(f.image, d.text) > 3`` needs a row for each pair, so it joins one.

The query is first written as people could have written it with the model in FROM, under a name that no star shows:
``... LEFT JOIN near(f.image, d.text) AS __pair_near_1 ON true WHERE __pair_near_1.distance > 3``.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from aidb.errors import ProgrammingError
from aidb.sql.layout import Edits, Layout, Region
from aidb.sql.reading import Call, Work
from aidb.sql.render import quoted
from aidb.sql.scopes import Block, clause_of, projection_of

PAIR = "__pair_"


class PairInExpression(Exception):
    """A model over pairs stands in an expression. extents: first and last token and output of each such call."""

    def __init__(
        self, work: Work, block: Block, calls: Sequence[Call], extents: Sequence[tuple[int, int, str]]
    ) -> None:
        super().__init__(calls[0].mention.written)
        self.work, self.block, self.calls, self.extents = work, block, calls, extents


def join_pair(text: str, found: PairInExpression) -> str:
    """The query with the model in FROM. ``text`` has the same tokens as the one that was parsed."""
    layout, edits = Layout(text), Edits()
    call, block = found.calls[0], found.block
    region = found.work.region(block)
    start = region.clause("FROM")
    if start is None:
        raise ProgrammingError(f"{call.mention.written}: its tables must be in FROM")
    first = call.mention.place
    written = text[layout.tokens[first].start : layout.tokens[layout.closing(first + 1)].end]
    n = 1
    while (alias := f"{PAIR}{call.mention.model.lower()}_{n}") in text:
        n += 1
    for one, (begin, end, output) in zip(found.calls, found.extents, strict=True):
        column = f"{quoted(alias)}.{quoted(output)}"
        name = _name(layout, one, (begin, end))
        edits.replace(layout.tokens[begin].start, layout.tokens[end].end, column + name)
    condition = _move_condition(layout, edits, found, region)
    after = layout.tokens[region.after(start) - 1].end
    # Where the condition of the last join is moved too, this stands behind the edit that takes it away.
    edits.insert(after, f" LEFT JOIN {written} AS {quoted(alias)} ON true")
    if condition is not None:
        where = region.clause("WHERE")
        if where is None:
            edits.insert(after, f" WHERE {condition}")
        else:
            edits.insert(layout.tokens[where].end, f" {condition} AND (")
            edits.insert(layout.tokens[region.after(where) - 1].end, ")")
    return edits.apply(text)[0]


def _name(layout: Layout, call: Call, extent: tuple[int, int]) -> str:
    """The name of a result column that is the call and nothing else."""
    top = projection_of(call.node, call.block) if call.block is not None else None
    if top is not call.node:
        return ""
    first, end = extent
    text = layout.text[layout.tokens[first + 1].start : layout.tokens[end].end]
    return f" AS {quoted(call.mention.model.lower() + ' '.join(text.split()))}"


def _move_condition(layout: Layout, edits: Edits, found: PairInExpression, region: Region) -> str | None:
    """A condition of an inner join that has the call can only be asked after all joins: it moves to WHERE."""
    inside = [c for c in found.calls if c.block is found.block and clause_of(c.node, found.block) == "joins"]
    if not inside:
        return None
    written = inside[0].mention.written
    joins = {id(j): j for c in inside if (j := c.node.find_ancestor(exp.Join)) is not None}
    outer = any(j.side or j.kind not in ("", "INNER", "CROSS") for j in found.block.joins)
    if len(joins) != 1 or outer:
        raise ProgrammingError(
            f"{written} takes pairs: in the condition of an outer join, or of several joins, it can't be asked; "
            f"call it in WHERE, or CREATE VIRTUAL TABLE ... AS {written}(...) and join that"
        )
    at = inside[0].mention.place
    while not (layout.key(at) == "ON" and layout.tokens[at].depth == layout.tokens[region.first].depth):
        at -= 1
        if at <= region.first:
            raise ProgrammingError(f"{written} takes pairs: call it in WHERE, not in a join inside of brackets")
    end = layout.end_of_condition(at + 1)
    span = layout.tokens[at + 1].start, layout.tokens[end - 1].end
    within = [c for c in edits.changes if span[0] <= c[0] and c[1] <= span[1]]
    edits.changes = [c for c in edits.changes if c not in within]
    shifted = Edits([(a - span[0], b - span[0], n, f, p) for a, b, n, f, p in within])
    condition = shifted.apply(layout.text[span[0] : span[1]])[0]
    edits.replace(*span, "true")
    return f"({condition})"
