"""Patterns of paths: which files of a folder tree they name, in natural order, without ever holding them all.

``*`` and ``?`` stand within a name, ``[...]`` for one character, ``**`` for any number of folders. A leading dot must be
spelled out. A name that is literally written like the pattern is matched too, so brackets in names do no harm.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator

from aidb_connectors.storage import Node, Storage

_DIGITS = re.compile(r"(\d+)")


def has_magic(text: str) -> bool:
    """Does a name hold any character that a pattern gives a meaning to?"""
    return any(c in text for c in "*?[")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key under which ``a2`` comes before ``a10``, and letter case decides last.

    >>> sorted(["a10", "B1", "a2"], key=natural_key)
    ['a2', 'a10', 'B1']
    """
    parts: list[str | int] = list(_DIGITS.split(name.casefold()))
    parts[1::2] = [int(digits) for digits in parts[1::2]]
    return parts, name


def split_pattern(path: str) -> tuple[str, tuple[str, ...]]:
    """The longest plain folder that begins a pattern, and the parts below it.

    >>> split_pattern("/a/b/*/c.jpg")
    ('/a/b', ('*', 'c.jpg'))
    """
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if has_magic(part)), len(parts) - 1)
    return "/".join(parts[:first]) or ("/" if path.startswith("/") else ""), tuple(p for p in parts[first:] if p)


def walk(
    storage: Storage,
    base: str,
    pattern: tuple[str, ...],
    *,
    ordered: bool = True,
) -> Iterator[Node]:
    """All files under ``base`` that a pattern names, folder by folder, each in natural order unless ``ordered`` is off.

    Symbolic links to folders are followed, but never into a folder that is being walked already. A folder below that
    can't be listed is yielded itself, in the place of its files; for ``base`` the OSError is raised.
    """
    parts = pattern if pattern and pattern[-1] != "**" else (*pattern, "*")
    matchers = [_matcher(part) for part in parts]
    last = len(parts) - 1

    def closure(states: set[int]) -> set[int]:
        for state in sorted(states):
            while parts[state] == "**" and state < last:  # ``**`` may stand for no folder at all
                state += 1
                states.add(state)
        return states

    def below(node: Node, states: set[int], inside: frozenset[object]) -> Iterator[Node]:
        try:
            here = storage.identity(node.path)
            if here in inside:
                return
            children = list(storage.children(node.path)) if ordered else storage.children(node.path)
            if isinstance(children, list):
                children.sort(key=lambda child: natural_key(child.name))
            for child in children:
                after: set[int] = set()
                for state in states:
                    if parts[state] == "**":
                        if child.is_dir and not child.name.startswith("."):
                            after.add(state)
                    elif matchers[state](child.name):
                        if state < last:
                            after.add(state + 1)
                        elif not child.is_dir:
                            yield child
                if child.is_dir and after:
                    yield from below(child, closure(after), inside | {here})
        except OSError:
            if not inside:
                raise
            yield node

    yield from below(Node("", base, True), closure({0}), frozenset())


def _matcher(part: str) -> Callable[[str], bool]:
    if not has_magic(part):
        return part.__eq__
    match = re.compile(fnmatch.translate(part)).match
    hidden = part.startswith(".")
    return lambda name: name == part or ((hidden or not name.startswith(".")) and match(name) is not None)
