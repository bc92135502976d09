"""What limits a running statement, and what it has done so far: caps, interruption, failures, progress."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from aidb.errors import BudgetExceeded, Interrupted, ModelError, TooManyFailures

ENOUGH_TO_JUDGE = 20
"""Failures are a ratio only from this many items on: one corrupt picture among five is no reason to stop."""


TELL = 0.1
"""Seconds between two calls of the progress callback."""


@dataclass(frozen=True)
class Progress:
    """What a progress callback gets: one model's items, done and expected, and seconds since the statement began.

    calls: items that were sent to the model; failed: those that are over without an answer. cost: of all models.
    """

    model: str
    done: int
    total: int | None
    seconds: float
    cost: float
    calls: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Ceiling:
    """An ORACLE LIMIT of ``limit`` calls: those of ``model``, or of all where it is None, end at ``total``."""

    limit: int
    model: str | None
    total: int


@dataclass(frozen=True)
class Before:
    """How many items were over, and how many of them had failed, when a statement began, by model."""

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, more: Before) -> None:
        """Take over what is said of other models."""
        for model in more.done.keys() - self.done.keys():
            self.done[model], self.failed[model] = more.done[model], more.failed[model]


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
    """Shared by all threads of one statement; every method may be called from any thread.

    Counters are by model. calls: items that were sent to it, each once. failed: items without an answer, be it
    that they could not be read. done: items that are over, one way or the other; expected: those to come too, as far as
    they were handed out; foreseen: all that will be, where that is known.
    """

    limits: Limits = field(default_factory=Limits)
    progress: Callable[[Progress], None] | None = None
    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    expected: Counter[str] = field(default_factory=Counter)
    foreseen: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0
    ceiling: Ceiling | None = None
    before: Before = field(default_factory=Before)

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._reason: BaseException | None = None
        self._told = 0.0

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

    def raise_if_stopped(self) -> None:
        """Raise the reason for stopping, if there is one."""
        if self._reason is not None:
            raise self._reason

    def check(self) -> None:
        """Raise the reason for stopping, if there is one; a cap on time is noticed here."""
        limit = self.limits.max_seconds
        if limit is not None and self.seconds >= limit and not self.stopping:
            self.stop(
                BudgetExceeded(f"aidb.max_seconds = {limit:g} is reached; run the query again to go on from here")
            )
        self.raise_if_stopped()

    @property
    def seconds(self) -> float:
        """Since the statement began."""
        return time.monotonic() - self.started

    def pause(self, seconds: float) -> None:
        """Sleep, but wake up to stop."""
        self._stop.wait(seconds)

    # ---- counting
    def reserve(self, model: str, items: int, price: float, *, whole: str | None = None) -> int:
        """How many of these items may go to the model under the caps; they count as called from now on.

        With fewer than were asked for the statement is stopping, with `BudgetExceeded` as the reason. whole: the items
        are of use only together, all or none, and this is what they are.
        """
        with self._lock:
            allowed, why = items, ""
            for left, cap in self._left(model, price):
                if left < allowed:
                    allowed, why = max(left, 0), cap
            if whole is not None and allowed < items:
                allowed = 0
            self.calls[model] += allowed
            self.cost += allowed * price
        if allowed < items:
            what = "is reached"
            if whole is not None:
                what = f"leaves too little for the {items:,} items of {whole}, which {model} must see in a row"
            self.stop(BudgetExceeded(f"{why} {what}; everything inferred is kept, run the query again to go on"))
        return allowed

    def _left(self, model: str, price: float) -> Iterator[tuple[int, str]]:
        """How many items each cap still allows to a model, and what the cap is."""
        if self.limits.max_calls is not None:
            yield self.limits.max_calls - self.calls.total(), f"aidb.max_calls = {self.limits.max_calls}"
        if self.ceiling is not None and self.ceiling.model in (None, model):
            done = self.calls.total() if self.ceiling.model is None else self.calls[model]
            yield self.ceiling.total - done, f"ORACLE LIMIT {self.ceiling.limit}"
        if self.limits.max_cost is not None and price > 0:
            # A hair above, so that ten items at 0.1 fit into a cap of 1.
            yield int((self.limits.max_cost - self.cost) / price + 1e-9), f"aidb.max_cost = {self.limits.max_cost:g}"

    def fits(self, wanted: Sequence[tuple[str, int, float]]) -> bool:
        """Would the caps allow all of this: (model, items, price) together? Nothing is reserved."""
        with self._lock:
            cost = self.cost
            added: list[tuple[str, int]] = []
            try:
                for model, items, price in wanted:
                    if any(left < items for left, _ in self._left(model, price)):
                        return False
                    added.append((model, items))
                    self.calls[model] += items
                    self.cost += items * price
                return True
            finally:
                self.cost = cost
                for model, items in added:
                    self.calls[model] -= items

    def give_back(self, model: str, items: int, price: float) -> None:
        """Items that were reserved were not asked, or their answers could not be kept: they are no calls."""
        with self._lock:
            self.calls[model] -= items
            self.cost = max(self.cost - items * price, 0.0)

    def record(self, model: str, items: int, messages: Sequence[str]) -> None:
        """Count items that are over, with the messages of those that failed.

        May stop the statement, as ``aidb.on_error`` and ``max_error_ratio`` say.
        """
        with self._lock:
            self.done[model] += items
            self.failed[model] += len(messages)
        if not messages:
            return
        if self.limits.on_error == "raise":
            self.stop(ModelError(f"{model}: an item failed: {messages[0]} (SET aidb.on_error = 'skip' goes on)", model))
            return
        self.judge_failures(model, f"The last message: {messages[0]}", ended=False)

    def judge_failures(self, model: str, more: str = "See aidb.errors", *, ended: bool = True) -> None:
        """Stop if too large a share of a model's items failed; at the end also if no item has an answer, nor ever had.

        A model that has answered others is not broken: what failed are damaged items, new ones or such as were tried again.
        """
        with self._lock:
            failed, seen = self.failed[model], self.done[model]
        if seen >= ENOUGH_TO_JUDGE and failed > self.limits.max_error_ratio * seen:
            why = f"{failed} of {seen} items failed, more than aidb.max_error_ratio = {self.limits.max_error_ratio:g} allows"
        elif ended and 1 < failed >= seen and self.before.done[model] <= self.before.failed[model]:
            why = f"all {failed} items failed"
        else:
            return
        self.stop(TooManyFailures(f"{model}: {why}; the finished ones are kept. {more}", model))

    def tick(self, models: Iterable[str], *, last: bool = False) -> None:
        """Tell the progress callback where models stand, some times a second; only the executing thread calls this."""
        now = time.monotonic()
        if self.progress is None or (now - self._told < TELL and not last):
            return
        self._told = now
        for model in models:
            self.progress(
                Progress(
                    model,
                    self.done[model],
                    max(self.expected[model], self.foreseen[model]) or None,
                    self.seconds,
                    self.cost,
                    self.calls[model],
                    self.failed[model],
                )
            )
