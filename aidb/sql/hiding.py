"""Hidden columns stay hidden: ``*``, ``f.*``, ``COLUMNS(...)``, a table's name as a row, names of result columns."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from sqlglot import exp

from aidb.errors import ProgrammingError
from aidb.sql.layout import Region
from aidb.sql.reading import Call, Work
from aidb.sql.render import quoted
from aidb.sql.scopes import Block, Item, Unresolved, projection_of, resolve, star


def hide(work: Work) -> None:
    """Edit every place of the text that would show a column which the user doesn't know of."""
    _refuse_pivots(work)
    for block in work.blocks:
        implied = None
        for node in block.stars:
            if isinstance(node, exp.Star) and node.parent is block.select and work.start(node) is None:
                implied = _star_text(block) or f"*{_exclude(_gone(block, None))}"
            elif isinstance(node, exp.Columns):
                _columns(work, block, node)
            else:
                _star(work, block, node)
        _name_results(work, block)
        _add_extra(work, block, implied)
        _rows(work, block)
        _qualify(work, block)


def _gone(block: Block, item: Item | None) -> list[tuple[Item, str]]:
    """What a star must not show: of one item, or of all, then also the keys that a model's rows share with the parent."""
    found = []
    for i in [item] if item is not None else [i for i in block.items if i.visible]:
        found += [(i, name) for name in i.hidden_columns()]
        if item is None and i.columns is not None:
            found += [(i, c) for c in i.columns if c.lower() in i.silent]
    return found


def _exclude(gone: list[tuple[Item, str]]) -> str:
    return f" EXCLUDE ({', '.join(_qualified(i, n) for i, n in gone)})" if gone else ""


def _qualified(item: Item, name: str) -> str:
    return f"{quoted(item.name)}.{quoted(name)}" if item.name else quoted(name)


def _star_text(block: Block) -> str | None:
    """``*`` spelled out, if every column is known: the planner sees through it, as it does not through EXCLUDE."""
    shown = star(block)
    if shown is None or not _gone(block, None):
        return None
    return ", ".join(_qualified(f.item, c) for c, f in shown)


def _star(work: Work, block: Block, node: exp.Expr) -> None:
    inner = node if isinstance(node, exp.Star) else node.this
    item = block.named(node.table) if isinstance(node, exp.Column) else None
    if isinstance(node, exp.Column) and item is None:
        return
    if isinstance(node, exp.Star) and isinstance(node.parent, exp.Count):
        return  # count(*) counts rows
    gone = _gone(block, item)
    if not gone:
        return
    first = node.args["table"].meta["start"] if isinstance(node, exp.Column) else inner.meta["start"]
    end = inner.meta["end"] + 1
    bare = not any(inner.args.get(k) for k in ("except_", "replace", "rename"))
    if bare and node.parent is block.select:
        if item is None:
            text = _star_text(block)
        else:
            text = None if item.columns is None else ", ".join(_qualified(item, c) for c in item.columns)
        if text is not None:
            work.edits.replace(first, end, text)
            return
    if item is not None:  # item.* EXCLUDE takes bare names
        gone = [(Item("", node), n) for _, n in gone]
    _extend_exclude(work, inner, end, gone)


def _extend_exclude(work: Work, node: exp.Expr, end: int, gone: list[tuple[Item, str]]) -> None:
    layout = work.layout
    place = layout.at(node.meta["start"]) + 1
    if not node.args.get("except_"):
        work.edits.insert(end, _exclude(gone))
        return
    names = ", ".join(_qualified(i, n) for i, n in gone)
    if layout.key(place + 1) == "(":
        work.edits.insert(layout.tokens[place + 1].end, f"{names}, ")
        return
    last = place + 1  # EXCLUDE name, EXCLUDE table.name
    while layout.key(last + 1) == ".":
        last += 2
    work.edits.insert(layout.tokens[place + 1].start, f"({names}, ")
    work.edits.insert(layout.tokens[last].end, ")")


def _columns(work: Work, block: Block, node: exp.Columns) -> None:
    """COLUMNS('regex') and COLUMNS(c -> ...) choose by name: the hidden names are taken out of the choice."""
    gone = _gone(block, None)
    inner = node.this
    if not gone or isinstance(inner, exp.Star) or (isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star)):
        return
    layout, edits = work.layout, work.edits
    opening = layout.at(node.meta["start"]) + 1
    close = layout.closing(opening)
    names = ", ".join("'" + n.replace("'", "''") + "'" for _, n in gone if n.startswith("__"))
    if isinstance(inner, exp.Literal) and names:
        text = work.text[layout.tokens[opening].end : layout.tokens[close].start]
        edits.replace(
            layout.tokens[opening].end,
            layout.tokens[close].start,
            f"lambda __c: regexp_matches(__c, {text}) AND __c NOT IN ({names})",
        )
    elif isinstance(inner, exp.Lambda) and names:
        arrow = next(i for i in range(opening, close) if layout.key(i) == ":" or layout.key(i) == ">")
        variable = quoted(inner.expressions[0].name)
        edits.insert(layout.tokens[arrow].end, f" {variable} NOT IN ({names}) AND (")
        edits.insert(layout.tokens[close].start, ")")


def _segments(work: Work, region: Region) -> list[tuple[int, int]]:
    """First token and the one beyond, for each expression of the select list."""
    layout = work.layout
    if region.select is None:
        return []
    first = region.select + 1
    if layout.key(first) in ("DISTINCT", "ALL"):
        first += 1
        if layout.key(first) == "ON":
            first = layout.closing(first + 1) + 1
    end = region.after(region.select)
    if first >= end:
        return []
    edges = [first - 1, *layout.commas(first, end), end]
    return [(a + 1, b) for a, b in pairwise(edges) if b > a + 1]


def _name_results(work: Work, block: Block) -> None:
    """A result column without a name keeps the one that the call would have given it."""
    named: set[int] = set()
    for call in work.calls:
        if call.block is not block:
            continue
        top = projection_of(call.node, block)
        if top is None or isinstance(top, exp.Alias) or id(top) in named:
            continue
        named.add(id(top))
        segments = _segments(work, work.region(block))
        place = next((n for n, e in enumerate(block.select.expressions) if e is top), None)
        if place is None or len(segments) != len(block.select.expressions):
            continue
        first, beyond = segments[place]
        end = work.layout.tokens[beyond - 1].end
        text = work.text[work.layout.tokens[first].start : end]
        work.edits.insert(end, f" AS {quoted(_result_name(work, call, top, text))}")


def _result_name(work: Work, call: Call, top: exp.Expr, text: str) -> str:
    if isinstance(top, exp.Dot):
        return str(top.expression.name)
    for n in reversed(range(len(work.mentions))):
        text = text.replace(work.mark(n), work.mentions[n].model.lower())
    return " ".join(text.split()).replace("( ", "(").replace(" )", ")")


def _add_extra(work: Work, block: Block, implied: str | None) -> None:
    """Columns that the query around needs for a call on this one's columns, at the end of the select list."""
    extra = next((b.extra for b in work.bodies if b.block is block), {})
    added = "".join(f", {_qualified(item, name)} AS {quoted(new)}" for (_, name), (item, new) in extra.items())
    if not added and (implied is None or implied == "*"):
        return
    region = work.region(block)
    if implied is not None:
        if region.clauses[:1] != [("FROM", region.first)]:
            raise ProgrammingError("TABLE t can't be read together with a model's call; write SELECT * FROM t")
        work.edits.insert(work.layout.tokens[region.first].start, f"SELECT {implied}{added} ")
        return
    segments = _segments(work, region)
    work.edits.insert(work.layout.tokens[segments[-1][1] - 1].end, added)


def _rows(work: Work, block: Block) -> None:
    """``SELECT f FROM frames f`` is the row as a struct; it is spelled out where the row has hidden columns."""
    for column in block.columns:
        if column.table or _in_call(work, column):
            continue
        item = next((i for s in block.outward() if (i := s.named(column.name)) is not None), None)
        if item is None or not item.hidden_columns() or item.columns is None or _resolves(column, block):
            continue
        fields = ", ".join(f"'{c.replace(chr(39), chr(39) * 2)}': {_qualified(item, c)}" for c in item.columns)
        name = f" AS {quoted(column.name)}" if column.parent is block.select else ""
        meta = column.this.meta
        work.edits.replace(meta["start"], meta["end"] + 1, f"{{{fields}}}{name}")


def _qualify(work: Work, block: Block) -> None:
    """Names that the rewriting made ambiguous get their table, and lose a schema that is no longer there."""
    for column in block.columns:
        if _in_call(work, column):
            continue
        schema = column.args.get("db")
        if schema is not None:
            item = next((i for s in block.outward() if (i := s.named(column.table)) is not None), None)
            if item is not None and item.hidden:
                first = column.args.get("catalog") or schema
                work.edits.replace(first.meta["start"], column.args["table"].meta["start"], "")
        elif not column.table and any(column.name.lower() in i.silent for s in block.outward() for i in s.items):
            found = resolve(column, block) if _resolves(column, block) else None
            if found is not None and "start" in column.this.meta:
                work.edits.insert(column.this.meta["start"], f"{quoted(found.item.name)}.")


def _resolves(column: exp.Column, block: Block) -> bool:
    try:
        return resolve(column, block) is not None
    except Unresolved:
        return False


def _in_call(work: Work, column: exp.Expr) -> bool:
    """Is the column an argument of a model, and so gone from the text?"""
    node = column.parent
    while node is not None and not isinstance(node, exp.Select):
        if work.mention(node) is not None:
            return True
        node = node.parent
    return False


def _refuse_pivots(work: Work) -> None:
    """PIVOT groups by all columns it isn't told of, and NATURAL JOIN joins by all that both sides have."""
    holders = {b.cte.lower() for b in work.bodies if b.cte is not None and b.extra}
    pivoted = [t.name for t in work.loose if t.name.lower() in holders]
    pivoted += [i.name for b in work.blocks for i in b.items if i.pivoted and i.node.name.lower() in holders]
    if pivoted:
        raise ProgrammingError(
            f"{pivoted[0]} is pivoted and a model is called on its columns; give the answer a name there"
        )
    collect: Callable[[tuple[Item, ...]], set[str]] = lambda items: {n for i in items for n in i.hidden_columns()}  # noqa: E731
    for block in work.blocks:
        for join in block.joins:
            if join.method == "NATURAL" and collect(join.left) & collect(join.right):
                raise ProgrammingError("NATURAL JOIN of a CTE with itself, where a model is called on it: use USING")
