"""Reads what is exported."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from core.database import Database
from core.monitoring.collector import DatabaseCollector


def scrape(db: Database) -> CollectorRegistry:
    """Fresh: a collector of its own holds no earlier look."""
    registry = CollectorRegistry()
    registry.register(DatabaseCollector(db))
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """One sample, by its name without the prefix; None where there is none."""
    return registry.get_sample_value(f"foretrain_{name}", labels)
