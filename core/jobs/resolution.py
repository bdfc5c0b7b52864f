"""Fits a training spec to a dataset's schema, before any byte of the data is read. Torch-free."""

from __future__ import annotations

from core.errors import FieldProblem, InvalidSpec
from core.jobs.schemas import JobWarning, ResolvedTraining
from trainer.dataset.schema import DatasetSchema
from trainer.resolution import UnknownColumns, resolve_columns
from trainer.spec import TrainingSpec


def resolve(spec: TrainingSpec, schema: DatasetSchema) -> ResolvedTraining:
    """Targets, covariates and statics named, every resolved default reported.

    Raises InvalidSpec with one problem per field, pointers from /training, naming the columns there are.
    """
    problems = [*_not_for_a_service(spec), *_too_long_for_the_series(spec, schema), *_gaps(spec, schema)]
    try:
        resolved, adjustments = resolve_columns(spec, schema)
    except UnknownColumns as error:
        columns = [
            FieldProblem(
                code=problem.code, detail=_sentence(problem.detail), pointer=f"/training{problem.pointer}"
            )
            for problem in error.problems
        ]
        raise _invalid([*columns, *problems]) from error
    if problems:
        raise _invalid(problems)
    return ResolvedTraining(
        resolved_spec=resolved,
        adjustments=adjustments,
        warnings=[*_constant_targets(resolved, schema), *_short_series(resolved, schema)],
    )


def _invalid(problems: list[FieldProblem]) -> InvalidSpec:
    return InvalidSpec(" ".join(problem.detail for problem in problems), problems)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _not_for_a_service(spec: TrainingSpec) -> list[FieldProblem]:
    if spec.max_minutes is None:
        return []
    detail = "max_minutes is for local runs; use limits.max_runtime_seconds."
    return [FieldProblem(code="not_supported", detail=detail, pointer="/training/max_minutes")]


def _too_long_for_the_series(spec: TrainingSpec, schema: DatasetSchema) -> list[FieldProblem]:
    longest = schema.series_lengths["max"]
    needed = steps_needed(spec, longest)
    if longest >= needed:
        return []
    detail = (
        f"Every series is too short: encoder_length {spec.encoder_length} and horizon {spec.horizon} with "
        f"their validation and test tails need {needed} steps, the longest series has {longest}. "
        "Shorten encoder_length or horizon, or bring more data."
    )
    return [FieldProblem(code="series_too_short", detail=detail, pointer="/training/encoder_length")]


def steps_needed(spec: TrainingSpec, series_length: int) -> int:
    """Steps a series of this length needs for one window beside its tails, cut as the trainer cuts it."""
    validation = max(round(series_length * spec.validation_split), spec.horizon)
    test = max(round(series_length * spec.test_split), spec.horizon) if spec.test_split > 0 else 0
    return spec.encoder_length + spec.horizon + validation + test


def _gaps(spec: TrainingSpec, schema: DatasetSchema) -> list[FieldProblem]:
    found = [finding for finding in schema.findings if finding.code in {"gaps", "missing_values"}]
    if spec.missing_policy != "error" or not found:
        return []
    detail = f"missing_policy is error and the dataset has gaps: {found[0].detail}"
    return [FieldProblem(code="has_gaps", detail=detail, pointer="/training/missing_policy")]


def _constant_targets(resolved: TrainingSpec, schema: DatasetSchema) -> list[JobWarning]:
    targets = resolved.target_metrics or []
    return [
        JobWarning(
            code="constant_target",
            message=f"{column.name} has the same value everywhere; a forecast of it says nothing.",
        )
        for column in schema.columns
        if column.name in targets and column.minimum is not None and column.minimum == column.maximum
    ]


def _short_series(resolved: TrainingSpec, schema: DatasetSchema) -> list[JobWarning]:
    shortest = schema.series_lengths["min"]
    if shortest >= steps_needed(resolved, shortest):
        return []
    message = (
        f"Some series are too short to train on and will be left out: the shortest has {shortest} steps "
        f"and would need {steps_needed(resolved, shortest)}."
    )
    return [JobWarning(code="series_too_short", message=message)]
