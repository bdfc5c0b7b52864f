"""Rows and files that the dataset tests start from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.dataset.schema import DatasetSchema, Finding

    Rows = list[dict[str, Any]]

START = datetime(2026, 3, 1, tzinfo=UTC)


def stamp(step: int, *, seconds: int = 300, offset: float = 0.0) -> str:
    return (START + timedelta(seconds=step * seconds + offset)).isoformat()


def fleet(servers: int = 2, steps: int = 30, *, seconds: int = 300) -> Rows:
    """Rows of servers a, b, … with a load that differs from row to row."""
    return [
        {
            "timestamp": stamp(step, seconds=seconds),
            "server": chr(ord("a") + server),
            "cpu_percent": (7 * step + 13 * server) % 50 + 0.5,
        }
        for server in range(servers)
        for step in range(steps)
    ]


def as_csv(rows: Rows) -> str:
    names = list(rows[0])
    lines = [",".join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
    return "\n".join([",".join(names), *lines]) + "\n"


def finding_of(schema: DatasetSchema, code: str) -> Finding:
    found: dict[str, Finding] = {finding.code: finding for finding in schema.findings}
    assert code in found, f"{code} is not among {sorted(found)}"
    return found[code]


def as_ndjson(rows: Rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
