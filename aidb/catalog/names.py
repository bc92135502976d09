"""Names in SQL: quoting, and comparing them as DuckDB does, in any letter case."""

from __future__ import annotations

from collections.abc import Iterable


def quoted(name: str) -> str:
    """A name as an SQL identifier, always quoted.

    >>> quoted('the "best" one')
    '"the ""best"" one"'
    """
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str], prefix: str = "") -> str:
    """Quoted names with commas, each after an optional alias and dot.

    >>> listed(["a", "b"], "t.")
    't."a", t."b"'
    """
    return ", ".join(prefix + quoted(n) for n in names)


def literal(text: str) -> str:
    """A string literal.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def same(one: str, other: str) -> bool:
    """Are these one name to DuckDB?"""
    return one.lower() == other.lower()
