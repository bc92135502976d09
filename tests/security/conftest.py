"""What tests of security share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aidb_connectors import web

from tests.security.web import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    web._client.cache_clear()
    server = Server()
    yield server
    server.close()
    web._client.cache_clear()
