"""Models in FROM: ``FROM frames f, yolo(f.image) AS b`` becomes a join with the table of the model's answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from aidb.catalog.relations import Fill, Relation
from aidb.errors import NotSupportedError, ProgrammingError
from aidb.sql.functions import Mention
from aidb.sql.layout import JOIN_WORDS, Layout
from aidb.sql.pairs import PAIR
from aidb.sql.placing import Path, column_of, field_of, fill_of, key_name, lift, path_of, reference, target
from aidb.sql.reading import Work
from aidb.sql.render import fill_columns, quoted
from aidb.sql.scopes import Block, Item, Joined, equal


@dataclass(eq=False)
class FromCall:
    """A model's call in FROM.

    condition: what makes its rows those of the parent's row, empty for a call that stands alone. element: where the
    earliest parent stands, counted in commas; None if the parent is in an outer query. using: the keys, where USING
    says the same as the condition.
    """

    item: Item
    mention: Mention
    node: exp.Expr
    join: exp.Join | None
    condition: str = ""
    element: int | None = None
    using: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(eq=False)
class FromCalls:
    """All calls in FROM of one statement: `read` meets them in order, `rewrite` edits the text around them."""

    found: list[FromCall] = field(default_factory=list)
    _commas: set[int] = field(default_factory=set)

    def read(
        self,
        work: Work,
        block: Block,
        node: exp.Expr,
        mention: Mention,
        join: exp.Join | None,
        elements: list[list[Item]],
    ) -> tuple[Item, Joined | None]:
        """The item that the call stands for, and how it is joined to the items before it."""
        args = [column_of(work, mention, a) for a in node.this.expressions]
        if not args:
            raise ProgrammingError(f"{mention.written}() needs the columns that the model shall see")
        places = [field_of(a, block) for a in args]
        if all(p is None for p in places):
            return self._alone(work, node, mention, join, args)
        missing = next((a for a, p in zip(args, places, strict=True) if p is None), None)
        if missing is not None:
            raise ProgrammingError(
                f"{mention.written}: no table to the left of it has the column {work.written(missing)}"
            )
        paths = [path_of(p) for p in places if p is not None]
        fill = fill_of(work, mention, paths)
        owners = _owners(work, mention, fill, paths)
        call = FromCall(_item(work, node, mention, fill, joined=True), mention, node, join)
        self.found.append(call)
        lifted = [(k, p, lift(work, p, key_name(p.base.item, k))) for k, ps in owners.items() for p in ps]
        call.names = _names(call.item)
        same = "IS NOT DISTINCT FROM" if fill.null_safe else "="
        call.condition = " AND ".join(
            f"{quoted(call.item.name)}.{quoted(k)} {same} {reference(p, name, block)}" for k, p, name in lifted
        )
        parents = {id(p.outer.item): p.outer for _, p, _ in lifted}
        if all(p.block is not block for p in parents.values()):
            return call.item, None
        behind = [n for n, e in enumerate(elements) if any(id(i) in parents for i in e)]
        met = all(any(p.item in e for e in elements) for p in parents.values())
        if not met or join is None:
            names = " and ".join(p.item.name for p in parents.values())
            raise ProgrammingError(
                f"{mention.written}: put it directly into FROM, behind {names} and outside of brackets"
            )
        call.element = min(behind)
        return call.item, self._joined(call, block, fill, lifted, elements)

    def _alone(
        self, work: Work, node: exp.Expr, mention: Mention, join: exp.Join | None, args: list[exp.Column]
    ) -> tuple[Item, None]:
        """``FROM yolo(frames.image)`` where frames is not in FROM: all rows of the virtual table."""
        columns = []
        for arg in args:
            candidates = [
                r for r in work.relations.tables.values()
                if arg.name.lower() in (c.lower() for c in r.columns) and arg.table.lower() in ("", r.name.lower())
            ]  # fmt: skip
            if len(candidates) != 1:
                names = ", ".join(f"{r.name}.{arg.name}" for r in candidates)
                raise ProgrammingError(
                    f"{mention.written}: {work.written(arg)} is ambiguous; it may be {names}" if names
                    else f"{mention.written}: no table has the column {work.written(arg)}"
                )  # fmt: skip
            column = next(c for c in candidates[0].columns if c.lower() == arg.name.lower())
            columns.append((candidates[0].name, column))
        fill = work.functions.fill(mention.model, columns)
        call = FromCall(_item(work, node, mention, fill, joined=False), mention, node, join)
        call.names = _names(call.item)
        self.found.append(call)
        return call.item, None

    def _joined(
        self,
        call: FromCall,
        block: Block,
        fill: Fill,
        lifted: list[tuple[str, Path, str]],
        elements: list[list[Item]],
    ) -> Joined:
        join, item = call.join, call.item
        assert call.element is not None
        tree = [i for e in elements[call.element :] for i in e]
        given = {u.name.lower() for u in join.args.get("using") or ()} if join is not None else set()
        side, kind = (join.side, join.kind) if join is not None else ("", "")
        if join is not None and (join.method or side in ("RIGHT", "FULL")):
            raise ProgrammingError(
                f"{join.method or side} JOIN {call.mention.written}(...): a model's rows follow from the rows to the "
                f"left of it; write a comma, CROSS JOIN or LEFT JOIN ... ON true"
            )
        plain = join is None or join.args.get("on") is None or _is_true(join.args["on"])
        hidden = item.name.startswith(PAIR)
        sound = plain and not fill.null_safe and kind not in ("SEMI", "ANTI") and len(fill.parents) == 1
        for key, path, name in lifted:
            bearers = [i for i in tree if i.visible and i.index(key) is not None and key.lower() not in i.silent]
            sound = sound and key.lower() == name.lower() and path.outer.item in bearers
            sound = sound and (len(bearers) == 1 or block.merged(key, bearers) is not None)
        sound = sound and all(i.columns is not None for i in tree if i.visible)
        sound = sound and not any(j.side in ("RIGHT", "FULL") for j in block.joins)
        if given and (given != {k.lower() for k in fill.keys} or not sound):
            raise ProgrammingError(
                f"{call.mention.written}(...) USING: the keys are joined without saying so; drop USING"
            )
        if sound:
            call.using = fill.keys
            return Joined(tuple(tree), (item,), side, kind, "", fill.keys, None)
        item.silent = frozenset(k.lower() for k in ((item.columns or ()) if hidden else fill.keys))
        equalities: list[exp.Expr] = [
            exp.EQ(this=exp.column(k, table=item.name), expression=exp.column(n, table=p.outer.item.name))
            for k, p, n in lifted
        ]
        given_on = [join.args["on"]] if join is not None and join.args.get("on") is not None else []
        return Joined(tuple(tree), (item,), side, kind, "", (), exp.and_(*given_on, *equalities))

    def rewrite(self, work: Work, relation_texts: dict[int, tuple[str, str]]) -> None:
        """Edit the text: the calls themselves, the commas and joins before them, their conditions.

        relation_texts: by id of the item, what stands for its relation in the two texts.
        """
        for call in self.found:
            layout = work.layout
            first = call.mention.place
            beyond = _beyond(layout, call)
            lateral = layout.key(first - 1) == "LATERAL"
            start = layout.tokens[first - 1 if lateral else first].start
            columns = f"({', '.join(map(quoted, call.names))})" if call.names else ""
            final, planning = relation_texts[id(call.item)]
            tail = f" AS {quoted(call.item.name)}"
            if call.condition and call.element is None:
                inner = f"{tail}{columns} WHERE {call.condition}"
                final, planning = (f"(SELECT * FROM {r}{inner})" for r in (final, planning))
                columns = ""
            tail += columns
            work.edits.replace(start, layout.tokens[beyond - 1].end, final + tail, planning + tail)
            if call.element is not None:
                self._rewrite_join(work, call, first - 2 if lateral else first - 1, beyond)

    def _rewrite_join(self, work: Work, call: FromCall, before: int, beyond: int) -> None:
        layout, edits = work.layout, work.edits
        tokens = layout.tokens
        keys = f"USING ({', '.join(map(quoted, call.using))})" if call.using else f"ON {call.condition}"
        self._chain(work, call, before, beyond)
        if layout.key(before) == "JOIN" and layout.key(before - 1) == "CROSS":
            edits.replace(tokens[before - 1].start, tokens[before].start, "")
        on = call.join.args.get("on") if call.join is not None else None
        if on is None:
            if call.join is None or not call.join.args.get("using"):
                edits.insert(tokens[beyond - 1].end, f" {keys}")
            return
        end = layout.end_of_condition(beyond + 1)
        if _is_true(on):
            edits.replace(tokens[beyond].start, tokens[end - 1].end, keys)
        else:
            edits.insert(tokens[beyond].end, f" {call.condition} AND (")
            edits.insert(tokens[end - 1].end, ")")

    def _chain(self, work: Work, call: FromCall, before: int, beyond: int) -> None:
        """Make one tree of joins of everything from the parent on: a comma binds looser than JOIN."""
        layout, edits, tokens = work.layout, work.edits, work.layout.tokens
        region = layout.region(before)
        if region is None or (start := region.clause("FROM")) is None or tokens[start].depth != tokens[before].depth:
            return  # inside of a bracketed join: there are no commas
        assert call.element is not None
        commas = layout.commas(start, region.after(start))
        current = sum(c <= before for c in commas)
        if current > call.element:
            self._refuse_outer(layout, call, beyond, next((c for c in commas if c > before), region.after(start)))
        for n in range(call.element, current):
            comma = commas[n]
            if comma in self._commas:
                continue
            self._commas.add(comma)
            if comma == before:
                edits.replace(tokens[comma].start, tokens[comma].end, " JOIN")
                continue
            edits.replace(tokens[comma].start, tokens[comma].end, " CROSS JOIN")
            end = next((c for c in commas if c > comma), len(tokens))
            if end > before:  # the call's own element: what stands before its JOIN
                end = before
                while layout.key(end - 1) in JOIN_WORDS:
                    end -= 1
            if any(layout.key(i) == "JOIN" and tokens[i].depth == tokens[comma].depth for i in range(comma, end)):
                edits.insert(tokens[comma + 1].start, "(")
                edits.insert(tokens[end - 1].end, ")")

    def _refuse_outer(self, layout: Layout, call: FromCall, first: int, end: int) -> None:
        depth = layout.tokens[call.mention.place].depth
        for i in range(first, end):
            outer = layout.key(i) in ("RIGHT", "FULL", "POSITIONAL") and layout.key(i + 1) in JOIN_WORDS
            if outer and layout.tokens[i].depth == depth:
                raise ProgrammingError(
                    f"{layout.key(i)} JOIN behind {call.mention.written}(...): put that join into a subquery, "
                    f"since it would see {call.mention.written} without the table that it is called on"
                )


def _owners(work: Work, mention: Mention, fill: Fill, paths: list[Path]) -> dict[str, list[Path]]:
    """For each key the arguments whose tables have it: of pairs that agree on a key both sides."""
    if len(fill.parents) == 1:
        several = len({id(p.base.item) for p in paths}) > 1
        chosen = target(work, mention, fill, paths) if several else paths[0]
        return {k: [chosen] for k in fill.keys}
    if len({p.lower() for p in fill.parents}) < len(fill.parents):
        raise NotSupportedError(f"{mention.written} takes pairs of {fill.parents[0]} with itself: use a virtual table")
    owners: dict[str, list[Path]] = {}
    for key in fill.keys:
        having: dict[int, Path] = {}
        for path in paths:
            if key.lower() in (c.lower() for c in path.base.item.origin or ()):
                having.setdefault(id(path.base.item), path)
        if not having:
            raise ProgrammingError(f"{mention.written}: none of its tables has the key {key}")
        owners[key] = list(having.values())
        for other in owners[key][1:]:
            if not equal(owners[key][0].base.item, other.base.item, key, other.base.block):
                names = " and ".join(p.outer.item.name for p in owners[key])
                raise ProgrammingError(f"{mention.written}: join {names} on {key}; only such pairs have answers")
    return owners


def _is_true(on: exp.Expr) -> bool:
    on = on.unnest() if isinstance(on, exp.Paren) else on
    return isinstance(on, exp.Boolean) and bool(on.this)


def _beyond(layout: Layout, call: FromCall) -> int:
    """The token beyond the call with its alias."""
    alias = call.node.args.get("alias")
    at = layout.closing(call.mention.place + 1) + 1
    if alias is None or not alias.name:
        return at
    at += 2 if layout.key(at) == "AS" else 1
    return layout.closing(at) + 1 if alias.columns else at


def _item(work: Work, node: exp.Expr, mention: Mention, fill: Fill, joined: bool) -> Item:
    alias = node.args.get("alias")
    name = alias.name if alias is not None and alias.name else mention.model
    given = tuple(c.name for c in alias.columns) if alias is not None else ()
    origin = fill_columns(fill)
    ordinal = (fill.ordinal,) if fill.ordinal is not None else ()
    relation = Relation(work.name_relation(mention.model), origin, fill.rows, fill.keys + ordinal, fill)
    work.synthetic[relation.name] = relation
    if fill.ordinal is not None and (own := f"{name}_id").lower() not in {c.lower() for c in fill.outputs + fill.keys}:
        ordinal = (own,)
    shown = fill.keys + ordinal + fill.outputs
    skipped = len(fill.keys) if joined else 0
    shown = shown[:skipped] + given + shown[skipped + len(given) :]
    if len(shown) > len(origin):
        raise ProgrammingError(f"{name} has {len(origin) - skipped} columns, {len(given)} names were given")
    return Item(name, node, shown, origin, relation)


def _names(item: Item) -> tuple[str, ...]:
    """The column list behind the alias, where names differ from those that are stored."""
    assert item.columns is not None
    return item.columns if item.columns != item.origin else ()
