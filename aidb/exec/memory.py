"""A budget of bytes for what is read and not yet answered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(eq=False)
class _Waiter:
    size: Callable[[], int]
    held: int


class ByteBudget:
    """Lets at most ``limit`` bytes be in flight, but always one item, however large.

    Nobody can wait for ever: whoever waits says how many of the bytes in flight only they themselves can give back.
    Once that is all there is, the first in line goes on, over the limit if it must.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.peak = 0
        self._free = threading.Condition()
        self._line: list[_Waiter] = []
        self._closed = False

    @property
    def starved(self) -> bool:
        """Does someone wait for bytes that are not there now?"""
        with self._free:
            return bool(self._line) and not self._fits(self._line[0])

    def try_acquire(self, size: int) -> bool:
        """Take the bytes if there is room now, and nobody who came earlier waits."""
        with self._free:
            if self._line or self._closed or self.used + size > self.limit:
                return False
            self._take(size)
            return True

    def acquire(self, size: Callable[[], int], held: int = 0) -> int | None:
        """Wait for room, first come first served; the bytes taken, or None if the budget was closed.

        size: asked again whenever something changed. held: bytes in flight that the caller keeps while it waits.
        """
        with self._free:
            waiter = _Waiter(size, held)
            self._line.append(waiter)
            self._free.notify_all()  # what this one holds may be what the first in line needs to know of
            try:
                while not self._closed:
                    if self._line[0] is waiter and self._fits(waiter):
                        taken = size()
                        self._take(taken)
                        return taken
                    self._free.wait()
                return None
            finally:
                self._line.remove(waiter)
                self._free.notify_all()

    def _fits(self, waiter: _Waiter) -> bool:
        return self.used + waiter.size() <= self.limit or self.used <= sum(w.held for w in self._line)

    def _take(self, size: int) -> None:
        self.used += size
        self.peak = max(self.peak, self.used)

    def settle(self, taken: int, size: int) -> None:
        """Turn bytes that were taken for an item of unknown size into its true size."""
        with self._free:
            self._take(size - taken)
            self._free.notify_all()

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._free:
            self.used -= size
            self._free.notify_all()

    def close(self) -> None:
        """Let everyone who waits go; nothing can be acquired any more."""
        with self._free:
            self._closed = True
            self._free.notify_all()


class Shared:
    """Something that several rows or models use; its ``size`` bytes, taken before, are given back after the last use.

    Made with one use, the maker's own.
    """

    __slots__ = ("_budget", "_lock", "_uses", "size", "value")

    def __init__(self, value: object, size: int, budget: ByteBudget) -> None:
        self.value = value
        self.size = size
        self._budget = budget
        self._uses = 1
        self._lock = threading.Lock()

    def use(self) -> Shared:
        """Announce one more use."""
        with self._lock:
            self._uses += 1
        return self

    def done(self) -> None:
        """End one use."""
        with self._lock:
            self._uses -= 1
            last = self._uses == 0
        if last:
            self.value = None
            self._budget.release(self.size)


def size_of(value: object) -> int:
    """Bytes that a decoded item takes."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    return len(value) if isinstance(value, (bytes, str)) else 0
