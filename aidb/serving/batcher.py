"""Dynamic batching: requests wait a little for others of the same sort, and go to a worker together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aidb.protocol.tensors import Tensor
from aidb.serving.arguments import Given


@dataclass(frozen=True)
class Answered:
    """What becomes of a request: tensors, or an HTTP status and a message."""

    tensors: tuple[Tensor, ...] = ()
    status: int = 200
    message: str = ""


@dataclass(frozen=True)
class Waiting:
    """A request: its inputs, its number of items, and what to call, from any thread and once, with the answer.

    alone: it must not share a worker with any other request, since it may be the one that killed the last one.
    """

    given: tuple[Given, ...]
    n: int
    answer: Callable[[Answered], None]
    since: float = field(default_factory=time.monotonic)
    alone: bool = False

    @property
    def sort(self) -> tuple[tuple[str, str | None], ...]:
        """Requests of the same sort may share a batch."""
        return tuple(g.sort for g in self.given)


class Full(Exception):
    """More would wait than there is room for."""


class Batcher:
    """The requests that wait for one model; any thread may put and take. limit: items that may wait."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._queue: deque[Waiting] = deque()
        self._items = 0
        self._changed = threading.Condition()
        self._closed = False

    @property
    def items(self) -> int:
        """Items that wait now."""
        return self._items

    def put(self, request: Waiting) -> None:
        """Let a request wait. Raises `Full`; one that is larger than the limit still fits where nobody waits."""
        with self._changed:
            if self._closed or (self._queue and self._items + request.n > self._limit):
                raise Full
            self._queue.append(request)
            self._items += request.n
            self._changed.notify()

    def put_back(self, requests: Sequence[Waiting]) -> None:
        """Let requests that were taken wait again, before all others. Raises `Full` once closed."""
        with self._changed:
            if self._closed:
                raise Full
            self._queue.extendleft(reversed(requests))
            self._items += sum(r.n for r in requests)
            self._changed.notify_all()

    def take(self, size: int, wait: float, patience: float = 0.5) -> list[Waiting]:
        """The next requests, of one sort, with at most ``size`` items together (or a single larger one).

        Waits until there are so many, or the first has waited ``wait`` seconds; nothing if none came for ``patience``.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._queue or self._closed, patience):
                return []
            while self._queue and self._items < size and not self._closed and not self._queue[0].alone:
                left = self._queue[0].since + wait - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return self._pop(size)

    def close(self) -> list[Waiting]:
        """Take no more; gives back what waits."""
        with self._changed:
            left, self._closed = list(self._queue), True
            self._queue.clear()
            self._items = 0
            self._changed.notify_all()
            return left

    def _pop(self, size: int) -> list[Waiting]:
        taken: list[Waiting] = []
        room = size
        while self._queue and (not taken or self._joins(self._queue[0], taken[0], room)):
            request = self._queue.popleft()
            taken.append(request)
            room -= request.n
            self._items -= request.n
        if self._queue:
            self._changed.notify()  # another worker may take the rest
        return taken

    @staticmethod
    def _joins(request: Waiting, first: Waiting, room: int) -> bool:
        return request.n <= room and request.sort == first.sort and not request.alone and not first.alone
