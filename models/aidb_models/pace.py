"""A limit on how often something may be done."""

from __future__ import annotations

import threading
import time


class Pace:
    """Lets callers through at most ``rate`` times a second, evenly spaced (a token bucket of one token); any thread.

    rate: None for no limit.
    """

    def __init__(self, rate: float | None) -> None:
        self._gap = 0.0 if rate is None else 1.0 / rate
        self._next = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Let callers through (again)."""
        self._stopped.clear()

    def stop(self) -> None:
        """Send away whoever waits, and whoever comes."""
        self._stopped.set()

    def wait(self) -> bool:
        """Wait for one's turn; False if stopped."""
        if not self._gap:
            return not self._stopped.is_set()
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._gap
        return not self._stopped.wait(max(0.0, turn - time.monotonic()))

    def pause(self, seconds: float) -> bool:
        """Wait, whatever the rate; False if stopped."""
        return not self._stopped.wait(seconds)
