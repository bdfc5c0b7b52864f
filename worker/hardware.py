"""What this machine can compute with, found without torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

logger = structlog.get_logger(__name__)

_QUERY = "index,name,memory.total,compute_cap"
_QUERY_SECONDS = 20
_FP16_CAPABILITY = (7, 0)
_BF16_CAPABILITY = (8, 0)
_BF16_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Gpu:
    index: int
    name: str
    memory_bytes: int
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class Hardware:
    cpu: str
    cpu_has_bf16: bool
    cores: int
    gpus: tuple[Gpu, ...]

    @property
    def precisions(self) -> list[str]:
        """What a job can ask for here and get."""
        if not self.gpus:
            return ["32-true", "bf16-mixed"] if self.cpu_has_bf16 else ["32-true"]
        capability = min(gpu.compute_capability for gpu in self.gpus)
        needed = {"32-true": (0, 0), "16-mixed": _FP16_CAPABILITY, "bf16-mixed": _BF16_CAPABILITY}
        return [precision for precision, least in needed.items() if capability >= least]

    def describe(self) -> dict[str, Any]:
        """For the row of the worker."""
        return {
            "cpu": self.cpu,
            "cores": self.cores,
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "precisions": self.precisions,
        }


def detect(devices: list[int] | None = None) -> Hardware:
    """This machine; of its GPUs those in `devices`, or else the first, if there is one.

    Raises ValueError when a GPU that was asked for is not there.
    """
    present = {gpu.index: gpu for gpu in _query_gpus()}
    wanted = sorted(present)[:1] if devices is None else devices
    if missing := [index for index in wanted if index not in present]:
        raise ValueError(f"no GPU {missing[0]} here; present: {sorted(present) or 'none'}")
    name, flags = _cpu()
    gpus = tuple(present[index] for index in wanted)
    return Hardware(name, not _BF16_CPU_FLAGS.isdisjoint(flags), count_cores(), gpus)


def count_cores() -> int:
    """Cores this process may use, which in a container may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _query_gpus() -> list[Gpu]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True)
        return [_parse_gpu(line) for line in answer.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):
        logger.warning("gpu_query_failed", exc_info=True)
        return []


def _parse_gpu(line: str) -> Gpu:
    index, name, mebibytes, capability = (field.strip() for field in line.split(","))
    major, minor = capability.split(".")
    return Gpu(int(index), name, int(mebibytes) << 20, (int(major), int(minor)))


def _cpu() -> tuple[str, set[str]]:
    """Name and flags of the first processor; no flags where there is no /proc."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine(), set()
    first, _, _ = cpuinfo.read_text(errors="replace").partition("\n\n")
    fields = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.split("\n"))
    }
    return fields.get("model name", platform.machine()), set(fields.get("flags", "").split())
