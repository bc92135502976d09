"""Bind parameters: one spelling for all, and for each query only the ones that it mentions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import sqlglot
from sqlglot.tokenizer_core import TokenType

from aidb.plan.nodes import DIALECT

_NAME = re.compile(r"\$(__p\w+)")

Parameters = Sequence[object] | Mapping[str, object] | None


class Bound:
    """A statement whose parameters are all named ``$__p...``, so that pieces of it can be copied and reordered.

    sql: the text with those names. bare: the text with NULL instead, for DuckDB calls that take no parameters.
    shifts: is the text shifted against the original?
    """

    def __init__(self, sql: str, parameters: Parameters) -> None:
        named: list[str] = []
        bare: list[str] = []
        position = count = 0
        tokens = sqlglot.tokenize(sql, dialect=DIALECT)
        for n, token in enumerate(tokens):
            if token.token_type == TokenType.PLACEHOLDER:
                count += 1
                name, end = str(count), token.end + 1
            elif token.token_type == TokenType.PARAMETER and token.text == "$" and n + 1 < len(tokens):
                name, end = tokens[n + 1].text, tokens[n + 1].end + 1
            else:
                continue
            for parts in (named, bare):
                parts.append(sql[position : token.start])
            named.append(f"$__p{name}")
            bare.append("NULL")
            position = end
        for parts in (named, bare):
            parts.append(sql[position:])
        self.sql, self.bare = "".join(named), "".join(bare)
        if isinstance(parameters, Mapping):
            self.values = {f"__p{k}": v for k, v in parameters.items()}
        else:
            self.values = {f"__p{n}": v for n, v in enumerate(parameters or (), 1)}

    def for_query(self, sql: str) -> dict[str, object]:
        """Return the values of the parameters that a query mentions."""
        return {name: self.values[name] for name in set(_NAME.findall(sql)) if name in self.values}
