from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from trainer.errors import UnsupportedHardware
from trainer.hardware import Hardware
from trainer.precision import decide_execution

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.spec import TrainingSpec

CPU = Hardware(cuda_capability=None, cuda_device=None, cpu_flags=frozenset({"avx2"}), cpu="cpu", cores=2)
BF16_CPU = replace(CPU, cpu_flags=frozenset({"avx2", "avx512_bf16"}))
AMX_CPU = replace(CPU, cpu_flags=frozenset({"amx_bf16"}))
PASCAL = replace(CPU, cuda_capability=(6, 1), cuda_device="GTX 1080")
VOLTA = replace(CPU, cuda_capability=(7, 0), cuda_device="V100")
AMPERE = replace(CPU, cuda_capability=(8, 0), cuda_device="A100")


@pytest.mark.parametrize(
    ("asked", "hardware", "device", "precision"),
    [
        ("32-true", CPU, "cpu", "32-true"),
        ("16-mixed", CPU, "cpu", "32-true"),
        ("16-mixed", BF16_CPU, "cpu", "32-true"),  # never bf16 in its place, as Lightning would
        ("bf16-mixed", CPU, "cpu", "32-true"),
        ("bf16-mixed", BF16_CPU, "cpu", "bf16-mixed"),
        ("bf16-mixed", AMX_CPU, "cpu", "bf16-mixed"),
        ("16-mixed", PASCAL, "cuda", "32-true"),
        ("16-mixed", VOLTA, "cuda", "16-mixed"),
        ("bf16-mixed", VOLTA, "cuda", "32-true"),
        ("bf16-mixed", AMPERE, "cuda", "bf16-mixed"),
        ("16-mixed", AMPERE, "cuda", "16-mixed"),
    ],
)
def test_precision_is_what_the_hardware_can_do(
    make_spec: Callable[..., TrainingSpec], asked: Any, hardware: Hardware, device: str, precision: str
) -> None:
    execution = decide_execution(make_spec(precision=asked), hardware)

    assert (execution.device, execution.precision) == (device, precision)
    fallback = [a for a in execution.adjustments if a.field == "precision"]
    assert [(a.requested, a.effective) for a in fallback] == (
        [] if asked == precision else [(asked, precision)]
    )


def test_a_fallback_gives_its_reason(make_spec: Callable[..., TrainingSpec]) -> None:
    execution = decide_execution(make_spec(precision="bf16-mixed"), VOLTA)

    assert "8.0 or newer; this GPU has 7.0" in execution.adjustments[-1].reason


def test_a_strict_precision_is_refused_rather_than_replaced(make_spec: Callable[..., TrainingSpec]) -> None:
    with pytest.raises(UnsupportedHardware, match="float16 needs a CUDA GPU"):
        decide_execution(make_spec(precision="16-mixed", precision_strict=True), CPU)


def test_cuda_without_a_gpu_is_refused_in_a_sentence(make_spec: Callable[..., TrainingSpec]) -> None:
    with pytest.raises(UnsupportedHardware, match="no CUDA GPU is visible here; choose auto or cpu"):
        decide_execution(make_spec(accelerator="cuda"), CPU)


def test_cpu_is_taken_beside_a_gpu_when_asked_for(make_spec: Callable[..., TrainingSpec]) -> None:
    assert decide_execution(make_spec(accelerator="cpu"), AMPERE).device == "cpu"
