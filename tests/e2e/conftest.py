"""A small fleet, as a file an operations engineer might upload."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `write_tiny_csv` makes it."""
    return write_tiny_csv(tmp_path_factory.mktemp("data") / "tiny.csv")


def write_tiny_csv(path: Path) -> Path:
    """Three servers, 120 steps of five minutes, two metrics; the path itself."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = ["timestamp,server,cpu_percent,memory_percent"]
    for server in range(3):
        for step in range(120):
            stamp = (start + timedelta(minutes=5 * step)).isoformat()
            cpu = 40 + 20 * math.sin(step / 9 + server) + 3 * math.sin(step * 1.7)
            memory = 60 + 5 * math.cos(step / 20) + server
            rows.append(f"{stamp},web-{server},{cpu:.3f},{memory:.3f}")
    path.write_text("\n".join(rows) + "\n")
    return path
