"""An INSERT of one row of parameters, as one statement that takes a list for each parameter."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from aidb.sql.tokens import Token, name_of, scan, words

_CONSTANT = words("NULL TRUE FALSE CAST AS DATE TIME TIMESTAMP INTERVAL")


@dataclass(frozen=True)
class ManyRows:
    """The statement in its new form.

    sql: inserts a row for each place in the lists. names: of the parameters, in the order of the lists; None for ``?``.
    table: the name of the table, without its schema. target: a query without rows that has the columns which the
    parameters go to, in order; None if a value is more than a parameter, or a parameter is used twice.
    """

    sql: str
    names: tuple[str | None, ...]
    table: str
    target: str | None


def many_rows(sql: str) -> ManyRows | None:
    """The same INSERT for many rows at once; None if the statement is no INSERT of a row made of parameters and constants.

    >>> many_rows("INSERT INTO t (a, b) VALUES (?, 'x')").sql
    "INSERT INTO t (a, b) SELECT __aidb_1, 'x' FROM (SELECT unnest(?) AS __aidb_1)"
    """
    tokens = scan(sql)
    while tokens and tokens[-1].key == ";":
        tokens.pop()
    at = next((i for i, t in enumerate(tokens) if t.key == "VALUES" and t.depth == 0), 0)
    if [t.key for t in tokens[:2]] != ["INSERT", "INTO"] or at < 3 or at + 2 >= len(tokens):
        return None
    opening, closing = tokens[at + 1], tokens[-1]
    row = tokens[at + 2 : -1]
    if opening.key != "(" or closing.key != ")" or any(t.depth == 0 for t in row) or not _is_plain(row):
        return None
    if any(t.kind == "parameter" or t.key in ("BY", "DEFAULT", "SELECT") for t in tokens[2:at]):
        return None
    names: list[str | None] = []
    parts: list[str] = []
    position = opening.end
    for token in row:
        if token.kind != "parameter":
            continue
        text = sql[token.start : token.end]
        name = None if text == "?" else text[1:]
        if name is None or name not in names:
            names.append(name)
        place = len(names) if name is None else names.index(name) + 1
        parts += [sql[position : token.start], f"__aidb_{place}"]
        position = token.end
    if not names:
        return None
    values = "".join([*parts, sql[position : closing.start]])
    lists = ", ".join(
        f"unnest({'?' if name is None else f'${name}'}) AS __aidb_{place}" for place, name in enumerate(names, 1)
    )
    text = f"{sql[: tokens[at].start]}SELECT {values} FROM (SELECT {lists})"
    bare = len(row) == 2 * len(names) - 1 and all(t.kind == "parameter" or t.key == "," for t in row)
    return ManyRows(text, tuple(names), _table(sql, tokens[2:at]), _columns(sql, tokens[2:at]) if bare else None)


def _is_plain(row: list[Token]) -> bool:
    """Parameters, constants and casts of them: nothing that could be a model or a query."""
    for i, token in enumerate(row):
        before = row[i - 1].key if i else ""
        if token.key == "(" and before != "CAST":
            type_before = i >= 2 and row[i - 2].key in (":", "AS")  # DECIMAL(10, 2)
            if not type_before:
                return False
        if token.kind in ("word", "name") and token.key not in _CONSTANT and before not in (":", "AS"):
            return False
    return True


def _table(sql: str, tokens: list[Token]) -> str:
    """The last part of the name that ``INTO`` is followed by."""
    end = 0
    while end + 2 < len(tokens) and tokens[end + 1].key == ".":
        end += 2
    return name_of(sql, tokens[end])


def _columns(sql: str, tokens: list[Token]) -> str | None:
    """SELECT of the columns that ``INTO table [(columns)]`` names, from no rows."""
    opening = next((i for i, t in enumerate(tokens) if t.key == "("), len(tokens))
    name = tokens[:opening]
    if not name or any(t.kind not in ("word", "name") and t.key != "." for t in name) or _is_aliased(name):
        return None
    table = sql[name[0].start : name[-1].end]
    if opening == len(tokens):
        return f"SELECT * FROM {table} LIMIT 0"
    return f"SELECT {sql[tokens[opening].end : tokens[-1].start]} FROM {table} LIMIT 0"


def _is_aliased(name: list[Token]) -> bool:
    return any(a.key != "." and b.key != "." for a, b in pairwise(name))
