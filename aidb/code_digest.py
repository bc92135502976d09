"""A digest of a function's code, the same in every process: stored answers are good as long as it stays.

What goes in: bytecode and constants of the function, of functions and classes that it uses by name from files of the
user's own (nothing of the standard library or of installed packages but their names), default values, and the plain
values (numbers, texts, containers, arrays...) of the closure and global variables that it reads. A variable that the
code itself changes (``seen.append(x)``, ``count[k] += 1``, ``global n``) is state, not a constant, and stays out. Of any
other object only the type goes in. Line numbers, comments and file names don't matter.
"""

from __future__ import annotations

import datetime
import decimal
import dis
import enum
import fractions
import functools
import hashlib
import inspect
import json
import pathlib
import re
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

_ATOMS = (
    type(None), bool, int, float, complex, str, bytes, type(...), range, slice, decimal.Decimal, fractions.Fraction,
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, pathlib.PurePath,
)  # fmt: skip
_CHANGERS = frozenset(
    (
        "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop", "popitem",
        "popleft", "put", "remove", "reverse", "rotate", "setdefault", "sort", "subtract", "update", "write",
    )
)  # fmt: skip
_LIBRARY = tuple({sysconfig.get_paths()[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")})
_NOT_CODE = frozenset(
    (
        "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__static_attributes__",
        "__weakref__",
    )
)  # fmt: skip


def digest(target: Callable[..., Any]) -> str:
    """Hexadecimal SHA-256 of what the answers of ``target`` (a function, class or callable object) depend on."""
    return hashlib.sha256(json.dumps(_Describer().of(target)).encode()).hexdigest()


class _Describer:
    """Turns values into nested lists that say the same in every process."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[int, object]] = {}  # the object itself is kept, lest its id be given to another

    def of(self, value: object) -> object:
        if isinstance(value, enum.Enum):
            return ["enum", type(value).__qualname__, value.name]
        if isinstance(value, _ATOMS):
            return [type(value).__name__, repr(value)]
        if isinstance(value, (tuple, frozenset)):  # the compiler may or may not share equal ones: never by reference
            return self.container(value)
        if id(value) in self.seen:
            return ["again", self.seen[id(value)][0]]
        self.seen[id(value)] = (len(self.seen), value)
        if isinstance(value, types.CodeType):
            return self.code(value)
        if isinstance(value, types.FunctionType):
            return self.function(value)
        if isinstance(value, type):
            return self.class_(value)
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        return self.container(value) or self.other(value)

    def container(self, value: object) -> object:
        name = type(value).__name__
        if isinstance(value, (list, tuple)):
            return [name, [self.of(v) for v in value]]
        if isinstance(value, (set, frozenset)):
            # Members are described afresh: a reference to an earlier one would depend on the order of the set.
            return [name, sorted(json.dumps(_Describer().of(v)) for v in value)]
        if isinstance(value, Mapping):
            return [name, [[self.of(k), self.of(v)] for k, v in value.items()]]
        if isinstance(value, (bytearray, memoryview)):
            return [name, bytes(value).hex()]
        if isinstance(value, re.Pattern):
            return [name, self.of(value.pattern), value.flags]
        if type(value).__module__ == "numpy" and hasattr(value, "tobytes") and hasattr(value, "dtype"):
            if value.dtype.hasobject:
                return [name, self.of(value.tolist())]  # type: ignore[attr-defined]
            shape = list(getattr(value, "shape", ()))
            return [name, str(value.dtype), shape, hashlib.sha256(value.tobytes()).hexdigest()]
        if is_dataclass(value):
            return [self.of(type(value)), [[f.name, self.of(getattr(value, f.name, None))] for f in fields(value)]]
        return None

    def other(self, value: Any) -> object:
        if isinstance(value, functools.partial):
            return ["partial", self.of(value.func), self.of(value.args), self.of(value.keywords)]
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, (staticmethod, classmethod)):
            return [type(value).__name__, self.of(value.__func__)]
        if isinstance(value, property):
            return ["property", self.of(value.fget)]
        if isinstance(value, types.BuiltinFunctionType):
            return ["builtin", value.__module__, value.__qualname__]
        if callable(wrapped := inspect.getattr_static(value, "__wrapped__", None)):
            return ["wrapper", self.of(wrapped)]
        return ["object", self.of(type(value))]

    def function(self, f: types.FunctionType) -> object:
        if _is_library(f.__code__.co_filename):
            return ["function", f.__module__, f.__qualname__]
        state = _changed(f.__code__)
        captured: list[object] = []
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            if name not in state:
                captured.append([name, _described_cell(self, cell)])
        for name, attribute in _globals_of(f.__code__):
            if name in f.__globals__ and name not in state:
                value = f.__globals__[name]
                if attribute is not None and isinstance(value, types.ModuleType) and _is_own(value):
                    value = getattr(value, attribute, value)
                captured.append([name, attribute, self.of(value)])
        return ["function", self.code(f.__code__), self.of(f.__defaults__), self.of(f.__kwdefaults__), captured]

    def class_(self, cls: type) -> object:
        module = sys.modules.get(cls.__module__)
        if module is not None and not _is_own(module):
            return ["type", cls.__module__, cls.__qualname__]
        members = [[name, self.of(v)] for name, v in vars(cls).items() if name not in _NOT_CODE]
        return ["type", cls.__qualname__, [self.of(base) for base in cls.__bases__], members]

    def code(self, c: types.CodeType) -> object:
        return [
            "code",
            c.co_code.hex(),
            c.co_exceptiontable.hex(),
            [self.code(k) if isinstance(k, types.CodeType) else _Describer().of(k) for k in c.co_consts],
            [c.co_names, c.co_varnames, c.co_freevars, c.co_cellvars],
            [c.co_argcount, c.co_posonlyargcount, c.co_kwonlyargcount, c.co_flags],
        ]


def _described_cell(describer: _Describer, cell: types.CellType) -> object:
    try:
        return describer.of(cell.cell_contents)
    except ValueError:  # not filled yet
        return "empty"


def _instructions(code: types.CodeType) -> Iterator[list[dis.Instruction]]:
    """Those of a code object, then those of each function, lambda or comprehension inside it."""
    yield list(dis.get_instructions(code))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)


def _globals_of(code: types.CodeType) -> list[tuple[str, str | None]]:
    """Global names that the code reads, each with the attribute that is taken from it at once, if any."""
    found: dict[tuple[str, str | None], None] = {}
    for instructions in _instructions(code):
        for now, after in zip(instructions, [*instructions[1:], None], strict=True):
            if now.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                attribute = after.argval if after and after.opname in ("LOAD_ATTR", "LOAD_METHOD") else None
                found[now.argval, attribute] = None
    return list(found)


def _changed(code: types.CodeType) -> set[str]:
    """Names of variables whose value the code changes: rebound, filled by item, or by a method such as ``append``."""
    changed: set[str] = set()
    for instructions in _instructions(code):
        loads = {}
        for now, after in zip(instructions, [*instructions[1:], None], strict=True):
            if now.opname in ("STORE_GLOBAL", "STORE_DEREF", "DELETE_GLOBAL", "DELETE_DEREF"):
                changed.add(now.argval)
            elif now.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF"):
                loads[_start(now)] = now.argval
                if after and after.opname in ("LOAD_ATTR", "LOAD_METHOD") and after.argval in _CHANGERS:
                    changed.add(now.argval)
        for now in instructions:
            if now.opname in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE") and _start(now) in loads:
                changed.add(loads[_start(now)])  # `name[...] = x` starts where `name` does
    return changed


def _start(instruction: dis.Instruction) -> tuple[int | None, int | None] | int:
    at = instruction.positions
    return (at.lineno, at.col_offset) if at is not None and at.lineno is not None else -instruction.offset - 1


def _is_library(filename: str) -> bool:
    return filename.startswith((*_LIBRARY, "<frozen"))


def _is_own(module: types.ModuleType) -> bool:
    """Is this module one of the user's files (or the notebook, or the prompt)?"""
    name = module.__name__.partition(".")[0]
    if name == "__main__":
        return True
    file = getattr(module, "__file__", None)
    return file is not None and not _is_library(file) and name != "aidb"
