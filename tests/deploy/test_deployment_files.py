"""Compose file, Kubernetes manifests and the operations page speak of what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from core.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MANIFESTS = [
    document
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
PACKAGES = ("api", "core", "worker", "trainer", "foretrain")
WRITTEN = {
    name
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    for name in re.findall(r"\bFORETRAIN_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
}
VARIABLES = {f"FORETRAIN_{name.upper()}" for name in Settings.model_fields} | WRITTEN


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, service) for name, service in SERVICES.items() if "build" in service)


def pods() -> Iterator[dict[str, Any]]:
    return (
        document["spec"]["template"]["spec"]
        for document in MANIFESTS
        if "template" in document.get("spec", {})
    )


def test_every_variable_that_a_deployment_sets_is_read() -> None:
    asked = {name for _, service in ours() for name in service["environment"]}
    asked |= {name for document in MANIFESTS for name in document.get("data", {})}
    assert len(asked) > 10
    assert {name for name in asked if name.startswith("FORETRAIN_")} <= VARIABLES


def test_every_secret_file_is_named_like_a_setting_and_mounted() -> None:
    for name, service in ours():
        mounted = set(service["secrets"])
        assert mounted <= {variable.lower() for variable in VARIABLES}, name
        assert mounted <= set(COMPOSE["secrets"]), name


def test_every_variable_is_on_the_operations_page() -> None:
    undocumented = {name for name in VARIABLES if f"`{name}`" not in OPERATIONS}
    assert undocumented == set()


def test_no_container_may_more_than_it_needs() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] not in {"root", "0", "0:0"}, name
        assert {"memory", "pids"} <= service["deploy"]["resources"]["limits"].keys(), name
        assert service["logging"]["options"]["max-size"], name
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_what_goes_on_running_is_watched_and_has_time_to_end() -> None:
    grace_seconds: float = Settings.model_fields["stop_grace_seconds"].default
    for name, service in SERVICES.items():
        if service["restart"] != "no":
            assert service["healthcheck"]["test"], name
    for name, service in ours():
        if service["restart"] != "no":
            assert int(service["stop_grace_period"].removesuffix("s")) > grace_seconds, name
    for document in MANIFESTS:
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            assert pod["terminationGracePeriodSeconds"] > grace_seconds
            assert all("livenessProbe" in container for container in pod["containers"])


def test_nothing_serves_before_the_database_is_migrated() -> None:
    for name, service in ours():
        if service["restart"] != "no":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}, name


def test_all_images_are_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    images = {service["image"] for _, service in ours()}
    images |= {container["image"] for pod in pods() for container in pod["containers"]}
    assert images == {f"foretrain-{kind}:{version[1]}" for kind in ("api", "worker")}
