"""Nothing secret is stored: options and sources stand in the database file, for everyone who reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aidb.errors import ProgrammingError

_WORDS = (
    r"token|password|passwd|pwd|secret|api[_-]?key|access_key|secret_key|private_key|credentials?|authorization|bearer"
)
_NAME = re.compile(rf"(^|[_-])({_WORDS})$")
_IN_SQL = re.compile(
    rf"(?<![A-Za-z0-9])({_WORDS}|key_id|session_token)[\"']?\s*(=>|:=|=|:|\s)\s*e?'|"
    r"\bCREATE\s+(OR\s+REPLACE\s+)?(PERSISTENT\s+|TEMP(ORARY)?\s+)?SECRET\b|\bENCRYPTION_KEY\b|"
    r"\b(password|passwd|pwd|api_?key)=[^\s'\"=]",
    re.IGNORECASE,
)
_IN_URL = re.compile(
    r"[A-Za-z][\w+.-]*://[^/@\s]*:[^/@\s]+@|"
    r"[?&](token|password|api_?key|access_token|sig|signature|x-amz-signature|x-amz-security-token)=",
    re.IGNORECASE,
)
_SHAPE = re.compile(
    r"\b(sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|hf_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|"
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})|\bBearer\s+(?=\S*\d)[\w.~+/-]{12,}|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY"
)
"""Tokens that say by their form what they are."""
_COLUMNS = ("inputs", "outputs", "columns")
"""Options whose inner names are those of columns, and may be anything."""

NOT_KEPT = "(not kept: the text seems to hold a password, a token or a key)"


def refuse_secrets(options: Mapping[str, object], source: str = "") -> None:
    """Raise `ProgrammingError` for an option or a source that holds a secret, saying where it belongs instead."""
    for name, value in options.items():
        _refuse_option(name, value)
    _refuse_in(source, "the source")


def holds_secret(sql: str) -> bool:
    """Does a text of SQL seem to hold a password, a token or a key?"""
    return any(pattern.search(sql) is not None for pattern in (_IN_SQL, _IN_URL, _SHAPE))


def kept_text(sql: str) -> str:
    """A text of SQL as it may be stored for everyone who reads the database."""
    return NOT_KEPT if holds_secret(sql) else sql


def _refuse_option(name: str, value: object) -> None:
    if _NAME.search(name.lower()) and not isinstance(value, bool):
        raise ProgrammingError(
            f"the option {name!r} would be stored in the database, for everyone who reads it: put the secret into "
            "an environment variable and name that, WITH (token_env = 'MY_TOKEN')"
        )
    if isinstance(value, Mapping):
        for inner, held in value.items():
            _refuse_option("" if name in _COLUMNS else str(inner), held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            _refuse_in(str(held), f"the option {name!r}")
    else:
        _refuse_in(str(value), f"the option {name!r}")


def _refuse_in(text: str, what: str) -> None:
    if _IN_URL.search(text) or _SHAPE.search(text):
        raise ProgrammingError(
            f"{what} holds a password or a key, which would be stored in the database; leave it out of the address, "
            "and let the environment or a credentials file give it"
        )
