"""From what was counted to what Prometheus reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from core.monitoring.collector import DatabaseCollector
from core.monitoring.counters import PROCESS

if TYPE_CHECKING:
    from core.database import Database


def exported(db: Database | None = None) -> CollectorRegistry:
    """What this process counts and, with `db`, what the database knows; `db` is asked when it is scraped."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PROCESS)
    if db is not None:
        registry.register(DatabaseCollector(db))
    return registry
