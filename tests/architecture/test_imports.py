"""What may load what, seen from fresh interpreters."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest

OURS = ("api", "core", "worker", "trainer", "foretrain", "migrations")
TRAINING = {"torch", "lightning", "pytorch_lightning", "pytorch_forecasting", "pandas", "matplotlib", "scipy"}
SERVER = {"fastapi", "sqlalchemy", "celery", "obstore", "pyarrow", "numpy", "api", "worker"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules loaded by a fresh interpreter that ran the statement."""
    listing = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    script = f"{statement}\n{listing}"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("module", ["api.main", "worker.app", "core.scheduler", "foretrain.cli"])
def test_the_service_and_the_command_line_load_no_training_library(module: str) -> None:
    assert not modules_after(f"import {module}") & TRAINING


def test_the_spec_needs_pydantic_alone() -> None:
    loaded = modules_after("import trainer.spec")
    assert "pydantic" in loaded
    assert not loaded & (TRAINING | SERVER)


def test_the_client_needs_no_server_library() -> None:
    loaded = modules_after("import foretrain.client")
    assert not loaded & (TRAINING | SERVER)


def test_no_dependency_brings_a_package_named_like_ours() -> None:
    owners = importlib.metadata.packages_distributions()
    strangers = {name: set(owners.get(name, [])) - {"foretrain"} for name in OURS}
    assert not any(strangers.values()), strangers
