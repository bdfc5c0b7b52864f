from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from trainer.errors import Diverged, OutOfMemory
from trainer.healing import MOST_RATE_CUTS, halve_batch, heal
from trainer.state import Adaptation

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.hardware import Hardware
    from trainer.spec import TrainingSpec

    MakeSpec = Callable[..., TrainingSpec]

UNTOUCHED = Adaptation()


@pytest.mark.parametrize(
    ("batch", "accumulate", "smaller"),
    [(32, 1, (16, 2)), (32, 4, (16, 8)), (33, 1, (11, 3)), (7, 1, (1, 7)), (6, 3, (3, 6)), (9, 2, (3, 6))],
)
def test_a_smaller_batch_leaves_the_effective_batch_as_it_was(
    make_spec: MakeSpec, batch: int, accumulate: int, smaller: tuple[int, int]
) -> None:
    spec = make_spec(batch_size=batch, accumulate_grad_batches=accumulate)

    healed = halve_batch(spec, UNTOUCHED, OutOfMemory(""))

    assert (healed.changes["batch_size"], healed.changes["accumulate_grad_batches"]) == smaller
    assert smaller[0] * smaller[1] == spec.effective_batch_size
    assert [(a.field, a.requested, a.effective) for a in healed.adjustments] == [
        ("batch_size", batch, smaller[0]),
        ("accumulate_grad_batches", accumulate, smaller[1]),
    ]


def test_a_single_window_that_does_not_fit_ends_it_with_a_cure(make_spec: MakeSpec) -> None:
    with pytest.raises(OutOfMemory, match=r"not even for one window.*shorten encoder_length"):
        halve_batch(make_spec(batch_size=1, accumulate_grad_batches=8), UNTOUCHED, OutOfMemory(""))


@pytest.mark.parametrize(
    ("asked", "capability", "next_one"),
    [
        ("16-mixed", (9, 0), "bf16-mixed"),
        ("16-mixed", (7, 5), "32-true"),
        ("bf16-mixed", (9, 0), "32-true"),
        ("bf16-mixed", None, "32-true"),
    ],
)
def test_a_divergence_widens_the_number_format_first(
    make_spec: MakeSpec, plain_cpu: Hardware, asked: str, capability: Any, next_one: str
) -> None:
    hardware = replace(plain_cpu, cuda_capability=capability)

    healed = heal(make_spec(precision=asked), Diverged("loss is nan"), UNTOUCHED, hardware)

    assert healed.changes == {"precision": next_one}
    assert "loss is nan" in healed.adjustments[0].reason


def test_in_float32_a_divergence_lowers_the_rate_and_in_the_end_gives_up(
    make_spec: MakeSpec, plain_cpu: Hardware
) -> None:
    spec, healed = make_spec(learning_rate=1.0), UNTOUCHED
    rates = []
    for _ in range(MOST_RATE_CUTS):
        healed = heal(spec, Diverged("nan"), healed, plain_cpu)
        spec = spec.model_copy(update=healed.changes)
        rates.append(spec.learning_rate)

    assert rates == pytest.approx([0.1, 0.01, 0.001])
    with pytest.raises(Diverged, match="again after learning_rate was lowered 3 times"):
        heal(spec, Diverged("nan"), healed, plain_cpu)


@pytest.mark.parametrize(
    ("failure", "field"), [(OutOfMemory("full"), "on_out_of_memory"), (Diverged("nan"), "on_divergence")]
)
def test_whoever_wants_failures_gets_them(
    make_spec: MakeSpec, plain_cpu: Hardware, failure: Any, field: str
) -> None:
    with pytest.raises(type(failure)) as raised:
        heal(make_spec(**{field: "fail"}), failure, UNTOUCHED, plain_cpu)

    assert raised.value is failure
