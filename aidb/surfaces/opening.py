"""A database that is opened while a person reads the prompt: what plans queries takes a while to load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Opening(Generic[T]):
    """Something that takes a while to make, in a thread of its own once `begin` is called."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._wrong: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def begun(self) -> bool:
        """Has it been asked for?"""
        return self._thread is not None

    def begin(self) -> None:
        """Begin to make it; a second call changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="aidb opening", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            self._made.append(self._make())
        except BaseException as wrong:
            self._wrong = wrong

    def get(self) -> T:
        """What was made, waited for if need be. Raises what making it raised."""
        self.begin()
        assert self._thread is not None
        self._thread.join()
        if self._wrong is not None:
            raise self._wrong
        return self._made[0]
