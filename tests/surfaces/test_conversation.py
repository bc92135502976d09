"""The prompt, driven by keys: what is run, what is offered, what is kept, and what a config changes."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

import aidb
from aidb.errors import OperationalError, ProgrammingError
from aidb.surfaces.config import Config, read_config
from aidb.surfaces.history import History
from aidb.surfaces.opening import Opening
from aidb.surfaces.prompt import Completions, converse, is_whole
from aidb.surfaces.session import Session
from aidb.surfaces.vocabulary import Known

CTRL_C, CTRL_D, CTRL_R, UP, ESCAPE = "\x03", "\x04", "\x12", "\x1b[A", "\x1b"


class Streams:
    """What the shell wrote: rows, and all that is said."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Streams]:
    """Type keys at a prompt of its own database, which Ctrl-D leaves at the end."""
    monkeypatch.setenv("COLUMNS", "100")

    def type_(*keys: str, config: Config | None = None, before: str = "") -> Streams:
        streams = Streams()
        connections: list[aidb.Connection] = []

        def make() -> Session:
            connections.append(aidb.connect())
            if before:
                connections[0].execute(before)
            return Session(connections[0], streams.out, streams.err, form="csv")  # type: ignore[arg-type]

        opening = Opening(make)
        if before:
            opening.get()
        with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
            keyboard.send_text("".join(keys) + CTRL_D)
            try:
                converse(opening, config or Config(suggest=False), DummyOutput())
            finally:
                for connection in connections:
                    connection.close()
        return streams

    return type_


def test_statements_commands_and_slips(type_: Callable[..., Streams]) -> None:
    told = type_(
        "SELECT 1 AS a;\r",
        "SELECT 2 AS b\r, 3 AS c;\r",  # goes on below until it is ended
        "half a statement", CTRL_C,  # is gone
        "SELECT 4 AS d; SELECT 5 AS e;\r",
        "SELECT nothing;\r", "SELECT 6 AS f;\r",  # a mistake ends nothing
        "\r", "  \r", "help\r", ".mode json\r", "SELECT 7 AS g;\r", "\\q\r", "SELECT 8 AS h;\r",
    )  # fmt: skip
    assert told.out.getvalue() == 'a\n1\nb,c\n2,3\nd\n4\ne\n5\nf\n6\n[{"g": 7}]\n'
    said = told.err.getvalue()
    assert said.count("error: ") == 1
    assert ".tables" in said


def test_alt_enter_runs_what_is_not_ended_and_says_what_is_wrong_with_what_is_never_closed(
    type_: Callable[..., Streams],
) -> None:
    told = type_("SELECT 1 AS a", ESCAPE, "\r", "SELECT 'oops", ESCAPE, "\r")
    assert told.out.getvalue() == "a\n1\n"
    assert "never closed" in told.err.getvalue()


def test_completions_come_from_the_catalogue_and_the_commands() -> None:
    def offered(text: str, *, asked: bool = True) -> list[tuple[str, int, str]]:
        event = CompleteEvent(completion_requested=asked, text_inserted=not asked)
        found = Completions(known).get_completions(Document(text), event)
        return [(c.text, c.start_position, c.display_meta_text) for c in found]

    with aidb.connect() as con:
        con.execute('CREATE TABLE odd AS SELECT 1 AS "unusual column"')
        known = Known(lambda: con.engine)
        assert ("odd", -1, "table") not in offered("FROM o")  # nobody waits until names are read
        known.refresh()
        known.wait()
        assert offered("FROM od") == [("odd", -2, "table")]
        assert offered("FROM odd") == []  # it is there already
        assert offered("SELECT unu")[0] == ('"unusual column"', -3, "column")
        assert offered("SELECT ", asked=False) == []
        assert offered("SELECT\n  unu", asked=False)[0][0] == '"unusual column"'
        assert offered(".tab") == [(".tables", -4, "command")]
        assert offered("\\tim") == [("\\timing", -4, "command")]
        assert offered("\\i no such") == []


def test_up_and_ctrl_r_find_what_was_typed_the_last_time_too(
    type_: Callable[..., Streams], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    type_("SELECT 1 AS first;\r", "SELECT 2\rAS second;\r", ".mode csv\r")
    told = type_(UP, UP, "\r")
    assert told.out.getvalue() == "second\n2\n"
    told = type_(CTRL_R, "FIRST", "\r", "\r")
    assert told.out.getvalue() == "first\n1\n"
    none = type_(UP, "SELECT 3 AS third;\r", config=Config(history=0, suggest=False))
    assert none.out.getvalue() == "third\n3\n"


def test_what_can_be_run() -> None:
    whole = ("", "  ", ".tables", "\\d x", "help", "exit;", "SELECT 1;", "SELECT ';' ; -- done", "SELECT 1; SELECT 2;")
    assert [text for text in whole if not is_whole(text)] == []
    half = ("SELECT 1", "SELECT ';", "SELECT 1; SELECT 2", "help me", "SELECT /* ; ")
    assert [text for text in half if is_whole(text)] == []


def test_a_database_that_can_not_be_opened_behind_the_prompt_is_said() -> None:
    def make() -> Session:
        raise OperationalError("no such disk")

    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        keyboard.send_text("SELECT 1;\r")
        with pytest.raises(OperationalError, match="no such disk"):
            converse(Opening(make), Config(), DummyOutput())


def test_with_no_terminal_to_show_a_prompt_on_lines_are_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams()
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 1\nAS a;\n.mode json\nSELECT 2 AS b;\nhalf a statement"))
    with aidb.connect() as con:
        converse(Opening(lambda: Session(con, streams.out, streams.err, form="csv")), Config())
    assert streams.out.getvalue() == 'a\n1\n[{"b": 2}]\n'


# ---- history
def test_history_is_private_holds_no_secrets_and_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    said: list[str] = []
    history = History(path, 3, said.append)
    for k in range(8):
        history.store_string(f"SELECT {k};\n-- two lines")
    history.store_string("CREATE MODEL m USING http WITH (token = 'abc')")
    history.store_string("SELECT * FROM 'https://me:abc@example.org/x.csv'")
    history.store_string("CREATE SECRET (TYPE s3)")
    assert "abc" not in path.read_text()
    assert "SECRET" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(list(history.load_history_strings())) == 8
    again = History(path, 3, said.append)
    assert list(again.load_history_strings()) == [f"SELECT {k};\n-- two lines" for k in (7, 6, 5)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert said == []


def test_a_history_that_can_not_be_kept_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said: list[str] = []
    history = History(tmp_path / "file" / "history", 10, said.append)
    history.store_string("SELECT 1")
    assert list(history.load_history_strings()) == []
    assert len(said) == 1
    assert str(tmp_path / "file" / "history") in said[0]


# ---- config
def config(tmp_path: Path, text: str | bytes) -> Config:
    path = tmp_path / "config.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path)


def test_a_config(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none.toml") == read_config(None) == Config()
    found = config(
        tmp_path,
        '[shell]\nformat = "line"\ntimer = false\npager = false\nhistory = 7\ninit = "begin.sql"\n[settings]\nmax_cost = 5\n',
    )
    assert found == Config(
        format="line", timer=False, pager="", history=7, init=tmp_path / "begin.sql", settings={"max_cost": 5}
    )
    assert config(tmp_path, '[shell]\npager = "less -S"\nhistory = false') == Config(pager="less -S", history=0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[shel]", "unknown key shel; did you mean shell"),
        ('[shell]\nformatt = "csv"', "unknown key shell.formatt; did you mean format"),
        ("[settings]\nmax_cots = 1", "unknown key settings.max_cots; did you mean max_cost"),
        ('[shell]\nformat = "xml"', "there is table, csv"),
        ('[shell]\nformat = "parquet"', "there is table, csv"),
        ('[shell]\ntimer = "yes"', "true or false"),
        ("[shell]\npager = true", "a text or false"),
        ("[shell]\nhistory = -1", "below 0"),
        ("shell = 3", "write [shell]"),
        ("[shell", "no TOML"),
        (b"\xff", "UTF-8"),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, text: str | bytes, named: str) -> None:
    with pytest.raises(ProgrammingError) as wrong:
        config(tmp_path, text)
    assert named in str(wrong.value)
    assert "config.toml: " in str(wrong.value)
    assert "--no-config" in str(wrong.value)


def test_a_config_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ProgrammingError, match="config"):
        read_config(tmp_path / "config.toml")
