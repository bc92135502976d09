"""Fakes and contract tests for the authors of models and connectors."""

from aidb.testing.fakes import FakeModel, items_of
from aidb.testing.models import ModelContract

__all__ = ["FakeModel", "ModelContract", "items_of"]
