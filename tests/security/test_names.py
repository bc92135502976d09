"""Names and strings of any kind go through every statement as names and strings: no second statement runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aidb
from aidb.catalog.names import literal, quoted
from aidb.spi import Input
from aidb.testing import FakeModel

EVIL = st.text(st.sampled_from("ab\"'`;-/*()%$?{}[]\\.:=, é\n"), min_size=1, max_size=12)
ATTACKS = [
    "a'; DROP TABLE canary; --",
    'a"; DROP TABLE canary; --',
    "a'); DELETE FROM canary; --",
    "*/ DROP TABLE canary; /*",
    "$$; DROP TABLE canary; $$",
    "a\\'; DROP TABLE canary; --",
    '"',
    "'",
]


@pytest.fixture(scope="module")
def con() -> aidb.Connection:
    con = aidb.connect()
    con.execute("SET threads = 1; CREATE TABLE canary AS SELECT 1 AS alive")
    con.execute("SET aidb.max_error_ratio = 1")
    return con


def alive(con: aidb.Connection) -> None:
    assert con.execute("SELECT alive FROM canary").fetchall() == [(1,)]


def _names(name: str) -> tuple[str, str, str, str, str]:
    return name + "t", name + "k", name + "x", name + "m", name + "v"


@settings(max_examples=2)
@given(EVIL)
@example(ATTACKS[0])
@example(ATTACKS[1])
@example(ATTACKS[3])
@example(ATTACKS[6])
def test_names_are_names(con: aidb.Connection, name: str) -> None:
    table, key, column, model, view = _names(name)
    t, k, x, m, v = map(quoted, (table, key, column, model, view))
    size = FakeModel(model, {"y": "INTEGER"}, lambda text: len(text), inputs=(Input("text", type="VARCHAR"),))
    con.register(size, name=model)
    con.execute(
        f"CREATE OR REPLACE BLOB TABLE {t} AS SELECT i AS {k}, repeat('z', i) AS {x} FROM range(3) r(i) KEY ({k})"
    )
    con.execute(f"CREATE OR REPLACE VIRTUAL TABLE {v} ({x}) AS {m}({t}.{x})")
    assert con.execute(f"SELECT {k}, {x} FROM {v} ORDER BY ALL").fetchall() == [(0, 0), (1, 1), (2, 2)]
    assert con.execute(f"SELECT sum({m}({x})) FROM {t}").fetchall() == [(3,)]
    assert con.execute("SELECT name FROM aidb.virtual_tables").fetchall() == [(view,)]
    assert con.execute("SELECT name FROM aidb.blob_tables").fetchall() == [(table,)]
    con.execute(f"REFRESH BLOB TABLE {t}")
    con.execute(f"EXPLAIN SELECT * FROM {v} WHERE {x} = 1")
    con.execute(f"RETRY FAILED FOR {m}")
    con.execute(f"CREATE OR REPLACE TABLE plain AS SELECT i AS {k}, 'abc' AS {x} FROM range(2) r(i)")
    con.execute(f"ALTER TABLE plain ADD VIRTUAL COLUMN {v} AS {m}({x})")
    assert con.execute(f"SELECT {v} FROM plain").fetchall() == [(3,), (3,)]
    con.execute("DROP TABLE plain")
    con.execute(f"DROP VIRTUAL TABLE {v}; DROP MODEL {m} CASCADE; DROP BLOB TABLE {t}; DROP STALE")
    assert con.execute("CHECK CATALOG").fetchall() == []
    alive(con)


@settings(max_examples=4)
@given(EVIL)
@example(ATTACKS[0])
@example(ATTACKS[2])
@example(ATTACKS[4])
@example(ATTACKS[5])
def test_strings_are_strings(con: aidb.Connection, tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Of options, sources, settings, folders and what models answer: each is refused by its own error, or kept as it is."""
    s = literal(text)
    folder = literal(str(Path(tmp_path_factory.getbasetemp()) / "none") + text)
    for sql in (
        f"CREATE BLOB TABLE files FROM {folder}",
        f"CREATE BLOB TABLE files FROM {folder} WITH (encoding = {s})",
        f"CREATE MODEL odd USING lookup WITH (path = {folder}, key = {s})",
        f"CREATE MODEL odd USING http WITH (url = {s}, version = {s})",
        f"CREATE MODEL odd USING opencv WITH (detector = {s})",
        f"SET aidb.on_error = {s}",
        f"SET aidb.follow_urls = {s}",
        f"ATTACH MATERIALIZED canary FROM {folder}",
        f"EXPORT VIRTUAL TABLE canary TO {folder}",
    ):
        with pytest.raises(aidb.DatabaseError):
            con.execute(sql)
    con.execute("RESET aidb.on_error")
    echo = FakeModel("echo", {"said": "VARCHAR"}, lambda x: x, inputs=(Input("x", type="VARCHAR"),))
    con.register(echo)
    con.execute(f"CREATE OR REPLACE BLOB TABLE said AS SELECT {s} AS id, {s} AS x KEY (id)")
    assert con.execute("SELECT echo(x) FROM said").fetchall() == [(text,)]
    assert con.execute("SELECT echo(x) FROM said WHERE x = $x", {"x": text}).fetchall() == [(text,)]
    alive(con)


def test_a_message_of_a_model_is_kept_as_it_is(con: aidb.Connection) -> None:
    """What a model or a service says of an item is text from outside, and stored as such."""

    def fail(x: int) -> int:
        raise ValueError(ATTACKS[0])

    con.register(FakeModel("bad", {"y": "INTEGER"}, fail))
    con.execute("CREATE OR REPLACE BLOB TABLE one AS SELECT 1 AS id, 1 AS x KEY (id)")
    con.execute("SELECT bad(x) FROM one")
    assert con.execute("SELECT message FROM aidb.errors").fetchall() == [(f"ValueError: {ATTACKS[0]}",)]
    alive(con)
