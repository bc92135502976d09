"""What the README shows is what happens: its sessions are run, and their output compared.

The blocks share one interpreter and one empty folder, from top to bottom. Times may differ, all else may not but where
the README itself writes ``...``. A block below a comment ``<!-- not run: reason -->`` needs what a test does not have;
it is still read: as SQL whose models and connectors exist and know their options, or as targets of the Makefile.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aidb.catalog import discover
from aidb.errors import Error, SourceError, UnknownName
from aidb.spi import Options, Scan
from aidb.sql.parse import parse, split
from aidb.sql.statements import CreateBlobTable, CreateModel, Native

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
TIME = re.compile(r"\d+\.\d+ s\b")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it begins at, and why it is not run."""

    language: str
    text: str
    line: int
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.language}-line-{self.line}"


def blocks() -> Iterator[Block]:
    for found in re.finditer(r"(?:<!-- (.*?) -->\n)?^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL):
        comment, language, text = found.groups()
        line = README[: found.start(3)].count("\n") + 1
        yield Block(language, text, line, comment)


BLOCKS = list(blocks())


class Times(doctest.OutputChecker):
    """Compares output as doctest does, whatever the seconds."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(TIME.sub("# s", want), TIME.sub("# s", got), optionflags)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    for needed in ("skimage", "cv2", "pandas"):
        pytest.importorskip(needed, reason="the first session needs pip install 'aidb[demo,df]'")
    with contextlib.chdir(tmp_path_factory.mktemp("readme")):
        yield Path.cwd()


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, object]]:
    """The interpreter's variables."""
    found: dict[str, object] = {"__name__": "readme"}
    yield found
    found["con"].close()  # type: ignore[attr-defined]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {b.language for b in BLOCKS} == {"sql", "pycon", "python", "console"}
    assert all(b.not_run is None or re.match(r"not run: \w", b.not_run) for b in BLOCKS)
    assert README.count("```") == 2 * len(BLOCKS)
    assert sum(b.not_run is None for b in BLOCKS) >= 6


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.not_run is None and b.language != "sql"], ids=str)
def test_sessions_give_the_output_that_is_shown(block: Block, folder: Path, names: dict[str, object]) -> None:
    if block.language == "console":
        _console(block.text, folder)
    elif block.language == "python":
        _execute(block, names)
    else:
        test = doctest.DocTestParser().get_doctest(block.text, {}, str(block), "README.md", block.line - 1)
        test.globs = names
        said = io.StringIO()
        runner = doctest.DocTestRunner(Times(), verbose=False, optionflags=FLAGS)
        runner.run(test, out=said.write, clear_globs=False)
        assert runner.tries > 0
        assert not runner.failures, said.getvalue()


def _execute(block: Block, names: dict[str, object]) -> None:
    import linecache

    # A function that becomes a model is identified by its source, which is found here.
    name = f"<README.md {block}>"
    linecache.cache[name] = (len(block.text), None, block.text.splitlines(keepends=True), name)
    exec(compile(block.text, name, "exec"), names)


def _console(text: str, folder: Path) -> None:
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    assert commands
    for command, expected in commands:
        program, *arguments = shlex.split(command)
        assert program == "aidb"
        run = subprocess.run(
            [sys.executable, "-m", "aidb.surfaces.shell", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert Times().check_output(expected, run.stdout, FLAGS), run.stdout


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "sql"], ids=str)
def test_statements_are_ours_and_their_options_are_known(block: Block) -> None:
    for text, _ in split(block.text):
        statement = parse(text)
        assert not isinstance(statement, Native), text
        if isinstance(statement, CreateModel):
            provider = discover.load("aidb.models", statement.provider)
            try:
                provider(statement.name, Options(statement.options))
            except UnknownName as e:
                raise AssertionError(text) from e
            except Error:
                pass  # the weights are not here, or their runtime is not installed
        if isinstance(statement, CreateBlobTable) and statement.source is not None:
            endings = {Path(statement.source).suffix}
            takers = [
                c for c in map(_connector, discover.entry_points("aidb.connectors")) if endings & set(c.extensions)
            ]
            assert takers, text
            with contextlib.suppress(SourceError):  # the files are not here
                takers[0].schema(Scan(statement.source, Options(statement.options)))


def _connector(name: str) -> object:
    return discover.load("aidb.connectors", name)()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "console" and b.not_run is not None], ids=str)
def test_commands_that_are_not_run_exist(block: Block) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = re.findall(r"^\$ (\w+) (\w+)", block.text, re.MULTILINE)
    assert commands
    assert all(program == "make" and target in targets for program, target in commands)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target
