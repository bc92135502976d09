"""Queries whose models run on a server in another process: the same rows, each item paid once, whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import aidb
from aidb.surfaces.demo import street
from tests.serving import hosted
from tests.serving.conftest import Server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 24 frames."""
    path = tmp_path_factory.mktemp("video") / "street.mp4"
    street.draw(path, frames=24)
    return path


@pytest.fixture
def con(token: str) -> Iterator[aidb.Connection]:
    with aidb.connect() as connection:
        yield connection


def rows(con: aidb.Connection, sql: str) -> list[tuple[Any, ...]]:
    return con.execute(sql).fetchall()


def remote(con: aidb.Connection, server: Server, name: str, options: str = "") -> str:
    said = con.execute(
        f"CREATE OR REPLACE MODEL {name} USING kserve WITH (url = '{server.url}', token_env = 'MODELS_TOKEN' {options})"
    ).message
    return str(said)


def test_a_video_gives_the_rows_that_it_gives_in_process(con: aidb.Connection, server: Server, clip: Path) -> None:
    con.execute(f"CREATE BLOB TABLE frames FROM '{clip}'")
    assert remote(con, server, "faces") == "model faces (kserve, remote)"
    remote(con, server, "measure")
    remote(con, server, "measured_file", ", model = 'measure', send = 'file'")
    con.execute("CREATE MODEL here USING opencv WITH (detector = 'face')")
    con.register(hosted.measure, name="here_too")
    for there, local in (("faces", "here"), ("measure", "here_too"), ("measured_file", "here_too")):
        for model in (there, local):
            con.execute(f"CREATE VIRTUAL TABLE of_{model}_{there} AS {model}(frames.image)")
        found = [
            [r[:1] + r[2 if there == "faces" else 1 :] for r in rows(con, f"SELECT * FROM of_{m}_{there} ORDER BY ALL")]
            for m in (there, local)
        ]
        assert found[0] == found[1]
        assert there == "faces" or len(found[0]) == 24


def test_many_rows_nulls_and_a_bad_item(con: aidb.Connection, server: Server) -> None:
    con.execute("CREATE BLOB TABLE n AS SELECT range AS id, nullif(range, 7) - 2 AS x FROM range(40) KEY (id)")
    remote(con, server, "upto", ", batch_size = 16")
    con.execute("CREATE VIRTUAL TABLE up AS upto(n.x)")
    expected = [(i, k, k, k % 2 == 0) for i in range(2, 40) if i != 7 for k in range(i - 2)]
    cur = con.execute("SELECT id, up_id, y, half FROM up ORDER BY ALL")
    assert cur.fetchall() == expected
    assert cur.report.failed == 2
    errors = rows(con, "SELECT message FROM aidb.errors")
    assert all(m[0].endswith("upto/infer answered 422: item 0: ValueError: a negative number") for m in errors)
    assert rows(con, "SELECT count(*) FROM up") == [(len(expected),)]


def test_a_worker_that_one_item_kills_costs_that_item(con: aidb.Connection, server: Server) -> None:
    con.execute(f"CREATE BLOB TABLE n AS SELECT unnest([1, {hosted.CRASH}, 3]) AS x KEY (x)")
    remote(con, server, "upto", ", batch_size = 1, retries = 10")
    con.execute("CREATE VIRTUAL TABLE up AS upto(n.x)")
    assert rows(con, "SELECT x, count(*) FROM up GROUP BY ALL ORDER BY ALL") == [(1, 1), (3, 3)]
    [(message,)] = rows(con, "SELECT message FROM aidb.errors")
    assert message.endswith("answered 500: the worker died while it had this batch")
    server.wait()


def test_a_model_that_moves_keeps_its_answers(con: aidb.Connection, server: Server) -> None:
    """The server's version is the fingerprint that the model has in process."""
    con.execute("CREATE BLOB TABLE n AS SELECT range AS x FROM range(5) KEY (x)")
    con.register(hosted.upto)
    con.execute("CREATE VIRTUAL TABLE up AS upto(n.x)")
    before = rows(con, "SELECT * FROM up ORDER BY ALL")
    assert "stale" not in remote(con, server, "upto")
    cur = con.execute("SELECT * FROM up ORDER BY ALL")
    assert cur.fetchall() == before
    assert cur.report.calls == {"upto": 0}


def test_a_server_that_is_killed_and_started_again(tmp_path: Path, token: str) -> None:
    """The query goes on where it was, and each item is stored, and counted, once."""
    arguments = ["--function", "upto=tests.serving.hosted:upto"]
    servers = [Server(arguments).wait()]
    done = threading.Semaphore(0)

    def replace() -> None:
        assert done.acquire(timeout=60)
        servers[0].kill()
        servers.append(Server(arguments, port=servers[0].port))

    operator = threading.Thread(target=replace)
    operator.start()

    def progress(state: aidb.Progress) -> None:
        if state.done >= 8:
            done.release()

    try:
        with aidb.connect(tmp_path / "kept.aidb", progress=progress) as con:
            con.execute(
                f"CREATE BLOB TABLE n AS SELECT {hosted.SLOW} + range % 9 + 20 AS x, range AS id FROM range(60) KEY (id)"
            )
            remote(con, servers[0], "upto", ", batch_size = 4, concurrency = 2, retries = 12, backoff = 0.25")
            con.execute("CREATE VIRTUAL TABLE up AS upto(n.x)")
            cur = con.execute("SELECT id FROM up ORDER BY id")
            assert [r[0] for r in cur.fetchall()] == list(range(60))
            assert cur.report.calls == {"upto": 60}
            assert not cur.report.failed
            operator.join(60)
            assert len(servers) == 2
            assert rows(con, "SELECT sum(items), sum(rows) FROM aidb.calls") == [(60, 60)]
    finally:
        done.release()
        operator.join(60)
        for server in servers[1:]:
            server.stop()
