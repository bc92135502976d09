"""The world of the engine's golden files: five short texts, models that count what they are asked, a few commands.

A line that begins with ``!`` changes the world as a person outside of SQL would: ``! add NAME TEXT``, ``! replace NAME
TEXT``, ``! remove NAME``, ``! break NAME`` (the text can't be read), ``! mend NAME``, ``! version MODEL N`` (other
code, registered again), ``! reopen`` (a new process; functions are not registered), ``! register MODEL``,
``! file NAME LINE LINE ...``, ``! delete NAME``.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aidb
from aidb.spi import Input, ItemError
from aidb.testing import FakeModel, MemoryConnector

TEXTS = {
    "ann": "red red blue",
    "bob": "green",
    "cid": "",
    "dan": "blue green red",
    "eve": "red",
}
AUTHORS = ["Ann", "Bob", "Bob", "Ann", None]


def words(text: str) -> list[tuple[str, int]]:
    return [(w, len(w)) for w in text.split()]


def tone(text: str | None) -> str | None:
    if text is None:
        return None
    return "warm" if "red" in text else "cold" if text else None


def bad(text: str) -> int:
    if "blue" in text:
        raise ItemError("blue is beyond me")
    return len(text)


MODELS: dict[str, tuple[dict[str, str], Callable[..., Any], dict[str, Any]]] = {
    "words": ({"word": "VARCHAR", "letters": "INTEGER"}, words, {"rows": "many"}),
    "tone": ({"tone": "VARCHAR"}, tone, {}),
    "size": ({"size": "INTEGER"}, len, {}),
    "is_red": ({"is_red": "BOOLEAN"}, lambda text: "red" in text, {}),
    "rhyme": ({"rhyme": "VARCHAR"}, lambda word: None if word is None else word[-2:], {"inputs": ["word"]}),
    "near": ({"near": "INTEGER"}, lambda text, word: text.find(word), {"inputs": ["text", "word"]}),
    "around": (
        {"low": "INTEGER", "high": "INTEGER"},
        lambda n: (n - 1, n + 1),
        {"inputs": [Input("n", type="INTEGER")]},
    ),
    "mixed": ({"mixed": "INTEGER"}, lambda *values: len(values), {"inputs": ["a", "b", "c"]}),
    "fragile": ({"fragile": "INTEGER"}, bad, {}),
    "dear": ({"dear": "INTEGER"}, len, {"price_per_call": 0.5, "seconds_per_item": 2.0}),
}


class World:
    """One database file with everything registered."""

    def __init__(self, folder: Path, *, optimizer: bool = True) -> None:
        self.folder, self.optimizer = folder, optimizer
        self.texts = MemoryConnector(
            TEXTS, content="text", key="doc_id", columns={"author": ("VARCHAR", AUTHORS)}, name="memory"
        )
        self.models = {name: self._made(name, "1") for name in MODELS}
        self.con = self._connected()
        for name in MODELS:
            self.con.register(self.models[name])
        self.asked: Counter[str] = Counter()

    def _made(self, name: str, version: str) -> FakeModel:
        outputs, answer, more = MODELS[name]
        return FakeModel(name, outputs, answer, version=version, **({"inputs": ["text"]} | more))

    def _connected(self) -> aidb.Connection:
        con = aidb.connect(self.folder / "golden.db")
        con.register_connector(self.texts)
        con.execute("SET threads = 1; SET aidb.max_error_ratio = 1")
        con.execute(f"SET aidb.optimizer = {str(self.optimizer).lower()}")
        return con

    def close(self) -> None:
        self.con.close()

    def command(self, text: str) -> str:
        """Carry out a line that begins with ``!``."""
        verb, *given = text.removeprefix("!").split()
        if verb == "add":
            self.texts.add(given[0], " ".join(given[1:]), None)
        elif verb == "replace":
            self.texts.replace(given[0], " ".join(given[1:]))
        elif verb == "remove":
            self.texts.remove(given[0])
        elif verb == "break":
            self.texts.broken.add(given[0])
        elif verb == "mend":
            self.texts.broken.discard(given[0])
        elif verb == "version":
            self.models[given[0]] = self._made(given[0], given[1])
            self.con.register(self.models[given[0]])
        elif verb == "register":
            self.con.register(self.models[given[0]])
        elif verb == "reopen":
            self.con.close()
            gc.collect()
            self.con = self._connected()
        elif verb == "file":
            (self.folder / given[0]).write_text("\n".join(given[1:]) + "\n")
        elif verb == "delete":
            (self.folder / given[0]).unlink()
        else:
            raise ValueError(text)
        return ""

    def run(self, sql: str) -> str:
        """What a statement gives, in words: columns and rows, a message, or an error; then what models were asked."""
        before = {name: len(model.seen) for name, model in self.models.items()}
        try:
            cursor = self.con.execute(sql.replace("FOLDER", str(self.folder)))
        except aidb.Error as e:
            lines = f"{type(e).__name__}: {e}".replace(str(self.folder), "FOLDER").splitlines()
            return "\n".join([*filter(str.strip, lines), *self._calls(before, None)])
        lines = []
        if cursor.message is not None and cursor.description is None:
            lines += cursor.message.replace(str(self.folder), "FOLDER").splitlines()
        if cursor.description is not None:
            lines.append(" | ".join(name for name, *_ in cursor.description))
            rows = [" | ".join(map(shown, row)) for row in cursor.fetchall()]
            lines += rows if "ORDER BY" in sql.upper() or "EXPLAIN" in sql.upper() else sorted(rows)
        return "\n".join([*lines, *self._calls(before, cursor.report)])

    def _calls(self, before: dict[str, int], report: aidb.Report | None) -> list[str]:
        asked = {name: model.seen[before.get(name, 0) :] for name, model in self.models.items()}
        new = {name: len(items) for name, items in asked.items() if items}
        if report is not None:
            # A batch with a bad item is asked in parts, and items of equal content can't be told apart here.
            for name, n in report.calls.items():
                if n and name in asked:
                    assert len(set(map(str, asked[name]))) <= n <= len(asked[name])
            new = {m: n for m, n in report.calls.items() if n}
        lines = [f"calls: {', '.join(f'{name} {n}' for name, n in sorted(new.items()))}"] if new else []
        return lines + ([f"note: {note}" for note in report.notes] if report is not None else [])


def shown(value: object) -> str:
    return "NULL" if value is None else repr(value) if isinstance(value, str) and not value.strip() else str(value)
