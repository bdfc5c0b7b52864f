"""What this machine has. Asked once, passed on, so that each decision can be tried for any machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Hardware:
    """`cuda_capability` is None without a GPU; `cpu_flags` are those of /proc/cpuinfo."""

    cuda_capability: tuple[int, int] | None
    cuda_device: str | None
    cpu_flags: frozenset[str]
    cpu: str
    cores: int
    gpus: int = 1  # that this process sees, where there is one

    def describe(self) -> dict[str, Any]:
        """For result.json."""
        capability = self.cuda_capability
        return {
            "cpu": self.cpu,
            "cores": self.cores,
            "gpu": self.cuda_device,
            "cuda_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
            "bf16_on_cpu": bool(self.cpu_flags & {"avx512_bf16", "amx_bf16"}),
            "platform": platform.platform(),
        }


def detect_hardware() -> Hardware:
    import torch  # noqa: PLC0415 - the dataclass is of use without it

    if not torch.cuda.is_available():
        return detect_processor()
    return replace(
        detect_processor(),
        cuda_capability=torch.cuda.get_device_capability(0),
        cuda_device=torch.cuda.get_device_name(0),
        gpus=torch.cuda.device_count(),
    )


def detect_processor() -> Hardware:
    """The machine as it is without its GPU; without torch."""
    flags, name = _cpu()
    return Hardware(
        cuda_capability=None,
        cuda_device=None,
        cpu_flags=flags,
        cpu=name,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def _cpu() -> tuple[frozenset[str], str]:
    """Flags and name of the first processor; empty where there is no /proc."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset(), platform.processor() or platform.machine()
    fields = dict(reversed([_field(line) for line in lines if ":" in line]))
    return frozenset(fields.get("flags", "").split()), fields.get("model name", platform.machine())


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()
