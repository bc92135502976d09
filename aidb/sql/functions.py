"""Models as functions: what the binder asks the engine, and where a text seems to call one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from aidb.catalog.relations import Fill
from aidb.sql.layout import Layout

MARK = "__aidb_call_"


class ModelFunctions(Protocol):
    """The registered models, as a query may call them. Names come in any letter case."""

    def is_model(self, name: str) -> bool:
        """Is a model of this name registered?"""
        ...

    def rows(self, name: str) -> Literal["one", "many"]:
        """How many rows it gives an item."""
        ...

    def outputs(self, name: str) -> tuple[str, ...]:
        """Names of its outputs, in order."""
        ...

    def fill(self, model: str, args: Sequence[tuple[str, str]]) -> Fill:
        """The model over these columns, each (relation, column) as the catalog spells them; makes storage on first use.

        Raises `aidb.errors.ProgrammingError` if the model can't take them.
        """
        ...


@dataclass(frozen=True)
class Mention:
    """A model's name with a bracket behind it: token ``place`` of the text that the user wrote."""

    place: int
    model: str
    written: str


def mentions(layout: Layout, functions: ModelFunctions) -> list[Mention]:
    """Where the text seems to call a registered model; a column list after an alias looks the same."""
    found = []
    for i, token in enumerate(layout.tokens):
        if token.key == "(" and layout.is_name(i - 1) and layout.key(i - 2) != ".":
            before = layout.tokens[i - 1]
            if functions.is_model(layout.name(i - 1)):
                found.append(Mention(i - 1, layout.name(i - 1), layout.text[before.start : before.end]))
    return found


def marked(text: str, layout: Layout, found: Sequence[Mention]) -> str:
    """The text with the n-th mention's name replaced by a mark: a function that no parser has ideas of its own about."""
    parts: list[str] = []
    done = 0
    for n, mention in enumerate(found):
        token = layout.tokens[mention.place]
        parts += (text[done : token.start], f"{MARK}{n}")
        done = token.end
    return "".join(parts) + text[done:]
