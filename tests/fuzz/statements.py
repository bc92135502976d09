"""Texts that look like statements: those of the golden files and the pages, cut up and put together again."""

from __future__ import annotations

import re
from functools import cache
from random import Random

from aidb.sql.tokens import words
from tests.pages import ROOT, Page

_PIECE = re.compile(r"\w+|\s+|'[^']*'|\"[^\"]*\"|.", re.DOTALL)
WORDS = sorted(
    words("""
    SELECT FROM WHERE GROUP BY HAVING ORDER LIMIT OFFSET UNION ALL EXCEPT WITH AS VALUES TABLE INSERT INTO CREATE REPLACE
    BLOB VIRTUAL MODEL PROXY SEMANTIC INDEX USING KEY ALTER ADD COLUMN DROP REFRESH STALE RETRY FAILED SHOW EXPLAIN ANALYZE
    COST OF RECALL PRECISION TARGET TARGETS ERROR PROBABILITY CONFIDENCE ORACLE BUDGET WITHIN SECONDS CALLS GAP SEED METHOD
    VERIFIED UNVERIFIED EXPECTED REPEATABLE SAMPLE FCOUNT FPR FNR AT AND ON IS NOT NULL CASE END DISTINCT COPY TO SET RESET
    ATTACH MATERIALIZED EXPORT CHECK CATALOG TRAIN LABELS LABELER VIOLATIONS EXCLUDING DURATION INTERVAL PIVOT LATERAL
""")
)
ODD = [
    "5%", "90 %", "0.95", "10,000", "1,2,3", "-1", "1e999", "1e-999999999", "1E+99999999", "99999999999999999999999", "0x1F",
    "1_000", ".5", "5.", "1.2.3", "'", '"', "''", '""', "'it''s'", "E'\\", "E'\\x41\\u00e9\\777'", "e'", "$$", "$tag$", "$1",
    "$name", "?", "?1", "/*", "*/", "/* /* */", "--", "-- x\n", "\n", "\r", "\r\n", "\t", "\v", "\f", "\x00", "\x7f", "\u00a0",
    "\u200b", "\u2028", "\u3000", "\ufeff", "ı", "ſ", "K", "ß", "é", "語", "🚌", "\U000e0001", ";", ";;", ",", ".", "..", "(",
    ")", "()", "[", "]", "{", "}", "::", ":", ":=", "->", "->>", "=>", "*", "+", "%", "@", "#", "\\", "`", "~", "!",
]  # fmt: skip


@cache
def seeds() -> tuple[str, ...]:
    """Every statement of the golden files, and every block of SQL of the pages."""
    found = []
    for path in sorted((ROOT / "tests" / "sql" / "golden").glob("*.txt")):
        for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")):
            lines = [line for line in block.split("\n") if not line.startswith("# ")]
            found.append("\n".join(lines).partition("\n----")[0])
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        found += [block.text for block in Page.of(path).blocks if block.language == "sql"]
    return tuple(dict.fromkeys(filter(str.strip, found)))


def statement(rng: Random) -> str:
    """A statement, mostly changed in a few places."""
    text = rng.choice(seeds())
    for _ in range(rng.choice((0, 1, 1, 2, 3, 5, 8, 20))):
        text = mutated(text, rng)
    return text


def script(rng: Random) -> str:
    """Several of them, with what may stand between."""
    between = (";", ";\n", " ; ", ";;", ";-- a; b\n", "; /* ; */ ", "\n;\n", "")
    text = "".join(statement(rng) + rng.choice(between) for _ in range(rng.randrange(1, 6)))
    for _ in range(rng.choice((0, 0, 1, 3))):
        text = mutated(text, rng)
    return text


def mutated(text: str, rng: Random) -> str:
    """The text with one change."""
    if rng.random() < 0.3:
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice((0, 1, 1, 2, 10)))
        return text[:at] + rng.choice(("", "", rng.choice(ODD), chr(rng.randrange(32, 0x250)))) + text[end:]
    pieces = _PIECE.findall(text)
    if not pieces:
        return rng.choice(WORDS)
    at = rng.randrange(len(pieces))
    end = min(len(pieces), at + rng.choice((1, 1, 2, 3, 8)))
    match rng.randrange(10):
        case 0:
            del pieces[at:end]
        case 1:
            pieces[at:at] = [" ", rng.choice(WORDS), " "]
        case 2:
            pieces[at] = rng.choice(ODD)
        case 3:
            pieces[at:at] = [" ", rng.choice(ODD), " "]
        case 4:
            pieces[at:at] = pieces[at:end] * rng.choice((1, 2, 30))
        case 5:
            other = rng.randrange(len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        case 6:
            theirs = _PIECE.findall(rng.choice(seeds()))
            start = rng.randrange(len(theirs))
            pieces[at:at] = [" ", *theirs[start : start + rng.choice((1, 2, 4, 8, 16))], " "]
        case 7:
            opening, closing = rng.choice(("()", "[]", "{}", "''", '""', ("/*", "*/"), ("$$", "$$"), ("(SELECT ", ")")))
            depth = rng.choice((1, 1, 1, 2, 300))
            pieces[at:end] = [opening * depth, *pieces[at:end], closing * rng.choice((depth, depth, depth - 1))]
        case 8:
            pieces[at] = rng.choice((str.upper, str.lower, str.title, str.swapcase))(pieces[at])
        case 9:
            pieces = pieces[at:] + pieces[:at] if rng.random() < 0.3 else pieces[:at]
    return "".join(pieces)[:20_000]
