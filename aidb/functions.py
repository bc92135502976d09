"""Python functions as models: the decorator `model`.

::

    @aidb.model(outputs={"label": "BOOLEAN"}, rows="one", version="1")
    def has_bus(image):
        return {"label": [detect(picture) for picture in image]}

    con.register(has_bus)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Literal

from aidb.errors import InterfaceError, ProgrammingError

if TYPE_CHECKING:
    from aidb.spi import Columns, Input, ModelSpec, Values

_FORMS = ("any", "image", "encoded", "text", "audio", "value")


def model(
    inputs: Sequence[str] | Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    rows: Literal["one", "many"] = "one",
    *,
    version: str | int | None = None,
    name: str | None = None,
    batch_size: int | None = None,
    max_batch: int | None = None,
    device: str = "cpu",
    price_per_call: float = 0.0,
    seconds_per_item: float = 0.01,
    concurrency: int = 1,
    sequential: bool = False,
    retries: int = 0,
    backoff: float = 0.5,
) -> Callable[[Callable[..., Any]], FunctionModel]:
    """Make a model of a function (or of a class) that answers a batch at a time.

    The function gets one `pyarrow.Array` for each input; for content a list of numpy arrays (RGB ``uint8 [H, W, 3]``)
    or of str. It returns a dict of columns, a RecordBatch or a Table (or, with a single output and ``rows="one"``, the
    bare list or array): for ``rows="one"`` one row for each input row, in order; for ``rows="many"`` any number, with
    an integer column ``_row`` that says which input row (0-based in the batch) each belongs to. The function stays
    callable as it was.

    A class is a model with something to load: ``__init__`` without arguments runs once, before the first batch, in the
    thread of the query that needs it; ``__call__`` gets the batches; ``close``, if there is one, ends it.

    inputs: names, by default those of the parameters that have no default value (``*args``: any number of further
        columns); or name -> what comes: a form (``image``, ``encoded``, ``text``, ``audio``, ``value``, ``any``) or a
        DuckDB type that a plain column is cast to.
    outputs: name -> DuckDB type.
    version: the answers' version. With it, stored answers are good until it changes, whatever the code does. Without,
        they are good until the *code* changes: the bytecode of the function and of what it calls in your own files,
        constants, defaults, and the values of closure and global variables as they are when the model is registered.
        What that can't see: other versions of libraries and of Python's own modules, files and services, the inside of
        objects (a network's weights), values that the function itself changes. A new minor version of Python may
        change bytecode, and so ask for all answers anew. Give a version when a call is expensive or loads weights.
    batch_size, max_batch: preferred and greatest number of rows a call.
    device, price_per_call, seconds_per_item, concurrency, sequential, retries, backoff: see `aidb.spi.ModelSpec`. A
        sequential function with a parameter ``restart`` is told by it that a new file begins.

    Raises `aidb.ProgrammingError` for a declaration that contradicts itself or the function.

    >>> @model(outputs={"even": "BOOLEAN"}, version="1")
    ... def even(x):
    ...     return [v.as_py() % 2 == 0 for v in x]
    >>> even.name, [i.name for i in even.spec.inputs]
    ('even', ['x'])
    """
    if callable(inputs):
        raise ProgrammingError("write @aidb.model(outputs={...}) with parentheses: a model must declare its outputs")
    if not isinstance(outputs, Mapping) or not outputs:
        raise ProgrammingError("a model must declare its outputs: @aidb.model(outputs={'label': 'BOOLEAN'})")
    if rows not in ("one", "many"):
        raise ProgrammingError(f'rows must be "one" or "many", not {rows!r}')
    if sequential and concurrency > 1:
        raise ProgrammingError("a sequential model keeps state: it can't have a concurrency above 1")
    numbers = {"batch_size": batch_size, "max_batch": max_batch, "concurrency": concurrency}
    for option, value in numbers.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ProgrammingError(f"{option} must be a whole number of at least 1, not {value!r}")
    amounts = {"price_per_call": price_per_call, "seconds_per_item": seconds_per_item, "retries": retries}
    for option, amount in amounts.items():
        if not amount >= 0:
            raise ProgrammingError(f"{option} must not be negative, and is {amount!r}")
    settings: dict[str, Any] = {
        "rows": rows,
        "batch_size": batch_size,
        "max_batch": max_batch,
        "device": device,
        "price_per_call": price_per_call,
        "seconds_per_item": seconds_per_item,
        "concurrency": concurrency,
        "sequential": sequential,
        "retries": retries,
        "backoff": backoff,
    }
    declared = dict(outputs)

    def decorate(target: Callable[..., Any]) -> FunctionModel:
        return FunctionModel(target, inputs, declared, version, name, settings)

    return decorate


class FunctionModel:
    """A function (or class) that is also an `aidb.spi.Model`; made by `model`.

    name: how SQL calls it unless it is registered under another name.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        inputs: Sequence[str] | Mapping[str, str] | None,
        outputs: dict[str, str],
        version: str | int | None,
        name: str | None,
        settings: dict[str, Any],
    ) -> None:
        if not callable(target):
            raise ProgrammingError(f"@aidb.model decorates a function or a class, not a {type(target).__name__}")
        self.name = name or str(getattr(target, "__name__", type(target).__name__))
        self._target, self._outputs, self._version, self._settings = target, outputs, version, settings
        self._is_class = inspect.isclass(target)
        self._instance: Callable[..., Any] | None = None if self._is_class else target
        parameters = self._parameters()
        self._restart = settings["sequential"] and "restart" in parameters
        self._inputs, self._variadic = _inputs(self.name, inputs, parameters)
        update_wrapper(self, target, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself (or make an instance of the class)."""
        return self._target(*args, **kwargs)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {type_}" for name, type_ in self._outputs.items())
        return f"<model {self.name}({', '.join(n for n, _ in self._inputs)}) -> {shown}>"

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process makes its own instance of a class."""
        return {**vars(self), "_instance": None} if self._is_class else vars(self)

    @cached_property
    def spec(self) -> ModelSpec:
        """See `ModelSpec`. Made when first asked for, so that the fingerprint sees what the module defines later on."""
        from aidb.spi import ModelSpec, Output, arrow_type

        arguments = tuple(_argument(self.name, name, what) for name, what in self._inputs)
        for output, type_ in self._outputs.items():
            _check_output(self.name, output)
            try:
                arrow_type(type_)
            except ProgrammingError as e:
                raise ProgrammingError(f"model {self.name}, output {output!r}: {e}") from e
        _check_distinct(self.name, "outputs", list(self._outputs))
        return ModelSpec(
            inputs=arguments,
            outputs=tuple(Output(output, type_) for output, type_ in self._outputs.items()),
            variadic=self._variadic,
            fingerprint=self._fingerprint(),
            **self._settings,
        )

    def load(self) -> None:
        """Make the instance of a class; a function needs nothing."""
        if self._instance is None:
            self._instance = self._target()

    def predict(self, inputs: Sequence[Values], *, restart: bool = False) -> Columns:
        """Answer one batch; a bare column of a single output gets its name."""
        if self._instance is None:
            raise InterfaceError(f"model {self.name} was not loaded")
        answer = self._instance(*inputs, **({"restart": restart} if self._restart else {}))
        bare = not isinstance(answer, Mapping) and not hasattr(answer, "columns") and answer is not None
        if bare and len(self._outputs) == 1 and self._settings["rows"] == "one":
            return {next(iter(self._outputs)): answer}
        return answer  # whatever it is, the engine validates it

    def close(self) -> None:
        """Close the instance of a class and forget it."""
        if self._is_class and self._instance is not None:
            instance, self._instance = self._instance, None
            if callable(end := getattr(instance, "close", None)):
                end()

    def _parameters(self) -> dict[str, inspect.Parameter]:
        target: Callable[..., Any] = self._target
        if inspect.isclass(target):
            if "__call__" not in {name for base in target.__mro__[:-1] for name in vars(base)}:
                raise ProgrammingError(f"model {self.name}: the class needs a method __call__ that answers a batch")
            needed = [n for n, p in inspect.signature(target).parameters.items() if _is_needed(p)]
            if needed:
                raise ProgrammingError(
                    f"model {self.name}: __init__ is called without arguments, so {', '.join(needed)} must have a default"
                )
            found = dict(inspect.signature(target.__call__).parameters)
            found.pop(next(iter(found)), None)  # self
            return found
        try:
            return dict(inspect.signature(target).parameters)
        except (TypeError, ValueError) as e:
            raise ProgrammingError(f"model {self.name}: its parameters can't be told; wrap it in a def") from e

    def _fingerprint(self) -> str:
        from aidb.spi import fingerprint

        declared = [self._inputs, self._variadic, self._outputs, self._settings["rows"], self._settings["sequential"]]
        if self._version is not None:
            return fingerprint("python", self.name, "version", str(self._version), declared)
        from aidb.code_digest import digest

        return fingerprint("python", self.name, "code", digest(self._target), declared)


def _is_needed(p: inspect.Parameter) -> bool:
    return p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)


def _inputs(
    model: str, inputs: Sequence[str] | Mapping[str, str] | None, parameters: dict[str, inspect.Parameter]
) -> tuple[list[tuple[str, str | None]], bool]:
    """Name and form or type (None if not given) of each input, in order, and whether more may follow."""
    listed = list(parameters.values())
    variadic = any(p.kind is p.VAR_POSITIONAL for p in listed)
    positional = [p for p in listed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.name != "restart"]
    needed = [p.name for p in positional if p.default is p.empty]
    stray = [p.name for p in listed if p.kind is p.KEYWORD_ONLY and p.default is p.empty and p.name != "restart"]
    if stray:
        raise ProgrammingError(
            f"model {model}: inputs are passed by position, so {', '.join(stray)} after * would get nothing; "
            "give a default or move it before the *"
        )
    if inputs is None:
        chosen: list[tuple[str, str | None]] = [(name, None) for name in needed]
    elif isinstance(inputs, Mapping):
        chosen = list(inputs.items())
    elif isinstance(inputs, str):
        raise ProgrammingError(f"model {model}: inputs must be a list of names or a dict, not {inputs!r}")
    else:
        chosen = [(name, None) for name in inputs]
    names = [name for name, _ in chosen]
    if not chosen and not variadic:
        raise ProgrammingError(f"model {model} has no inputs: give the function a parameter for each column it needs")
    if len(chosen) < len(needed) or (len(chosen) > len(positional) and not variadic):
        raise ProgrammingError(
            f"model {model}: inputs are {', '.join(names)}, but the function takes "
            f"{', '.join(p.name for p in positional) or 'nothing'}"
        )
    _check_distinct(model, "inputs", names)
    return chosen, variadic


def _argument(model: str, name: str, what: str | None) -> Input:
    from aidb.spi import Input, arrow_type

    if what is None:
        return Input(name)
    if what.lower() in _FORMS:
        return Input(name, what.lower())  # type: ignore[arg-type]
    try:
        arrow_type(what)
    except ProgrammingError as e:
        raise ProgrammingError(
            f"model {model}, input {name!r}: {what!r} is neither a form ({', '.join(_FORMS)}) nor a DuckDB type"
        ) from e
    return Input(name, "value", what)


def _check_output(model: str, output: object) -> None:
    if not isinstance(output, str) or not output:
        raise ProgrammingError(f"model {model}: the name of an output must be a text, not {output!r}")
    if output.startswith("_"):
        raise ProgrammingError(
            f"model {model}: output {output!r} begins with an underscore; such names are the engine's"
        )


def _check_distinct(model: str, what: str, names: list[str]) -> None:
    lower = [n.lower() for n in names]
    for name in names:
        if lower.count(name.lower()) > 1:
            raise ProgrammingError(f"model {model}: two {what} are called {name!r} (letter case does not count in SQL)")
