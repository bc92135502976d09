"""What the README shows is what happens: its sessions are run as those of `tests.pages` are, and their output compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import ROOT, Page, Reader, links

README = Page.of(ROOT / "README.md")


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert README.problems() == []
    assert {b.language for b in README.blocks} == {"sql", "pycon", "python", "console"}


def test_sessions_give_the_output_that_is_shown(tmp_path: Path) -> None:
    for needed in ("skimage", "cv2", "pandas"):
        pytest.importorskip(needed, reason="the first session needs pip install 'aidb[demo,df]'")
    assert Reader(README, tmp_path).check() >= 6


def test_commands_that_are_not_run_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "".join(b.text for b in README.blocks if b.language == "console" and b.says("not run"))
    commands = re.findall(r"^\$ (\w+) (\w+)", text, re.MULTILINE)
    assert commands
    assert all(program == "make" and target in targets for program, target in commands)


def test_links_lead_somewhere() -> None:
    for target in links(README):
        assert (ROOT / target.partition("#")[0]).exists(), target
