"""The SQLAlchemy dialect: what tools see of a database, that models run when they read, and transactions."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy import event, exc, pool
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

import aidb
from aidb.handles import Handle
from aidb.surfaces.sqlalchemy.columntypes import Content, Other, OtherInteger, sqlalchemy_type
from aidb.testing import FakeModel
from tests.surfaces import sqlalchemy_suite

N = 20


class World:
    """A file with tables of all kinds, and an engine over it."""

    def __init__(self, folder: Path) -> None:
        self.double = FakeModel("twice", {"y": "INTEGER"}, lambda x: 2 * x, batch_size=5)
        self.words = FakeModel("words", {"word": "VARCHAR"}, lambda text: text.split(), inputs=("text",), rows="many")
        (folder / "docs").mkdir()
        (folder / "docs" / "a.txt").write_text("two words")
        (folder / "docs" / "b.txt").write_text("one")
        self.engine = sa.create_engine(f"aidb:///{folder / 'world.aidb'}")
        event.listen(self.engine, "connect", self._register)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as con:
            for sql in (
                f"CREATE BLOB TABLE t AS SELECT range AS id, range::INTEGER AS x FROM range({N}) KEY (id)",
                f"CREATE BLOB TABLE docs FROM '{folder / 'docs'}/*.txt'",
                "CREATE VIRTUAL TABLE v AS twice(t.x)",
                "CREATE VIRTUAL TABLE w AS words(docs.text)",
                "CREATE TABLE plain (a INTEGER PRIMARY KEY, b VARCHAR NOT NULL DEFAULT 'none', x INTEGER)",
                "ALTER TABLE plain ADD VIRTUAL COLUMN y AS twice(x)",
                "CREATE VIEW large AS SELECT * FROM v WHERE y > 10",
                "COMMENT ON VIEW large IS 'more than ten'",
                "CREATE SCHEMA other; CREATE TABLE other.z (a INTEGER)",
            ):
                con.exec_driver_sql(sql)

    def _register(self, connection: aidb.Connection, _: Any) -> None:
        connection.execute("SET threads = 1")
        connection.register(self.double)
        connection.register(self.words)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world"))
    yield world
    world.engine.dispose()


# ---- reflection
def test_every_table_is_listed_and_nothing_of_ours_behind_it(world: World) -> None:
    inspector = sa.inspect(world.engine)
    assert inspector.get_table_names() == ["docs", "plain", "t", "v", "w"]
    assert inspector.get_view_names() == ["large"]
    assert inspector.get_schema_names() == ["aidb", "main", "other"]
    assert inspector.get_table_names("other") == ["z"]
    assert {"models", "virtual_tables", "calls", "errors"} <= set(inspector.get_view_names("aidb"))
    there = ("docs", "plain", "t", "v", "w", "large", "V")
    assert [inspector.has_table(name) for name in there] == [True] * len(there)
    assert not inspector.has_table("z")
    assert inspector.has_table("z", schema="other")
    assert not inspector.has_table("plain", schema="other")


def test_keys_types_and_comments(world: World) -> None:
    inspector = sa.inspect(world.engine)
    columns = {c["name"]: c for c in inspector.get_columns("w")}
    assert list(columns) == ["doc_id", "w_id", "word"]
    assert [type(c["type"]) for c in columns.values()] == [sa.BIGINT, sa.BIGINT, sa.VARCHAR]
    assert [c["nullable"] for c in columns.values()] == [False, False, True]
    assert columns["word"]["comment"] == "filled by words"
    assert inspector.get_pk_constraint("w")["constrained_columns"] == ["doc_id", "w_id"]
    (key,) = inspector.get_foreign_keys("w")
    assert (key["constrained_columns"], key["referred_table"], key["referred_columns"]) == (
        ["doc_id"],
        "docs",
        ["doc_id"],
    )
    assert inspector.get_table_comment("w")["text"] == "virtual table: words(docs.text), filled when it is asked for"
    assert str(inspector.get_table_comment("docs")["text"]).startswith("blob table: the items of ")
    assert inspector.get_pk_constraint("docs")["constrained_columns"] == ["doc_id"]
    assert isinstance({c["name"]: c["type"] for c in inspector.get_columns("docs")}["text"], Content)
    plain = {c["name"]: c for c in inspector.get_columns("plain")}
    assert (plain["b"]["default"], plain["b"]["nullable"], plain["y"]["comment"]) == (
        "'none'",
        False,
        "filled by twice",
    )
    assert inspector.get_pk_constraint("plain")["constrained_columns"] == ["a"]
    assert inspector.get_table_comment("large")["text"] == "more than ten"
    assert "WHERE (y > 10)" in inspector.get_view_definition("large")
    for ask in (inspector.get_columns, inspector.get_pk_constraint, inspector.get_foreign_keys, inspector.get_indexes,
                inspector.get_unique_constraints, inspector.get_check_constraints, inspector.get_table_comment,
                inspector.get_view_definition):  # fmt: skip
        with pytest.raises(exc.NoSuchTableError):
            ask("nothing")


def test_a_bracket_in_a_text_is_none_around_the_expression() -> None:
    engine = sa.create_engine("aidb://")
    with engine.begin() as con:
        con.execute(sa.text("CREATE TABLE t (x VARCHAR, y VARCHAR, CHECK ((x = '(') OR (y = ')')), CHECK (x <> ')'))"))
        found = [c["sqltext"] for c in sa.inspect(con).get_check_constraints("t")]
    engine.dispose()
    assert found == ["(x = '(') OR (y = ')')", "x != ')'"]


def test_reflecting_everything_runs_no_model(world: World) -> None:
    before = world.double.calls + world.words.calls
    metadata = sa.MetaData()
    metadata.reflect(world.engine, views=True)
    assert set(metadata.tables) == {"docs", "plain", "t", "v", "w", "large"}
    assert world.double.calls + world.words.calls == before
    v = metadata.tables["v"]
    with world.engine.connect() as con:
        found = con.execute(sa.select(sa.func.sum(v.c.y)).where(v.c.id < 3)).scalar()
    assert found == 6


@pytest.mark.parametrize(
    "text",
    [
        "BOOLEAN", "TINYINT", "HUGEINT", "BIGINT", "DOUBLE", "FLOAT", "DECIMAL(9,2)", "VARCHAR", "BLOB", "DATE", "TIME",
        "TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "INTERVAL", "UUID", "JSON", "INTEGER[]", "VARCHAR[][]",
        "STRUCT(a INTEGER, b VARCHAR[])", "MAP(VARCHAR, INTEGER)", "BIT", "VARIANT",
    ],
)  # fmt: skip
def test_a_type_that_was_reflected_makes_the_same_column(world: World, text: str) -> None:
    dialect = world.engine.dialect
    made = sqlalchemy_type(text).compile(dialect)
    with world.engine.connect() as con:
        description = con.exec_driver_sql(f"SELECT NULL::{made} AS x").cursor.description
    assert description[0][1] == text


def test_other_types() -> None:
    assert isinstance(sqlalchemy_type("UBIGINT"), OtherInteger)
    assert isinstance(sqlalchemy_type("MAP(VARCHAR, INTEGER[])"), Other)
    made = sqlalchemy_type("ENUM('it''s', 'b')")
    assert isinstance(made, sa.Enum)
    assert made.enums == ["it's", "b"]


# ---- reading
def test_pandas_reads_and_writes(world: World) -> None:
    before = world.double.items
    frame = pd.read_sql("SELECT id, y FROM v WHERE id >= 15 ORDER BY id", world.engine)
    assert frame["y"].tolist() == [30, 32, 34, 36, 38]
    assert world.double.items - before == 5
    assert pd.read_sql(sa.text("SELECT y FROM v WHERE id = :id"), world.engine, params={"id": 16})["y"].tolist() == [32]
    table = pd.read_sql_table("w", world.engine)
    assert sorted(table["word"]) == ["one", "two", "words"]
    frame["when"] = datetime.datetime(2024, 2, 29, 1, 2, 3)
    frame.to_sql("written", world.engine, index=False)
    back = pd.read_sql_table("written", world.engine)
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
    with world.engine.begin() as con:
        con.exec_driver_sql("DROP TABLE written")


def test_text_with_our_clauses_and_handles(world: World) -> None:
    with world.engine.connect() as con:
        clause = "SELECT count(*) AS n FROM v WHERE y >= :least ERROR TARGET 50% WITH PROBABILITY 90%"
        assert con.execute(sa.text(clause), {"least": 0}).scalar() == N
        handle = con.exec_driver_sql("SELECT text FROM docs ORDER BY text.uri LIMIT 1").scalar()
        assert isinstance(handle, Handle)
        assert handle.text() == "two words"
        result = con.exec_driver_sql("SHOW MODELS")
        assert list(result.keys())[:2] == ["name", "provider"]
        assert [row.name for row in result] == ["twice", "words"]
        with pytest.raises(exc.ProgrammingError, match="nothing does not exist"):
            con.exec_driver_sql("SELECT * FROM nothing")


# ---- transactions
def test_a_change_begins_a_transaction_and_reading_none(tmp_path: Path) -> None:
    world = World(tmp_path)  # one of its own: no other test may have had item 14 answered
    with world.engine.connect() as con:
        con.execute(sa.text("SELECT sum(y) FROM v WHERE id BETWEEN 6 AND 8")).all()
        raw = con.connection.dbapi_connection
        assert isinstance(raw, aidb.Connection)
        assert not raw.in_transaction
        con.execute(sa.text("INSERT INTO other.z VALUES (:a)"), [{"a": 1}, {"a": 2}])
        assert raw.in_transaction
        assert con.scalar(sa.text("SELECT count(*) FROM other.z")) == 2
        with pytest.raises(exc.OperationalError, match="COMMIT first"):
            con.execute(sa.text("SELECT sum(y) FROM v WHERE id = 14")).all()
        con.rollback()
        assert con.scalar(sa.text("SELECT count(*) FROM other.z")) == 0
    with world.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as con:
        con.execute(sa.text("INSERT INTO other.z VALUES (3)"))
    with world.engine.begin() as con:
        assert con.get_isolation_level() == "SNAPSHOT"
        assert con.execute(sa.text("DELETE FROM other.z")).rowcount == 1
    world.engine.dispose()


class Base(DeclarativeBase):
    """The mapped classes."""


class Camera(Base):
    __tablename__ = "camera"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    shots: Mapped[list[Shot]] = relationship(back_populates="camera")


class Shot(Base):
    __tablename__ = "shot"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime.datetime]
    tags: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    camera_id: Mapped[int] = mapped_column(sa.ForeignKey("camera.id"))
    camera: Mapped[Camera] = relationship(back_populates="shots")


def test_mapped_classes_count_their_keys() -> None:
    engine = sa.create_engine("aidb://")
    Base.metadata.create_all(engine)
    noon = datetime.datetime(2024, 2, 29, 12)
    with Session(engine) as session:
        street = Camera(name="street", shots=[Shot(at=noon, tags={"car": [n, {"red": True}]}) for n in range(3)])
        session.add_all([street, Camera(name="yard")])
        session.commit()
        assert (street.id, [s.id for s in street.shots]) == (1, [1, 2, 3])
        many = session.scalars(sa.select(Shot).where(Shot.tags["car"][0].as_integer() > 0).order_by(Shot.id)).all()
        assert [(s.camera.name, s.at, s.tags) for s in many] == [
            ("street", noon, {"car": [n, {"red": True}]}) for n in (1, 2)
        ]
        session.add(Camera(name="yard"))
        with pytest.raises(exc.IntegrityError):
            session.commit()
        session.rollback()
        assert session.scalar(sa.select(sa.func.count()).select_from(Camera)) == 2
    assert sa.inspect(engine).get_sequence_names() == ["camera_id_seq", "shot_id_seq"]
    Base.metadata.drop_all(engine)
    assert sa.inspect(engine).get_sequence_names() == sa.inspect(engine).get_table_names() == []
    engine.dispose()


# ---- URLs
def test_urls(tmp_path: Path) -> None:
    assert isinstance(sa.create_engine("aidb://").pool, pool.SingletonThreadPool)
    assert isinstance(sa.create_engine("aidb:///x.aidb").pool, pool.QueuePool)
    with pytest.raises(exc.OperationalError, match="does not exist"):
        sa.create_engine(f"aidb:///{tmp_path}/none.aidb?read_only=1").connect()
    for url, says in [
        ("aidb://x.aidb", "three slashes"),
        ("aidb:///x?fast=1", "fast"),
        ("aidb:///x?read_only=2", "read_only"),
    ]:
        with pytest.raises(exc.ArgumentError, match=says):
            sa.create_engine(url).connect()


# ---- SQLAlchemy's own suite
def test_a_part_of_the_public_suite() -> None:
    """The whole is ``python -m tests.surfaces.sqlalchemy_suite``."""
    results = sqlalchemy_suite.run("ComputedReflectionTest or IntervalTest or WindowFunctionTest or HasSequenceTest")
    assert sqlalchemy_suite.unknown(results) == []
    assert sum(r.outcome == "passed" for r in results) >= 20
