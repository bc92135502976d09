"""The statements that define, change, drop and list what is ours, each read by one function.

A statement that begins like one of ours and is none (CREATE TABLE, ALTER TABLE ... ADD COLUMN) is DuckDB's: None.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from aidb.sql.clauses import cut
from aidb.sql.cursor import Cursor, later
from aidb.sql.literals import options, value
from aidb.sql.statements import (
    AddVirtualColumns,
    AttachMaterialized,
    Call,
    CheckCatalog,
    CreateBlobTable,
    CreateModel,
    CreateProxy,
    CreateSemanticIndex,
    CreateVirtualTable,
    Drop,
    ExportVirtualTable,
    ModelCall,
    Refresh,
    RetryFailed,
    SetOption,
    Show,
    Statement,
)
from aidb.sql.tokens import words

_KINDS: dict[str, tuple[str, ...]] = {
    "BLOB": ("BLOB", "TABLE"),
    "MODEL": ("MODEL",),
    "VIRTUAL": ("VIRTUAL", "TABLE"),
    "PROXY": ("PROXY",),
    "SEMANTIC": ("SEMANTIC", "INDEX"),
}
_LATER = {
    "ORACLE": "ORACLE",
    "CASCADE": "CASCADE",
    "ASSERTION": "ASSERTION",
    "CONSISTENCY": "CONSISTENCY ASSERTION",
    "LEARNED": "LEARNED ASSERTION",
    "FEATURE": "FEATURE",
    "LABELING": "LABELING FUNCTION",
}
_THEIRS = words(
    "AGGREGATE COLLATION CONNECTION CONSTRAINT DATABASE EXTENSION FUNCTION GLOBAL INDEX LOCAL MACRO MATERIALIZED "
    "PERSISTENT PREPARE PREPARED PROCEDURE PROPERTY RECURSIVE ROLE SCHEMA SECRET SEQUENCE STATISTICS TABLE TEMP "
    "TEMPORARY TRIGGER TYPE UNIQUE UNLOGGED USER VIEW"
)
_NATIVE_LISTS = words("ALL DATABASES TABLES SCHEMAS VARIABLES COLUMNS VIEWS")
_LISTS = {
    ("MODELS",): "models",
    ("VIRTUAL", "TABLES"): "virtual tables",
    ("BLOB", "TABLES"): "blob tables",
    ("PROXIES",): "proxies",
    ("GUARANTEES",): "guarantees",
}
_LATER_LISTS = (
    ("VIOLATIONS",), ("ASSERTIONS",), ("ORACLES",), ("LINEAGE", "OF"), ("LINEAGE", "FOR"), ("LABELS", "FOR"),
)  # fmt: skip


def define(cursor: Cursor) -> Statement | None:
    """The statement at the cursor's start, read to its end, or None if it is not one of ours.

    SqlSyntaxError where it is ours and wrong, NotSupportedError where it comes later.
    """
    reader = _READERS.get(cursor.key())
    if reader is None:
        check_first_word(cursor)
        return None
    statement = reader(cursor)
    if statement is not None:
        cursor.end("options stand behind WITH: WITH (name = value)" if cursor.at("(") else None)
    return statement


def check_first_word(cursor: Cursor) -> None:
    """``REFRSH BLOB TABLE x`` is a slip of ours; DuckDB could only say that it knows no REFRSH."""
    for first, seconds in (("REFRESH", ("BLOB", "SEMANTIC", "PROXY")), ("RETRY", ("FAILED",))):
        if cursor.key(1) in seconds and difflib.get_close_matches(cursor.key(), [first], 1, 0.7):
            raise cursor.expected(first)


# CREATE


def _create(cursor: Cursor) -> Statement | None:
    cursor.demand("CREATE")
    replace = cursor.take("OR", "REPLACE")
    kind = _kind(cursor, "CREATE")
    if kind is None:
        return None
    if kind == "SEMANTIC" and replace:
        raise cursor.fail("a semantic index can't be replaced", "drop it first, or REFRESH SEMANTIC INDEX it")
    cursor.demand(*_KINDS[kind])
    if kind == "SEMANTIC":
        return _create_index(cursor)
    if kind == "PROXY":
        return _create_proxy(cursor, replace)
    absent = _if_not_exists(cursor, replace)
    if kind == "MODEL":
        return _create_model(cursor, replace, absent)
    if kind == "BLOB":
        return _create_blob_table(cursor, replace, absent)
    return _create_virtual_table(cursor, replace, absent)


def _kind(cursor: Cursor, verb: str) -> str | None:
    """Which kind of thing of ours comes next; None for DuckDB's. A word close to one of ours is taken as a slip."""
    key = cursor.key()
    if key in _KINDS:
        return key
    if key in _LATER and (key != "CASCADE" or verb == "CREATE"):
        raise later(cursor.sql, cursor.position, f"{verb} {_LATER[key]}")
    if key and key not in _THEIRS:
        near = difflib.get_close_matches(key, [*_KINDS, *_THEIRS], 1, 0.6)
        if near and near[0] in _KINDS:
            raise cursor.expected(near[0])
        seconds = {kind[1] for kind in _KINDS.values() if len(kind) > 1}
        if not near and cursor.key(1) in seconds and cursor.token(2) is not None:
            raise cursor.expected("BLOB, VIRTUAL or SEMANTIC", f"or one of DuckDB's own: {verb} TABLE, {verb} VIEW ...")
    return None


def _if_not_exists(cursor: Cursor, replace: bool) -> bool:
    position = cursor.position
    if not cursor.take("IF"):
        return False
    cursor.demand("NOT", "EXISTS")
    if replace:
        raise cursor.fail("OR REPLACE and IF NOT EXISTS contradict each other", "use one of them", at=position)
    return True


def _create_blob_table(cursor: Cursor, replace: bool, absent: bool) -> CreateBlobTable:
    name = cursor.object_name("the name of the blob table")
    source = query = connector = None
    if cursor.take("FROM"):
        hint = "a path, glob or URL stands in single quotes; of a table write AS SELECT ... FROM it"
        source = cursor.string("a source in single quotes", hint)
        if cursor.take("USING"):
            connector = cursor.name("the name of a connector")
    elif cursor.take("AS"):
        query = _query_before_tail(cursor)
    else:
        raise cursor.expected("FROM or AS", "write FROM 'files/*.jpg' or AS SELECT ...")
    key: str | None = None
    given: dict[str, object] = {}
    while not cursor.done:
        position = cursor.position
        if cursor.take("KEY"):
            if key is not None:
                raise cursor.fail("KEY stands here twice", at=position)
            keys = cursor.names("the name of a column")
            if len(keys) > 1:
                hint = "make one of them in a query: AS SELECT a || b AS id, ... KEY (id)"
                raise cursor.fail("a blob table has one key column", hint, at=position)
            key = keys[0]
        elif cursor.take("WITH"):
            options(cursor, given)
        else:
            raise cursor.expected("KEY, WITH or the end of the statement")
    return CreateBlobTable(name, source, query, connector, key, given, replace, absent)


def _query_before_tail(cursor: Cursor) -> str:
    """The query after AS: up to ``KEY (...)`` or ``WITH (...)`` that end the statement."""
    tokens, first = cursor.tokens, cursor.i
    if cursor.key() not in (
        "SELECT",
        "FROM",
        "WITH",
        "VALUES",
        "TABLE",
        "(",
        "PIVOT",
        "UNPIVOT",
        "DESCRIBE",
        "SUMMARIZE",
    ):
        raise cursor.expected("a query")
    if found := cut(cursor.sql, tokens, first):
        message = f"{found[0].label} can't stand here: the items of a blob table are listed exactly"
        raise cursor.fail(message, at=found[0].position)
    end = next((i for i in range(first + 1, len(tokens)) if _is_tail(cursor, i)), len(tokens))
    cursor.i = end
    return cursor.sql[tokens[first].start : tokens[end - 1].end]


def _is_tail(cursor: Cursor, i: int) -> bool:
    """Do nothing but ``KEY (...)`` and ``WITH (...)`` follow from here? (``FROM t key (a)`` would else be an alias.)"""
    tokens = cursor.tokens
    while i < len(tokens) and tokens[i].depth == 0 and tokens[i].key in ("KEY", "WITH"):
        if i + 1 >= len(tokens) or tokens[i + 1].key != "(" or tokens[i - 1].key in ("SELECT", "USING", ",", "AS", "."):
            return False
        i = next((j + 1 for j in range(i + 2, len(tokens)) if tokens[j].depth == 0), len(tokens))
        if i >= len(tokens):
            return True
    return False


def _create_model(cursor: Cursor, replace: bool, absent: bool) -> CreateModel:
    name = cursor.object_name("the name of the model")
    cursor.demand("USING")
    provider = cursor.name("the name of a provider of models")
    return CreateModel(name, provider, _options(cursor), replace, absent)


def _create_virtual_table(cursor: Cursor, replace: bool, absent: bool) -> CreateVirtualTable:
    name = cursor.object_name("the name of the virtual table")
    columns = _column_definitions(cursor) if cursor.at("(") else ()
    cursor.demand("AS")
    call = _model_call(cursor)
    return CreateVirtualTable(name, call, columns, _options(cursor), replace, absent)


def _column_definitions(cursor: Cursor) -> tuple[tuple[str, str | None], ...]:
    """``( name [type], ... )``; the type is DuckDB's to judge, so it stays text."""
    cursor.demand("(")
    columns: list[tuple[str, str | None]] = []
    while True:
        position = cursor.position
        name = cursor.name("the name of a column")
        if name.lower() in (n.lower() for n, _ in columns):
            raise cursor.fail(f"{name} stands here twice", at=position)
        start = cursor.i
        while (token := cursor.token()) and token.depth >= 1 and (token.key, token.depth) != (",", 1):
            if token.key in ("CHECK", "NOT", "PRIMARY", "UNIQUE", "DEFAULT", "REFERENCES", "GENERATED"):
                raise later(cursor.sql, token.start, "a constraint on a column of a virtual table")
            cursor.i += 1
        tokens = cursor.tokens
        columns.append((name, cursor.sql[tokens[start].start : tokens[cursor.i - 1].end] if cursor.i > start else None))
        if not cursor.take(","):
            cursor.demand(")")
            return tuple(columns)


def _model_call(cursor: Cursor) -> ModelCall:
    """``model(column, table.column)``."""
    position = cursor.position
    hint = "a virtual table is what a model gives: AS yolo(frames.image); for a query use CREATE VIEW"
    if cursor.key() in ("SELECT", "FROM", "WITH", "("):
        raise cursor.expected("a model and its columns", hint)
    model = cursor.name("the name of a model")
    cursor.demand("(", hint=f"name the columns it sees: {model}(frames.image)")
    args: list[tuple[str | None, str]] = []
    while True:
        token = cursor.token()
        if token and token.kind in ("number", "string"):
            raise cursor.expected(
                "a column", "a constant is an option of the model: CREATE MODEL ... WITH (name = value)"
            )
        table: str | None = None
        column = cursor.name("a column")
        if cursor.take("."):
            table, column = column, cursor.name("a column")
            if cursor.at("."):
                raise cursor.fail("a column here takes no schema before its table")
        args.append((table, column))
        if not cursor.take(","):
            if not cursor.at(")"):
                hint = "a model takes columns; compute others in a view or a table first"
                raise cursor.expected(", or )", hint)
            cursor.demand(")")
            return ModelCall(model, tuple(args), position)


def _create_proxy(cursor: Cursor, replace: bool) -> CreateProxy:
    name = cursor.object_name("the name of the proxy")
    cursor.demand("ON")
    table = cursor.object_name("the name of a table")
    cursor.demand("FOR")
    target = cursor.bracketed("a predicate or an expression")
    cursor.demand("USING")
    using = _call(cursor, "the name of what scores")
    labels: int | None = None
    where = calibrate = None
    if cursor.take("TRAIN"):
        cursor.demand("ON")
        labels = cursor.integer("the number of labels")
        cursor.demand("LABELS")
        if cursor.take("WHERE"):
            where = cursor.bracketed("a condition")
    if cursor.take("CALIBRATE"):
        calibrate = cursor.one_of(("PLATT", "ISOTONIC", "NONE")).lower()
    holdout = cursor.fraction("HOLDOUT") if cursor.take("HOLDOUT") else None
    return CreateProxy(name, table, target, using, labels, where, calibrate, holdout, _options(cursor), replace)


def _create_index(cursor: Cursor) -> CreateSemanticIndex:
    name = cursor.object_name("the name of the index")
    cursor.demand("ON")
    table = cursor.object_name("the name of a table")
    cursor.demand("USING")
    return CreateSemanticIndex(name, table, _call(cursor, "the name of a model"), _options(cursor))


def _call(cursor: Cursor, what: str) -> Call:
    """``name``, ``name(argument, ...)`` or ``(expression)``."""
    if cursor.at("("):
        return Call("", (cursor.bracketed("an expression"),))
    return Call(cursor.name(what), cursor.arguments())


def _options(cursor: Cursor) -> dict[str, object]:
    given: dict[str, object] = {}
    while cursor.take("WITH"):
        options(cursor, given)
    return given


# ALTER, REFRESH, RETRY, DROP


def _alter(cursor: Cursor) -> AddVirtualColumns | None:
    """ALTER TABLE name ADD VIRTUAL COLUMN(S) ...; ``ADD virtual VARCHAR`` adds a column of that name, in DuckDB."""
    tokens = cursor.tokens
    keys = [token.key for token in tokens[:10]]
    add = next((i for i in range(3, len(keys) - 2) if keys[i : i + 2] == ["ADD", "VIRTUAL"]), None)
    if (
        add is None
        or keys[1] != "TABLE"
        or not difflib.get_close_matches(keys[add + 2], ["COLUMN", "COLUMNS"], 1, 0.75)
    ):
        return None
    cursor.demand("ALTER")
    cursor.demand("TABLE")
    table = cursor.object_name("the name of a table")
    cursor.demand("ADD", "VIRTUAL")
    if cursor.one_of(("COLUMN", "COLUMNS")) == "COLUMNS":
        columns = cursor.names("the name of a column")
    else:
        columns = (cursor.name("the name of a column"),)
        if cursor.at(","):
            raise cursor.fail("several columns stand in brackets", "write ADD VIRTUAL COLUMNS (a, b) AS model(...)")
    cursor.demand("AS", hint="a virtual column is what a model gives: ADD VIRTUAL COLUMN mood AS sentiment(body)")
    return AddVirtualColumns(table, columns, _model_call(cursor))


def _refresh(cursor: Cursor) -> Refresh:
    cursor.demand("REFRESH")
    word = cursor.one_of(("BLOB", "SEMANTIC", "PROXY"))
    if word == "PROXY":
        return Refresh("proxy", cursor.object_name("the name of a proxy"))
    if word == "BLOB":
        cursor.demand("TABLE")
        return Refresh("blob table", cursor.object_name("the name of a blob table"))
    cursor.demand("INDEX")
    return Refresh("semantic index", cursor.object_name("the name of an index"))


def _retry(cursor: Cursor) -> RetryFailed:
    cursor.demand("RETRY", "FAILED")
    if cursor.take("FOR"):
        return RetryFailed(cursor.object_name("the name of a model or a virtual table"))
    return RetryFailed()


def _check(cursor: Cursor) -> CheckCatalog:
    cursor.demand("CHECK", "CATALOG")
    return CheckCatalog()


def _export(cursor: Cursor) -> ExportVirtualTable | None:
    """EXPORT VIRTUAL TABLE; EXPORT DATABASE is DuckDB's."""
    cursor.demand("EXPORT")
    if _kind(cursor, "EXPORT") is None:
        return None
    cursor.demand("VIRTUAL", "TABLE")
    name = cursor.object_name("the name of a virtual table")
    cursor.demand("TO")
    return ExportVirtualTable(name, cursor.string("the folder, in single quotes"))


def _attach(cursor: Cursor) -> AttachMaterialized | None:
    """ATTACH MATERIALIZED; every other ATTACH is DuckDB's."""
    cursor.demand("ATTACH")
    if not cursor.take("MATERIALIZED"):
        return None
    name = cursor.object_name("the name of a virtual table")
    cursor.demand("FROM")
    return AttachMaterialized(name, cursor.string("the folder, in single quotes"))


def _drop(cursor: Cursor) -> Drop | None:
    cursor.demand("DROP")
    if cursor.take("STALE"):
        return Drop("stale")
    word = _kind(cursor, "DROP")
    if word is None:
        return None
    cursor.demand(*_KINDS[word])
    exists = cursor.take("IF")
    if exists:
        cursor.demand("EXISTS")
    kinds = {"BLOB": "blob table", "MODEL": "model", "VIRTUAL": "virtual table", "PROXY": "proxy"}
    name = cursor.object_name(f"the name of the {kinds.get(word, 'index')}")
    if cursor.at(","):
        raise cursor.fail("one DROP drops one thing", "write a DROP for each")
    cascade = cursor.take("CASCADE")
    if word == "BLOB":
        return Drop("blob table", name, exists, cascade)
    if word == "MODEL":
        return Drop("model", name, exists, cascade)
    if word == "VIRTUAL":
        return Drop("virtual table", name, exists, cascade)
    if word == "PROXY":
        return Drop("proxy", name, exists, cascade)
    return Drop("semantic index", name, exists, cascade)


# SHOW, SET


def shows_a_table(cursor: Cursor) -> bool:
    """Is this ``SHOW box`` or ``SHOW SELECT ...``, DuckDB's other spelling of DESCRIBE?"""
    key = cursor.key(1)
    listed = any(cursor.at("SHOW", *those) for those in (*_LISTS, *_LATER_LISTS))
    slip = key in ("VIRTUAL", "BLOB") and cursor.token(2) is not None
    return cursor.token(1) is not None and not listed and not slip and key not in _NATIVE_LISTS


def _show(cursor: Cursor) -> Show | None:
    cursor.demand("SHOW")
    for those in _LATER_LISTS:
        if cursor.at(*those):
            raise later(cursor.sql, cursor.position, "SHOW " + " ".join(those))
    found = next((those for those in _LISTS if those[0] == cursor.key()), None)
    if found is None:
        return None
    cursor.demand(*found)
    where = order = None
    limit: int | None = None
    if cursor.take("WHERE"):
        where = cursor.bracketed("a condition")
    if cursor.take("ORDER"):
        cursor.demand("BY")
        start = cursor.position
        cursor.name("the name of a column")
        if not cursor.take("ASC"):
            cursor.take("DESC")
        order = cursor.sql[start : cursor.tokens[cursor.i - 1].end]
    if cursor.take("LIMIT"):
        limit = cursor.integer("the limit", 0)
    return Show(_LISTS[found], where, order, limit)


def _set(cursor: Cursor) -> SetOption | None:
    """SET aidb.name = value; every other SET is DuckDB's."""
    cursor.demand("SET")
    if cursor.at("LABEL", "POLICY"):
        raise later(cursor.sql, cursor.position, "SET LABEL POLICY")
    name = _setting(cursor)
    if name is None:
        return None
    if not (cursor.take("=") or cursor.take("TO")):
        raise cursor.expected("= and a value")
    if cursor.take("DEFAULT"):
        return SetOption(name, None)
    number = cursor.number()
    if number is not None and number.text.strip("0123456789_"):  # as in the clauses: 10,000 and 5%
        cursor.i = number.next
        share = number.value / 100 if number.percent else number.value
        return SetOption(name, int(share) if share == int(share) and not number.percent else float(share))
    token = cursor.token()
    bare = token and token.kind in ("word", "name") and token.key not in ("TRUE", "FALSE", "NULL", "MAP")
    return SetOption(name, cursor.name("a value") if bare else value(cursor))


def _reset(cursor: Cursor) -> SetOption | None:
    cursor.demand("RESET")
    name = _setting(cursor)
    return None if name is None else SetOption(name, None)


def _setting(cursor: Cursor) -> str | None:
    """``[GLOBAL | SESSION | LOCAL] aidb.name``: the name in lower case, None for a setting of DuckDB's."""
    scoped = cursor.key() in ("GLOBAL", "SESSION", "LOCAL") and cursor.key(1) == "AIDB"
    ahead = 1 if scoped else 0
    if cursor.key(ahead) != "AIDB" or cursor.key(ahead + 1) != ".":
        return None
    cursor.i += ahead + 2
    return cursor.name("the name of a setting").lower()


def _comes_later(cursor: Cursor) -> None:
    """VALIDATE and COLLECT LABELS, which no statement of DuckDB's begins with."""
    if cursor.at("VALIDATE") or cursor.at("COLLECT", "LABELS"):
        raise later(cursor.sql, cursor.position, cursor.key() + (" LABELS" if cursor.at("COLLECT") else ""))


_READERS: dict[str, Callable[[Cursor], Statement | None]] = {
    "CREATE": _create,
    "ALTER": _alter,
    "REFRESH": _refresh,
    "RETRY": _retry,
    "ATTACH": _attach,
    "CHECK": _check,
    "EXPORT": _export,
    "DROP": _drop,
    "SHOW": _show,
    "SET": _set,
    "RESET": _reset,
    "VALIDATE": _comes_later,
    "COLLECT": _comes_later,
}
