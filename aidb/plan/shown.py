"""The columns that a query shows, by name and in order, as far as its text and the catalog tell.

With them a view or a derived table that ends in ``SELECT *`` takes part in joins by USING like any table.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from aidb.catalog.relations import Relations
from aidb.plan.nodes import is_bare, is_star, output_name, table_name, view_query
from aidb.plan.scopes import Cte

Names = tuple[str, ...]
_NOT_TOLD = ("pivots", "laterals", "method")


def shown_columns(query: exp.Expr, env: Mapping[str, Cte], relations: Relations) -> Names | None:
    """Return the names of a query's columns; None if they can't be told, or if two are the same.

    env: the CTEs that the query sees; one without a node is of unknown columns.
    """
    names = _query(query, env, relations)
    return None if names is None or len({n.lower() for n in names}) < len(names) else names


def _query(query: exp.Expr, env: Mapping[str, Cte], relations: Relations) -> Names | None:
    env = _with(query, env)
    if isinstance(query, exp.SetOperation):
        return None if query.args.get("by_name") else _query(query.left, env, relations)
    if isinstance(query, exp.Subquery):
        return None if query.args.get("pivots") else _query(query.this, env, relations)
    if not isinstance(query, exp.Select) or any(query.args.get(k) for k in _NOT_TOLD):
        return None
    found: list[str] = []
    for item in query.expressions:
        name = output_name(item)
        names: Names | None = None if name is None else (name,)
        if is_star(item) and not _changes(item):
            names = _starred(query, item, env, relations)
        if names is None:
            return None
        found += names
    return tuple(found)


def _with(query: exp.Expr, env: Mapping[str, Cte]) -> Mapping[str, Cte]:
    clause = query.args.get("with_")
    if clause is None:
        return env
    inner = dict(env)
    for cte in clause.expressions:
        columns = tuple(c.name for c in cte.args["alias"].columns)
        node = None if clause.args.get("recursive") else cte.this
        inner[cte.alias.lower()] = Cte(node, dict(inner), columns)
    return inner


def _changes(item: exp.Expr) -> bool:
    """Does a star leave out, replace, rename or choose columns?"""
    star = item.this if isinstance(item, exp.Column) else item
    return not isinstance(star, exp.Star) or any(star.args.values())


def _starred(query: exp.Select, item: exp.Expr, env: Mapping[str, Cte], relations: Relations) -> Names | None:
    """Return what ``*`` or ``t.*`` stands for: of columns that USING merges, the first."""
    clause = query.args.get("from_")
    if clause is None:
        return None
    wanted = item.table.lower() if isinstance(item, exp.Column) else ""
    found: list[str] = []
    for source, using in [(clause.this, ()), *((j.this, _using(j)) for j in query.args.get("joins") or ())]:
        if using is None:
            return None
        if wanted and source.alias_or_name.lower() != wanted:
            continue
        names = _source(source, env, relations)
        if names is None or (wanted and using):
            return None
        merged = {u.lower() for u in using}
        found += [n for n in names if n.lower() not in merged]
    return tuple(found) or None


def _using(join: exp.Join) -> Names | None:
    """Return the columns that a join merges; None for one that shows its sides in another way."""
    if (join.args.get("method") or "") or (join.args.get("kind") or "").upper() in ("SEMI", "ANTI"):
        return None
    return tuple(c.name for c in join.args.get("using") or ())


def _source(source: exp.Expr, env: Mapping[str, Cte], relations: Relations) -> Names | None:
    if source.args.get("joins") or source.args.get("pivots"):
        return None
    given = source.args.get("alias")
    renamed = tuple(c.name for c in given.columns) if isinstance(given, exp.TableAlias) else ()
    names: Names | None = None
    if isinstance(source, exp.Subquery):
        names = _query(source.this, env, relations)
    elif isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
        name = source.name.lower()
        cte = env.get(name) if is_bare(source) else None
        if cte is not None:
            names = None if cte.node is None else _named(_query(cte.node, cte.env, relations), cte.columns)
        elif not table_name(source):
            return None
        elif (relation := relations.get(table_name(source))) is not None:
            names = relation.columns
        elif table_name(source) in relations.views:
            query, columns = view_query(relations.views[table_name(source)])
            names = _named(_query(query, {}, relations), tuple(columns))
    return _named(names, renamed)


def _named(names: Names | None, given: Names) -> Names | None:
    """Return names of which the first were given anew."""
    return None if names is None else (*given, *names[len(given) :])
