"""The pages say what happens: their blocks are run, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.reading import DOCS, pages
from tests.pages import ROOT, Page, Reader, links

PAGES = [Page.of(path) for path in pages()]
SHOWN = [str(page.path.relative_to(DOCS).with_suffix("")) for page in PAGES]
NEEDED = {"skimage": "demo", "cv2": "opencv", "av": "video", "pandas": "df", "IPython": "jupyter"}


@pytest.mark.parametrize("page", PAGES, ids=SHOWN)
def test_blocks_are_of_a_kind_that_is_checked(page: Page) -> None:
    assert page.problems() == []


@pytest.mark.parametrize("page", PAGES, ids=SHOWN)
def test_blocks_give_what_is_shown(page: Page, tmp_path: Path) -> None:
    for module, extra in NEEDED.items():
        pytest.importorskip(module, reason=f"the pages need pip install 'aidb[{extra}]'")
    Reader(page, tmp_path).check()


@pytest.mark.parametrize("page", PAGES, ids=SHOWN)
def test_links_lead_somewhere(page: Page) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.is_file(), target
        assert DOCS in path.parents, f"{target} is no part of the site"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), target


def anchors(text: str) -> set[str]:
    """The headings of a page, as their addresses."""
    bare = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", bare, re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_every_page_is_in_the_navigation() -> None:
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")

    def leaves(node: object) -> list[str]:
        if isinstance(node, str):
            return [node]
        nodes = node.values() if isinstance(node, dict) else node
        return [leaf for n in nodes for leaf in leaves(n)]  # type: ignore[union-attr, attr-defined]

    assert sorted(leaves(yaml.safe_load(text)["nav"])) == sorted(f"{name}.md" for name in SHOWN)
