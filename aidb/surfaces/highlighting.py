"""Our SQL in colours: a Pygments lexer, for the prompt, for notebooks and for pages of documentation."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pygments.lexer import RegexLexer, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from aidb.surfaces.vocabulary import SETTINGS
from aidb.surfaces.words import KEYWORDS, OURS, TYPES

_BEHIND = {"METHOD": r"(?=\s+[a-z])", "VERIFIED": r"(?=\s*(?:;|\Z))", "UNVERIFIED": r"(?=\s*(?:;|\Z))"}
"""One word alone is a clause only if this comes behind it; where nothing is said, a number."""
_PHRASES = "|".join(
    r"\s+".join(phrase.split()) + ("" if " " in phrase else _BEHIND.get(phrase, r"(?=\s+\d)"))
    for phrase in sorted(OURS, key=len, reverse=True)  # WITH FAILURE PROBABILITY is no WITH
)


class AidbLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """DuckDB's SQL with AIDB's statements and clauses, and the shell's commands on lines that begin with a dot."""

    name = "AIDB"
    aliases = ("aidb",)
    filenames = ("*.aidb.sql",)
    url = ""
    flags = re.IGNORECASE
    tokens: ClassVar[dict[str, list[Any]]] = {
        "root": [
            (r"\A\s*\.[a-z]\w*|(?<=\n)\.[a-z]\w*", Name.Decorator),
            (r"\A\s*\\\S+", Name.Decorator),
            (r"\s+", Text),
            (r"--[^\r\n]*", Comment.Single),
            (r"/\*", Comment.Multiline, "comment"),
            (r"e'(?:[^'\\]|\\.|'')*'?", String.Single),
            (r"'(?:[^']|'')*'?", String.Single),
            (r'"(?:[^"]|"")*"?', Name),
            (r"\$(\w*)\$(?:.|\n)*?(?:\$\1\$|\Z)", String.Heredoc),
            (r"\$\w+|\?", Name.Variable),
            (rf"\b(?:{_PHRASES})\b(?!\s*\.)", Keyword.Pseudo),
            (rf"\baidb\.(?:{'|'.join(SETTINGS)})\b", Name.Builtin),
            (words(tuple(KEYWORDS), prefix=r"(?<!\.)\b", suffix=r"\b(?!\s*\.)"), Keyword),
            (words(tuple(TYPES), prefix=r"(?<!\.)\b", suffix=r"\b(?!\s*[.(])"), Keyword.Type),
            (r"[a-z_][\w$]*(?=\s*\()", Name.Function),
            (r"(?:\d{1,3}(?:,\d{3})+\b|\d[\d_]*)(?:\.\d*)?(?:e[+-]?\d+)?%?|\.\d+(?:e[+-]?\d+)?", Number),
            (r"[^\W\d][\w$]*", Name),
            (r"[+\-*/<>=~!@#%^&|:]+", Operator),
            (r"[;,.(){}\[\]]", Punctuation),
            (r".", Text),
        ],
        "comment": [  # they nest
            (r"/\*", Comment.Multiline, "#push"),
            (r"\*/", Comment.Multiline, "#pop"),
            (r"[^/*]+|[/*]", Comment.Multiline),
        ],
    }
