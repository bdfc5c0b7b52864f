"""Callers of a service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from foretrain.client import Client
from tests.foretrain.serving import Running


@pytest.fixture(scope="session")
def client(running: Running) -> Iterator[Client]:
    with Client(running.url, running.key) as caller:
        yield caller
