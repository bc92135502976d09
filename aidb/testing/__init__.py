"""Fakes and contract tests for the authors of models and connectors."""
