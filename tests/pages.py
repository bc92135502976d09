"""Pages of Markdown whose fenced blocks are run: what they show is what happens.

The blocks of a page share one interpreter, one notebook, one shell and one empty folder, from top to bottom:

- ``python`` is executed; ``pycon`` is a session whose output must be as shown;
- ``aidb`` is what a person sees at the shell's prompt, ``aidb> `` and `` ...> `` before what they typed;
- ``console`` is commands behind ``$ ``: ``aidb``, run here, or ``pytest`` on a file that the page has written;
- ``bash`` is run by that shell, and shows nothing;
- ``ipython`` is a cell of a notebook; what it shows stands below ``Out:``, as text. Without that line it shows nothing;
- ``sql`` is statements of ours, which are read: models and connectors exist and know their options. If the first line is
  ``-- run``, they are also run, in the connection ``con``;
- ``toml``, ``text``, ``json`` and ``html`` are looked at by people alone; a file named by a comment is written.

Seconds may differ, and dates; all else may not but where the page itself writes ``...``. A comment above a block changes that:

- ``<!-- not run: reason -->`` needs what a test does not have. SQL is still read.
- ``<!-- at length: reason -->`` is run by ``python -m tests.docs.full`` only.
- ``<!-- numbers vary: reason -->`` compares all but the numbers.
- ``<!-- file: name -->`` writes the block's text to a file, and runs nothing.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import linecache
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from aidb.catalog import discover
from aidb.errors import Error, SourceError, UnknownName
from aidb.spi import Options, Scan
from aidb.sql.parse import parse, split
from aidb.sql.statements import CreateBlobTable, CreateModel, Native

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_VARIES = re.compile(r"\d[\d,]*\.\d+ ?s\b|\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?|-{3,}")
_NUMBERS = re.compile(r"\d[\d,.]*%?|-{2,}")
_BLOCK = re.compile(r"(?:<!-- (.*?) -->\n)?^```([\w-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FOR_EYES = ("text", "toml", "json", "html")
_RAISED = re.compile(r"Traceback \(most recent call last\):\n(?:^\s.*\n)*(.*)", re.MULTILINE | re.DOTALL)
_PROMPTED = r"^(aidb> .*\n(?: \.\.\.> .*\n)*)((?:(?!aidb> ).*\n)*)"
KINDS = {"python", "pycon", "aidb", "console", "bash", "ipython", "sql", *_FOR_EYES}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it begins at, and what the comment above it says."""

    language: str
    text: str
    line: int
    comment: str | None

    def says(self, word: str) -> str | None:
        """What the comment says behind this word and a colon; None if it does not say it."""
        found = re.fullmatch(rf"{word}: (.+)", self.comment or "")
        return found[1] if found else None

    def __str__(self) -> str:
        return f"{self.language}-line-{self.line}"


@dataclass(frozen=True)
class Page:
    """A file of Markdown and its blocks."""

    path: Path
    text: str = field(repr=False)
    blocks: tuple[Block, ...] = field(repr=False)

    @classmethod
    def of(cls, path: Path) -> Page:
        text = path.read_text(encoding="utf-8")
        blocks = tuple(
            Block(found[2], found[3], text[: found.start(3)].count("\n") + 1, found[1])
            for found in _BLOCK.finditer(text)
        )
        return cls(path, text, blocks)

    def problems(self) -> list[str]:
        """Blocks of a kind that nothing checks, and fences that are no block."""
        found = [f"{b}: unknown language" for b in self.blocks if b.language not in KINDS]
        known = ("not run", "at length", "file", "numbers vary")
        found += [
            f"{b}: what does <!-- {b.comment} --> mean?"
            for b in self.blocks
            if b.comment is not None and not any(b.says(word) for word in known)
        ]
        if self.text.count("```") != 2 * len(self.blocks):
            found.append("a fence begins or ends no block")
        return found


@dataclass(frozen=True)
class Turn:
    """Something typed, as it stands in its block, with what the page shows of the answer and what was answered."""

    typed: str
    expected: str
    got: str
    line: int
    varies: re.Pattern[str] = _VARIES

    @property
    def same(self) -> bool:
        """Are they the same, but for what varies? Blanks count as one, and ``...`` stands for anything."""
        want, got = self.expected, self.got
        raised = _RAISED.match(want), _RAISED.match(got)
        if raised[0] and raised[1]:
            want, got = raised[0][1], raised[1][1]
        return doctest.OutputChecker().check_output(self.varies.sub("#", want), self.varies.sub("#", got), FLAGS)


class Reader:
    """Runs the blocks of one page, in a folder. length: also those that are only run at length."""

    def __init__(self, page: Page, folder: Path, *, length: bool = False) -> None:
        self._page, self._folder, self._length = page, folder, length
        self.names: dict[str, Any] = {"__name__": "page"}
        self._shell: Any = None
        self._notebook: Any = None

    def run(self) -> Iterator[tuple[Block, list[Turn]]]:
        """Run the page, block by block; gives each that was run, with its turns."""
        surroundings = {"COLUMNS": "110", "LINES": "24", "XDG_CONFIG_HOME": str(self._folder / ".config")}
        path, modules = sys.path.copy(), set(sys.modules)
        with contextlib.chdir(self._folder), mock.patch.dict(os.environ, surroundings):
            sys.path.insert(0, str(self._folder))  # a page imports what it has written
            try:
                for block in self._page.blocks:
                    if self._wanted(block):
                        turns = getattr(self, f"_{block.language}")(block)
                        varies = _NUMBERS if block.says("numbers vary") else _VARIES
                        yield block, [replace(turn, varies=varies) for turn in turns]
            finally:
                self._close()
                sys.path[:] = path
                for name in set(sys.modules) - modules:
                    if str(self._folder) in (getattr(sys.modules[name], "__file__", None) or ""):
                        del sys.modules[name]

    def check(self) -> int:
        """Run the page; gives the number of blocks. AssertionError for the first answer that is not as shown."""
        done = 0
        for _, turns in self.run():
            done += 1
            for turn in turns:
                said = f"--- typed\n{turn.typed}--- shown\n{turn.expected}--- answered\n{turn.got}"
                assert turn.same, f"{self._page.path.name}, line {turn.line}\n{said}"
        return done

    def _wanted(self, block: Block) -> bool:
        if block.language == "sql":
            check_statements(block.text)
        if name := block.says("file"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(block.text, encoding="utf-8")
            return False
        if block.says("not run") or (block.says("at length") and not self._length):
            return False
        return block.language not in _FOR_EYES and (block.language != "sql" or block.text.startswith("-- run"))

    def _close(self) -> None:
        """Close what the page left open."""
        if self._notebook is not None:
            self._notebook.close()
        if self._shell is not None:
            self._shell.connection.close()
        con = self.names.get("con")
        if con is not None and hasattr(con, "close"):
            con.close()

    # ---- one kind of block each
    def _python(self, block: Block) -> Iterator[Turn]:
        # A function that becomes a model is identified by its source, which is found here.
        name = f"<{self._page.path.name}, line {block.line}>"
        linecache.cache[name] = (len(block.text), None, block.text.splitlines(keepends=True), name)
        exec(compile(block.text, name, "exec"), self.names)
        yield from ()

    def _pycon(self, block: Block) -> Iterator[Turn]:
        examples = doctest.DocTestParser().get_examples(block.text)
        lines = block.text.splitlines(keepends=True)
        assert examples, block
        for example in examples:
            typed = "".join(lines[example.lineno : example.lineno + example.source.count("\n")])
            yield Turn(typed, example.want, self._answer(example.source), block.line + example.lineno)

    def _answer(self, source: str) -> str:
        """What Python's prompt would show."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), mock.patch("sys.displayhook", sys.__displayhook__):
                exec(compile(source, "<page>", "single"), self.names)
        except Exception as e:
            said.write(f"Traceback (most recent call last):\n    ...\n{''.join(traceback.format_exception_only(e))}")
        return said.getvalue()

    def _sql(self, block: Block) -> Iterator[Turn]:
        for statement, _ in split(block.text):
            self.names["con"].execute(statement)
        yield from ()

    def _console(self, block: Block) -> Iterator[Turn]:
        for found in re.finditer(r"^(\$ (?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            words = shlex.split(found[1][2:].replace("\\\n", " "), comments=True)
            assert words[0] in ("aidb", "pytest"), found[1]
            got = _aidb(words[1:]) if words[0] == "aidb" else _pytest(words[1:])
            yield Turn(found[1], found[2], got, self._line(block, found))

    def _bash(self, block: Block) -> Iterator[Turn]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        run = subprocess.run(
            ["bash", "-e", "-c", block.text],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        yield from ()

    def _aidb(self, block: Block) -> Iterator[Turn]:
        from aidb.surfaces.commands import is_command, perform
        from aidb.surfaces.session import Failed

        for found in re.finditer(_PROMPTED, block.text, re.MULTILINE):
            said = io.StringIO()
            session = self._session(said)
            text = re.sub(r"^(aidb| \.\.\.)> ", "", found[1], flags=re.MULTILINE).strip()
            with contextlib.suppress(Failed):  # what was wrong has been said
                if is_command(text):
                    perform(session, text)
                else:
                    for sql, _ in split(text):
                        session.run(sql)
            yield Turn(found[1], found[2], said.getvalue(), self._line(block, found))

    def _session(self, said: io.StringIO) -> Any:
        """The shell that the page's prompt is, on the database that ``$ aidb FILE`` opened."""
        if self._shell is None:
            from aidb.connection import connect
            from aidb.surfaces.session import Session

            opened = re.findall(r"^\$ aidb (\S+)$", self._page.text, re.MULTILINE)
            self._shell = Session(connect(opened[0] if opened else ":memory:"), said, said, form="table")
        self._shell.err = self._shell.out = self._shell._writer.out = said
        return self._shell

    def _ipython(self, block: Block) -> Iterator[Turn]:
        from tests.notebook_cells import Notebook

        if self._notebook is None:
            self._notebook = Notebook(self.names)
        cell, shown, expected = block.text.partition("Out:\n")
        said, well = self._notebook.run(cell)
        assert shown or well, said
        if shown:
            yield Turn(cell + shown, expected, said, block.line)

    def _line(self, block: Block, found: re.Match[str]) -> int:
        return block.line + block.text[: found.start()].count("\n")


def _aidb(arguments: list[str]) -> str:
    """What a terminal would show of ``aidb arguments``, rows and remarks alike."""
    from aidb.surfaces.shell import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        main(arguments)
    return said.getvalue()


def _pytest(arguments: list[str]) -> str:
    """The last line of what pytest says."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.getcwd()]), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return run.stdout.strip().rpartition("\n")[2] + "\n" if run.returncode == 0 else run.stdout + run.stderr


class _Read(Exception):
    """The names of all options are known."""


class _Names(Options):
    """Options of which only the names are looked at."""

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        super().refuse_unknown(known)
        raise _Read


def check_statements(text: str) -> None:
    """Are these statements of ours, of models and connectors that exist and know the options? AssertionError if not."""
    for statement_text, _ in split(text):
        statement = parse(statement_text)
        assert not isinstance(statement, Native) or re.match(r"\s*(--.*\n\s*)*(SELECT|CREATE TABLE)", statement_text), (
            statement_text
        )
        if isinstance(statement, CreateModel):
            provider = discover.load("aidb.models", statement.provider)
            # A service is not asked for.
            options = (_Names if "url" in statement.options else Options)(statement.options)
            try:
                provider(statement.name, options)
            except UnknownName as e:
                raise AssertionError(statement_text) from e
            except (Error, _Read):
                pass  # the weights are not here, or their runtime is not installed
        if isinstance(statement, CreateBlobTable) and statement.source is not None:
            _check_source(statement, statement_text)


def _check_source(statement: CreateBlobTable, text: str) -> None:
    assert statement.source is not None
    known = map(_connector, discover.entry_points("aidb.connectors"))
    if statement.connector is not None:
        takers = [c for c in known if c.name == statement.connector]
    else:
        endings = {Path(statement.source).suffix}
        takers = [c for c in known if endings & set(c.extensions)]
    assert takers, text
    with contextlib.suppress(SourceError):  # the files are not here
        takers[0].schema(Scan(statement.source, Options(statement.options)))


def _connector(name: str) -> Any:
    return discover.load("aidb.connectors", name)()


def links(page: Page) -> Iterator[str]:
    """Targets of the page's links, without those to the web."""
    yield from re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.text)
