from __future__ import annotations

import pytest

from foretrain.refusals import Refusal
from foretrain.training_options import build_spec, spec_parameters
from trainer.spec import TrainingSpec


def test_every_field_of_the_spec_is_an_option() -> None:
    assert {parameter.name for parameter in spec_parameters()} == set(TrainingSpec.model_fields)


def test_what_is_not_given_stays_the_specs_default() -> None:
    options = {parameter.name: parameter.default for parameter in spec_parameters()}

    assert build_spec(options) == TrainingSpec()
    assert build_spec(options).model_fields_set == set()


def test_lists_may_be_repeated_or_separated_by_commas() -> None:
    spec = build_spec(
        {"target_metrics": ["cpu_percent,memory_percent", "load"], "quantiles": ["0.1,0.5", "0.9"]}
    )

    assert spec.target_metrics == ["cpu_percent", "memory_percent", "load"]
    assert spec.quantiles == [0.1, 0.5, 0.9]


def test_every_problem_names_its_option() -> None:
    with pytest.raises(Refusal, match=r"--epochs: .*; --gradient-clip-val: "):
        build_spec({"epochs": 0, "gradient_clip_val": -1.0})
