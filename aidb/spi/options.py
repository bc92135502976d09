"""The options of a WITH clause, read with types and with errors that name the option."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from aidb.errors import ProgrammingError, UnknownName

T = TypeVar("T")
_MISSING = object()


class Options(Mapping[str, object]):
    """An immutable, case-insensitive mapping of option to value; `take` reads one, `refuse_unknown` ends the reading.

    >>> o = Options({"FPS": 5})
    >>> o.take("fps", float, None)
    5.0
    """

    def __init__(self, values: Mapping[str, object] | None = None, owner: str = "") -> None:
        self._values = {k.lower(): v for k, v in (values or {}).items()}
        self.owner = owner

    def __getitem__(self, name: str) -> object:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Options({', '.join(sorted(self._values))})"  # names only: a value may be private

    def take(self, name: str, type_: Callable[[object], T], default: object = _MISSING) -> T:
        """The value of an option as ``type_``; without a default the option must be there."""
        if name.lower() not in self._values:
            if default is _MISSING:
                raise ProgrammingError(
                    f"{self.owner + ' needs' if self.owner else 'missing'} the option {name!r}: WITH ({name} = ...)"
                )
            return default  # type: ignore[return-value]
        value = self._values[name.lower()]
        if type_ is bool and not isinstance(value, bool):
            raise ProgrammingError(f"option {name!r} must be true or false, not {value!r}")
        try:
            return type_(value)
        except (TypeError, ValueError) as e:
            raise ProgrammingError(
                f"option {name!r}: {value!r} is not a valid {getattr(type_, '__name__', type_)}: {e}"
            ) from e

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        """Raise UnknownName for the first option that is not in ``known``."""
        for name in self._values:
            if name not in known:
                raise UnknownName.of(f"option{' of ' + self.owner if self.owner else ''}", name, known)
