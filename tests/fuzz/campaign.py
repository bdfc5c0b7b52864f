"""Runs Schemathesis, a client made of the document alone, against the service as one of its tenants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.stand import TENANTS, Stand

Answers = dict[str, Counter[int]]
# What a file, a cursor or a spec says may make no sense, though it fits the schema.
ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "412", "413", "422", "429"]
NO_HEADER_CHARACTERS = "".join(map(chr, range(0x20))) + "\x7f"
# Each of these waits for a child process that reads what was sent.
SLOW = ["upload_dataset", "pull_dataset", "read_dataset_values"]


@dataclass(frozen=True)
class Effort:
    """How many requests are made up for an operation, and in which phases."""

    examples: int
    slow_examples: int
    sequences: int
    phases: str = "examples,coverage,fuzzing,stateful"
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What came of it: `said` is Schemathesis's own report."""

    is_clean: bool
    said: str
    answers: Answers


def run(stand: Stand, tenant: str, effort: Effort, seed: int, folder: Path) -> Run:
    """As `tenant`; the other one looks whether it can see what it should not."""
    folder.mkdir()
    orders = {
        "url": f"http://127.0.0.1:{stand.port}",
        "prometheus_url": stand.prometheus_url,
        "key": stand.keys[tenant],
        "ids": stand.ids[tenant],
        "seed": seed,
        "counts_path": str(folder / "counts.json"),
    }
    (folder / "orders.json").write_text(json.dumps(orders))
    (folder / "users.json").write_text(json.dumps(_users(stand)))
    (folder / "schemathesis.toml").write_text(_configuration(tenant, effort))
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "--config-file", "schemathesis.toml", "run", f"{orders['url']}/openapi.json"]
    command += ["--phases", effort.phases, "--checks", "all", "--seed", str(seed), "--continue-on-failure"]
    command += [part for name in effort.only for part in ("--include-operation-id", name)]
    environment = os.environ | {
        "FORETRAIN_FUZZ_ORDERS": str(folder / "orders.json"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    counted = folder / "counts.json"
    counts = json.loads(counted.read_text()) if counted.exists() else {}
    answers = {
        name: Counter({int(status): times for status, times in by.items()}) for name, by in counts.items()
    }
    return Run(done.returncode == 0, done.stdout + done.stderr, answers)


def _users(stand: Stand) -> dict[str, object]:
    return {
        "auth": [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {stand.keys[name]}"}]}
            for name in TENANTS
        ]
    }


def _configuration(tenant: str, effort: Effort) -> str:
    return f"""
color = false
request-timeout = 60
wait-for-schema = 120

[generation]
max-examples = {effort.examples}
no-shrink = true
database = "none"
# A request with these is none to HTTP's own parser, which refuses it before the application is asked.
exclude-header-characters = {json.dumps(NO_HEADER_CHARACTERS)}

[phases.stateful.generation]
max-examples = {effort.sequences}

[auth.wfc]
path = "users.json"
user = "{tenant}"
peers = {json.dumps(TENANTS)}

[checks]
max_response_time = 120

[checks.positive_data_acceptance]
expected-statuses = {json.dumps(ACCEPTED)}

[[operations]]
include-operation-id = {json.dumps(SLOW)}
generation.max-examples = {effort.slow_examples}
""".lstrip()
