"""A database that another process is writing, as it stands now: a copy that can be read.

DuckDB lets nobody read a file that is open for writing elsewhere. What it writes is made to survive a kill at any moment,
and that makes a copy sound, too: blocks that the header in force leads to are not written again before another header is
in force, and the log is only added to. So the log is copied first, then the file, and if the headers are the same after
as before, the two belong together; what came meanwhile is not in the copy.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import duckdb

from aidb.errors import OperationalError

T = TypeVar("T")

_HEADERS = 3 * 4096
"""Bytes: one header of the file, and two of the database, of which the newer is in force."""
_LOGS = (".wal", ".wal.checkpoint", ".wal.recovery")
_TRIES = 8
_PAUSE = 0.05


class Copy:
    """A folder with the copy, which goes away with `close`. taken: when it was begun, in UTC."""

    def __init__(self, path: str) -> None:
        self.original = Path(path)
        self.taken = datetime.now(UTC)
        self._folder = TemporaryDirectory(prefix="aidb-", ignore_cleanup_errors=True)
        self.path = os.path.join(self._folder.name, self.original.name)

    def close(self) -> None:
        """Remove it."""
        self._folder.cleanup()

    def take(self) -> bool:
        """Copy; False if what was copied does not belong together, since the file was checkpointed meanwhile.

        Raises OSError, before anything is copied if there is too little room.
        """
        before = self._state()
        needed = sum(os.path.getsize(f"{self.original}{log}") for log in ("", *before[1]))
        free = shutil.disk_usage(self._folder.name).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"the copy takes {needed / 2**20:,.0f} MiB, and {os.path.dirname(self._folder.name)} has {free / 2**20:,.0f} "
                "(TMPDIR names another place)",
            )
        for log in _LOGS:
            Path(self.path + log).unlink(missing_ok=True)
            if log in before[1]:
                shutil.copyfile(f"{self.original}{log}", self.path + log)
        shutil.copyfile(self.original, self.path)
        return self._state() == before

    def _state(self) -> tuple[bytes, tuple[str, ...], int]:
        """What changes with a checkpoint."""
        with self.original.open("rb") as file:
            head, inode = file.read(_HEADERS), os.fstat(file.fileno()).st_ino
        return head, tuple(log for log in _LOGS if os.path.exists(f"{self.original}{log}")), inode


def opened_copy(path: str, connect: Callable[[str], T]) -> tuple[Copy, T]:
    """A copy of a database, and what ``connect`` makes of its path. Raises `OperationalError`."""
    wrong: duckdb.Error | None = None
    for attempt in range(_TRIES):
        time.sleep(_PAUSE * attempt)
        copy, wrong = Copy(path), None
        try:
            if copy.take():
                return copy, connect(copy.path)
        except FileNotFoundError:
            pass  # a log that went away: there was a checkpoint
        except OSError as e:
            copy.close()
            raise OperationalError(
                f"{path} is open for writing in another process, and can't be copied to be read: {e.strerror or e}"
            ) from e
        except duckdb.Error as e:  # what was copied is no database
            wrong = e
        except BaseException:
            copy.close()
            raise
        copy.close()
    why = "which changes it faster than it can be copied to be read: try again"
    if wrong is not None:
        why = f"and a copy of it can't be opened: {wrong}"
    raise OperationalError(f"{path} is open for writing in another process, {why}") from wrong
