"""The prompt: statements of one or several lines, with history, until the person leaves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aidb.sql.parse import is_complete, split
from aidb.surfaces.commands import Quit, perform
from aidb.surfaces.session import Failed, Session, report_bug

if TYPE_CHECKING:
    from types import ModuleType

PROMPT, CONTINUED = "aidb> ", " ...> "
_BARE = {"help": ".help", "quit": ".quit", "exit": ".quit"}
_KEPT = 5_000  # lines of history


def converse(session: Session, database: str) -> None:
    """Read and run statements until the end of the input or .quit; errors are told, and the conversation goes on."""
    from aidb import __version__

    where = "in memory: nothing is kept when you leave" if database == ":memory:" else database
    session.say(f"AIDB {__version__}, {where}\nStatements end with ; .help lists commands, Ctrl-D leaves")
    readline = _line_editing()
    history = _history_file()
    if readline is not None and history is not None and history.is_file():
        readline.read_history_file(history)
    try:
        _loop(session)
    finally:
        if readline is not None and history is not None:
            _keep(readline, history, session)


def _loop(session: Session) -> None:
    text = ""
    while True:
        try:
            line = _ask(CONTINUED if text else PROMPT, session)
        except EOFError:
            session.say("")
            return
        except KeyboardInterrupt:
            session.say("" if text else "\n(Ctrl-D or .quit leaves)")
            text = ""
            continue
        text = f"{text}\n{line}" if text else line
        command = _BARE.get(text.strip().rstrip(";").lower(), text.strip())
        try:
            if command.startswith("."):
                text = ""
                perform(session, command)
            elif is_complete(text):
                statements, text = split(text), ""
                for sql, _ in statements:
                    session.run(sql)
        except Quit:
            return
        except Failed:
            continue  # what was wrong has been said
        except BrokenPipeError:
            raise
        except Exception:
            report_bug()


def _ask(prompt: str, session: Session) -> str:
    """A line from the person; where the rows go to a file, the prompt does not."""
    if session.out.isatty():
        return input(prompt)
    print(prompt, end="", file=session.err, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


def _line_editing() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # not a part of Python on Windows
        return None
    return readline


def _history_file() -> Path | None:
    """Where history is kept; None where there is no home."""
    state = os.environ.get("XDG_STATE_HOME")
    try:
        folder = Path(state) if state else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return folder / "aidb" / "history"


def _keep(readline: ModuleType, history: Path, session: Session) -> None:
    try:
        history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        readline.set_history_length(_KEPT)
        readline.write_history_file(history)
        history.chmod(0o600)
    except OSError as wrong:
        session.quiet(f"the history can't be kept in {history}: {wrong.strerror or wrong}")
