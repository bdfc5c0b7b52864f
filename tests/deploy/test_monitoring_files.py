"""The dashboard and the alerts speak only of what is exported, and the page of both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.database import Database
from core.monitoring.exposition import exported
from core.workers import service as workers

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "foretrain.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
PAGE = (ROOT / "docs" / "monitoring.md").read_text()
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    yield from (alert["expr"] for alert in alerts())


@pytest.fixture
def families(sqlite: Database) -> dict[str, str]:
    """Type by name, of all that an API process exports."""
    gpu = {"index": 0, "utilization": 0.5, "memory_used_bytes": 1, "memory_bytes": 2}
    with sqlite.sessions.begin() as session:
        workers.announce(
            session, name="w", queue="gpu", devices=1, threads=1, hardware={}, readings={"gpus": [gpu]}
        )
    return {family.name: family.type for family in exported(sqlite).collect()}


def test_every_name_has_the_one_prefix(families: dict[str, str]) -> None:
    assert len(families) >= 25
    assert {name.split("_")[0] for name in families} == {"foretrain"}


def test_dashboard_and_alerts_ask_only_for_what_is_exported(families: dict[str, str]) -> None:
    samples = {name + suffix for name, kind in families.items() for suffix in SUFFIXES[kind]}
    asked = {name for expression in expressions() for name in re.findall(r"\bforetrain_\w+", expression)}

    assert len(asked) >= 15
    assert asked <= samples


def test_the_page_explains_every_family_and_every_alert(families: dict[str, str]) -> None:
    named = {name + ("_total" if kind == "counter" else "") for name, kind in families.items()}
    own = {name for name in named if not name.startswith("foretrain_process_")}
    assert own <= set(re.findall(r"`(foretrain_\w+)`", PAGE))

    headings = re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)
    assert [alert["alert"] for alert in alerts()] == headings
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/monitoring.md#{alert['alert'].lower()}"
