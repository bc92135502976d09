"""Ctrl-C: the first one stops a statement in good order, the second one leaves it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(interrupt: Callable[[], None], said: Callable[[], None]) -> Iterator[threading.Event]:
    """Within, the first Ctrl-C interrupts in good order, and only the second one raises KeyboardInterrupt.

    The event is set once the person has asked to stop. Elsewhere than in the main thread, which alone gets signals, nothing
    is changed.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def ask() -> None:
        # Again and again: a statement that has not come to its first item yet has nothing to be interrupted.
        while not ended.is_set():
            interrupt()
            ended.wait(0.1)

    def first(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.set()
        said()
        # Not here: the thread that this handler has stopped may hold a lock that the interruption needs.
        threads.append(threading.Thread(target=ask, name="aidb interrupt", daemon=True))
        threads[0].start()

    before = signal.signal(signal.SIGINT, first)
    try:
        yield asked
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        signal.signal(signal.SIGINT, before)
