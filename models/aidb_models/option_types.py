"""The types that options of models share: each reads one value of a WITH clause, or says why it can't."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from aidb.errors import ProgrammingError
from aidb.spi.options import Options

COMMON = ("batch_size", "price_per_call")
"""Options that every model takes; see `Common`."""


@dataclass(frozen=True)
class Common:
    """What every model may be told: the preferred ``batch_size`` (items a call) and ``price_per_call`` (money an item)."""

    batch_size: int | None
    price_per_call: float

    @classmethod
    def read(cls, options: Options) -> Common:
        """Take both from a WITH clause."""
        return cls(options.take("batch_size", positive_int, None), options.take("price_per_call", not_negative, 0.0))


def refuse_for_task(options: Options, task: str, **names: tuple[str, ...]) -> None:
    """Raise ProgrammingError for an option that only another task reads: it would be ignored without a word.

    names: for each task, the options that are its own.
    """
    mine = names.get(task, ())
    for other, only in names.items():
        for name in only:
            if name in options and name not in mine:
                raise ProgrammingError(
                    f"option {name!r} belongs to task = {other!r}, and this model's task is {task!r}"
                )


def text(value: object) -> str:
    """A non-empty string."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a text in quotes")
    return value


def number(value: object) -> float:
    """A finite number."""
    if isinstance(value, bool):
        raise TypeError("expected a number")
    result = float(value)  # type: ignore[arg-type]
    if not math.isfinite(result):
        raise ValueError("expected a finite number")
    return result


def not_negative(value: object) -> float:
    """A finite number >= 0."""
    result = number(value)
    if result < 0:
        raise ValueError("must not be negative")
    return result


def fraction(value: object) -> float:
    """A number from 0 to 1."""
    result = number(value)
    if not 0 <= result <= 1:
        raise ValueError("must lie between 0 and 1")
    return result


def positive_int(value: object) -> int:
    """A whole number >= 1."""
    result = number(value)
    if result != int(result) or result < 1:
        raise ValueError("expected a whole number of at least 1")
    return int(result)


def whole(value: object) -> int:
    """A whole number >= 0."""
    result = number(value)
    if result != int(result) or result < 0:
        raise ValueError("expected a whole number of at least 0")
    return int(result)


def numbers(value: object) -> tuple[float, ...]:
    """One finite number, or a list of them."""
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError("expected at least one number")
        return tuple(number(v) for v in value)
    return (number(value),)


def height_width(value: object) -> tuple[int, int]:
    """One side in pixels, or a list of height and width."""
    sides = [positive_int(v) for v in value] if isinstance(value, (list, tuple)) else [positive_int(value)] * 2
    if len(sides) != 2:
        raise ValueError("expected one number, or [height, width]")
    return sides[0], sides[1]


def names(value: object) -> tuple[str, ...]:
    """One name, or a list of names."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not items or not all(isinstance(v, str) and v for v in items):
        raise ValueError("expected a text or a list of texts")
    return tuple(items)


def one_of(*choices: str) -> Callable[[object], str]:
    """A type that accepts one of some words, in any letter case.

    >>> one_of("rgb", "bgr")("RGB")
    'rgb'
    """

    def choice(value: object) -> str:
        word = str(value).lower()
        if word not in choices:
            raise ValueError(f"choose {', '.join(choices[:-1])} or {choices[-1]}")
        return word

    choice.__name__ = " | ".join(choices)
    return choice
