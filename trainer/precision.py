"""Device and precision: what was asked for against what the hardware can do. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainer.errors import UnsupportedHardware
from trainer.events import Adjustment

if TYPE_CHECKING:
    from trainer.hardware import Hardware
    from trainer.spec import Precision, TrainingSpec

FP16_CAPABILITY = (7, 0)
BF16_CAPABILITY = (8, 0)
BF16_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class Execution:
    """Where and in which precision the network really runs."""

    device: Literal["cpu", "cuda"]
    precision: Precision
    devices: int = 1
    adjustments: tuple[Adjustment, ...] = ()


def decide_execution(spec: TrainingSpec, hardware: Hardware) -> Execution:
    """The device, how many of them, and the precision to run with, and what had to give way.

    Raises UnsupportedHardware: for `cuda` without a GPU, and for a precision the hardware lacks if the spec
    is strict about it.
    """
    device = _device(spec, hardware)
    adjustments = []
    if spec.accelerator == "auto":
        adjustments.append(_adjusted("accelerator", "auto", device, _why(device)))
    devices, too_many = _devices(spec, device, hardware)
    if devices < spec.devices:
        adjustments.append(_adjusted("devices", spec.devices, devices, too_many))
    obstacle = _obstacle(spec.precision, device, hardware)
    if obstacle is None:
        return Execution(device, spec.precision, devices, tuple(adjustments))
    if spec.precision_strict:
        raise UnsupportedHardware(
            f"precision {spec.precision} is not possible here: {obstacle}; choose 32-true, or leave "
            "precision_strict off to fall back to it"
        )
    adjustments.append(_adjusted("precision", spec.precision, "32-true", obstacle))
    return Execution(device, "32-true", devices, tuple(adjustments))


def next_precision(precision: Precision, hardware: Hardware) -> Precision | None:
    """A format that overflows later than this one and that the hardware has; None behind float32."""
    if precision == "32-true":
        return None
    if precision == "16-mixed" and (hardware.cuda_capability or (0, 0)) >= BF16_CAPABILITY:
        return "bf16-mixed"
    return "32-true"


def _device(spec: TrainingSpec, hardware: Hardware) -> Literal["cpu", "cuda"]:
    if spec.accelerator == "cpu":
        return "cpu"
    if hardware.cuda_capability is not None:
        return "cuda"
    if spec.accelerator == "cuda":
        raise UnsupportedHardware(
            "accelerator cuda was asked for, but no CUDA GPU is visible here; choose auto or cpu"
        )
    return "cpu"


def _devices(spec: TrainingSpec, device: str, hardware: Hardware) -> tuple[int, str]:
    """How many there are, each with a window to train on at least; and why there are no more.

    On a CPU a device is a process with cores of its own.
    """
    present = hardware.gpus if device == "cuda" else hardware.cores
    if present < min(spec.devices, spec.batch_size):
        what = "GPUs are visible" if device == "cuda" else "cores are here"
        return present, f"no more {what}; batch_size is of all devices together, so the result is the same"
    return min(spec.devices, spec.batch_size), "a batch has no more windows"


def _why(device: str) -> str:
    return "a CUDA GPU is visible" if device == "cuda" else "no CUDA GPU is visible"


def _obstacle(precision: Precision, device: str, hardware: Hardware) -> str | None:
    """Why the hardware cannot run this precision; None if it can."""
    if precision == "32-true":
        return None
    if device == "cuda":
        return _capability_obstacle(precision, hardware.cuda_capability or (0, 0))
    if precision == "16-mixed":
        return "float16 needs a CUDA GPU of capability 7.0 or newer; this run is on the CPU"
    if not hardware.cpu_flags & BF16_CPU_FLAGS:
        return "this CPU has no bfloat16 instructions (avx512_bf16 or amx_bf16), which makes bfloat16 slower"
    return None


def _capability_obstacle(precision: Precision, capability: tuple[int, int]) -> str | None:
    needed = FP16_CAPABILITY if precision == "16-mixed" else BF16_CAPABILITY
    if capability >= needed:
        return None
    return (
        f"{precision} needs CUDA capability {needed[0]}.{needed[1]} or newer; "
        f"this GPU has {capability[0]}.{capability[1]}"
    )


def _adjusted(field: str, requested: object, effective: object, reason: str) -> Adjustment:
    return Adjustment(field=field, requested=requested, effective=effective, reason=reason)
