"""What REFRESH, CREATE OR REPLACE and changed models mean for stored answers: stale when wrong, back when right again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aidb
from aidb.testing import FakeModel, MemoryConnector


@pytest.fixture
def memory() -> MemoryConnector:
    return MemoryConnector(["a", "bb", "ccc"], content="text", key="doc_id")


@pytest.fixture
def con(memory: MemoryConnector) -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        con.register_connector(memory)
        con.execute("CREATE BLOB TABLE docs FROM 'memory:*' USING memory")
        yield con


def size_of(con: aidb.Connection, **spec: Any) -> FakeModel:
    model = FakeModel("size", {"size": "INTEGER"}, lambda text: -1 if text is None else len(text), **spec)
    con.register(model)
    return model


def asked(model: FakeModel, con: aidb.Connection, sql: str) -> tuple[list[tuple[Any, ...]], int]:
    """Rows, sorted, and how many items the model was asked about for them."""
    before = model.items
    rows = sorted(con.execute(sql).fetchall(), key=str)
    return rows, model.items - before


def test_answers_about_pairs_return_when_both_sides_are_what_they_were(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE colours AS FROM (VALUES (1, 'red'), (2, 'blue')) v(id, colour)")
    con.execute("CREATE TABLE shapes AS FROM (VALUES (1, 'box'), (2, 'ball')) v(id, shape)")
    con.execute("CREATE BLOB TABLE c AS SELECT id AS cid, colour FROM colours KEY (cid)")
    con.execute("CREATE BLOB TABLE s AS SELECT id AS sid, shape FROM shapes KEY (sid)")
    both = FakeModel("joined", {"says": "VARCHAR"}, lambda a, b: f"{a} {b}", inputs=["a", "b"])
    con.register(both)
    con.execute("CREATE VIRTUAL TABLE pair AS joined(c.colour, s.shape)")

    def now(colour: str, shape: str, calls: int) -> None:
        con.execute(f"UPDATE colours SET colour = '{colour}' WHERE id = 1; REFRESH BLOB TABLE c")
        con.execute(f"UPDATE shapes SET shape = '{shape}' WHERE id = 1; REFRESH BLOB TABLE s")
        want = sorted(f"{a} {b}" for a in (colour, "blue") for b in (shape, "ball"))
        assert asked(both, con, "SELECT says FROM pair") == ([(w,) for w in want], calls)

    now("red", "box", 4)
    now("green", "box", 2)
    now("green", "cube", 2)
    now("red", "cube", 1)  # red cube is new; red ball and blue cube are known
    now("red", "box", 0)
    now("green", "cube", 0)


def test_references_that_a_query_passes_on_are_as_good_as_the_files(
    con: aidb.Connection, memory: MemoryConnector
) -> None:
    size = size_of(con)
    con.execute("CREATE BLOB TABLE part AS SELECT doc_id, text, name FROM docs WHERE doc_id > 0 KEY (doc_id)")
    con.execute("CREATE BLOB TABLE unkeyed AS SELECT text FROM docs WHERE doc_id > 0")
    con.execute("CREATE VIRTUAL TABLE long AS size(part.text); CREATE VIRTUAL TABLE wide AS size(unkeyed.text)")
    assert asked(size, con, "SELECT size FROM long") == ([(2,), (3,)], 2)
    assert asked(size, con, "SELECT size FROM wide") == ([(2,), (3,)], 2)
    memory.replace("item-1", "longer")
    con.execute("REFRESH BLOB TABLE docs; REFRESH BLOB TABLE part; REFRESH BLOB TABLE unkeyed")
    assert asked(size, con, "SELECT size FROM long") == ([(3,), (6,)], 1)
    assert asked(size, con, "SELECT size FROM wide") == ([(3,), (6,)], 1)
    # Another reference under the same key is another item, whatever the file's own table says.
    other = "SELECT 3 - doc_id AS doc_id, text, name FROM docs WHERE doc_id > 0"
    con.execute(f"CREATE OR REPLACE BLOB TABLE part AS {other} KEY (doc_id)")
    assert sorted(con.execute("SELECT * FROM long").fetchall()) == [(1, 3), (2, 6)]


def test_keys_are_never_given_twice(con: aidb.Connection, memory: MemoryConnector) -> None:
    memory.remove("item-2")
    con.execute("REFRESH BLOB TABLE docs")
    memory.add("new", "dddd")
    con.execute("REFRESH BLOB TABLE docs")
    memory.add("item-2", "ccc")
    con.execute("REFRESH BLOB TABLE docs")
    assert con.execute("SELECT name, doc_id FROM docs ORDER BY 1").fetchall() == [
        ("item-0", 0), ("item-1", 1), ("item-2", 2), ("new", 3),
    ]  # fmt: skip


def test_an_item_that_changes_back_has_its_answers_back(con: aidb.Connection, memory: MemoryConnector) -> None:
    con.execute("CREATE TABLE notes AS FROM (VALUES ('x', 'one'), ('y', 'three')) v(k, note)")
    con.execute("CREATE BLOB TABLE n AS FROM notes KEY (k)")
    size, twice = size_of(con), FakeModel("twice", {"twice": "INTEGER"}, lambda n: 2 * n)
    con.register(twice)
    con.execute("CREATE VIRTUAL TABLE a AS size(n.note); CREATE VIRTUAL TABLE b AS twice(a.size)")
    assert asked(twice, con, "SELECT twice FROM b") == ([(10,), (6,)], 2)
    con.execute("UPDATE notes SET note = 'fifteen' WHERE k = 'x'; REFRESH BLOB TABLE n")
    assert asked(twice, con, "SELECT twice FROM b") == ([(10,), (14,)], 1)
    con.execute("UPDATE notes SET note = 'one' WHERE k = 'x'; REFRESH BLOB TABLE n")
    assert asked(size, con, "SELECT size FROM a") == ([(3,), (5,)], 0)
    assert asked(twice, con, "SELECT twice FROM b") == ([(10,), (6,)], 0)


def test_a_column_that_goes_and_comes_back(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE notes AS FROM (VALUES (1, 'one', 'aa'), (2, 'three', 'b')) v(k, note, other)")
    con.execute("CREATE BLOB TABLE n AS FROM notes KEY (k)")
    size = size_of(con)
    assert asked(size, con, "SELECT size(note) FROM n") == ([(3,), (5,)], 2)
    assert asked(size, con, "SELECT size(other) FROM n") == ([(1,), (2,)], 2)
    con.execute("CREATE OR REPLACE BLOB TABLE n AS SELECT k, other FROM notes KEY (k)")
    assert asked(size, con, "SELECT size(other) FROM n") == ([(1,), (2,)], 0)
    con.execute("UPDATE notes SET note = 'changed meanwhile' WHERE k = 2")
    con.execute("CREATE OR REPLACE BLOB TABLE n AS SELECT other, note, k FROM notes KEY (k)")
    assert asked(size, con, "SELECT size(note) FROM n") == ([(17,), (3,)], 1)
    assert asked(size, con, "SELECT size(other) FROM n") == ([(1,), (2,)], 0)
    # A column of another type is another input.
    con.execute("CREATE OR REPLACE BLOB TABLE n AS SELECT k, note::BLOB AS note FROM notes KEY (k)")
    assert asked(size, con, "SELECT size(note) FROM n") == ([(17,), (3,)], 2)


def test_another_key_makes_other_items(con: aidb.Connection) -> None:
    size = size_of(con)
    con.execute("CREATE VIRTUAL TABLE long AS size(docs.text)")
    assert asked(size, con, "SELECT size FROM long")[1] == 3
    con.execute("CREATE OR REPLACE BLOB TABLE docs FROM 'memory:*' USING memory KEY (name)")
    assert asked(size, con, "SELECT * FROM long") == ([("item-0", 1), ("item-1", 2), ("item-2", 3)], 3)
    assert con.execute("DROP STALE").message == "dropped 3 stale rows"


def test_null_is_a_value_and_a_vanished_item_is_not(con: aidb.Connection) -> None:
    con.execute("CREATE TABLE notes AS FROM (VALUES (1, NULL), (2, 'x')) v(k, note)")
    con.execute("CREATE BLOB TABLE n AS FROM notes KEY (k)")
    size = size_of(con)
    con.execute("CREATE VIRTUAL TABLE a AS size(n.note)")
    assert asked(size, con, "SELECT * FROM a") == ([(1, -1), (2, 1)], 2)
    con.execute("DELETE FROM notes WHERE k = 1; REFRESH BLOB TABLE n")
    assert asked(size, con, "SELECT * FROM a") == ([(2, 1)], 0)
    con.execute("INSERT INTO notes VALUES (1, NULL); REFRESH BLOB TABLE n")
    assert asked(size, con, "SELECT * FROM a") == ([(1, -1), (2, 1)], 0)


@pytest.mark.parametrize("optimizer", [True, False])
def test_one_fill_under_several_names_is_asked_once_a_statement(con: aidb.Connection, optimizer: bool) -> None:
    con.execute(f"SET aidb.optimizer = {optimizer}")
    size = size_of(con, batch_size=2)
    con.execute("CREATE VIRTUAL TABLE a AS size(docs.text); CREATE VIRTUAL TABLE b (n) AS size(docs.text)")
    con.execute("ALTER TABLE docs ADD VIRTUAL COLUMN letters AS size(text)")
    sql = "SELECT a.size, b.n, letters, size(text) FROM a JOIN b USING (doc_id) JOIN docs USING (doc_id)"
    assert asked(size, con, sql) == ([(1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)], 3)
    assert con.execute("SELECT count(*) FROM aidb_internal.ledger_2").fetchall() == [(3,)]


def test_one_fill_under_several_names_is_asked_once_where_nothing_can_be_pruned(con: aidb.Connection) -> None:
    words = FakeModel("words", {"w": "VARCHAR"}, lambda text: list(text), rows="many")
    con.register(words)
    size = size_of(con)
    con.execute("CREATE VIRTUAL TABLE a AS words(docs.text); CREATE VIRTUAL TABLE b (x) AS words(docs.text)")
    con.execute("CREATE VIRTUAL TABLE la AS size(a.w); CREATE VIRTUAL TABLE lb (n) AS size(b.x)")
    con.execute("CREATE MACRO anything(x) AS x")
    sql = "SELECT anything(la.size), lb.n FROM la JOIN lb ON (la.doc_id, la.a_id) = (lb.doc_id, lb.b_id)"
    rows, calls = asked(size, con, sql)
    assert (rows, calls, words.items) == ([(1, 1)] * 6, 6, 3)


def test_children_of_tables_with_other_names_share_answers(con: aidb.Connection) -> None:
    words = FakeModel("words", {"w": "VARCHAR"}, lambda text: list(text), rows="many")
    con.register(words)
    size = size_of(con)
    con.execute("CREATE VIRTUAL TABLE one AS words(docs.text); CREATE VIRTUAL TABLE a AS size(one.w)")
    assert asked(size, con, "SELECT doc_id, one_id, size FROM a")[1] == 6
    con.execute("DROP VIRTUAL TABLE one CASCADE")
    con.execute(
        "CREATE VIRTUAL TABLE other (letter) AS words(docs.text); CREATE VIRTUAL TABLE b (n) AS size(other.letter)"
    )
    rows, calls = asked(size, con, "SELECT doc_id, other_id, n FROM b WHERE doc_id = 1")
    assert (rows, calls) == ([(1, 0, 1), (1, 1, 1)], 0)
    assert words.items == 3
    # A failure is found again under the new names, too.
    con.execute("CREATE VIRTUAL TABLE third AS words(docs.text)")
    assert asked(size, con, "SELECT size(w) FROM third WHERE doc_id = 2") == ([(1,)] * 3, 0)


def test_code_that_changes_is_another_model() -> None:
    with aidb.connect() as con:
        con.execute("CREATE TABLE t AS SELECT range AS a FROM range(3)")
        seen: list[str] = []

        @aidb.model(outputs={"b": "INTEGER"}, name="more")
        def first(a: Any) -> Any:
            seen.append("first")
            return [x + 1 for x in a.to_pylist()]

        @aidb.model(outputs={"b": "INTEGER"}, name="more")
        def second(a: Any) -> Any:
            seen.append("second")
            return [x + 2 for x in a.to_pylist()]

        con.register(first)
        con.execute("ALTER TABLE t ADD VIRTUAL COLUMN b AS more(a)")
        assert con.execute("SELECT sum(b) FROM t").fetchall() == [(6,)]
        con.register(second)
        assert con.execute("SELECT sum(b) FROM t").fetchall() == [(9,)]
        con.register(first)
        assert con.execute("SELECT sum(b), sum(more(a)) FROM t").fetchall() == [(6, 6)]
        assert seen == ["first", "second"]


def test_weights_that_change_between_sessions(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"

    def session(text: str) -> tuple[list[Any], list[Any], int]:
        labels.write_text(text)
        with aidb.connect(tmp_path / "x.db") as con:
            con.execute("CREATE TABLE IF NOT EXISTS t AS SELECT range AS id FROM range(2)")
            con.execute(f"CREATE MODEL IF NOT EXISTS say USING lookup WITH (path = '{labels}', key = 'id')")
            con.execute("CREATE BLOB TABLE IF NOT EXISTS b AS FROM t KEY (id)")
            con.execute("CREATE VIRTUAL TABLE IF NOT EXISTS said AS say(b.id)")
            called = con.execute("SELECT say(id) FROM b ORDER BY 1")
            rows = con.execute("SELECT word FROM said ORDER BY id").fetchall()
            return called.fetchall(), rows, called.report.calls["say"]

    assert session("id,word\n0,a\n1,b\n") == ([("a",), ("b",)], [("a",), ("b",)], 2)
    assert session("id,word\n0,A\n1,B\n") == ([("A",), ("B",)], [("A",), ("B",)], 2)
    assert session("id,word\n0,a\n1,b\n") == ([("a",), ("b",)], [("a",), ("b",)], 0)
    # The file is gone: what is stored can be read.
    labels.unlink()
    with aidb.connect(tmp_path / "x.db") as con:
        assert con.execute("SELECT word FROM said ORDER BY id").fetchall() == [("a",), ("b",)]
    # It gives other columns now: what rests on the old ones is told.
    labels.write_text("id,term\n0,a\n1,b\n")
    with aidb.connect(tmp_path / "x.db") as con:
        con.execute("SELECT term FROM said")
        size_of(con)
        con.execute("CREATE VIRTUAL TABLE long AS size(said.term)")
    labels.write_text("id,word\n0,a\n1,b\n")
    told = pytest.raises(aidb.OperationalError, match=r"say is not what it was: it gives word now, .*long rests on")
    with aidb.connect(tmp_path / "x.db") as con, told:
        con.execute("SELECT * FROM said")


def test_a_video_listed_with_more_frames_keeps_those_it_had(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    np = pytest.importorskip("numpy")
    with av.open(str(tmp_path / "v.mp4"), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            picture = np.full((48, 64, 3), i * 12, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    with aidb.connect() as con:
        bright = FakeModel("bright", {"bright": "INTEGER"}, lambda image: int(image.mean()), inputs=["image"])
        con.register(bright)
        con.execute(f"CREATE BLOB TABLE frames FROM '{tmp_path}/*.mp4' WITH (fps = 5)")
        con.execute("CREATE VIRTUAL TABLE b AS bright(frames.image)")
        rows, calls = asked(bright, con, "SELECT frame_id, bright FROM b")
        assert (len(rows), calls) == (10, 10)
        con.execute(f"CREATE OR REPLACE BLOB TABLE frames FROM '{tmp_path}/*.mp4' WITH (fps = 10)")
        more, calls = asked(bright, con, "SELECT frame_id, bright FROM b")
        assert (len(more), calls) == (20, 10)
        assert set(rows) < set(more)
        con.execute(f"CREATE OR REPLACE BLOB TABLE frames FROM '{tmp_path}/*.mp4' WITH (fps = 5)")
        assert asked(bright, con, "SELECT frame_id, bright FROM b") == (rows, 0)
