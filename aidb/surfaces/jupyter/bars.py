"""A bar for each model that is running: a widget where the notebook has widgets, else a line of text."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aidb.exec.control import Progress

_SOON = 0.5  # seconds; what is over by then needs no bar


@contextmanager
def bars() -> Iterator[Callable[[Progress], None]]:
    """A progress callback, whose bars are gone at the end."""
    shown: dict[str, Any] = {}

    def advance(now: Progress) -> None:
        bar = shown.get(now.model)
        if bar is None:
            if now.seconds < _SOON:
                return
            bar = shown[now.model] = _tqdm()(desc=now.model, unit=" items", leave=False, total=now.total)
        bar.total = now.total
        said = {"failed": now.failed or None, "cost": f"{now.cost:.4g}" if now.cost else None}
        bar.set_postfix({name: value for name, value in said.items() if value is not None}, refresh=False)
        bar.update(now.done - bar.n)

    try:
        yield advance
    finally:
        for bar in shown.values():
            bar.close()


def _tqdm() -> Any:
    with warnings.catch_warnings():
        # It warns that there are no widgets; a line of text does as well.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm
