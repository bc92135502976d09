"""``aidb``: SQL from a prompt, from arguments, from files or from a pipe.

Rows go to stdout and all else to stderr. Exit codes: 0, 1 an error in SQL or data, 2 usage, 130 interrupted, and 141, as
shells have it, if the reader of stdout went away.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

if TYPE_CHECKING:
    from aidb.surfaces.config import Config
    from aidb.surfaces.opening import Opening
    from aidb.surfaces.session import Session

_DESCRIPTION = "Query video, images and text in plain SQL; models run where a query needs them, once."
_EPILOG = """\
Without -c, -f or a pipe there is a prompt. "aidb demo [DIR]" shows in a minute what this is about.

  aidb street.aidb
  aidb street.aidb -c "SELECT count(*) FROM box" --format csv
  aidb street.aidb -f report.sql > report.txt
"""
_FORMATS = (
    "table", "csv", "tsv", "json", "jsonl", "parquet", "arrow", "markdown", "html", "line",
)  # fmt: skip
"""As in `aidb.surfaces.formats`, which --help spares."""
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the shell; gives the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["demo"]:
        from aidb.surfaces.demo.__main__ import main as demo

        return demo(given[1:])
    if given[:1] == ["serve-models"]:
        from aidb.serving.command import main as serve

        return serve(given[1:])
    chosen = _parser().parse_args(given)
    try:
        return _run(chosen)
    except BrokenPipeError:
        _forget_stdout()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        print("error: interrupted; finished work is kept", file=sys.stderr)
        return 130


class _InOrder(argparse.Action):
    """-c and -f in the order in which they were given."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.work = [*(namespace.work or []), (self.const, values)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aidb",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # -cm would be -cmd
    )
    add = parser.add_argument
    add("database", nargs="?", default=":memory:", metavar="FILE", help="database; made if not there")
    add("-c", dest="work", action=_InOrder, const="sql", metavar="SQL", help="run SQL (repeatable)")
    add("-f", dest="work", action=_InOrder, const="file", metavar="FILE", help="run a script, - is stdin (repeatable)")
    add("-init", "--init", metavar="FILE", help="run a script first, in place of the config's")
    add("-cmd", "--cmd", action="append", default=[], metavar="SQL", help="run SQL before all else (repeatable)")
    add("--format", "-format", choices=_FORMATS, metavar="FORMAT", help=f"rows as {', '.join(_FORMATS)}")
    for form in _FORMATS:  # as other shells have it; -csv is not -c sv
        add(f"-{form}", dest="format", action="store_const", const=form, help=argparse.SUPPRESS)
    add("--readonly", "-readonly", action="store_true", help="open FILE for reading only")
    add("--no-progress", action="store_true", help="no bars while models run")
    add("--no-config", action="store_true", help="do without aidb/config.toml")
    add("--version", "-version", action=_Version, nargs=0, help="show the version")
    return parser


class _Version(argparse.Action):
    """The version of this package, without loading it for every other use."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from aidb import __version__

        print(f"aidb {__version__}")
        parser.exit(0)


def _run(chosen: argparse.Namespace) -> int:
    usage = _wrong_usage(chosen)
    if usage:
        return _refused(usage)
    from aidb.errors import Error
    from aidb.surfaces.config import Config, config_file, read_config

    try:
        config = Config() if chosen.no_config else read_config(config_file())
    except Error as wrong:
        return _refused(str(wrong))
    prompted = not chosen.work and sys.stdin.isatty()
    form = chosen.format or (config.format if prompted else "table")
    out = _utf8(sys.stdout, form)
    try:
        return _converse(chosen, config, form, out) if prompted else _obey(chosen, config, form, out)
    except _Unopened as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 1
    except _BadSetting as wrong:
        return _refused(str(wrong))


def _refused(why: str) -> int:
    print(f"aidb: {why}", file=sys.stderr)
    return 2


class _Unopened(Exception):
    """The database can't be opened."""


class _BadSetting(Exception):
    """A value in the config is none for that setting."""


def _open(chosen: argparse.Namespace, config: Config, form: str, out: TextIO) -> Session:
    """The session of a run."""
    from aidb.connection import Connection
    from aidb.errors import Error
    from aidb.surfaces.config import config_file
    from aidb.surfaces.progress import ProgressBars
    from aidb.surfaces.session import Session

    wanted = sys.stderr.isatty() and config.progress and not chosen.no_progress
    bars = ProgressBars(sys.stderr) if wanted else None
    try:
        connection = Connection(chosen.database, read_only=chosen.readonly, progress=bars.advance if bars else None)
    except Error as wrong:
        raise _Unopened(str(wrong)) from wrong
    if connection.as_of is not None:
        print(connection.engine.database.told_as_of, file=sys.stderr, flush=True)
    try:
        for name, value in config.settings.items():
            connection.engine.settings = connection.engine.settings.changed(name, value)
    except Error as wrong:
        connection.close()
        raise _BadSetting(f"{config_file()}: {wrong} (--no-config does without the file)") from wrong
    return Session(connection, out, sys.stderr, form=form, bars=bars)


def _obey(chosen: argparse.Namespace, config: Config, form: str, out: TextIO) -> int:
    """Run what -c and -f name, or what comes through the pipe; .quit leaves early, and is no error."""
    from aidb.surfaces.commands import Quit, run_script
    from aidb.surfaces.session import Failed

    session = _open(chosen, config, form, out)
    with _patience() as leaving, session.connection:
        try:
            _prepare(session, chosen.init, chosen.cmd)
            work: list[tuple[str, str]] = chosen.work or [("file", "-")]
            for k, (kind, value) in enumerate(work, 1):
                if kind == "sql":
                    run_script(session, value, "-c" if len(work) == 1 else f"-c ({k})")
                elif value == "-":
                    run_script(session, sys.stdin.read(), "stdin")
                else:
                    _run_file(session, value)
        except Quit:
            return 0
        except Failed as failed:
            return failed.code
        finally:
            session.send(None)
            leaving()
    return 0


@contextmanager
def _patience() -> Iterator[Callable[[], None]]:
    """What it gives is called when the connection is about to be closed: if that takes long, it is said why."""

    def say() -> None:
        print("waiting for what is in flight at a model, to keep it (Ctrl-C to leave it)", file=sys.stderr, flush=True)

    timer = threading.Timer(1.0, say)
    timer.daemon = True
    try:
        yield timer.start
    finally:
        timer.cancel()


def _prepare(session: Session, init: str | Path | None, commands: Sequence[str]) -> None:
    """What -init and -cmd name. Raises `Failed`, and `Quit`."""
    from aidb.surfaces.commands import run_script

    if init is not None:
        _run_file(session, str(init))
    for k, sql in enumerate(commands, 1):
        run_script(session, sql, "-cmd" if len(commands) == 1 else f"-cmd ({k})")


def _run_file(session: Session, name: str) -> None:
    from aidb.surfaces.commands import read_script, run_script

    run_script(session, read_script(session, name), name)


def _converse(chosen: argparse.Namespace, config: Config, form: str, out: TextIO) -> int:
    """Talk with a person. The file is opened at once, so that what is wrong with it is said at once; the rest is loaded
    behind the prompt.
    """
    from aidb import __version__
    from aidb.errors import Error
    from aidb.surfaces.opening import Opening
    from aidb.surfaces.paging import default_pager
    from aidb.surfaces.prompt import converse

    held = None
    in_memory = chosen.database.startswith(":memory:")
    if not in_memory:
        from aidb.storage.database import Database

        try:
            held = Database(chosen.database, read_only=chosen.readonly)
        except Error as wrong:
            raise _Unopened(str(wrong)) from wrong

    def make() -> Session:
        session = _open(chosen, config, form, out)
        session.timer = config.timer
        pager = default_pager() if config.pager is None else config.pager or None
        session.pager = pager if out.isatty() else None
        return session

    opening = Opening(make)
    where = "in memory: nothing is kept when you leave" if in_memory else chosen.database
    print(
        f"AIDB {__version__}, {where}\nStatements end with ; .help lists commands, Ctrl-D leaves",
        file=sys.stderr,
        flush=True,
    )
    try:
        init = chosen.init or config.init
        if (init is None and not chosen.cmd) or _prepared(opening.get(), init, chosen.cmd):
            converse(opening, config)
    finally:
        _close(opening)
        if held is not None:
            held.close()
    return 0


def _prepared(session: Session, init: str | Path | None, commands: Sequence[str]) -> bool:
    """Run what comes before the prompt; what fails is told, and the prompt comes all the same, unless .quit was there."""
    from aidb.surfaces.commands import Quit
    from aidb.surfaces.session import Failed

    try:
        _prepare(session, init, commands)
    except Failed:
        return True
    except Quit:
        return False
    return True


def _close(opening: Opening[Session]) -> None:
    if not opening.begun:
        return
    session = opening.get()
    session.send(None)
    with _patience() as leaving:
        leaving()
        session.connection.close()


def _wrong_usage(chosen: argparse.Namespace) -> str | None:
    if chosen.format in ("parquet", "arrow") and sys.stdout.isatty():
        return f"--format {chosen.format} is not for a terminal: send it to a file with > file.{chosen.format}"
    if chosen.readonly and chosen.database == ":memory:":
        return "--readonly needs the FILE that is to be read"
    for kind, value in [*(chosen.work or []), *([("file", chosen.init)] if chosen.init else [])]:
        if kind == "file" and value != "-" and not Path(value).expanduser().exists():
            return f"there is no script {value}"
    return None


def _utf8(stream: TextIO, form: str) -> TextIO:
    """Stdout, in UTF-8 with line feeds where programs read it; on a terminal what it can't show becomes a question mark."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        if form == "table":
            reconfigure(errors="replace")
        else:
            reconfigure(encoding="utf-8", newline="\n")
    return stream


def _forget_stdout() -> None:
    """Leave Python nothing to flush, and to complain about, when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


if __name__ == "__main__":
    sys.exit(main())
