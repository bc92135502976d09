"""A budget of bytes for what is decoded and not yet answered."""

from __future__ import annotations

import threading

import numpy as np


class ByteBudget:
    """Lets at most ``limit`` bytes be in flight, but always one item, however large."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.peak = 0
        self.waiting = 0
        self._free = threading.Condition()
        self._closed = False

    def try_acquire(self, size: int) -> bool:
        """Take the bytes if there is room now."""
        with self._free:
            return self._take(size)

    def acquire(self, size: int) -> bool:
        """Take the bytes as soon as there is room; False if the budget was closed meanwhile."""
        with self._free:
            self.waiting += 1
            try:
                while not self._take(size):
                    if self._closed:
                        return False
                    self._free.wait(0.1)
                return True
            finally:
                self.waiting -= 1

    def _take(self, size: int) -> bool:
        if self.used and self.used + size > self.limit:
            return False
        self.used += size
        self.peak = max(self.peak, self.used)
        return True

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._free:
            self.used -= size
            self._free.notify_all()

    def close(self) -> None:
        """Let everyone who waits go."""
        with self._free:
            self._closed = True
            self._free.notify_all()


class Shared:
    """A decoded item that several rows or models use; its bytes are given back after the last of them."""

    __slots__ = ("_budget", "_lock", "_uses", "size", "value")

    def __init__(self, value: object, budget: ByteBudget) -> None:
        self.value = value
        self.size = size_of(value)
        self._budget = budget
        self._uses = 0
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
