"""What may come next in a text of SQL, or in one of the shell's commands: names, phrases, paths, the best first.

The statement around the cursor is read by its tokens alone, so that half a statement will do. No model, no file but those
whose names are asked for, and no database is touched: all names come from a `Vocabulary`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from aidb.catalog.names import quoted
from aidb.errors import SqlSyntaxError
from aidb.sql.tokens import RESERVED, Token, name_of, scan, words
from aidb.surfaces.scope import sources
from aidb.surfaces.vocabulary import Vocabulary
from aidb.surfaces.words import CLAUSES, FUNCTIONS, NEXT, STATEMENTS

MOST = 200
"""More than anyone reads, fewer than it takes to be slow."""
_FILES = 2_000
_SIMPLE = re.compile("[a-z_][a-z0-9_]*")
_TABLES_FOLLOW = words("FROM JOIN INTO UPDATE TABLE DESCRIBE DESC SUMMARIZE COPY PIVOT UNPIVOT")
_OPERAND_FOLLOWS = words(
    "SELECT DISTINCT WHERE AND OR NOT ON BY HAVING QUALIFY IN LIKE ILIKE BETWEEN IS CASE WHEN THEN ELSE SET ALL EXCEPT PROXY "
    "VALUES"
)
_BEGIN_MORE = words("CREATE DROP SHOW REFRESH RETRY ALTER EXPORT CHECK")
_QUERIES = words("SELECT FROM WITH EXPLAIN VALUES SHOW TABLE")
_PATH_FOLLOWS = frozenset(("FROM", "JOIN", "TO", "COPY", "ATTACH", ",", "(", "=", "IMPORT", "EXPORT", "LOAD"))


@dataclass(frozen=True)
class Candidate:
    """text: what is put in place of ``[start, cursor)``. kind: what it is, in a word."""

    text: str
    start: int
    kind: str


@dataclass(frozen=True)
class _Spot:
    """The place of the cursor: tokens of its statement before and behind it, the word that is being typed, and its start.

    quoted: has a double quote been opened before it?
    """

    sql: str
    before: Sequence[Token]
    behind: Sequence[Token]
    prefix: str
    start: int
    quoted: bool = False

    def key(self, k: int) -> str:
        """The k-th token before the word, from -1."""
        return self.before[k].key if -len(self.before) <= k < 0 else ""

    def keys(self, *wanted: str) -> bool:
        """Do these stand right before the word?"""
        return [t.key for t in self.before[-len(wanted) :]] == list(wanted)


def complete(text: str, at: int, names: Vocabulary, *, asked: bool = True) -> list[Candidate]:
    """Candidates for the place ``at`` in a text of statements.

    asked: did the person ask? If not, nothing is offered before a letter is typed.
    """
    spot = _spot(text, at)
    if isinstance(spot, list):
        return spot
    if spot is None or not (asked or spot.prefix or spot.key(-1) == "."):
        return []
    found: dict[str, Candidate] = {}
    for kind, candidates in _offers(spot, names):
        for candidate in candidates:
            found.setdefault(candidate.lower(), Candidate(candidate, spot.start, kind))
            if len(found) >= MOST:
                return list(found.values())
    return list(found.values())


def _spot(text: str, at: int) -> _Spot | list[Candidate] | None:
    """Where the cursor stands; paths, if that is in a string that names a file; None in any other string, or a comment."""
    try:
        before = scan(text[:at])
    except SqlSyntaxError as open_:
        position = open_.position or 0
        before = scan(text[:position])
        if text[position] == "'":
            fits = before and before[-1].key in _PATH_FOLLOWS
            return paths(text[position + 1 : at].replace("''", "'"), position + 1, quote=True) if fits else None
        if text[position] == '"':
            return _Spot(text, _statement(before), (), text[position + 1 : at], position, quoted=True)
        return None
    end = before[-1].end if before else 0
    if "--" in text[end:at].rpartition("\n")[2]:
        return None
    if before and before[-1].kind in ("string", "number", "parameter") and end == at:
        return None
    prefix, start = "", at
    if before and before[-1].kind == "word" and end == at:
        prefix, start = text[before[-1].start : at], before[-1].start
        before = before[:-1]
    try:
        behind = scan(text[at:])
    except SqlSyntaxError as open_:
        behind = scan(text[at : at + (open_.position or 0)])
    depth = 0  # depths behind the cursor are counted from it
    if before:
        depth = before[-1].depth + (before[-1].key in ("(", "[", "{"))
    ends = next((k for k, token in enumerate(behind) if token.key == ";"), len(behind))
    moved = [t._replace(start=t.start + at, end=t.end + at, depth=t.depth + depth) for t in behind[:ends]]
    return _Spot(text, _statement(before), moved, prefix, start)


def _statement(tokens: list[Token]) -> list[Token]:
    """The tokens of the last statement."""
    first = next((k + 1 for k in range(len(tokens) - 1, -1, -1) if tokens[k].key == ";"), 0)
    return tokens[first:]


# ---- what is offered
def _offers(spot: _Spot, names: Vocabulary) -> Iterator[tuple[str, Iterable[str]]]:
    """(kind, candidates), what is likeliest first."""
    if not spot.before:
        yield "statement", _phrases(spot, STATEMENTS)
        return
    if spot.key(-1) == ".":
        yield from _behind_dot(spot, names)
        return
    if spot.quoted:
        yield "column", _named(spot, _columns(spot, names))
        yield "table", _named(spot, names.tables)
        return
    special = list(_of_definitions(spot, names))
    if special:
        yield from special
        return
    yield "phrase", _begun(spot)
    if len(spot.before) == 1 and spot.key(-1) in _BEGIN_MORE:
        return
    if spot.keys("EXPLAIN") or spot.keys("ANALYZE") or spot.keys("EXPLAIN", "COST"):
        yield "statement", _phrases(spot, ("SELECT", "FROM", "WITH"))
        return
    scope = sources(spot.sql, spot.before, spot.behind)
    if _wants_table(spot):
        yield "table", _named(spot, (s.name for s in scope if s.is_query))
        yield "table", _named(spot, names.tables)
        yield "model", _called(spot, names.models)
        yield "schema", _named(spot, _schemas(names))
        return
    if _is_operand(spot):
        if spot.before[0].key in _QUERIES:
            yield "clause", _phrases(spot, CLAUSES)
        yield "keyword", _phrases(spot, NEXT)
        return
    if spot.key(-1) == "PROXY":
        yield "proxy", _named(spot, names.proxies)
    yield "column", _named(spot, _columns(spot, names))
    yield "alias", _named(spot, (source.name for source in scope))
    yield "model", _called(spot, names.models)
    if spot.prefix:
        yield "function", _called(spot, FUNCTIONS)
    yield "keyword", _phrases(spot, NEXT)
    if len(spot.prefix) >= 2:
        yield "function", _called(spot, names.functions)


def _columns(spot: _Spot, names: Vocabulary) -> Iterator[str]:
    """The columns that the cursor can see; all there are where nothing says which."""
    scope = sources(spot.sql, spot.before, spot.behind)
    seen = [names.tables.get(_key(names, source.table)) for source in scope]
    if not any(seen):
        seen = [table for table in names.tables.values() if "." not in table.name]
    return (column for table in seen if table for column in table.columns)


def _behind_dot(spot: _Spot, names: Vocabulary) -> Iterator[tuple[str, Iterable[str]]]:
    """Columns of what stands before the dot, or what is in that schema."""
    if len(spot.before) < 2 or spot.before[-2].kind not in ("word", "name"):
        return
    owner = name_of(spot.sql, spot.before[-2])
    if owner.lower() == "aidb" and len(spot.before) >= 3 and spot.before[-3].key in ("SET", "RESET"):
        yield "setting", _named(spot, (s.removeprefix("aidb.") for s in names.settings))
        return
    scope = sources(spot.sql, spot.before, spot.behind)
    tables = [source.table for source in scope if source.name.lower() == owner.lower()] or [owner]
    for name in tables:
        table = names.tables.get(_key(names, name))
        if table is not None:
            yield "column", _named(spot, table.columns)
    inside = f"{owner.lower()}."
    yield "table", _named(spot, (t[len(inside) :] for t in names.tables if t.lower().startswith(inside)))


def _of_definitions(spot: _Spot, names: Vocabulary) -> Iterator[tuple[str, Iterable[str]]]:
    """What fits where a definition, a setting or the like wants one kind of name; nothing elsewhere."""
    verb, last = spot.before[0].key, spot.key(-1)
    kinds = {t.key for t in spot.before}
    if verb in ("SET", "RESET") and len(spot.before) == 1:
        yield "setting", _plain(spot, names.settings)
    elif verb in ("DROP", "REFRESH", "RETRY", "EXPORT") and last in (
        "MODEL",
        "FOR",
        "EXISTS",
        "TABLE",
        "PROXY",
        "INDEX",
    ):
        if "MODEL" in kinds or last == "FOR":
            yield "model", _named(spot, names.models)
        if "BLOB" in kinds:
            yield "blob table", _named(spot, _of_kind(names, "blob table"))
        elif "VIRTUAL" in kinds or last == "FOR":
            yield "virtual table", _named(spot, _of_kind(names, "virtual table"))
        elif "PROXY" in kinds:
            yield "proxy", _named(spot, names.proxies)
        elif "INDEX" in kinds:
            yield "semantic index", _named(spot, names.indexes)
        elif "MODEL" not in kinds:
            yield "table", _named(spot, names.tables)
    elif verb == "CREATE" and last == "USING" and "MODEL" in kinds:
        yield "provider", _named(spot, names.providers)
    elif verb == "CREATE" and last == "USING" and "BLOB" in kinds:
        yield "connector", _named(spot, names.connectors)
    elif verb == "CREATE" and (last == "AS" if "VIRTUAL" in kinds else last == "USING" and kinds & {"PROXY", "INDEX"}):
        yield "model", _called(spot, names.models)
    elif verb == "CREATE" and last == "(" and "VIRTUAL" in kinds:
        yield "table", _plain(spot, (f"{_written(t.name)}." for t in names.tables.values() if "." not in t.name))
    elif verb == "CREATE" and last == "ON" and ("PROXY" in kinds or "INDEX" in kinds):
        yield "table", _named(spot, names.tables)
    elif verb == "CREATE" and len(spot.before) <= 3 and last in ("CREATE", "OR", "REPLACE"):
        yield "statement", _begun(spot)


def _of_kind(names: Vocabulary, kind: str) -> Iterator[str]:
    return (table.name for table in names.tables.values() if table.kind == kind)


def _wants_table(spot: _Spot) -> bool:
    last = spot.key(-1)
    if last in _TABLES_FOLLOW:
        return True
    if last != ",":
        return False
    # A comma of FROM: no other clause has begun since, on this level of brackets.
    depth = spot.before[-1].depth
    for token in reversed(spot.before):
        if token.depth < depth:
            return False
        if token.depth == depth and token.kind == "word" and token.key in (RESERVED - {"AS", "ON", "USING"}):
            return token.key == "FROM"
    return False


def _is_operand(spot: _Spot) -> bool:
    """Is what stands before the word complete, so that no name can follow but an alias?"""
    last = spot.before[-1]
    if last.kind in ("string", "number", "name", "parameter"):
        return True
    if last.kind == "symbol":
        return (
            last.key in (")", "]", "}") or (last.key == "*" and spot.key(-2) in ("SELECT", ".", ",")) or last.key == "%"
        )
    return last.key not in RESERVED and last.key not in _OPERAND_FOLLOWS


def _begun(spot: _Spot) -> Iterator[str]:
    """The rest of phrases whose first words stand there: TARGET behind ERROR."""
    for phrase in (*STATEMENTS, *CLAUSES, *NEXT):
        parts = phrase.split()
        for k in range(len(parts) - 1, 0, -1):
            if spot.keys(*parts[:k]) and parts[k].startswith(spot.prefix.upper()):
                if phrase in STATEMENTS and len(spot.before) > k:
                    break  # it begins a statement, and this is within one
                yield _cased(" ".join(parts[k:]), spot)
                break


# ---- which of them fit what was typed
def _phrases(spot: _Spot, phrases: Iterable[str]) -> Iterator[str]:
    return (_cased(phrase, spot) for phrase in phrases if phrase.startswith(spot.prefix.upper()))


def _cased(phrase: str, spot: _Spot) -> str:
    """In the letters in which the person writes."""
    return phrase.lower() if spot.prefix and spot.prefix == spot.prefix.lower() else phrase


def _plain(spot: _Spot, names: Iterable[str]) -> Iterator[str]:
    prefix = spot.prefix.lower()
    return (name for name in names if name.lower().startswith(prefix))


def _matching(spot: _Spot, names: Iterable[str]) -> list[str]:
    """Names that begin with what was typed, then those of which a part does: id finds frame_id."""
    prefix = spot.prefix.lower()
    if not prefix:
        return list(names)
    inside = f"_{prefix}"
    first, second = [], []
    for name in names:
        low = name.lower()
        if low.startswith(prefix):
            first.append(name)
        elif inside in low or f".{prefix}" in low:
            second.append(name)
    return sorted(first, key=str.lower) + sorted(second, key=str.lower)


def _named(spot: _Spot, names: Iterable[str]) -> Iterator[str]:
    return (_written(name) for name in _matching(spot, names))


def _called(spot: _Spot, names: Iterable[str]) -> Iterator[str]:
    """Names with the bracket that follows them."""
    return (f"{_written(name)}(" for name in _plain(spot, names))


def _written(name: str) -> str:
    """A name in quotes where it needs them; a schema and its dot stay what they are."""
    return ".".join(p if _SIMPLE.fullmatch(p) and p.upper() not in RESERVED else quoted(p) for p in name.split("."))


def _key(names: Vocabulary, name: str) -> str:
    """The name as the vocabulary has it."""
    if name in names.tables:
        return name
    return next((t for t in names.tables if t.lower() == name.lower()), name)


def _schemas(names: Vocabulary) -> Iterator[str]:
    return iter(sorted({name.partition(".")[0] for name in names.tables if "." in name}))


# ---- files, and commands
def paths(typed: str, start: int, *, quote: bool = False) -> list[Candidate]:
    """Files and folders that begin with what was typed, folders first. quote: for a string of SQL.

    start: where the path begins in the text; what is put in stands for all of it.
    """
    folder, name = os.path.split(typed)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            some = [(e.name, e.is_dir()) for e in islice(entries, _FILES) if e.name.startswith(name)]
    except (OSError, ValueError):
        return []
    shown = sorted((not is_folder, n) for n, is_folder in some if not n.startswith(".") or name.startswith("."))
    found = []
    for is_file, n in shown[:MOST]:
        text = os.path.join(folder, n) if is_file else os.path.join(folder, n, "")
        found.append(Candidate(text.replace("'", "''") if quote else text, start, "file" if is_file else "folder"))
    return found


Argument = Callable[[str, int, Vocabulary], list[Candidate]]
"""Candidates for what stands behind a command, of which this much was typed, beginning there."""


def one_of(choices: Iterable[str]) -> Argument:
    """The argument is one of these."""
    known = tuple(choices)
    return lambda typed, start, names: [Candidate(c, start, "choice") for c in known if c.startswith(typed.lower())]


def a_path(typed: str, start: int, names: Vocabulary) -> list[Candidate]:
    """The argument is a file."""
    return paths(typed, start)


def a_query(typed: str, start: int, names: Vocabulary) -> list[Candidate]:
    """The argument is a statement."""
    return [Candidate(c.text, c.start + start, c.kind) for c in complete(typed, len(typed), names)]


def a_thing(typed: str, start: int, names: Vocabulary) -> list[Candidate]:
    """The argument is a table or a model."""
    low = typed.lower()
    things = [(t.name, t.kind) for t in names.tables.values()] + [(m, "model") for m in names.models]
    return [Candidate(name, start, kind) for name, kind in sorted(things) if name.lower().startswith(low)][:MOST]


def complete_command(text: str, at: int, names: Vocabulary, commands: dict[str, Argument | None]) -> list[Candidate]:
    """Candidates for a line that begins with a dot or a backslash. commands: name -> what may follow it."""
    typed = text[:at].lstrip()
    begin = at - len(typed)
    name, space, rest = typed.partition(" ")
    if not space:
        return [Candidate(c, begin, "command") for c in commands if c.startswith(name.lower())]
    argument = commands.get(name.lower())
    if argument is None:
        return []
    kept = rest.lstrip()
    return argument(kept, at - len(kept), names)
