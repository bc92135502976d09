"""What PEP 249 leaves open, and what we add: types, parameters, transactions, results in other shapes, after a failure."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import aidb
from aidb.handles import Handle
from aidb.testing import FakeModel
from tests.engine.storing import rows


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        yield con


@pytest.fixture(scope="module")
def shared() -> Iterator[aidb.Connection]:
    """For tests that leave nothing behind."""
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        yield con


def put(con: aidb.Connection, n: int = 20) -> FakeModel:
    """A virtual table v over n items."""
    model = FakeModel("m", {"y": "INTEGER"}, lambda x: 10 * x, batch_size=5)
    con.register(model)
    con.execute(f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({n}) KEY (id)")
    con.execute("CREATE VIRTUAL TABLE v AS m(t.x)")
    return model


# ---- types
@pytest.mark.parametrize(
    ("sql", "family"),
    [
        ("'a'", "STRING"), ("'a'::ENUM('a', 'b')", "STRING"), ("uuid()", "STRING"), ("'{}'::JSON", "STRING"),
        ("1", "NUMBER"), ("1.5::DECIMAL(9, 2)", "NUMBER"), ("true", "NUMBER"), ("1::UHUGEINT", "NUMBER"),
        ("1::FLOAT", "NUMBER"), ("DATE '2024-01-01'", "DATETIME"), ("now()", "DATETIME"), ("TIME '10:00'", "DATETIME"),
        ("now()::TIMESTAMP_NS", "DATETIME"), ("INTERVAL 1 DAY", "DATETIME"), ("'a'::BLOB", "BINARY"),
        ("[1]", None), ("[DATE '2024-01-01']", None), ("{'a': 1}", None), ("MAP {'a': 1}", None),
        ("[1.5, 2]::DECIMAL(3, 1)[2]", None),
    ],
)  # fmt: skip
def test_each_type_belongs_to_one_type_object_at_most(shared: aidb.Connection, sql: str, family: str | None) -> None:
    description = shared.execute(f"SELECT {sql} AS x").description
    assert description is not None
    type_ = description[0][1]
    names = ("STRING", "NUMBER", "DATETIME", "BINARY", "ROWID")
    assert [n for n in names if getattr(aidb, n) == type_] == ([family] if family else [])
    assert [n for n in names if getattr(aidb, n) != type_] == [n for n in names if n != family]


def test_description_has_precision_and_scale(shared: aidb.Connection) -> None:
    cursor = shared.execute("SELECT 1.5::DECIMAL(9, 2) AS d, 1 AS i")
    assert cursor.description == [
        ("d", "DECIMAL(9,2)", None, None, 9, 2, None), ("i", "INTEGER", None, None, None, None, None)
    ]  # fmt: skip
    assert shared.execute("SET threads = 1").description is None
    assert shared.execute("SELECT 1 WHERE false").description is not None


def test_constructors_make_what_the_types_take(shared: aidb.Connection) -> None:
    given = [
        aidb.Date(2024, 2, 29), aidb.Time(1, 2, 3), aidb.Timestamp(2024, 2, 29, 1, 2, 3), aidb.Binary(b"\0\xff"),
        aidb.DateFromTicks(0), aidb.TimestampFromTicks(86400), aidb.TimeFromTicks(0),
    ]  # fmt: skip
    assert list(shared.execute("SELECT ?, ?, ?, ?, ?, ?, ?", given).fetchone() or ()) == given


VALUES = [
    None, True, -1, 2**40, 2**100, 1.5, float("inf"), "it's", "", "ünïcödé \U0001f600", b"", b"\0\xff",
    decimal.Decimal("12.340"), datetime.date(1, 1, 1), datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
    datetime.time(23, 59, 59), datetime.timedelta(days=1, seconds=2), uuid.UUID(int=5), [1, None], {"a": [1]},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_they_were(shared: aidb.Connection, value: object) -> None:
    assert shared.execute("SELECT ?", [value]).fetchall() == [(value,)]
    assert shared.execute("SELECT $v", {"v": value}).fetchall() == [(value,)]


# ---- parameters
@pytest.mark.parametrize(
    ("sql", "parameters", "says"),
    [
        ("SELECT ?, ?", [1], "has 2 parameters, and 1 value was given"),
        ("SELECT ?", [1, 2], "has 1 parameter, and 2 values were given"),
        ("SELECT 1", [1], "has no parameters, and 1 value was given"),
        ("SELECT ?", None, r"has 1 parameter \(\?\), and no values were given"),
        ("SELECT ?", (), "has 1 parameter, and no values were given"),
        ("SELECT $a, $b", {"a": 1}, r"no value for \$b"),
        ("SELECT $first", {"frist": 1}, r"no value for \$first; is 'frist' meant for it"),
        ("SELECT $a", {"a": 1, "c": 2}, r"has the parameter \$a, and a value for 'c' was given"),
        ("SELECT $a", [1], r"has the parameter \$a: give a mapping"),
        ("SELECT ?", {"a": 1}, "give a sequence"),
        ("SELECT ? + $a", [1], r"\? and \$name can't both"),
        ("SELECT ?", "a", "a sequence of values.*; not a str"),
        ("SELECT ?", 5, "not an int"),
        ("SELECT ?", {1}, "not a set"),
        ("SELECT ?, ?", [1, object()], "parameter 2, an object, fits no SQL type"),
        ("SELECT $a, $b", {"a": 1, "b": 10**60}, r"parameter \$b, an int, fits no SQL type"),
        ("SELECT ?; SELECT 2", [1], "only the last of several statements takes parameters"),
        ("", [1], "has no parameters"),
    ],
)
def test_a_wrong_parameter_is_named(shared: aidb.Connection, sql: str, parameters: Any, says: str) -> None:
    with pytest.raises(aidb.ProgrammingError, match=says):
        shared.execute(sql, parameters)


def test_question_marks_and_dollars_that_are_no_parameters(shared: aidb.Connection) -> None:
    sql = "SELECT '?', '$a', \"b?\", $$ $c ? $$, $1 /* ? */ -- $d\nFROM (SELECT 1 AS \"b?\")"
    assert shared.execute(sql, [5]).fetchall() == [("?", "$a", 1, " $c ? ", 5)]
    assert shared.execute("SELECT ?2, ?1", [1, 2]).fetchall() == [(2, 1)]
    assert shared.execute("PREPARE p AS SELECT ? + 1; EXECUTE p(41)").fetchall() == [(42,)]


def test_a_wrong_parameter_costs_no_call(con: aidb.Connection) -> None:
    model = put(con)
    for parameters in ([1], None, {"z": 1}, {"a": object()}):
        with pytest.raises(aidb.Error):
            con.execute("SELECT sum(y) FROM v WHERE y > $a", parameters)  # type: ignore[arg-type]
    assert model.calls == 0
    assert con.execute("SELECT sum(y) FROM v WHERE id > $A", {"a": 15}).fetchall() == [(700,)]


def test_a_statement_is_text(shared: aidb.Connection) -> None:
    with pytest.raises(aidb.ProgrammingError, match="a statement is a str, not bytes"):
        shared.execute(b"SELECT 1")  # type: ignore[arg-type]


# ---- executemany
def test_many_rows_are_inserted_at_once(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE p (a INT, b VARCHAR DEFAULT 'none', c DOUBLE)")
    cursor = con.executemany("INSERT INTO p (c, a) VALUES (?, ?)", ((n / 2, n) for n in range(25_000)))
    assert cursor.rowcount == 25_000
    assert cursor.description is None
    assert rows(con, "SELECT count(*), sum(a), sum(c), any_value(b) FROM p") == [
        (25_000, 312_487_500, 156_243_750.0, "none")
    ]
    assert rows(con, "SELECT a FROM p LIMIT 3 OFFSET 21000") == [(21_000,), (21_001,), (21_002,)], "in their order"


@pytest.mark.parametrize(
    "sets",
    [
        [(1,), (2.5,), (None,), (2**60,)],
        [(True,), (2,), ("three",)],
        [(decimal.Decimal("1.5"),), (decimal.Decimal("1.25"),), (3,)],
        [(datetime.date(2024, 1, 1),), (datetime.datetime(2024, 1, 2, 3),), (None,)],
        [(None,), (None,)],
        [(float("nan"),), (1,), (float("-inf"),)],
        [([1, 2],), (["a"],)],
        [(b"a\0",), (b"",)],
    ],
    ids=repr,
)
@pytest.mark.parametrize("type_", ["VARCHAR", "DOUBLE", "DECIMAL(20, 3)"])
def test_many_rows_are_what_single_ones_would_be(shared: aidb.Connection, type_: str, sets: list[Any]) -> None:
    shared.execute(f"CREATE OR REPLACE TABLE one (a {type_}); CREATE OR REPLACE TABLE many (a {type_})")
    wrong = None
    for values in sets:
        try:
            shared.execute("INSERT INTO one VALUES (?)", values)
        except aidb.Error as e:
            wrong = type(e)
    if wrong is not None:
        with pytest.raises(wrong):
            shared.executemany("INSERT INTO many VALUES (?)", sets)
        return
    shared.executemany("INSERT INTO many VALUES (?)", sets)
    assert repr(rows(shared, "FROM many")) == repr(rows(shared, "FROM one"))


def test_many_rows_all_or_none(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE p (a INT PRIMARY KEY)")
    sets = [[n] for n in range(21_000)]
    with pytest.raises(aidb.IntegrityError):
        con.executemany("INSERT INTO p VALUES (?)", [*sets, [0]])
    assert rows(con, "SELECT count(*) FROM p") == [(0,)]
    assert not con.in_transaction
    con.begin()
    con.executemany("INSERT INTO p VALUES ($a)", [{"a": 1}, {"A": 2}])
    con.rollback()
    assert rows(con, "SELECT count(*) FROM p") == [(0,)]


def test_one_statement_for_each_set_where_it_is_no_plain_insert(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE p (a INT PRIMARY KEY, b VARCHAR)")
    con.executemany("INSERT INTO p VALUES (?, upper(?))", [(1, "a"), (2, "b")])
    cursor = con.executemany("UPDATE p SET b = $b WHERE a >= $a", [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    assert cursor.rowcount == 3
    con.executemany(
        "INSERT INTO p VALUES (?, ?) ON CONFLICT DO UPDATE SET b = excluded.b", [(2, "z"), (3, "z"), (3, "w")]
    )
    assert rows(con, "FROM p ORDER BY a") == [(1, "x"), (2, "z"), (3, "w")]
    with pytest.raises(aidb.IntegrityError) as failed:
        con.executemany("INSERT INTO p VALUES (?, lower('A'))", [[4], [1], [5]])
    assert failed.value.__notes__ == ["at set 2 of 3 sets of parameters"]
    assert rows(con, "SELECT max(a) FROM p") == [(4,)]


def test_executemany_refuses_before_anything_runs(con: aidb.Connection) -> None:
    model = put(con)
    con.execute("CREATE TABLE p (a INT)")
    for sql, sets, says in [
        ("SELECT y FROM v WHERE id = ?", [[1]], "executemany is for statements that change something"),
        ("INSERT INTO p VALUES (?)", [[1], [2, 3]], "set 2 of the parameters: .* 2 values were given"),
        ("INSERT INTO p VALUES (?)", [[1], {"a": 2}], "set 2 of the parameters: .* give a sequence"),
        ("INSERT INTO p VALUES (1); DELETE FROM p WHERE a = ?", [[1]], "one statement, not 2"),
    ]:
        with pytest.raises(aidb.ProgrammingError, match=says):
            con.executemany(sql, sets)
    assert con.executemany("INSERT INTO p VALUES (?)", []).rowcount == 0
    assert (model.calls, rows(con, "SELECT count(*) FROM p")) == (0, [(0,)])


# ---- transactions
def test_autocommit_is_on_unless_begun(tmp_path: Path) -> None:
    with aidb.connect(tmp_path / "a.db") as con, aidb.connect(tmp_path / "a.db") as other:
        assert con.autocommit
        con.execute("CREATE TABLE p AS SELECT 1 AS a")
        assert rows(other, "FROM p") == [(1,)]
        con.begin()
        con.execute("INSERT INTO p VALUES (2)")
        assert (rows(other, "FROM p"), con.in_transaction) == ([(1,)], True)
        con.commit()
        con.rollback()
        assert rows(other, "FROM p") == [(1,), (2,)]


def test_without_autocommit_a_change_begins_a_transaction_and_reading_none(tmp_path: Path) -> None:
    with aidb.connect(tmp_path / "a.db", autocommit=False) as con, aidb.connect(tmp_path / "a.db") as other:
        model = put(con)
        assert rows(con, "SELECT sum(y) FROM v WHERE id < 5") == [(100,)]
        assert not con.in_transaction
        con.execute("CREATE TABLE p AS SELECT y FROM v WHERE id < 10")  # models first, then the transaction
        assert con.in_transaction
        assert model.items == 10
        with pytest.raises(aidb.OperationalError, match=r"inside a transaction.*COMMIT first"):
            con.execute("SELECT sum(y) FROM v")
        con.rollback()
        with pytest.raises(aidb.ProgrammingError, match="p"):
            con.execute("FROM p")
        con.execute("CREATE TABLE p (a INT)")
        con.commit()
        con.executemany("INSERT INTO p VALUES (?)", [[8], [9]])
        con.rollback()
        con.executemany("INSERT INTO p VALUES (?)", [[1], [2]])
        with pytest.raises(aidb.ProgrammingError, match="a transaction is open"):
            con.autocommit = True
        con.commit()
        assert rows(other, "FROM p") == [(1,), (2,)]
        con.autocommit = True
        con.execute("DELETE FROM p")
        assert rows(other, "FROM p") == []
        con.autocommit = False
        con.execute("INSERT INTO p VALUES (3)")
    with aidb.connect(tmp_path / "a.db") as con:
        assert rows(con, "FROM p") == [], "closing rolls back"


def test_a_transaction_that_failed_can_be_rolled_back(con: aidb.Connection) -> None:
    con.autocommit = False
    con.execute("CREATE TABLE p (a INT PRIMARY KEY)")
    con.commit()
    con.execute("INSERT INTO p VALUES (1)")
    with pytest.raises(aidb.IntegrityError):
        con.execute("INSERT INTO p VALUES (1)")
    con.rollback()
    con.execute("INSERT INTO p VALUES (1)")
    con.commit()
    assert rows(con, "FROM p") == [(1,)]


# ---- results
def test_rows_one_by_one_and_in_parts(shared: aidb.Connection) -> None:
    cursor = shared.cursor()
    cursor.execute("FROM range(10)")
    assert next(cursor) == (0,)
    assert cursor.fetchone() == (1,)
    cursor.arraysize = 3
    assert cursor.fetchmany() == [(2,), (3,), (4,)]
    assert [n for (n,) in cursor] == [5, 6, 7, 8, 9]
    assert (cursor.fetchone(), cursor.fetchmany(5), cursor.fetchall(), list(cursor)) == (None, [], [], [])
    with shared.cursor() as other:
        assert other.execute("SELECT 1").connection is shared


@pytest.mark.parametrize(
    "sql", ["SELECT range AS a, range::VARCHAR AS b FROM range(1000)", "SHOW MODELS", "EXPLAIN COST SELECT 1"]
)
def test_arrow_in_every_form(shared: aidb.Connection, sql: str) -> None:
    cursor = shared.execute(sql)
    table = cursor.arrow()
    assert cursor.fetch_arrow_table() == table
    reader = cursor.fetch_record_batch(300)
    assert isinstance(reader, pa.RecordBatchReader)
    batches = list(reader)
    assert all(0 < b.num_rows <= 300 for b in batches)
    assert pa.Table.from_batches(batches, reader.schema) == table
    assert [tuple(r.values()) for r in table.to_pylist()] == shared.execute(sql).fetchall()


def test_record_batches_are_made_as_they_are_read(shared: aidb.Connection) -> None:
    reader = shared.execute("FROM range(1_000_000)").fetch_record_batch(1000)
    assert [reader.read_next_batch().column(0)[0].as_py() for _ in range(3)] == [0, 1000, 2000]
    with pytest.raises(aidb.ProgrammingError, match="at least 1"):
        shared.execute("SELECT 1").fetch_record_batch(0)


def test_frames_of_pandas_and_polars(con: aidb.Connection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    con.execute(f"CREATE BLOB TABLE docs FROM '{tmp_path}/*.txt'")
    cursor = con.execute("SELECT doc_id, text FROM docs UNION ALL SELECT -1, NULL ORDER BY doc_id DESC")
    pandas, polars = cursor.df(), cursor.pl()
    assert list(pandas.columns) == polars.columns == ["doc_id", "text"]
    for handles in (list(pandas["text"]), polars["text"].to_list()):
        assert isinstance(handles[0], Handle)
        assert handles[0].text() == "hello"
        assert handles[1] is None
    assert con.execute("SELECT 1 AS a, 'x' AS b").pl().rows() == [(1, "x")]


# ---- what went wrong before
def test_there_is_no_result_after_a_failure(con: aidb.Connection) -> None:
    cursor = con.cursor()
    for fetch in (
        cursor.fetchone,
        cursor.fetchmany,
        cursor.fetchall,
        cursor.arrow,
        cursor.df,
        cursor.pl,
        lambda: next(cursor),
    ):
        with pytest.raises(aidb.ProgrammingError, match="no result: execute a query first"):
            fetch()
    with pytest.raises(aidb.InterfaceError, match="nothing was executed yet"):
        _ = cursor.report
    cursor.execute("SELECT 1")
    with pytest.raises(aidb.ProgrammingError):
        cursor.execute("SELECT nothing_of_this_name")
    assert (cursor.description, cursor.rowcount, cursor.message) == (None, -1, None)
    for fetch in (cursor.fetchone, cursor.fetchall, cursor.arrow, cursor.rows):
        with pytest.raises(aidb.ProgrammingError, match="the last statement failed"):
            fetch()
    with pytest.raises(aidb.InterfaceError, match="the last statement failed"):
        _ = cursor.report
    assert cursor.execute("SELECT 2").fetchall() == [(2,)]


def test_nothing_works_after_closing() -> None:
    con = aidb.connect()
    cursor, other = con.execute("SELECT 1"), con.execute("SELECT 1")
    other.close()
    for use in (other.fetchall, other.arrow, lambda: other.execute("SELECT 1"), lambda: other.executemany("x", [])):
        with pytest.raises(aidb.InterfaceError, match="the cursor is closed"):
            use()
    con.close()
    con.close()
    for use in (
        cursor.fetchall, cursor.fetchone, cursor.df, lambda: cursor.execute("SELECT 1"), con.commit, con.rollback, con.begin,
        lambda: con.execute("SELECT 1"), con.cursor().fetchone, con.interrupt, lambda: con.explain("SELECT 1"),
        lambda: con.in_transaction, lambda: con.autocommit, lambda: con.register(FakeModel("m", {"y": "INT"}, id)),
    ):  # fmt: skip
        with pytest.raises(aidb.InterfaceError, match="the connection is closed"):
            use()
    cursor.cancel()  # nothing runs


def test_the_exceptions_are_on_the_connection(shared: aidb.Connection) -> None:
    names = ("Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError", "IntegrityError",
             "InternalError", "ProgrammingError", "NotSupportedError")  # fmt: skip
    assert [getattr(shared, n) for n in names] == [getattr(aidb, n) for n in names]
