from __future__ import annotations

from pathlib import Path

import pytest

from worker.gpu_readings import GpuReadings
from worker.hardware import Gpu

GPUS = [Gpu(index=index, name="H100", memory_bytes=80 << 30, compute_capability=(9, 0)) for index in (0, 1)]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What nvidia-smi prints is what this file holds; its arguments go into `asked` beside it."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ntest -f {tmp_path}/say && cat {tmp_path}/say\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "say"


def test_utilization_is_a_ratio_and_memory_is_in_bytes(say: Path) -> None:
    say.write_text("0, 97, 1024, 81559\n1, 0, 3, 81559\n")

    assert GpuReadings(GPUS).latest() == {
        "gpus": [
            {"index": 0, "utilization": 0.97, "memory_used_bytes": 1 << 30, "memory_bytes": 81559 << 20},
            {"index": 1, "utilization": 0.0, "memory_used_bytes": 3 << 20, "memory_bytes": 81559 << 20},
        ]
    }
    assert "--id=0,1" in say.with_name("asked").read_text()


def test_a_gpu_that_does_not_say_is_left_out(say: Path) -> None:
    say.write_text("0, [N/A], [N/A], 81559\n1, 5, 3, 81559\n")

    readings = GpuReadings(GPUS).latest()

    assert readings is not None
    assert [gpu["index"] for gpu in readings["gpus"]] == [1]


def test_nvidia_smi_is_not_asked_at_every_heartbeat(say: Path) -> None:
    say.write_text("0, 1, 1, 1\n")
    readings = GpuReadings(GPUS)

    assert readings.latest() == readings.latest()

    assert len(say.with_name("asked").read_text().splitlines()) == 1


def test_a_failure_leaves_nothing_to_say(say: Path) -> None:
    assert GpuReadings(GPUS).latest() is None
    assert say.with_name("asked").exists()


def test_without_a_gpu_nobody_is_asked(say: Path) -> None:
    assert GpuReadings([]).latest() is None
    assert not say.with_name("asked").exists()
