"""Where things stand in a text of SQL: tokens, the clauses of each SELECT, and edits that leave the rest untouched.

The parser says what a query means, but not where its clauses begin and end. Rewriting the text in place, rather than
printing the parsed tree, keeps everything else as the user wrote it: names of unnamed result columns, parameters,
comments, and syntax that the parser reads but would print differently.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from aidb.sql.tokens import name_of, scan

_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
SET_WORDS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
_CLAUSES = frozenset({"FROM", "WHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "OFFSET"})
JOIN_WORDS = frozenset(
    {"JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS", "NATURAL", "ASOF", "SEMI", "ANTI", "POSITIONAL", "OUTER"}
)


@dataclass(eq=False)
class Region:
    """One SELECT of the text. All places are indices of tokens; ``clauses`` are its keywords, in order of the text."""

    depth: int
    first: int
    select: int | None = None
    clauses: list[tuple[str, int]] = field(default_factory=list)
    end: int = 0  # the first token beyond it

    def clause(self, word: str) -> int | None:
        """Where a clause's keyword stands."""
        return next((i for w, i in self.clauses if w == word), None)

    def after(self, place: int) -> int:
        """The token at which the clause that ``place`` lies in is over."""
        return min((i for _, i in self.clauses if i > place), default=self.end)


class Layout:
    """The tokens of a text, and which SELECT each belongs to."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = scan(text)
        self._starts = [t.start for t in self.tokens]
        self._region_of: list[Region | None] = []  # found when first asked for: most texts call no model

    def at(self, start: int) -> int:
        """Index of the token that begins at, or holds, this character."""
        i = bisect_left(self._starts, start)
        return i if i < len(self._starts) and self._starts[i] == start else i - 1

    def region(self, place: int) -> Region | None:
        """The innermost SELECT that a token belongs to."""
        if not self._region_of:
            self._find_regions()
        return self._region_of[place]

    def key(self, place: int) -> str:
        """The token's word or symbol in upper case; empty for other kinds and beyond the text."""
        return self.tokens[place].key if 0 <= place < len(self.tokens) else ""

    def name(self, place: int) -> str:
        """The identifier that a token spells."""
        return name_of(self.text, self.tokens[place])

    def is_name(self, place: int) -> bool:
        """Is the token a word or a quoted name?"""
        return 0 <= place < len(self.tokens) and self.tokens[place].kind in ("word", "name")

    def closing(self, place: int) -> int:
        """The bracket that closes the one at ``place``."""
        depth = self.tokens[place].depth
        return next(i for i in range(place + 1, len(self.tokens)) if self.tokens[i].depth == depth)

    def commas(self, first: int, beyond: int) -> list[int]:
        """The commas between two tokens that stand in no further brackets."""
        depth = self.tokens[first].depth
        return [i for i in range(first, beyond) if self.tokens[i].depth == depth and self.key(i) == ","]

    def end_of_condition(self, first: int) -> int:
        """The token beyond a join's condition that begins with ``first``."""
        depth = self.tokens[first].depth
        region = self.region(first)
        last = region.after(first) if region is not None else len(self.tokens)
        for i in range(first, last):
            joins = self.key(i) in JOIN_WORDS and (self.key(i) == "JOIN" or self.key(i + 1) in JOIN_WORDS)
            if self.tokens[i].depth < depth or (self.tokens[i].depth == depth and (joins or self.key(i) == ",")):
                return i
        return last

    def _find_regions(self) -> None:
        frames: list[tuple[Region | None, int]] = [
            (None, 0)
        ]  # the current SELECT of each open bracket, its first token
        for i, token in enumerate(self.tokens):
            if token.key in _CLOSE and len(frames) > 1:
                region, _ = frames.pop()
                if region is not None and not region.end:
                    region.end = i
            region, start = frames[-1]
            keyword = token.key if token.kind == "word" and self.key(i - 1) != "." else ""
            if keyword == "SELECT":
                if region is None or region.end or region.select is not None:
                    region = Region(token.depth, i)
                region.select = i
                if region.first != i:
                    region.clauses.append((keyword, i))
                frames[-1] = region, start
            elif keyword == "FROM" and (region is None or region.end) and self._begins_query(i, start):
                region = Region(token.depth, i, clauses=[(keyword, i)])
                frames[-1] = region, start
            elif region is not None and not region.end and self._ends_clause(i, keyword):
                region.clauses.append((keyword, i))
            elif region is not None and not region.end and self._ends_query(i, keyword):
                region.end = i
            self._region_of.append(next((r for r, _ in reversed(frames) if r is not None and not r.end), None))
            if token.key in _OPEN:
                frames.append((None, i + 1))
        for region, _ in frames:
            if region is not None and not region.end:
                region.end = len(self.tokens)

    def _begins_query(self, place: int, start: int) -> bool:
        """Is this FROM the head of ``FROM t``, rather than part of ``extract(year FROM ts)``?"""
        before = self.key(place - 1)
        return place == start or before in SET_WORDS | {"ALL", "NAME", ")", "AS"} or self.tokens[place].depth == 0

    def _ends_clause(self, place: int, keyword: str) -> bool:
        if keyword == "FROM":
            return self.key(place - 1) != "DISTINCT"
        if keyword == "USING":
            return self.key(place + 1) == "SAMPLE"
        return keyword in _CLAUSES

    def _ends_query(self, place: int, keyword: str) -> bool:
        if self.key(place) == ";":
            return True
        return keyword in SET_WORDS and self.key(place - 1) != "*"


@dataclass
class Edits:
    """Replacements in a text, for two readings of it: what DuckDB runs, and what the planner reads."""

    changes: list[tuple[int, int, int, str, str]] = field(default_factory=list)

    def replace(self, start: int, end: int, final: str, planning: str | None = None) -> None:
        """Put other text in the place of ``[start, end)``."""
        self.changes.append((start, end, len(self.changes), final, final if planning is None else planning))

    def insert(self, at: int, text: str) -> None:
        """Put text before a character; insertions at one place stay in the order in which they were made."""
        self.replace(at, at, text)

    def apply(self, text: str) -> tuple[str, str]:
        """The two texts."""
        final: list[str] = []
        planning: list[str] = []
        done = 0
        for start, end, _, one, other in sorted(self.changes):
            assert start >= done, f"edits overlap at {start}"
            for parts, new in ((final, one), (planning, other)):
                parts += (text[done:start], new)
            done = end
        return "".join(final) + text[done:], "".join(planning) + text[done:]
