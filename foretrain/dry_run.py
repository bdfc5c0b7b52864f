"""`foretrain train --dry-run`: what would be trained and what it takes, without torch and without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from foretrain.refusals import Refusal
from foretrain.training_screen import format_duration, sentence_of
from trainer.dataset.errors import DatasetError
from trainer.dataset.series import load_series
from trainer.errors import TrainerError
from trainer.estimate import MEMORY_ERROR, Estimate, Span, estimate
from trainer.hardware import detect_processor
from trainer.precision import decide_execution
from trainer.resolution import UnknownColumns, resolve_columns
from trainer.split import split_as_asked, too_short

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema
    from trainer.dataset.series import SeriesData
    from trainer.events import Adjustment
    from trainer.spec import TrainingSpec

NVIDIA_DEVICE = Path("/dev/nvidiactl")
MEBIBYTE = 2**20


def show_plan(
    console: Console,
    spec: TrainingSpec,
    file: Path,
    data_format: DatasetFormat,
    mapping: DatasetMapping,
    schema: DatasetSchema,
    *,
    windows_per_second: float | None = None,
) -> None:
    """Read the data, print the plan. Raises Refusal where training would."""
    try:
        resolved, adjustments = resolve_columns(spec, schema)
        series = _read(resolved, file, data_format, mapping, schema)
        left_out = _left_out(resolved, series)
        if not (resolved.accelerator != "cpu" and NVIDIA_DEVICE.exists()):
            execution = decide_execution(resolved, detect_processor())
            resolved = resolved.model_copy(
                update={"precision": execution.precision, "accelerator": execution.device}
            )
            adjustments = [*adjustments, *execution.adjustments]
    except (UnknownColumns, TrainerError) as error:
        raise Refusal(str(error)) from error
    except DatasetError as error:
        raise Refusal(f"{file}: {error.problem.detail}") from error
    lengths = series.lengths.tolist()
    plan = estimate(resolved, schema, lengths=lengths, windows_per_second=windows_per_second)
    for line in _lines(resolved, schema, adjustments, plan):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if left_out is not None:
        console.print(f"Warning: {left_out}", highlight=False, markup=False, soft_wrap=True)
    console.print("Nothing was trained, nothing was written.")


def _read(
    spec: TrainingSpec,
    file: Path,
    data_format: DatasetFormat,
    mapping: DatasetMapping,
    schema: DatasetSchema,
) -> SeriesData:
    numeric = schema.numeric_columns()
    covariates = [name for name in spec.known_covariates or [] if name in numeric]
    columns = [*(spec.target_metrics or []), *covariates, *spec.observed_covariates]
    statics = spec.static_categoricals or []
    return load_series(file, data_format, mapping, schema, columns, statics, spec.missing_policy)


def _left_out(spec: TrainingSpec, series: SeriesData) -> str | None:
    split = split_as_asked(series, spec)
    return too_short(series, split)


def _lines(
    spec: TrainingSpec, schema: DatasetSchema, adjustments: list[Adjustment], plan: Estimate
) -> list[str]:
    rate = "searched first" if spec.auto_lr_find else f"{spec.learning_rate:g}"
    time = "not measured yet" if plan.seconds is None else _span_of_time(plan.seconds)
    rows = {
        "targets": ", ".join(spec.target_metrics or []),
        "known ahead": ", ".join(spec.known_covariates or []) or "nothing",
        "observed": ", ".join(spec.observed_covariates) or "the targets alone",
        "statics": ", ".join(spec.static_categoricals or []) or "none",
        "lengths": f"encoder {spec.encoder_length}, horizon {spec.horizon} steps of "
        f"{schema.frequency_seconds:g} s",
        "network": f"hidden {spec.hidden_size}, {spec.attention_head_size} heads, {spec.lstm_layers} LSTM "
        f"layer(s), {plan.parameters} parameters",
        "training": f"{spec.epochs} epochs, effective batch {spec.effective_batch_size}, "
        f"learning rate {rate}, {spec.lr_schedule}, {spec.precision} on {spec.accelerator}",
        "windows": f"{plan.train_windows} to train on, {plan.validation_windows} to validate, "
        f"{plan.test_windows} to test",
        "steps": f"{plan.steps} of the optimizer",
        "memory": f"about {_span_of_memory(plan.memory_bytes)} MiB beside the libraries "
        f"(within {MEMORY_ERROR:.0%} where it was measured)",
        "time": time,
    }
    return [*(f"{name:<12} {text}" for name, text in rows.items()), *map(sentence_of, adjustments)]


def _span_of_memory(memory: Span) -> Span:
    return Span(round(memory.low / MEBIBYTE), round(memory.high / MEBIBYTE))


def _span_of_time(seconds: Span) -> str:
    low, high = format_duration(seconds.low), format_duration(seconds.high)
    return low if low == high else f"{low} to {high}"
