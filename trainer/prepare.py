"""From a spec and a file to everything that training needs; what had to give way is noted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import seed_everything

from trainer import stock
from trainer.batches import WindowBatches
from trainer.dataset.errors import DatasetError
from trainer.dataset.series import SeriesData, load_series
from trainer.errors import InvalidDataset
from trainer.estimate import outgrows_memory
from trainer.events import Adjustment, Warned
from trainer.forecasting import forward_batch_size
from trainer.layout import Layout
from trainer.memory import available_bytes
from trainer.model import ForecastModel, StepPlan, build_model
from trainer.native.library import why_no_kernels
from trainer.parallel.ranks import ALONE
from trainer.precision import decide_execution
from trainer.resolution import UnknownColumns, resolve_columns
from trainer.run_size import RunSize
from trainer.scaling import Scaling, fit_scaling
from trainer.schedule import LearningRate
from trainer.split import Split, Windows, split_as_asked, too_short
from trainer.state import Adaptation
from trainer.windows import WindowSource

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.schema import DatasetSchema, Finding
    from trainer.hardware import Hardware
    from trainer.parallel.ranks import Ranks
    from trainer.recipe import DatasetFile
    from trainer.spec import TrainingSpec

# Share of training windows whose categories are hidden, so that "unknown" is trained for new servers.
UNKNOWN_SHARE = 0.05
# Validation runs after each epoch: on every window up to this many, beyond that on every k-th, k <= horizon.
VALIDATION_WINDOWS = 20_000


@dataclass
class PreparedRun:
    """All that is decided before the first step."""

    asked: TrainingSpec
    spec: TrainingSpec  # as it will really run
    data: DatasetFile
    device: torch.device
    series: SeriesData
    layout: Layout
    split: Split
    scaling: Scaling
    source: WindowSource
    model: ForecastModel
    train_batches: WindowBatches
    validation_batches: WindowBatches
    size: RunSize
    parameters: dict[str, Any]  # of the stock dataset
    outer_arguments: dict[str, Any]  # of the stock network
    decided: list[Adjustment] = field(default_factory=list)  # before the first step
    warnings: list[Warned] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    adaptation: Adaptation = field(default_factory=Adaptation)  # what was found out on the way
    ranks: Ranks = ALONE  # those that train it together

    @property
    def adjustments(self) -> list[Adjustment]:
        return [*self.decided, *self.adaptation.adjustments]

    @property
    def resolved_spec(self) -> dict[str, Any]:
        """The spec as it really runs, and the windows behind one optimizer step."""
        return self.spec.model_dump(mode="json") | {"effective_batch_size": self.spec.effective_batch_size}

    @property
    def window_counts(self) -> dict[str, int]:
        """Windows an epoch trains on, those there are, and those of the tails."""
        return {
            "train": self.train_batches.size,
            "train_available": self.split.train.total,
            "validation": self.validation_batches.size,
            "test": self.split.test.total if self.split.test is not None else 0,
        }


def prepare(
    asked: TrainingSpec,
    data: DatasetFile,
    hardware: Hardware,
    folder: Path | None = None,
    ranks: Ranks = ALONE,
) -> PreparedRun:
    """Decide device and precision, read and split the data, fit the scalers, build the network.

    Data that would take much of the memory lie in files in `folder`, where there is one. Each of several
    ranks prepares the whole run, on its own device.
    Raises InvalidDataset and UnsupportedHardware.
    """
    execution = decide_execution(asked, hardware)
    spec, adjustments = _resolve(asked, data)
    adjustments += execution.adjustments
    seed_everything(spec.random_seed, workers=True, verbose=False)
    torch.use_deterministic_algorithms(spec.deterministic)

    layout = Layout.of(spec, data.schema.numeric_columns())
    series = _read(spec, data, layout, folder)
    split = split_as_asked(series, spec)
    _require_observations(series, split, layout)
    scaling = fit_scaling(series, split, layout, spec.normalizer)

    windows = min(split.train.total, spec.max_train_windows)
    spec = _fit_to_size(spec, windows, adjustments).model_copy(
        update={
            "precision": execution.precision,
            "accelerator": execution.device,
            "devices": execution.devices,
        }
    )
    size = RunSize.of(spec, windows)
    logged = min(size.steps_per_epoch, size.total_steps)
    spec = _lower(spec, "log_every_n_steps", logged, "an epoch has no more steps", adjustments)

    findings = _findings(series, data.schema)
    device = torch.device(execution.device, *([ranks.own] if ranks.count > 1 else []))
    source = WindowSource(
        series,
        layout,
        scaling,
        encoder_length=spec.encoder_length,
        horizon=spec.horizon,
        device=device,
        history_end=split.train_end,
    )
    parameters = stock.dataset_parameters(layout, scaling, spec)
    model = build_model(stock.network_arguments(layout, scaling, spec))
    outer_arguments = stock.outer_arguments(layout, parameters)
    model.output_transformer = outer_arguments["output_transformer"]
    model.ranks = ranks
    model.prepare(_step_plan(spec, layout, size, windows))
    return PreparedRun(
        asked=asked,
        spec=spec,
        data=data,
        device=device,
        series=series,
        layout=layout,
        split=split,
        scaling=scaling,
        source=source,
        model=model,
        train_batches=_train_batches(source, split, spec, windows, ranks),
        validation_batches=_validation_batches(source, split, spec, ranks),
        size=size,
        parameters=parameters,
        outer_arguments=outer_arguments,
        decided=adjustments,
        warnings=[*_warnings(series, split, spec, findings), *_slow(device)],
        findings=findings,
        ranks=ranks,
    )


def adapted(run: PreparedRun, adaptation: Adaptation) -> PreparedRun:
    """The same run with what was changed on the way: batch, accumulation, precision or rate."""
    spec = run.spec.model_copy(update=adaptation.changes)
    windows = run.train_batches.size
    size = RunSize.of(spec, windows)
    run.model.prepare(_step_plan(spec, run.layout, size, windows))
    return replace(
        run,
        spec=spec,
        size=size,
        train_batches=_train_batches(run.source, run.split, spec, windows, run.ranks),
        validation_batches=_validation_batches(run.source, run.split, spec, run.ranks),
        adaptation=adaptation,
    )


def _train_batches(
    source: WindowSource, split: Split, spec: TrainingSpec, windows: int, ranks: Ranks
) -> WindowBatches:
    return WindowBatches(
        source,
        split.train,
        spec.batch_size,
        shuffle_seed=spec.random_seed,
        at_most=windows,
        unknown_share=UNKNOWN_SHARE if source.layout.statics else 0.0,
        ranks=ranks,
    )


def _validation_batches(
    source: WindowSource, split: Split, spec: TrainingSpec, ranks: Ranks
) -> WindowBatches:
    windows = _sampled(split.validation, spec)
    size = ranks.count * forward_batch_size(spec, source.layout, source.device)
    return WindowBatches(source, windows, size, ranks=ranks)


def _resolve(asked: TrainingSpec, data: DatasetFile) -> tuple[TrainingSpec, list[Adjustment]]:
    try:
        return resolve_columns(asked, data.schema)
    except UnknownColumns as error:
        raise InvalidDataset(str(error), [problem.detail for problem in error.problems]) from error


def _read(spec: TrainingSpec, data: DatasetFile, layout: Layout, folder: Path | None) -> SeriesData:
    outgrown = outgrows_memory(data.schema.row_count, len(layout.numeric), available_bytes())
    try:
        return load_series(
            data.path,
            data.format,
            data.mapping,
            data.schema,
            layout.numeric,
            list(layout.statics),
            spec.missing_policy,
            mapped_in=folder if outgrown else None,
        )
    except DatasetError as error:
        raise InvalidDataset(error.problem.detail) from error


def _require_observations(series: SeriesData, split: Split, layout: Layout) -> None:
    """Raise InvalidDataset for a target that was never observed where it is trained on or judged by."""
    usable = np.flatnonzero(split.usable)
    start, end = series.offsets[:-1], split.end
    parts = {"training": (start, split.train_end), "validation": (split.train_end, split.validation_end)}
    if split.test is not None:
        parts["test"] = (split.validation_end, end)
    for name in layout.targets:
        seen = series.observed[name]
        for part, (first, last) in parts.items():
            if not any(seen[i:j].any() for i, j in zip(first[usable], last[usable], strict=True)):
                raise InvalidDataset(
                    f"target {name!r} has no observed value in the {part} part of any series; choose another "
                    "target, or bring data without such a gap at the end"
                )


def _fit_to_size(spec: TrainingSpec, windows: int, adjustments: list[Adjustment]) -> TrainingSpec:
    """Lower batch size and accumulation to what an epoch can fill."""
    spec = _lower(spec, "batch_size", windows, "there are no more training windows", adjustments)
    batches = math.ceil(windows / spec.batch_size)
    return _lower(spec, "accumulate_grad_batches", batches, "an epoch has no more batches", adjustments)


def _lower(
    spec: TrainingSpec, name: str, at_most: int, reason: str, adjustments: list[Adjustment]
) -> TrainingSpec:
    requested = getattr(spec, name)
    if requested <= at_most:
        return spec
    adjustments.append(Adjustment(field=name, requested=requested, effective=at_most, reason=reason))
    return spec.model_copy(update={name: at_most})


def _step_plan(spec: TrainingSpec, layout: Layout, size: RunSize, windows: int) -> StepPlan:
    return StepPlan(
        quantiles=tuple(spec.quantiles),
        targets=len(layout.targets),
        batch_size=spec.batch_size,
        accumulate=spec.accumulate_grad_batches,
        windows_per_epoch=windows,
        learning_rate=LearningRate(
            spec.learning_rate, spec.lr_schedule, spec.warmup_fraction, size.total_steps
        ),
        optimizer=spec.optimizer,
        weight_decay=spec.weight_decay,
        # Lightning cannot clip what a fused optimizer unscales itself.
        fused=spec.precision != "16-mixed",
    )


def _sampled(windows: Windows, spec: TrainingSpec) -> Windows:
    return windows.thinned(VALIDATION_WINDOWS, spec.horizon)


def _findings(series: SeriesData, schema: DatasetSchema) -> list[Finding]:
    """What was found in the rows that are trained on, and what inspection alone looks for."""
    codes = {finding.code for finding in series.findings}
    return [*series.findings, *(finding for finding in schema.findings if finding.code not in codes)]


def _warnings(series: SeriesData, split: Split, spec: TrainingSpec, findings: list[Finding]) -> list[Warned]:
    found = [Warned(code=finding.code, message=finding.detail) for finding in findings]
    left_out = too_short(series, split)
    if left_out is not None:
        found.append(Warned(code="too_short", message=left_out))
    if split.lengthened:
        found.append(
            Warned(
                code="tails_lengthened",
                message=f"the validation or test tail of {split.lengthened} series was lengthened to one "
                f"horizon ({spec.horizon} steps)",
            )
        )
    sampled = _sampled(split.validation, spec)
    if sampled.total < split.validation.total:
        found.append(
            Warned(
                code="validation_sampled",
                message=f"validation takes every {sampled.stride}th of {split.validation.total} windows",
            )
        )
    return found


def _slow(device: torch.device) -> list[Warned]:
    reason = why_no_kernels() if device.type == "cpu" else None
    if reason is None:
        return []
    return [Warned(code="no_kernels", message=f"training is slower than it could be: {reason}")]
