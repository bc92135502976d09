"""A line for each model that is running, where there is a terminal to show it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from aidb.exec.control import Progress

_BAR = 20
_NAME = 10
"""A model's name may be cut to so much, so that there is room for what it does."""


class ProgressBars:
    """Items done and expected, rate, time left, calls, failures and cost of each model; gone when the statement has ended.

    `advance` is what a connection calls with its `Progress`. Nothing is shown, and nothing loaded, before models run.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._watching = False
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Bars may appear while the block runs."""
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            if self._bars is not None:
                self._bars.stop()
            self._bars, self._tasks = None, {}

    def advance(self, now: Progress) -> None:
        """Move a model's bar."""
        if not self._watching:
            return
        if self._bars is None:
            self._bars = _bars(self._stream)
            self._bars.start()
        if now.model not in self._tasks:
            self._tasks[now.model] = self._bars.add_task(now.model, total=now.total, calls=0, failed=0, cost=0.0)
        self._bars.update(
            self._tasks[now.model],
            completed=now.done,
            total=now.total,
            calls=now.calls,
            failed=now.failed,
            cost=now.cost,
        )


def line(
    model: str, done: int, total: int | None, rate: float | None, left: float | None, width: int, *,
    calls: int = 0, failed: int = 0, cost: float = 0.0, bar: bool = True,
) -> str:  # fmt: skip
    """One model's progress in at most ``width`` characters; what matters least is left out where there is no room.

    rate: items a second. left: seconds. bar: may the line hold one?

    >>> line("yolo", 312, 2000, 41.2, 40.9, 80, calls=316, failed=2, cost=0.5, bar=False)
    'yolo  312/2,000  41.2/s  0:41 left  316 calls  2 failed  cost 0.5'
    >>> line("the_model_of_a_long_name", 312, 2000, 41.2, 40.9, 40, calls=316, failed=2)
    'the_model_of_a_lon…  312/2,000  2 failed'
    """
    drawn = ""
    if bar and total:
        full = min(_BAR, _BAR * done // total)
        drawn = "━" * full + "╌" * (_BAR - full)
    parts = [  # (what is shown, what is kept the longer the lower this is)
        (model, 0),
        (drawn, 6),
        (f"{done:,}/{total:,}" if total else f"{done:,}", 0),
        ("" if not rate else f"{rate:,.1f}/s", 3),
        ("" if left is None or done == total else f"{_clock(left)} left", 2),
        (f"{calls:,} call{'' if calls == 1 else 's'}" if calls else "", 5),
        (f"{failed:,} failed" if failed else "", 1),
        (f"cost {cost:.4g}" if cost else "", 4),
    ]
    shown = [part for part in parts if part[0]]
    least = min(len(model), _NAME)
    while least + sum(len(text) + 2 for text, _ in shown[1:]) > width and any(weight for _, weight in shown):
        shown.remove(max(shown, key=lambda part: part[1]))
    texts = [text for text, _ in shown]
    room = max(0, width - sum(len(text) + 2 for text in texts[1:]))
    if len(model) > room:
        texts[0] = f"{model[: max(0, room - 1)]}…"
    return "  ".join(texts)[:width]


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Line(ProgressColumn):
        """All of it, so that what there is no room for can be left out."""

        def __init__(self, console: Console) -> None:
            self._console = console
            super().__init__()

        def render(self, task: Task) -> Text:
            text = line(
                task.description,
                int(task.completed),
                None if task.total is None else int(task.total),
                task.finished_speed or task.speed,
                task.time_remaining,
                self._console.width - 1,
                **task.fields,
                bar=(self._console.encoding or "").lower().startswith("utf"),
            )
            return Text(text, no_wrap=True, overflow="crop")

    console: Console = Console(file=stream, highlight=False)
    return Bars(Line(console), console=console, transient=True)
