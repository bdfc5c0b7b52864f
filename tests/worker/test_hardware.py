from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from worker.hardware import count_cores, detect

AMPERE = "0, NVIDIA A10, 23028, 8.6"
VOLTA = "1, Tesla V100, 16384, 7.0"
InstallDriver = Callable[..., None]


@pytest.fixture
def install_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallDriver:
    """Puts a program before all others that answers as the driver's would."""

    def install(*gpus: str, exit_code: int = 0) -> None:
        lines = [f"echo '{gpu}'" for gpu in gpus]
        program = tmp_path / "nvidia-smi"
        program.write_text("\n".join(["#!/bin/sh", *lines, f"exit {exit_code}\n"]))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return install


def test_without_a_driver_there_are_cores_and_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    hardware = detect()

    assert hardware.gpus == ()
    assert hardware.cores == count_cores() >= 1
    assert "16-mixed" not in hardware.precisions


def test_the_first_gpu_is_the_default(install_driver: InstallDriver) -> None:
    install_driver(AMPERE, VOLTA)

    [gpu] = detect().gpus

    assert (gpu.name, gpu.memory_bytes, gpu.compute_capability) == ("NVIDIA A10", 23028 << 20, (8, 6))


def test_the_oldest_gpu_decides_the_precisions(install_driver: InstallDriver) -> None:
    install_driver(AMPERE, VOLTA)

    assert detect([0]).precisions == ["32-true", "16-mixed", "bf16-mixed"]
    assert detect([0, 1]).precisions == ["32-true", "16-mixed"]


def test_a_gpu_that_is_not_there_is_refused(install_driver: InstallDriver) -> None:
    install_driver(AMPERE)

    with pytest.raises(ValueError, match="no GPU 3 here"):
        detect([3])


def test_a_driver_that_fails_means_no_gpu(install_driver: InstallDriver) -> None:
    install_driver("Failed to initialize NVML", exit_code=9)

    assert detect().gpus == ()
