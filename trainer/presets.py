"""Sets of defaults below what the caller sets. Torch-free and quick to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Preset = Literal["production", "development"]

PRESETS: dict[str, dict[str, Any]] = {
    "production": {
        "multi_target": True,
        "epochs": 30,
        "batch_size": 32,
        "accumulate_grad_batches": 2,
        "validation_split": 0.15,
        "gradient_clip_val": 0.1,
        "early_stopping_patience": 10,
        "auto_lr_find": True,
        # A wish, not a condition: where the hardware lacks it, the run falls back to 32-true and says so.
        "precision": "16-mixed",
    },
    "development": {
        "multi_target": False,
        "epochs": 10,
        "batch_size": 64,
        "accumulate_grad_batches": 1,
        "validation_split": 0.3,
        "auto_lr_find": True,
    },
}


def with_preset(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a spec as they were given, with those of its preset where nothing was given.

    A field that is there counts as given, null too: a stored spec, which holds every field, stays what it is.
    """
    preset = fields.get("preset")
    defaults = dict(PRESETS.get(preset, {})) if isinstance(preset, str) else {}
    if fields.get("target_metrics") is not None:
        defaults.pop("multi_target", None)  # whoever names targets has said how many
    if "learning_rate" in fields:
        defaults.pop("auto_lr_find", None)  # whoever sets the rate does not want it replaced
    return defaults | dict(fields)
