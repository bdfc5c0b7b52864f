"""What a form is built of."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from trainer.presets import PRESETS
from trainer.spec import TrainingSpec
from trainer.spec_form import FORM, form_schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return form_schema()


def test_every_field_is_described_and_no_other(schema: dict[str, Any]) -> None:
    assert FORM.keys() == TrainingSpec.model_fields.keys() == schema["properties"].keys()
    for name, prop in schema["properties"].items():
        assert {"title", "description", "examples", "default", "x-group", "x-order"} <= prop.keys(), name
        assert prop["description"], name


def test_every_example_and_every_preset_fits_the_schema(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema)
    for name, prop in schema["properties"].items():
        validator.validate({name: prop["examples"][0]})
        validator.validate({name: prop["default"]})
    for values in PRESETS.values():
        validator.validate(values)
        TrainingSpec.model_validate(values)


def test_all_examples_make_a_spec_that_is_accepted() -> None:
    spec = TrainingSpec.model_validate({name: field.example for name, field in FORM.items()})

    assert spec.hidden_size == FORM["hidden_size"].example


def test_what_a_field_needs_are_values_that_other_fields_take(schema: dict[str, Any]) -> None:
    asked = [field.needs_fields for field in FORM.values() if field.needs_fields]
    assert asked
    for needed in asked:
        for name, values in needed.items():
            assert set(values) < set(schema["properties"][name]["enum"])


def test_a_field_that_is_not_built_yet_names_the_value_it_takes(schema: dict[str, Any]) -> None:
    assert schema["properties"]["compile"]["x-supported"] == "off"
