"""Names: quoting for SQL, and from the physical names that DuckDB's binder reports back to relations."""

from __future__ import annotations

import re
from collections.abc import Iterable

from aidb.catalog.relations import Extension, Fill, Relation, Relations


def quote(name: str) -> str:
    """Return an SQL identifier for a name.

    >>> quote('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def unquoted(name: str) -> str:
    """Return a qualified SQL name without its quotes, in lower case, without the default schema.

    DuckDB reports tables of a statement with their alias; that is left out. A subselect that gives the columns of one
    table other names, as `Fill.rows` may be, counts as that table.

    >>> unquoted('"aidb_internal"."rows_3" AS b'), unquoted("main.Box")
    ('aidb_internal.rows_3', 'box')
    """
    renamed = _RENAMED.match(name)
    name = renamed[1] if renamed else name
    qualified = _QUALIFIED.match(name)
    parts = _PART.findall(qualified[0] if qualified else name)
    plain = [quoted.replace('""', '"') or bare for quoted, bare in parts]
    return ".".join(plain[1:] if len(plain) == 2 and plain[0].lower() == "main" else plain).lower()


_RENAMED = re.compile(r"\(SELECT .* FROM (\S+)\)$", re.DOTALL)
_PART = re.compile(r'"((?:[^"]|"")+)"|([^."\s]+)')
_QUALIFIED = re.compile(rf"(?:{_PART.pattern})(?:\.(?:{_PART.pattern}))*")


def fills_of(relation: Relation) -> tuple[Fill, ...]:
    """Return every fill that reading all of a relation needs, ancestors apart."""
    own = () if relation.fill is None else (relation.fill,)
    return own + tuple(e.fill for e in relation.extensions)


def parents_of(fill: Fill, relations: Relations) -> list[Relation]:
    """Return the relations whose rows are the fill's items; raises LookupError for one that is not in the catalog."""
    found = []
    for name in fill.parents:
        relation = relations.get(name)
        if relation is None:
            raise LookupError(f"{fill.id}: its parent {name} is not in the catalog")
        found.append(relation)
    return found


def is_row_each(fill: Fill, relations: Relations) -> bool:
    """Is each item of a fill one row of a table with a key? Then no two rows name one item, and none need be compared."""
    parents = [relations.get(name) for name in fill.parents]
    if len(parents) != 1 or parents[0] is None or not parents[0].key or fill.null_safe:
        return False
    keys = {k.lower() for k in fill.keys}
    return {k.lower() for k in parents[0].key} <= keys and not key_extensions(fill, parents[0])


def key_extensions(fill: Fill, parent: Relation) -> list[Extension]:
    """Return the virtual columns of a parent by whose values a fill is keyed: they must be known before it can run."""
    keys = {k.lower() for k in fill.keys}
    return [e for e in parent.extensions if e.fill != fill and any(c.lower() in keys for c in e.columns)]


def with_keys(extensions: Iterable[Extension], relation: Relation) -> list[Extension]:
    """Return virtual columns together with those by whose values they are keyed, these first."""
    found: list[Extension] = []
    for extension in extensions:
        found += [e for e in with_keys(key_extensions(extension.fill, relation), relation) if e not in found]
        found += [] if extension in found else [extension]
    return found


def before(fill: Fill, relations: Relations) -> list[Fill]:
    """Return what must run directly before a fill."""
    found = []
    for parent in parents_of(fill, relations):
        found += [e.fill for e in key_extensions(fill, parent)]
        found += [] if parent.fill is None else [parent.fill]
    return found


def with_ancestors(fill: Fill, relations: Relations) -> list[Fill]:
    """Return the fill and what must run before it, nearest first."""
    found = [fill]
    for direct in before(fill, relations):
        found += [f for f in with_ancestors(direct, relations) if f not in found]
    return found


def depth(fill: Fill, relations: Relations) -> int:
    """Return how many fills must run before this one, along its longest chain."""
    return max((1 + depth(f, relations) for f in before(fill, relations)), default=0)


class Physical:
    """Where rows are stored -> the relations that read them."""

    def __init__(self, relations: Relations) -> None:
        self._readers: dict[str, list[Relation]] = {}
        for relation in relations.tables.values():
            for name in {relation.name, unquoted(relation.base)} | {unquoted(f.rows) for f in fills_of(relation)}:
                self._readers.setdefault(name.lower(), []).append(relation)

    def readers(self, name: str) -> list[Relation]:
        """Return the relations that a name reported by DuckDB may stand for; none for a table we know nothing of."""
        return self._readers.get(unquoted(name), [])

    def fills(self, name: str) -> list[Fill]:
        """Return the fills whose answers are stored under this name."""
        found = {f: None for r in self.readers(name) for f in fills_of(r) if unquoted(f.rows) == unquoted(name)}
        return list(found)
