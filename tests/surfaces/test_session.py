"""A session run for a person or a program: when rows are written, and what stops them."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import aidb
from aidb.surfaces.session import Failed, Session


@pytest.fixture
def session() -> Iterator[Session]:
    with aidb.connect() as con:
        con.execute("CREATE BLOB TABLE t AS SELECT range AS id FROM range(200) KEY (id); SET aidb.stream = 'on'")
        yield Session(con, io.StringIO(), io.StringIO(), form="csv")


def written(session: Session) -> str:
    assert isinstance(session.out, io.StringIO)
    return session.out.getvalue()


def said(session: Session) -> str:
    assert isinstance(session.err, io.StringIO)
    return session.err.getvalue()


def register(session: Session, *, fails_from: int = 1_000_000) -> list[int]:
    """A model that notes how much has been written whenever it is called, and is down from some item on."""
    seen: list[int] = []

    @aidb.model(outputs={"twice": "BIGINT"}, batch_size=10, version="1")
    def double(ids: Any) -> dict[str, list[int]]:
        seen.append(len(written(session)))
        if ids[0].as_py() >= fails_from:
            raise aidb.ModelError("the model is down")
        return {"twice": [2 * i.as_py() for i in ids]}

    session.connection.register(double)
    return seen


def test_rows_of_csv_are_written_while_models_are_at_work(session: Session) -> None:
    seen = register(session)
    session.run("SELECT id, double(id) AS d FROM t")
    assert written(session).startswith("id,d\n0,0\n")
    assert written(session).count("\n") == 201
    assert seen[0] == 0
    assert seen[-1] > 0
    assert "200 rows, " in said(session)
    assert "double: 200 calls" in said(session)


@pytest.mark.parametrize("form", ["json", "html", "table", "parquet"])
def test_a_whole_document_is_written_when_all_rows_are_there(session: Session, form: str) -> None:
    seen = register(session, fails_from=150)
    session.form = form
    with pytest.raises(Failed) as failed:
        session.run("SELECT id, double(id) AS d FROM t")
    assert failed.value.code == 1
    assert set(seen) == {0}
    assert written(session) == ""
    assert "error: " in said(session)


class Full(io.StringIO):
    """A reader that goes away after some rows."""

    def write(self, text: str) -> int:
        if self.tell() > 100:
            raise BrokenPipeError
        return super().write(text)


def test_a_reader_that_has_enough_costs_no_further_calls(session: Session) -> None:
    session.send(None)
    seen = register(session)
    session.out = Full()
    session._writer.out = session.out
    with pytest.raises(BrokenPipeError):
        session.run("SELECT id, double(id) AS d FROM t")
    session.connection.close()
    assert len(seen) < 20  # of 20 batches


def test_ctrl_c_while_rows_are_written(session: Session) -> None:
    """The main thread is in the writer, where no model and no query of DuckDB's is there to be interrupted."""
    session.out = Slow()
    session._writer.out = session.out
    with pytest.raises(Failed) as failed:
        session.run("SELECT range AS a FROM range(1000000)")
    assert failed.value.code == 130
    assert "finished work is kept" in said(session)
    assert session.out.getvalue().count("\n") < 1_000_000
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Slow(io.StringIO):
    """A stream on which somebody presses Ctrl-C."""

    pressed = False

    def write(self, text: str) -> int:
        if not self.pressed and threading.current_thread() is threading.main_thread():
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def test_the_last_result_is_that_of_the_last_statement(session: Session) -> None:
    session.run("SELECT 1 AS a")
    assert session.last is not None
    assert session.last.fetchall() == [(1,)]
    session.run("CREATE TABLE x AS SELECT 1 AS a")
    assert session.last is None
    assert session.defined
