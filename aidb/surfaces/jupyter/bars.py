"""A bar for each model that is running: a widget where the notebook has widgets, else a line of text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aidb.exec.control import Progress

_SOON = 0.5  # seconds; what is over by then needs no bar


@contextmanager
def bars(*, notebook: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress callback, whose bars are gone at the end. notebook: not a terminal."""
    shown: dict[str, Any] = {}

    def advance(now: Progress) -> None:
        bar = shown.get(now.model)
        if bar is None:
            if now.seconds < _SOON:
                return
            bar = shown[now.model] = _bar(now, notebook=notebook)
        _resize(bar, now.total)
        said = {"failed": now.failed or None, "cost": f"{now.cost:.4g}" if now.cost else None}
        bar.set_postfix({name: value for name, value in said.items() if value is not None}, refresh=False)
        bar.update(now.done - bar.n)

    try:
        yield advance
    finally:
        for bar in shown.values():
            bar.close()


def _resize(bar: Any, total: int | None) -> None:
    """Items turn up while models run."""
    if bar.total == total:
        return
    bar.total = total
    widget = getattr(bar, "container", None)
    if widget is not None and total:
        widget.children[1].max = total


def _bar(now: Progress, *, notebook: bool) -> Any:
    with warnings.catch_warnings():
        # It warns that there are no widgets; a line of text does as well.
        warnings.simplefilter("ignore")
        from tqdm.asyncio import tqdm_asyncio
        from tqdm.auto import tqdm
    wanted: dict[str, Any] = {"desc": now.model, "unit": " items", "total": now.total, "leave": False, "mininterval": 0}
    if notebook and tqdm is tqdm_asyncio:
        return tqdm(**wanted, file=_Line(), position=0, ncols=80)
    return tqdm(**wanted)


class _Line:
    """One line among a cell's outputs that changes in place. A notebook keeps all that goes to its stderr for good."""

    def __init__(self) -> None:
        from IPython import display

        kind: Any = display.DisplayHandle  # which has no types
        self._handle = kind()
        self._text: str | None = None

    def write(self, text: str) -> int:
        line = text.strip()
        if line != self._text:
            send = self._handle.display if self._text is None else self._handle.update
            send({"text/plain": line}, raw=True)
            self._text = line
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""
