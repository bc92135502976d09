"""Several addresses of one service: which one is asked next."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_REST = 5.0
"""Seconds for which an address that failed is asked only if no other one is left."""


@dataclass
class Replica:
    """One address. flying: requests on their way to it; down_until: when it is worth another try."""

    url: str
    flying: int = 0
    down_until: float = 0.0

    def failed(self, after: float | None = None) -> None:
        """It can't be reached, or has no room."""
        self.down_until = time.monotonic() + max(_REST, after or 0.0)

    def went_well(self) -> None:
        """It answered."""
        self.down_until = 0.0


class Replicas:
    """Chooses, among the addresses that work, the one with the fewest requests on their way."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._all = [Replica(url) for url in urls]
        self._next = 0

    def choose(self, tried: Collection[str]) -> Replica | None:
        """The address to ask, not one of ``tried``; None if all were."""
        left = [r for r in self._all if r.url not in tried]
        if not left:
            return None
        now = time.monotonic()
        self._next += 1
        turn = {r.url: (i - self._next) % len(self._all) for i, r in enumerate(self._all)}
        return min(left, key=lambda r: (r.down_until > now, r.flying, turn[r.url]))
