"""What a form needs to know of each field of a spec beyond its type: title, unit, place, what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from trainer.presets import PRESETS
from trainer.spec import CALENDAR_FEATURES, NOT_BUILT_YET, USUAL_TARGETS, TrainingSpec

Group = Literal["data", "windows", "network", "optimizer", "hardware", "stopping", "reporting"]
Unit = Literal["steps", "windows", "epochs", "batches", "optimizer steps", "minutes", "share", "devices"]


@dataclass(frozen=True)
class FormField:
    """How a field is shown. `needs` says, for people, when it has an effect or what it takes.

    `needs_fields`: the values of other fields with which alone it has an effect, any of those listed.
    """

    group: Group
    title: str
    example: Any
    unit: Unit | None = None
    description: str | None = None  # where the spec has none
    needs: str | None = None
    needs_fields: dict[str, list[Any]] | None = None


FORM: dict[str, FormField] = {
    "preset": FormField("stopping", "Preset", "production"),
    "multi_target": FormField(
        "data", "Several targets", True, needs="a dataset with several numeric columns"
    ),
    "target_metrics": FormField(
        "data", "Targets", list(USUAL_TARGETS[:2]), needs="numeric columns of the dataset"
    ),
    "missing_targets": FormField("data", "If a target is missing", "drop"),
    "encoder_length": FormField(
        "windows",
        "Encoder length",
        96,
        "steps",
        needs="series that are longer than encoder_length, horizon and both tails together",
    ),
    "horizon": FormField("windows", "Horizon", 24, "steps"),
    "known_covariates": FormField("data", "Known covariates", list(CALENDAR_FEATURES[1:3])),
    "observed_covariates": FormField(
        "data", "Observed covariates", ["net_in"], needs="numeric columns that are no targets"
    ),
    "static_categoricals": FormField(
        "data", "Static categories", ["region"], needs="text columns that are constant within a series"
    ),
    "quantiles": FormField(
        "network",
        "Quantiles",
        [0.1, 0.5, 0.9],
        description="Quantiles to forecast, rising, 0.5 among them.",
    ),
    "missing_policy": FormField("data", "Gaps", "mask"),
    "normalizer": FormField("data", "Normalizer", "window_standard"),
    "calibration": FormField("reporting", "Calibration", "conformal"),
    "hidden_size": FormField(
        "network",
        "Hidden size",
        32,
        description="Width of the network; attention_head_size must divide it.",
    ),
    "hidden_continuous_size": FormField(
        "network", "Hidden size of inputs", 16, description="Width of each numeric input on its own."
    ),
    "attention_head_size": FormField("network", "Attention heads", 4),
    "lstm_layers": FormField(
        "network", "LSTM layers", 1, description="Layers of the encoder and of the decoder."
    ),
    "dropout": FormField(
        "network", "Dropout", 0.1, "share", description="Share of units that are left out in training."
    ),
    "epochs": FormField("stopping", "Epochs", 20, "epochs", description="Passes over the training windows."),
    "max_steps": FormField("stopping", "Most steps", 5000, "optimizer steps"),
    "max_minutes": FormField(
        "stopping",
        "Most minutes",
        30.0,
        "minutes",
        needs="a local run; a service refuses it in favour of limits.max_runtime_seconds",
    ),
    "batch_size": FormField("optimizer", "Batch size", 64, "windows", description="Windows in one batch."),
    "accumulate_grad_batches": FormField("optimizer", "Gradient accumulation", 4, "batches"),
    "learning_rate": FormField("optimizer", "Learning rate", 0.002),
    "lr_schedule": FormField(
        "optimizer",
        "Schedule of the rate",
        "onecycle",
        description="How the rate changes over the run.",
    ),
    "warmup_fraction": FormField(
        "optimizer",
        "Warm-up",
        0.1,
        "share",
        description="First share of the run, in which the rate rises.",
    ),
    "auto_lr_find": FormField("optimizer", "Find the rate", True),
    "lr_monitor_interval": FormField(
        "reporting", "Rate as a metric", "epoch", description="How often the rate is recorded."
    ),
    "optimizer": FormField("optimizer", "Optimizer", "adamw", description="The rule of the updates."),
    "weight_decay": FormField(
        "optimizer", "Weight decay", 0.01, description="How strongly weights are drawn to zero."
    ),
    "gradient_clip_val": FormField("optimizer", "Gradient clipping", 0.1),
    "precision": FormField(
        "hardware",
        "Precision",
        "bf16-mixed",
        needs="16-mixed: a GPU of compute capability 7.0 or newer; bf16-mixed: 8.0 or newer, or a CPU that "
        "has it; /v1/capabilities lists what live workers have, others fall back to 32-true",
    ),
    "precision_strict": FormField(
        "hardware",
        "Refuse to fall back",
        True,
        needs="a precision other than 32-true",
        needs_fields={"precision": ["16-mixed", "bf16-mixed"]},
    ),
    "accelerator": FormField(
        "hardware",
        "Accelerator",
        "cuda",
        description="auto takes a GPU where a live worker has one.",
        needs="cuda: a worker with a GPU, or the job waits for one",
    ),
    "devices": FormField("hardware", "GPUs", 1, "devices", needs="a worker that holds as many GPUs"),
    "compile": FormField("hardware", "Compile", "off"),
    "validation_split": FormField("windows", "Validation share", 0.2, "share"),
    "test_split": FormField("windows", "Test share", 0.1, "share"),
    "early_stopping_patience": FormField("stopping", "Patience", 10, "epochs"),
    "random_seed": FormField(
        "reporting", "Seed", 42, description="Same spec, data, machine and seed give the same weights."
    ),
    "deterministic": FormField(
        "hardware", "Deterministic", True, description="Only algorithms that repeat exactly, even if slower."
    ),
    "log_every_n_steps": FormField(
        "reporting", "Steps between metrics", 50, "optimizer steps", description="How often metrics are kept."
    ),
    "on_out_of_memory": FormField("hardware", "Out of memory", "adapt"),
    "on_divergence": FormField("optimizer", "Divergence", "adapt"),
    "window_stride": FormField("windows", "Window stride", 1, "steps"),
    "max_train_windows": FormField(
        "windows",
        "Most training windows",
        500_000,
        "windows",
        description="An epoch draws that many where there are more.",
    ),
}


def form_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of TrainingSpec with `x-` keywords for forms, as described in the answer itself.

    Of each field: `x-group`, `x-order`, `x-unit`, `x-needs`, `x-needs-fields`, and `x-supported`, the only
    value taken so far, where a field is not built yet. Of the whole: `x-presets`, what each sets.
    """
    schema = TrainingSpec.model_json_schema()
    for order, (name, prop) in enumerate(schema["properties"].items()):
        field = FORM[name]
        prop |= {
            "title": field.title,
            "description": prop.get("description") or field.description or "",
            "examples": [field.example],
            "x-group": field.group,
            "x-order": order,
        }
        optional = {
            "x-unit": field.unit,
            "x-needs": field.needs,
            "x-needs-fields": field.needs_fields,
            "x-supported": NOT_BUILT_YET.get(name),
        }
        prop |= {keyword: value for keyword, value in optional.items() if value is not None}
        if "default" not in prop:
            prop["default"] = TrainingSpec.model_fields[name].get_default(call_default_factory=True)
    return schema | {"x-presets": PRESETS}
