"""`foretrain up` as a person runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.launching import Launcher


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    with ExitStack() as stack:
        yield Launcher(stack)
