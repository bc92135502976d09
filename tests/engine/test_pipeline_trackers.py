"""Models with state: whole files in order, each in one transaction, an interrupted one from its beginning again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

import aidb
from aidb.spi import OutOfMemory
from tests.engine.storing import check_quiet, check_storage, rows
from tests.engine.trackers import Counter, Films

FILMS = {"a": 40, "b": 1, "c": 9}
ALL = sum(FILMS.values())


@pytest.fixture
def con() -> Iterator[aidb.Connection]:
    with aidb.connect() as con:
        con.execute("SET threads = 1")
        yield con


def put(con: aidb.Connection, tracker: Counter, **films: Any) -> Films:
    source = Films(FILMS, **films)
    con.register_connector(source)
    con.execute("CREATE BLOB TABLE film FROM 'films:*' USING films")
    con.register(tracker)
    con.execute("CREATE VIRTUAL TABLE track AS follow(film.frame)")
    return source


def test_whole_files_in_order(con: aidb.Connection) -> None:
    tracker = Counter("follow")
    put(con, tracker)
    assert rows(con, "SELECT count(*), count(*) FILTER (n = shown) FROM track") == [(ALL, ALL)]
    assert tracker.films == [list(range(n)) for n in FILMS.values()]
    assert check_storage(con) == {"follow": ALL}
    check_quiet(con)


@pytest.mark.parametrize(
    ("sql", "films"),
    [
        ("SELECT n FROM track JOIN film USING (frame_id) WHERE file = 'c' AND pts = 5", ["c"]),
        ("SELECT n FROM track WHERE frame_id = 3", ["a"]),
        ("SELECT n FROM track ORDER BY frame_id LIMIT 2", ["a"]),
        ("SELECT n FROM track LIMIT 1", ["a"]),
    ],
)
def test_one_frame_asks_for_its_whole_file_and_no_other(con: aidb.Connection, sql: str, films: list[str]) -> None:
    tracker = Counter("follow")
    put(con, tracker)
    cur = con.execute(sql)
    assert cur.fetchall()
    assert tracker.films == [list(range(FILMS[f])) for f in films]
    assert cur.report.calls == {"follow": sum(FILMS[f] for f in films)}
    assert rows(con, "SELECT count(*) FROM track") == [(ALL,)]
    assert sorted(map(len, tracker.films)) == sorted(FILMS.values())
    check_storage(con)


def test_a_damaged_frame_is_left_out_and_tried_again_with_its_file(con: aidb.Connection) -> None:
    tracker = Counter("follow")
    source = put(con, tracker, broken=[("a", 4), ("c", 0)])
    con.execute("SET aidb.max_error_ratio = 0.5")
    cur = con.execute("SELECT count(*) FROM track")
    assert cur.fetchall() == [(ALL - 2,)]
    assert cur.report.calls == {"follow": ALL - 2}
    assert cur.report.failed == 2
    assert tracker.films == [[i for i in range(40) if i != 4], [0], list(range(1, 9))]
    source.broken = {("c", 0)}
    con.execute("RETRY FAILED")
    cur = con.execute(
        "SELECT count(*), count(*) FILTER (n = shown) FROM track JOIN film USING (frame_id) WHERE file = 'a'"
    )
    assert cur.fetchall() == [(40, 40)]
    assert check_storage(con, retried=True) == {"follow": ALL - 1}
    check_quiet(con)


def test_an_interrupted_file_begins_again(con: aidb.Connection) -> None:
    gate = threading.Event()
    gate.set()
    tracker = Counter("follow", gate=gate)
    put(con, tracker)
    original = tracker.predict

    def predict(inputs: Any, *, restart: bool = False) -> Any:
        if len(tracker.films) == 3 and len(tracker.films[2]) == 4:
            gate.clear()
            con.interrupt()
            threading.Timer(0.1, gate.set).start()
        return original(inputs, restart=restart)

    tracker.predict = predict  # type: ignore[method-assign]
    with pytest.raises(aidb.Interrupted) as e:
        con.execute("SELECT count(*) FROM track")
    assert e.value.report is not None
    check_quiet(con)
    assert check_storage(con) == {"follow": 41}
    tracker.predict = original  # type: ignore[method-assign]
    cur = con.execute("SELECT count(*), count(*) FILTER (n = shown) FROM track")
    assert cur.fetchall() == [(ALL, ALL)]
    assert cur.report.calls == {"follow": FILMS["c"]}
    assert tracker.films[-1] == list(range(9))


def test_out_of_memory_halves_the_batch_and_keeps_the_order(con: aidb.Connection) -> None:
    def fail(frames: list[int]) -> None:
        if len(frames) > 2:
            raise OutOfMemory("small device")

    tracker = Counter("follow", batch_size=8, fail_on=fail)
    put(con, tracker)
    assert rows(con, "SELECT count(*), count(*) FILTER (n = shown) FROM track") == [(ALL, ALL)]
    assert tracker.films == [list(range(n)) for n in FILMS.values()]


def test_batches_never_mix_files_under_a_tiny_budget(con: aidb.Connection) -> None:
    tracker = Counter("follow", batch_size=100)
    put(con, tracker)
    con.execute("SET aidb.memory_limit = '6B'")  # two frames
    assert rows(con, "SELECT count(*) FILTER (n = shown) FROM track") == [(ALL,)]
    assert tracker.films == [list(range(n)) for n in FILMS.values()]
    assert all(b == a + 1 for film in tracker.films for a, b in pairwise(film))
    check_quiet(con)
