"""Reading the reference: sections by heading, tables as rows of cells, and what stands in them as code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.pages import ROOT, Page

DOCS = ROOT / "docs"
_CODE = re.compile(r"`([^`]+)`")


@cache
def page(name: str) -> Page:
    """A page of the reference."""
    return Page.of(DOCS / "reference" / f"{name}.md")


def pages() -> list[Path]:
    """All pages of the site."""
    return sorted(DOCS.rglob("*.md"))


def sections(text: str, level: int = 2) -> dict[str, str]:
    """Heading -> what stands below it, down to the next heading of that level; headings in fences are none."""
    bare = re.sub(r"^```.*?^```$", lambda m: re.sub(r"^#", "\x00", m[0], flags=re.MULTILINE), text, flags=re.M | re.S)
    parts = re.split(rf"^{'#' * level} (.+)$", bare, flags=re.MULTILINE)
    return {heading: body.replace("\x00", "#") for heading, body in zip(parts[1::2], parts[2::2], strict=True)}


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """(headings, rows) of each table."""
    for found in re.finditer(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        rows = [
            [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line[1:-1])]
            for line in found[0].splitlines()
        ]
        yield rows[0], rows[2:]


def rows(text: str, heading: str) -> list[dict[str, str]]:
    """The rows of all tables whose first column has this heading, by the headings of their columns."""
    return [dict(zip(heads, row, strict=True)) for heads, body in tables(text) if heads[0] == heading for row in body]


def codes(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return _CODE.findall(cell)


def listed(text: str, heading: str) -> list[str]:
    """The code in the first column of all tables that begin with this heading."""
    return [code for row in rows(text, heading) for code in codes(row[heading])]
