"""Adaptive concurrency: as many requests at a time as a service bears."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_LONGEST_PAUSE = 30.0
"""Seconds that all requests pause at most because one was told to; who was told waits as long as it should."""


class Flow:
    """Lets requests through, at most ``most`` at a time; fewer after signs of overload. For one event loop.

    Additive increase, multiplicative decrease, as in TCP: a sign halves the limit (once for all requests that were on
    their way together), and each full round of requests that go well raises it by one. A service that says how long to
    wait (Retry-After) gets no request at all so long.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.flying = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0
        self._last_cut = 0.0

    async def enter(self) -> float:
        """Wait for one's turn; gives the time at which it came, which `leave` asks for."""
        while True:
            pause = self._paused_until - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self.flying < max(1, int(self.limit)):
                self.flying += 1
                return time.monotonic()
            else:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                try:
                    await turn
                finally:
                    if turn in self._waiting:
                        self._waiting.remove(turn)

    def leave(self, entered: float, *, overloaded: bool = False, after: float | None = None) -> None:
        """A request is over. overloaded: it told of too many; after: seconds until which the service wants no more."""
        now = time.monotonic()
        self.flying -= 1
        if overloaded:
            if entered >= self._last_cut:
                self.limit = max(1.0, self.limit / 2)
                self._last_cut = now
            if after:
                self._paused_until = max(self._paused_until, now + min(after, _LONGEST_PAUSE))
        else:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)
        room = max(1, int(self.limit)) - self.flying
        while room > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1
