"""The service under test is the one of tests/api."""

from tests.api.conftest import plain_log

__all__ = ["plain_log"]
