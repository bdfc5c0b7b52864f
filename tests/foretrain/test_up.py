from __future__ import annotations

import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.launching import DEADLINE, Launcher, Service
from tests.processes import Watch, eventually

pytestmark = pytest.mark.slow


def list_jobs(service: Service) -> httpx2.Response:
    return httpx2.get(f"{service.url}/v1/jobs", headers={"Authorization": f"Bearer {service.key}"})


def runs_anew(service: Service, program: str, before: int) -> bool:
    return service.pid_of(program) != before


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_key_and_prints_the_curl_line_that_submits(
    launcher: Launcher, tmp_path: Path
) -> None:
    service = launcher.start(tmp_path / "data")

    assert list_jobs(service).status_code == 200
    assert service.stop(signal.SIGTERM) == 0
    assert service.process.stdout is not None
    shown = service.process.stdout.read()
    assert re.search(r"curl .* --json '.*target_metrics.*' http://127\.0\.0\.1:\d+/v1/jobs", shown)
    assert service.key not in shown


def test_the_next_start_finds_what_the_one_before_left(launcher: Launcher, tmp_path: Path) -> None:
    first = launcher.start(tmp_path / "data")
    key = first.key
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "text/csv"}
    csv = "timestamp,cpu_percent\n" + "".join(
        f"2026-01-{day:02}T{hour:02}:00:00Z,{hour}.5\n" for day in range(1, 15) for hour in range(24)
    )
    uploaded = httpx2.post(f"{first.url}/v1/datasets", headers=headers, content=csv, timeout=DEADLINE)
    assert first.stop(signal.SIGTERM) == 0

    second = launcher.start(tmp_path / "data")

    assert second.key == key
    found = httpx2.get(f"{second.url}/v1/datasets/{uploaded.json()['id']}", headers=headers)
    assert found.status_code == 200
    assert second.stop(signal.SIGTERM) == 0


def test_ctrl_c_leaves_nothing_running(launcher: Launcher, tmp_path: Path) -> None:
    service = launcher.start(tmp_path / "data")
    service.pid_of("foretrain worker")
    service.pid_of("valkey-server")

    assert service.stop(signal.SIGINT) == 0
    assert not (tmp_path / "data" / "run" / "url").exists()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """For tests that leave it as it is."""
    with ExitStack() as stack:
        yield Launcher(stack).start(tmp_path_factory.mktemp("up") / "data")


def test_a_second_one_on_the_same_data_is_refused(launcher: Launcher, running: Service) -> None:
    second = launcher.launch(running.data_dir)

    _, error = second.communicate(timeout=DEADLINE)
    assert second.returncode == 2
    assert f"already runs on {running.url}" in error
    assert "Traceback" not in error
    assert list_jobs(running).status_code == 200


def test_a_taken_port_is_refused_before_anything_is_started(launcher: Launcher, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = launcher.launch(tmp_path / "data", "--port", str(port))
        _, error = process.communicate(timeout=DEADLINE)

    assert process.returncode == 2
    assert f"Cannot listen on 127.0.0.1, port {port}: it is taken" in error
    assert "--port" in error


def test_a_killed_supervisor_takes_its_children_along_and_the_next_one_starts(
    launcher: Launcher, tmp_path: Path
) -> None:
    service = launcher.start(tmp_path / "data")
    watches = [Watch(service.pid_of(program)) for program in ("foretrain worker", "valkey-server")]

    service.process.kill()

    assert all(watch.ends_within(10.0) for watch in watches)
    assert launcher.start(tmp_path / "data").stop(signal.SIGTERM) == 0


def test_a_broker_left_by_a_killed_run_is_ended_by_the_next_one(launcher: Launcher, tmp_path: Path) -> None:
    service = launcher.start(tmp_path / "data")
    leftover = Watch(service.pid_of("valkey-server"))
    guard_pid = service.pid_of("foretrain.broker")
    guard = Watch(guard_pid)
    os.kill(guard_pid, signal.SIGSTOP)  # it cannot notice the end of its supervisor
    service.process.kill()

    following = launcher.start(tmp_path / "data")

    assert leftover.ends_within(DEADLINE)
    assert list_jobs(following).status_code == 200
    os.kill(guard_pid, signal.SIGCONT)
    assert guard.ends_within(DEADLINE)


def test_a_child_that_dies_is_started_again(launcher: Launcher, tmp_path: Path) -> None:
    service = launcher.start(tmp_path / "data")
    for program in ("foretrain worker", "valkey-server"):
        before = service.pid_of(program)

        os.kill(before, signal.SIGKILL)

        eventually(partial(runs_anew, service, program, before), DEADLINE)
    assert service.stop(signal.SIGTERM) == 0


def test_a_deep_folder_with_a_space_in_its_name_serves_as_well(launcher: Launcher, tmp_path: Path) -> None:
    service = launcher.start(tmp_path / "my data" / ("deep" * 30))
    service.pid_of("valkey-server")

    assert list_jobs(service).status_code == 200
    assert service.stop(signal.SIGTERM) == 0


def test_it_ends_with_its_stdin_when_told_so(launcher: Launcher, tmp_path: Path) -> None:
    service = launcher.start(tmp_path / "data", "--end-with-stdin")
    watches = [Watch(pid) for pid in service.pids()]
    assert service.process.stdin is not None

    service.process.stdin.close()

    assert all(watch.ends_within(DEADLINE) for watch in watches)
    assert service.process.wait() == 0


def test_everything_is_for_its_owner_alone(running: Service) -> None:
    data_dir = running.data_dir

    assert mode_of(data_dir) == 0o700
    assert mode_of(data_dir / "api_key") == 0o600
    assert mode_of(data_dir / "foretrain.db") == 0o600
    assert mode_of(data_dir / "run" / "broker.sock") == 0o700
    assert "port 0" in (data_dir / "run" / "broker" / "valkey.conf").read_text().splitlines()
