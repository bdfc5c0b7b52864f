"""`foretrain up` as a person runs it, and an API for those who call it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.foretrain.serving import Running, run_api
from tests.launching import Launcher


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    with ExitStack() as stack:
        yield Launcher(stack)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Running]:
    """One for all tests: each adds what it is about."""
    with run_api(tmp_path_factory.mktemp("service"), sqlite_template) as service:
        yield service


@pytest.fixture(scope="session")
def finished_job(running: Running) -> str:
    """A job that has succeeded; nobody changes it."""
    return running.finish_job()
