"""DuckDB's own statements that change something: what they may not touch, and where plain tables keep what is stored.

A plain table with virtual columns is a view over ``<table>__stored`` and the answers. INSERT, UPDATE, DELETE and the
like are sent to what is stored; a condition on a virtual column is answered by the view first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from aidb.catalog.definitions import VirtualColumns
from aidb.catalog.names import quoted, same
from aidb.errors import NotSupportedError, ProgrammingError
from aidb.exec.registry import STORED, Registry
from aidb.plan.tables import tables_named
from aidb.sql.render import relation_sql
from aidb.sql.tokens import Token, name_of, scan, words
from aidb.storage.schema import INTERNAL

_ROWS = frozenset({"INSERT", "UPDATE", "DELETE", "TRUNCATE", "MERGE", "COPY"})
_INSIDE = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})
_NO_FUNCTIONS = words("TABLE VIEW INDEX SEQUENCE TYPE SET RESET BEGIN COMMIT CHECKPOINT")
"""What is made, changed or removed, and the verbs without such a thing, that leave all functions as they are."""
_NO_ALIAS = words("SET WHERE USING RETURNING VALUES SELECT FROM DEFAULT ON BY WITH TABLE")
_KEPT = (INTERNAL, "aidb")
_CHANGES = re.compile(r"\b(INSERT|UPDATE|DELETE|TRUNCATE|MERGE|COPY|CREATE|ALTER|DROP)\b", re.IGNORECASE)
_READS_NOTHING = words(
    "DESCRIBE DESC SHOW DROP ALTER COMMENT PRAGMA BEGIN START COMMIT ROLLBACK ABORT END SET RESET USE ATTACH DETACH "
    "INSTALL LOAD CHECKPOINT FORCE VACUUM ANALYZE TRUNCATE DEALLOCATE EXPORT IMPORT"
)


@dataclass(frozen=True)
class Write:
    """What to run in place of a statement.

    sql: the statement as DuckDB shall see it. needs: queries whose models must have run before; asks: they are not
    about the query inside of the statement, which may be planned by itself. changes_names: may it have made, changed or
    removed a table, view or macro? changes_functions: a macro, or (LOAD) functions of DuckDB's? then: what to do in the
    same transaction, if it needs one.
    """

    sql: str
    needs: tuple[str, ...] = ()
    asks: bool = False
    changes_names: bool = False
    changes_functions: bool = False
    then: Callable[[], None] | None = field(default=None, compare=False)


def _wrapped(tokens: list[Token]) -> Token | None:
    """Where the statement inside of PREPARE ... AS or EXPLAIN [ANALYZE | (options)] begins."""
    verb = _key(tokens, 0)
    if verb == "PREPARE":
        return next((after for at, after in pairwise(tokens) if at.key == "AS" and at.depth == 0), None)
    if verb != "EXPLAIN":
        return None
    i = 2 if _key(tokens, 1) in ("ANALYZE", "ANALYSE") else 1
    if _key(tokens, i) == "(" and _key(tokens, i + 1) not in ("SELECT", "WITH", "FROM", "VALUES", "("):
        i = _closing(tokens, i) + 1
    return tokens[i] if i < len(tokens) else None


@dataclass(frozen=True)
class _Target:
    """The object that a statement changes: its name's parts, and the tokens [first, beyond) that spell it."""

    verb: str
    kind: str
    parts: tuple[str, ...]
    first: int
    beyond: int

    @property
    def name(self) -> str:
        return self.parts[-1]


class Writing:
    """Reads statements for one registry."""

    def __init__(self, registry: Registry, drop_columns: Callable[[VirtualColumns], None]) -> None:
        self._registry, self._drop_columns = registry, drop_columns

    def read(self, sql: str) -> Write:
        """What to run for a statement. Raises `ProgrammingError` for what can't be written by hand."""
        tokens = scan(sql)
        while tokens and tokens[-1].key == ";":
            tokens.pop()
        target = _target(sql, tokens)
        verb = _verb(tokens)
        names = verb not in _ROWS | {"SELECT", "FROM", "SUMMARIZE", "DESCRIBE", "SHOW"}
        names |= [_key(tokens, i) for i in range(3)] == ["COPY", "FROM", "DATABASE"]
        functions = names and (target.kind if target is not None else verb) not in _NO_FUNCTIONS
        if verb in ("PREPARE", "EXECUTE") and self.mentioned(sql, tokens):
            raise NotSupportedError(
                "PREPARE can't read tables that models fill: con.execute(sql, parameters) takes parameters"
            )
        if verb == "ALTER" and _key(tokens, 1) == "DATABASE":
            raise NotSupportedError(
                "a database keeps its name while AIDB uses it: give it another one in ATTACH ... AS"
            )
        self._refuse_calls(sql, tokens, verb)
        self.check(sql)
        if target is None:
            needs = self._needs(sql, tokens, None)
            return Write(sql, needs, changes_names=names, changes_functions=functions)
        self._refuse_kept(target)
        unqualified = len(target.parts) == 1 or target.parts[-2].lower() == "main"
        if unqualified and self._registry.is_item_table(target.name):
            return self._of_item_table(sql, tokens, target)
        if unqualified and self._registry.is_extended(target.name):
            return self._of_extended(sql, tokens, target)
        if unqualified and target.name.lower().endswith(STORED) and self._is_stored_part(target):
            own = target.name[: -len(STORED)]
            raise ProgrammingError(f"{target.name} holds what is stored of {own}: change {own}")
        needs = self._needs(sql, tokens, target)
        return Write(sql, needs, changes_names=names, changes_functions=functions)

    def check(self, sql: str) -> None:
        """Raise for what `read` refuses where it stands inside of another statement, or of a query.

        What may not be run may not be prepared either, nor explained by running it, nor done on the way (``WITH gone AS
        (DELETE ... RETURNING *) SELECT ...``).
        """
        if _CHANGES.search(sql) is None:
            return
        tokens = scan(sql)
        inner = _wrapped(tokens)
        if inner is not None:
            self.read(sql[inner.start :])
        for i, token in enumerate(tokens):
            end = _closing(tokens, i) if token.key == "(" else 0
            if end > i + 1 and _verb(tokens[i + 1 : end], tokens[i].depth + 1) in _INSIDE:
                self.read(sql[tokens[i + 1].start : tokens[end - 1].end])

    # ---- refusals
    def _refuse_kept(self, target: _Target) -> None:
        schemas = target.parts[:-1] if target.kind != "SCHEMA" else target.parts
        for kept in _KEPT:
            if schemas and same(schemas[-1], kept):
                raise ProgrammingError(f"the schema {kept} is kept by AIDB and can't be changed by hand")

    def _refuse_calls(self, sql: str, tokens: list[Token], verb: str) -> None:
        """Statements whose conditions are DuckDB's alone to evaluate."""
        if verb not in ("UPDATE", "DELETE", "MERGE"):
            return
        for i, token in enumerate(tokens[:-1]):
            called = name_of(sql, token) if token.kind in ("word", "name") else ""
            if called.lower() in self._registry.models and tokens[i + 1].key == "(" and _key(tokens, i - 1) != ".":
                raise NotSupportedError(
                    f"{called} can't be called in {verb}: give its answers a name first, CREATE VIRTUAL TABLE ... AS "
                    f"{called}(...) or ALTER TABLE ... ADD VIRTUAL COLUMN"
                )

    def _is_stored_part(self, target: _Target) -> bool:
        return target.verb in ("DROP", "ALTER", "CREATE") and self._registry.is_extended(target.name[: -len(STORED)])

    def _of_item_table(self, sql: str, tokens: list[Token], target: _Target) -> Write:
        name, kind = target.name, "blob" if target.name.lower() in self._registry.blobs else "virtual"
        if target.verb == "ALTER":
            dropped = self._dropped_columns(sql, tokens, target)
            if dropped is not None:
                return dropped
            raise ProgrammingError(
                f"{name} is a {kind} table: its columns are what its {'source' if kind == 'blob' else 'model'} gives; "
                f"CREATE OR REPLACE {kind.upper()} TABLE declares it anew"
            )
        if target.verb == "DROP":
            raise ProgrammingError(f"{name} is a {kind} table: DROP {kind.upper()} TABLE {name}")
        if target.verb == "CREATE":
            raise ProgrammingError(f"there is a {kind} table {name!r} already; DROP it or choose another name")
        how = "REFRESH BLOB TABLE lists its items again" if kind == "blob" else "its model fills it"
        raise ProgrammingError(f"{name} is a {kind} table and can't be written by hand: {how}")

    # ---- plain tables with virtual columns
    def _of_extended(self, sql: str, tokens: list[Token], target: _Target) -> Write:
        table = target.name
        if target.verb == "ALTER":
            return self._altered(sql, tokens, target)
        if target.verb == "DROP":
            return self._dropped(sql, tokens, target)
        if target.verb == "CREATE":
            return self._recreated(sql, tokens, target)
        virtual = {c.lower() for v in self._of(table) for c in v.columns}
        self._refuse_assignment(sql, tokens, target, virtual)
        used = {n.lower() for n, t in _names(sql, tokens[target.beyond :])} & virtual
        needs = self._needs(sql, tokens, target)
        if used and target.verb in ("UPDATE", "DELETE"):
            return self._by_view(sql, tokens, target, used, needs)
        if used and target.verb == "MERGE":
            raise NotSupportedError(
                f"MERGE INTO {table} can't use the virtual column {min(used)}; select what it needs into a table first"
            )
        return Write(self._redirected(sql, tokens, target), needs)

    def _of(self, table: str) -> list[VirtualColumns]:
        return [c for c in self._registry.columns if same(c.table, table)]

    def _redirected(self, sql: str, tokens: list[Token], target: _Target) -> str:
        """The target's stored part in its place, still called by its own name."""
        stored = next(c.table for c in self._of(target.name)) + STORED
        alias = ""
        if target.verb in ("UPDATE", "DELETE", "MERGE", "INSERT") and not _has_alias(tokens, target):
            alias = f" AS {quoted(target.name)}"
        start, end = tokens[target.first].start, tokens[target.beyond - 1].end
        return f"{sql[:start]}main.{quoted(stored)}{alias}{sql[end:]}"

    def _refuse_assignment(self, sql: str, tokens: list[Token], target: _Target, virtual: set[str]) -> None:
        """The columns of INSERT INTO t (...) and SET ... = must be stored ones."""
        assigned: list[str] = []
        if target.verb in ("INSERT", "COPY") and _key(tokens, target.beyond) == "(":
            end = _closing(tokens, target.beyond)
            inside = tokens[target.beyond + 1 : end]
            if not inside or inside[0].key not in ("SELECT", "WITH", "FROM", "VALUES", "TABLE"):
                assigned += [n for n, _ in _names(sql, inside)]
        depth = 0
        for i in range(target.beyond, len(tokens)):
            if tokens[i].key == "SET" and tokens[i].depth == depth and target.verb in ("UPDATE", "INSERT", "MERGE"):
                assigned += _assigned(sql, tokens, i + 1)
        for name in assigned:
            if name.lower() in virtual:
                raise ProgrammingError(f"{target.name}.{name} is a virtual column: its model fills it")

    def _by_view(self, sql: str, tokens: list[Token], target: _Target, used: set[str], needs: tuple[str, ...]) -> Write:
        """UPDATE and DELETE whose condition reads virtual columns: the rows are found through the view."""
        clauses = {t.key: i for i, t in reversed(list(enumerate(tokens))) if t.depth == 0 and i >= target.beyond}
        where, end = clauses.get("WHERE"), clauses.get("RETURNING", len(tokens))
        outside = tokens[target.beyond : where] + tokens[end:]
        if (
            "FROM" in clauses
            or "USING" in clauses
            or where is None
            or {n.lower() for n, _ in _names(sql, outside)} & used
        ):
            raise NotSupportedError(
                f"a virtual column ({min(used)}) may stand in the WHERE of {target.verb} {target.name} only, and without "
                f"FROM or USING; select what you need first: CREATE TEMP TABLE x AS SELECT ... FROM {target.name}"
            )
        alias = _alias(sql, tokens, target) or target.name
        relation = self._registry.relation(target.name)
        assert relation is not None
        shown = relation_sql(relation).removeprefix("SELECT ")
        condition = sql[tokens[where].end : tokens[end - 1].end]
        rows = f"SELECT __row FROM (SELECT b.rowid AS __row, {shown}) AS {quoted(alias)} WHERE {condition}\n"
        head, tail = sql[: tokens[where].end], sql[tokens[end - 1].end :]
        text = f"{head} {quoted(alias)}.rowid IN ({rows}){tail}"
        asked = f"SELECT * FROM {quoted(target.name)} AS {quoted(alias)} WHERE {condition}\n"
        return Write(self._redirected(text, tokens, target), (*needs, asked), True)

    def _altered(self, sql: str, tokens: list[Token], target: _Target) -> Write:
        dropped = self._dropped_columns(sql, tokens, target)
        if dropped is not None:
            return dropped
        rest = [t.key or name_of(sql, t).upper() for t in tokens[target.beyond :]]
        if rest[:2] == ["RENAME", "TO"]:
            raise ProgrammingError(
                f"{target.name} has virtual columns: drop them, rename it and add them again; their answers are kept"
            )
        names = {n.lower() for n, _ in _names(sql, tokens[target.beyond :])}
        if rest[:1] in (["DROP"], ["RENAME"]):
            for columns in self._of(target.name):
                used = [c for _, c in columns.args if c.lower() in names]
                if used:
                    raise ProgrammingError(
                        f"{target.name}.{', '.join(columns.columns)} is made from {used[0]}: drop that first, "
                        f"ALTER TABLE {target.name} DROP COLUMN {columns.columns[0]}"
                    )
        table = target.name
        return Write(
            self._redirected(sql, tokens, target), changes_names=True, then=lambda: self._registry.republish(table)
        )

    def _dropped_columns(self, sql: str, tokens: list[Token], target: _Target) -> Write | None:
        """ALTER TABLE t DROP [VIRTUAL] [COLUMN] [IF EXISTS] c, for a virtual column."""
        i = target.beyond
        if _key(tokens, i) != "DROP":
            return None
        i += 1
        is_virtual = _key(tokens, i) == "VIRTUAL"
        i += is_virtual
        i += _key(tokens, i) == "COLUMN"
        if_exists = [_key(tokens, i), _key(tokens, i + 1)] == ["IF", "EXISTS"]
        i += 2 * if_exists
        if i >= len(tokens) or tokens[i].kind not in ("word", "name"):
            return None
        name = name_of(sql, tokens[i])
        found = next((c for c in self._of(target.name) if any(same(name, x) for x in c.columns)), None)
        if found is None:
            if is_virtual and not if_exists:
                raise ProgrammingError(f"{target.name} has no virtual column {name!r}")
            return Write("SELECT 1 WHERE FALSE") if is_virtual else None
        return Write("", changes_names=True, then=lambda: self._drop_columns(found))

    def _dropped(self, sql: str, tokens: list[Token], target: _Target) -> Write:
        if target.kind != "TABLE":
            raise ProgrammingError(f"{target.name} is a table with virtual columns: DROP TABLE {target.name}")
        registry, columns = self._registry, self._of(target.name)
        table = columns[0].table

        def work() -> None:
            registry.database.user.execute(f"DROP VIEW IF EXISTS main.{quoted(table)}")
            for own in columns:
                registry.remove(own)
            registry.natives.forget(functions=False)

        return Write(self._redirected(sql, tokens, target), changes_names=True, then=work)

    def _recreated(self, sql: str, tokens: list[Token], target: _Target) -> Write:
        keys = [t.key for t in tokens[: target.first]]
        if target.kind == "INDEX":
            return Write(self._redirected(sql, tokens, target))
        if target.kind != "TABLE" or "TEMP" in keys or "TEMPORARY" in keys:
            raise ProgrammingError(f"there is a table {target.name!r} already; DROP it or choose another name")
        if "REPLACE" not in keys:
            return Write(self._redirected(sql, tokens, target), self._needs(sql, tokens, target))
        table = target.name
        return Write(
            self._redirected(sql, tokens, target),
            self._needs(sql, tokens, target),
            changes_names=True,
            then=lambda: self._registry.republish(table),
        )

    # ---- what must be there before
    def _needs(self, sql: str, tokens: list[Token], target: _Target | None) -> tuple[str, ...]:
        """For statements that can't be pruned: everything of ours that they read."""
        verb = _verb(tokens)
        reads = verb not in _READS_NOTHING
        if verb == "CREATE":
            is_type = any(t.key == "TYPE" for t in tokens[1:5] if t.depth == 0)  # AS ENUM (SELECT ...)
            reads = is_type or (target is not None and target.kind == "TABLE")
        if verb == "SET":
            reads = any(
                _key(tokens, i) == "VARIABLE" for i in (1, 2)
            )  # SET [SESSION | GLOBAL] VARIABLE x = (SELECT ...)
        if verb == "EXPLAIN" and _key(tokens, 1) != "ANALYZE":
            reads = False
        if not reads or verb in ("PREPARE", "EXECUTE"):
            return ()
        outside = tokens if target is None else tokens[: target.first] + tokens[target.beyond :]
        if not self.mentioned(sql, outside):
            return ()
        tables = tables_named(sql)
        if tables is not None:  # a column of the same name asks for nothing; a macro may
            outside = [t for i, t in enumerate(outside) if _is_read(sql, t, _key(outside, i + 1), tables)]
        return tuple(f"SELECT * FROM {quoted(n)}" for n in self.mentioned(sql, outside))

    def mentioned(self, sql: str, tokens: list[Token]) -> list[str]:
        """Relations that models fill, and that a text names: itself, through a view, or through a macro."""
        registry = self._registry
        ours = {n.lower() for n in registry.virtual} | {c.table.lower() for c in registry.columns}
        if not ours:
            return []
        found: dict[str, None] = {}
        seen: set[str] = set()
        todo = [n.lower() for n, _ in _names(sql, tokens)]
        behind = registry.natives.texts()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in ours:
                found[name] = None
            elif name in behind:
                todo += [n.lower() for n, _ in _names(behind[name], scan(behind[name]))]
        return sorted(found)


def _key(tokens: list[Token], i: int) -> str:
    return tokens[i].key if i < len(tokens) else ""


def _closing(tokens: list[Token], i: int) -> int:
    return next((j for j in range(i + 1, len(tokens)) if tokens[j].depth == tokens[i].depth), len(tokens))


def _names(sql: str, tokens: list[Token]) -> list[tuple[str, Token]]:
    return [(name_of(sql, t), t) for t in tokens if t.kind in ("word", "name")]


def _is_read(sql: str, token: Token, after: str, tables: frozenset[str]) -> bool:
    """Is a token the name of one of these tables, or called?"""
    return token.kind in ("word", "name") and (after == "(" or name_of(sql, token).lower() in tables)


def _verb(tokens: list[Token], depth: int = 0) -> str:
    """The statement's verb, behind a WITH. depth: of brackets, in which the statement stands."""
    if _key(tokens, 0) != "WITH":
        return _key(tokens, 0)
    verbs = ("INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "FROM")
    return next((t.key for t in tokens if t.depth == depth and t.key in verbs), "WITH")


def _target(sql: str, tokens: list[Token]) -> _Target | None:
    """What a statement changes, if it changes one thing with a name."""
    verb = _verb(tokens)
    at = next((i for i, t in enumerate(tokens) if t.depth == 0 and t.key == verb), 0) + 1
    kind = "TABLE"

    def skip(*words: str) -> bool:
        nonlocal at
        if [_key(tokens, at + n) for n in range(len(words))] == list(words):
            at += len(words)
            return True
        return False

    if verb == "INSERT":
        if skip("OR"):
            at += 1
        if not skip("INTO"):
            return None
    elif verb == "DELETE":
        skip("FROM")
    elif verb == "TRUNCATE":
        skip("TABLE")
    elif verb == "MERGE":
        skip("INTO")
    elif verb == "COPY":
        if _key(tokens, at) == "(" or "FROM" not in [t.key for t in tokens if t.depth == 0]:
            return None
    elif verb in ("ALTER", "DROP", "CREATE"):
        if skip("OR", "REPLACE"):
            pass
        while skip("TEMP") or skip("TEMPORARY") or skip("UNIQUE") or skip("PERSISTENT") or skip("LOCAL"):
            pass
        skip("MATERIALIZED")
        kind = _key(tokens, at)
        at += 1
        skip("IF", "NOT", "EXISTS")
        skip("IF", "EXISTS")
        if kind == "INDEX" and verb == "CREATE":
            at = next((i + 1 for i in range(at, len(tokens)) if tokens[i].key == "ON"), len(tokens))
    elif verb != "UPDATE":
        return None
    first, parts = at, []
    while at < len(tokens) and tokens[at].kind in ("word", "name"):
        parts.append(name_of(sql, tokens[at]))
        at += 1
        if _key(tokens, at) != ".":
            break
        at += 1
    if not parts or (kind not in ("TABLE", "VIEW", "SCHEMA", "INDEX") and len(parts) < 2):
        return None
    return _Target(verb, kind, tuple(parts), first, at)


def _alias(sql: str, tokens: list[Token], target: _Target) -> str | None:
    """The name that the statement gives its target, if it gives one."""
    i = target.beyond
    if _key(tokens, i) == "AS" and i + 1 < len(tokens):
        return name_of(sql, tokens[i + 1])
    if i < len(tokens) and tokens[i].kind in ("word", "name") and tokens[i].key not in _NO_ALIAS:
        return name_of(sql, tokens[i])
    return None


def _has_alias(tokens: list[Token], target: _Target) -> bool:
    return _alias(" " * (tokens[-1].end + 1), tokens, target) is not None


def _assigned(sql: str, tokens: list[Token], first: int) -> list[str]:
    """Names to the left of = in a SET list that begins with ``first``."""
    found, depth = [], tokens[first].depth if first < len(tokens) else 0
    begins = True
    for i in range(first, len(tokens)):
        token = tokens[i]
        if token.depth == depth and token.key in ("WHERE", "FROM", "RETURNING", "WHEN"):
            break
        if begins and token.key == "(":
            found += [n for n, _ in _names(sql, tokens[i + 1 : _closing(tokens, i)])]
        elif begins and token.kind in ("word", "name"):
            found.append(name_of(sql, token))
        begins = token.depth == depth and token.key == ","
    return found


_SIDE_EFFECT = re.compile(r"^\s*(use|set\s+(schema|search_path))\b", re.IGNORECASE)


def moves_away(sql: str) -> bool:
    """May the statement change which database or schema unqualified names mean?"""
    return _SIDE_EFFECT.match(sql) is not None
