"""Fakes and contract tests for the authors of models and connectors."""

from aidb.testing.connectors import ConnectorContract
from aidb.testing.fakes import FakeModel, items_of
from aidb.testing.faults import FailingModel
from aidb.testing.memory import MemoryConnector
from aidb.testing.models import ModelContract
from aidb.testing.service import FaultyService
from aidb.testing.tables import table_model

__all__ = [
    "ConnectorContract",
    "FailingModel",
    "FakeModel",
    "FaultyService",
    "MemoryConnector",
    "ModelContract",
    "items_of",
    "table_model",
]
