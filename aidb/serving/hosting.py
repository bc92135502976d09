"""From a line of the settings to a model object: a provider with its options, or a Python function."""

from __future__ import annotations

import importlib
import os
import sys

from aidb.errors import Error, ModelError, NotSupportedError, ProgrammingError
from aidb.exec.models import make
from aidb.protocol.columns import wire_type
from aidb.serving.settings import Hosted
from aidb.spi import Model, arrow_type


def host(hosted: Hosted, device: str | None) -> Model:
    """The model, not loaded; raises an `aidb.errors.Error` that says why there is none.

    device: the option ``device`` of its provider, if there is one to set.
    """
    model = _function(hosted) if hosted.function else make(hosted.name, hosted.provider, _options(hosted, device))
    if model.spec.sequential:
        raise NotSupportedError(
            f"model {hosted.name} keeps state along a file: a server, which mixes its clients' items, can't host it"
        )
    for output in model.spec.outputs:
        wire_type(arrow_type(output.type))
    return model


def _options(hosted: Hosted, device: str | None) -> dict[str, object]:
    return {**hosted.options, **({} if device is None else {"device": device})}


def _function(hosted: Hosted) -> Model:
    module, _, path = hosted.function.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: object = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except Error:
        raise
    except Exception as e:
        # The user's own module: whatever it raises means that the model is not to be had.
        raise ModelError(f"model {hosted.name}: {hosted.function} can't be imported: {type(e).__name__}: {e}") from e
    if not isinstance(found, Model):
        raise ProgrammingError(f"model {hosted.name}: {hosted.function} is no model; decorate it with @aidb.model(...)")
    return found
