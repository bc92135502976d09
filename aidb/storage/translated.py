"""DuckDB's exceptions as ours: no other ever reaches the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from aidb import errors

_SAME = (
    (duckdb.ProgrammingError, errors.ProgrammingError),
    (duckdb.IntegrityError, errors.IntegrityError),
    (duckdb.NotSupportedError, errors.NotSupportedError),
    (duckdb.DataError, errors.DataError),
)
"""Kinds of PEP 249 that say enough. DuckDB's own kinds (of syntax, names, constraints) are kinds of these."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn DuckDB's exceptions into ours, with its message."""
    try:
        yield
    except duckdb.InterruptException as e:
        raise errors.Interrupted() from e
    except tuple(theirs for theirs, _ in _SAME) as e:
        raise next(ours for theirs, ours in _SAME if isinstance(e, theirs))(str(e)) from e
    except duckdb.InternalException as e:
        raise errors.OperationalError(
            f"DuckDB reports an internal error; open the database again, finished work is stored: {e}"
        ) from e
    except duckdb.Error as e:
        text = str(e)
        if is_damage(text):
            text = f"the database file is damaged; what a copy of it holds can be used again: {text}"
        elif "Could not write" in text or "No space left" in text:
            text = f"nothing more can be written (is the disk full?); what was stored before is kept: {text}"
        elif "invalidated" in text:
            text = f"the database had to stop; open it again, finished work is stored: {text}"
        raise errors.OperationalError(text) from e


def is_damage(text: str) -> bool:
    """Does a message of DuckDB say that the file is not what it wrote?"""
    return "orrupt" in text or "Could not read enough bytes" in text
