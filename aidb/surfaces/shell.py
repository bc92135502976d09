"""``aidb``: SQL from a prompt, from arguments, from files or from a pipe.

Rows go to stdout and all else to stderr. Exit codes: 0, 1 an error in SQL or data, 2 usage, 130 interrupted, and 141, as
shells have it, if the reader of stdout went away.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

_DESCRIPTION = "Query video, images and text in plain SQL; models run where a query needs them, once."
_EPILOG = """\
Without -c, -f or a pipe there is a prompt. "aidb demo [DIR]" shows in a minute what this is about.

  aidb street.aidb
  aidb street.aidb -c "SELECT count(*) FROM box" --format csv
  aidb street.aidb -f report.sql > report.txt
"""
_FORMATS = (
    "table",
    "csv",
    "json",
    "jsonl",
    "parquet",
    "markdown",
    "html",
)  # as in surfaces.formats, which --help spares
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
        prog="aidb", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", nargs="?", default=":memory:", metavar="FILE", help="database; made if not there")
    parser.add_argument("-c", dest="work", action=_InOrder, const="sql", metavar="SQL", help="run SQL (repeatable)")
    parser.add_argument(
        "-f", dest="work", action=_InOrder, const="file", metavar="FILE", help="run a script, - is stdin (repeatable)"
    )
    parser.add_argument("--format", choices=_FORMATS, default="table", help="how rows are written (table)")
    parser.add_argument("--readonly", action="store_true", help="open FILE for reading only")
    parser.add_argument("--no-progress", action="store_true", help="no bars while models run")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
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
        print(f"aidb: {usage}", file=sys.stderr)
        return 2
    out = _utf8(sys.stdout, chosen.format)
    prompted = not chosen.work and sys.stdin.isatty()

    from aidb.connection import connect
    from aidb.errors import Error
    from aidb.surfaces.progress import ProgressBars
    from aidb.surfaces.session import Failed, Session

    bars = ProgressBars(sys.stderr) if sys.stderr.isatty() and not chosen.no_progress else None
    try:
        connection = connect(chosen.database, read_only=chosen.readonly, progress=bars.advance if bars else None)
    except Error as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 1
    session = Session(connection, out, sys.stderr, form=chosen.format, bars=bars)
    with connection:
        try:
            if prompted:
                from aidb.surfaces.prompt import converse

                converse(session, chosen.database)
            else:
                _work(session, chosen.work or [("file", "-")])
        except Failed as failed:
            return failed.code
    return 0


def _wrong_usage(chosen: argparse.Namespace) -> str | None:
    if chosen.format == "parquet" and sys.stdout.isatty():
        return "--format parquet is not for a terminal: send it to a file with > file.parquet"
    if chosen.readonly and chosen.database == ":memory:":
        return "--readonly needs the FILE that is to be read"
    for kind, value in chosen.work or []:
        if kind == "file" and value != "-" and not Path(value).is_file():
            return f"there is no script {value}"
    return None


def _work(session: Any, work: Sequence[tuple[str, str]]) -> None:
    """Run what -c and -f name; .quit leaves early, and is no error."""
    from aidb.surfaces.commands import Quit, read_script, run_script

    try:
        for k, (kind, value) in enumerate(work, 1):
            if kind == "sql":
                run_script(session, value, "-c" if len(work) == 1 else f"-c ({k})")
            elif value == "-":
                run_script(session, sys.stdin.read(), "stdin")
            else:
                run_script(session, read_script(session, value), value)
    except Quit:
        return


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
