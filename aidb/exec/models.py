"""Models at hand: made from their definitions when first asked for, loaded once, kept until closed."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from aidb.catalog import discover
from aidb.catalog.definitions import ModelDefinition
from aidb.errors import Error, ModelError, ProgrammingError
from aidb.spi import Model, ModelSpec, Options, ServiceError

PYTHON = "python"
"""Provider of a function that was registered from Python."""


def make(name: str, provider: str, options: Mapping[str, object]) -> Model:
    """A model from what CREATE MODEL says. Raises `ProgrammingError` or `UnknownName` for what is wrong in it."""
    factory = discover.load("aidb.models", provider)
    try:
        model: Model = factory(name, Options(options, f"model {name}"))
        spec = model.spec
    except Error:
        raise
    except (ServiceError, ImportError, OSError, ValueError, TypeError) as e:
        raise ModelError(f"model {name} ({provider}) can't be made: {e}", name) from e
    check_spec(name, spec)
    return model


def check_spec(name: str, spec: ModelSpec) -> None:
    """Refuse a model whose description contradicts itself."""
    if not spec.inputs:
        raise ProgrammingError(f"model {name} declares no input")
    if not spec.outputs:
        raise ProgrammingError(f"model {name} declares no output")
    seen: set[str] = set()
    for output in spec.outputs:
        if output.name.lower() in seen or output.name.startswith("_"):
            why = "appears twice" if output.name.lower() in seen else "begins with an underscore, which is reserved"
            raise ProgrammingError(f"model {name}: the output {output.name!r} {why}")
        seen.add(output.name.lower())


def definition_of(name: str, provider: str, options: Mapping[str, object], spec: ModelSpec) -> ModelDefinition:
    """What is kept of a model in the database."""
    return ModelDefinition(
        name,
        provider,
        dict(options),
        spec.fingerprint,
        spec.rows,
        tuple(i.name for i in spec.inputs),
        tuple((o.name, o.type) for o in spec.outputs),
        spec.price_per_call,
        spec.seconds_per_item,
        spec.sequential,
        spec.device,
        spec.variadic,
    )


class ModelPool:
    """The live objects behind the models of one connection."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._loaded: set[int] = set()
        self._busy: dict[str, threading.RLock] = {}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._models

    def put(self, name: str, model: Model) -> None:
        """Keep a model under a name; an earlier one of the name is closed."""
        self.forget(name, unless=model)
        self._models[name.lower()] = model

    def get(self, definition: ModelDefinition) -> Model:
        """The model of a definition, made if need be. Raises if it can't be made."""
        model = self._models.get(definition.name.lower())
        if model is None:
            if definition.provider == PYTHON:
                raise ProgrammingError(
                    f"model {definition.name} is a Python function that is not registered in this process: "
                    f"con.register({definition.name}) makes it available; answers that are stored need no model"
                )
            model = make(definition.name, definition.provider, definition.options)
            self._models[definition.name.lower()] = model
        return model

    def loaded(self, definition: ModelDefinition) -> Model:
        """The model of a definition, ready to predict. Raises `ModelError` if it can't get ready."""
        model = self.get(definition)
        if id(model) not in self._loaded:
            try:
                model.load()
            except Error:
                raise
            except Exception as e:
                # A model's own code: whatever it raises means that the model is not to be had.
                raise ModelError(f"model {definition.name} can't be loaded: {e}", definition.name) from e
            self._loaded.add(id(model))
        return model

    def differs(self, definition: ModelDefinition) -> bool:
        """Is the object at hand another version than the definition tells of?"""
        model = self._models.get(definition.name.lower())
        return model is not None and model.spec.fingerprint != definition.fingerprint

    def drop_outdated(self, name: str) -> bool:
        """Close and drop a model that found out that it is not what it was made as; was it so?"""
        if not getattr(self._models.get(name.lower()), "outdated", False):
            return False
        self.forget(name)
        return True

    def lock(self, name: str) -> threading.RLock:
        """Held while a model answers: two statements never ask it about the same items at the same time."""
        return self._busy.setdefault(name.lower(), threading.RLock())

    def forget(self, name: str, unless: Model | None = None) -> None:
        """Close a model and drop it."""
        model = self._models.pop(name.lower(), None)
        if model is not None and model is not unless and id(model) in self._loaded:
            self._loaded.discard(id(model))
            model.close()

    def close(self) -> None:
        """Close all models."""
        for name in list(self._models):
            self.forget(name)
