"""Nothing secret is stored: options and sources stand in the database file, for everyone who reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aidb.errors import ProgrammingError

_NAME = re.compile(
    r"(^|_)(token|password|passwd|pwd|secret|api_?key|access_key|secret_key|private_key|credentials?|authorization|bearer)$"
)
_IN_SQL = re.compile(
    r"(?<![A-Za-z0-9])(token|password|passwd|pwd|secret|api_?key|access_key|secret_key|private_key|credentials?|authorization|"
    r"bearer|key_id)[\"']?\s*(=>|:=|=|:|\s)\s*e?'|\bCREATE\s+(OR\s+REPLACE\s+)?(PERSISTENT\s+|TEMP(ORARY)?\s+)?SECRET\b|\b(password|passwd|pwd|api_?key)=[^\s'\"=]",
    re.IGNORECASE,
)
_IN_URL = re.compile(
    r"[A-Za-z][\w+.-]*://[^/@\s]*:[^/@\s]+@|[?&](token|password|api_?key|access_token|sig)=", re.IGNORECASE
)


def refuse_secrets(options: Mapping[str, object], source: str = "") -> None:
    """Raise `ProgrammingError` for an option or a source that holds a secret, saying where it belongs instead."""
    for name, value in options.items():
        if _NAME.search(name.lower()):
            raise ProgrammingError(
                f"the option {name!r} would be stored in the database, for everyone who reads it: put the secret into "
                "an environment variable and name that, WITH (token_env = 'MY_TOKEN')"
            )
        _refuse_in_url(str(value), f"the option {name!r}")
    _refuse_in_url(source, "the source")


def holds_secret(sql: str) -> bool:
    """Does a text of SQL seem to hold a password, a token or a key?"""
    return _IN_SQL.search(sql) is not None or _IN_URL.search(sql) is not None


def _refuse_in_url(text: str, what: str) -> None:
    if _IN_URL.search(text):
        raise ProgrammingError(
            f"{what} holds a password or a key, which would be stored in the database; leave it out of the address, "
            "and let the environment or a credentials file give it"
        )
