"""A user's view, put into a query in place of its name, so that a model can be called on the tables behind it."""

from __future__ import annotations

from aidb.catalog.relations import Relations
from aidb.errors import ProgrammingError
from aidb.sql.layout import Layout
from aidb.sql.render import quoted
from aidb.sql.scopes import Item


def expand_view(text: str, item: Item, relations: Relations) -> str:
    """The query with one mention of a view replaced by ``(its text) AS name``.

    item: the view's place in FROM. Raises `ProgrammingError` if a CTE of the query would be taken for a table that the
    view reads.
    """
    assert item.view is not None
    body, columns = view_body(relations.views[item.view])
    layout, inside = Layout(text), Layout(body)
    wanted = {inside.name(i).lower() for i in range(len(inside.tokens)) if inside.is_name(i)}
    for i in range(len(layout.tokens) - 1):
        follows = layout.key(i + 1) == "AS" and layout.key(i + 2) in ("(", "MATERIALIZED", "NOT")
        if (
            layout.is_name(i)
            and follows
            and layout.name(i).lower() in wanted
            and layout.key(i - 1) in ("WITH", ",", "RECURSIVE")
        ):
            raise ProgrammingError(
                f"the CTE {layout.name(i)} bears the name of a table that the view {item.name} reads"
            )
    names = f"({', '.join(map(quoted, columns))})" if columns else ""
    if names and item.aliased:
        body, names = f"SELECT * FROM ({body}) AS {quoted(item.name)}{names}", ""
    assert item.tokens is not None  # the parsed text has the same tokens as this one, in other places
    start, end = layout.tokens[item.tokens[0]].start, layout.tokens[item.tokens[1]].end
    alias = "" if item.aliased else f" AS {quoted(item.name)}{names}"
    return f"{text[:start]}({body}){alias}{text[end:]}"


def view_body(sql: str) -> tuple[str, tuple[str, ...]]:
    """The SELECT of a view and its column list, from the whole CREATE VIEW or from the SELECT alone.

    >>> view_body('CREATE VIEW v(a, "b c") AS SELECT 1, 2;')
    ('SELECT 1, 2', ('a', 'b c'))
    """
    layout = Layout(sql)
    end = layout.tokens[-1].start if layout.key(len(layout.tokens) - 1) == ";" else len(sql)
    if layout.key(0) != "CREATE":
        return sql[:end].strip(), ()
    at = next(i for i, t in enumerate(layout.tokens) if t.key == "AS" and t.depth == 0)
    columns: tuple[str, ...] = ()
    if layout.key(at - 1) == ")":
        opening = next(i for i in range(at) if layout.key(i) == "(")
        columns = tuple(layout.name(i) for i in range(opening + 1, at - 1) if layout.is_name(i))
    return sql[layout.tokens[at].end : end].strip(), columns
