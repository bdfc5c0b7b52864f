"""The language of what can be trained: one flat, validated spec. Torch-free and quick to import."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from trainer.dataset.schema import ColumnName
from trainer.presets import Preset, with_preset

CALENDAR_FEATURES = ("minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "month_of_year")
DEFAULT_TARGET = "cpu_percent"
USUAL_TARGETS = ("cpu_percent", "memory_percent", "disk_percent", "load_average")

Quantile = Annotated[float, Field(gt=0.0, lt=1.0)]
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
Normalizer = Literal["window_robust", "window_standard", "series_robust", "series_standard", "none"]

# Fields of the contract whose behaviour is not there yet, each with the only value that is accepted.
NOT_BUILT_YET: dict[str, object] = {
    "compile": "off",
}


class TrainingSpec(BaseModel):
    """What to train and how. Every default that is resolved, lowered or replaced shows in `adjustments`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    preset: Preset | None = Field(
        None,
        description="A set of defaults below what the caller sets. production: 30 epochs, batch 32, "
        "accumulation 2, multi-target, validation 0.15, clip 0.1, patience 10, learning-rate finder, "
        "16-mixed where there is a GPU for it. development: 10 epochs, batch 64, no accumulation, one "
        "target, validation 0.3, learning-rate finder. The finder stays off where learning_rate is set.",
    )
    multi_target: bool | None = Field(
        None, description="One model for several targets. Defaults to true when several targets are named."
    )
    target_metrics: list[ColumnName] | None = Field(
        None,
        min_length=1,
        max_length=8,
        description="The numeric columns to forecast. Nothing named: cpu_percent alone.",
        examples=[["cpu_percent", "memory_percent"]],
    )
    missing_targets: Literal["error", "drop"] = Field(
        "error",
        description="What to do with a target the dataset lacks: refuse the job, or drop it and say so.",
    )
    encoder_length: int = Field(96, ge=2, le=2048, description="Steps of history the model sees.")
    horizon: int = Field(24, ge=1, le=512, description="Steps the model forecasts.")
    known_covariates: list[ColumnName] | None = Field(
        None,
        max_length=64,
        description="Inputs known in advance: calendar features, or numeric columns of the dataset. "
        f"Default: the calendar features that fit the frequency, out of {', '.join(CALENDAR_FEATURES)}.",
    )
    observed_covariates: list[ColumnName] = Field(
        default_factory=list, max_length=64, description="Numeric columns known only up to the present."
    )
    static_categoricals: list[ColumnName] | None = Field(
        None,
        max_length=16,
        description="Columns constant per series, as inputs. Default: none, so that a server's forecast does "
        "not depend on its name.",
    )
    quantiles: list[Quantile] = Field(
        default_factory=lambda: [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98], min_length=1, max_length=19
    )
    missing_policy: Literal["interpolate", "mask", "error"] = Field(
        "interpolate",
        description="interpolate: draw a line through gaps of up to 3 steps, carry the last value through "
        "longer ones; mask: carry it through every gap; "
        "error: refuse a dataset with gaps. A step that was not seen carries neither loss nor scores.",
    )
    normalizer: Normalizer = Field(
        "window_standard", description="Where each target's centre and scale come from; each has a floor."
    )
    calibration: Literal["conformal", "none"] = Field(
        "conformal", description="Calibrate the published intervals on the validation tail."
    )
    hidden_size: int = Field(32, ge=8, le=512)
    hidden_continuous_size: int = Field(16, ge=1, le=512)
    attention_head_size: int = Field(4, ge=1, le=16, description="Attention heads; must divide hidden_size.")
    lstm_layers: int = Field(1, ge=1, le=4)
    dropout: float = Field(0.1, ge=0.0, le=0.9)
    epochs: int = Field(20, ge=1, le=1000)
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps at most; the first limit wins.")
    max_minutes: float | None = Field(
        None, gt=0, description="Local runs only; a service has limits.max_runtime_seconds."
    )
    batch_size: int = Field(64, ge=1, le=8192)
    accumulate_grad_batches: int = Field(
        1, ge=1, le=256, description="Effective batch = batch_size x this many batches per optimizer step."
    )
    learning_rate: float = Field(
        0.002, ge=1e-6, le=1e6, description="Above 1 training diverges; on_divergence says what happens then."
    )
    lr_schedule: Literal["onecycle", "cosine", "plateau", "constant"] = "onecycle"
    warmup_fraction: float = Field(0.1, ge=0.0, le=0.5)
    auto_lr_find: bool = Field(
        False,
        description="Search the rate first, between 1e-6 and 1, by where the loss falls fastest; it replaces "
        "learning_rate where one is found.",
    )
    lr_monitor_interval: Literal["step", "epoch", "none"] = "step"
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(0.0, ge=0.0, le=0.1)
    gradient_clip_val: float = Field(0.1, ge=0.0, le=1000.0, description="Norm; 0 switches it off.")
    precision: Precision = Field(
        "32-true", description="Checked against the hardware; heads, rescaling and loss stay in fp32."
    )
    precision_strict: bool = Field(False, description="Refuse instead of falling back to 32-true.")
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(
        1,
        ge=1,
        le=8,
        description="GPUs for one job, or processes on a CPU. Each takes its part of every batch: the "
        "effective batch, the steps and the result stay what they are with one.",
    )
    compile: Literal["off", "auto"] = Field("off", description="torch.compile. `auto` is not available yet.")
    validation_split: float = Field(
        0.2,
        gt=0.0,
        le=0.5,
        description="Share of each series before the test tail; it steers training.",
    )
    test_split: float = Field(
        0.1, ge=0.0, le=0.3, description="Last share of each series, read once, at the end."
    )
    early_stopping_patience: int = Field(10, ge=0, le=1000, description="Epochs without gain; 0 is off.")
    random_seed: int = Field(42, ge=0, le=2**32 - 1)
    deterministic: bool = False
    log_every_n_steps: int = Field(50, ge=1, le=10_000)
    on_out_of_memory: Literal["adapt", "fail"] = Field(
        "adapt",
        description="adapt: halve batch_size and double accumulate_grad_batches, so that the effective batch "
        "stays, and go on; fail: end the job.",
    )
    on_divergence: Literal["adapt", "fail"] = Field(
        "adapt",
        description="adapt: go on from the last sound weights, in a wider number format, then at a tenth of "
        "learning_rate, three times at most; fail: end the job.",
    )
    window_stride: int = Field(1, ge=1, le=512, description="Steps between the starts of training windows.")
    max_train_windows: int = Field(500_000, ge=1, le=50_000_000)

    @model_validator(mode="before")
    @classmethod
    def _preset_fills_in(cls, fields: Any) -> Any:
        return with_preset(fields) if isinstance(fields, Mapping) else fields

    @field_validator("target_metrics", "known_covariates", "observed_covariates", "static_categoricals")
    @classmethod
    def _names_are_unique(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and len(set(names)) < len(names):
            raise PydanticCustomError("duplicate_name", "a column is named twice")
        return names

    @field_validator("quantiles")
    @classmethod
    def _quantiles_rise_through_the_median(cls, quantiles: list[float]) -> list[float]:
        if any(low >= high for low, high in pairwise(quantiles)):
            raise PydanticCustomError("quantiles_not_rising", "quantiles must rise strictly")
        if 0.5 not in quantiles:
            raise PydanticCustomError("quantiles_without_median", "quantiles must contain 0.5")
        return quantiles

    @field_validator(*NOT_BUILT_YET)
    @classmethod
    def _is_built(cls, value: object, info: Any) -> object:
        accepted = NOT_BUILT_YET[info.field_name]
        if value != accepted:
            raise PydanticCustomError(
                "not_supported",
                "{field} is not supported yet; leave it out or set it to {accepted}",
                {"field": info.field_name, "accepted": json.dumps(accepted)},
            )
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.hidden_size % self.attention_head_size:
            raise PydanticCustomError(
                "heads_do_not_divide", "attention_head_size must divide hidden_size without a rest"
            )
        if self.multi_target is False and self.target_metrics is not None and len(self.target_metrics) != 1:
            raise PydanticCustomError("one_target_expected", "multi_target=false takes exactly one target")
        roles = [*(self.target_metrics or []), *self.observed_covariates, *(self.known_covariates or [])]
        if len(set(roles)) < len(roles):
            raise PydanticCustomError(
                "column_in_two_roles",
                "a column is a target, an observed or a known covariate, not two of them",
            )
        return self

    @property
    def effective_batch_size(self) -> int:
        """Windows behind one optimizer step."""
        return self.batch_size * self.accumulate_grad_batches
