"""Models that turn out, while a statement is planned, not to be what they were: it is planned again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aidb.errors import OperationalError

T = TypeVar("T")
TIMES = 16
"""More often than models are changed by hand while one statement is planned."""


class ModelsChanged(Exception):
    """A model's weights or code have changed since its answers were stored: what was planned is void."""


def again(work: Callable[[], T], between: Callable[[], None]) -> T:
    """Do it, and once more whenever it raises `ModelsChanged`. Raises `OperationalError` for a fingerprint that never stays."""
    for _ in range(TIMES):
        try:
            return work()
        except ModelsChanged:
            between()
    raise OperationalError(
        "a model has another fingerprint whenever it is asked for it: a fingerprint must stay while the answers do"
    )
