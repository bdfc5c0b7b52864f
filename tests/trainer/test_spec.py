from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from trainer.spec import NOT_BUILT_YET, TrainingSpec


def problems(**fields: Any) -> list[tuple[tuple[Any, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        TrainingSpec(**fields)
    return [(error["loc"], error["type"]) for error in caught.value.errors()]


def test_nothing_at_all_is_a_valid_spec() -> None:
    assert TrainingSpec().epochs == 20


@pytest.mark.parametrize(
    ("fields", "where", "code"),
    [
        ({"epoch": 3}, ("epoch",), "extra_forbidden"),
        ({"learning_rate": float("nan")}, ("learning_rate",), "finite_number"),
        ({"weight_decay": float("inf")}, ("weight_decay",), "finite_number"),
        ({"epochs": "3"}, ("epochs",), "int_type"),
        ({"epochs": True}, ("epochs",), "int_type"),
        ({"encoder_length": 1}, ("encoder_length",), "greater_than_equal"),
        ({"quantiles": [0.9, 0.5]}, ("quantiles",), "quantiles_not_rising"),
        ({"quantiles": [0.1, 0.9]}, ("quantiles",), "quantiles_without_median"),
        ({"quantiles": [0.5, 1.0]}, ("quantiles", 1), "less_than"),
        ({"target_metrics": ["a", "a"]}, ("target_metrics",), "duplicate_name"),
        ({"target_metrics": []}, ("target_metrics",), "too_short"),
        ({"hidden_size": 10, "attention_head_size": 4}, (), "heads_do_not_divide"),
        ({"multi_target": False, "target_metrics": ["a", "b"]}, (), "one_target_expected"),
        ({"target_metrics": ["a"], "observed_covariates": ["a"]}, (), "column_in_two_roles"),
    ],
)
def test_a_mistake_is_refused_at_its_field_with_a_code(
    fields: dict[str, Any], where: tuple[Any, ...], code: str
) -> None:
    assert problems(**fields) == [(where, code)]


OTHER_VALUES: dict[str, Any] = {
    "compile": "auto",
    "on_out_of_memory": "adapt",
    "on_divergence": "adapt",
}


@pytest.mark.parametrize("field", NOT_BUILT_YET)
def test_what_is_not_built_yet_is_refused_rather_than_ignored(field: str) -> None:
    assert problems(**{field: OTHER_VALUES[field]}) == [((field,), "not_supported")]


def test_the_spec_is_quick_to_import_and_brings_no_heavy_library() -> None:
    script = (
        "import sys, trainer.spec, trainer.events, trainer.resolution; "
        "print([name for name in ('torch', 'numpy', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert child.stdout.strip() == "[]"
