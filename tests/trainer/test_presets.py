from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from trainer.hardware import Hardware
from trainer.precision import decide_execution
from trainer.presets import PRESETS, Preset
from trainer.spec import TrainingSpec

PLAIN_CPU = Hardware(
    cuda_capability=None, cuda_device=None, cpu_flags=frozenset(), cpu="plain processor", cores=2
)


def test_production_is_the_table_of_the_contract() -> None:
    spec = TrainingSpec(preset="production")

    assert (spec.epochs, spec.batch_size, spec.accumulate_grad_batches) == (30, 32, 2)
    assert (spec.multi_target, spec.validation_split, spec.gradient_clip_val) == (True, 0.15, 0.1)
    assert (spec.early_stopping_patience, spec.auto_lr_find, spec.precision) == (10, True, "16-mixed")


def test_development_is_the_table_of_the_contract() -> None:
    spec = TrainingSpec(preset="development")

    assert (spec.epochs, spec.batch_size, spec.accumulate_grad_batches) == (10, 64, 1)
    assert (spec.multi_target, spec.validation_split, spec.auto_lr_find) == (False, 0.3, True)
    assert spec.precision == "32-true"


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_caller_sets_wins_even_where_it_is_the_usual_default(preset: Preset) -> None:
    usual = TrainingSpec()
    given: dict[str, Any] = {name: getattr(usual, name) for name in PRESETS[preset]}

    assert TrainingSpec.model_validate({"preset": preset} | given) == usual.model_copy(
        update={"preset": preset}
    )


def test_a_preset_changes_nothing_but_its_own_fields() -> None:
    usual = TrainingSpec().model_dump()
    for preset, defaults in PRESETS.items():
        assert TrainingSpec.model_validate({"preset": preset}).model_dump() == usual | defaults | {
            "preset": preset
        }


def test_naming_several_targets_overrides_developments_one() -> None:
    spec = TrainingSpec(preset="development", target_metrics=["cpu_percent", "memory_percent"])

    assert spec.multi_target is None
    assert spec.target_metrics == ["cpu_percent", "memory_percent"]


def test_a_rate_that_is_set_is_not_searched_for_unless_asked() -> None:
    assert not TrainingSpec(preset="production", learning_rate=0.003).auto_lr_find
    assert TrainingSpec(preset="production", learning_rate=0.003, auto_lr_find=True).auto_lr_find


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"epochs": 3, "precision": "32-true"},
        {"target_metrics": ["load_average"]},
        {"target_metrics": ["a", "b"]},
        {"learning_rate": 0.5},
        {"multi_target": None},
    ],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_stored_spec_means_the_same_when_it_is_read_again(preset: Preset, given: dict[str, Any]) -> None:
    spec = TrainingSpec(preset=preset, **given)

    assert TrainingSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert TrainingSpec.model_validate_json(spec.model_dump_json()) == spec
    assert TrainingSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize("preset", ["staging", ["production"], {}, 1])
def test_an_unknown_preset_is_refused_at_its_field(preset: object) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainingSpec.model_validate({"preset": preset})

    assert [error["loc"] for error in caught.value.errors()] == [("preset",)]


def test_production_on_a_plain_cpu_falls_back_to_float32_and_says_so() -> None:
    execution = decide_execution(TrainingSpec(preset="production"), PLAIN_CPU)

    assert execution.precision == "32-true"
    assert ("precision", "16-mixed", "32-true") in {
        (adjustment.field, adjustment.requested, adjustment.effective) for adjustment in execution.adjustments
    }
