"""What limits a running statement, and what it has done so far: caps, interruption, failures, progress."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aidb.errors import BudgetExceeded, Error, Interrupted, ModelError, TooManyFailures

ENOUGH_TO_JUDGE = 20
"""Failures are a ratio only from this many items on: one corrupt picture among five is no reason to stop."""


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets: one model's items, done and expected, and seconds since the statement began."""

    model: str
    done: int
    total: int | None
    seconds: float
    cost: float


@dataclass
class Limits:
    """Caps on one statement; None is no cap."""

    max_calls: int | None = None
    max_seconds: float | None = None
    max_cost: float | None = None
    on_error: str = "skip"
    max_error_ratio: float = 0.1


@dataclass
class Control:
    """Shared by all threads of one statement. Counters are by model; every method may be called from any thread."""

    limits: Limits = field(default_factory=Limits)
    progress: Callable[[Progress], None] | None = None
    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._reason: BaseException | None = None

    # ---- stopping
    @property
    def stopping(self) -> bool:
        """Should no new work begin?"""
        return self._stop.is_set()

    def stop(self, reason: BaseException) -> None:
        """Let what is in flight end, start nothing new; the first reason is the one that `check` raises."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
        self._stop.set()

    def interrupt(self) -> None:
        """Stop because the user asked for it."""
        self.stop(Interrupted())

    def check(self) -> None:
        """Raise the reason for stopping, if there is one; a cap on time is noticed here."""
        limit = self.limits.max_seconds
        if limit is not None and self.seconds >= limit and not self.stopping:
            self.stop(
                BudgetExceeded(f"aidb.max_seconds = {limit:g} is reached; run the query again to go on from here")
            )
        if self._reason is not None:
            raise self._reason

    @property
    def seconds(self) -> float:
        """Since the statement began."""
        return time.monotonic() - self.started

    def pause(self, seconds: float) -> None:
        """Sleep, but wake up to stop."""
        self._stop.wait(seconds)

    # ---- counting
    def reserve(self, model: str, items: int, price: float) -> int:
        """How many of these items may go to the model under the caps; they count as called from now on.

        With fewer than were asked for the statement is stopping, with `BudgetExceeded` as the reason.
        """
        with self._lock:
            allowed, why = items, ""
            if self.limits.max_calls is not None:
                left = self.limits.max_calls - self.calls.total()
                if left < allowed:
                    allowed, why = max(left, 0), f"aidb.max_calls = {self.limits.max_calls}"
            if self.limits.max_cost is not None and price > 0:
                # A hair above, so that ten items at 0.1 fit into a cap of 1.
                left = int((self.limits.max_cost - self.cost) / price + 1e-9)
                if left < allowed:
                    allowed, why = max(left, 0), f"aidb.max_cost = {self.limits.max_cost:g}"
            self.calls[model] += allowed
            self.cost += allowed * price
        if allowed < items:
            self.stop(BudgetExceeded(f"{why} is reached; everything inferred is kept, run the query again to go on"))
        return allowed

    def record_failures(self, model: str, messages: list[str]) -> None:
        """Count items that failed; may stop the statement, as ``aidb.on_error`` and ``max_error_ratio`` say."""
        with self._lock:
            self.failed[model] += len(messages)
        if self.limits.on_error == "raise":
            self.stop(ModelError(f"{model}: an item failed: {messages[0]} (SET aidb.on_error = 'skip' goes on)", model))
            return
        self.judge_failures(model, messages[0], ended=False)

    def judge_failures(self, model: str, example: str, *, ended: bool) -> None:
        """Stop if too large a share of a model's items failed; at the end also if none succeeded."""
        with self._lock:
            failed, called = self.failed[model], self.calls[model]
        seen = max(failed, called)
        too_many = seen >= ENOUGH_TO_JUDGE and failed > self.limits.max_error_ratio * seen
        if too_many or (ended and failed and failed >= called and failed > 1):
            self.stop(
                TooManyFailures(
                    f"{model}: {failed} of {seen} items failed, more than aidb.max_error_ratio = "
                    f"{self.limits.max_error_ratio:g} allows; the finished ones are kept. The last message: {example}",
                    model,
                )
            )

    def tick(self, model: str) -> None:
        """Tell the progress callback where a model stands."""
        if self.progress is not None:
            done = self.calls[model]
            self.progress(Progress(model, done, self.expected[model] or None, self.seconds, self.cost))


def is_ours(error: BaseException) -> bool:
    """Does this exception say something to the user (rather than reveal a bug)?"""
    return isinstance(error, (Error, KeyboardInterrupt))
