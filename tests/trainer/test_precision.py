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
TURING = replace(CPU, cuda_capability=(7, 5), cuda_device="T4")
AMPERE = replace(CPU, cuda_capability=(8, 0), cuda_device="A100")
HOPPER = replace(CPU, cuda_capability=(9, 0), cuda_device="H100")
# A GPU decides alone: what the processor beside it knows changes nothing.
OLD_GPU_IN_A_NEW_HOST = replace(PASCAL, cpu_flags=frozenset({"avx512_bf16", "amx_bf16"}))

# hardware, device, whether it has float16, whether it has bfloat16
MACHINES = [
    pytest.param(CPU, "cpu", False, False, id="cpu"),
    pytest.param(BF16_CPU, "cpu", False, True, id="cpu avx512_bf16"),
    pytest.param(AMX_CPU, "cpu", False, True, id="cpu amx_bf16"),
    pytest.param(PASCAL, "cuda", False, False, id="6.1"),
    pytest.param(OLD_GPU_IN_A_NEW_HOST, "cuda", False, False, id="6.1 beside amx_bf16"),
    pytest.param(VOLTA, "cuda", True, False, id="7.0"),
    pytest.param(TURING, "cuda", True, False, id="7.5"),
    pytest.param(AMPERE, "cuda", True, True, id="8.0"),
    pytest.param(HOPPER, "cuda", True, True, id="9.0"),
]


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


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("asked", ["32-true", "16-mixed", "bf16-mixed"])
@pytest.mark.parametrize(("hardware", "device", "float16", "bfloat16"), MACHINES)
def test_every_machine_runs_what_it_has_and_says_or_refuses_the_rest(
    make_spec: Callable[..., TrainingSpec],
    hardware: Hardware,
    device: str,
    asked: Any,
    *,
    float16: bool,
    bfloat16: bool,
    strict: bool,
) -> None:
    spec = make_spec(precision=asked, precision_strict=strict)
    possible = {"32-true": True, "16-mixed": float16, "bf16-mixed": bfloat16}[asked]
    if strict and not possible:
        with pytest.raises(UnsupportedHardware, match="leave precision_strict off to fall back"):
            decide_execution(spec, hardware)
        return

    execution = decide_execution(spec, hardware)
    fallback = [adjustment for adjustment in execution.adjustments if adjustment.field == "precision"]

    assert execution.device == device
    assert execution.precision == (asked if possible else "32-true")
    assert len(fallback) == (not possible)
    assert all(len(adjustment.reason) > 20 for adjustment in fallback)


@pytest.mark.parametrize(("hardware", "device", "float16", "bfloat16"), MACHINES)
def test_the_result_tells_what_the_machine_has(
    hardware: Hardware, device: str, *, float16: bool, bfloat16: bool
) -> None:
    described = hardware.describe()

    assert (described["gpu"] is not None) == (device == "cuda")
    if device == "cuda":
        major, minor = (int(part) for part in described["cuda_capability"].split("."))
        assert ((major, minor) >= (7, 0), (major, minor) >= (8, 0)) == (float16, bfloat16)
    else:
        assert described["bf16_on_cpu"] == bfloat16


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


@pytest.mark.parametrize(
    ("asked", "hardware", "devices", "reason"),
    [
        ({"devices": 2}, replace(AMPERE, gpus=2), 2, None),
        ({"devices": 4}, replace(AMPERE, gpus=2), 2, "no more GPUs"),
        ({"devices": 2}, CPU, 2, None),
        ({"devices": 8}, CPU, 2, "no more cores"),
        ({"devices": 8, "accelerator": "cpu"}, replace(AMPERE, gpus=8), 2, "no more cores"),
        ({"devices": 2, "batch_size": 1}, CPU, 1, "no more windows"),
    ],
)
def test_a_run_takes_no_more_devices_than_there_are_and_says_so(
    make_spec: Callable[..., TrainingSpec],
    asked: dict[str, Any],
    hardware: Hardware,
    devices: int,
    reason: str | None,
) -> None:
    execution = decide_execution(make_spec(**asked), hardware)

    said = [a for a in execution.adjustments if a.field == "devices"]
    assert execution.devices == devices
    assert [a.effective for a in said] == ([] if reason is None else [devices])
    assert all(reason in a.reason for a in said if reason)
