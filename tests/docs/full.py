"""``python -m tests.docs.full [PAGE...]``: run the pages' blocks, those that need much time or weights too.

With ``--write`` answers that are no longer as shown are written into the page, for a person to look at before they commit.
Weights are looked for in the folder that ``AIDB_WEIGHTS`` names.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.docs.reading import pages
from tests.pages import ROOT, Page, Reader, Turn


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docs.full", description=__doc__)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help="put the answers of today into the pages")
    parser.add_argument("--times", action="store_true", help="with --write: seconds and other numbers that vary too")
    parser.add_argument("--short", action="store_true", help="as the tests do: without what is marked 'at length'")
    chosen = parser.parse_args()
    wrong = 0
    for path in chosen.pages or [ROOT / "README.md", *pages()]:
        page = Page.of(path.resolve())
        with tempfile.TemporaryDirectory() as folder:
            for weights in Path(os.environ.get("AIDB_WEIGHTS", folder)).glob("*.*"):
                (Path(folder) / weights.name).symlink_to(weights.resolve())
            changed: list[Turn] = []
            retold: list[Turn] = []
            try:
                for _, turns in Reader(page, Path(folder), length=not chosen.short).run():
                    changed += [turn for turn in turns if not turn.same]
                    retold += [turn for turn in turns if "..." not in turn.expected or not turn.same]
            except Exception as e:
                wrong += 1
                print(f"{path}: {type(e).__name__}: {e}", file=sys.stderr)
        for turn in changed:
            print(f"{path}:{turn.line}\n{turn.typed}--- shown\n{turn.expected}--- answered\n{turn.got}")
        wrong += len(changed)
        if chosen.write:
            path.write_text(rewritten(page.text, retold if chosen.times else changed), encoding="utf-8")
    return min(wrong, 1)


def rewritten(text: str, changed: list[Turn]) -> str:
    """A page with other answers."""
    lines = text.splitlines(keepends=True)
    for turn in sorted(changed, key=lambda turn: -turn.line):
        begin = turn.line - 1 + turn.typed.count("\n")
        assert "".join(lines[turn.line - 1 : begin]) == turn.typed, turn
        lines[begin : begin + turn.expected.count("\n")] = [turn.got]
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
