"""A bar for each model that is running, where there is a terminal to show it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from aidb.exec.control import Progress


class ProgressBars:
    """Items done and expected, rate, time left and cost, of each model; gone when the statement has ended.

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
            self._tasks[now.model] = self._bars.add_task(now.model, total=now.total, spent="")
        spent = f"cost {now.cost:.4g}" if now.cost else ""
        self._bars.update(self._tasks[now.model], completed=now.done, total=now.total, spent=spent)


def _bars(stream: TextIO) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        """Items a second."""

        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed else "")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[spent]}"),
    )
    return Bars(*columns, console=Console(file=stream), transient=True)
