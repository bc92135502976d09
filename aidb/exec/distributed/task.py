"""What travels between the process that asks and a worker that answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aidb.catalog.definitions import FillDefinition, ModelDefinition
from aidb.errors import Error
from aidb.exec.inputs import JobInputs
from aidb.storage.answers import AnsweredBatch

ROW_NUMBER = "__aidb_row"
"""A column of int64 beside the keys: which row of its chunk an item is."""

Refused = Mapping[str, Mapping[str, str]]
"""Connector -> uri -> why it may not be read."""


@dataclass(frozen=True)
class Order:
    """A model that a worker shall have.

    token: another one means another object. pickled: it comes as an object, not from its definition.
    """

    definition: ModelDefinition
    token: str
    pickled: bool


@dataclass(frozen=True)
class Task:
    """What a worker needs to know of a run before it gets rows; one fill, its inputs and its model for each job.

    connectors: those that were registered, pickled, or why they can't be. environment: variables with the secrets that
    options name; never shown.
    """

    id: str
    fills: tuple[FillDefinition, ...]
    inputs: tuple[JobInputs, ...]
    orders: tuple[Order, ...]
    batch_size: int | None
    memory_limit: int
    on_error: str
    connectors: Mapping[str, bytes | str] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Answers:
    """Some batches of a chunk; their keys have the column `ROW_NUMBER`. To be stored together."""

    batches: tuple[AnsweredBatch, ...]


@dataclass(frozen=True)
class Done:
    """A chunk is over. asked: model -> items that were sent to it. error: why not all were, if that is a reason to stop.

    outdated: models that found out that they are not what they were made as.
    """

    asked: Mapping[str, int]
    error: Error | None = None
    outdated: tuple[str, ...] = ()
